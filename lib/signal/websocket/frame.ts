/**
 * WebSocket frames: RFC 6455 §5.2.
 *
 * ```text
 * FIN, reserved, opcode (1) | MASK, length (1) | extended length (0, 2 or 8) | mask (0 or 4) | payload
 * ```
 *
 * @module
 */

import { concat } from "../../base/bytes.ts";
import { malformed, type MalformedMessageError } from "../../base/errors.ts";
import { type ByteSink, writeAll } from "../../base/reader.ts";

/** The type of a frame; RFC 6455 §11.8. */
export type WebSocketOpcode = "continuation" | "text" | "binary" | "close" | "ping" | "pong";

/** A message, or a control frame. */
export type WebSocketMessage =
  | { readonly kind: "binary"; readonly data: Uint8Array<ArrayBuffer> }
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "ping" | "pong"; readonly data: Uint8Array<ArrayBuffer> }
  | { readonly kind: "close"; readonly code: number; readonly reason: string };

/** One frame. */
export interface WebSocketFrame {
  readonly opcode: WebSocketOpcode;
  /** Whether it ends its message. */
  readonly isFinal: boolean;
  /** Whether the payload was masked, as a client's has to be and a server's may not be. */
  readonly isMasked: boolean;
  /** An owned copy, unmasked. */
  readonly payload: Uint8Array<ArrayBuffer>;
}

/** What is at the start of some bytes. */
export type DecodedWebSocketFrame =
  | { readonly kind: "frame"; readonly frame: WebSocketFrame; readonly byteLength: number }
  /** At least this many bytes are needed. */
  | { readonly kind: "incomplete"; readonly neededLength: number }
  | { readonly kind: "too-long"; readonly payloadLength: number };

/** What {@linkcode toServerFrames} has made. */
export interface ServerFrames {
  /** A part of what was given. */
  readonly frames: Uint8Array<ArrayBuffer>;
  /** How many bytes of the client's they were. */
  readonly taken: number;
  /** How many frames there are. */
  readonly count: number;
}

/**
 * The bytes of a frame that is a whole message.
 *
 * @param mask four unpredictable bytes if this side is the client, otherwise nothing
 */
export function encodeWebSocketFrame(
  opcode: WebSocketOpcode,
  payload: Uint8Array,
  mask?: Uint8Array,
): Uint8Array<ArrayBuffer> {
  const { length } = payload;
  const start = 2 + lengthBytesOf(length) + (mask === undefined ? 0 : MASK_BYTES);
  const bytes = new Uint8Array(start + length);
  writeHeader(bytes, opcode, length, mask === undefined ? 0 : MASKED);
  bytes.set(payload, start);
  if (mask !== undefined) {
    bytes.set(mask, start - MASK_BYTES);
    applyMask(bytes.subarray(start), mask);
  }
  return bytes;
}

/**
 * Reads the frame at the start of the bytes.
 *
 * @param maxPayloadLength a longer frame is reported as soon as its length has arrived
 * @throws {MalformedMessageError} if the bytes are not the start of a frame
 */
export function decodeWebSocketFrame(
  bytes: Uint8Array,
  maxPayloadLength: number,
): DecodedWebSocketFrame {
  const header = decodeHeader(bytes, 0);
  if (typeof header === "number") return { kind: "incomplete", neededLength: header };
  const { opcode, isFinal, isMasked, start, payloadLength } = header;
  if (payloadLength > maxPayloadLength) return { kind: "too-long", payloadLength };
  const byteLength = start + payloadLength;
  if (bytes.length < byteLength) return { kind: "incomplete", neededLength: byteLength };
  const payload = bytes.slice(start, byteLength);
  if (isMasked) applyMask(payload, bytes.subarray(start - MASK_BYTES, start));
  return { kind: "frame", frame: { opcode, isFinal, isMasked, payload }, byteLength };
}

/**
 * How many bytes the frame at the start has at least, which is exact once its header is there; 0 if it is too long.
 *
 * @throws {MalformedMessageError} as {@linkcode decodeWebSocketFrame}
 */
