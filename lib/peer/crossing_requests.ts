/**
 * Two peers that request a connection to each other at once get one: that of the peer with the lower key. Its request is
 * accepted for the other's, which is cancelled. Carries out what {@linkcode stepCrossing} decides. A peer that dials after
 * the other's request has arrived, and before the application has got anything from it, sends none: it accepts that one, unless the other side has been silent for a
 * while.
 *
 * @module
 */

import { equalBytes } from "../base/bytes.ts";
import { NetworkError, RefusedError, UnreachableError } from "../base/errors.ts";
import { TaskGroup } from "../base/tasks.ts";
import { ResettableTimer } from "../base/timers.ts";
import type { PeerConnection } from "./connection.ts";
import {
  type CrossingEvent,
  type CrossingState,
  HELD_MS,
  stepCrossing,
} from "./crossing_requests_engine.ts";
import type { IncomingConnection } from "./incoming.ts";
import { REJECTION_CODES } from "./rejection.ts";

/** How a dial is started. */
export interface DialHooks {
  readonly signal: AbortSignal | undefined;
  /** Called when the other side has answered the request. */
  readonly onAnswered?: () => void;
}

/** Requests a connection. */
type Dial = (hooks: DialHooks) => Promise<PeerConnection>;

/**
 * Connects by a request that has arrived before, if the application has got neither that nor its connection: the caller gets
 * the connection instead. `undefined` if there is no such request.
 */
export type AcceptEarlier = (
  isWanted: (incoming: IncomingConnection) => boolean,
  signal: AbortSignal | undefined,
) => Promise<PeerConnection> | undefined;

/** What a peer dials, and the requests that cross it. */
export class CrossingRequests {
  readonly #ownKey: Uint8Array;
  readonly #protocol: string;
  readonly #show: (incoming: IncomingConnection) => boolean;
  readonly #acceptEarlier: AcceptEarlier;
  readonly #dials = new Set<CrossedDial>();
  /** Requests under way that were shown to the application. */
  readonly #shown = new Set<IncomingConnection>();

  /**
   * @param options.protocol what this side asks for
   * @param options.show shows a request to the application, which decides about it; returns whether there was room
   */
  constructor(
    ownKey: Uint8Array,
    { protocol, show, acceptEarlier }: Pick<CrossedDialOptions, "protocol" | "show"> & {
      readonly acceptEarlier: AcceptEarlier;
    },
  ) {
    this.#ownKey = ownKey;
    this.#protocol = protocol;
    this.#show = show;
    this.#acceptEarlier = acceptEarlier;
  }

