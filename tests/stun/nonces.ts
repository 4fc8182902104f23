/**
 * Nonces of servers that support the security features of RFC 8489.
 *
 * @module
 */

import type { SecurityFeatures } from "../../lib/stun/credentials.ts";

/** A nonce that announces these features, followed by `random`. */
export function nonceWithFeatures(features: SecurityFeatures, random: string): string {
  const bits = (features.passwordAlgorithms ? 1 : 0) | (features.usernameAnonymity ? 2 : 0);
  return NONCE_COOKIE + btoa(String.fromCharCode(0, 0, bits)) + random;
}

/** RFC 8489 §9.2. */
const NONCE_COOKIE = "obMatJos2";
