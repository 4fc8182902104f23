/**
 * Time-limited credentials: draft-uberti-behave-turn-rest-00, the `--use-auth-secret` of coturn.
 *
 * @module
 */

import { hmac } from "../base/crypto.ts";
import type { LongTermCredential } from "../stun/credentials.ts";

/** Options of {@linkcode timeLimitedCredential}. */
export interface TimeLimitedCredentialOptions {
  /** When it expires: Unix time in seconds, such as `Date.now() / 1000 + 3600`. */
  readonly expiresAtSeconds: number;
  /** The user that it is for. The server ignores it. */
  readonly user?: string;
}

/**
 * Makes a credential for a user from a secret that is shared with a TURN server. The username is `expiry:user`, and the
 * password is the HMAC-SHA1 of the username with the secret as its key.
 *
 * @example
 * ```ts
 * import { timeLimitedCredential } from "@punchline/punchline/turn";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(timeLimitedCredential("north", { expiresAtSeconds: 1893456000, user: "ann" }), {
 *   username: "1893456000:ann",
 *   password: "JIagwY65BbxnoeLULbPhgspXzeU=",
 * });
 * ```
 */
export function timeLimitedCredential(
  secret: string,
  { expiresAtSeconds, user }: TimeLimitedCredentialOptions,
): LongTermCredential {
  const seconds = Math.floor(expiresAtSeconds);
  const username = user === undefined ? `${seconds}` : `${seconds}:${user}`;
  const encoder = new TextEncoder();
  const mac = hmac("sha1", encoder.encode(secret), encoder.encode(username));
  return { username, password: btoa(String.fromCharCode(...mac)) };
}
