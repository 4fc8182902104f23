/**
 * Keys from usernames and passwords (RFC 8489 §9), which are prepared as RFC 8265 specifies.
 *
 * @module
 */

import { hash } from "../base/crypto.ts";

/** A username and password that the server knows: RFC 8489 §9.2. */
export interface LongTermCredential {
  /** Any text that RFC 8265 §4.2 allows. */
  readonly username: string;
  /** Any text that RFC 8265 §4.2 allows. */
  readonly password: string;
}

/** The security features that a nonce announces: RFC 8489 §9.2 and §18.1. */
export interface SecurityFeatures {
  /** The server sent PASSWORD-ALGORITHMS. If it is missing, an attacker has removed it. */
  readonly passwordAlgorithms: boolean;
  /** The server accepts USERHASH in place of USERNAME. */
  readonly usernameAnonymity: boolean;
}

/**
 * The key of a long-term credential: RFC 8489 §9.2.2 (MD5) and §18.5.1.
 *
 * @throws {TypeError} if RFC 8265 does not allow the username or the password
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
 * @throws {TypeError} if RFC 8265 does not allow the password
 */
export function shortTermKey(password: string): Uint8Array {
  return utf8(opaqueString(password));
}

/**
 * The value of USERHASH, which hides the username: RFC 8489 §14.4.
 *
 * @throws {TypeError} if RFC 8265 does not allow the username
 */
export function userHash(username: string, realm: string): Uint8Array {
  return hash("sha256", utf8(`${opaqueString(username)}:${mapOpaque(realm)}`));
}

/**
 * Prepares a username or password to be hashed and sent, as the OpaqueString profile of RFC 8265 §4.2 specifies:
 * non-ASCII spaces become U+0020, and the text is put into Unicode normalization form C. (The contextual rules for
 * joiners are not checked.)
 *
 * @example
 * ```ts
 * import { opaqueString } from "./credentials.ts";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(opaqueString("pass\u00a0e\u0301"), "pass \u00e9");
 * ```
 *
 * @throws {TypeError} if the text is empty or has a character that RFC 8264 §4.3 does not allow
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

/** The security features that a nonce announces; `undefined` if it has no nonce cookie, as in RFC 5389. */
export function securityFeatures(nonce: string): SecurityFeatures | undefined {
  const digits = new RegExp(`^${NONCE_COOKIE}([A-Za-z0-9+/]{4})`).exec(nonce)?.[1];
  if (digits === undefined) return undefined;
  const lastByte = atob(digits).charCodeAt(2);
  return {
    passwordAlgorithms: (lastByte & PASSWORD_ALGORITHMS_BIT) !== 0,
    usernameAnonymity: (lastByte & USERNAME_ANONYMITY_BIT) !== 0,
  };
}

/** The mapping of RFC 8265 §4.2.1 without its checks: a realm is hashed as the server sent it. */
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

/** RFC 8489 §18.1: in the 24 bits after the cookie; bit 0 is the rightmost. */
const PASSWORD_ALGORITHMS_BIT = 1 << 0;
const USERNAME_ANONYMITY_BIT = 1 << 1;
