/**
 * The hashes that protocols from before Web Crypto ask for, synchronous so that codecs can stay so.
 *
 * @module
 */

import { createHash, createHmac, timingSafeEqual } from "node:crypto";

/** A hash of RFC 1321 (MD5), RFC 3174 (SHA-1) or RFC 6234 (SHA-256). */
export type HashAlgorithm = "md5" | "sha1" | "sha256";

/** The digest of the bytes: 16 (MD5), 20 (SHA-1) or 32 (SHA-256) bytes. */
export function hash(algorithm: HashAlgorithm, data: Uint8Array): Uint8Array {
  return plain(createHash(algorithm).update(data).digest());
}

/** The HMAC (RFC 2104) of the parts joined, as long as the digest of the hash. */
export function hmac(
  algorithm: HashAlgorithm,
  key: Uint8Array,
  ...parts: readonly Uint8Array[]
): Uint8Array {
  const mac = createHmac(algorithm, key);
  for (const part of parts) mac.update(part);
  return plain(mac.digest());
}

/** Whether two secrets are equal, in a time that depends on their lengths alone. */
export function equalSecrets(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

/** The same bytes without what Node's `Buffer` adds to them. */
function plain({ buffer, byteOffset, length }: Uint8Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, length);
}
