/**
 * Which packets have been received, and when to acknowledge them (RFC 9000 §13.2), as a pure engine.
 *
 * | packet                                                       | acknowledged                              |
 * | ------------------------------------------------------------ | ----------------------------------------- |
 * | received before, too old to tell, or with an absurd number   | not at all: it may be a replay            |
 * | out of order                                                 | at once, so that losses are noticed early |
 * | every 2nd of the first {@linkcode EARLY_PACKETS}, then every {@linkcode PACKETS_PER_ACK}th | at once |
 * | any other                                                    | after an eighth of the round trip         |
 *
 * @module
 */

import { addRange, hasNumber, type Range, type Ranges } from "./ack_ranges.ts";
import { MAX_ACK_RANGES } from "./packet_message.ts";
import { MAX_ACK_DELAY_MS } from "./round_trip.ts";

/** Everything about packets received. */
export interface AckState {
  /** The packet numbers received, at most {@linkcode MAX_ACK_RANGES} ranges: the lowest are forgotten. */
  readonly received: Ranges;
  /** Below this, a packet may have been received before. */
  readonly floor: number;
  /** When the highest number arrived. */
  readonly highestAtMs: number;
  /** How many packets have arrived since the last ACK. */
  readonly unacknowledged: number;
  /** How many have arrived in all. */
  readonly count: number;
  /** When to send an ACK; `Infinity` if all packets are acknowledged. */
  readonly dueMs: number;
}

/** What has happened. */
export type AckEvent =
  /** A numbered packet has arrived. `rttMs` is the shortest round trip, if it is known. */
  | { readonly kind: "received"; readonly number: number; readonly rttMs: number | undefined }
  /** An ACK is sent now. */
  | { readonly kind: "acknowledged" };

/** What to do. */
export type AckAction =
  /** The packet is new: process it. */
  | { readonly kind: "accept" }
  /** Send an ACK now. */
  | { readonly kind: "acknowledge" };

/** The next state, and what to do. */
export interface AckStep {
  readonly state: AckState;
  readonly actions: readonly AckAction[];
}

/** The state before the first packet. */
export const INITIAL_ACK_STATE: AckState = {
  received: [],
  floor: 0,
  highestAtMs: 0,
  unacknowledged: 0,
  count: 0,
  dueMs: Infinity,
};

/** Processes an event. */
export function stepAck(state: AckState, event: AckEvent, nowMs: number): AckStep {
  if (event.kind === "acknowledged") {
    return { state: { ...state, unacknowledged: 0, dueMs: Infinity }, actions: NOTHING };
  }
  const { number } = event;
  if (!isNew(state, number)) return { state, actions: NOTHING };
  const expected = state.received.at(-1)?.end ?? 0;
  const added = addRange(state.received, { start: number, end: number + 1 });
  const forgotten = added.length > MAX_ACK_RANGES ? added[0] : undefined;
  const received = forgotten === undefined ? added : added.slice(1);
  const unacknowledged = state.unacknowledged + 1;
  const delayMs = Math.min(
    Math.max((event.rttMs ?? 0) / ACKS_PER_ROUND_TRIP, MIN_DELAY_MS),
    MAX_ACK_DELAY_MS,
  );
  const isDue = number !== expected ||
    unacknowledged >= (state.count < EARLY_PACKETS ? 2 : PACKETS_PER_ACK);
  return {
    state: {
      received,
      floor: forgotten?.end ?? state.floor,
      highestAtMs: number >= expected ? nowMs : state.highestAtMs,
      unacknowledged,
      count: state.count + 1,
      dueMs: isDue ? nowMs : Math.min(state.dueMs, nowMs + delayMs),
    },
    actions: isDue ? ACCEPT_AND_ACKNOWLEDGE : ACCEPT,
  };
}

/** Whether a packet with this number can be processed: it was not received before, as far as can be told. */
export function isNew({ received, floor }: AckState, number: number): boolean {
  const expected = received.at(-1)?.end ?? 0;
  return number >= floor && number <= expected + MAX_JUMP && !hasNumber(received, number);
}

/** The ranges for an ACK, the highest first; empty before the first packet. */
export function rangesToSend({ received }: AckState): Range[] {
  return received.toReversed();
}

// Shared, because these are made for every packet.
const NOTHING: readonly AckAction[] = [];
const ACCEPT: readonly AckAction[] = [{ kind: "accept" }];
const ACCEPT_AND_ACKNOWLEDGE: readonly AckAction[] = [{ kind: "accept" }, { kind: "acknowledge" }];

/** Chosen by us: slow start needs many ACKs. */
export const EARLY_PACKETS = 100;

/** Chosen by us: an ACK costs as much processor time as a packet; every tenth is what QUIC stacks use. */
export const PACKETS_PER_ACK = 10;

/** Chosen by us: several per round trip, so that congestion control has samples. */
const ACKS_PER_ROUND_TRIP = 8;

/** Chosen by us: more packets than any window holds, and gaps that an ACK can express. */
const MAX_JUMP = 2 ** 24;

/** The platform's timers are not more precise. */
const MIN_DELAY_MS = 1;
