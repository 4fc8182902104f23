/**
 * The side that has a code and wants the ticket. It says hello until there is a share, confirms the first valid one until
 * there is an answer, and never a second one: each confirmation lets whoever sent the share test one guess at the words.
 *
 * A refusal cannot be authenticated, because the two sides share no key then. So it counts only if the ticket does not
 * arrive within a grace period.
 *
 * @module
 */

import type { RefusalReason } from "./message.ts";

/** What the redeeming side knows. */
export interface CodeRedeemState {
  readonly phase: "asking" | "confirming" | "done";
  readonly startedAtMs: number;
  readonly deadlineMs: number;
  readonly sendAtMs: number;
  /** How often the message of this phase was sent. */
  readonly sent: number;
  /** The first refusal, and until when the ticket may still arrive. */
  readonly refused: { readonly reason: RefusalReason; readonly untilMs: number } | undefined;
}

/** Something happened. */
export type CodeRedeemEvent =
  | { readonly kind: "time" }
  /** A valid share that is not this side's own. */
  | { readonly kind: "share" }
  /** The ticket, authentic. */
  | { readonly kind: "ticket" }
  | { readonly kind: "refusal"; readonly reason: RefusalReason };

/** Something to do. */
export type CodeRedeemAction =
  | { readonly kind: "send-hello" }
  /** Take the share of this event as the other side's. */
  | { readonly kind: "take-share" }
  | { readonly kind: "send-confirm" }
  | { readonly kind: "succeed" }
  | { readonly kind: "fail"; readonly reason: CodeRedeemFailure };

/** Why there is no ticket: a refusal, no answer at all (`absent`), or a share and then silence (`interrupted`). */
export type CodeRedeemFailure = RefusalReason | "absent" | "interrupted";

/** What follows from an event. */
export interface CodeRedeemStep {
  readonly state: CodeRedeemState;
  readonly actions: readonly CodeRedeemAction[];
}

/** Nothing was sent yet. */
export function startCodeRedeem(timeoutMs: number, nowMs: number): CodeRedeemState {
  const deadlineMs = nowMs + timeoutMs;
  return {
    phase: "asking",
    startedAtMs: nowMs,
    deadlineMs,
    sendAtMs: nowMs,
    sent: 0,
    refused: undefined,
  };
}

/** The next state, and what to do now. */
export function stepCodeRedeem(
  state: CodeRedeemState,
  event: CodeRedeemEvent,
  nowMs: number,
): CodeRedeemStep {
  if (state.phase === "done") return { state, actions: [] };
  switch (event.kind) {
    case "ticket":
      return state.phase === "confirming"
        ? end(state, { kind: "succeed" })
        : { state, actions: [] };
    case "share": {
      if (state.phase !== "asking") return { state, actions: [] };
      const { state: next, actions } = send({ ...state, phase: "confirming", sent: 0 }, nowMs);
      return { state: next, actions: [{ kind: "take-share" }, ...actions] };
    }
    case "refusal": {
      const { reason } = event;
      // Before a share, the words were not judged yet.
      if (state.refused !== undefined || state.phase === "asking" && reason === "wrong") {
        return { state, actions: [] };
      }
      return {
        state: { ...state, refused: { reason, untilMs: nowMs + REFUSAL_GRACE_MS } },
        actions: [],
      };
    }
    case "time":
      return onTime(state, nowMs);
  }
}

/** When to step with `time`. */
export function codeRedeemWakeAtMs(state: CodeRedeemState): number {
  if (state.phase === "done") return Infinity;
  return Math.min(state.sendAtMs, state.deadlineMs, state.refused?.untilMs ?? Infinity);
}

function onTime(state: CodeRedeemState, nowMs: number): CodeRedeemStep {
  if (state.refused !== undefined && nowMs >= state.refused.untilMs) {
    return end(state, { kind: "fail", reason: state.refused.reason });
  }
  if (nowMs >= state.deadlineMs) {
    const reason = state.phase === "asking" ? "absent" : "interrupted";
    return end(state, { kind: "fail", reason });
  }
  return nowMs >= state.sendAtMs ? send(state, nowMs) : { state, actions: [] };
}

function send(state: CodeRedeemState, nowMs: number): CodeRedeemStep {
  const waitMs = Math.min(RESEND.firstMs * 2 ** state.sent, RESEND.maximumMs);
  return {
    state: { ...state, sent: state.sent + 1, sendAtMs: nowMs + waitMs },
    actions: [{ kind: state.phase === "asking" ? "send-hello" : "send-confirm" }],
  };
}

function end(state: CodeRedeemState, action: CodeRedeemAction): CodeRedeemStep {
  return { state: { ...state, phase: "done" }, actions: [action] };
}

/** Chosen by us: longer than a round trip by a distant broker; and a message in some seconds troubles no one. */
const RESEND = { firstMs: 700, maximumMs: 3000 };

/** Chosen by us: two round trips by a distant broker, for a ticket that a forged refusal has overtaken. */
const REFUSAL_GRACE_MS = 1000;
