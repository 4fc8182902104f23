/**
 * Exchanges relay states with the other side, over a channel that may lose, repeat and reorder messages.
 *
 * @module
 */

import {
  afterAcknowledgement,
  afterChange,
  afterRepeating,
  afterSending,
  mayAnswer,
  startRepetition,
} from "../base/backoff.ts";
import { undefinedIfMalformed } from "../base/errors.ts";
import { runAll } from "../base/tasks.ts";
import { WakeableDelay } from "../base/timers.ts";
import type { SignalChannel } from "../signal/channel.ts";
import { decodeRelayState, encodeRelayState, type RelayState } from "./relay_message.ts";

/** Sends this side's state until the other side acknowledges it, and receives the other side's. */
export class RelayExchange {
  readonly #channel: SignalChannel;
  readonly #onState: (theirs: RelayState) => void;
  #repetition = startRepetition(REPETITION);
  readonly #delay = new WakeableDelay();
  #ours: RelayState;
  #theirs: RelayState | undefined;
  /** The newest version of this side's state that the other side has acknowledged. */
  #acknowledged = 0;
  /** Whether the other side's newest version still has to be acknowledged. */
  #owesAcknowledgement = false;

  /**
   * @param own what this side knows at the start
   * @param onState called with every state from the other side, repeated ones too
   */
  constructor(
    channel: SignalChannel,
    own: Pick<RelayState, "nonce" | "mayOffer" | "ips" | "rendezvous">,
    onState: (theirs: RelayState) => void,
  ) {
    this.#channel = channel;
    this.#onState = onState;
    this.#ours = { ...own, version: 1, acknowledged: 0, relayed: [], refusalCode: null };
  }

  /** Whether the other side knows this side's newest state. */
  get isAcknowledged(): boolean {
    return this.#acknowledged >= this.#ours.version;
  }

  /** Changes this side's state. */
  update(
    change: Partial<
      Pick<RelayState, "ips" | "relayed" | "mayOffer" | "rendezvous" | "refusalCode">
    >,
  ): void {
    this.#ours = { ...this.#ours, ...change, version: this.#ours.version + 1 };
    this.#repetition = afterChange(this.#repetition);
    this.#delay.wake();
  }

  /** Acknowledges the other side's newest state, if that is still to be done: before this side falls silent. */
  async acknowledge(): Promise<void> {
    if (this.#owesAcknowledgement) await this.#send();
  }

  /**
   * Sends and receives until the signal is aborted.
   *
   * @throws the signal's reason
   * @throws {NetworkError} if the channel breaks
   */
  async run(signal: AbortSignal): Promise<void> {
    await runAll([
      (signal) => this.#receiveStates(signal),
      (signal) => this.#sendStates(signal),
    ], signal);
  }

  async #receiveStates(signal: AbortSignal): Promise<never> {
    for (;;) this.#take(await this.#channel.receive({ signal }));
  }

  async #sendStates(signal: AbortSignal): Promise<never> {
    for (;;) {
      const nowMs = performance.now();
      if (this.#repetition.dueMs <= nowMs) {
        this.#repetition = afterRepeating(this.#repetition, nowMs);
        await this.#send();
      } else if (this.#owesAcknowledgement && mayAnswer(this.#repetition, nowMs)) {
        this.#repetition = afterSending(this.#repetition, nowMs);
        await this.#send();
      }
      const dueInMs = this.#repetition.dueMs - performance.now();
      const gapMs = this.#owesAcknowledgement ? REPETITION.minimumGapMs : Infinity;
      await this.#delay.wait(Math.min(dueInMs, gapMs), signal);
    }
  }

  #take(message: Uint8Array): void {
    const theirs = undefinedIfMalformed(() => decodeRelayState(message));
    if (theirs === undefined) return;
    const before = this.#theirs;
    // One nonce for each session: by changing it, the other side could make us start again and again.
    if (before !== undefined && theirs.nonce !== before.nonce) return;
    if (theirs.version < (before?.version ?? 0)) return;
    this.#theirs = theirs;
    this.#ours = { ...this.#ours, acknowledged: theirs.version };
    this.#acknowledged = Math.max(this.#acknowledged, theirs.acknowledged);
    if (this.isAcknowledged) this.#repetition = afterAcknowledgement(this.#repetition);
    if (theirs.version !== before?.version) {
      this.#owesAcknowledgement = true;
      this.#delay.wake();
    }
    this.#onState(theirs);
  }

  async #send(): Promise<void> {
    this.#owesAcknowledgement = false;
    await this.#channel.send(encodeRelayState(this.#ours));
  }
}

/** Chosen by us: the waits of a punch's offers; a peer has few changes to send, so ten answers a second are plenty. */
const REPETITION = { firstWaitMs: 300, maximumWaitMs: 2000, minimumGapMs: 100 };
