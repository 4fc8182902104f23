/**
 * One connection at a time, for commands that serve one peer.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import { TaskGroup } from "../base/tasks.ts";
import { WaitQueue } from "../base/wait_queue.ts";
import type { PeerConnection } from "../peer/connection.ts";
import type { IncomingConnection } from "../peer/incoming.ts";
import type { Peer } from "../peer/peer.ts";
import {
  type Accept,
  acceptFirst,
  type IncomingSource,
  refuseOthers,
  sayBusy,
} from "./accept_first.ts";
import { type CliIo, printError } from "./io.ts";
import { abortable } from "@std/async/abortable";
import { delay } from "@std/async/delay";

/**
 * The slot for the one connection of a command. The first peer that gets through takes it, and the others are refused as
 * busy. But a peer that has crashed, or whose path is gone, does not keep it: every newcomer makes this side probe the
 * connection, and takes the slot if there is no answer.
 */
export class ConnectionSlot {
  readonly #peer: Peer;
  readonly #accept: Accept;
  /** Newcomers that may take the slot. */
  readonly #waiting = new WaitQueue<IncomingConnection>(MAX_WAITING);
  /** Decides about newcomers, once there was a connection. */
  readonly #deciding: TaskGroup;
  readonly #io: CliIo;
  readonly #turnAway: (connection: PeerConnection) => void;
  #current: PeerConnection | undefined;
  /** A further connection that is being made, for whoever asks next. */
  #further: Promise<PeerConnection> | undefined;
  #isVacant = true;
  #isClosed = false;
  #isTakenOver = false;

  /** @param turnAway tells a peer that got through too late. Default: its connection is reset, with the reason */
  constructor(
    peer: Peer,
    accept: Accept,
    io: CliIo,
    turnAway: (connection: PeerConnection) => void = sayBusy,
  ) {
    this.#peer = peer;
    this.#accept = accept;
    this.#io = io;
    this.#turnAway = turnAway;
    this.#deciding = new TaskGroup((error) => printError(error, io));
    io.signal.addEventListener("abort", () => this.#current?.reset(), { once: true });
  }

  /** Whether a newcomer has taken the slot from the last connection, or is about to. */
  get isTakenOver(): boolean {
    return this.#isTakenOver;
  }

  /**
   * Waits for the next connection. The slot is vacant from the call on.
   *
   * @throws what accepting throws, and the signal's reason
   */
  async next({ signal }: { signal: AbortSignal }): Promise<PeerConnection> {
    this.#isVacant = true;
    const isFirst = this.#current === undefined;
    const connection = this.#further !== undefined
      ? await this.#nextFurther(signal)
      : await acceptFirst(isFirst ? this.#peer : this.#newcomers, this.#accept, {
        signal,
        turnAway: this.#turnAway,
      });
    this.hold(connection);
    if (isFirst) this.#deciding.run((signal) => this.#decide(signal));
    return connection;
  }

  /**
   * Waits for a further connection beside those there are. The slot is vacant until {@linkcode ConnectionSlot.hold}.
   *
   * @throws what accepting throws, and the signal's reason
   */
  async another({ signal }: { signal: AbortSignal }): Promise<PeerConnection> {
    this.#isVacant = true;
    this.#further ??= this.#acceptFurther();
    return await this.#nextFurther(signal);
  }

  /** Gives the slot to one of the connections. */
  hold(connection: PeerConnection): void {
    this.#isVacant = this.#isTakenOver = false;
    this.#current = connection;
    this.#refuseWaiting();
  }

  /** Waits until the last connection is closed, and all newcomers are refused. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#refuseWaiting();
    this.#further?.then((connection) => connection.reset(), () => {}); // nothing takes it any more
    await this.#current?.[Symbol.asyncDispose]();
    await this.#deciding.stop();
    await delay(0); // a refusal is sent in the next turn of the event loop
  }

  get #newcomers(): IncomingSource {
    return { nextIncoming: (options) => this.#waiting.next(options?.signal) };
  }

  async #nextFurther(signal: AbortSignal): Promise<PeerConnection> {
    const connection = await abortable(this.#further!, signal);
    this.#further = undefined;
    return connection;
  }

  /** Goes on after the caller's abort: the connection may be wanted after a break. */
  #acceptFurther(): Promise<PeerConnection> {
    const further = acceptFirst(this.#newcomers, this.#accept, {
      signal: this.#io.signal,
      turnAway: this.#turnAway,
    });
    const forget = () => {
      if (this.#further === further) this.#further = undefined;
    };
    further.then((connection) => {
      const isWanted = this.#isVacant || this.#isTakenOver;
      if (isWanted && !this.#isClosed) return;
      forget();
      this.#turnAway(connection);
    }, forget);
    return further;
  }

  #decide(signal: AbortSignal): Promise<void> {
    return refuseOthers(this.#peer, {
      signal,
      keep: async (incoming) => {
        const holder = this.#current!;
        const isFree = this.#isVacant || !await holder.answersWithin(PROBE_MS);
        if (!isFree || this.#isClosed || this.#current !== holder) return false;
        if (!this.#waiting.push(incoming)) return false;
        if (!this.#isVacant) this.#takeOver(holder);
        return true;
      },
    });
  }

  #takeOver(holder: PeerConnection): void {
    this.#isTakenOver = true;
    const message = "Cannot use the connection: the peer does not answer, and another takes over";
    holder.abandon(new NetworkError(message, "reset"));
  }

  #refuseWaiting(): void {
    for (const late of this.#waiting.drain()) late.refuse("busy");
  }
}

/** Chosen by us: long enough for any path, and short enough for a person waiting after a restart. */
const PROBE_MS = 1000;

/** Chosen by us: more newcomers than that at a time are refused. */
const MAX_WAITING = 4;
