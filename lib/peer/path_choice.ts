/**
 * Watches what the paths of a connection deliver, and has it moved back to the relay if a direct path delivers less. Carries
 * out what {@linkcode stepPathChoice} decides.
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
  readonly #logger: Logger | undefined;
  readonly #timer = new ResettableTimer(() => this.#look());
  #state = INITIAL_PATH_CHOICE;

  constructor(connection: PeerConnection, logger: Logger | undefined) {
    this.#connection = connection;
    this.#logger = logger;
    const end = () => this.#timer.clear();
    connection.finished.then(end, end);
    this.#timer.isReferenced = false;
    this.#look();
  }

  #look(): void {
    this.#timer.set(LOOK_MS);
    const { hasPath, path: { relayed }, receivedBytes, deliveredBytes } = this.#connection;
    const bytes = receivedBytes + deliveredBytes;
    this.#dispatch({
      kind: "path",
      path: hasPath ? relayed ? "relayed" : "direct" : "none",
      bytes,
    });
    this.#dispatch({ kind: "delivered", bytes });
  }

  #dispatch(event: PathChoiceEvent): void {
    const { state, actions } = stepPathChoice(this.#state, event, performance.now());
    this.#state = state;
    for (const { direct, relayed } of actions) {
      const rates = `${direct.toFixed(0)} KB/s instead of ${relayed.toFixed(0)}`;
      this.#logger?.debug(`connect: the direct path delivers less than the relay: ${rates}`);
      this.#connection.slow();
    }
  }
}

/** Chosen by us: a fraction of the engine's window. */
const LOOK_MS = 500;
