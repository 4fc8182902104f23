/**
 * Requests to one server, with long-term credentials once it demands them: RFC 8489 §6.2, §6.3 and §9.2.
 *
 * @module
 */

import { equalBytes } from "../base/bytes.ts";
import { MalformedMessageError, RefusedError } from "../base/errors.ts";
import {
  formatTransportAddress,
  ipFamily,
  ipScope,
  sameTransportAddress,
  type TransportAddress,
} from "../net/address.ts";
import type { Exchanged } from "../net/retransmit.ts";
import type { PasswordAlgorithm, StunErrorCode } from "./attribute_tables.ts";
import type { StunAttribute } from "./attributes.ts";
import {
  type LongTermCredential,
  longTermKey,
  opaqueString,
  securityFeatures,
  userHash,
} from "./credentials.ts";
import { type MessageIntegrity, verifyIntegrity } from "./integrity.ts";
import {
  decodeMessage,
  encodeMessage,
  getAttribute,
  protectedPart,
  type StunMessage,
  unknownRequiredAttributes,
} from "./message.ts";
import type { StunChannel } from "./transport.ts";

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

/** How to tell of a refusal. */
export interface RefusedErrorOptions {
  /** Who refused. */
  readonly server: TransportAddress;
  /** What could not be done, as in `get mapped address`. */
  readonly action: string;
  /** What to do about it. */
  readonly remedy?: string;
}

/**
 * What an error response says.
 *
 * @throws {MalformedMessageError} if it says nothing
 */
export function errorOf(response: StunMessage, server: TransportAddress): StunErrorCode {
  const error = getAttribute(response, "ERROR-CODE");
  if (error !== undefined) return error;
  throw new MalformedMessageError(
    `Cannot understand ${formatTransportAddress(server)}: its error has no ERROR-CODE`,
  );
}

/**
 * An error response as an error, without what a terminal would obey.
 *
 * @throws {MalformedMessageError} if the response has no ERROR-CODE
 */
export function refusedError(response: StunMessage, options: RefusedErrorOptions): RefusedError {
  const { server, action, remedy } = options;
  const { code, reason } = errorOf(response, server);
  const phrase = reason.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "").trim() || "no reason given";
  const unknown = getAttribute(response, "UNKNOWN-ATTRIBUTES") ?? [];
  return new RefusedError(
    `Cannot ${action}: ${formatTransportAddress(server)} answered ${code} (${phrase})` +
      (unknown.length === 0 ? "" : ` for ${listCodes(unknown)}`) +
      (remedy === undefined ? "" : `; ${remedy}`),
    code,
  );
}

/** Numbers of attributes, for people. */
export function listCodes(codes: readonly number[]): string {
  return codes.map((code) => `0x${code.toString(16).padStart(4, "0")}`).join(", ");
}

/** What to ask. */
export interface StunRequest {
  readonly method: number;
  readonly attributes: readonly StunAttribute[];
}

/** Asks one server, and remembers how it wants to be asked. */
export class AuthenticatedTransaction {
  readonly #server: TransportAddress;
  readonly #credential: LongTermCredential | undefined;
  #authentication: Authentication | undefined;

  /** @param credential for servers that demand one */
  constructor(server: TransportAddress, credential?: LongTermCredential) {
    this.#server = server;
    this.#credential = credential;
  }

  /** Another one, on another connection, which knows already what the server demanded here. */
  fork(): AuthenticatedTransaction {
    const other = new AuthenticatedTransaction(this.#server, this.#credential);
    other.#authentication = this.#authentication;
    return other;
  }

  /**
   * Asks, and asks again with what a challenge demands.
   *
   * @returns a success, or an error with an ERROR-CODE that is no challenge to be answered. What their
   * integrity does not protect is left out.
   * @throws {RefusedError} if a challenge cannot be answered
   * @throws {TypeError} if the credential is no text that RFC 8265 allows
   * @throws {MalformedMessageError} if the response makes no sense, or what answers does not speak STUN
   * @throws {NoResponseError} if none came in time
   */
  async ask(channel: StunChannel, question: StunRequest): Promise<Exchanged<StunMessage>> {
    // RFC 8489 §9.2.5: who has answered one demand for credentials does not answer the next. A demand for
    // those that worked before means that the server has another realm, or was started again.
    let mayAuthenticate = true;
    for (let challenges = 0;; challenges++) {
      const exchanged = await this.#transact(channel, question);
      const { answer: response } = exchanged;
      this.#checkUnderstood(response);
      if (response.class === "success") return exchanged;

      const { code } = errorOf(response, this.#server);
      const answerable = code === STALE_NONCE || (code === UNAUTHENTICATED && mayAuthenticate);
      if (!answerable || this.#credential === undefined || challenges === MAX_CHALLENGES) {
        return exchanged;
      }
      mayAuthenticate &&= code !== UNAUTHENTICATED;
      this.#authentication = answerChallenge(response, this.#credential, this.#authentication);
    }
  }

  /** The bytes of a request as the server wants it, for who waits for no response. */
  encode({ method, attributes }: StunRequest): Uint8Array<ArrayBuffer> {
    return this.#encode({ method, attributes }, newTransactionId());
  }

  #transact(channel: StunChannel, question: StunRequest): Promise<Exchanged<StunMessage>> {
    const authentication = this.#authentication;
    // RFC 8489 §6.2: what is not a retransmission has an id of its own.
    const transactionId = newTransactionId();
    return channel.transact(this.#encode(question, transactionId), (bytes) => {
      const response = decodeMessage(bytes);
      const { class: kind, method } = response;
      if (kind !== "success" && kind !== "error" || method !== question.method) return undefined;
      if (!equalBytes(response.transactionId, transactionId)) return undefined;
      if (authentication === undefined) return response;
      const integrity = verifyIntegrity(bytes, authentication.integrity);
      if (integrity === "valid") return protectedPart(response);
      // RFC 8489 §9.2.5: as if it had not come. An error without integrity is let through, because servers
      // that cannot tell who asks send such; all that it can do is to end the request.
      return kind === "error" && integrity === "absent" ? response : undefined;
    });
  }