export function frameLength(bytes: Uint8Array, maxPayloadLength: number): number {
  const header = decodeHeader(bytes, 0);
  if (typeof header === "number") return header;
  return header.payloadLength > maxPayloadLength ? 0 : header.start + header.payloadLength;
}

/**
 * The whole messages at the start of what a client has sent, as frames of a server, for a relay that passes them on. They
 * stay where they are: masks are applied, and headers become shorter, in place. It ends before any other frame.
 */
export function toServerFrames(
  bytes: Uint8Array<ArrayBuffer>,
  { maxPayloadLength, maxBytes }: { maxPayloadLength: number; maxBytes: number },
): ServerFrames {
  const from = MASK_BYTES;
  let [at, end, count] = [0, from, 0];
  for (;;) {
    const header = decodeHeader(bytes, at);
    if (typeof header === "number") break;
    const { opcode, isFinal, isMasked, start, payloadLength } = header;
    const next = at + start + payloadLength;
    if (opcode !== "binary" || !isFinal || !isMasked || payloadLength > maxPayloadLength) break;
    if (next > bytes.length || next > maxBytes && count > 0) break;
    const mask = bytes.slice(at + start - MASK_BYTES, at + start);
    bytes.copyWithin(end, at, at + start - MASK_BYTES);
    bytes[end + 1]! &= ~MASKED;
    end += start - MASK_BYTES;
    moveUnmasked(bytes, { from: at + start, to: end, length: payloadLength }, mask);
    end += payloadLength;
    at = next;
    count++;
  }
  return { frames: bytes.subarray(from, Math.max(from, end)), taken: at, count };
}

/** A frame without its payload. */
interface FrameHeader {
  readonly opcode: WebSocketOpcode;
  readonly isFinal: boolean;
  readonly isMasked: boolean;
  /** How many bytes come before the payload. */
  readonly start: number;
  readonly payloadLength: number;
}

/** The header at an offset of the bytes; if it is incomplete, how many bytes it has at least. */
function decodeHeader(bytes: Uint8Array, offset: number): FrameHeader | number {
  if (bytes.length < offset + 2) return 2;
  const second = bytes[offset + 1]!;
  const opcode = opcodeOf(bytes[offset]!);
  const isFinal = (bytes[offset]! & FINAL) !== 0;
  const isMasked = (second & MASKED) !== 0;
  const length = second & ~MASKED;
  if (isControl(opcode) && (!isFinal || length >= LENGTH_IN_16_BITS)) {
    throw invalid(`a ${opcode} frame is whole and has at most 125 bytes`);
  }
  const lengthBytes = length === LENGTH_IN_64_BITS ? 8 : length === LENGTH_IN_16_BITS ? 2 : 0;
  if (bytes.length < offset + 2 + lengthBytes) return 2 + lengthBytes;
  const payloadLength = lengthBytes === 0 ? length : extendedLength(bytes, offset, lengthBytes);
  const start = 2 + lengthBytes + (isMasked ? MASK_BYTES : 0);
  return { opcode, isFinal, isMasked, start, payloadLength };
}

/** Whether it is a control frame (RFC 6455 §5.5), which may come between the frames of a message. */
export function isControl(opcode: WebSocketOpcode): boolean {
  return opcode === "close" || opcode === "ping" || opcode === "pong";
}

/** The payload of a close frame; RFC 6455 §5.5.1. */
export function encodeClose(code: number, reason: string): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(reason);
  const payload = new Uint8Array(2 + text.length);
  new DataView(payload.buffer).setUint16(0, code);
  payload.set(text, 2);
  return payload;
}

/**
 * Reads the payload of a close frame. Without a code, the code is 1005 (RFC 6455 §7.1.5).
 *
 * @throws {MalformedMessageError} if the code is cut short, or the reason is not UTF-8
 */
export function decodeClose(payload: Uint8Array): { code: number; reason: string } {
  if (payload.length === 0) return { code: 1005, reason: "" };
  if (payload.length === 1) throw invalid("a close code has two bytes");
  const code = payload[0]! << 8 | payload[1]!;
  return { code, reason: decodeText(payload.subarray(2)) };
}

