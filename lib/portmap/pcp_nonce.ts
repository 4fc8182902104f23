/**
 * Mapping nonces that a program finds again after it died: RFC 6887 §11.1 has a server change and delete a mapping
 * only for who knows its nonce.
 *
 * @module
 */

import { concat } from "../base/bytes.ts";
import { hmac } from "../base/crypto.ts";
import type { TransportAddress } from "../net/address.ts";
import { pcpAddressBytes } from "./pcp_address.ts";

/**
 * The nonce of a mapping: the first 12 bytes of HMAC-SHA256 with the secret as its key, over the text
 * `punchline pcp nonce`, a byte of the IANA's protocol number, the sixteen bytes of the internal address as PCP writes
 * them, and the internal port in network order. The same always gives the same; without the secret nobody can tell
 * one from another.
 *
 * @param protocol the IANA's number
 * @throws {RangeError} if the secret has fewer than 16 bytes
 */
export function derivePcpNonce(
  secret: Uint8Array,
  protocol: number,
  internal: TransportAddress,
): Uint8Array {
  if (secret.length < MIN_SECRET_LENGTH) {
    throw new RangeError(
      `Cannot derive nonce: a secret has at least ${MIN_SECRET_LENGTH} bytes, not ${secret.length}`,
    );
  }
  const what = concat(
    new TextEncoder().encode(CONTEXT),
    Uint8Array.of(protocol),
    pcpAddressBytes(internal.ip),
    Uint8Array.of(internal.port >> 8, internal.port),
  );
  return hmac("sha256", secret, what).slice(0, NONCE_LENGTH);
}

/**
 * The nonce in a grant's handle.
 *
 * @throws {TypeError} if the text is not 24 hexadecimal digits
 */
export function pcpNonceFromHex(hex: string): Uint8Array {
  if (!/^[0-9a-f]{24}$/.test(hex)) {
    throw new TypeError(`Cannot read nonce: ${JSON.stringify(hex)} is not 24 hexadecimal digits`);
  }
  return Uint8Array.from({ length: NONCE_LENGTH }, (_, index) => {
    return parseInt(hex.slice(2 * index, 2 * index + 2), 16);
  });
}

const CONTEXT = "punchline pcp nonce";

/** RFC 6887 §11.1: 96 bits. */
const NONCE_LENGTH = 12;

/** Ours: what cannot be guessed. */
const MIN_SECRET_LENGTH = 16;
