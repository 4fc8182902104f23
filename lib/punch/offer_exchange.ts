/**
 * Exchanges offers over a channel that may lose, repeat and reorder messages.
 *
 * Each side repeats its offer until it has the offer that it needs from the other side, and reports whether it still
 * waits for one. A side that learns that the other one waits sends its own offer at once. An offer that does not answer
 * this side's may be left over from an earlier call. It is used anyway, because waiting for the answer would cost a round
 * trip, but a later offer replaces it. A wrong offer does no harm: its key does not fit, so no connection with
 * anyone else can be proved.
 *
 * @module
 */

import { afterRepeating, afterSending, mayAnswer, startRepetition } from "../base/backoff.ts";
import { toHex } from "../base/bytes.ts";
import { undefinedIfMalformed, UnreachableError } from "../base/errors.ts";
import { Deadline } from "../base/timers.ts";
import type { SignalChannel } from "../signal/channel.ts";
import type { PunchDescription } from "./candidates.ts";
import {
  decodeOffer,
  encodeOffer,
  isStale,
  keyFromSeed,
  mustAwait,
  type PunchOffer,
  type PunchRole,
  SEED_BYTES,
} from "./offer.ts";

/** What this side would offer now. */
export interface OfferSource {
  readonly description: PunchDescription;
  /** The same for UDP, if this side punches by UDP, once it is there: it may follow, see `udpFollows`. */
  readonly udp?: PunchDescription;
  /** How long ago the samples in its profile were taken, in milliseconds. */
  readonly sampleAgeMs: number;
  /** Takes new samples if the last ones are too old to predict from; resolves with whether it did. */
  refresh(signal: AbortSignal): Promise<boolean>;
  /** Waits for what the description says is being learned or follows for UDP; resolves with whether that has ended. */
  learned(signal: AbortSignal): Promise<boolean>;
}

/** What an exchange needs. */
export interface OfferExchangeOptions {
  readonly channel: SignalChannel;
  readonly role: PunchRole;
  /** Known only to the two sides; may be empty. */
  readonly sharedSecret: Uint8Array;
  /** Offers of other rounds are not taken. */
  readonly round: number;
  /** Read again for each message. */
  readonly source: OfferSource;
  /**
   * Called with an offer of the other side that is good for a plan, and again with one that replaces it, at most
   * {@linkcode MAX_OFFERS} times.
   */
  readonly onOffer: (offer: PunchOffer) => void;
  /**
   * Called once both sides have planned without UDP and then told each other what they know for it, with the other side's
   * offer as it is then; once for each plan at most.
   */
  readonly onUdpOffer?: (offer: PunchOffer) => void;
  /** Called if the plan waits for a description for UDP of either side, see {@linkcode mustAwait}. */
  readonly onUdpAwaited?: () => void;
  /** Called once the other side is known to have this side's offer. */
  readonly onConfirmed: () => void;
  /** Called if the other side has gone on to a later round. */
  readonly onLaterRound: (round: number) => void;
}

