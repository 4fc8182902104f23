/**
 * The messages of a transfer, version 2. Every message has a header of five bytes; numbers are big-endian. OFFER and
 * REFUSAL begin in every version as they do here, so that two versions can tell each other apart.
 *
 * ```text
 * header    type (1) | length of the rest (4)
 *
 * OFFER     "PLFT" | version (1)                                                           from the sender
 * ENTRIES   as many as fit: kind (1) | flags (1) | modified, ms since 1970 (8) | size (8)  from the sender, repeated
 *             | length (2) | path, UTF-8 [ | length (2) | target of a link, UTF-8 ]
 * SKIPPED   as many as fit: reason (1) | length (2) | path, UTF-8                          from the sender, repeated
 * OFFERED   count of entries (4) | count of skipped files (4)                              from the sender
 * HELD      as many as fit: entry (4) | state (1) [ | length (8) | SHA-256 (32) ]          from the receiver, repeated
 * ANSWER    count of entries held (4)                                                      from the receiver
 * PLAN      count (4) | for each entry: step (1)                                           from the sender
 * DATA      bytes of a file                                                                from the sender
 * END       SHA-256 of the whole file (32)                                                 from the sender
 * FAILED    reason (1): instead of END, or of the whole file                               from the sender
 * DONE      count (4) | for each entry refused: entry (4) | reason (1)                     from the receiver
 * REFUSAL   code (1) | reason, UTF-8                                                       from either, at any time
 * ```
 *
 * @module
 */

import { ByteReader, concat } from "../base/bytes.ts";
import { malformed, MalformedMessageError } from "../base/errors.ts";
import type { Manifest, ManifestEntry, SkippedEntry } from "./manifest.ts";
import {
  encodeText,
  joined,
  oneOf,
  readAll,
  readCounted,
  readText,
  readUint64,
  uint32,
  utf8,
} from "./message_fields.ts";

/** Every message but DATA. */
export type TransferMessage =
  | OfferMessage
  | EntriesMessage
  | SkippedMessage
  | OfferedMessage
  | HeldMessage
  | AnswerMessage
  | PlanMessage
  | EndMessage
  | FailedMessage
  | DoneMessage
  | RefusalMessage;

/** OFFER: a manifest follows. */
export interface OfferMessage {
  readonly type: "offer";
}

/** ENTRIES: the next entries of the manifest. */
export interface EntriesMessage {
  readonly type: "entries";
  readonly entries: Manifest;
}

/** SKIPPED: the next files that the sender cannot send. */
export interface SkippedMessage {
  readonly type: "skipped";
  readonly skipped: readonly SkippedEntry[];
}

/** OFFERED: the manifest is complete. */
export interface OfferedMessage {
  readonly type: "offered";
  readonly entries: number;
  readonly skipped: number;
}

/** HELD: the next entries of which the receiver has something. */
export interface HeldMessage {
  readonly type: "held";
  readonly held: readonly HeldEntry[];
}

/** ANSWER: the receiver has nothing of the entries that it has not named. */
export interface AnswerMessage {
  readonly type: "answer";
  /** How many it has named. */
  readonly held: number;
}

/**
 * What the receiver has of one entry: `done`, all of it, received and verified in this transfer; `refused`, nothing, and
 * it is not to be sent; a `part` from an earlier attempt; a `whole` file of this name and size, to be replaced or renamed
 * if it differs; or one to `compare`, which stays as it is, so that only the hash of the other is to be sent.
 */
export type HeldEntry =
  & {
    /** Its place in the manifest. */
    readonly index: number;
  }
  & (
    | { readonly state: "done" | "refused" | "compare" }
    | {
      readonly state: "part" | "whole";
      /** In bytes. */
      readonly length: number;
      /** SHA-256 of these bytes. */
      readonly hash: Uint8Array;
    }
  );

/** PLAN: what the sender will send, in the order of the manifest. */
export interface PlanMessage {
  readonly type: "plan";
  readonly steps: readonly PlanStep[];
}

/**
 * `keep`: nothing is sent. `send`: the whole file. `continue`: the rest after the part that the receiver has. `compare`:
 * only END.
 */
export type PlanStep = "keep" | "send" | "continue" | "compare";

/** END: the file is complete. */
export interface EndMessage {
  readonly type: "end";
  /** SHA-256 of the whole file. */
  readonly hash: Uint8Array;
}

/** FAILED: the current file cannot be sent, or not to its end. */
export interface FailedMessage {
  readonly type: "failed";
  readonly reason: FailureReason;
}

