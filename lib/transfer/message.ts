/**
 * The messages of a transfer, version 1. Every message has a header of five bytes; numbers are big-endian.
 *
 * ```text
 * header    type (1) | length of the rest (4)
 *
 * OFFER     "PLFT" | version (1) | count (4) | entries                                     from the sender
 *           entry: kind (1) | flags (1) | modified, ms since 1970 (8) | size (8) | length (2) | path, UTF-8
 * ANSWER    count (4) | for each entry: state (1) [ | length (8) | SHA-256 of the bytes (32) ]  from the receiver
 * PLAN      count (4) | for each entry: step (1)                                           from the sender
 * DATA      bytes of a file                                                                from the sender
 * END       SHA-256 of the whole file (32)                                                 from the sender
 * DONE                                                                                     from the receiver
 * REFUSAL   code (1) | reason, UTF-8                                                       from either, at any time
 * ```
 *
 * @module
 */

import { ByteReader, concat } from "../base/bytes.ts";
import { malformed } from "../base/errors.ts";
import type { Manifest, ManifestEntry } from "./manifest.ts";

/** Every message but DATA. */
export type TransferMessage =
  | OfferMessage
  | AnswerMessage
  | PlanMessage
  | EndMessage
  | DoneMessage
  | RefusalMessage;

/** OFFER: everything that can be sent. */
export interface OfferMessage {
  readonly type: "offer";
  readonly manifest: Manifest;
}

/** ANSWER: what the receiver already has, in the order of the manifest. */
export interface AnswerMessage {
  readonly type: "answer";
  readonly held: readonly HeldEntry[];
}

/**
 * What the receiver has of one entry: `nothing`; `done`, all of it, received and verified in this transfer; a `part`
 * from an earlier attempt; or a `whole` file of this name and size.
 */
export type HeldEntry =
  | { readonly state: "nothing" | "done" }
  | {
    readonly state: "part" | "whole";
    /** In bytes. */
    readonly length: number;
    /** SHA-256 of these bytes. */
    readonly hash: Uint8Array;
  };

/** PLAN: what the sender will send, in the order of the manifest. */
export interface PlanMessage {
  readonly type: "plan";
  readonly steps: readonly PlanStep[];
}

/** `keep`: nothing is sent. `send`: the whole file. `continue`: the rest after the part that the receiver has. */
export type PlanStep = "keep" | "send" | "continue";

/** END: the file is complete. */
export interface EndMessage {
  readonly type: "end";
  /** SHA-256 of the whole file. */
  readonly hash: Uint8Array;
}

/** DONE: the receiver has everything, under its final names. */
export interface DoneMessage {
  readonly type: "done";
}

/** REFUSAL: a side ends the transfer. */
export interface RefusalMessage {
  readonly type: "refusal";
  /** `declined`: the receiver does not want the offer. `failed`: the side cannot continue. */
  readonly code: "declined" | "failed";
  /** For people; at most {@linkcode MAX_REASON_BYTES} in UTF-8. */
  readonly reason: string;
}

/** The header of every message. */
export interface TransferHeader {
  readonly type: TransferMessage["type"] | "data";
  /** The length of the body, in bytes. */
  readonly length: number;
}

/**
 * Decodes a header. The caller checks the length.
 *
 * @throws {MalformedMessageError} if it is not five bytes long, or the type is unknown
 */
export function decodeTransferHeader(bytes: Uint8Array): TransferHeader {
  const reader = new ByteReader(bytes, "header of a transfer message");
  const type = oneOf(TYPES, reader.uint8("type") - 1, "type");
  const length = reader.uint32("length");
  reader.end();
  return { type, length };
}

/** Writes the header of a DATA message to the start of `target`. */
export function encodeDataHeader(length: number, target: Uint8Array): void {
  target[0] = typeNumber("data");
  new DataView(target.buffer, target.byteOffset).setUint32(1, length);
}

/**
 * Encodes a message with its header.
 *
 * @throws {RangeError} if a path is longer than 65,535 bytes
 */
export function encodeTransferMessage(message: TransferMessage): Uint8Array<ArrayBuffer> {
  const body = encodeBody(message);
  const header = new Uint8Array(HEADER_BYTES);
  header[0] = typeNumber(message.type);
  new DataView(header.buffer).setUint32(1, body.length);
  return concat(header, body);
}

/**
 * Decodes what follows a header.
 *
 * @throws {MalformedMessageError} naming the field, if the body is not that of a message of this type
 */
export function decodeTransferBody(
  type: TransferMessage["type"],
  bytes: Uint8Array,
): TransferMessage {
  const reader = new ByteReader(bytes, type);
  const message = readBody(type, reader);
  reader.end();
  return message;
}

function encodeBody(message: TransferMessage): Uint8Array {
  switch (message.type) {
    case "offer":
      return concat(MAGIC, Uint8Array.of(VERSION), counted(message.manifest, encodeEntry));
    case "answer":
      return counted(message.held, encodeHeld);
    case "plan":
      return counted(message.steps, (step) => Uint8Array.of(STEPS.indexOf(step)));
    case "end":
      return message.hash;
    case "done":
      return new Uint8Array(0);
    case "refusal": {
      const reason = utf8(message.reason).subarray(0, MAX_REASON_BYTES);
      return concat(Uint8Array.of(CODES.indexOf(message.code)), reason);
    }
  }
}

