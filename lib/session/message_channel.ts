/**
 * Small messages alongside the stream of a session.
 *
 * @module
 */

import { concat, equalBytes } from "../base/bytes.ts";
import { WaitQueue } from "../base/wait_queue.ts";
import { MAX_SIGNAL_BYTES, type SignalChannel } from "../signal/channel.ts";

/** What a {@linkcode MessageChannel} needs from its session. */
export interface MessageChannelOptions {
  /** Called when there is a message to send. */
  readonly onMessage: () => void;
  /** The round trip of the current path. */
  readonly rttMs: () => number | undefined;
}

/** A signaling channel over the current path. Messages are lost with their path, and if too many are waiting. */
export class MessageChannel implements SignalChannel {
  readonly #options: MessageChannelOptions;
  readonly #inbox = new WaitQueue<Uint8Array>(MAX_WAITING);
  readonly #outbox: Uint8Array[] = [];
  readonly #datagrams = new WaitQueue<Uint8Array>(MAX_DATAGRAMS);
  #failure: { readonly reason: unknown } | undefined;

  constructor(options: MessageChannelOptions) {
    this.#options = options;
  }

  /** The round trip of the session's current path. */
  get rttMs(): number | undefined {
    return this.#options.rttMs();
  }

  /**
   * As {@linkcode SignalChannel.send}. Without a path the newest messages wait for one.
   *
   * @throws {RangeError} if the message is too long
   * @throws {NetworkError} once the session has ended
   */
  // deno-lint-ignore require-await -- failures reject the promise
  async send(message: Uint8Array): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure.reason;
    if (message.length > MAX_SIGNAL_BYTES) {
      throw new RangeError(
        `Cannot send: a message has at most ${MAX_SIGNAL_BYTES} bytes, not ${message.length}`,
      );
    }
    if (this.#outbox.length === MAX_WAITING) this.#outbox.shift();
    this.#outbox.push(message.slice());
    this.#options.onMessage();
  }

  /** As {@linkcode SignalChannel.receive}. */
  receive(options: { signal?: AbortSignal } = {}): Promise<Uint8Array> {
    return this.#inbox.next(options.signal);
  }

  /**
   * Sends a datagram of the application: a message with a mark, which sides that know no datagrams take for one that nothing
   * reads.
   *
   * @returns `false` if it was dropped because too many messages wait
   * @throws {NetworkError} once the session has ended
   */
  sendDatagram(datagram: Uint8Array): boolean {
    if (this.#failure !== undefined) throw this.#failure.reason;
    if (this.#outbox.length === MAX_WAITING) return false;
    this.#outbox.push(concat(DATAGRAM_MARK, datagram));
    this.#options.onMessage();
    return true;
  }

  /**
   * The other side's next datagram.
   *
   * @throws the reason for which the session has ended
   */
  receiveDatagram(): Promise<Uint8Array> {
    return this.#datagrams.next();
  }

  /** The next message to send. */
  next(): Uint8Array | undefined {
    return this.#outbox.shift();
  }

  /** A message was received. */
  deliver(message: Uint8Array): void {
    const { length } = DATAGRAM_MARK;
    if (equalBytes(message.subarray(0, length), DATAGRAM_MARK)) {
      this.#datagrams.push(message.subarray(length));
    } else this.#inbox.push(message);
  }

  /** The session has ended. */
  fail(reason: unknown): void {
    this.#failure ??= { reason };
    this.#outbox.length = 0;
    this.#inbox.close(reason);
    this.#datagrams.close(reason);
  }
}

/** How a datagram begins: no message of our own does. */
const DATAGRAM_MARK = Uint8Array.of(0xff, 0x64, 0x67, 0x72);

/** Chosen by us: each is read at once. */
const MAX_DATAGRAMS = 64;

/** Chosen by us: up to 4 KiB each, in each direction. */
const MAX_WAITING = 16;
