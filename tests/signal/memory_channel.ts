/**
 * A signal channel without a network: two ends in one process, with whatever delay, loss, duplication and reordering
 * a test asks for in between. It uses the platform's timers, so that virtual time drives it, and random numbers from a
 * seed, so that every run is the same.
 *
 * @module
 */

import { NetworkError, type NetworkErrorReason } from "../../lib/base/errors.ts";
import { WaitQueue } from "../../lib/base/wait_queue.ts";
import { MAX_SIGNAL_BYTES, type SignalChannel } from "../../lib/signal/channel.ts";
import { labelledRandom, type Random } from "../simnet/random.ts";

/** What happens to messages on their way; nothing by default. Shares are probabilities from 0 to 1 for each message. */
export interface MemoryChannelOptions {
  /** From one end to the other. */
  readonly delayMs?: number;
  /** How much longer a message may take. Jitter alone does not reorder: a message waits for those before it. */
  readonly jitterMs?: number;
  /** The share of messages that never arrive. */
  readonly loss?: number;
  /** The share of messages that are sent twice; each copy has its own delay and may be lost. */
  readonly duplication?: number;
  /** The share of messages that are held back, for {@linkcode MemoryChannelOptions.holdBackMs}, and overtaken. */
  readonly reordering?: number;
  /** How much longer a message that is held back may take; 100 by default. */
  readonly holdBackMs?: number;
  /** The seed of the random numbers; 1 by default. */
  readonly seed?: number;
  /** Whether the ends know their round trip; `true` by default. */
  readonly knowsRtt?: boolean;
}

/** The two ends of a channel. */
export function memoryChannelPair(
  options: MemoryChannelOptions = {},
): [MemoryChannel, MemoryChannel] {
  const a: MemoryChannel = new MemoryChannel("a", options, (message) => b.deliver(message));
  const b: MemoryChannel = new MemoryChannel("b", options, (message) => a.deliver(message));
  return [a, b];
}

/** One end. What it sent before it closes still arrives; what arrives at a closed end is lost. */
export class MemoryChannel implements SignalChannel, Disposable {
  /** Twice the delay, without jitter. */
  readonly rttMs?: number;
  /** How many messages this end has sent, including lost ones. */
  sent = 0;
  readonly #options: Required<Omit<MemoryChannelOptions, "seed" | "knowsRtt">>;
  readonly #random: Random;
  readonly #deliver: (message: Uint8Array) => void;
  readonly #arrived = new WaitQueue<Uint8Array>(MAX_WAITING);
  readonly #timers = new Set<ReturnType<typeof setTimeout>>();
  #lastDueMs = 0;
  #failure: NetworkError | undefined;

  /** @ignore use {@linkcode memoryChannelPair} */
  constructor(
    name: string,
    options: MemoryChannelOptions,
    deliver: (message: Uint8Array) => void,
  ) {
    const { delayMs = 0, jitterMs = 0, loss = 0, duplication = 0, reordering = 0 } = options;
    const { holdBackMs = 100, seed = 1, knowsRtt = true } = options;
    this.#options = { delayMs, jitterMs, loss, duplication, reordering, holdBackMs };
    this.#random = labelledRandom(seed, `signal ${name}`);
    this.#deliver = deliver;
    if (knowsRtt) this.rttMs = 2 * delayMs;
  }

  /** As {@linkcode SignalChannel.send}. */
  // deno-lint-ignore require-await -- a promise that rejects, where the plain call throws
  async send(message: Uint8Array): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    if (message.length > MAX_SIGNAL_BYTES) {
      throw new RangeError(
        `Cannot send: a message has at most ${MAX_SIGNAL_BYTES} bytes, not ${message.length}`,
      );
    }
    this.sent++;
    const copies = this.#happens(this.#options.duplication) ? 2 : 1;
    for (let i = 0; i < copies; i++) {
      if (!this.#happens(this.#options.loss)) this.#dispatch(message.slice());
    }
  }

  /** As {@linkcode SignalChannel.receive}. */
  receive(options: { signal?: AbortSignal } = {}): Promise<Uint8Array> {
    return this.#arrived.next(options.signal);
  }

  /** Delivers a message of the other end, or one that a test forges. */
  deliver(message: Uint8Array): void {
    this.#arrived.push(message);
  }

  /** Closes this end, as its owner does; idempotent. The other end does not notice. */
  close(): void {
    this.#end("closed");
  }

  /** Breaks this end, as when a server goes down: its messages on their way are lost too. */
  break(): void {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    this.#end("reset");
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #end(reason: NetworkErrorReason): void {
    this.#failure ??= new NetworkError(`Cannot use the signal channel: ${reason}`, reason);
    this.#arrived.close(this.#failure);
  }

  #happens(share: number): boolean {
    return this.#random() < share;
  }

  #dispatch(message: Uint8Array): void {
    const nowMs = performance.now();
    const { delayMs, jitterMs, reordering, holdBackMs } = this.#options;
    let dueMs = nowMs + delayMs + jitterMs * this.#random();
    if (this.#happens(reordering)) {
      dueMs += holdBackMs * this.#random();
    } else {
      dueMs = Math.max(dueMs, this.#lastDueMs);
      this.#lastDueMs = dueMs;
    }
    if (dueMs <= nowMs) return this.#deliver(message);
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      this.#deliver(message);
    }, dueMs - nowMs);
    this.#timers.add(timer);
  }
}

/** Messages that were not received; more are lost. */
const MAX_WAITING = 1024;
