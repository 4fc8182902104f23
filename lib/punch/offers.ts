/**
 * Exchanges offers over a channel that loses, repeats and reorders what it carries.
 *
 * Each side repeats its offer until the other's answers it. An offer that does not answer ours may be left over
 * from an earlier meeting; it is used all the same, since waiting for the answer would cost a round trip, but
 * makes way for a later one. A wrong one does no harm: its key does not fit, so nobody can be met by it.
 *
 * @module
 */

import { MalformedMessageError } from "../errors.ts";
import type { SignalChannel } from "../signal/channel.ts";
import { decodeOffer, encodeOffer, newKey, type PunchOffer, type PunchRole } from "./message.ts";
import type { PunchSide } from "./profile.ts";

/** An exchange under way. */
export class OfferExchange {
  readonly #channel: SignalChannel;
  readonly #role: PunchRole;
  readonly #key = newKey();
  readonly #side: PunchSide;
  readonly #round: number;
  readonly #later = Promise.withResolvers<number>();
  readonly #confirmed = Promise.withResolvers<void>();
  readonly #listeners = new Set<(offer: PunchOffer) => void>();
  #isSecond: boolean | undefined;
  #theirs: PunchOffer | undefined;
  #isConfirmed = false;

  /** @param round which attempt of this meeting it is for */
  constructor(channel: SignalChannel, role: PunchRole, side: PunchSide, round: number) {
    this.#channel = channel;
    this.#role = role;
    this.#side = side;
    this.#round = round;
  }

  /** Resolves with the round that the other side has gone on to, if it has. */
  get later(): Promise<number> {
    return this.#later.promise;
  }

  /** Resolves once the other side is known to have this side's offer. */
  get confirmed(): Promise<void> {
    return this.#confirmed.promise;
  }

  /** What this side offers, as it would send it now. */
  get ours(): PunchOffer {
    return {
      role: this.#role,
      key: this.#key,
      answers: this.#theirs?.key ?? null,
      isSecond: this.#isSecond ?? false,
      round: this.#round,
      side: this.#side,
    };
  }

  /** Calls back for the other side's offer, and again if another one takes its place. */
  onOffer(listener: (offer: PunchOffer) => void): void {
    this.#listeners.add(listener);
    if (this.#theirs !== undefined) listener(this.#theirs);
  }

  /**
   * Sends and receives until the signal ends it.
   *
   * @throws the signal's reason
   * @throws {NetworkError} if the channel breaks
   */
  async run(signal: AbortSignal): Promise<never> {
    await this.#send();
    for (let waitMs = FIRST_WAIT_MS;; waitMs = Math.min(waitMs * 2, MAX_WAIT_MS)) {
      // Once both know of each other there is nothing to repeat, but a lost answer to answer again.
      const timeout = this.#isConfirmed ? undefined : AbortSignal.timeout(waitMs);
      const turn = timeout === undefined ? signal : AbortSignal.any([signal, timeout]);
      try {
        for (;;) await this.#take(await this.#channel.receive({ signal: turn }));
      } catch (error) {
        signal.throwIfAborted();
        if (error !== timeout?.reason) throw error;
        await this.#send();
      }
    }
  }

  async #take(message: Uint8Array): Promise<void> {
    const offer = tryDecode(message);
    if (offer === undefined || offer.role === this.#role || offer.round < this.#round) return;
    if (offer.round > this.#round) return this.#later.resolve(offer.round);
    const isAnswer = offer.answers === this.#key;
    const isNew = offer.key !== this.#theirs?.key;
    if (isNew && this.#isConfirmed && !isAnswer) return; // an old one, come late
    if (isNew) {
      this.#theirs = offer;
      for (const listener of this.#listeners) listener(offer);
    }
    if (isAnswer) {
      this.#isConfirmed = true;
      this.#confirmed.resolve();
    }
    // Who has our offer and says so needs no further one; who has not shall get it at once.
    if (isNew || !isAnswer) await this.#send();
  }

  async #send(): Promise<void> {
    this.#isSecond ??= this.#theirs !== undefined;
    await this.#channel.send(encodeOffer(this.ours));
  }
}

function tryDecode(message: Uint8Array): PunchOffer | undefined {
  try {
    return decodeOffer(message);
  } catch (error) {
    if (error instanceof MalformedMessageError) return undefined; // not an offer, or a hostile one
    throw error;
  }
}

/** Ours: about two round trips of most channels, so that most offers are sent once. */
const FIRST_WAIT_MS = 300;
const MAX_WAIT_MS = 2000;
