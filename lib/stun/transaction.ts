/**
 * Requests to one server, with long-term credentials once it demands them: RFC 8489 §6.2, §6.3 and §9.2.
 *
 * @module
 */

import { equalBytes } from "../base/bytes.ts";
import { MalformedMessageError } from "../base/errors.ts";
import { formatTransportAddress, type TransportAddress } from "../net/address.ts";
import type { Exchanged } from "../net/retransmit.ts";
import type { StunAttribute } from "./attributes.ts";
import { answerChallenge, type Authentication } from "./authentication.ts";
import type { LongTermCredential } from "./credentials.ts";
import { verifyIntegrity } from "./integrity.ts";
import {
  decodeMessage,
  encodeMessage,
  protectedPart,
  type StunMessage,
  unknownRequiredAttributes,
} from "./message.ts";
import { errorOf, listCodes } from "./refusal.ts";
import type { StunChannel } from "./transport.ts";

/** What to ask. */
export interface StunQuestion {
  readonly method: number;
  readonly attributes: readonly StunAttribute[];
}

/** Asks one server, and remembers how it wants to be asked. */
export class Conversation {
  readonly #server: TransportAddress;
  readonly #credential: LongTermCredential | undefined;
  #authentication: Authentication | undefined;

  /** @param credential for servers that demand one */
  constructor(server: TransportAddress, credential?: LongTermCredential) {
    this.#server = server;
    this.#credential = credential;
  }

  /** Another one, on another connection, which knows already what the server demanded here. */
  fork(): Conversation {
    const other = new Conversation(this.#server, this.#credential);
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
  async ask(channel: StunChannel, question: StunQuestion): Promise<Exchanged<StunMessage>> {
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
  encode({ method, attributes }: StunQuestion): Uint8Array<ArrayBuffer> {
    return this.#encode({ method, attributes }, newTransactionId());
  }

  #transact(channel: StunChannel, question: StunQuestion): Promise<Exchanged<StunMessage>> {
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

  #encode({ method, attributes }: StunQuestion, transactionId: Uint8Array) {
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
