/**
 * Somebody who wants to connect, before anything is dialled.
 *
 * @module
 */

import { toBase64url } from "../base/bytes.ts";
import { NetworkError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { SignalingConnection } from "../signal/transport.ts";
import type { PeerConnection } from "./connection.ts";
import type { ResponderHandshake } from "./signaling_handshake.ts";
import type { ConnectionRequest, Envelope, Rejection } from "./signaling_message.ts";
import { ResponderSession, sendRejection } from "./signaling_session.ts";

/** What becomes of somebody who wants to connect. */
export interface IncomingDecisions {
  accept(signal: AbortSignal | undefined): Promise<PeerConnection>;
  refuse(why: "refused" | "busy"): void;
  ignore(): void;
}

/**
 * Somebody who has a ticket of this peer's and wants to connect. Until it is accepted they learn nothing but that the
 * peer is there, and only if they are refused.
 */
export class IncomingConnection {
  /** Who it is: the public key, which they have proved to have. */
  readonly remoteKey: Uint8Array;
  /** What they want to speak; `""` if they do not say. */
  readonly protocol: string;
  readonly #decisions: IncomingDecisions;
  #isDecided = false;

  /** @ignore made by {@linkcode Peer} */
  constructor(remoteKey: Uint8Array, protocol: string, decisions: IncomingDecisions) {
    this.remoteKey = remoteKey;
    this.protocol = protocol;
    this.#decisions = decisions;
  }

  /** Who it is, as text. */
  get remoteId(): string {
    return toBase64url(this.remoteKey);
  }

  /**
   * Connects.
   *
   * @throws {UnreachableError} if there is no way to the other side
   * @throws {NetworkError} `closed` if it was decided otherwise, or the peer is closed; `reset` if the other side has
   * given up, or was reached and went away
   * @throws {MalformedMessageError} if the other side does not keep to the protocol
   * @throws the signal's reason on abort
   */
  async accept(options: { signal?: AbortSignal } = {}): Promise<PeerConnection> {
    options.signal?.throwIfAborted();
    if (this.#isDecided) {
      throw new NetworkError("Cannot accept: that was decided before", "closed");
    }
    this.#isDecided = true;
    return await this.#decisions.accept(options.signal);
  }

  /** Tells them no: for good, or for as long as somebody else is there. */
  refuse(why: "refused" | "busy" = "refused"): void {
    if (!this.#isDecided) this.#decisions.refuse(why);
    this.#isDecided = true;
  }

  /** Tells them nothing. */
  ignore(): void {
    if (!this.#isDecided) this.#decisions.ignore();
    this.#isDecided = true;
  }
}

/** A conversation that somebody else has begun. */
export class IncomingRequest implements Disposable {
  /** Who knocked. */
  readonly remoteKey: Uint8Array;
  /** What they said. */
  readonly knock: ConnectionRequest;
  readonly line: ResponderSession;
  /** Those over which the other side was heard. */
  readonly #buses = new Set<SignalingConnection>();

  /**
   * @param replyTopic where the other side listens
   * @param bus over which the knock came
   */
  constructor(
    answerer: ResponderHandshake,
    knock: ConnectionRequest,
    { replyTopic, signaling, logger }: {
      replyTopic: string;
      signaling: SignalingConnection;
      logger?: Logger;
    },
  ) {
    this.remoteKey = answerer.remoteKey;
    this.knock = knock;
    this.#buses.add(signaling);
    this.line = new ResponderSession(answerer, knock.body, (message) => {
      for (const each of this.#buses) {
        each.publish(replyTopic, message)
          .catch((error) => logger?.debug(`connect: ${each.url}: ${error}`));
      }
    });
    this.line.isManual = signaling.isManual ?? false;
    if (signaling.rttMs !== undefined) this.line.rttMs = 2 * signaling.rttMs;
  }

  /** The knock has come again, perhaps over another bus. */
  repeated(signaling: SignalingConnection): void {
    if (this.#buses.size < MAX_BUSES) this.#buses.add(signaling);
    this.line.repeatAnswer();
  }

  /** Something else has come. */
  accept(envelope: Envelope, signaling: SignalingConnection): void {
    if (this.#buses.size < MAX_BUSES) this.#buses.add(signaling);
    this.line.accept(envelope);
  }

  /** Says no. */
  async reject(why: Rejection["why"]): Promise<void> {
    await sendRejection(this.line, why);
  }

  [Symbol.dispose](): void {
    this.line[Symbol.dispose]();
  }
}

/** Ours: as many as a ticket has. */
const MAX_BUSES = 8;
