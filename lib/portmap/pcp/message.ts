/**
 * PCP messages: RFC 6887 §7, §11.1, §12.1 and §14.1.
 *
 * @module
 */

import { ByteReader, concat } from "../../base/bytes.ts";
import { malformed } from "../../base/errors.ts";
import { formatIp, type IpFamily, ipToBytes } from "../../net/address.ts";

/** A request: RFC 6887 §7.1. */
export interface PcpRequest {
  /** {@linkcode PCP_VERSION}. */
  readonly version: number;
  /** 0 deletes the mapping. */
  readonly lifetimeSeconds: number;
  /** The address that the request is sent from. If the server sees another, there is a NAT in between. */
  readonly clientIp: string;
  /** The part that depends on the opcode. */
  readonly body: PcpBody;
  /** RFC 6887 §7.3. */
  readonly options: readonly PcpOption[];
}

/** A response, or an announcement: RFC 6887 §7.2. */
export interface PcpResponse {
  /** {@linkcode PCP_VERSION}; in a refusal of the version, the version that the server speaks. */
  readonly version: number;
  /** RFC 6887 §7.4; 0 is success. */
  readonly resultCode: number;
  /** The lifetime of the mapping, or of the refusal. */
  readonly lifetimeSeconds: number;
  /** For how long the server has kept its table of mappings: RFC 6887 §8.5. */
  readonly epochSeconds: number;
  /** The part that depends on the opcode. */
  readonly body: PcpBody;
  /** RFC 6887 §7.3. */
  readonly options: readonly PcpOption[];
}

/** The part of a message that depends on the opcode. */
export type PcpBody =
  /** RFC 6887 §14.1. */
  | { readonly opcode: "ANNOUNCE" }
  /** RFC 6887 §11.1. */
  | PcpMap
  /** RFC 6887 §12.1. */
  | PcpPeer
  /** Another opcode, or a refusal that does not repeat the request. The data includes the options. */
  | { readonly opcode: number; readonly data: Uint8Array };

/** The fields that MAP and PEER share: RFC 6887 §11.1 and §12.1. */
export interface PcpMapping {
  /** 12 bytes. */
  readonly nonce: Uint8Array;
  /** The IANA protocol number, such as {@linkcode PCP_TCP}; 0 for all. */
  readonly protocol: number;
  /** 0 for all. */
  readonly internalPort: number;
  /** The suggested port in a request, the assigned one in a response. */
  readonly externalPort: number;
  /** The suggested address in a request, the assigned one in a response. */
  readonly externalIp: string;
}

/** A MAP body: RFC 6887 §11.1. */
export interface PcpMap extends PcpMapping {
  /** Distinguishes it from other bodies. */
  readonly opcode: "MAP";
}

/** A PEER body: RFC 6887 §12.1. */
export interface PcpPeer extends PcpMapping {
  /** Distinguishes it from other bodies. */
  readonly opcode: "PEER";
  /** The port of the connection's other end. */
  readonly remotePeerPort: number;
  /** The address of the connection's other end. */
  readonly remotePeerIp: string;
}

/** One option of a request or response. */
export type PcpOption =
  /** The mapping is for another host than the sender: RFC 6887 §13.1. */
  | { readonly type: "THIRD_PARTY"; readonly internalIp: string }
  /** Refuse rather than grant another external address or port: RFC 6887 §13.2. */
  | { readonly type: "PREFER_FAILURE" }
  /** Let in these remote peers only: RFC 6887 §13.3. */
  | PcpFilter
  /** An option that is not in RFC 6887. A server that does not know it must refuse the request if its code is below 128. */
  | { readonly type: number; readonly data: Uint8Array };

/** The remote peers that a mapping lets in: RFC 6887 §13.3. */
export interface PcpFilter {
  /** Distinguishes it from other options. */
  readonly type: "FILTER";
  /** As in the message: for IPv4 96 more than the network's own, up to 128. 0 removes all filters. */
  readonly prefixLength: number;
  /** 0 for all ports. */
  readonly remotePeerPort: number;
  /** The peer's address, or its network's. */
  readonly remotePeerIp: string;
}

