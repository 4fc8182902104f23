/**
 * Exchanges offers over a channel that loses, repeats and reorders what it carries.
 *
 * Each side repeats its offer until it has what it needs of the other's, and says so; who hears that the other still
 * waits sends its own at once. An offer that does not answer ours may be left over from an earlier meeting; it is used
 * all the same, since waiting for the answer would cost a round trip, but makes way for a later one. A wrong one does
 * no harm: its key does not fit, so nobody can be met by it.
 *
 * @module
 */

import { MalformedMessageError } from "../errors.ts";
import type { SignalChannel } from "../signal/channel.ts";
import { decodeOffer, encodeOffer, newKey, type PunchOffer, type PunchRole } from "./message.ts";
import type { PunchSide } from "./profile.ts";
import { isStale } from "./staleness.ts";

/** What this side would offer now. */
export interface OfferSource {
  readonly side: PunchSide;
  /** How long ago the samples of its profile were taken. */
  readonly sampleAgeMs: number;
}

/** An exchange under way. */
export class OfferExchange {
  readonly #channel: SignalChannel;
  readonly #role: PunchRole;
  readonly #source: OfferSource;
  readonly #round: number;
  readonly #key = newKey();
  readonly #later = Promise.withResolvers<number>();
  readonly #confirmed = Promise.withResolvers<void>();
  readonly #onOffer: (offer: PunchOffer) => void;
  #isSecond: boolean | undefined;
  #theirs: PunchOffer | undefined;
  #isConfirmed = false;

  /**
   * @param source asked anew for each message
   * @param round which attempt of this meeting it is for
   * @param onOffer called for the other side's offer as soon as it is good for a plan, and again for one that takes its
   * place
   */
  constructor(
    channel: SignalChannel,
    { role, round }: { role: PunchRole; round: number },
    source: OfferSource,
    onOffer: (offer: PunchOffer) => void,
  ) {
    this.#channel = channel;
    this.#role = role;
    this.#round = round;
    this.#source = source;
    this.#onOffer = onOffer;
  }

  /** What this side offers, as it would send it now. */
  get ours(): PunchOffer {
    const { side, sampleAgeMs } = this.#source;
    return {
      role: this.#role,
      key: this.#key,
      answers: this.#theirs?.key ?? null,
      isSecond: this.#isSecond ?? false,
      isWaiting: this.#isWaiting,
      round: this.#round,
      sampleAgeMs,
      side,
    };
  }

  /** Resolves with the round that the other side has gone on to, if it has. */
  get later(): Promise<number> {
    return this.#later.promise;
  }

  /** Resolves once the other side is known to have this side's offer. */
  get confirmed(): Promise<void> {
    return this.#confirmed.promise;
  }

  /** Sends this side's offer once more, because there is something new in it. */
  async announce(): Promise<void> {
    await this.#send();
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
      const timeout = this.#isWaiting ? AbortSignal.timeout(waitMs) : undefined;
      const turn = timeout === undefined ? signal : AbortSignal.any([signal, timeout]);
      try {
        do {
          await this.#take(await this.#channel.receive({ signal: turn }));
        } while (this.#isWaiting === (timeout !== undefined));
      } catch (error) {
        signal.throwIfAborted();
        if (error !== timeout?.reason) throw error;
        await this.#send();
      }
    }
  }

  get #isWaiting(): boolean {
    return this.#theirs === undefined || isStale(this.#theirs);
  }

  async #take(message: Uint8Array): Promise<void> {
    const offer = tryDecode(message);
    if (offer === undefined || offer.role === this.#role || offer.round < this.#round) return;
    if (offer.round > this.#round) return this.#later.resolve(offer.round);
    const isAnswer = offer.answers === this.#key;
    const isNew = offer.key !== this.#theirs?.key;
    if (isNew && this.#isConfirmed && !isAnswer) return; // an old one, come late
    const isWanted = isNew || (this.#isWaiting && !isStale(offer));
    if (isWanted) {
      this.#theirs = offer;
      if (!isStale(offer)) this.#onOffer(offer);
    }
    if (isAnswer) {
      this.#isConfirmed = true;
      this.#confirmed.resolve();
    }
    if (isNew || offer.isWaiting) await this.#send();
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