/**
 * Reads the payload of a text message.
 *
 * @throws {MalformedMessageError} if it is not UTF-8
 */
export function decodeText(payload: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(payload);
  } catch (cause) {
    throw malformed("WebSocket frame", "text is UTF-8", cause);
  }
}

/** Puts messages together from their frames (RFC 6455 §5.4). */
export class MessageAssembler {
  readonly #isServer: boolean;
  /** The frames so far of a message that is not complete. */
  #fragments: Fragments | undefined;

  /** @param isServer whether the frames come from a client */
  constructor(isServer: boolean) {
    this.#isServer = isServer;
  }

  /** Whether a message has begun and not ended. */
  get isWithin(): boolean {
    return this.#fragments !== undefined;
  }

  /** How long the message of a frame is at least. */
  lengthWith({ opcode, payload }: WebSocketFrame): number {
    return payload.length + (isControl(opcode) ? 0 : this.#fragments?.data.length ?? 0);
  }

  /**
   * The message that a frame completes, if it does.
   *
   * @throws {MalformedMessageError} if the other side breaks the protocol
   */
  accept({ opcode, isFinal, isMasked, payload }: WebSocketFrame): WebSocketMessage | undefined {
    if (isMasked !== this.#isServer) {
      throw misplaced("clients mask their frames, and servers do not");
    }
    if (isControl(opcode)) return toControlMessage(opcode, payload);
    if ((opcode === "continuation") !== (this.#fragments !== undefined)) {
      throw misplaced("continuation frames belong to a message that has begun and not ended");
    }
    const data = this.#fragments === undefined ? payload : concat(this.#fragments.data, payload);
    const kind = this.#fragments?.kind ?? (opcode === "text" ? "text" : "binary");
    const frames = (this.#fragments?.frames ?? 0) + 1;
    if (frames > MAX_FRAMES) throw misplaced(`a message has at most ${MAX_FRAMES} frames`);
    this.#fragments = isFinal ? undefined : { kind, data, frames };
    if (!isFinal) return undefined;
    return kind === "text" ? { kind, text: decodeText(data) } : { kind, data };
  }
}

interface Fragments {
  readonly kind: "binary" | "text";
  readonly data: Uint8Array<ArrayBuffer>;
  readonly frames: number;
}

function toControlMessage(
  opcode: WebSocketOpcode,
  payload: Uint8Array<ArrayBuffer>,
): WebSocketMessage {
  return opcode === "close"
    ? { kind: "close", ...decodeClose(payload) }
    : { kind: opcode === "ping" ? "ping" : "pong", data: payload };
}

function misplaced(rule: string): MalformedMessageError {
  return malformed("WebSocket message", rule);
}

/**
 * Writes the first frame of a queue, and those after it as long as they are few: a write costs as much as ten short frames.
 * What a channel carries goes out in short segments, though, which even a path with an MTU hole lets through: without
 * them, peers behind one would not find each other.
 *
 * @returns how many bytes were written
 */
export async function writeTogether(connection: ByteSink, queue: Uint8Array[]): Promise<number> {
  const bytes = takeTogether(queue);
  const step = bytes.length > MAX_CHANNEL_BYTES ? bytes.length : SHORT_SEGMENT_BYTES;
  for (let at = 0; at < bytes.length; at += step) {
    await writeAll(connection, bytes.subarray(at, at + step));
  }
  return bytes.length;
}

function takeTogether(queue: Uint8Array[]): Uint8Array {
  let count = 0;
  for (let length = 0; count < queue.length; count++) {
    length += queue[count]!.length;
    if (length > MAX_TOGETHER_BYTES) break;
  }
  return count <= 1 ? queue.shift()! : concat(...queue.splice(0, count));
}

function lengthBytesOf(length: number): 0 | 2 | 8 {
  return length < LENGTH_IN_16_BITS ? 0 : length < 2 ** 16 ? 2 : 8;
}

function writeHeader(
  bytes: Uint8Array<ArrayBuffer>,
  opcode: WebSocketOpcode,
  length: number,
  masked: number,
): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const lengthBytes = lengthBytesOf(length);
  bytes[0] = FINAL | OPCODES.indexOf(opcode);
  bytes[1] = masked | (lengthBytes === 0 ? length : LENGTH_FIELDS[lengthBytes]);
  if (lengthBytes === 2) view.setUint16(2, length);
  if (lengthBytes === 8) view.setBigUint64(2, BigInt(length));
}

function opcodeOf(byte: number): WebSocketOpcode {
  if ((byte & RESERVED) !== 0) throw invalid("reserved bits are 0 without an extension");
  const opcode = OPCODES[byte & 0x0f];
  if (opcode === undefined) throw invalid(`opcode ${byte & 0x0f} is not assigned`);
  return opcode;
}

/** RFC 6455 §5.2: the shortest encoding of the length has to be used. */
function extendedLength(bytes: Uint8Array, offset: number, lengthBytes: 2 | 8): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset + offset);
  const length = lengthBytes === 2 ? view.getUint16(2) : Number(view.getBigUint64(2));
  if (length < (lengthBytes === 2 ? LENGTH_IN_16_BITS : 2 ** 16)) {
    throw invalid(`payload length ${length} is not in its shortest encoding`);
  }
  return length;
}

