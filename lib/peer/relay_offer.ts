/**
 * Keeps the other side's relay state here, and this side's there, over a channel that loses and repeats.
 *
 * @module
 */

import { MalformedMessageError } from "../base/errors.ts";
import { GiveUp } from "../base/timers.ts";
import { decodeRelayState, encodeRelayState, type RelayState } from "../connect/relay_message.ts";
import type { SignalChannel } from "../signal/channel.ts";

/** Tells, and is told. */
export class RelayExchange {
  readonly #channel: SignalChannel;
  readonly #onState: (theirs: RelayState) => void;
  #ours: RelayState;
  #theirs: RelayState | undefined;
  #heard = 0;
  #repliedAtMs = -Infinity;
  #owesReply = false;
  #wake = new AbortController();

  /**
   * @param own what is known from the beginning
   * @param onState called whenever the other side says its state
   */
  constructor(
    channel: SignalChannel,
    own: Pick<RelayState, "nonce" | "mayOffer">,
    onState: (theirs: RelayState) => void,
  ) {
    this.#channel = channel;
    this.#onState = onState;
    this.#ours = { ...own, version: 1, heard: 0, ips: [], relayed: [] };
  }

  /** Whether the other side knows what this one says. */
  get isHeard(): boolean {
    return this.#heard >= this.#ours.version;
  }

  /** Changes what the other side is told. */
  tell(change: Partial<Pick<RelayState, "ips" | "relayed" | "mayOffer">>): void {
    this.#ours = { ...this.#ours, ...change, version: this.#ours.version + 1 };
    this.#wake.abort();
  }

  /** Lets the other side know that it was heard, if it does not yet: before this side falls silent. */
  async sayLast(): Promise<void> {
    if (this.#owesReply) await this.#send();
  }

  /**
   * Sends and receives until the signal ends it.
   *
   * @throws the signal's reason
   * @throws {NetworkError} if the channel breaks
   */
  async run(signal: AbortSignal): Promise<never> {
    let waitMs = FIRST_WAIT_MS;
    let toldVersion = 0;
    for (;;) {
      const isNew = toldVersion < this.#ours.version;
      if (isNew) waitMs = FIRST_WAIT_MS;
      if (isNew || this.#owesReply || this.#heard < this.#ours.version) {
        toldVersion = this.#ours.version;
        await this.#send();
      }
      this.#wake = new AbortController();
      using turn = new GiveUp(waitMs, AbortSignal.any([signal, this.#wake.signal]));
      waitMs = Math.min(2 * waitMs, MAX_WAIT_MS);
      try {
        for (;;) await this.#take(await this.#channel.receive({ signal: turn.signal }));
      } catch (error) {
        signal.throwIfAborted();
        if (error !== turn.signal.reason) throw error;
      }
    }
  }

  async #take(message: Uint8Array): Promise<void> {
    const theirs = tryDecode(message);
    if (theirs === undefined) return;
    const before = this.#theirs;
    // One nonce for each line: another one would let the other side have everything done again and again.
    if (before !== undefined && theirs.nonce !== before.nonce) return;
    if (theirs.version < (before?.version ?? 0)) return;
    const isNews = theirs.version !== before?.version;
    this.#heard = Math.max(this.#heard, theirs.heard);
    this.#theirs = theirs;
    this.#ours = { ...this.#ours, heard: theirs.version };
    if (isNews) await this.#reply();
    this.#onState(theirs);
  }

  /** At once, unless there was one just now: then with the next repetition. */
  async #reply(): Promise<void> {
    const nowMs = performance.now();
    this.#owesReply = nowMs - this.#repliedAtMs < MIN_GAP_MS;
    if (this.#owesReply) return;
    this.#repliedAtMs = nowMs;
    await this.#send();
  }

  async #send(): Promise<void> {
    this.#owesReply = false;
    await this.#channel.send(encodeRelayState(this.#ours));
  }
}

function tryDecode(message: Uint8Array): RelayState | undefined {
  try {
    return decodeRelayState(message);
  } catch (error) {
    if (error instanceof MalformedMessageError) return undefined;
    throw error;
  }
}

/** Ours: as for offers of a punch. */
const FIRST_WAIT_MS = 300;
const MAX_WAIT_MS = 2000;

/** From one reply to the next. Ours: a peer has a few changes to tell, whatever a hostile one says. */
const MIN_GAP_MS = 100;