  /**
   * Connects to a peer, by this side's request or by one of that peer's that has arrived before or crosses it.
   *
   * @throws as `dial`, and {@linkcode IncomingConnection.accept}
   */
  async connect(
    remoteKey: Uint8Array,
    dial: Dial,
    signal: AbortSignal | undefined,
  ): Promise<PeerConnection> {
    const isOwnKeyLower = isLess(this.#ownKey, remoteKey);
    const isOfPeer = (incoming: IncomingConnection) =>
      incoming.protocol === this.#protocol && equalBytes(incoming.remoteKey, remoteKey);
    const isOwnKey = equalBytes(remoteKey, this.#ownKey);
    const isThere = (incoming: IncomingConnection) =>
      isOfPeer(incoming) && performance.now() - incoming.heardAtMs < HEARD_MS;
    const accepting = isOwnKey ? undefined : this.#acceptEarlier(isThere, signal);
    try {
      if (accepting !== undefined) return await accepting;
    } catch (error) {
      if (signal?.aborted || error instanceof UnreachableError) throw error;
    }
    const crossed = new CrossedDial({
      remoteKey,
      protocol: this.#protocol,
      isOwnKeyLower,
      show: this.#show,
    });
    crossed.hasMet = [...this.#shown].some(isOfPeer);
    this.#dials.add(crossed);
    try {
      return await crossed.connect(dial, signal);
    } catch (error) {
      if (signal?.aborted || !crossed.hasMet || !isGivenUp(error)) throw error;
      return await dial({ signal });
    } finally {
      this.#dials.delete(crossed);
    }
  }

  /** Takes a request of another peer; returns whether there was room. */
  take(incoming: IncomingConnection): boolean {
    const { remoteKey } = incoming;
    const crossed = [...this.#dials].find((each) => each.isCrossedBy(incoming));
    if (crossed !== undefined && !equalBytes(remoteKey, this.#ownKey)) {
      crossed.meet(incoming);
      return true;
    }
    const isShown = this.#show(incoming);
    if (isShown) this.#shown.add(incoming);
    return isShown;
  }

  /** Forgets a request that is over. */
  withdraw(incoming: IncomingConnection): void {
    this.#shown.delete(incoming);
    for (const crossed of this.#dials) crossed.withdraw(incoming);
  }
}

interface CrossedDialOptions {
  readonly remoteKey: Uint8Array;
  readonly protocol: string;
  readonly isOwnKeyLower: boolean;
  readonly show: (incoming: IncomingConnection) => boolean;
}

/** One dial, and the request that crosses it. */
class CrossedDial {
  /** Whether a request of the other side was under way before, or has crossed it. */
  hasMet = false;
  readonly #options: CrossedDialOptions;
  readonly #timer = new ResettableTimer(() => this.#dispatch({ kind: "time" }));
  readonly #accepting = Promise.withResolvers<IncomingConnection>();
  #state: CrossingState = "dialling";
  #met: IncomingConnection | undefined;

  constructor(options: CrossedDialOptions) {
    this.#options = options;
  }

  isCrossedBy({ remoteKey, protocol }: IncomingConnection): boolean {
    return this.#state === "dialling" && protocol === this.#options.protocol &&
      equalBytes(remoteKey, this.#options.remoteKey);
  }

  async connect(dial: Dial, signal: AbortSignal | undefined): Promise<PeerConnection> {
    const { promise: dialled, resolve, reject } = Promise.withResolvers<PeerConnection>();
    await using dialling = new TaskGroup(reject);
    dialling.run(async (stopped) => {
      const either = signal === undefined ? stopped : AbortSignal.any([stopped, signal]);
      const onAnswered = () => this.#dispatch({ kind: "answered" });
      try {
        const connection = await dial({ signal: either, onAnswered });
        if (stopped.aborted || this.#state === "accepting") connection.reset();
        else resolve(connection);
      } catch (error) {
        this.#dispatch({ kind: signal?.aborted ? "aborted" : "failed" });
        if (this.#state !== "accepting") throw error;
      }
    });
    const first = await Promise.race([dialled, this.#accepting.promise]);
    if (!("accept" in first)) return first;
    await dialling.stop(new NetworkError("Cannot dial: the other side does", "closed"));
    return await first.accept({ signal });
  }

  meet(incoming: IncomingConnection): void {
    this.hasMet = true;
    this.#met = incoming;
    this.#dispatch({ kind: "met", isOwnKeyLower: this.#options.isOwnKeyLower });
  }

  withdraw(incoming: IncomingConnection): void {
    if (this.#met === incoming) this.#dispatch({ kind: "withdrawn" });
  }

  #dispatch(event: CrossingEvent): void {
    const { state, action } = stepCrossing(this.#state, event);
    this.#state = state;
    if (state !== "holding") this.#timer.clear();
    else if (!this.#timer.isSet) this.#timer.set(HELD_MS);
    if (action === "accept") this.#accepting.resolve(this.#met!);
    else if (action === "refuse") this.#met!.refuse("busy");
    else if (action === "show" && !this.#options.show(this.#met!)) this.#met!.refuse("busy");
  }
}

/** Whether the other side has given its request up at the same moment, or has accepted one of this side's before. */
function isGivenUp(error: unknown): boolean {
  return error instanceof NetworkError && error.reason === "reset" ||
    error instanceof RefusedError && error.code === REJECTION_CODES.busy;
}

/** Whether one key is lower than the other, as a number. */
function isLess(one: Uint8Array, other: Uint8Array): boolean {
  const index = one.findIndex((byte, index) => byte !== other[index]);
  return index >= 0 && one[index]! < other[index]!;
}

/**
 * A peer that was not heard for so long may have been killed, and have started again: it would not answer. Chosen by us: a
 * request is repeated twice in this time.
 */
const HEARD_MS = 2500;
