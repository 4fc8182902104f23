/**
 * The datagrams of a UDP path. `docs/udp.md` has the layout as a table.
 *
 * Each starts with the path ID of its direction (8 bytes, the first of them at least 192, so that neither STUN nor TURN
 * can be mistaken for it: RFC 7983 §7) and a type. Numbers are big-endian. Packet numbers, offsets, limits and counters
 * have 48 bits.
 *
 * @module
 */

import { ByteReader, concat } from "../base/bytes.ts";
import { malformed } from "../base/errors.ts";
import type { Range } from "./ack_ranges.ts";

/** Any datagram of a path, without its path ID. */
export type UdpPacket = DataPacket | DatagramPacket | PadPacket | AckPacket | ControlPacket;

/** A piece of the stream. */
export interface DataPacket {
  readonly kind: "data";
  /** The packet number: a retransmission has a new one. */
  readonly number: number;
  /** The position of the first byte in the stream. */
  readonly offset: number;
  readonly data: Uint8Array;
  /** Whether the stream ends after this piece. */
  readonly isFinal: boolean;
  /** Whether the sender has nothing else to send now, so that the reader should not wait for more. */
  readonly isPushed: boolean;
}

/** An unreliable message of the application. */
export interface DatagramPacket {
  readonly kind: "datagram";
  readonly number: number;
  readonly data: Uint8Array;
}

/** A packet that only wants to be acknowledged: a keep-alive, a probe for lost packets or for a larger path MTU. */
export interface PadPacket {
  readonly kind: "pad";
  readonly number: number;
  /** How many zero bytes follow. */
  readonly padding: number;
}

/** What was received. It has no number, and is not acknowledged. */
export interface AckPacket {
  readonly kind: "ack";
  /** Packet numbers, the highest first: at least 1 range, at most {@linkcode MAX_ACK_RANGES}. */
  readonly ranges: readonly Range[];
  /** How long the highest number waited for this packet, at most {@linkcode MAX_ACK_DELAY_FIELD_MS}. */
  readonly delayMs: number;
  /** The offset before which the other side may send. */
  readonly limit: number;
}

/** A packet that changes the path itself, and proves that its sender knows the path's secret. */
export interface ControlPacket {
  readonly kind: ControlKind;
  /** Rises with each control packet of a sender. */
  readonly counter: number;
  /** 8 bytes, whose meaning depends on the kind: a nonce, or an offset. */
  readonly value: Uint8Array;
  /** The first 16 bytes of an HMAC-SHA-256 of everything before it. */
  readonly mac: Uint8Array;
}

/**
 * What a control packet asks for: `probe`, `answer` and `nominate` find a path; `close` ends both directions after
 * everything was delivered, `reset` at once.
 */
export type ControlKind = "probe" | "answer" | "nominate" | "close" | "reset";

/**
 * Encodes a datagram. {@linkcode writeDataHeader} does the same for stream data without copying it twice.
 *
 * @param pathId of the direction in which it is sent
 */
export function encodeUdpPacket(pathId: Uint8Array, packet: UdpPacket): Uint8Array<ArrayBuffer> {
  switch (packet.kind) {
    case "data": {
      const bytes = new Uint8Array(DATA_HEADER_BYTES + packet.data.length);
      writeDataHeader(bytes, pathId, packet);
      bytes.set(packet.data, DATA_HEADER_BYTES);
      return bytes;
    }
    case "datagram": {
      const bytes = new Uint8Array(DATAGRAM_HEADER_BYTES + packet.data.length);
      writeHead(bytes, pathId, DATAGRAM);
      writeUint48(bytes, 9, packet.number);
      bytes.set(packet.data, DATAGRAM_HEADER_BYTES);
      return bytes;
    }
    case "pad": {
      const bytes = new Uint8Array(DATAGRAM_HEADER_BYTES + packet.padding);
      writeHead(bytes, pathId, PAD);
      writeUint48(bytes, 9, packet.number);
      return bytes;
    }
    case "ack":
      return encodeAck(pathId, packet);
    default:
      return concat(controlHead(pathId, packet), packet.mac);
  }
}

/** Writes the header of a {@linkcode DataPacket} to the start of `target`; the data follow it. */
export function writeDataHeader(
  target: Uint8Array,
  pathId: Uint8Array,
  header: Omit<DataPacket, "kind" | "data">,
): void {
  const flags = (header.isFinal ? FINAL : 0) | (header.isPushed ? PUSHED : 0);
  writeHead(target, pathId, DATA | flags);
  writeUint48(target, 9, header.number);
  writeUint48(target, 15, header.offset);
}

/** The bytes of a control packet that its HMAC covers. */
export function controlHead(
  pathId: Uint8Array,
  { kind, counter, value }: Omit<ControlPacket, "mac">,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(CONTROL_BYTES - MAC_BYTES);
  writeHead(bytes, pathId, CONTROL + CONTROL_KINDS.indexOf(kind));
  writeUint48(bytes, 9, counter);
  bytes.set(value, 15);
  return bytes;
}

/**
 * Decodes a datagram whose path ID the caller has looked at. Data are a view of `bytes`, not a copy.
 *
 * @throws {MalformedMessageError} naming the field
 */
