/**
 * CPace (draft-irtf-cfrg-cpace), a password-authenticated key exchange, with ristretto255 (RFC 9496) and SHA-512.
 *
 * Two sides that know the same password derive the same key from one message each. An eavesdropper learns nothing about
 * the password, and whoever takes part without knowing it can test one guess, and only if the other side goes on to prove
 * that it has the key.
 *
 * Loaded only where a code is used: the curve arithmetic of `@noble/curves` takes some ten milliseconds to load.
 *
 * @module
 */

import { concat } from "../base/bytes.ts";
import { hash } from "../base/crypto.ts";
import { ristretto255, ristretto255_hasher } from "@noble/curves/ed25519.js";

/** What both sides have to agree on. */
export interface PakeContext {
  /** The password, `PRS` in the draft. */
  readonly password: Uint8Array;
  /** Who the two sides are and what the key is for, `CI`. */
  readonly channel: Uint8Array;
  /** Names this exchange, `sid`. */
  readonly sessionId: Uint8Array;
}

/** One side's half of an exchange. */
export interface PakeShare {
  /** Secret: a number in 32 bytes, little-endian. */
  readonly scalar: Uint8Array;
  /** What the other side gets: 32 bytes. */
  readonly share: Uint8Array<ArrayBuffer>;
}

/**
 * Makes this side's half.
 *
 * @param random 64 bytes that others cannot guess; never use them for two exchanges
 */
export function pakeShare(context: PakeContext, random: Uint8Array): PakeShare {
  const scalar = littleEndian(toNumber(random) % ORDER || 1n); // RFC 9496 §4.4
  const share = bytesOf(pakeGenerator(context).multiply(toNumber(scalar)));
  return { scalar, share };
}

/** Whether the bytes are a share that an exchange may go on with: an element of the group, and not the neutral one. */
export function isPakeShare(bytes: Uint8Array): boolean {
  return decodeElement(bytes) !== undefined;
}

/**
 * Derives the key, `ISK`, from this side's half and the other side's share.
 *
 * @param own this side's role and half
 * @param remote the other side's share
 * @returns 64 bytes; `undefined` if the other side's share is invalid, which ends the exchange
 */
export function pakeKey(
  { sessionId }: Pick<PakeContext, "sessionId">,
  own: PakeShare & { readonly role: PakeRole },
  remote: Uint8Array,
  data: PakeData = NO_DATA,
): Uint8Array<ArrayBuffer> | undefined {
  const shared = multiply(own.scalar, remote);
  if (shared === undefined) return undefined;
  const [initiator, responder] = own.role === "initiator"
    ? [own.share, remote]
    : [remote, own.share];
  return hash(
    "sha512",
    concat(
      withLengths(concat(DOMAIN, utf8("_ISK")), sessionId, shared),
      withLengths(initiator, data.initiator),
      withLengths(responder, data.responder),
    ),
  );
}

/** The two sides: the initiator sends the first message. */
export type PakeRole = "initiator" | "responder";

/** What the two sides sent together with their shares, `ADa` and `ADb`. */
export interface PakeData {
  readonly initiator: Uint8Array;
  readonly responder: Uint8Array;
}

/** The scalar multiplication `scalar_mult_vfy` of the draft; `undefined` stands for the neutral element. */
export function multiply(
  scalar: Uint8Array,
  element: Uint8Array,
): Uint8Array<ArrayBuffer> | undefined {
  const point = decodeElement(element);
  const factor = toNumber(scalar) % ORDER;
  return point === undefined || factor === 0n ? undefined : bytesOf(point.multiply(factor));
}

/** The generator that follows from the password, `calculate_generator` in the draft; 32 bytes. */
export function generatorOf(context: PakeContext): Uint8Array<ArrayBuffer> {
  return bytesOf(pakeGenerator(context));
}

type Element = InstanceType<typeof ristretto255.Point>;

function pakeGenerator({ password, channel, sessionId }: PakeContext): Element {
  // The padding fills the first block of the hash, so that what follows does not depend on the password's length.
  const start = withLengths(DOMAIN, password);
  const padding = new Uint8Array(Math.max(0, SHA512_BLOCK_BYTES - 1 - start.length));
  const text = concat(start, withLengths(padding, channel, sessionId));
  return ristretto255_hasher.deriveToCurve!(hash("sha512", text)) as Element;
}

function decodeElement(bytes: Uint8Array): Element | undefined {
  if (bytes.length !== SHARE_BYTES) return undefined;
  try {
    const point = ristretto255.Point.fromBytes(bytes);
    return point.is0() ? undefined : point;
  } catch { // not the canonical encoding of an element
    return undefined;
  }
}

/** `lv_cat` of the draft: each part after its length in LEB128. */
export function withLengths(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  return concat(...parts.flatMap((part) => [leb128(part.length), part]));
}

function leb128(value: number): Uint8Array {
  const bytes: number[] = [];
  for (let rest = value; bytes.length === 0 || rest > 0; rest >>>= 7) {
    bytes.push(rest < 128 ? rest : rest & 127 | 128);
  }
  return Uint8Array.from(bytes);
}

function toNumber(bytes: Uint8Array): bigint {
  return bytes.reduceRight((number, byte) => number << 8n | BigInt(byte), 0n);
}

function littleEndian(number: bigint): Uint8Array {
  return Uint8Array.from(
    { length: SHARE_BYTES },
    (_, index) => Number(number >> BigInt(8 * index) & 255n),
  );
}

function bytesOf(element: Element): Uint8Array<ArrayBuffer> {
  return new Uint8Array(element.toBytes());
}

function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** How long a share is (RFC 9496 §4.3.2). */
const SHARE_BYTES = 32;

const DOMAIN = utf8("CPaceRistretto255");

/** The block of SHA-512 (RFC 6234 §1), `s_in_bytes` in the draft. */
const SHA512_BLOCK_BYTES = 128;

/** The order of the group (RFC 9496 §4). */
const ORDER = 2n ** 252n + 27742317777372353535851937790883648493n;

const NO_DATA: PakeData = { initiator: new Uint8Array(0), responder: new Uint8Array(0) };
