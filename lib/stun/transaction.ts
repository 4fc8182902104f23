/**
 * Requests to one server: with long-term credentials once it requires them (RFC 8489 §6.2, §6.3 and §9.2), and its
 * redirects to other servers (§10).
 *
 * @module
 */

import { equalBytes } from "../base/bytes.ts";
import { MalformedMessageError, RefusedError } from "../base/errors.ts";
import {
  formatTransportAddress,
  ipFamily,
  ipScope,
  isSystemPort,
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

/** The server to send requests to. */
export interface ServerTarget {
  readonly address: TransportAddress;
  /** The name in its certificate, for TLS. */
  readonly hostname: string;
}

/** A request, without what its transaction adds. */
export interface StunRequest {
  /** Such as `BINDING`. */
  readonly method: number;
  readonly attributes: readonly StunAttribute[];
}

/** Sends requests to one server, and remembers how it requires them to be authenticated. */
export class AuthenticatedTransaction {
  readonly #server: TransportAddress;
  readonly #credential: LongTermCredential | undefined;
  #authentication: Authentication | undefined;

  /** @param credential for servers that require one */
  constructor(server: TransportAddress, credential?: LongTermCredential) {
    this.#server = server;
    this.#credential = credential;
  }

  /** A copy for another connection, which starts with the authentication that the server required on this one. */
  fork(): AuthenticatedTransaction {
    const other = new AuthenticatedTransaction(this.#server, this.#credential);
    other.#authentication = this.#authentication;
    return other;
  }

  /**
   * Sends a request, and sends it again if the server challenges it.
   *
   * @returns a success response, or an error response with an ERROR-CODE that is not a challenge to be answered,
   * without the attributes that its integrity does not cover
   * @throws {RefusedError} if a challenge cannot be answered
   * @throws {TypeError} if RFC 8265 does not allow the credential
   * @throws {MalformedMessageError} if the response is invalid, or is not STUN
   * @throws {NoResponseError} if there is no response in time
   */
  async ask(channel: StunChannel, question: StunRequest): Promise<Exchanged<StunMessage>> {
    // RFC 8489 §9.2.5: a client answers one 401 only. A 401 for credentials that worked before means that the server
    // has another realm, or was restarted.
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

  /** The bytes of a request, authenticated as the server requires, for callers that do not wait for a response. */
  encode({ method, attributes }: StunRequest): Uint8Array<ArrayBuffer> {
    return this.#encode({ method, attributes }, newTransactionId());
  }

  #transact(channel: StunChannel, question: StunRequest): Promise<Exchanged<StunMessage>> {
    const authentication = this.#authentication;
    // RFC 8489 §6.2: every request that is not a retransmission has a new transaction ID.
    const transactionId = newTransactionId();
    return channel.transact(this.#encode(question, transactionId), (bytes) => {
      const response = decodeMessage(bytes);
      const { class: kind, method } = response;
      if (kind !== "success" && kind !== "error" || method !== question.method) return undefined;
      if (!equalBytes(response.transactionId, transactionId)) return undefined;
      if (authentication === undefined) return response;
      const integrity = verifyIntegrity(bytes, authentication.integrity);
      if (integrity === "valid") return protectedPart(response);
      // RFC 8489 §9.2.5: otherwise the response is ignored. An error without integrity is accepted, because servers
      // that do not know the sender send them; all that it can do is end the request.
      return kind === "error" && integrity === "absent" ? response : undefined;
    });
  }

  #encode({ method, attributes }: StunRequest, transactionId: Uint8Array) {
    const { attributes: credentials = [], integrity } = this.#authentication ?? {};
    return encodeMessage(
      { class: "request", method, transactionId, attributes: [...attributes, ...credentials] },
      { integrity },
    );
  }

  /** RFC 8489 §6.3.3 and §6.3.4. */
  #checkUnderstood(response: StunMessage): void {
    const unknown = unknownRequiredAttributes(response);
    if (unknown.length === 0) return;
    throw new MalformedMessageError(
      `Cannot understand ${formatTransportAddress(this.#server)}: ` +
        `its response has unknown comprehension-required attributes, ${listCodes(unknown)}`,
    );
  }
}

/** How requests are authenticated until the next challenge. */
export interface Authentication {
  /** The hash that made the key from the credential. */
  readonly algorithm: "MD5" | "SHA-256";
  /** Attributes to add to every request. */
  readonly attributes: readonly StunAttribute[];
  /** The integrity to add to every request, and to require in every success response. */
  readonly integrity: MessageIntegrity;
}

/**
 * The authentication that answers a challenge: an error 401 (Unauthenticated) or 438 (Stale Nonce).
 *
 * @param previous how the challenged request was authenticated, if at all
 * @throws {RefusedError} if the challenge is incomplete, requires an unknown algorithm, or was tampered with to weaken
 * the answer
 * @throws {TypeError} if RFC 8265 does not allow the credential
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
    // RFC 8489 §9.2.5: an attacker on the path has removed them to force a weaker hash.
    throw refuse(challenge, "the nonce announces PASSWORD-ALGORITHMS, but there are none");
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
  if (algorithm === undefined) throw refuse(challenge, "the server offers neither SHA-256 nor MD5");
  if (previous?.algorithm === "SHA-256" && algorithm === "MD5") {
    throw refuse(challenge, "the server accepted SHA-256 before and now asks for MD5");
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

/** The strongest algorithm that both sides know, whatever the server prefers. */
function strongest(offered: readonly PasswordAlgorithm[]): "SHA-256" | "MD5" | undefined {
  const names = offered.map(({ algorithm }) => algorithm);
  return (["SHA-256", "MD5"] as const).find((name) => names.includes(name));
}

