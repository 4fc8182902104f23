/**
 * What two sides of a transfer say, version 1. Every message has a header of five bytes; numbers are big-endian.
 *
 * ```text
 * header    type (1) | length of the rest (4)
 *
 * OFFER     "PLFT" | version (1) | count (4) | entries                                sender
 *           entry: kind (1) | flags (1) | modified, ms since 1970 (8) | size (8) | length (2) | path, UTF-8
 * ANSWER    count (4) | for each entry what is there: state (1) [ | length (8) | SHA-256 of it (32) ]      receiver
 * PLAN      count (4) | for each entry what will be sent: (1)                         sender
 * DATA      bytes of a file                                                           sender
 * END       SHA-256 of the whole file (32)                                            sender
 * DONE                                                                                receiver
 * REFUSAL   code (1) | reason, UTF-8                                                  either, at any time
 * ```
 *
 * @module
 */

import { ByteReader, concat } from "../base/bytes.ts";
import { MalformedMessageError } from "../base/errors.ts";
import type { Manifest, ManifestEntry } from "./manifest.ts";

/** A message whose bytes are not those of a file. */
export type TransferMessage = Offer | Answer | Plan | End | Done | Refusal;

/** Everything that could be sent. */
export interface Offer {
  readonly type: "offer";
  readonly manifest: Manifest;
}

/** What the receiver has already, in the order of the manifest. */
export interface Answer {
  readonly type: "answer";
  readonly held: readonly Held[];
}

/**
 * What the receiver has of one entry: nothing; the whole of it, received and checked by this program; the first part of
 * it, from an earlier try; a file of that name and that size.
 */
export type Held =
  | { readonly state: "nothing" | "done" }
  | { readonly state: "part" | "whole"; readonly length: number; readonly hash: Uint8Array };

/** What the sender will send, in the order of the manifest. */
export interface Plan {
  readonly type: "plan";
  readonly steps: readonly PlanStep[];
}

/** Nothing, the whole file, or what is behind the part that the receiver has. */
export type PlanStep = "keep" | "send" | "continue";

/** A file ends. */
export interface End {
  readonly type: "end";
  /** SHA-256 of the whole file. */
  readonly hash: Uint8Array;
}

/** The receiver has it all, under its final names. */
export interface Done {
  readonly type: "done";
}

/** A side does not go on. */
export interface Refusal {
  readonly type: "refusal";
  readonly code: "declined" | "failed";
  /** For people; at most {@linkcode MAX_REASON_BYTES}. */
  readonly reason: string;
}

/** What is in front of every message. */
export interface MessageHeader {
  readonly type: TransferMessage["type"] | "data";
  /** Of what follows. */
  readonly length: number;
}

/** Reads a header; it does not judge the length. */
export function decodeHeader(bytes: Uint8Array): MessageHeader {
  const reader = new ByteReader(bytes, "header of a transfer message");
  const type = oneOf(TYPES, reader.uint8("type") - 1, "type");
  const length = reader.uint32("length");
  reader.end();
  return { type, length };
}

/** Writes the header of a message with bytes of a file at the start of `target`. */
export function encodeDataHeader(length: number, target: Uint8Array): void {
  target[0] = typeNumber("data");
  new DataView(target.buffer, target.byteOffset).setUint32(1, length);
}

/** The bytes of a message, its header included. */
export function encodeMessage(message: TransferMessage): Uint8Array<ArrayBuffer> {
  const body = encodeBody(message);
  const header = new Uint8Array(HEADER_BYTES);
  header[0] = typeNumber(message.type);
  new DataView(header.buffer).setUint32(1, body.length);
  return concat(header, body);
}

/**
 * Reads what follows a header.
 *
 * @throws {MalformedMessageError} if it is not a message of that type; the message names the field
 */
export function decodeBody(type: TransferMessage["type"], bytes: Uint8Array): TransferMessage {
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
      if (magic !== "PLFT") throw malformed("offer", "it does not begin with PLFT");
      const version = reader.uint8("version");
      if (version !== VERSION) {
        throw malformed("offer", `version ${version} is another one than ${VERSION}`);
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

function encodeHeld(held: Held): Uint8Array {
  const state = Uint8Array.of(STATES.indexOf(held.state));
  if (!("hash" in held)) return state;
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(held.length));
  return concat(state, length, held.hash);
}

function readHeld(reader: ByteReader): Held {
  const state = oneOf(STATES, reader.uint8("state"), "state of an entry");
  if (state === "nothing" || state === "done") return { state };
  const length = readUint64(reader, "length of what is there");
  return { state, length, hash: reader.bytes(HASH_BYTES, "hash of what is there") };
}

function readStep(reader: ByteReader): PlanStep {
  return oneOf(STEPS, reader.uint8("step"), "step");
}

function counted<T>(items: readonly T[], encode: (item: T) => Uint8Array): Uint8Array {
  const encoded = items.map(encode); // too many to be the arguments of one call
  const bytes = new Uint8Array(encoded.reduce((length, item) => length + item.length, 4));
  new DataView(bytes.buffer).setUint32(0, items.length);
  let offset = 4;
  for (const item of encoded) {
    bytes.set(item, offset);
    offset += item.length;
  }
  return bytes;
}

/** @param minBytes the least that an item takes: nobody is made to wait for items that cannot be there */
function readCounted<T>(
  reader: ByteReader,
  minBytes: number,
  read: (reader: ByteReader) => T,
): T[] {
  const count = reader.uint32("count");
  if (count * minBytes > reader.remaining) {
    throw malformed("count", `${count} do not fit into ${reader.remaining} bytes`);
  }
  return Array.from({ length: count }, () => read(reader));
}

function readUint64(reader: ByteReader, field: string): number {
  const value = reader.uint32(field) * 2 ** 32 + reader.uint32(field);
  if (Number.isSafeInteger(value)) return value;
  throw malformed(field, "it is beyond 2^53 - 1");
}

function readUtf8(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new MalformedMessageError("Cannot read path: it is not UTF-8", { cause });
  }
}

function oneOf<T extends string>(choices: readonly T[], index: number, field: string): T {
  const found = choices[index];
  if (found !== undefined) return found;
  throw malformed(field, "it is none of those in this version");
}

function typeNumber(type: MessageHeader["type"]): number {
  return TYPES.indexOf(type) + 1;
}

function malformed(what: string, problem: string): MalformedMessageError {
  return new MalformedMessageError(`Cannot read ${what}: ${problem}`);
}

function utf8(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text);
}

/** Of the header. */
export const HEADER_BYTES = 5;

/** SHA-256. */
export const HASH_BYTES = 32;

/** Of the bytes of a file in one message; ours: a header for each costs nothing any more. */
export const MAX_DATA_BYTES = 1024 * 1024;

/** Ours: a sentence, and names in it. */
export const MAX_REASON_BYTES = 1000;

const MAGIC = utf8("PLFT");
const VERSION = 1;
const ENTRY_BYTES = 20;
const EXECUTABLE = 1;

/** The first is 1, so that a run of zeros is no message. */
const TYPES = ["offer", "answer", "plan", "data", "end", "done", "refusal"] as const;

// The number of each is its place here.
const KINDS = ["file", "folder"] as const;
const STATES = ["nothing", "done", "part", "whole"] as const;
const STEPS = ["keep", "send", "continue"] as const;
const CODES = ["declined", "failed"] as const;
