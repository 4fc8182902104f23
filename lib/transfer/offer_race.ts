/**
 * One offer before several receivers: all may look at it, and the first that accepts gets the transfer.
 *
 * @module
 */

import { TaskGroup } from "../base/tasks.ts";
import type { TcpConnection } from "../net/network.ts";
import { TransferError } from "./files.ts";
import { TransferMessageReader } from "./message_reader.ts";
import type { NextConnection } from "./reconnect.ts";
import { sendRefusal } from "./refuse.ts";

/** Where further receivers come from while one decides. */
export interface OtherReceivers {
  /** Waits for another receiver. It must reject soon after an abort. */
  readonly next: NextConnection;
  /** Called when a receiver has accepted. The others are refused. */
  chosen(connection: TcpConnection): void;
  /** Called when a receiver leaves without accepting while others are still looking. */
  left(error: unknown): void;
}

/** A connection to a receiver, and what reads from it. */
export class ReceiverConnection {
  readonly connection: TcpConnection;
  readonly reader: TransferMessageReader;

  constructor(connection: TcpConnection) {
    this.connection = connection;
    this.reader = new TransferMessageReader(connection);
  }
}

/** A receiver that has accepted, and its answer. */
export interface Accepted<Answer> {
  readonly receiver: ReceiverConnection;
  readonly answer: Answer;
}

/** How the offer is made to one receiver. */
export interface OfferSteps<Answer> {
  offer(receiver: ReceiverConnection): Promise<void>;
  /** Waits until the receiver has accepted. */
  readAnswer(receiver: ReceiverConnection): Promise<Answer>;
}

/** Shows an offer to receivers until one accepts. Disposal closes the connections to all but the first. */
export class OfferRace<Answer> implements AsyncDisposable {
  readonly #steps: OfferSteps<Answer>;
  readonly #others: OtherReceivers | undefined;
  readonly #signal: AbortSignal | undefined;
  readonly #winner = Promise.withResolvers<Accepted<Answer>>();
  /** Takes further receivers. Stopped when the race is decided. */
  readonly #taking = new TaskGroup((error) => this.#takeNoMore(error));
  /** Refuses those that come too late. */
  readonly #refusing = new TaskGroup(() => {}); // a refusal that fails ends with a reset
  /** Those that look at the offer, the oldest first, and when they are through with it. */
  readonly #looking = new Map<ReceiverConnection, Look>();
  /** The connections that the race has opened. */
  readonly #opened = new Set<TcpConnection>();
  readonly #onAbort = () => this.#opened.forEach((connection) => connection.reset());
  #isDecided = false;

  constructor(
    steps: OfferSteps<Answer>,
    { others, signal }: { others: OtherReceivers | undefined; signal: AbortSignal | undefined },
  ) {
    this.#steps = steps;
    this.#others = others;
    this.#signal = signal;
    signal?.addEventListener("abort", this.#onAbort, { once: true });
  }

  /**
   * Shows the offer to this receiver, and to the others.
   *
   * @throws the failure of the last of them, once all have left
   */
  async run(first: TcpConnection): Promise<Accepted<Answer>> {
    this.#show(first);
    const others = this.#others;
    if (others !== undefined) {
      this.#taking.run(async (signal) => {
        for (;;) this.#showAnother(await others.next({ signal }));
      });
    }
    return await this.#winner.promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#signal?.removeEventListener("abort", this.#onAbort);
    await Promise.all([this.#taking.stop(), this.#refusing.stop()]);
    for (const connection of this.#opened) connection[Symbol.dispose]();
  }

  #showAnother(connection: TcpConnection): void {
    if (this.#signal?.aborted) return connection.reset();
    if (this.#isDecided) return turnAway(connection);
    this.#opened.add(connection);
    if (this.#looking.size >= MAX_LOOKING) {
      const [oldest] = this.#looking.keys();
      this.#refusing.run(() => this.#refuse(oldest!, "too many others look at the offer"));
    }
    this.#show(connection);
  }

  #show(connection: TcpConnection): void {
    const receiver = new ReceiverConnection(connection);
    const look: Look = { isOffered: false, ended: Promise.resolve() };
    this.#looking.set(receiver, look);
    look.ended = this.#offerTo(receiver, look);
  }

  /** Must not fail. */
  async #offerTo(receiver: ReceiverConnection, look: Look): Promise<void> {
    try {
      await this.#steps.offer(receiver);
      look.isOffered = true;
      const answer = await this.#steps.readAnswer(receiver);
      if (this.#looking.delete(receiver)) this.#decide({ receiver, answer });
    } catch (error) {
      if (!this.#looking.has(receiver)) return; // refused meanwhile
      const { connection, reader } = receiver;
      if (!reader.isRefused) await sendRefusal(error, connection, () => reader.drain());
      if (this.#looking.delete(receiver)) this.#leave(receiver, error);
    }
  }

  #decide(accepted: Accepted<Answer>): void {
    if (!this.#end()) return;
    this.#winner.resolve(accepted);
    this.#others?.chosen(accepted.receiver.connection);
    for (const receiver of [...this.#looking.keys()]) {
      this.#refusing.run(() => this.#refuse(receiver, TOO_LATE));
    }
  }

  #leave({ connection }: ReceiverConnection, error: unknown): void {
    if (this.#looking.size === 0) return this.#fail(error);
    this.#others?.left(error);
    if (this.#opened.delete(connection)) connection[Symbol.dispose]();
  }

  /** Those that look at the offer may still accept it. */
  #takeNoMore(error: unknown): void {
    if (this.#looking.size === 0) return this.#fail(error);
    this.#others?.left(error);
  }

  #fail(error: unknown): void {
    if (this.#end()) this.#winner.reject(error);
  }

  /** @returns whether it was not over before */
  #end(): boolean {
    if (this.#isDecided) return false;
    this.#isDecided = true;
    this.#taking.stop();
    return true;
  }

  /** Ends the question at the receiver, which learns why. */
  async #refuse(receiver: ReceiverConnection, why: string): Promise<void> {
    const look = this.#looking.get(receiver);
    if (look === undefined || !this.#looking.delete(receiver)) return;
    const { connection } = receiver;
    if (!look.isOffered) return connection.reset(); // a refusal would be lost in the middle of the offer
    await sendRefusal(new TransferError(why, "failed"), connection, () => look.ended);
    connection.reset();
  }
}

/** Tells a receiver that another one has the transfer. Does not wait for it to know. */
export function turnAway(connection: TcpConnection): void {
  const reader = new TransferMessageReader(connection);
  sendRefusal(new TransferError(TOO_LATE, "failed"), connection, () => reader.drain())
    .finally(() => connection.reset());
}

/** One receiver's look at the offer. */
interface Look {
  /** Whether the whole offer is sent. */
  isOffered: boolean;
  /** Resolved once the receiver has answered, or is gone. */
  ended: Promise<void>;
}

/** The reason for those that another receiver was faster than. */
const TOO_LATE = "another receiver accepted the offer first";

/** Chosen by us: a few people who try at the same time. One more displaces the first, so that it can look, too. */
const MAX_LOOKING = 8;
