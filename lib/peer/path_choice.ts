/**
 * Watches what the paths of a connection deliver, and has it moved to another path if the present one is worse. Carries out
 * what {@linkcode stepPathChoice} decides.
 *
 * @module
 */

import type { Logger } from "../base/logger.ts";
import { ResettableTimer } from "../base/timers.ts";
import type { PeerConnection } from "./connection.ts";
import {
  initialPathChoice,
  KNOWN_MS,
  type PathChoiceEvent,
  type PathChoiceState,
  stepPathChoice,
} from "./path_choice_engine.ts";

/** Watches the connections of one peer, all of them by one timer: a thousand of their own would keep a processor busy. */
export class PathChoices {
  readonly #hasUdp: boolean;
  readonly #logger: Logger | undefined;
  readonly #watched = new Set<PathChoice>();
  readonly #timer = new ResettableTimer(() => this.#look());

  /** @param hasUdp whether this side punches by UDP */
  constructor(hasUdp: boolean, logger: Logger | undefined) {
    this.#hasUdp = hasUdp;
    this.#logger = logger;
    this.#timer.isReferenced = false;
  }

  /** Watches a connection until it ends. */
  watch(connection: PeerConnection): void {
    const choice = new PathChoice(connection, this.#hasUdp, this.#logger);
    const end = () => {
      this.#watched.delete(choice);
      if (this.#watched.size === 0) this.#timer.clear();
    };
    this.#watched.add(choice);
    connection.onStall = () => choice.stalled();
    connection.finished.then(end, end);
    choice.look();
    if (!this.#timer.isSet) this.#timer.set(LOOK_MS);
  }

  #look(): void {
    this.#timer.set(LOOK_MS);
    for (const choice of this.#watched) choice.look();
  }
}

/** Watches one connection. */
class PathChoice {
  readonly #connection: PeerConnection;
  readonly #logger: Logger | undefined;
  #state: PathChoiceState;
  #bytes = 0;
  #busyUntilMs = -Infinity;
  /** An idle path is judged until nothing is known of others any more. The next byte begins a window of its own. */
  #judgedUntilMs = performance.now() + KNOWN_MS;

  constructor(connection: PeerConnection, hasUdp: boolean, logger: Logger | undefined) {
    this.#connection = connection;
    this.#logger = logger;
    this.#state = initialPathChoice(hasUdp);
  }

  /** Takes note of what was delivered since the last look. */
  look(): void {
    const connection = this.#connection;
    const nowMs = performance.now();
    const { hasPath, rttsMs, receivedBytes, deliveredBytes } = connection;
    const route = hasPath ? connection.route : "none";
    const bytes = receivedBytes + deliveredBytes;
    const isQuiet = bytes === this.#bytes && route === this.#state.route;
    if (isQuiet && nowMs >= this.#judgedUntilMs) return;
    const wasQuiet = nowMs >= this.#judgedUntilMs;
    if (!isQuiet) this.#judgedUntilMs = nowMs + KNOWN_MS;
    if (wasQuiet) this.#dispatch({ kind: "delivered", bytes: this.#bytes, rttMs: undefined });
    if (bytes > this.#bytes + BUSY_BYTES) this.#busyUntilMs = nowMs + BUSY_MS;
    this.#bytes = bytes;
    // Otherwise pings follow silence. These show what waits.
    const isBusy = nowMs < this.#busyUntilMs;
    const rttMs = isBusy ? connection.measure() : connection.rttMs;
    this.#dispatch({ kind: "path", route, bytes, rttsMs });
    this.#dispatch({ kind: "delivered", bytes, rttMs });
  }

  /** The path has stalled: it may have been worse than another one all along. */
  stalled(): void {
    this.look(); // it may have taken the place of another since the last look
    this.#dispatch({ kind: "stalled" });
  }

  #dispatch(event: PathChoiceEvent): void {
    const { state, actions } = stepPathChoice(this.#state, event, performance.now());
    const { route } = this.#state;
    this.#state = state;
    for (const { for: other, why } of actions) {
      this.#logger?.debug(`connect: the path (${route}) is left for another (${other}): ${why}`);
      this.#connection.slow(other);
    }
  }
}

/** Chosen by us: a fraction of the engine's window. */
const LOOK_MS = 500;

/** Since the last look. Chosen by us: what the engine takes for busy. */
const BUSY_BYTES = 16 * LOOK_MS;

/** How long a path that delivers nothing is taken for busy. Chosen by us: TCP waits for a second or two after losses. */
const BUSY_MS = 2000;
