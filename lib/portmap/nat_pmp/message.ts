/**
 * NAT-PMP messages: RFC 6886 §3.2 to §3.5.
 *
 * @module
 */

import { ByteReader } from "../../base/bytes.ts";
import { malformed } from "../../base/errors.ts";
import { formatIp, ipToBytes } from "../../net/address.ts";

/** A request. */
export type NatPmpRequest =
  /** RFC 6886 §3.2. */
  | { readonly opcode: "external-address" }
  /** RFC 6886 §3.3; a lifetime of 0 deletes the mapping. */
  | {
    readonly opcode: "map-udp" | "map-tcp";
    readonly internalPort: number;
    readonly suggestedExternalPort: number;
    readonly lifetimeSeconds: number;
  };

/** A response, or an announcement. */
export type NatPmpResponse =
  | NatPmpHeader & {
    readonly opcode: "external-address";
    readonly resultCode: 0;
    readonly externalIp: string;
  }
  | NatPmpHeader & {
    readonly opcode: "map-udp" | "map-tcp";
    readonly resultCode: 0;
    readonly internalPort: number;
    readonly mappedExternalPort: number;
    readonly lifetimeSeconds: number;
  }
  /** In a refusal only the header counts: some gateways send nothing else, others more than they should. */
  | NatPmpHeader & {
    readonly opcode: NatPmpOpcode | number;
    /** Not 0. */
    readonly resultCode: number;
  };

/** The opcodes of RFC 6886 §3.2 and §3.3. */
export type NatPmpOpcode = NatPmpRequest["opcode"];

/** The start of every response: RFC 6886 §3.2. */
export interface NatPmpHeader {
  /** 0; in a refusal of the version, the version that the gateway speaks, such as 2 for PCP. */
  readonly version: number;
  /** For how long the gateway has kept its table of mappings: RFC 6886 §3.6. */
  readonly epochSeconds: number;
}

/** Encodes a request. */
export function encodeNatPmpRequest(request: NatPmpRequest): Uint8Array<ArrayBuffer> {
  if (request.opcode === "external-address") return new Uint8Array(2);
  const bytes = new Uint8Array(12);
  const view = new DataView(bytes.buffer);
  view.setUint8(1, OPCODES[request.opcode]);
  view.setUint16(4, request.internalPort);
  view.setUint16(6, request.suggestedExternalPort);
  view.setUint32(8, request.lifetimeSeconds);
  return bytes;
}

/**
 * Decodes a request.
 *
 * @throws {MalformedMessageError} if the bytes are not a request
 */
export function decodeNatPmpRequest(bytes: Uint8Array): NatPmpRequest {
  const reader = new ByteReader(bytes, REQUEST);
  const version = reader.uint8("version");
  if (version !== 0) throw malformed(REQUEST, `version ${version}`);
  const code = reader.uint8("opcode");
  const opcode = opcodeOf(code);
  if (opcode === "external-address") {
    reader.end();
    return { opcode };
  }
  if (opcode === undefined) throw malformed(REQUEST, `opcode ${code}`);
  reader.bytes(2, "reserved");
  const request = {
    opcode,
    internalPort: reader.uint16("internal port"),
    suggestedExternalPort: reader.uint16("suggested external port"),
    lifetimeSeconds: reader.uint32("lifetime"),
  };
  reader.end();
  return request;
}

/** Encodes a response. */
export function encodeNatPmpResponse(response: NatPmpResponse): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(responseLength(response));
  const view = new DataView(bytes.buffer);
  const { version, opcode, resultCode, epochSeconds } = response;
  view.setUint8(0, version);
  view.setUint8(1, RESPONSE_BIT | (typeof opcode === "number" ? opcode : OPCODES[opcode]));
  view.setUint16(2, resultCode);
  view.setUint32(4, epochSeconds);
  if ("externalIp" in response) bytes.set(ipToBytes(response.externalIp), 8);
  if ("internalPort" in response) {
    view.setUint16(8, response.internalPort);
    view.setUint16(10, response.mappedExternalPort);
    view.setUint32(12, response.lifetimeSeconds);
  }
  return bytes;
}

/**
 * Decodes a response, or an announcement, which looks like the response to a request for the external address.
 *
 * @throws {MalformedMessageError} if the bytes are not a response
 */
export function decodeNatPmpResponse(bytes: Uint8Array): NatPmpResponse {
  const reader = new ByteReader(bytes, RESPONSE);
  const version = reader.uint8("version");
  const code = reader.uint8("opcode");
  if ((code & RESPONSE_BIT) === 0) throw malformed(RESPONSE, `opcode ${code} is a request's`);
  const opcode = opcodeOf(code & ~RESPONSE_BIT);
  const resultCode = reader.uint16("result code");
  const header = { version, epochSeconds: reader.uint32("seconds since start of epoch") };
  if (resultCode !== 0) return { ...header, opcode: opcode ?? (code & ~RESPONSE_BIT), resultCode };
  if (version !== 0) throw malformed(RESPONSE, `version ${version}`);
  if (opcode === undefined) throw malformed(RESPONSE, `opcode ${code}`);

  const response: NatPmpResponse = opcode === "external-address"
    ? { ...header, opcode, resultCode, externalIp: formatIp(reader.bytes(4, "external IP")) }
    : {
      ...header,
      opcode,
      resultCode,
      internalPort: reader.uint16("internal port"),
      mappedExternalPort: reader.uint16("mapped external port"),
      lifetimeSeconds: reader.uint32("lifetime"),
    };
  reader.end();
  return response;
}

function responseLength(response: NatPmpResponse): number {
  if ("externalIp" in response) return 12;
  return "internalPort" in response ? 16 : 8;
}

function opcodeOf(code: number): NatPmpOpcode | undefined {
  return BY_CODE[code];
}

/** The port on which gateways listen: RFC 6886 §3.1. */
export const NAT_PMP_PORT = 5351;

const REQUEST = "NAT-PMP request";
const RESPONSE = "NAT-PMP response";

/** RFC 6886 §3.2 and §3.3. */
const OPCODES: Readonly<Record<NatPmpOpcode, number>> = {
  "external-address": 0,
  "map-udp": 1,
  "map-tcp": 2,
};
const BY_CODE: readonly NatPmpOpcode[] = ["external-address", "map-udp", "map-tcp"];

/** The bit that marks responses: RFC 6886 §3.2. */
const RESPONSE_BIT = 0x80;
