/**
 * The attributes of the TCP filter test, Punchline's extension of STUN: docs/tcp-filter-test.md.
 *
 * @module
 */

import { ByteReader } from "../../base/bytes.ts";
import { MalformedMessageError } from "../../base/errors.ts";
import type { RawStunAttribute } from "../attributes.ts";
import type { StunMessage } from "../message.ts";

/** What TCP-FILTER-TEST asks for. */
export interface TcpFilterRequest {
  /** How long the server is to wait for an answer to its SYNs, at most; 0 to 65535. */
  readonly windowMs: number;
}

/** What TCP-FILTER-RESULT reports. */
export interface TcpFilterResult {
  /** Of the dials from the IP address that the client is connected to, and another port. */
  readonly sameAddress: DialResult;
  /** Of the dials from the server's other IP address, and a port that is neither of the server's. */
  readonly alternateAddress: DialResult;
}

/** What became of the dials from one IP address. */
export interface DialResult {
  /** What came back. */
  readonly outcome: DialOutcome;
  /** How often the server dialled: 0 to 255. */
  readonly dials: number;
  /** From the first dial to the outcome: 0 to 65535. */
  readonly elapsedMs: number;
}

/** What came back to the SYNs of one origin. */
export type DialOutcome =
  | "not-tested" // the server has no such address, or will not
  | "accepted" // a SYN-ACK
  | "refused" // a RST, or ICMP port unreachable
  | "silent" // nothing in time
  | "unreachable"; // another ICMP unreachable, or no route

/**
 * The TCP-FILTER-TEST attribute of a request.
 *
 * ```text
 * | window (16 bits, milliseconds) | 0 (16 bits) | any number of zeros |
 * ```
 *
 * @param valueLength of the whole value, in bytes: it is what pads the request to its minimum
 * @throws {RangeError} if the window has more than 16 bits or the value has no room for it
 */
export function encodeTcpFilterRequest(
  { windowMs }: TcpFilterRequest,
  valueLength: number,
): RawStunAttribute {
  if (valueLength < REQUEST_FIELDS_LENGTH) {
    throw new RangeError(`Cannot encode TCP-FILTER-TEST: ${valueLength} bytes are fewer than 4`);
  }
  const value = new Uint8Array(valueLength);
  writeUint16(value, 0, windowMs, "window");
  return { type: TCP_FILTER_TEST, value };
}

/**
 * The TCP-FILTER-TEST of a message, or `undefined` if there is none.
 *
 * @throws {MalformedMessageError} if it is cut short
 */
export function getTcpFilterRequest(message: StunMessage): TcpFilterRequest | undefined {
  const attribute = message.attributes.find(({ type }) => type === TCP_FILTER_TEST);
  if (attribute === undefined) return undefined;
  const reader = new ByteReader((attribute as RawStunAttribute).value, "TCP-FILTER-TEST");
  const windowMs = reader.uint16("window");
  reader.uint16("reserved");
  return { windowMs };
}

/**
 * The TCP-FILTER-RESULT attribute of a response.
 *
 * ```text
 * | outcome (8 bits) | dials (8 bits) | elapsed (16 bits, milliseconds) |   same address
 * | outcome (8 bits) | dials (8 bits) | elapsed (16 bits, milliseconds) |   alternate address
 * ```
 *
 * @throws {RangeError} if a number does not fit its field
 */
export function encodeTcpFilterResult(result: TcpFilterResult): RawStunAttribute {
  const value = new Uint8Array(2 * DIAL_RESULT_LENGTH);
  writeDialResult(value, 0, result.sameAddress);
  writeDialResult(value, DIAL_RESULT_LENGTH, result.alternateAddress);
  return { type: TCP_FILTER_RESULT, value };
}

/**
 * The TCP-FILTER-RESULT of a message, or `undefined` if there is none. Bytes behind it are left to later
 * versions.
 *
 * @throws {MalformedMessageError} if it is cut short or names an outcome that there is not
 */
export function getTcpFilterResult(message: StunMessage): TcpFilterResult | undefined {
  const attribute = message.attributes.find(({ type }) => type === TCP_FILTER_RESULT);
  if (attribute === undefined) return undefined;
  const reader = new ByteReader((attribute as RawStunAttribute).value, "TCP-FILTER-RESULT");
  return { sameAddress: readDialResult(reader), alternateAddress: readDialResult(reader) };
}

function writeDialResult(bytes: Uint8Array, offset: number, result: DialResult): void {
  const { outcome, dials, elapsedMs } = result;
  if (!Number.isInteger(dials) || dials < 0 || dials > 0xff) {
    throw new RangeError(`Cannot encode TCP-FILTER-RESULT: ${dials} dials are not 0 to 255`);
  }
  bytes[offset] = OUTCOMES.indexOf(outcome);
  bytes[offset + 1] = dials;
  writeUint16(bytes, offset + 2, elapsedMs, "elapsed time");
}

function readDialResult(reader: ByteReader): DialResult {
  const code = reader.uint8("outcome");
  const outcome = OUTCOMES[code];
  if (outcome === undefined) {
    throw new MalformedMessageError(`Cannot read TCP-FILTER-RESULT: outcome ${code} is unknown`);
  }
  return { outcome, dials: reader.uint8("dials"), elapsedMs: reader.uint16("elapsed time") };
}

function writeUint16(bytes: Uint8Array, offset: number, value: number, field: string): void {
  if (!Number.isInteger(value) || value < 0 || value > 0xffff) {
    throw new RangeError(`Cannot encode TCP filter test: ${field} ${value} is not 0 to 65535`);
  }
  bytes[offset] = value >> 8;
  bytes[offset + 1] = value;
}

/**
 * Both are comprehension-optional and in the range that RFC 8489 §18.3 assigns by expert review; neither is
 * assigned to anything.
 */
export const TCP_FILTER_TEST = 0xd1a1;
/** See {@linkcode TCP_FILTER_TEST}. */
export const TCP_FILTER_RESULT = 0xd1a2;

/** On the wire by their index. */
const OUTCOMES: readonly DialOutcome[] = [
  "not-tested",
  "accepted",
  "refused",
  "silent",
  "unreachable",
];

const REQUEST_FIELDS_LENGTH = 4;
const DIAL_RESULT_LENGTH = 4;
