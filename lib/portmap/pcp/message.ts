/**
 * PCP messages: RFC 6887 §7, §11.1, §12.1 and §14.1.
 *
 * @module
 */

import { ByteReader, concat } from "../../base/bytes.ts";
import { MalformedMessageError } from "../../base/errors.ts";
import { pcpAddressBytes, readPcpAddress } from "../pcp_address.ts";
import { decodePcpOptions, encodePcpOptions, type PcpOption } from "../pcp_options.ts";

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
