/**
 * The side that offers a ticket for a code: whom to answer, which guesses count, and when the code ends.
 *
 * | message                       | what follows                                                                     |
 * | ----------------------------- | -------------------------------------------------------------------------------- |
 * | hello                         | a share; costs no guess, and nothing is remembered                               |
 * | confirm that was judged       | the same answer again                                                            |
 * | confirm that is right         | the code is spent, and the ticket handed over                                    |
 * | confirm that is wrong         | one guess less; after the last one the code ends                                 |
 * | hello or confirm after the end | a refusal: spent, expired or out of guesses, whatever the words                  |
 * | probe                         | the number is taken                                                              |
 *
 * Everything is limited in rate, so a flood costs this side little.
 *
 * @module
 */

import { refilled } from "../base/rate_limiter.ts";
import type { RefusalReason } from "./message.ts";

/** What the offering side knows. */
export interface CodeOfferState {
  /** Until the code is spent, out of guesses or expired. */
  readonly status: "open" | "spent" | "out-of-guesses" | "expired";
  readonly guessesLeft: number;
  /** The confirmations that were judged, each by a digest of its whole. */
  readonly judged: readonly JudgedConfirmation[];
  readonly expiresAtMs: number;
  /** Answers that may still be sent at once. */
  readonly tokens: number;
  readonly filledAtMs: number;
}

/** A confirmation and what came of it. */
export interface JudgedConfirmation {
  readonly digest: string;
  readonly isRight: boolean;
}

/** Something happened. */
export type CodeOfferEvent =
  /** A hello with a valid share. */
  | { readonly kind: "hello" }
  /** A confirmation with a valid share. */
  | { readonly kind: "confirm"; readonly digest: string }
  /** The confirmation was judged, as a `judge` action asked. */
  | { readonly kind: "judged"; readonly digest: string; readonly isRight: boolean }
  | { readonly kind: "probe" }
  | { readonly kind: "time" };

/** Something to do, about the message of the event. */
export type CodeOfferAction =
  /** Send a share. */
  | { readonly kind: "share" }
  /** Find out whether the confirmation is right, and report it as `judged` at once, if it is for this offerer. */
  | { readonly kind: "judge" }
  /** Send the ticket; the first time, or again to the same side. */
  | { readonly kind: "hand-over" }
  | { readonly kind: "refuse"; readonly reason: RefusalReason }
  /** Say that the number is taken. */
  | { readonly kind: "taken" }
  /** Tell the owner. */
  | { readonly kind: "report"; readonly report: CodeOfferReport };

/** What the owner of the code is told. */
export type CodeOfferReport =
  | { readonly kind: "wrong-guess"; readonly guessesLeft: number }
  | { readonly kind: "out-of-guesses" }
  | { readonly kind: "spent" }
  | { readonly kind: "expired" };

/** What follows from an event. */
export interface CodeOfferStep {
  readonly state: CodeOfferState;
  readonly actions: readonly CodeOfferAction[];
}

/** A code that was drawn just now. */
export function openCodeOffer(expiresAtMs: number, nowMs: number): CodeOfferState {
  return {
    status: "open",
    guessesLeft: MAX_GUESSES,
    judged: [],
    expiresAtMs,
    tokens: ANSWERS.burst,
    filledAtMs: nowMs,
  };
}

/** The next state, and what to do now. */
export function stepCodeOffer(
  before: CodeOfferState,
  event: CodeOfferEvent,
  nowMs: number,
): CodeOfferStep {
  const { state, actions } = expired(before, nowMs);
  if (event.kind === "time") return { state, actions };
  if (event.kind === "judged") return judged(state, event);
  const limited = takeToken(state, nowMs);
  return limited === undefined
    ? { state, actions }
    : { state: limited, actions: [...actions, answerTo(limited, event)] };
}

/** When to step with `time`. */
export function codeOfferWakeAtMs({ status, expiresAtMs }: CodeOfferState): number {
  return status === "open" ? expiresAtMs : Infinity;
}

function answerTo(
  { status, judged }: CodeOfferState,
  event: Exclude<CodeOfferEvent, { kind: "judged" | "time" }>,
): CodeOfferAction {
  if (event.kind === "probe") return { kind: "taken" };
  if (event.kind === "hello") {
    return status === "open" ? { kind: "share" } : { kind: "refuse", reason: status };
  }
  const known = judged.find(({ digest }) => digest === event.digest);
  if (known?.isRight) return { kind: "hand-over" };
  if (known !== undefined && status !== "spent") return { kind: "refuse", reason: "wrong" };
  return status === "open" ? { kind: "judge" } : { kind: "refuse", reason: status };
}

function judged(
  state: CodeOfferState,
  { digest, isRight }: JudgedConfirmation,
): CodeOfferStep {
  if (state.status !== "open" || state.judged.some((each) => each.digest === digest)) {
    return { state, actions: [] };
  }
  const remembered = { ...state, judged: [...state.judged, { digest, isRight }] };
  if (isRight) {
    return {
      state: { ...remembered, status: "spent" },
      actions: [{ kind: "hand-over" }, { kind: "report", report: { kind: "spent" } }],
    };
  }
  const guessesLeft = state.guessesLeft - 1;
  const status = guessesLeft === 0 ? "out-of-guesses" : "open";
  const report: CodeOfferReport = guessesLeft === 0
    ? { kind: "out-of-guesses" }
    : { kind: "wrong-guess", guessesLeft };
  return {
    state: { ...remembered, guessesLeft, status },
    actions: [{ kind: "refuse", reason: "wrong" }, { kind: "report", report }],
  };
}

function expired(state: CodeOfferState, nowMs: number): CodeOfferStep {
  if (state.status !== "open" || nowMs < state.expiresAtMs) return { state, actions: [] };
  return {
    state: { ...state, status: "expired" },
    actions: [{ kind: "report", report: { kind: "expired" } }],
  };
}

function takeToken(state: CodeOfferState, nowMs: number): CodeOfferState | undefined {
  const tokens = refilled(ANSWERS, state.tokens, nowMs - state.filledAtMs);
  return tokens < 1 ? undefined : { ...state, tokens: tokens - 1, filledAtMs: nowMs };
}

/**
 * Completed wrong guesses that end a code. Chosen by us: a person may mistype twice. With the one guess that the redeeming
 * side lets an impostor make, that is 4 in 2^30: the odds of an attacker are 2^-28.
 */
export const MAX_GUESSES = 3;

/** Chosen by us: an answer takes a millisecond of computing at most, and one exchange needs two. */
const ANSWERS = { burst: 64, perSecond: 32 };