/** Why a file could not be sent after all: it has changed since it was offered, or it cannot be read. */
export type FailureReason = "changed" | "unreadable";

/** DONE: the receiver has everything but what it refused, under its final names, and safe from a power failure. */
export interface DoneMessage {
  readonly type: "done";
  readonly refused: readonly RefusedEntry[];
}

/** An entry that the receiver could not take. */
export interface RefusedEntry {
  /** Its place in the manifest. */
  readonly index: number;
  readonly reason: RefusalReason;
}

/**
 * Why: the system cannot hold such a `name`, it does not make `link`s for this program, something else `exists`, or it is
 * `hidden` or a program, which was not allowed.
 */
export type RefusalReason = "name" | "link" | "exists" | "hidden";

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
 * @throws {RangeError} if a path or a target is longer than 65,535 bytes
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
      return concat(MAGIC, Uint8Array.of(VERSION));
    case "entries":
      return joined(message.entries.map(encodeEntry));
    case "skipped":
      return joined(message.skipped.map(encodeSkipped));
    case "offered":
      return concat(uint32(message.entries), uint32(message.skipped));
    case "held":
      return joined(message.held.map(encodeHeld));
    case "answer":
      return uint32(message.held);
    case "plan":
      return concat(
        uint32(message.steps.length),
        Uint8Array.from(message.steps, (step) => STEPS.indexOf(step)),
      );
    case "end":
      return message.hash;
    case "failed":
      return Uint8Array.of(FAILURES.indexOf(message.reason));
    case "done":
      return concat(uint32(message.refused.length), joined(message.refused.map(encodeRefused)));
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
      if (version !== VERSION) throw new OtherVersionError(version);
      return { type };
    }
    case "entries":
      return { type, entries: readAll(reader, readEntry) };
    case "skipped":
      return { type, skipped: readAll(reader, readSkipped) };
    case "offered":
      return { type, entries: reader.uint32("entries"), skipped: reader.uint32("skipped") };
    case "held":
      return { type, held: readAll(reader, readHeld) };
    case "answer":
      return { type, held: reader.uint32("held") };
    case "plan":
      return { type, steps: readCounted(reader, 1, readStep) };
    case "end":
      return { type, hash: reader.bytes(HASH_BYTES, "hash") };
    case "failed":
      return { type, reason: oneOf(FAILURES, reader.uint8("reason"), "reason of a failure") };
    case "done":
      return { type, refused: readCounted(reader, REFUSED_BYTES, readRefused) };
    case "refusal": {
      const code = oneOf(CODES, reader.uint8("code"), "code of a refusal");
      const reason = new TextDecoder().decode(reader.bytes(reader.remaining, "reason"));
      return { type, code, reason };
    }
  }
}

/** The offer is of another version of the protocol. */
export class OtherVersionError extends MalformedMessageError {
  /** That of the sender. */
  readonly version: number;

  /** @param version that of the sender */
  constructor(version: number) {
    super(`Cannot read offer: version ${version} is not supported, only ${VERSION}`, {
      remedy: "Run the same version on both sides",
    });
    this.version = version;
  }
}

/** Splits items into runs that fit into a message. */
export function* inMessages<T>(
  items: readonly T[],
  bytesOf: (item: T) => number,
): Generator<readonly T[]> {
  let start = 0;
  for (let end = 0, bytes = 0; end < items.length; end++) {
    const length = bytesOf(items[end]!);
    if (bytes + length > MAX_LIST_BYTES && end > start) {
      yield items.slice(start, end);
      [start, bytes] = [end, 0];
    }
    bytes += length;
  }
  if (start < items.length) yield items.slice(start);
}

/** The most bytes that an entry takes in ENTRIES. */
export function entryBytes({ path, target = "" }: ManifestEntry): number {
  return ENTRY_BYTES + 2 + MAX_UTF8_BYTES * (path.length + target.length);
}

/** The most bytes that a path takes in SKIPPED. */
export function skippedBytes({ path }: SkippedEntry): number {
  return 3 + MAX_UTF8_BYTES * path.length;
}

function encodeEntry(entry: ManifestEntry): Uint8Array {
  const { kind, path, size, modifiedMs, isExecutable, target } = entry;
  const fields = new Uint8Array(ENTRY_BYTES - 2);
  const view = new DataView(fields.buffer);
  view.setUint8(0, KINDS.indexOf(kind));
  view.setUint8(1, isExecutable ? EXECUTABLE : 0);
  view.setBigUint64(2, BigInt(modifiedMs));
  view.setBigUint64(10, BigInt(size));
  const name = encodeText(path);
  return target === undefined ? concat(fields, name) : concat(fields, name, encodeText(target));
}