function readBody(type: TransferMessage["type"], reader: ByteReader): TransferMessage {
  switch (type) {
    case "offer": {
      const magic = new TextDecoder().decode(reader.bytes(MAGIC.length, "magic"));
      if (magic !== "PLFT") throw malformed("offer", "it does not start with PLFT");
      const version = reader.uint8("version");
      if (version !== VERSION) {
        throw malformed("offer", `version ${version} is not supported, only ${VERSION}`);
      }
      return { type, manifest: readCounted(reader, ENTRY_BYTES, readEntry) };
    }
    case "answer":
      return { type, held: readCounted(reader, 1, readHeld) };
    case "plan":
      return { type, steps: readCounted(reader, 1, readStep) };
    case "end":
      return { type, hash: reader.bytes(HASH_BYTES, "hash") };
    case "done":
      return { type };
    case "refusal": {
      const code = oneOf(CODES, reader.uint8("code"), "code of a refusal");
      const reason = new TextDecoder().decode(reader.bytes(reader.remaining, "reason"));
      return { type, code, reason };
    }
  }
}

function encodeEntry({ kind, path, size, modifiedMs, isExecutable }: ManifestEntry): Uint8Array {
  const name = utf8(path);
  if (name.length > 0xffff) {
    throw new RangeError(`Cannot offer ${path}: its name has ${name.length} bytes`);
  }
  const fields = new Uint8Array(ENTRY_BYTES);
  const view = new DataView(fields.buffer);
  view.setUint8(0, KINDS.indexOf(kind));
  view.setUint8(1, isExecutable ? EXECUTABLE : 0);
  view.setBigUint64(2, BigInt(modifiedMs));
  view.setBigUint64(10, BigInt(size));
  view.setUint16(18, name.length);
  return concat(fields, name);
}

function readEntry(reader: ByteReader): ManifestEntry {
  const kind = oneOf(KINDS, reader.uint8("kind"), "kind of an entry");
  const isExecutable = (reader.uint8("flags") & EXECUTABLE) !== 0;
  const modifiedMs = readUint64(reader, "time of an entry");
  const size = readUint64(reader, "size of an entry");
  const path = readUtf8(reader.bytes(reader.uint16("length of a path"), "path"));
  return { kind, path, size, modifiedMs, isExecutable };
}

function encodeHeld(held: HeldEntry): Uint8Array {
  const state = Uint8Array.of(STATES.indexOf(held.state));
  if (!("hash" in held)) return state;
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(held.length));
  return concat(state, length, held.hash);
}

function readHeld(reader: ByteReader): HeldEntry {
  const state = oneOf(STATES, reader.uint8("state"), "state of an entry");
  if (state === "nothing" || state === "done") return { state };
  const length = readUint64(reader, "length of an entry");
  return { state, length, hash: reader.bytes(HASH_BYTES, "hash of an entry") };
}

function readStep(reader: ByteReader): PlanStep {
  return oneOf(STEPS, reader.uint8("step"), "step");
}

function counted<T>(items: readonly T[], encode: (item: T) => Uint8Array): Uint8Array {
  const encoded = items.map(encode); // too many to pass to concat() as arguments
  const bytes = new Uint8Array(encoded.reduce((length, item) => length + item.length, 4));
  new DataView(bytes.buffer).setUint32(0, items.length);
  let offset = 4;
  for (const item of encoded) {
    bytes.set(item, offset);
    offset += item.length;
  }
  return bytes;
}

/** @param minBytes the least that an item takes, so that a false count cannot make this side allocate memory */
function readCounted<T>(
  reader: ByteReader,
  minBytes: number,
  read: (reader: ByteReader) => T,
): T[] {
  const count = reader.uint32("count");
  if (count * minBytes > reader.remaining) {
    throw malformed("count", `${count} items do not fit into ${reader.remaining} bytes`);
  }
  return Array.from({ length: count }, () => read(reader));
}

function readUint64(reader: ByteReader, field: string): number {
  const value = reader.uint32(field) * 2 ** 32 + reader.uint32(field);
  if (Number.isSafeInteger(value)) return value;
  throw malformed(field, "it is over 2^53 - 1");
}

function readUtf8(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw malformed("path", "it is not UTF-8", cause);
  }
}

function oneOf<T extends string>(choices: readonly T[], index: number, field: string): T {
  const found = choices[index];
  if (found !== undefined) return found;
  throw malformed(field, "it is unknown in this version");
}

function typeNumber(type: TransferHeader["type"]): number {
  return TYPES.indexOf(type) + 1;
}

function utf8(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text);
}

/** The length of a header. */
export const HEADER_BYTES = 5;

/** The length of a SHA-256 hash. */
export const HASH_BYTES = 32;

/** The most bytes in one DATA message. Chosen by us: the cost of a header per message is negligible. */
export const MAX_DATA_BYTES = 1024 * 1024;

/** The longest reason in a REFUSAL. Chosen by us: room for a sentence with a path in it. */
export const MAX_REASON_BYTES = 1000;

const MAGIC = utf8("PLFT");
const VERSION = 1;
const ENTRY_BYTES = 20;
const EXECUTABLE = 1;

/** In the order of their numbers, from 1, so that zeros are not a message. */
const TYPES = ["offer", "answer", "plan", "data", "end", "done", "refusal"] as const;

// In the order of their numbers, from 0.
const KINDS = ["file", "folder"] as const;
const STATES = ["nothing", "done", "part", "whole"] as const;
const STEPS = ["keep", "send", "continue"] as const;
const CODES = ["declined", "failed"] as const;
