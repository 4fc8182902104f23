/**
 * Small messages beside the stream of a session.
 *
 * @module
 */

import { WaitQueue } from "../base/wait_queue.ts";
import { MAX_SIGNAL_BYTES, type SignalChannel } from "../signal/channel.ts";

/** What a {@linkcode MessageChannel} needs of its session. */
export interface MessageChannelOptions {
  /** Called when there is something to send. */
  readonly onMessage: () => void;
  readonly rttMs: () => number | undefined;
}

/** A channel over whatever path there is. Messages are lost with the path that they are on, and if too many wait. */
export class MessageChannel implements SignalChannel {
  readonly #options: MessageChannelOptions;
  readonly #arrived = new WaitQueue<Uint8Array>(MAX_WAITING);
  readonly #leaving: Uint8Array[] = [];
  #failure: { readonly reason: unknown } | undefined;

  constructor(options: MessageChannelOptions) {
    this.#options = options;
  }

  /** The session's. */
  get rttMs(): number | undefined {
    return this.#options.rttMs();
  }

  /**
   * As {@linkcode SignalChannel.send}; waits for a path if there is none, and then the newest are kept.
   *
   * @throws {RangeError} if the message is too long
   * @throws {NetworkError} once the session has ended
   */
  // deno-lint-ignore require-await -- a promise that rejects, where the plain call throws
  async send(message: Uint8Array): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure.reason;
    if (message.length > MAX_SIGNAL_BYTES) {
      throw new RangeError(
        `Cannot send: a message has at most ${MAX_SIGNAL_BYTES} bytes, not ${message.length}`,
      );
    }
    if (this.#leaving.length === MAX_WAITING) this.#leaving.shift();
    this.#leaving.push(message.slice());
    this.#options.onMessage();
  }

  /** As {@linkcode SignalChannel.receive}. */
  receive(options: { signal?: AbortSignal } = {}): Promise<Uint8Array> {
    return this.#arrived.next(options.signal);
  }

  /** The next message to send. */
  next(): Uint8Array | undefined {
    return this.#leaving.shift();
  }

  /** A message came. */
  deliver(message: Uint8Array): void {
    this.#arrived.push(message);
  }

  /** The session has ended. */
  fail(reason: unknown): void {
    this.#failure ??= { reason };
    this.#leaving.length = 0;
    this.#arrived.close(reason);
  }
}

/** Ours: of 4 KiB each; more are lost. */
const MAX_WAITING = 16;
