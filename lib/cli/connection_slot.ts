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
  forEachIncoming,
  type IncomingSource,
  sayBusy,
} from "./accept_first.ts";
import { EMPTY_SLOT, type SlotAction, type SlotEvent, stepSlot } from "./connection_slot_engine.ts";
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
  readonly #newcomers = new Map<number, IncomingConnection>();
  /** Newcomers that may take the slot. The engine limits them. */
  readonly #kept = new WaitQueue<number>(Infinity);
  /** Decides about newcomers, once there was a connection. */
  readonly #deciding: TaskGroup;
  readonly #io: CliIo;
  readonly #turnAway: TurnAway;
  #state = EMPTY_SLOT;
  #arrived = 0;
  #holder: PeerConnection | undefined;
  /** A further connection that is being made, for whoever asks next. */
  #further: Promise<PeerConnection> | undefined;

  /** @param turnAway tells a peer that got through too late. Default: its connection is reset, with the reason */
  constructor(peer: Peer, accept: Accept, io: CliIo, turnAway: TurnAway = sayBusy) {
    this.#peer = peer;
    this.#accept = accept;
    this.#io = io;
    // After an interruption it is not too late: there is nothing to have.
    this.#turnAway = (connection) => {
      return io.signal.aborted ? connection.reset() : turnAway(connection);
    };
    this.#deciding = new TaskGroup((error) => printError(error, io));
    io.signal.addEventListener("abort", () => this.#holder?.reset(), { once: true });
  }

  /** Whether a newcomer takes the slot from the last connection. */
  get isTakenOver(): boolean {
    return this.#state.phase === "taken-over";
  }

  /**
   * Waits for the next connection. The slot is vacant from the call on.
   *
   * @throws what accepting throws, and the signal's reason
   */
  async next({ signal }: { signal: AbortSignal }): Promise<PeerConnection> {
    this.#dispatch({ kind: "wanted" });
    const isFirst = this.#holder === undefined;
    const connection = this.#further !== undefined
      ? await this.#nextFurther(this.#further, signal)
      : await acceptFirst(isFirst ? this.#peer : this.#keptNewcomers, this.#accept, {
        signal,
        turnAway: this.#turnAway,
      });
    this.hold(connection);
    if (isFirst) this.#deciding.run((signal) => this.#takeNewcomers(signal));
    return connection;
  }

  /**
   * Waits for a further connection beside those there are. The slot is vacant until {@linkcode ConnectionSlot.hold}.
   *
   * @throws what accepting throws, and the signal's reason
   */
  async another({ signal }: { signal: AbortSignal }): Promise<PeerConnection> {
    this.#dispatch({ kind: "wanted" });
    return await this.#nextFurther(this.#further ??= this.#acceptFurther(), signal);
  }

  /** Gives the slot to one of the connections. */
  hold(connection: PeerConnection): void {
    this.#holder = connection;
    this.#dispatch({ kind: "assigned" });
  }

  /** Waits until the last connection is closed, and all newcomers are told. */
  async close(): Promise<void> {
    this.#dispatch({ kind: "closed" });
    await this.#holder?.[Symbol.asyncDispose]();
    await this.#deciding.stop();
    await Promise.allSettled([this.#further]);
    await delay(0); // a refusal is sent in the next turn of the event loop
  }

  get #keptNewcomers(): IncomingSource {
    return {
      nextIncoming: async (options) => {
        for (;;) {
          const id = await this.#kept.next(options?.signal);
          if (!this.#newcomers.has(id)) continue; // refused meanwhile
          this.#dispatch({ kind: "taken", id });
          return this.#leave(id);
        }
      },
    };
  }

  async #nextFurther(
    further: Promise<PeerConnection>,
    signal: AbortSignal,
  ): Promise<PeerConnection> {
    const connection = await abortable(further, signal);
    this.#further = undefined;
    this.#dispatch({ kind: "received" });
    return connection;
  }

  /** Goes on after the caller's abort: the connection may be wanted after a break. */
  #acceptFurther(): Promise<PeerConnection> {
    const signal = AbortSignal.any([this.#io.signal, this.#deciding.signal]);
    const turnAway = this.#turnAway;
    const further = acceptFirst(this.#keptNewcomers, this.#accept, { signal, turnAway });
    further.then(() => this.#dispatch({ kind: "connected" }), () => this.#further = undefined);
    return further;
  }

  #takeNewcomers(signal: AbortSignal): Promise<void> {
    return forEachIncoming(this.#peer, (incoming) => {
      const id = this.#arrived++;
      this.#newcomers.set(id, incoming);
      this.#dispatch({ kind: "arrived", id });
    }, { signal });
  }

  #dispatch(event: SlotEvent): void {
    const { state, actions } = stepSlot(this.#state, event);
    this.#state = state;
    for (const action of actions) this.#perform(action);
  }

  #perform(action: SlotAction): void {
    switch (action.kind) {
      case "probe":
        return this.#deciding.run(() => this.#probe(action.id, action.holder));
      case "keep":
        this.#kept.push(action.id);
        return;
      case "refuse":
        return this.#refuse(action.id);
      case "abandon":
        return this.#holder!.abandon(new NetworkError(TAKEN_OVER, "reset"));
      case "turn-away": {
        const further = this.#further!;
        this.#further = undefined;
        return this.#deciding.run(async () => await this.#turnAway(await further));
      }
    }
  }

  async #probe(id: number, holder: number): Promise<void> {
    const answers = await this.#holder!.answersWithin(PROBE_MS);
    this.#dispatch({ kind: "probed", id, holder, answers });
  }

  #refuse(id: number): void {
    this.#kept.remove(id);
    this.#leave(id).refuse("busy");
  }

  #leave(id: number): IncomingConnection {
    const incoming = this.#newcomers.get(id)!;
    this.#newcomers.delete(id);
    return incoming;
  }
}

/** Tells a peer that got through too late; resolves once it knows, or cannot be told. */
type TurnAway = (connection: PeerConnection) => void | Promise<void>;

const TAKEN_OVER = "Cannot use the connection: the peer does not answer, and another takes over";

/** Chosen by us: long enough for any path, and short enough for a person waiting after a restart. */
const PROBE_MS = 1000;
