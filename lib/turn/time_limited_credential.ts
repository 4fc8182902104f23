/**
 * Time-limited credentials: draft-uberti-behave-turn-rest-00, coturn's `--use-auth-secret`.
 *
 * @module
 */

import { hmac } from "../base/crypto.ts";
import type { LongTermCredential } from "../stun/credentials.ts";

/** What {@linkcode timeLimitedCredential} takes. */
export interface TimeLimitedCredentialOptions {
  /** Until when the server takes it: Unix time, as in `Date.now() / 1000 + 3600`. */
  readonly expiresAtSeconds: number;
  /** Who it is for; the server does not care. */
  readonly user?: string;
}

/**
 * The credential that who shares a secret with a TURN server makes for somebody else: the username is
 * `expiry:user`, and the password the HMAC-SHA1 of that under the secret.
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