/** An exchange of offers. */
export class OfferExchange {
  readonly #options: OfferExchangeOptions;
  readonly #key: string;
  #repetition = startRepetition({
    firstWaitMs: FIRST_WAIT_MS,
    maximumWaitMs: MAX_WAIT_MS,
    minimumGapMs: MIN_GAP_MS,
  });
  /** The keys of all offers taken, including those that were replaced. */
  readonly #taken = new Set<string>();
  #takenCount = 0;
  #theirs: PunchOffer | undefined;
  /** An offer in this side's own role. */
  #conflicting: PunchOffer | undefined;
  #isConfirmed = false;
  /** When this side's first offer was sent after which no other follows, or else the last one. */
  #firstSentAtMs: number | undefined;
  /** The description in this side's last offer. */
  #told: PunchDescription | undefined;
  /** Whether this side's last offer had a description for UDP. */
  #hasToldUdp = false;
  /** Whether one of this side's offers had none, and did not say that one follows: then all later ones lack it, too. */
  #lacksUdp = false;
  /** What this side has planned from last. */
  #planned: PlannedOffer | undefined;

  constructor(options: OfferExchangeOptions) {
    this.#options = options;
    const random = crypto.getRandomValues(new Uint8Array(32));
    this.#key = options.channel.isManual
      ? keyFromSeed(random.subarray(0, SEED_BYTES))
      : toHex(random);
  }

  /** What this side offers now. */
  get localOffer(): PunchOffer {
    const { role, round, source } = this.#options;
    const udp = this.#lacksUdp ? undefined : source.udp;
    return {
      role,
      key: this.#key,
      answers: (this.#theirs ?? this.#conflicting)?.key ?? null,
      isWaiting: this.#isRepeating,
      round,
      sampleAgeMs: source.sampleAgeMs,
      side: source.description,
      ...(udp === undefined ? {} : { udp }),
    };
  }

  /**
   * How much earlier than the other side this side knows both offers, as far as it can tell, in milliseconds: if the
   * other side's offer was there when this side began, this side's own offer is still on its way.
   */
  get headStartMs(): number {
    if (this.#firstSentAtMs === undefined) return 0;
    const arrivalMs = this.#firstSentAtMs + (this.#options.channel.rttMs ?? 0) / 2;
    return Math.max(0, arrivalMs - performance.now());
  }

  /**
   * Sends and receives until the signal aborts.
   *
   * @throws the signal's reason
   * @throws {NetworkError} if the channel breaks
   * @throws {UnreachableError} if the other side has the same role
   */
  async run(signal: AbortSignal): Promise<never> {
    const { isManual } = this.#options.channel;
    if (isManual) {
      await this.#options.source.learned(signal);
      await this.#exchangeOnce(signal);
    }
    for (;;) {
      if (!isManual && this.#isRepeating && this.#repetition.dueMs <= performance.now()) {
        await this.#send();
        this.#repetition = afterRepeating(this.#repetition, performance.now());
      }
      const message = await this.#receive(signal);
      if (message !== undefined) await this.#take(message, signal);
    }
  }

  /** Sends the description for UDP that has followed, if the other side may have planned without it. */
  async tellUdp(): Promise<void> {
    if (this.#planned === undefined || this.#hasToldUdp || this.#lacksUdp) return;
    await this.#send();
    this.#addUdp();
  }

  /** People carry one message each way: the controlled side's answers the controlling side's. */
  async #exchangeOnce(signal: AbortSignal): Promise<void> {
    if (this.#options.role === "controlling") return await this.#send();
    while (this.#theirs === undefined) {
      await this.#take(await this.#options.channel.receive({ signal }), signal);
    }
  }

  get #isWaiting(): boolean {
    const theirs = this.#theirs;
    return theirs === undefined || !this.#hasPlanned(theirs) && this.#isUnfinished(theirs);
  }

  /** Whether a plan from the other side's offer, or UDP beside it, has to wait for another one. */
  get #isRepeating(): boolean {
    return this.#isWaiting || this.#planned?.awaitsUdp === true;
  }

  #hasPlanned({ key }: PunchOffer): boolean {
    return key === this.#planned?.offer.key;
  }

  /** Whether another offer of the other side follows, without which there is no good plan. */
  #isUnfinished(theirs: PunchOffer): boolean {
    const { description } = this.#options.source;
    return isStale(theirs) || mustAwait(theirs.side, description);
  }

  #mustAwaitUdp({ side }: PunchOffer): boolean {
    const { description } = this.#options.source;
    const pairs = [[side, description], [description, side]] as const;
    return pairs.some(([one, other]) => one.udpFollows === true && mustAwait(one, other));
  }

  /** The next message; `undefined` when the offer is due again. */
  async #receive(signal: AbortSignal): Promise<Uint8Array | undefined> {
    const { channel } = this.#options;
    if (channel.isManual || !this.#isRepeating) return await channel.receive({ signal });
    using deadline = new Deadline(this.#repetition.dueMs - performance.now(), signal);
    try {
      return await channel.receive({ signal: deadline.signal });
    } catch (error) {
      signal.throwIfAborted();
      if (error !== deadline.signal.reason) throw error;
      return undefined;
    }
  }

  async #take(message: Uint8Array, signal: AbortSignal): Promise<void> {
    const { role, round, source, sharedSecret } = this.#options;
    const { onOffer, onUdpAwaited, onConfirmed, onLaterRound } = this.#options;
    const decode = this.#options.channel.isManual
      ? (await import("./offer_message.ts")).decodeCompactOffer
      : decodeOffer;
    const offer = undefinedIfMalformed(() => decode(message, sharedSecret));
    if (offer === undefined || offer.key === this.#key) return; // some channels echo
    if (offer.role === role) return await this.#onRoleConflict(offer);
    if (offer.round < round) return;
    if (offer.round > round) return onLaterRound(offer.round);
    const isAnswer = offer.answers === this.#key;
    const isNew = offer.key !== this.#theirs?.key;
    // An old offer that arrives late, or one from a peer that has started over and waits for this side's.
    if (isNew && !this.#mayTake(offer, isAnswer)) return await this.#answer(offer);
    const isWanted = isNew || (this.#isWaiting && !this.#isUnfinished(offer));
    if (isNew) {
      this.#taken.add(offer.key);
      this.#takenCount++;
    }
    if (isWanted) this.#theirs = offer;
    this.#takeUdp(offer);
    if (isAnswer && !this.#isConfirmed) {
      this.#isConfirmed = true;
      onConfirmed();
    }
    if (isWanted && this.#mustAwaitUdp(offer)) onUdpAwaited?.();
    const isLearned = !this.#hasPlanned(offer) && await this.#learn(offer, signal);
    // After a long wait the samples are old: this side takes new ones, plans with them, and sends them to the peer.
    const isRefreshed = await source.refresh(signal);
    if (isWanted && !this.#isUnfinished(offer)) {
      this.#plan(offer);
      onOffer(offer);
    }
    if (isRefreshed || isNew && !isLearned) await this.#send();
    else if (!isLearned) await this.#answer(offer);
    this.#addUdp();
  }

  /** Notes what the plan that is made now is made from. */
  #plan(offer: PunchOffer): void {
    const { side, udp } = this.localOffer;
    this.#lacksUdp ||= udp === undefined && side.udpFollows !== true;
    const awaitsUdp = !this.#lacksUdp && offer.udp === undefined && offer.side.udpFollows === true;
    this.#planned = { offer, hasUdp: udp !== undefined && offer.udp !== undefined, awaitsUdp };
  }

  /** Takes what the other side's offer said would follow. */
  #takeUdp(offer: PunchOffer): void {
    if (!this.#hasPlanned(offer) || !this.#planned!.awaitsUdp) return;
    if (offer.udp === undefined && offer.side.udpFollows) return;
    this.#planned = { ...this.#planned!, offer, awaitsUdp: false };
  }

  /** Has UDP join a plan without it, once each side has the other one's description. */
  #addUdp(): void {
    const planned = this.#planned;
    if (planned === undefined || planned.hasUdp) return;
    if (planned.offer.udp === undefined || !this.#hasToldUdp) return;
    this.#planned = { ...planned, hasUdp: true };
    this.#options.onUdpOffer?.(planned.offer);
  }

  /** If both sides have to wait for what this one learns, the other side has to know that, and then what was learned. */
  async #learn({ side }: PunchOffer, signal: AbortSignal): Promise<boolean> {
    const { source } = this.#options;
    const { description } = source;
    // It may have ended since the last offer, or begun to matter: TCP has no way any more.
    const isDue = mustAwait(description, side);
    if (!isDue && !mustAwait(this.#told ?? description, side)) return false;
    if (isDue) {
      await this.#send();
      await source.learned(signal);
    }
    await this.#send();
    return true;
  }

  #mayTake({ key }: PunchOffer, isAnswer: boolean): boolean {
    if (this.#takenCount >= MAX_OFFERS) return false;
    return isAnswer || !this.#isConfirmed && !this.#taken.has(key);
  }

  /** Sends the offer to a side that waits for it, unless it was just sent: anyone may ask as often as they like. */
  async #answer(offer: PunchOffer): Promise<void> {
    const isPending = this.#options.source.description.udpFollows && this.#hasPlanned(offer) &&
      offer.answers === this.#key;
    if (isPending || !offer.isWaiting) return; // it waits for what is not there yet
    if (mayAnswer(this.#repetition, performance.now())) await this.#send();
  }

  /** An offer in this side's own role may be left over from an earlier call, unless it answers this side's offer. */
  async #onRoleConflict(offer: PunchOffer): Promise<void> {
    this.#conflicting = offer;
    if (offer.answers !== this.#key) return await this.#answer(offer);
    await this.#send(); // the other side must learn it too
    const other = offer.role === "controlling" ? "controlled" : "controlling";
    const message = `Cannot punch: both sides are ${offer.role}, and one must be ${other}`;
    throw new UnreachableError(message, [], { remedy: `Make one of the sides ${other}` });
  }

  async #send(): Promise<void> {
    const { channel, sharedSecret } = this.#options;
    if (channel.isManual && this.#firstSentAtMs !== undefined) return;
    const nowMs = performance.now();
    this.#repetition = afterSending(this.#repetition, nowMs);
    const isFirst = this.#told === undefined || this.#told.isLearning || this.#told.udpFollows;
    if (isFirst) this.#firstSentAtMs = nowMs;
    const encode = channel.isManual
      ? (await import("./offer_message.ts")).encodeCompactOffer
      : encodeOffer;
    const offer = this.localOffer;
    this.#told = offer.side;
    this.#hasToldUdp = offer.udp !== undefined;
    this.#lacksUdp ||= offer.udp === undefined && offer.side.udpFollows !== true;
    await channel.send(encode(offer, sharedSecret));
  }
}

/** An offer of the other side from which this one has planned, as it is now. */
interface PlannedOffer {
  readonly offer: PunchOffer;
  /** Whether the plan has UDP, or UDP has joined it. */
  readonly hasUdp: boolean;
  /** Whether the other side has said that a description for UDP follows. */
  readonly awaitsUdp: boolean;
}

/**
 * How many offers of the other side one exchange takes; each leads to dials. Chosen by us: a leftover, the peer's, and
 * two more if the peer starts over twice. More would be an attempt to make this side dial.
 */
export const MAX_OFFERS = 4;

/** Chosen by us: about two round trips of most channels, so that most offers are sent once. */
const FIRST_WAIT_MS = 300;
const MAX_WAIT_MS = 2000;

/** From one answer to the next if nothing is new. Chosen by us: well below the first repetition. */
const MIN_GAP_MS = 100;