/**
 * Encodes a request.
 *
 * @throws {RangeError} if it is longer than RFC 6887 §7 allows
 */
export function encodePcpRequest(request: PcpRequest): Uint8Array<ArrayBuffer> {
  const header = new Uint8Array(HEADER_LENGTH);
  const view = new DataView(header.buffer);
  view.setUint8(0, request.version);
  view.setUint8(1, codeOf(request.body));
  view.setUint32(4, request.lifetimeSeconds);
  header.set(pcpAddressBytes(request.clientIp), 8);
  return join(header, request);
}

/**
 * Decodes a request of any version, as if it were of version 2.
 *
 * @throws {MalformedMessageError} if the bytes are not one
 */
export function decodePcpRequest(bytes: Uint8Array): PcpRequest {
  const reader = readerOf(bytes, "PCP request");
  const version = reader.uint8("version");
  const code = reader.uint8("opcode");
  if ((code & RESPONSE) !== 0) {
    throw malformed("PCP request", `opcode ${code} is a response's`);
  }
  reader.bytes(2, "reserved");
  const lifetimeSeconds = reader.uint32("requested lifetime");
  const clientIp = readPcpAddress(reader, "client IP");
  return { version, lifetimeSeconds, clientIp, ...readRest(code, reader) };
}

/**
 * Encodes a response.
 *
 * @throws {RangeError} if it is longer than RFC 6887 §7 allows
 */
export function encodePcpResponse(response: PcpResponse): Uint8Array<ArrayBuffer> {
  const header = new Uint8Array(HEADER_LENGTH);
  const view = new DataView(header.buffer);
  view.setUint8(0, response.version);
  view.setUint8(1, RESPONSE | codeOf(response.body));
  view.setUint8(3, response.resultCode);
  view.setUint32(4, response.lifetimeSeconds);
  view.setUint32(8, response.epochSeconds);
  return join(header, response);
}

/**
 * Decodes a response of any version, as if it were of version 2. The result code is the same in all versions.
 *
 * A refusal may end after its result code: routers that speak only NAT-PMP send eight bytes in all.
 *
 * @throws {MalformedMessageError} if the bytes are not one
 */
export function decodePcpResponse(bytes: Uint8Array): PcpResponse {
  const reader = readerOf(bytes, "PCP response");
  const version = reader.uint8("version");
  const code = reader.uint8("opcode");
  if ((code & RESPONSE) === 0) {
    throw malformed("PCP response", `opcode ${code} is a request's`);
  }
  reader.uint8("reserved");
  const resultCode = reader.uint8("result code");
  const opcode = code & ~RESPONSE;
  if (resultCode !== 0 && bytes.length < HEADER_LENGTH) {
    const body = { opcode, data: new Uint8Array(0) };
    return { version, resultCode, lifetimeSeconds: 0, epochSeconds: 0, body, options: [] };
  }
  const lifetimeSeconds = reader.uint32("lifetime");
  const epochSeconds = reader.uint32("epoch time");
  reader.bytes(12, "reserved");
  const rest = resultCode !== 0 && reader.remaining < (BODY_LENGTHS[opcode] ?? 0)
    ? { body: readRaw(opcode, reader), options: [] }
    : readRest(opcode, reader);
  return { version, resultCode, lifetimeSeconds, epochSeconds, ...rest };
}

/** Encodes an address: sixteen bytes, IPv4 addresses as IPv4-mapped ones (RFC 6887 §5). */
export function pcpAddressBytes(ip: string): Uint8Array<ArrayBuffer> {
  const address = ipToBytes(ip);
  if (address.length === 16) return address;
  const mapped = new Uint8Array(16);
  mapped.set(V4_MAPPED);
  mapped.set(address, V4_MAPPED.length);
  return mapped;
}

/** The all-zeros address of a family, which stands for no address: RFC 6887 §5. */
export function noAddress(family: IpFamily): string {
  return family === 4 ? "0.0.0.0" : "::";
}

