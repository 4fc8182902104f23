/**
 * A request for a connection, as the application sees it.
 *
 * @module
 */

import { toBase64url } from "../base/bytes.ts";
import { NetworkError } from "../base/errors.ts";
import type { PeerConnection } from "./connection.ts";

/** What carries out the application's decision. */
export interface IncomingDecisions {
  accept(signal: AbortSignal | undefined): Promise<PeerConnection>;
  refuse(reason: "refused" | "busy"): void;
  ignore(): void;
}

/**
 * Another peer that has a ticket of this one and wants to connect. Until the application accepts, nothing is dialled, and
 * the other peer learns nothing about this one.
 */
export class IncomingConnection {
  /** The other side's public key, which it has proved to own; 32 bytes. */
  readonly remoteKey: Uint8Array;
  /** The protocol that the other side asks for; `""` if it names none. */
  readonly protocol: string;
  readonly #decisions: IncomingDecisions;
  #decision: "accepted" | "refused" | "ignored" | undefined;

  /** @ignore made by {@linkcode Peer} */
  constructor(remoteKey: Uint8Array, protocol: string, decisions: IncomingDecisions) {
    this.remoteKey = remoteKey;
    this.protocol = protocol;
    this.#decisions = decisions;
  }

  /** The other side's public key as text. */
  get remoteId(): string {
    return toBase64url(this.remoteKey);
  }

  /**
   * Connects.
   *
   * @throws {UnreachableError} if there is no path to the other side
   * @throws {NetworkError} `closed` if the request was decided before or the peer is closed; `timed-out` if the other side
   * no longer waits; `reset` if it has given up, or its path was lost at once
   * @throws {MalformedMessageError} if the other side violates the protocol
   * @throws the signal's reason on abort
   */
  async accept(options: { signal?: AbortSignal } = {}): Promise<PeerConnection> {
    options.signal?.throwIfAborted();
    if (this.#decision !== undefined) {
      throw new NetworkError(`Cannot accept: already ${this.#decision}`, "closed");
    }
    this.#decision = "accepted";
    return await this.#decisions.accept(options.signal);
  }

  /** Tells the other side no, or with `"busy"`: not now. Does nothing if the request was decided before. */
  refuse(reason: "refused" | "busy" = "refused"): void {
    if (this.#decision !== undefined) return;
    this.#decision = "refused";
    this.#decisions.refuse(reason);
  }

  /** Tells the other side nothing. Does nothing if the request was decided before. */
  ignore(): void {
    if (this.#decision !== undefined) return;
    this.#decision = "ignored";
    this.#decisions.ignore();
  }
}
