/**
 * The long-term credential mechanism of a client: RFC 8489 §9.2. Decides how the next request is
 * authenticated, from what the server demanded.
 *
 * @module
 */

import { RefusedError } from "../base/errors.ts";
import type { StunAttribute } from "./attributes.ts";
import {
  type LongTermCredential,
  longTermKey,
  opaqueString,
  securityFeatures,
  userHash,
} from "./credentials.ts";
import type { MessageIntegrity } from "./integrity.ts";
import { getAttribute, type StunMessage } from "./message.ts";
import type { PasswordAlgorithm } from "./password_algorithm.ts";

/** How requests are authenticated until the server says otherwise. */
export interface Authentication {
  /** How the key was made of the credential. */
  readonly algorithm: "MD5" | "SHA-256";
  /** To go with every request. */
  readonly attributes: readonly StunAttribute[];
  /** To be added to every request, and to be found in every success. */
  readonly integrity: MessageIntegrity;
}

/**
 * The answer to a challenge, which is an error 401 (Unauthenticated) or 438 (Stale Nonce).
 *
 * @param previous how the challenged request was authenticated, if it was
 * @throws {RefusedError} if the challenge is incomplete, asks for what is not known here, or was tampered
 * with to get a weaker answer
 * @throws {TypeError} if the credential is no text that RFC 8265 allows
 */
export function answerChallenge(
  challenge: StunMessage,
  credential: LongTermCredential,
  previous?: Authentication,
): Authentication {
  const realm = getAttribute(challenge, "REALM");
  const nonce = getAttribute(challenge, "NONCE");
  if (realm === undefined || nonce === undefined) {
    throw refuse(challenge, "the challenge has no REALM or no NONCE");
  }
  const features = securityFeatures(nonce);
  const offered = getAttribute(challenge, "PASSWORD-ALGORITHMS");
  if (features?.passwordAlgorithms && offered === undefined) {
    // RFC 8489 §9.2.5: someone on the way removed them, to be answered with a weaker hash.
    throw refuse(challenge, "the nonce promises PASSWORD-ALGORITHMS, and there are none");
  }
  const common: StunAttribute[] = [
    features?.usernameAnonymity
      ? { type: "USERHASH", value: userHash(credential.username, realm) }
      : { type: "USERNAME", value: opaqueString(credential.username) },
    { type: "REALM", value: realm },
    { type: "NONCE", value: nonce },
  ];

  const isNegotiated = features?.passwordAlgorithms && offered !== undefined;
  const algorithm = isNegotiated ? strongest(offered) : "MD5";
  if (algorithm === undefined) throw refuse(challenge, "it takes neither SHA-256 nor MD5");
  if (previous?.algorithm === "SHA-256" && algorithm === "MD5") {
    throw refuse(challenge, "after SHA-256 the server asks for less");
  }
  const key = longTermKey(credential, { realm, algorithm });
  if (!isNegotiated) {
    return { algorithm, attributes: common, integrity: { algorithm: "sha1", key } };
  }
  return {
    algorithm,
    attributes: [
      ...common,
      { type: "PASSWORD-ALGORITHMS", value: offered },
      { type: "PASSWORD-ALGORITHM", value: { algorithm, parameters: new Uint8Array() } },
    ],
    integrity: { algorithm: "sha256", key },
  };
}

/** The best that both know, whatever the server likes best. */
function strongest(offered: readonly PasswordAlgorithm[]): "SHA-256" | "MD5" | undefined {
  const names = offered.map(({ algorithm }) => algorithm);
  return (["SHA-256", "MD5"] as const).find((name) => names.includes(name));
}

function refuse(challenge: StunMessage, rule: string): RefusedError {
  const code = getAttribute(challenge, "ERROR-CODE")?.code ?? 401;
  return new RefusedError(`Cannot answer STUN challenge ${code}: ${rule}`, code);
}