export function decodeUdpPacket(bytes: Uint8Array): UdpPacket {
  const type = bytes[PATH_ID_BYTES];
  if (type === undefined) throw malformed("UDP packet", `${bytes.length} bytes have no type`);
  if ((type & ~(FINAL | PUSHED)) === DATA) {
    requireLength(bytes, DATA_HEADER_BYTES, "DATA");
    const packet: DataPacket = {
      kind: "data",
      number: readUint48(bytes, 9),
      offset: readUint48(bytes, 15),
      data: bytes.subarray(DATA_HEADER_BYTES),
      isFinal: (type & FINAL) !== 0,
      isPushed: (type & PUSHED) !== 0,
    };
    if (packet.offset + packet.data.length > MAX_UINT48) {
      throw malformed("UDP packet", "offset exceeds 48 bits");
    }
    if (packet.data.length === 0 && !packet.isFinal) throw malformed("UDP packet", "no data");
    return packet;
  }
  if (type === ACK) return decodeAck(bytes);
  if (type === DATAGRAM || type === PAD) {
    requireLength(bytes, DATAGRAM_HEADER_BYTES, type === PAD ? "PAD" : "DATAGRAM");
    const number = readUint48(bytes, 9);
    return type === PAD
      ? { kind: "pad", number, padding: bytes.length - DATAGRAM_HEADER_BYTES }
      : { kind: "datagram", number, data: bytes.subarray(DATAGRAM_HEADER_BYTES) };
  }
  const kind = CONTROL_KINDS[type - CONTROL];
  if (kind === undefined) throw malformed("UDP packet", `type ${type} is unknown`);
  if (bytes.length !== CONTROL_BYTES) {
    throw malformed("UDP packet", `${kind} has ${bytes.length} bytes instead of ${CONTROL_BYTES}`);
  }
  return {
    kind,
    counter: readUint48(bytes, 9),
    value: bytes.slice(15, 23),
    mac: bytes.slice(23),
  };
}

function encodeAck(
  pathId: Uint8Array,
  { ranges, delayMs, limit }: AckPacket,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(ACK_HEADER_BYTES + RANGE_BYTES * (ranges.length - 1));
  const view = new DataView(bytes.buffer);
  writeHead(bytes, pathId, ACK);
  view.setUint16(9, Math.min(Math.round(delayMs / DELAY_UNIT_MS), 0xffff));
  writeUint48(bytes, 11, limit);
  writeUint48(bytes, 17, ranges[0]!.end - 1);
  view.setUint32(23, ranges[0]!.end - ranges[0]!.start);
  let at = ACK_HEADER_BYTES;
  for (let i = 1; i < ranges.length; i++, at += RANGE_BYTES) {
    view.setUint32(at, ranges[i - 1]!.start - ranges[i]!.end);
    view.setUint32(at + 4, ranges[i]!.end - ranges[i]!.start);
  }
  return bytes;
}

function decodeAck(bytes: Uint8Array): AckPacket {
  const reader = new ByteReader(bytes, "ACK");
  reader.bytes(9, "head");
  const delayMs = reader.uint16("delay") * DELAY_UNIT_MS;
  const limit = reader.uint16("limit") * 2 ** 32 + reader.uint32("limit");
  let end = reader.uint16("highest number") * 2 ** 32 + reader.uint32("highest number") + 1;
  const ranges: Range[] = [];
  for (;;) {
    const length = reader.uint32("range length");
    if (length === 0) throw malformed("ACK", "a range is empty");
    const start = end - length;
    if (start < 0) throw malformed("ACK", "a range starts before 0");
    ranges.push({ start, end });
    if (reader.remaining === 0) break;
    if (ranges.length === MAX_ACK_RANGES) throw malformed("ACK", "too many ranges");
    const gap = reader.uint32("gap");
    if (gap === 0) throw malformed("ACK", "a gap is empty");
    end = start - gap;
  }
  return { kind: "ack", ranges, delayMs, limit };
}

function writeHead(target: Uint8Array, pathId: Uint8Array, type: number): void {
  for (let i = 0; i < PATH_ID_BYTES; i++) target[i] = pathId[i]!;
  target[PATH_ID_BYTES] = type;
}

/** Six bytes; a `DataView` for each packet would cost more. */
function writeUint48(target: Uint8Array, at: number, value: number): void {
  const high = Math.floor(value / 2 ** 32);
  target[at] = high >>> 8;
  target[at + 1] = high;
  target[at + 2] = value >>> 24;
  target[at + 3] = value >>> 16;
  target[at + 4] = value >>> 8;
  target[at + 5] = value;
}

function readUint48(bytes: Uint8Array, at: number): number {
  const high = bytes[at]! << 8 | bytes[at + 1]!;
  const low = bytes[at + 2]! << 24 | bytes[at + 3]! << 16 | bytes[at + 4]! << 8 | bytes[at + 5]!;
  return high * 2 ** 32 + (low >>> 0);
}

function requireLength(bytes: Uint8Array, length: number, what: string): void {
  if (bytes.length < length) {
    throw malformed(
      "UDP packet",
      `${what} has ${bytes.length} bytes instead of at least ${length}`,
    );
  }
}

/** The length of a path ID. */
export const PATH_ID_BYTES = 8;

/** The length of the header of stream data. */
export const DATA_HEADER_BYTES = 21;

/** The length of the header of an unreliable message, and of a {@linkcode PadPacket} without padding. */
export const DATAGRAM_HEADER_BYTES = 15;

/** The length of a control packet. */
const CONTROL_BYTES = 39;

/** The length of the HMAC of a control packet. */
export const MAC_BYTES = 16;

/** Chosen by us: 32 losses among the packets in flight can be told apart, in 281 bytes. */
export const MAX_ACK_RANGES = 32;

const MAX_UINT48 = 2 ** 48 - 1;
const DELAY_UNIT_MS = 1 / 128;
const ACK_HEADER_BYTES = 27;
const RANGE_BYTES = 8;

const ACK = 0x01;
const PAD = 0x02;
const DATAGRAM = 0x03;
const DATA = 0x10;
const FINAL = 0x01;
const PUSHED = 0x02;
const CONTROL = 0x20;
const CONTROL_KINDS: readonly ControlKind[] = ["probe", "answer", "nominate", "close", "reset"];
