/**
 * PCP messages: RFC 6887 §7, §11.1, §12.1 and §14.1.
 *
 * @module
 */

import { ByteReader, concat } from "../../base/bytes.ts";
import { MalformedMessageError } from "../../base/errors.ts";
import { formatIp, type IpFamily, ipToBytes } from "../../net/address.ts";

/** The sixteen bytes of an address. */
export function pcpAddressBytes(ip: string): Uint8Array<ArrayBuffer> {
  const address = ipToBytes(ip);
  if (address.length === 16) return address;
  const mapped = new Uint8Array(16);
  mapped.set(V4_MAPPED);
  mapped.set(address, V4_MAPPED.length);
  return mapped;
}

/** Reads sixteen bytes; an IPv4 address comes out as such. */
export function readPcpAddress(reader: ByteReader, field: string): string {
  const bytes = reader.bytes(16, field);
  const isIpv4 = V4_MAPPED.every((byte, index) => bytes[index] === byte);
  return formatIp(isIpv4 ? bytes.subarray(V4_MAPPED.length) : bytes);
}

/** "No address" of a family: RFC 6887 §5. */
export function noAddress(family: IpFamily): string {
  return family === 4 ? "0.0.0.0" : "::";
}

const V4_MAPPED = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/** One option of a request or response. */
export type PcpOption =
  /** The mapping is for another host than the one that asks: RFC 6887 §13.1. */
  | { readonly type: "THIRD_PARTY"; readonly internalIp: string }
  /** Refuse rather than grant another external address or port: RFC 6887 §13.2. */
  | { readonly type: "PREFER_FAILURE" }
  /** Let these remote peers in, and nobody else: RFC 6887 §13.3. */
  | PcpFilter
  /** One that is not in RFC 6887. Below 128 a server that does not know it must refuse the request. */
  | { readonly type: number; readonly data: Uint8Array };

/** Whom a mapping lets in: RFC 6887 §13.3. */
export interface PcpFilter {
  /** Tells it from other options. */
  readonly type: "FILTER";
  /** As in the message: 96 more than the network's own for IPv4, up to 128; 0 takes all filters away. */
  readonly prefixLength: number;
  /** 0 for all ports. */
  readonly remotePeerPort: number;
  /** The address, or the network's. */
  readonly remotePeerIp: string;
}

/** The bytes of options, each padded to whole words. */
export function encodePcpOptions(options: readonly PcpOption[]): Uint8Array<ArrayBuffer> {
  return concat(...options.map(encodeOption));
}

/**
 * Reads options up to the end of the message.
 *
 * @throws {MalformedMessageError} if one does not fit
 */
