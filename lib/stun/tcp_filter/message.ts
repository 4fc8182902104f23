/**
 * The attributes of the TCP filter test, Punchline's extension of STUN (docs/tcp-filter-test.md), and what the test
 * reports.
 *
 * @module
 */

import { ByteReader } from "../../base/bytes.ts";
import { malformed } from "../../base/errors.ts";
import type { RawStunAttribute } from "../attributes.ts";
import type { StunMessage } from "../message.ts";

/** What becomes of an unsolicited TCP SYN (RFC 5382 REQ-4); `"unknown"` if the test could not tell. */
export type UnsolicitedSyn = "accepted" | "reset" | "dropped" | "unknown";

/** The value of TCP-FILTER-TEST. */
export interface TcpFilterRequest {
  /** How long the server waits for a reply to its SYNs, at most; 0 to 65535. */
  readonly windowMs: number;
}

/** The value of TCP-FILTER-RESULT. */
export interface TcpFilterResult {
  /** Of dials from the IP address that the client is connected to, and another port. */
  readonly sameAddress: DialResult;
  /** Of dials from the server's other IP address, and a port that the server does not serve on. */
  readonly alternateAddress: DialResult;
}

/** The value of TCP-CROSSING-TEST: when the server should dial, and for how long. */
export interface TcpCrossingRequest {
  /** From the response to the first dial; 0 to 65535. */
  readonly delayMs: number;
  /** How long each dial lasts, at most; 0 to 65535. */
  readonly holdMs: number;
}

/** The value of TCP-CROSSING-PORTS: one pair for each dial of the server, {@linkcode CROSSING_SPACING_MS} apart. */
export type TcpCrossingPorts = readonly {
  /** The port that the server dials from. */
  readonly dial: number;
  /** A closed port of the server that it does not dial from. */
  readonly closed: number;
}[];

/** The result of the dials from one IP address. */
export interface DialResult {
  /** The outcome of the most conclusive dial. */
  readonly outcome: DialOutcome;
  /** How many times the server dialled: 0 to 255. */
  readonly dials: number;
  /** From the first dial to the outcome: 0 to 65535. */
  readonly elapsedMs: number;
}

/** The reply to the SYNs from one IP address. */
export type DialOutcome =
  | "not-tested" // the server has no such address, or declined
  | "accepted" // a SYN-ACK
  | "refused" // a RST, or ICMP port unreachable
  | "silent" // no reply in time
  | "unreachable"; // another ICMP unreachable, or no route

/**
 * The TCP-FILTER-TEST attribute of a request.
 *
 * ```text
 * | window (16 bits, milliseconds) | 0 (16 bits) | any number of zeros |
 * ```
 *
 * @param valueLength the length of the whole value, in bytes: it pads the request to its minimum length
 * @throws {RangeError} if the window does not fit 16 bits, or the value is too short for it
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
 * @throws {MalformedMessageError} if it is truncated
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
 * The TCP-FILTER-RESULT of a message, or `undefined` if there is none. Trailing bytes are ignored: later versions may
 * add fields.
 *
 * @throws {MalformedMessageError} if it is truncated or its outcome is unknown
 */
export function getTcpFilterResult(message: StunMessage): TcpFilterResult | undefined {
  const attribute = message.attributes.find(({ type }) => type === TCP_FILTER_RESULT);
  if (attribute === undefined) return undefined;
  const reader = new ByteReader((attribute as RawStunAttribute).value, "TCP-FILTER-RESULT");
  return { sameAddress: readDialResult(reader), alternateAddress: readDialResult(reader) };
}

/**
 * The TCP-CROSSING-TEST attribute of a request.
 *
 * ```text
 * | delay (16 bits, milliseconds) | hold (16 bits, milliseconds) | any number of zeros |
 * ```
 *
 * @param valueLength as for {@linkcode encodeTcpFilterRequest}
 * @throws {RangeError} as {@linkcode encodeTcpFilterRequest}
 */
export function encodeTcpCrossingRequest(
  { delayMs, holdMs }: TcpCrossingRequest,
  valueLength: number,
): RawStunAttribute {
  if (valueLength < REQUEST_FIELDS_LENGTH) {
    throw new RangeError(`Cannot encode TCP-CROSSING-TEST: ${valueLength} bytes are fewer than 4`);
  }
  const value = new Uint8Array(valueLength);
  writeUint16(value, 0, delayMs, "delay");
  writeUint16(value, 2, holdMs, "hold");
  return { type: TCP_CROSSING_TEST, value };
}

/**
 * The TCP-CROSSING-TEST of a message, or `undefined` if there is none.
 *
 * @throws {MalformedMessageError} if it is truncated
 */
export function getTcpCrossingRequest(message: StunMessage): TcpCrossingRequest | undefined {
  const attribute = message.attributes.find(({ type }) => type === TCP_CROSSING_TEST);
  if (attribute === undefined) return undefined;
  const reader = new ByteReader((attribute as RawStunAttribute).value, "TCP-CROSSING-TEST");
  return { delayMs: reader.uint16("delay"), holdMs: reader.uint16("hold") };
}

