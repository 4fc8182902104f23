/**
 * The numbers that a rendezvous server allocates to those who offer a code: small ones, because people read them out.
 *
 * A number belongs to a client from the allocation until it subscribes to the number's meeting place, for ten seconds at
 * most, and after that as long as the meeting place has a subscriber.
 *
 * @module
 */

import { meetingTopic } from "../transport.ts";

/** Which numbers a node may allocate: those with this remainder, so that two nodes never allocate the same one. */
export interface NumberShare {
  /** From 0. */
  readonly index: number;
  /** How many nodes there are. */
  readonly count: number;
}

/** The numbers of one server. */
export class NumberReservations<M> {
  readonly #reserved = new Map<number, { readonly member: M; readonly untilMs: number }>();
  readonly #share: NumberShare;
  readonly #topics = Array.from({ length: NUMBERS }, (_, number) => meetingTopic(number));
  readonly #numbers = new Map(this.#topics.map((topic, number) => [topic, number]));

  constructor(share: NumberShare = { index: 0, count: 1 }) {
    this.#share = share;
  }

  /**
   * Reserves a free number, of as few digits as possible; `undefined` if none is free, or the member has reserved as many
   * as it may.
   *
   * @param isInUse whether a topic has a subscriber
   * @param random from 0 to less than 1: which of those with as many digits
   */
  reserve(
    member: M,
    isInUse: (topic: string) => boolean,
    { nowMs, random }: { readonly nowMs: number; readonly random: number },
  ): number | undefined {
    for (const [number, { untilMs }] of this.#reserved) {
      if (untilMs <= nowMs) this.#reserved.delete(number);
    }
    const own = [...this.#reserved.values()].filter((each) => each.member === member);
    if (own.length >= MAX_PER_MEMBER) return undefined;
    for (const { from, to } of TIERS) {
      const free = Array.from({ length: to - from }, (_, index) => from + index)
        .filter((number) => number % this.#share.count === this.#share.index)
        .filter((number) => !this.#reserved.has(number) && !isInUse(this.#topics[number]!));
      const number = free[Math.floor(random * free.length)];
      if (number === undefined) continue;
      this.#reserved.set(number, { member, untilMs: nowMs + RESERVED_MS });
      return number;
    }
    return undefined;
  }

  /** Whether a member may subscribe to a topic: not if its number is reserved for another. It ends the reservation. */
  take(member: M, topic: string, nowMs: number): boolean {
    const number = this.#numbers.get(topic);
    const reservation = number === undefined ? undefined : this.#reserved.get(number);
    if (reservation === undefined) return true;
    if (reservation.member !== member && nowMs < reservation.untilMs) return false;
    this.#reserved.delete(number!);
    return true;
  }

  /** Ends the reservations of a member. */
  leave(member: M): void {
    for (const [number, reservation] of this.#reserved) {
      if (reservation.member === member) this.#reserved.delete(number);
    }
  }
}

/** What an allocation costs, in messages: it looks at up to a thousand topics. */
export const ALLOCATION_COST = 16;

/** Chosen by us: 1 to 999. Beyond that clients draw numbers themselves. */
const NUMBERS = 1000;

/** Those of one digit first, and so on. */
const TIERS = [{ from: 1, to: 10 }, { from: 10, to: 100 }, { from: 100, to: NUMBERS }] as const;

/** Chosen by us: the client subscribes at once. */
const RESERVED_MS = 10_000;

/** Chosen by us: a client offers one code at a time. */
const MAX_PER_MEMBER = 4;