export function decodePcpOptions(bytes: Uint8Array): PcpOption[] {
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

function encodeOption(option: PcpOption): Uint8Array {
  const code = typeof option.type === "number" ? option.type : CODES[option.type];
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
    case CODES.THIRD_PARTY:
      return { type: "THIRD_PARTY", internalIp: readPcpAddress(reader, "internal IP") };
    case CODES.PREFER_FAILURE:
      return { type: "PREFER_FAILURE" };
    case CODES.FILTER: {
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

/** RFC 6887 §19.4. */
const CODES = { THIRD_PARTY: 1, PREFER_FAILURE: 2, FILTER: 3 } as const;

/** What a host asks a server: RFC 6887 §7.1. */
export interface PcpRequest {
  /** {@linkcode PCP_VERSION}. */
  readonly version: number;
  /** 0 deletes. */
  readonly lifetimeSeconds: number;
  /** The address that the request is sent from; a NAT on the way shows by its being another. */
  readonly clientIp: string;
  /** What depends on the opcode. */
  readonly body: PcpBody;
  /** RFC 6887 §7.3. */
  readonly options: readonly PcpOption[];
}

/** What a server answers, or announces: RFC 6887 §7.2. */
export interface PcpResponse {
  /** {@linkcode PCP_VERSION}; what the server speaks instead, in a refusal of the version. */
  readonly version: number;
  /** RFC 6887 §7.4; 0 is success. */
  readonly resultCode: number;
  /** Of the mapping; of the refusal, if it is one. */
  readonly lifetimeSeconds: number;
  /** Seconds since the server's table of mappings was empty: RFC 6887 §8.5. */
  readonly epochSeconds: number;
  /** What depends on the opcode. */
  readonly body: PcpBody;
  /** RFC 6887 §7.3. */
  readonly options: readonly PcpOption[];
}

/** What depends on the opcode. */
export type PcpBody =
  /** RFC 6887 §14.1. */
  | { readonly opcode: "ANNOUNCE" }
  /** RFC 6887 §11.1. */
  | PcpMap
  /** RFC 6887 §12.1. */
  | PcpPeer
  /** Another opcode, or a refusal that does not repeat the request; options are in the data as well. */
  | { readonly opcode: number; readonly data: Uint8Array };

/** RFC 6887 §11.1: what MAP and PEER have in common. */
export interface PcpMapping {
  /** 12 bytes. */
  readonly nonce: Uint8Array;
  /** Of the IANA's protocol numbers, such as {@linkcode PCP_TCP}; 0 for all. */
  readonly protocol: number;
  /** 0 for all. */
  readonly internalPort: number;
  /** Suggested in a request, assigned in a response. */
  readonly externalPort: number;
  /** Suggested in a request, assigned in a response. */
  readonly externalIp: string;
}

/** RFC 6887 §11.1. */
export interface PcpMap extends PcpMapping {
  /** Tells it from other bodies. */
  readonly opcode: "MAP";
}

/** RFC 6887 §12.1. */
export interface PcpPeer extends PcpMapping {
  /** Tells it from other bodies. */
  readonly opcode: "PEER";
  /** The other end of the connection. */
  readonly remotePeerPort: number;
  /** The other end of the connection. */
  readonly remotePeerIp: string;
}

/** RFC 6887 §7.1. */
export const PCP_VERSION = 2;

/** TCP's of the IANA's protocol numbers. */
export const PCP_TCP = 6;
/** UDP's of the IANA's protocol numbers. */
export const PCP_UDP = 17;

/**
 * The bytes of a request.
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
 * Reads a request of any version; what it says in other versions than 2 is a guess.
 *
 * @throws {MalformedMessageError} if the bytes are not one
 */
export function decodePcpRequest(bytes: Uint8Array): PcpRequest {
  const reader = readerOf(bytes, "PCP request");
  const version = reader.uint8("version");
  const code = reader.uint8("opcode");
  if ((code & RESPONSE) !== 0) {
    throw new MalformedMessageError(`Cannot read PCP request: opcode ${code} is a response's`);
  }
  reader.bytes(2, "reserved");
  const lifetimeSeconds = reader.uint32("requested lifetime");
  const clientIp = readPcpAddress(reader, "client IP");
  return { version, lifetimeSeconds, clientIp, ...readRest(code, reader) };
}

/**
 * The bytes of a response.
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
 * Reads a response of any version; what it says in other versions than 2 is a guess, but for its result code.
 *
 * A refusal may be cut behind its result code: routers that know NAT-PMP alone send eight bytes in all.
 *
 * @throws {MalformedMessageError} if the bytes are not one
 */
export function decodePcpResponse(bytes: Uint8Array): PcpResponse {
  const reader = readerOf(bytes, "PCP response");
  const version = reader.uint8("version");
  const code = reader.uint8("opcode");
  if ((code & RESPONSE) === 0) {
    throw new MalformedMessageError(`Cannot read PCP response: opcode ${code} is a request's`);
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

function join(header: Uint8Array, message: PcpRequest | PcpResponse): Uint8Array<ArrayBuffer> {
  const bytes = concat(header, bodyBytes(message.body), encodePcpOptions(message.options));
  if (bytes.length <= MAX_LENGTH) return bytes;
  throw new RangeError(
    `Cannot encode PCP message: it takes at most ${MAX_LENGTH} bytes, not ${bytes.length}`,
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
      `Cannot encode PCP message: a nonce has ${NONCE_LENGTH} bytes, not ${mapping.nonce.length}`,
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

/** RFC 6887 §8.3: what is longer, or not a number of whole words, is not PCP. */
function readerOf(bytes: Uint8Array, what: string): ByteReader {
  if (bytes.length > MAX_LENGTH || bytes.length % 4 !== 0) {
    throw new MalformedMessageError(
      `Cannot read ${what}: ${bytes.length} bytes are more than ${MAX_LENGTH}, or not whole words`,
    );
  }
  return new ByteReader(bytes, what);
}

function codeOf(body: PcpBody): number {
  return typeof body.opcode === "number" ? body.opcode : OPCODES.indexOf(body.opcode);
}

type PcpOpcode = "ANNOUNCE" | "MAP" | "PEER";

/** RFC 6887 §19.2, by their numbers. */
const OPCODES: readonly PcpOpcode[] = ["ANNOUNCE", "MAP", "PEER"];
const BODY_LENGTHS: readonly number[] = [0, 36, 56];

/** RFC 6887 §7. */
const HEADER_LENGTH = 24;
const MAX_LENGTH = 1100;
const NONCE_LENGTH = 12;

/** The bit that tells responses from requests: RFC 6887 §7. */
const RESPONSE = 0x80;