/** Encodes options, each padded to whole words. */
function encodePcpOptions(options: readonly PcpOption[]): Uint8Array<ArrayBuffer> {
  return concat(...options.map(encodeOption));
}

/**
 * Decodes options up to the end of the message.
 *
 * @throws {MalformedMessageError} if one is truncated
 */
function decodePcpOptions(bytes: Uint8Array): PcpOption[] {
  const reader = new ByteReader(bytes, "PCP options");
  const options: PcpOption[] = [];
  while (reader.remaining > 0) {
    const code = reader.uint8("option code");
    reader.uint8("reserved");
    const length = reader.uint16("option length");
    options.push(decodeOption(code, reader.bytes(length, `data of option ${code}`)));
    reader.bytes(paddingOf(length), `padding of option ${code}`);
  }
  return options;
}

/** Decodes an address of sixteen bytes. */
function readPcpAddress(reader: ByteReader, field: string): string {
  const bytes = reader.bytes(16, field);
  const isIpv4 = V4_MAPPED.every((byte, index) => bytes[index] === byte);
  return formatIp(isIpv4 ? bytes.subarray(V4_MAPPED.length) : bytes);
}

function join(header: Uint8Array, message: PcpRequest | PcpResponse): Uint8Array<ArrayBuffer> {
  const bytes = concat(header, bodyBytes(message.body), encodePcpOptions(message.options));
  if (bytes.length <= MAX_LENGTH) return bytes;
  throw new RangeError(
    `Cannot encode PCP message: it must have at most ${MAX_LENGTH} bytes, not ${bytes.length}`,
  );
}

function bodyBytes(body: PcpBody): Uint8Array {
  switch (body.opcode) {
    case "ANNOUNCE":
      return new Uint8Array(0);
    case "MAP":
      return mappingBytes(body);
    case "PEER": {
      const port = Uint8Array.of(body.remotePeerPort >> 8, body.remotePeerPort, 0, 0);
      return concat(mappingBytes(body), port, pcpAddressBytes(body.remotePeerIp));
    }
    default:
      return body.data;
  }
}

function mappingBytes(mapping: PcpMapping): Uint8Array {
  if (mapping.nonce.length !== NONCE_LENGTH) {
    throw new RangeError(
      `Cannot encode PCP message: the nonce must have ${NONCE_LENGTH} bytes, not ${mapping.nonce.length}`,
    );
  }
  const ports = new Uint8Array(8);
  const view = new DataView(ports.buffer);
  view.setUint8(0, mapping.protocol);
  view.setUint16(4, mapping.internalPort);
  view.setUint16(6, mapping.externalPort);
  return concat(mapping.nonce, ports, pcpAddressBytes(mapping.externalIp));
}

function readRest(opcode: number, reader: ByteReader): Pick<PcpRequest, "body" | "options"> {
  const name = OPCODES[opcode];
  if (name === undefined) return { body: readRaw(opcode, reader), options: [] };
  const body = readBody(name, reader);
  return { body, options: decodePcpOptions(reader.bytes(reader.remaining, "options")) };
}

function readBody(opcode: PcpOpcode, reader: ByteReader): PcpBody {
  switch (opcode) {
    case "ANNOUNCE":
      return { opcode };
    case "MAP":
      return { opcode, ...readMapping(reader) };
    case "PEER": {
      const mapping = readMapping(reader);
      const remotePeerPort = reader.uint16("remote peer port");
      reader.bytes(2, "reserved");
      const remotePeerIp = readPcpAddress(reader, "remote peer IP");
      return { opcode, ...mapping, remotePeerPort, remotePeerIp };
    }
  }
}

function readMapping(reader: ByteReader): PcpMapping {
  const nonce = reader.bytes(NONCE_LENGTH, "mapping nonce");
  const protocol = reader.uint8("protocol");
  reader.bytes(3, "reserved");
  return {
    nonce,
    protocol,
    internalPort: reader.uint16("internal port"),
    externalPort: reader.uint16("external port"),
    externalIp: readPcpAddress(reader, "external IP"),
  };
}

