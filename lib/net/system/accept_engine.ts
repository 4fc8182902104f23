/**
 * When a listener renews its handle: facts in, next steps out. A handle that runs out of file descriptors while it
 * accepts a connection never accepts another, and raises no event. A new handle of the same socket does, and loses no
 * connection that waits.
 *
 * | last attempt       | event              | what follows                                                         |
 * | ------------------ | ------------------ | -------------------------------------------------------------------- |
 * | any                | accepted           | count it                                                             |
 * |                    | time               | renew the handle                                                     |
 * | found a descriptor | renewed            | wait: briefly after a connection, or else twice as long as last time |
 * |                    | out of descriptors | report that the shortage begins; wait briefly                        |
 * | found none         | renewed            | report that the shortage ends; wait briefly                          |
 * |                    | out of descriptors | wait briefly                                                         |
 *
 * @module
 */

import type { Shortage } from "../network.ts";

/** A listener between two events. */
export interface AcceptState {
  /** Whether the last attempt to renew the handle found no free file descriptor. */
  readonly isOut: boolean;
  /** Whether a connection was accepted since the last attempt. */
  readonly hasAccepted: boolean;
  /** The wait before the next attempt. */
  readonly waitMs: number;
}

/** What happened. */
export type AcceptEvent =
  | { readonly kind: "accepted" }
  /** The time is up. */
  | { readonly kind: "time" }
  | { readonly kind: "renewed" }
  /** There was no free file descriptor for a new handle. */
  | { readonly kind: "out-of-descriptors" };

/** What to do next. */
export type AcceptAction =
  /** Make a new handle; `renewed` or `out-of-descriptors` follows. */
  | { readonly kind: "renew" }
  /** Send `time` after this time. */
  | { readonly kind: "wait"; readonly ms: number }
  /** Tell the owner. */
  | { readonly kind: "report"; readonly shortage: Shortage };

/** The start of a listener. */
export const INITIAL_ACCEPT_STATE: AcceptState = {
  isOut: false,
  hasAccepted: false,
  waitMs: 500, // IDLE_MS
};

/** The next state, and what to do. */
export function stepAccept(
  state: AcceptState,
  event: AcceptEvent,
): { readonly state: AcceptState; readonly actions: readonly AcceptAction[] } {
  switch (event.kind) {
    case "accepted":
      return { state: state.hasAccepted ? state : { ...state, hasAccepted: true }, actions: [] };
    case "time":
      return { state, actions: [{ kind: "renew" }] };
    case "renewed": {
      // Whatever used up the descriptors may have done so again, and so may the connections that waited.
      const isBusy = state.isOut || state.hasAccepted;
      const waitMs = isBusy ? SOON_MS : Math.min(IDLE_MS, 2 * state.waitMs);
      return {
        state: { isOut: false, hasAccepted: false, waitMs },
        actions: [
          ...state.isOut ? [{ kind: "report", shortage: "ends" } as const] : [],
          { kind: "wait", ms: waitMs },
        ],
      };
    }
    case "out-of-descriptors":
      return {
        state: { isOut: true, hasAccepted: false, waitMs: SOON_MS },
        actions: [
          ...state.isOut ? [] : [{ kind: "report", shortage: "begins" } as const],
          { kind: "wait", ms: SOON_MS },
        ],
      };
  }
}

/**
 * Chosen by us: a limit of 128 descriptors takes a queue of 500 dead connections in ten rounds, a quarter of a second.
 */
const SOON_MS = 25;

/** Chosen by us: a listener that is left alone renews its handle so often. That costs 0.1 ms. */
const IDLE_MS = 500;