function applyMask(payload: Uint8Array, mask: Uint8Array): void {
  moveUnmasked(payload, { from: 0, to: 0, length: payload.length }, mask);
}

/**
 * Applies a mask while bytes move to the front by a multiple of four. Four bytes at a time, which is several times as fast:
 * a relay unmasks all that it passes on.
 */
function moveUnmasked(
  bytes: Uint8Array,
  { from, to, length }: { from: number; to: number; length: number },
  mask: Uint8Array,
): void {
  if (mask.every((byte) => byte === 0)) {
    if (from !== to) bytes.copyWithin(to, from, from + length);
    return;
  }
  const { buffer, byteOffset } = bytes;
  const head = Math.min(length, (4 - (byteOffset + from) % 4) % 4);
  const words = (length - head) >>> 2;
  for (let i = 0; i < head; i++) bytes[to + i] = bytes[from + i]! ^ mask[i]!;
  if (words > 0) {
    const rotated = Uint8Array.from(mask, (_, i) => mask[(head + i) % MASK_BYTES]!);
    const key = new Uint32Array(rotated.buffer)[0]!;
    const source = new Uint32Array(buffer, byteOffset + from + head, words);
    const target = new Uint32Array(buffer, byteOffset + to + head, words);
    for (let i = 0; i < words; i++) target[i] = source[i]! ^ key;
  }
  for (let i = head + 4 * words; i < length; i++) {
    bytes[to + i] = bytes[from + i]! ^ mask[i % MASK_BYTES]!;
  }
}

function invalid(rule: string): MalformedMessageError {
  return malformed("WebSocket frame", rule);
}

/** Close codes of RFC 6455 §7.4.1. */
export const CLOSE_CODES = {
  normal: 1000,
  goingAway: 1001,
  malformed: 1002,
  policy: 1008,
  tooLong: 1009,
} as const;

/** By their numbers. */
const OPCODES: readonly (WebSocketOpcode | undefined)[] = [
  "continuation",
  "text",
  "binary",
  undefined,
  undefined,
  undefined,
  undefined,
  undefined,
  "close",
  "ping",
  "pong",
];

const FINAL = 0x80;
const RESERVED = 0x70;
const MASKED = 0x80;
const MASK_BYTES = 4;
const LENGTH_IN_16_BITS = 126;
const LENGTH_IN_64_BITS = 127;
const LENGTH_FIELDS = { 2: LENGTH_IN_16_BITS, 8: LENGTH_IN_64_BITS } as const;

/** Chosen by us: an endless message of empty frames would be an endless loop. */
const MAX_FRAMES = 16;

/** Chosen by us: more is not copied. */
const MAX_TOGETHER_BYTES = 4096;

/** The longest message of a channel, and what frames it. */
const MAX_CHANNEL_BYTES = 4096 + 64;

/** Chosen by us: with the headers of TCP, TLS and IPv6 it fits into 1,280 bytes, which every path of IPv6 carries. */
const SHORT_SEGMENT_BYTES = 1120;