function readRaw(opcode: number, reader: ByteReader): PcpBody {
  return { opcode, data: reader.bytes(reader.remaining, "data") };
}

/** RFC 6887 §8.3: PCP messages have at most 1100 bytes, in whole words. */
function readerOf(bytes: Uint8Array, what: string): ByteReader {
  if (bytes.length > MAX_LENGTH || bytes.length % 4 !== 0) {
    throw malformed(what, `${bytes.length} bytes are more than ${MAX_LENGTH}, or not whole words`);
  }
  return new ByteReader(bytes, what);
}

function codeOf(body: PcpBody): number {
  return typeof body.opcode === "number" ? body.opcode : OPCODES.indexOf(body.opcode);
}

function encodeOption(option: PcpOption): Uint8Array {
  const code = typeof option.type === "number" ? option.type : OPTION_CODES[option.type];
  const data = dataOf(option);
  const header = new Uint8Array(4);
  const view = new DataView(header.buffer);
  view.setUint8(0, code);
  view.setUint16(2, data.length);
  return concat(header, data, new Uint8Array(paddingOf(data.length)));
}

function dataOf(option: PcpOption): Uint8Array {
  switch (option.type) {
    case "THIRD_PARTY":
      return pcpAddressBytes(option.internalIp);
    case "PREFER_FAILURE":
      return new Uint8Array(0);
    case "FILTER": {
      const { prefixLength, remotePeerPort, remotePeerIp } = option;
      const data = concat(new Uint8Array(4), pcpAddressBytes(remotePeerIp));
      const view = new DataView(data.buffer);
      view.setUint8(1, prefixLength);
      view.setUint16(2, remotePeerPort);
      return data;
    }
    default:
      return option.data;
  }
}

function decodeOption(code: number, data: Uint8Array): PcpOption {
  const reader = new ByteReader(data, `PCP option ${code}`);
  const option = readOption(code, reader);
  if (option === undefined) return { type: code, data };
  reader.end();
  return option;
}

function readOption(code: number, reader: ByteReader): PcpOption | undefined {
  switch (code) {
    case OPTION_CODES.THIRD_PARTY:
      return { type: "THIRD_PARTY", internalIp: readPcpAddress(reader, "internal IP") };
    case OPTION_CODES.PREFER_FAILURE:
      return { type: "PREFER_FAILURE" };
    case OPTION_CODES.FILTER: {
      reader.uint8("reserved");
      return {
        type: "FILTER",
        prefixLength: reader.uint8("prefix length"),
        remotePeerPort: reader.uint16("remote peer port"),
        remotePeerIp: readPcpAddress(reader, "remote peer IP"),
      };
    }
    default:
      return undefined;
  }
}

function paddingOf(length: number): number {
  return (4 - length % 4) % 4;
}

type PcpOpcode = "ANNOUNCE" | "MAP" | "PEER";

/** RFC 6887 §7.1. */
export const PCP_VERSION = 2;

/** The IANA protocol number of TCP. */
export const PCP_TCP = 6;

/** The IANA protocol number of UDP. */
export const PCP_UDP = 17;

/** RFC 6887 §19.2, in the order of their numbers. */
const OPCODES: readonly PcpOpcode[] = ["ANNOUNCE", "MAP", "PEER"];

/** RFC 6887 §11.1 and §12.1, in the same order. */
const BODY_LENGTHS: readonly number[] = [0, 36, 56];

/** RFC 6887 §7. */
const HEADER_LENGTH = 24;
const MAX_LENGTH = 1100;
const NONCE_LENGTH = 12;

/** The bit that marks responses: RFC 6887 §7. */
const RESPONSE = 0x80;

/** RFC 6887 §19.4. */
const OPTION_CODES = { THIRD_PARTY: 1, PREFER_FAILURE: 2, FILTER: 3 } as const;

const V4_MAPPED = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
