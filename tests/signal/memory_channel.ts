/**
 * A signal channel without a network: two ends in one process, and between them whatever delay, loss, duplication
 * and reordering a test asks for. It takes the platform's timers, so that virtual time drives it, and draws its
 * luck from a seed, so that every run is the same run.
 *
 * @module
 */

import { NetworkError, type NetworkErrorReason } from "../../lib/base/errors.ts";
import { WaitQueue } from "../../lib/base/wait_queue.ts";
import { MAX_SIGNAL_BYTES, type SignalChannel } from "../../lib/signal/channel.ts";
import { labelledRandom, type Random } from "../simnet/random.ts";

/** What happens to messages on their way; nothing, unless told. Shares are from 0 to 1, of each message by itself. */
export interface MemoryChannelOptions {
  /** From one end to the other. */
  readonly delayMs?: number;
  /** Up to how much longer a message takes. By itself this changes no order: one waits for those before it. */
  readonly jitterMs?: number;
  /** The share of messages that never arrive. */
  readonly loss?: number;
  /** The share of messages that arrive twice, the second time as a message of its own, delayed by itself. */
  readonly duplication?: number;
  /** The share of messages that are held back, for {@linkcode MemoryChannelOptions.holdBackMs}, and overtaken. */
  readonly reordering?: number;
  /** Up to how much longer a message takes that is held back; 100 unless told. */
  readonly holdBackMs?: number;
  /** What the luck follows from; 1 unless told. */
  readonly seed?: number;
  /** Whether the ends know their round trip; they do unless told. */
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

/** One end. What was sent before it closes still arrives; what arrives after the other has closed is lost. */
export class MemoryChannel implements SignalChannel, Disposable {
  /** Twice the delay, jitter aside. */
  readonly rttMs?: number;
  /** How many messages this end has sent, those that were lost included. */
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

  /** Takes a message from the other end, or from a test that forges one. */
  deliver(message: Uint8Array): void {
    this.#arrived.push(message);
  }

  /** Closes this end, as its owner does; idempotent. The other end is not told. */
  close(): void {
    this.#end("closed");
  }

  /** Breaks this end, as when a server goes down: messages on their way from here are lost as well. */
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

/** Messages that nobody has received; more are lost. */
const MAX_WAITING = 1024;