/**
 * The TCP-CROSSING-PORTS attribute of a response; empty if the server does not dial.
 *
 * ```text
 * | dial (16 bits) | closed (16 bits) |   for each dial
 * ```
 *
 * @throws {RangeError} if a port does not fit its field
 */
export function encodeTcpCrossingPorts(ports: TcpCrossingPorts): RawStunAttribute {
  const value = new Uint8Array(4 * ports.length);
  for (const [index, { dial, closed }] of ports.entries()) {
    writeUint16(value, 4 * index, dial, "port");
    writeUint16(value, 4 * index + 2, closed, "port");
  }
  return { type: TCP_CROSSING_PORTS, value };
}

/**
 * The TCP-CROSSING-PORTS of a message, or `undefined` if there is none; those after the first {@linkcode CROSSING_DIALS}
 * are ignored.
 *
 * @throws {MalformedMessageError} if it is truncated, or a port is 0
 */
export function getTcpCrossingPorts(message: StunMessage): TcpCrossingPorts | undefined {
  const attribute = message.attributes.find(({ type }) => type === TCP_CROSSING_PORTS);
  if (attribute === undefined) return undefined;
  const { value } = attribute as RawStunAttribute;
  const reader = new ByteReader(value, "TCP-CROSSING-PORTS");
  const count = Math.min(CROSSING_DIALS, Math.ceil(value.length / 4));
  return Array.from({ length: count }, () => {
    const [dial, closed] = [reader.uint16("dial"), reader.uint16("closed")];
    if (dial === 0 || closed === 0) throw malformed("TCP-CROSSING-PORTS", "a port is 0");
    return { dial, closed };
  });
}

/** When a dial of the server started and ended, in milliseconds after the response. */
export interface TcpCrossingTime {
  readonly startedMs: number;
  readonly endedMs: number;
}

/**
 * The TCP-CROSSING-TIMES attribute of an indication.
 *
 * ```text
 * | started (16 bits, tenths of a millisecond) | ended (16 bits, likewise) |   for each dial
 * ```
 */
export function encodeTcpCrossingTimes(times: readonly TcpCrossingTime[]): RawStunAttribute {
  const value = new Uint8Array(4 * times.length);
  for (const [index, { startedMs, endedMs }] of times.entries()) {
    writeUint16(value, 4 * index, Math.min(0xffff, Math.round(10 * startedMs)), "time");
    writeUint16(value, 4 * index + 2, Math.min(0xffff, Math.round(10 * endedMs)), "time");
  }
  return { type: TCP_CROSSING_TIMES, value };
}

/**
 * The TCP-CROSSING-TIMES of a message, or `undefined` if there is none.
 *
 * @throws {MalformedMessageError} if it is truncated
 */
export function getTcpCrossingTimes(message: StunMessage): TcpCrossingTime[] | undefined {
  const attribute = message.attributes.find(({ type }) => type === TCP_CROSSING_TIMES);
  if (attribute === undefined) return undefined;
  const { value } = attribute as RawStunAttribute;
  const reader = new ByteReader(value, "TCP-CROSSING-TIMES");
  return Array.from({ length: Math.min(CROSSING_DIALS, Math.ceil(value.length / 4)) }, () => {
    return { startedMs: reader.uint16("started") / 10, endedMs: reader.uint16("ended") / 10 };
  });
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
    throw malformed("TCP-FILTER-RESULT", `outcome ${code} is unknown`);
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
 * The attribute types of the test. Both are comprehension-optional, in the range that RFC 8489 §18.3 assigns by expert
 * review, and unassigned.
 */
export const TCP_FILTER_TEST = 0xd1a1;
/** See {@linkcode TCP_FILTER_TEST}. */
export const TCP_FILTER_RESULT = 0xd1a2;
/** See {@linkcode TCP_FILTER_TEST}. */
export const TCP_CROSSING_TEST = 0xd1a3;
/** See {@linkcode TCP_FILTER_TEST}. */
export const TCP_CROSSING_PORTS = 0xd1a4;
/** See {@linkcode TCP_FILTER_TEST}. */
export const TCP_CROSSING_TIMES = 0xd1a5;

/** How often the server dials. Chosen by us: silence is believed only if none disagrees, and one answer is enough. */
export const CROSSING_DIALS = 3;

/** From one dial to the next. Chosen by us: far enough apart that one late timer does not spoil two. */
export const CROSSING_SPACING_MS = 40;

/** In the order of their codes on the wire. */
const OUTCOMES: readonly DialOutcome[] = [
  "not-tested",
  "accepted",
  "refused",
  "silent",
  "unreachable",
];

const REQUEST_FIELDS_LENGTH = 4;
const DIAL_RESULT_LENGTH = 4;
