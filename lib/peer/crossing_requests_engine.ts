/**
 * What becomes of a dial and of a request of the same peer that crosses it, as a pure function. The request of the peer with
 * the lower key counts: the other peer accepts it and gives its own up.
 *
 * @module
 */

/** The state of a dial. */
export type CrossingState =
  /** No request has crossed it. */
  | "dialling"
  /** A request of the peer with the higher key waits: that peer accepts this side's request if it arrives. */
  | "holding"
  /** The other side's request is accepted in place of this one's. */
  | "accepting"
  /** A request that arrives now does not concern this dial. */
  | "settled";

/** What happens. */
export type CrossingEvent =
  /** A request of the peer that is dialled has arrived. */
  | { readonly kind: "met"; readonly isOwnKeyLower: boolean }
  /** The peer has answered this side's request. */
  | { readonly kind: "answered" }
  /** There will be no connection by this side's request. */
  | { readonly kind: "failed" }
  /** The application has aborted the dial. */
  | { readonly kind: "aborted" }
  /** The other side has given its request up. */
  | { readonly kind: "withdrawn" }
  /** The request was held for {@linkcode HELD_MS}. */
  | { readonly kind: "time" };

/** What to do with the other side's request: refuse it as busy, or let the application decide. */
export type CrossingAction = "accept" | "refuse" | "show";

/** The result of a step. */
export interface CrossingStep {
  readonly state: CrossingState;
  readonly action?: CrossingAction;
}

/** One step. */
export function stepCrossing(state: CrossingState, event: CrossingEvent): CrossingStep {
  if (state === "dialling") {
    if (event.kind === "withdrawn" || event.kind === "time") return { state };
    if (event.kind !== "met") return { state: "settled" };
    return event.isOwnKeyLower ? { state: "holding" } : { state: "accepting", action: "accept" };
  }
  if (state !== "holding") return { state };
  switch (event.kind) {
    case "met":
      return { state };
    case "answered": // it has accepted this side's request, and so given its own up
      return { state: "settled", action: "refuse" };
    case "failed":
    case "time":
      return { state: "accepting", action: "accept" };
    case "aborted":
      return { state: "settled", action: "show" };
    case "withdrawn":
      return { state: "dialling" };
  }
}

/** Chosen by us: a request and its answer take less, unless this side's does not get through. */
export const HELD_MS = 1500;
