/**
 * When a listener renews its handle: facts in, next steps out. A handle that runs out of file descriptors while it
 * accepts a connection never accepts another, and raises no event. A new handle of the same socket does, and loses no
 * connection that waits.
 *
 * | last attempt       | event              | what follows                                         |
 * | ------------------ | ------------------ | ---------------------------------------------------- |
 * | any                | accepted           | count it                                             |
 * |                    | time               | renew the handle                                     |
 * | found a descriptor | renewed            | wait: briefly after many connections, or else longer |
 * |                    | out of descriptors | report that the shortage begins; wait briefly        |
 * | found none         | renewed            | report that the shortage ends; wait briefly          |
 * |                    | out of descriptors | wait briefly                                         |
 *
 * @module
 */

import type { Shortage } from "../network.ts";

/** A listener between two events. */
export interface AcceptState {
  /** Whether the last attempt to renew the handle found no free file descriptor. */
  readonly isOut: boolean;
  /** Connections accepted since the last attempt. */
  readonly accepted: number;
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
export const INITIAL_ACCEPT_STATE: AcceptState = { isOut: false, accepted: 0 };

/** The next state, and what to do. */
export function stepAccept(
  state: AcceptState,
  event: AcceptEvent,
): { readonly state: AcceptState; readonly actions: readonly AcceptAction[] } {
  switch (event.kind) {
    case "accepted":
      return { state: { ...state, accepted: state.accepted + 1 }, actions: [] };
    case "time":
      return { state, actions: [{ kind: "renew" }] };
    case "renewed":
      return {
        state: INITIAL_ACCEPT_STATE,
        actions: [
          ...state.isOut ? [{ kind: "report", shortage: "ends" } as const] : [],
          // Many connections at once may have used up the descriptors again, and so may those that waited.
          { kind: "wait", ms: state.isOut || state.accepted >= MANY ? SOON_MS : IDLE_MS },
        ],
      };
    case "out-of-descriptors":
      return {
        state: { isOut: true, accepted: 0 },
        actions: [
          ...state.isOut ? [] : [{ kind: "report", shortage: "begins" } as const],
          { kind: "wait", ms: SOON_MS },
        ],
      };
  }
}

/** Chosen by us: with it, a listener accepts again less than a second after descriptors are free. It costs 0.1 ms. */
export const IDLE_MS = 500;

/** Chosen by us: a limit of 128 descriptors takes a queue of 500 dead connections in five rounds. */
const SOON_MS = 100;

/** Chosen by us: few programs have a limit that so few connections could reach. */
const MANY = 16;