function readEntry(reader: ByteReader): ManifestEntry {
  const kind = oneOf(KINDS, reader.uint8("kind"), "kind of an entry");
  const isExecutable = (reader.uint8("flags") & EXECUTABLE) !== 0;
  const modifiedMs = readUint64(reader, "time of an entry");
  const size = readUint64(reader, "size of an entry");
  const path = readText(reader, "path");
  const entry = { kind, path, size, modifiedMs, isExecutable };
  return kind === "link" ? { ...entry, target: readText(reader, "target") } : entry;
}

function encodeSkipped({ path, reason }: SkippedEntry): Uint8Array {
  return concat(Uint8Array.of(SKIP_REASONS.indexOf(reason)), encodeText(path));
}

function readSkipped(reader: ByteReader): SkippedEntry {
  const reason = oneOf(SKIP_REASONS, reader.uint8("reason"), "reason of a skipped file");
  return { path: readText(reader, "path"), reason };
}

function encodeHeld(held: HeldEntry): Uint8Array {
  const start = concat(uint32(held.index), Uint8Array.of(STATES.indexOf(held.state)));
  if (!("hash" in held)) return start;
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(held.length));
  return concat(start, length, held.hash);
}

function readHeld(reader: ByteReader): HeldEntry {
  const index = reader.uint32("entry");
  const state = oneOf(STATES, reader.uint8("state"), "state of an entry");
  if (state !== "part" && state !== "whole") return { index, state };
  const length = readUint64(reader, "length of an entry");
  return { index, state, length, hash: reader.bytes(HASH_BYTES, "hash of an entry") };
}

function readStep(reader: ByteReader): PlanStep {
  return oneOf(STEPS, reader.uint8("step"), "step");
}

function encodeRefused({ index, reason }: RefusedEntry): Uint8Array {
  return concat(uint32(index), Uint8Array.of(REFUSALS.indexOf(reason)));
}

function readRefused(reader: ByteReader): RefusedEntry {
  const index = reader.uint32("entry");
  return { index, reason: oneOf(REFUSALS, reader.uint8("reason"), "reason of a refusal") };
}

function typeNumber(type: TransferHeader["type"]): number {
  return TYPES.indexOf(type) + 1;
}

/** The length of a header. */
export const HEADER_BYTES = 5;

/** The length of a SHA-256 hash. */
export const HASH_BYTES = 32;

/** The most bytes in one DATA message. Chosen by us: the cost of a header per message is negligible. */
export const MAX_DATA_BYTES = 1024 * 1024;

/** The longest reason in a REFUSAL. Chosen by us: room for a sentence with a path in it. */
export const MAX_REASON_BYTES = 1000;

/** The version of this protocol, in OFFER. */
export const VERSION = 2;

/** The length of the body of OFFER. */
export const OFFER_BYTES = 5;

/** The most bytes in one ENTRIES, SKIPPED or HELD. Chosen by us: small enough to be read at once. */
export const MAX_LIST_BYTES = 64 * 1024;

/** The most bytes of an entry in HELD. */
export const MAX_HELD_BYTES = 13 + HASH_BYTES;

/** The length of an entry in DONE. */
export const REFUSED_BYTES = 5;

/** The least that an entry takes in ENTRIES. */
const ENTRY_BYTES = 20;

/** Of one UTF-16 code unit. */
const MAX_UTF8_BYTES = 3;

const MAGIC = utf8("PLFT");
const EXECUTABLE = 1;

/** In the order of their numbers, from 1, so that zeros are not a message. */
const TYPES = [
  ...["offer", "answer", "plan", "data", "end", "done", "refusal"] as const,
  ...["entries", "skipped", "offered", "held", "failed"] as const,
] as const;

// In the order of their numbers, from 0.
const KINDS = ["file", "folder", "link"] as const;
const SKIP_REASONS = ["link", "other", "missing", "unreadable"] as const;
const STATES = ["done", "refused", "part", "whole", "compare"] as const;
const STEPS = ["keep", "send", "continue", "compare"] as const;
const FAILURES = ["changed", "unreadable"] as const;
const REFUSALS = ["name", "link", "exists", "hidden"] as const;
const CODES = ["declined", "failed"] as const;
