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

import { toHex } from "../base/bytes.ts";
import { MalformedMessageError, UnreachableError } from "../base/errors.ts";
import { Deadline } from "../base/timers.ts";
import type { SignalChannel } from "../signal/channel.ts";
import type { PunchDescription } from "./candidates.ts";
import { decodeOffer, encodeOffer, isStale, type PunchOffer, type PunchRole } from "./offer.ts";

/** What this side would offer now. */
export interface OfferSource {
  readonly side: PunchDescription;
  /** How long ago the samples of its profile were taken. */
  readonly sampleAgeMs: number;
  /** Takes new samples, if the last ones are too old to go by; whether it did. */
  refresh(signal: AbortSignal): Promise<boolean>;
}

/** What an exchange needs. */
export interface OfferExchangeOptions {
  readonly channel: SignalChannel;
  readonly role: PunchRole;
  /** Known to both sides and to nobody else; may be empty. */
  readonly sharedSecret: Uint8Array;
  /** Which attempt of this meeting it is for. */
  readonly round: number;
  /** Asked anew for each message. */
  readonly source: OfferSource;
  /**
   * Called for the other side's offer as soon as it is good for a plan, and again for one that takes its place, which
   * happens {@linkcode MAX_OFFERS} times at most.
   */
  readonly onOffer: (offer: PunchOffer) => void;
}

/** An exchange under way. */
export class OfferExchange {
  readonly #options: OfferExchangeOptions;
  readonly #key = toHex(crypto.getRandomValues(new Uint8Array(32)));
  readonly #later = Promise.withResolvers<number>();
  readonly #confirmed = Promise.withResolvers<void>();
  /** The keys of the other side's offers, those included that others have taken the place of. */
  readonly #known = new Set<string>();
  #taken = 0;
  #theirs: PunchOffer | undefined;
  #rival: PunchOffer | undefined;
  #isConfirmed = false;
  #firstSentAtMs: number | undefined;
  #sentAtMs = -Infinity;

  constructor(options: OfferExchangeOptions) {
    this.#options = options;
  }