  #encode({ method, attributes }: StunRequest, transactionId: Uint8Array) {
    const { attributes: ours = [], integrity } = this.#authentication ?? {};
    return encodeMessage(
      { class: "request", method, transactionId, attributes: [...attributes, ...ours] },
      { integrity },
    );
  }

  /** RFC 8489 §6.3.3 and §6.3.4. */
  #checkUnderstood(response: StunMessage): void {
    const unknown = unknownRequiredAttributes(response);
    if (unknown.length === 0) return;
    throw new MalformedMessageError(
      `Cannot understand ${formatTransportAddress(this.#server)}: ` +
        `its response has attributes nobody may skip, ${listCodes(unknown)}`,
    );
  }
}

function newTransactionId(): Uint8Array<ArrayBuffer> {
  return crypto.getRandomValues(new Uint8Array(12));
}

/** RFC 8489 §14.8. */
const UNAUTHENTICATED = 401;
const STALE_NONCE = 438;

/** Ours: one demand for credentials, and two nonces that went stale while the request was on its way. */
const MAX_CHALLENGES = 3;

/** Whom to ask. */
export interface ServerTarget {
  readonly address: TransportAddress;
  /** The name in the certificate, for TLS. */
  readonly hostname: string;
}

/** What asking a server comes to. */
export type AnswerOrAlternate<T> =
  | { readonly kind: "answer"; readonly answer: T }
  | { readonly kind: "alternate"; readonly alternate: ServerTarget };

/**
 * Whom an error response sends to, if it does.
 *
 * @param hostname the name that was asked for, which the alternate has too unless it says otherwise
 */
export function alternateOf(response: StunMessage, hostname: string): ServerTarget | undefined {
  const code = getAttribute(response, "ERROR-CODE")?.code;
  const address = getAttribute(response, "ALTERNATE-SERVER");
  if (code !== TRY_ALTERNATE || address === undefined) return undefined;
  return { address, hostname: getAttribute(response, "ALTERNATE-DOMAIN") ?? hostname };
}

/**
 * Asks one server, and those that it sends to, until one answers.
 *
 * @throws {RefusedError} 300, if a server sends to where nobody should go
 */
export async function askWithAlternates<T>(
  first: ServerTarget,
  ask: (target: ServerTarget) => Promise<AnswerOrAlternate<T>>,
): Promise<T> {
  const asked: TransportAddress[] = [];
  let target = first;
  while (true) {
    asked.push(target.address);
    const outcome = await ask(target);
    if (outcome.kind === "answer") return outcome.answer;
    checkAlternate(outcome.alternate.address, asked);
    target = outcome.alternate;
  }
}

/** The loop guard and the family are of RFC 8489 §10. The scope is ours: no server on the internet sends to hosts that only we can reach. */
function checkAlternate(alternate: TransportAddress, asked: readonly TransportAddress[]): void {
  const from = asked.at(-1)!;
  const scope = ipScope(alternate.ip);
  const cannot = `Cannot follow ${formatTransportAddress(from)} to ${
    formatTransportAddress(alternate)
  }`;
  const refuse = (rule: string) => new RefusedError(`${cannot}: ${rule}`, TRY_ALTERNATE);
  if (asked.some((one) => sameTransportAddress(one, alternate))) {
    throw refuse("it was asked before");
  }
  if (asked.length > MAX_ALTERNATES) throw refuse(`${MAX_ALTERNATES} alternate servers are enough`);
  if (alternate.port === 0) throw refuse("it has no port");
  if (ipFamily(alternate.ip) !== ipFamily(from.ip)) throw refuse("it is of another family");
  if (scope !== "global" && scope !== ipScope(from.ip)) throw refuse(`it is a ${scope} address`);
}

/** RFC 8489 §14.8: ALTERNATE-SERVER says whom to try. */
const TRY_ALTERNATE = 300;

/** Ours: load balancers need one. */
const MAX_ALTERNATES = 4;