function refuse(challenge: StunMessage, rule: string): RefusedError {
  const code = getAttribute(challenge, "ERROR-CODE")?.code ?? 401;
  const remedy = "Check the user name and the password, or use another server";
  return new RefusedError(`Cannot answer STUN challenge ${code}: ${rule}`, code, { remedy });
}

/** The result of a request: an answer, or the server to send it to instead (RFC 8489 §10). */
export type AnswerOrAlternate<T> =
  | { readonly kind: "answer"; readonly answer: T }
  | { readonly kind: "alternate"; readonly alternate: ServerTarget };

/**
 * The alternate server that an error response names, if any.
 *
 * @param hostname the name of the server that responded; the alternate has the same one if no other is given
 */
export function alternateOf(response: StunMessage, hostname: string): ServerTarget | undefined {
  const code = getAttribute(response, "ERROR-CODE")?.code;
  const address = getAttribute(response, "ALTERNATE-SERVER");
  if (code !== TRY_ALTERNATE || address === undefined) return undefined;
  return { address, hostname: getAttribute(response, "ALTERNATE-DOMAIN") ?? hostname };
}

/**
 * Sends a request to one server, and follows redirects until a server answers.
 *
 * @throws {RefusedError} 300, if a server redirects to an address that must not be followed
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

/**
 * RFC 8489 §10 forbids loops and changes of the address family. The checks of the scope and of system ports are ours: a
 * server on the internet must not direct us to a host that only we can reach, nor to a service of another kind.
 */
function checkAlternate(alternate: TransportAddress, asked: readonly TransportAddress[]): void {
  const from = asked.at(-1)!;
  const scope = ipScope(alternate.ip);
  const cannot = `Cannot follow ${formatTransportAddress(from)} to ${
    formatTransportAddress(alternate)
  }`;
  const remedy = "Use another server";
  const refuse = (rule: string) =>
    new RefusedError(`${cannot}: ${rule}`, TRY_ALTERNATE, { remedy });
  if (asked.some((one) => sameTransportAddress(one, alternate))) {
    throw refuse("it was asked before");
  }
  if (asked.length > MAX_ALTERNATES) {
    throw refuse(`it is more than ${MAX_ALTERNATES} redirects away`);
  }
  if (alternate.port === 0) throw refuse("it has no port");
  if (ipFamily(alternate.ip) !== ipFamily(from.ip)) throw refuse("it is of another family");
  if (scope !== "global" && scope !== ipScope(from.ip)) throw refuse(`it is a ${scope} address`);
  const isForeign = asked.every(({ ip, port }) => ip !== alternate.ip && port !== alternate.port);
  // Such as the mail server of a third party, rather than another server like itself.
  if (isSystemPort(alternate.port) && isForeign) {
    throw refuse("its port is one of another service");
  }
}

/** What the message of {@linkcode refusedError} says. */
export interface RefusedErrorOptions {
  /** The server that refused. */
  readonly server: TransportAddress;
  /** What failed, such as `get mapped address`. */
  readonly action: string;
  /** What to do about it. */
  readonly remedy?: string;
}

/**
 * An error response as an error to throw. Control characters are removed from the reason phrase.
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
      (unknown.length === 0 ? "" : ` for ${listCodes(unknown)}`),
    code,
    { remedy: remedy ?? STUN_REMEDIES[code] ?? "Use another server" },
  );
}

/**
 * The ERROR-CODE of an error response.
 *
 * @throws {MalformedMessageError} if it has none
 */
export function errorOf(response: StunMessage, server: TransportAddress): StunErrorCode {
  const error = getAttribute(response, "ERROR-CODE");
  if (error !== undefined) return error;
  throw new MalformedMessageError(
    `Cannot understand ${formatTransportAddress(server)}: its error has no ERROR-CODE`,
  );
}

/** Attribute type numbers as text. */
function listCodes(codes: readonly number[]): string {
  return codes.map((code) => `0x${code.toString(16).padStart(4, "0")}`).join(", ");
}

function newTransactionId(): Uint8Array<ArrayBuffer> {
  return crypto.getRandomValues(new Uint8Array(12));
}

/** RFC 8489 §14.8. */
const UNAUTHENTICATED = 401;
const STALE_NONCE = 438;

/** RFC 8489 §14.8: try the server in ALTERNATE-SERVER. */
const TRY_ALTERNATE = 300;

/** Chosen by us: one demand for credentials, and two nonces that expired while the request was in flight. */
const MAX_CHALLENGES = 3;

/** Chosen by us: load balancers need one. */
const MAX_ALTERNATES = 4;

/** RFC 8489 §14.8. */
const STUN_REMEDIES: Readonly<Record<number, string>> = {
  400: "Check that it is a STUN server, or use another",
  401: "Check the user name and the password",
  438: "Try again",
  500: "Try later, or another server",
};
