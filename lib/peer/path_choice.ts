/**
 * Watches what the paths of a connection deliver, and has it moved back to the relay if a direct path delivers less. Carries
 * out what {@linkcode stepPathChoice} decides. Loaded once a relay carries a connection.
 *
 * @module
 */

import type { Logger } from "../base/logger.ts";
import { ResettableTimer } from "../base/timers.ts";
import type { PeerConnection } from "./connection.ts";
import { INITIAL_PATH_CHOICE, type PathChoiceEvent, stepPathChoice } from "./path_choice_engine.ts";

/** Watches one connection until it ends. */
export class PathChoice {
  readonly #connection: PeerConnection;
  readonly #onSlow: () => void;
  readonly #logger: Logger | undefined;
  readonly #timer = new ResettableTimer(() => this.#look());
  #state = INITIAL_PATH_CHOICE;

  /** @param onSlow called when the direct path in use delivers less than the relay before it did */
  constructor(connection: PeerConnection, onSlow: () => void, logger: Logger | undefined) {
    this.#connection = connection;
    this.#onSlow = onSlow;
    this.#logger = logger;
    const end = () => this.#timer.clear();
    connection.finished.then(end, end);
    this.#timer.isReferenced = false;
    this.onPath();
    this.#timer.set(LOOK_MS);
  }

  /** The connection has moved to a path, or lost it. */
  onPath(): void {
    const { hasPath, path } = this.#connection;
    const kind = hasPath ? path.relayed ? "relayed" : "direct" : "none";
    this.#dispatch({ kind: "path", path: kind, bytes: this.#bytes });
  }

  get #bytes(): number {
    return this.#connection.receivedBytes + this.#connection.deliveredBytes;
  }

  #look(): void {
    this.#timer.set(LOOK_MS);
    this.#dispatch({ kind: "delivered", bytes: this.#bytes });
  }

  #dispatch(event: PathChoiceEvent): void {
    const { state, actions } = stepPathChoice(this.#state, event, performance.now());
    this.#state = state;
    for (const { direct, relayed } of actions) {
      const rates = `${direct.toFixed(0)} KB/s instead of ${relayed.toFixed(0)}`;
      this.#logger?.debug(`connect: the direct path delivers less than the relay: ${rates}`);
      this.#onSlow();
    }
  }
}

/** Chosen by us: a fraction of the engine's window. */
const LOOK_MS = 500;
