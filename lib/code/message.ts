/**
 * The messages with which a ticket is handed over for a code:
 *
 * ```text
 * "PNK", version (4) | kind (1) | id (16) | content
 *
 * 1 hello    redeemer to offerer   share (32)
 * 2 share    offerer to redeemer   share (32)
 * 3 confirm  redeemer to offerer   share (32) | offerer's share (32) | tag (32)
 * 4 ticket   offerer to redeemer   tag (32) | ciphertext (16 to 4000)
 * 5 refusal  offerer to redeemer   reason (1): 1 wrong, 2 spent, 3 expired, 4 out of guesses
 * 6 probe    new offerer to others
 * 7 taken    offerer to new offerer
 * ```
 *
 * Hello, confirm, probe and taken are published at the meeting place, the others under a topic that follows from the ID.
 * The redeemer, or the new offerer, chooses the ID at random.
 *
 * @module
 */

import { ByteReader, concat, equalBytes } from "../base/bytes.ts";
import { malformed } from "../base/errors.ts";

/** A message of the protocol; `id` has 16 bytes, shares and tags have 32. */
export type CodeMessage =
  | { readonly kind: "hello"; readonly id: Uint8Array; readonly share: Uint8Array }
  | { readonly kind: "share"; readonly id: Uint8Array; readonly share: Uint8Array }
  | ConfirmMessage
  | {
    readonly kind: "ticket";
    readonly id: Uint8Array;
    readonly tag: Uint8Array;
    readonly ciphertext: Uint8Array;
  }
  | { readonly kind: "refusal"; readonly id: Uint8Array; readonly reason: RefusalReason }
  | { readonly kind: "probe"; readonly id: Uint8Array }
  | { readonly kind: "taken"; readonly id: Uint8Array };

/**
 * The redeemer's proof that it knows the words. It repeats both shares: its own, so that the offerer need not remember it,
 * and the other, so that an offerer to which it is not addressed does not take it for a wrong guess.
 */
export interface ConfirmMessage {
  readonly kind: "confirm";
  readonly id: Uint8Array;
  readonly share: Uint8Array;
  readonly offererShare: Uint8Array;
  readonly tag: Uint8Array;
}

/**
 * Why an offerer hands nothing over: the words were wrong, somebody else has used the code, its time is over, or wrong
 * guesses have ended it.
 */
export type RefusalReason = keyof typeof REASONS;

/** The bytes of a message. */
export function encodeCodeMessage(message: CodeMessage): Uint8Array<ArrayBuffer> {
  return concat(MAGIC, Uint8Array.of(KINDS[message.kind]), message.id, ...contentOf(message));
}

/**
 * Reads a message.
 *
 * @throws {MalformedMessageError} if it belongs to another program or version, its kind is unknown, or its length is wrong
 */
export function decodeCodeMessage(bytes: Uint8Array): CodeMessage {
  const reader = new ByteReader(bytes, "code message");
  if (!equalBytes(reader.bytes(MAGIC.length, "magic"), MAGIC)) {
    throw malformed("code message", "magic belongs to another program or version");
  }
  const kind = reader.uint8("kind");
  const id = reader.bytes(CODE_ID_BYTES, "id");
  const message = readContent(reader, kind, id);
  reader.end();
  return message;
}

function contentOf(message: CodeMessage): Uint8Array[] {
  switch (message.kind) {
    case "hello":
    case "share":
      return [message.share];
    case "confirm":
      return [message.share, message.offererShare, message.tag];
    case "ticket":
      return [message.tag, message.ciphertext];
    case "refusal":
      return [Uint8Array.of(REASONS[message.reason])];
    case "probe":
    case "taken":
      return [];
  }
}

function readContent(reader: ByteReader, kind: number, id: Uint8Array): CodeMessage {
  switch (kind) {
    case KINDS.hello:
      return { kind: "hello", id, share: reader.bytes(32, "share") };
    case KINDS.share:
      return { kind: "share", id, share: reader.bytes(32, "share") };
    case KINDS.confirm:
      return {
        kind: "confirm",
        id,
        share: reader.bytes(32, "share"),
        offererShare: reader.bytes(32, "offerer's share"),
        tag: reader.bytes(32, "tag"),
      };
    case KINDS.ticket: {
      const tag = reader.bytes(32, "tag");
      const { remaining } = reader;
      if (remaining < 16 || remaining > MAX_CIPHERTEXT_BYTES) {
        throw malformed("code message", `ciphertext cannot have ${remaining} bytes`);
      }
      return { kind: "ticket", id, tag, ciphertext: reader.bytes(remaining, "ciphertext") };
    }
    case KINDS.refusal: {
      const number = reader.uint8("reason");
      const reason = REASON_NAMES.find((name) => REASONS[name] === number);
      if (reason !== undefined) return { kind: "refusal", id, reason };
      throw malformed("code message", `reason ${number} is unknown`);
    }
    case KINDS.probe:
      return { kind: "probe", id };
    case KINDS.taken:
      return { kind: "taken", id };
    default:
      throw malformed("code message", `kind ${kind} is unknown`);
  }
}

/** How long an ID is. Chosen by us: never drawn twice. */
export const CODE_ID_BYTES = 16;

/** Less than the longest message of a channel, and more than the longest ticket. */
const MAX_CIPHERTEXT_BYTES = 4000;

/** "PNK", and version 1. */
const MAGIC = Uint8Array.of(0x50, 0x4e, 0x4b, 1);

const KINDS = {
  hello: 1,
  share: 2,
  confirm: 3,
  ticket: 4,
  refusal: 5,
  probe: 6,
  taken: 7,
} as const;

const REASONS = { wrong: 1, spent: 2, expired: 3, "out-of-guesses": 4 } as const;

const REASON_NAMES = Object.keys(REASONS) as (keyof typeof REASONS)[];
