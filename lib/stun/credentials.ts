/**
 * From names and passwords to keys: RFC 8489 §9, with the strings prepared as RFC 8265 says.
 *
 * @module
 */

import { hash } from "../base/crypto.ts";

/** A name and a password that the server knows: RFC 8489 §9.2. */
export interface LongTermCredential {
  /** An {@linkcode opaqueString}, or what can be made one. */
  readonly username: string;
  /** An {@linkcode opaqueString}, or what can be made one. */
  readonly password: string;
}

/** What the nonce cookie promises: RFC 8489 §9.2 and §18.1. */
export interface SecurityFeatures {
  /** PASSWORD-ALGORITHMS was sent; where it is missing, someone removed it. */
  readonly passwordAlgorithms: boolean;
  /** USERHASH is understood in place of USERNAME. */
  readonly usernameAnonymity: boolean;
}

/**
 * The key of a long-term credential: RFC 8489 §9.2.2 (MD5) and §18.5.1.
 *
 * @throws {TypeError} if the username or the password is no {@linkcode opaqueString}
 */
export function longTermKey(
  credential: LongTermCredential,
  options: { readonly realm: string; readonly algorithm: "MD5" | "SHA-256" },
): Uint8Array {
  const username = opaqueString(credential.username);
  const password = opaqueString(credential.password);
  const text = `${username}:${mapOpaque(options.realm)}:${password}`;
  return hash(options.algorithm === "MD5" ? "md5" : "sha256", utf8(text));
}

/**
 * The key of a short-term credential: RFC 8489 §9.1.1.
 *
 * @throws {TypeError} if the password is no {@linkcode opaqueString}
 */
export function shortTermKey(password: string): Uint8Array {
  return utf8(opaqueString(password));
}

/**
 * What USERHASH holds, so that the username does not travel: RFC 8489 §14.4.
 *
 * @throws {TypeError} if the username is no {@linkcode opaqueString}
 */
export function userHash(username: string, realm: string): Uint8Array {
  return hash("sha256", utf8(`${opaqueString(username)}:${mapOpaque(realm)}`));
}

/**
 * A username or password as it is hashed and sent: RFC 8265 §4.2. Other spaces become U+0020, and the text
 * is in Unicode normalization form C. (The contextual rules of joiners are not checked.)
 *
 * @example
 * ```ts
 * import { opaqueString } from "@punchline/punchline/stun";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(opaqueString("pass\u00a0e\u0301"), "pass \u00e9");
 * ```
 *
 * @throws {TypeError} if it is empty or has a character that RFC 8264 §4.3 does not allow
 */
export function opaqueString(text: string): string {
  const mapped = mapOpaque(text);
  if (mapped === "") throw new TypeError("Cannot prepare credential: it is empty");
  const disallowed = DISALLOWED.exec(mapped)?.[0];
  if (disallowed !== undefined) {
    const codePoint = disallowed.codePointAt(0)!.toString(16).padStart(4, "0").toUpperCase();
    throw new TypeError(`Cannot prepare credential: U+${codePoint} is not allowed in it`);
  }
  return mapped;
}

/** What a nonce promises, or `undefined` if it is one of RFC 5389, without the cookie. */
export function securityFeatures(nonce: string): SecurityFeatures | undefined {
  const digits = new RegExp(`^${NONCE_COOKIE}([A-Za-z0-9+/]{4})`).exec(nonce)?.[1];
  if (digits === undefined) return undefined;
  const lastByte = atob(digits).charCodeAt(2);
  return {
    passwordAlgorithms: (lastByte & PASSWORD_ALGORITHMS_BIT) !== 0,
    usernameAnonymity: (lastByte & USERNAME_ANONYMITY_BIT) !== 0,
  };
}

/** A nonce that makes these promises; `random` is what makes it a nonce. */
export function nonceWithFeatures(features: SecurityFeatures, random: string): string {
  const bits = (features.passwordAlgorithms ? PASSWORD_ALGORITHMS_BIT : 0) |
    (features.usernameAnonymity ? USERNAME_ANONYMITY_BIT : 0);
  return NONCE_COOKIE + btoa(String.fromCharCode(0, 0, bits)) + random;
}

/** The mapping of RFC 8265 §4.2.1 alone: a realm is the server's word, to be hashed and not judged. */
function mapOpaque(text: string): string {
  return text.replace(/\p{Zs}/gu, " ").normalize("NFC");
}

function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** RFC 8264 §4.3.3: controls, unassigned and ignorable characters, line separators, old Hangul jamo. */
const DISALLOWED =
  /(?![\u200c\u200d])[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u1100-\u11ff\ua960-\ua97c\ud7b0-\ud7fb]/u;

/** RFC 8489 §9.2. */
const NONCE_COOKIE = "obMatJos2";

/** RFC 8489 §18.1, of the 24 bits behind the cookie; bit 0 is the rightmost. */
const PASSWORD_ALGORITHMS_BIT = 1 << 0;
const USERNAME_ANONYMITY_BIT = 1 << 1;