  /** What this side offers, as it would send it now. */
  get ours(): PunchOffer {
    const { role, round, source } = this.#options;
    return {
      role,
      key: this.#key,
      answers: (this.#theirs ?? this.#rival)?.key ?? null,
      isWaiting: this.#isWaiting,
      round,
      sampleAgeMs: source.sampleAgeMs,
      side: source.side,
    };
  }

  /**
   * How much earlier than the other side this side knows both offers, as far as can be told: the other one's may have
   * been there already when this side began, whose own is then still on its way.
   */
  get headStartMs(): number {
    if (this.#firstSentAtMs === undefined) return 0;
    const arrivalMs = this.#firstSentAtMs + (this.#options.channel.rttMs ?? 0) / 2;
    return Math.max(0, arrivalMs - performance.now());
  }

  /** Resolves with the round that the other side has gone on to, if it has. */
  get later(): Promise<number> {
    return this.#later.promise;
  }

  /** Resolves once the other side is known to have this side's offer. */
  get confirmed(): Promise<void> {
    return this.#confirmed.promise;
  }

  /**
   * Sends and receives until the signal ends it.
   *
   * @throws the signal's reason
   * @throws {NetworkError} if the channel breaks
   * @throws {UnreachableError} if the other side has the same role
   */
  async run(signal: AbortSignal): Promise<never> {
    const { isManual } = this.#options.channel;
    if (isManual) await this.#offerOnce(signal);
    let waitMs = FIRST_WAIT_MS;
    let repeatAtMs = -Infinity;
    for (;;) {
      if (!isManual && this.#isWaiting && repeatAtMs <= performance.now()) {
        await this.#send();
        repeatAtMs = performance.now() + waitMs;
        waitMs = Math.min(waitMs * 2, MAX_WAIT_MS);
      }
      const message = await this.#receive(repeatAtMs, signal);
      if (message !== undefined) await this.#take(message, signal);
    }
  }

  /** People carry one message each way: the second one answers the first. */
  async #offerOnce(signal: AbortSignal): Promise<void> {
    if (this.#options.role === "controlling") return await this.#send();
    while (this.#theirs === undefined) {
      await this.#take(await this.#options.channel.receive({ signal }), signal);
    }
  }

  get #isWaiting(): boolean {
    return this.#theirs === undefined || isStale(this.#theirs);
  }

  /** The next message; nothing when it is time to repeat the offer. */
  async #receive(repeatAtMs: number, signal: AbortSignal): Promise<Uint8Array | undefined> {
    const { channel } = this.#options;
    if (channel.isManual || !this.#isWaiting) return await channel.receive({ signal });
    using turn = new Deadline(repeatAtMs - performance.now(), signal);
    try {
      return await channel.receive({ signal: turn.signal });
    } catch (error) {
      signal.throwIfAborted();
      if (error !== turn.signal.reason) throw error;
      return undefined;
    }
  }

  async #take(message: Uint8Array, signal: AbortSignal): Promise<void> {
    const { role, round, source, onOffer } = this.#options;
    const offer = this.#tryDecode(message);
    if (offer === undefined || offer.key === this.#key) return; // there are channels with an echo
    if (offer.role === role) return await this.#meetRival(offer);
    if (offer.round < round) return;
    if (offer.round > round) return this.#later.resolve(offer.round);
    const isAnswer = offer.answers === this.#key;
    const isNew = offer.key !== this.#theirs?.key;
    // An old one that comes late. Should it be of a peer who has started anew, that one wants to hear of us.
    if (isNew && !this.#mayTake(offer, isAnswer)) return await this.#tell(offer);
    const isWanted = isNew || (this.#isWaiting && !isStale(offer));
    if (isNew) {
      this.#known.add(offer.key);
      this.#taken++;
    }
    if (isWanted) this.#theirs = offer;
    if (isAnswer) {
      this.#isConfirmed = true;
      this.#confirmed.resolve();
    }
    // Who has waited for long has old samples: the peer gets new ones, and this side plans with them.
    const isRefreshed = await source.refresh(signal);
    if (isWanted && !isStale(offer)) onOffer(offer);
    if (isNew || isRefreshed) await this.#send();
    else await this.#tell(offer);
  }

  #mayTake({ key }: PunchOffer, isAnswer: boolean): boolean {
    if (this.#taken >= MAX_OFFERS) return false;
    return isAnswer || !this.#isConfirmed && !this.#known.has(key);
  }

  /** Tells a side that waits, unless it has just been told: others may make it ask as often as they like. */
  async #tell({ isWaiting }: PunchOffer): Promise<void> {
    if (isWaiting && performance.now() - this.#sentAtMs >= MIN_GAP_MS) await this.#send();
  }

  /** An offer in our own role may be left over from an earlier meeting, unless it answers ours. */
  async #meetRival(offer: PunchOffer): Promise<void> {
    this.#rival = offer;
    if (offer.answers !== this.#key) return await this.#tell(offer);
    await this.#send(); // the other side shall know it, too
    throw new UnreachableError(
      `Cannot punch: both sides are ${offer.role}, and one has to be ${
        offer.role === "controlling" ? "controlled" : "controlling"
      }`,
      [],
    );
  }

  async #send(): Promise<void> {
    const { channel, sharedSecret } = this.#options;
    if (channel.isManual && this.#firstSentAtMs !== undefined) return;
    this.#sentAtMs = performance.now();
    this.#firstSentAtMs ??= this.#sentAtMs;
    await channel.send(encodeOffer(this.ours, sharedSecret));
  }

  #tryDecode(message: Uint8Array): PunchOffer | undefined {
    try {
      return decodeOffer(message, this.#options.sharedSecret);
    } catch (error) {
      if (error instanceof MalformedMessageError) return undefined; // not an offer, or a hostile one
      throw error;
    }
  }
}

/**
 * Offers of the other side that are taken in one exchange, each of which leads to dials. Ours: a leftover, the peer's,
 * and that of a peer who starts anew, and again; whoever sends more wants to make us dial.
 */
export const MAX_OFFERS = 4;

/** Ours: about two round trips of most channels, so that most offers are sent once. */
const FIRST_WAIT_MS = 300;
const MAX_WAIT_MS = 2000;

/** From one answer to the next, if nothing is new; ours: well below the first repetition. */
const MIN_GAP_MS = 100;
