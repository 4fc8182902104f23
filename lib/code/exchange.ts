/**
 * What the two sides of a code compute: shares from the words, a key from the shares, the tags with which each proves that
 * it has the key, and the ticket under that key.
 *
 * The key depends on the words, the number, the ID of the request, both shares and the roles. So a message that is
 * relayed to another number, reflected to its sender or repeated in another exchange fits nowhere.
 *
 * @module
 */

import { concat } from "../base/bytes.ts";
import { ChaChaPolyOpener, ChaChaPolySealer, equalSecrets, hkdf, hmac } from "../base/crypto.ts";
import type { Code } from "./code.ts";
import {
  type PakeContext,
  pakeKey,
  type PakeRole,
  type PakeShare,
  pakeShare,
  withLengths,
} from "./pake.ts";

/** The keys of one exchange. */
export interface CodeKeys {
  /** Proves that the redeemer knows the words; 32 bytes. */
  readonly redeemerTag: Uint8Array;
  /** Proves that the offerer does. */
  readonly offererTag: Uint8Array;
  /** Encrypts the ticket, and nothing else. */
  readonly ticketKey: Uint8Array;
}

/**
 * A redeemer's half of an exchange.
 *
 * @param random 64 bytes that others cannot guess
 */
export function redeemerShare(
  code: Code,
  id: Uint8Array,
  random: Uint8Array = crypto.getRandomValues(new Uint8Array(64)),
): PakeShare {
  return pakeShare(contextOf(code, id), random);
}

/**
 * An offerer's half. It follows from a secret and the redeemer's message: another for each exchange, and the offerer need
 * not remember those that are never finished.
 *
 * @param secret 32 random bytes that never leave this side
 */
export function offererShare(
  code: Code,
  secret: Uint8Array,
  request: { readonly id: Uint8Array; readonly share: Uint8Array },
): PakeShare {
  const random = hmac("sha512", secret, request.id, request.share);
  return pakeShare(contextOf(code, request.id), random);
}

/** The keys that both sides have if their words are the same; `undefined` if the other side's share is invalid. */
export function codeKeys(
  id: Uint8Array,
  own: PakeShare & { readonly role: "redeemer" | "offerer" },
  remote: Uint8Array,
): CodeKeys | undefined {
  const role: PakeRole = own.role === "redeemer" ? "initiator" : "responder";
  const shared = pakeKey({ sessionId: id }, { ...own, role }, remote);
  if (shared === undefined) return undefined;
  const keys = hkdf(LABEL, shared, 3 * KEY_BYTES);
  const tagOf = (index: number, side: string) => {
    const key = keys.subarray(index * KEY_BYTES, (index + 1) * KEY_BYTES);
    return hmac("sha256", key, utf8(side), id);
  };
  return {
    redeemerTag: tagOf(0, "redeemer"),
    offererTag: tagOf(1, "offerer"),
    ticketKey: keys.slice(2 * KEY_BYTES),
  };
}

/** Encrypts the ticket. Do this once for each exchange: the nonce is always the same. */
export function sealTicket({ ticketKey }: CodeKeys, id: Uint8Array, ticket: string): Uint8Array {
  const text = utf8(ticket);
  const target = new Uint8Array(text.length + TAG_BYTES);
  return new ChaChaPolySealer(ticketKey, NONCE).seal(id, text, target);
}

/** The ticket, if tag and ciphertext are from the side that knows the words. */
export function openTicket(
  { offererTag, ticketKey }: CodeKeys,
  { id, tag, ciphertext }: {
    readonly id: Uint8Array;
    readonly tag: Uint8Array;
    readonly ciphertext: Uint8Array;
  },
): string | undefined {
  if (!equalSecrets(tag, offererTag)) return undefined;
  const text = new ChaChaPolyOpener(ticketKey, NONCE).open(id, ciphertext);
  return text === undefined ? undefined : new TextDecoder().decode(text);
}

function contextOf({ number, words }: Code, id: Uint8Array): PakeContext {
  const channel = withLengths(LABEL, utf8("redeemer"), utf8("offerer"), utf8(`${number}`));
  return { password: utf8(words.join("-")), channel, sessionId: concat(id) };
}

function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

const LABEL = utf8("punchline code 1");

const KEY_BYTES = 32;

const TAG_BYTES = 16;

/** The key is used once. */
const NONCE = new Uint8Array(12);
