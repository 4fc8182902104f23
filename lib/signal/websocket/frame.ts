/**
 * WebSocket frames: RFC 6455 §5.
 *
 * @module
 */

import { MalformedMessageError } from "../../base/errors.ts";

/** What a frame is; RFC 6455 §11.8. */
export type Opcode = "continuation" | "text" | "binary" | "close" | "ping" | "pong";

/** A frame on its own. */
export interface WebSocketFrame {
  readonly opcode: Opcode;
  /** Whether it ends its message. */
  readonly isFinal: boolean;
  /** Whether the payload travels masked, as all of a client's does and none of a server's. */
  readonly isMasked: boolean;
  /** An owned copy, unmasked. */
  readonly payload: Uint8Array<ArrayBuffer>;
}

/** What bytes begin with. */
export type DecodedWebSocketFrame =
  | { readonly kind: "frame"; readonly frame: WebSocketFrame; readonly byteLength: number }
  | { readonly kind: "incomplete" }
  | { readonly kind: "too-long"; readonly payloadLength: number };

/**
 * A frame that is a whole message.
 *
 * @param mask four bytes that nobody can guess, from a client; none from a server
 */
export function encodeWebSocketFrame(
  opcode: Opcode,
  payload: Uint8Array,
  mask?: Uint8Array,
): Uint8Array<ArrayBuffer> {
  const { length } = payload;
  const lengthBytes = length < LENGTH_IN_16_BITS ? 0 : length < 2 ** 16 ? 2 : 8;
  const start = 2 + lengthBytes + (mask === undefined ? 0 : MASK_BYTES);
  const bytes = new Uint8Array(start + length);
  const view = new DataView(bytes.buffer);
  const lengthField = lengthBytes === 0
    ? length
    : lengthBytes === 2
    ? LENGTH_IN_16_BITS
    : LENGTH_IN_64_BITS;
  bytes[0] = FINAL | OPCODES.indexOf(opcode);
  bytes[1] = (mask === undefined ? 0 : MASKED) | lengthField;
  if (lengthBytes === 2) view.setUint16(2, length);
  if (lengthBytes === 8) view.setBigUint64(2, BigInt(length));
  bytes.set(payload, start);
  if (mask !== undefined) {
    bytes.set(mask, start - MASK_BYTES);
    applyMask(bytes.subarray(start), mask);
  }
  return bytes;
}

/**
 * Reads the frame that bytes begin with.
 *
 * @param maxPayloadLength a longer frame is told as soon as its length is there
 * @throws {MalformedMessageError} if they do not begin a frame
 */
export function decodeWebSocketFrame(
  bytes: Uint8Array,
  maxPayloadLength: number,
): DecodedWebSocketFrame {
  if (bytes.length < 2) return { kind: "incomplete" };
  const opcode = opcodeOf(bytes[0]!);
  const isFinal = (bytes[0]! & FINAL) !== 0;
  const isMasked = (bytes[1]! & MASKED) !== 0;
  const length = bytes[1]! & ~MASKED;
  if (isControl(opcode) && (!isFinal || length >= LENGTH_IN_16_BITS)) {
    throw malformed(`a ${opcode} frame is whole and has at most 125 bytes`);
  }
  const lengthBytes = length === LENGTH_IN_64_BITS ? 8 : length === LENGTH_IN_16_BITS ? 2 : 0;
  const start = 2 + lengthBytes + (isMasked ? MASK_BYTES : 0);
  if (bytes.length < 2 + lengthBytes) return { kind: "incomplete" };
  const payloadLength = lengthBytes === 0 ? length : extendedLength(bytes, lengthBytes);
  if (payloadLength > maxPayloadLength) return { kind: "too-long", payloadLength };
  const byteLength = start + payloadLength;
  if (bytes.length < byteLength) return { kind: "incomplete" };
  const payload = new Uint8Array(bytes.subarray(start, byteLength));
  if (isMasked) applyMask(payload, bytes.subarray(start - MASK_BYTES, start));
  return { kind: "frame", frame: { opcode, isFinal, isMasked, payload }, byteLength };
}

/** Whether a frame is about the connection, and may stand between the frames of a message. */
export function isControl(opcode: Opcode): boolean {
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
 * Reads the payload of a close frame. One without a code counts as 1005 (RFC 6455 §7.1.5).
 *
 * @throws {MalformedMessageError} if it is half a code, or the reason is not UTF-8
 */
export function decodeClose(payload: Uint8Array): { code: number; reason: string } {
  if (payload.length === 0) return { code: 1005, reason: "" };
  if (payload.length === 1) throw malformed("a close code has two bytes");
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
    throw malformed("text is UTF-8", cause);
  }
}

function opcodeOf(byte: number): Opcode {
  if ((byte & RESERVED) !== 0) throw malformed("no extension was agreed on, reserved bits are 0");
  const opcode = OPCODES[byte & 0x0f];
  if (opcode === undefined) throw malformed(`opcode ${byte & 0x0f} is not assigned`);
  return opcode;
}

/** The fewest bytes that will do have to be used. */
function extendedLength(bytes: Uint8Array, lengthBytes: 2 | 8): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const length = lengthBytes === 2 ? view.getUint16(2) : Number(view.getBigUint64(2));
  if (length < (lengthBytes === 2 ? LENGTH_IN_16_BITS : 2 ** 16)) {
    throw malformed(`payload length ${length} has no more bytes than it takes`);
  }
  return length;
}

function applyMask(payload: Uint8Array, mask: Uint8Array): void {
  for (let i = 0; i < payload.length; i++) payload[i]! ^= mask[i % MASK_BYTES]!;
}

function malformed(rule: string, cause?: unknown): MalformedMessageError {
  return new MalformedMessageError(`Cannot read WebSocket frame: ${rule}`, { cause });
}

/** By their numbers. */
const OPCODES: readonly (Opcode | undefined)[] = [
  ...["continuation", "text", "binary"] as const,
  ...[undefined, undefined, undefined, undefined, undefined],
  ...["close", "ping", "pong"] as const,
];

const FINAL = 0x80;
const RESERVED = 0x70;
const MASKED = 0x80;
const MASK_BYTES = 4;
const LENGTH_IN_16_BITS = 126;
const LENGTH_IN_64_BITS = 127;
