/**
 * One offer before several receivers: all may look at it, and the first that accepts gets the transfer.
 *
 * @module
 */

import { TaskGroup } from "../base/tasks.ts";
import type { TcpConnection } from "../net/network.ts";
import { TransferError } from "./files.ts";
import { TransferMessageReader } from "./message_reader.ts";
import {
  EMPTY_OFFER_RACE,
  type OfferRaceAction,
  type OfferRaceEvent,
  type OfferRefusal,
  stepOfferRace,
} from "./offer_race_engine.ts";
import type { NextConnection } from "./reconnect.ts";
import { endRefused, sendRefusal } from "./refuse.ts";

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
  readonly #taking = new TaskGroup((error) => this.#dispatch({ kind: "exhausted", error }));
  /** Tells receivers why they do not get the transfer. */
  readonly #telling = new TaskGroup(() => {}); // what cannot be told ends with a reset
  readonly #looks = new Map<number, Look<Answer>>();
  /** The connections that the race has opened. */
  readonly #opened = new Set<TcpConnection>();
  readonly #onAbort = () => {
    this.#dispatch({ kind: "aborted" });
    for (const connection of this.#opened) connection.reset();
  };
  #state = EMPTY_OFFER_RACE;
  #arrived = 0;

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
    this.#arrive(first);
    const others = this.#others;
    if (others !== undefined) {
      this.#taking.run(async (signal) => {
        for (;;) {
          const connection = await others.next({ signal });
          this.#opened.add(connection);
          this.#arrive(connection);
        }
      });
    }
    return await this.#winner.promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#signal?.removeEventListener("abort", this.#onAbort);
    await Promise.all([this.#taking.stop(), this.#telling.stop()]);
    for (const connection of this.#opened) connection[Symbol.dispose]();
  }

  #arrive(connection: TcpConnection): void {
    const id = this.#arrived++;
    const receiver = new ReceiverConnection(connection);
    this.#looks.set(id, { receiver, ended: Promise.resolve(), answer: undefined });
    this.#dispatch({ kind: "arrived", id });
  }

  #dispatch(event: OfferRaceEvent): void {
    const { state, actions } = stepOfferRace(this.#state, event);
    this.#state = state;
    for (const action of actions) this.#perform(action);
  }

  #perform(action: OfferRaceAction): void {
    switch (action.kind) {
      case "show": {
        const look = this.#looks.get(action.id)!;
        look.ended = this.#show(action.id, look);
        return;
      }
      case "tell":
        return this.#telling.run(() => this.#tell(action.id, action.error));
      case "report":
        return this.#others?.left(action.error);
      case "refuse":
        return this.#telling.run(() => this.#refuse(action.id, action.why));
      case "turn-away": {
        const { connection } = this.#leave(action.id);
        this.#opened.delete(connection);
        return void turnAway(connection); // later than the race
      }
      case "reset":
        return this.#leave(action.id).connection.reset();
      case "win": {
        const { receiver, answer } = this.#looks.get(action.id)!;
        this.#winner.resolve({ receiver, answer: answer as Answer });
        this.#others?.chosen(receiver.connection);
        return void this.#taking.stop();
      }
      case "fail":
        this.#winner.reject(action.error);
        return void this.#taking.stop();
    }
  }

  /** Must not fail. */
  async #show(id: number, look: Look<Answer>): Promise<void> {
    try {
      await this.#steps.offer(look.receiver);
      this.#dispatch({ kind: "shown", id });
      look.answer = await this.#steps.readAnswer(look.receiver);
      this.#dispatch({ kind: "accepted", id });
    } catch (error) {
      this.#dispatch({ kind: "failed", id, error });
    }
  }

  /** The first connection is closed by the caller. */
  async #tell(id: number, error: unknown): Promise<void> {
    const { connection, reader } = this.#leave(id);
    await endRefused(error, { connection, reader }, () => reader.drain());
    if (this.#opened.delete(connection)) connection[Symbol.dispose]();
    this.#dispatch({ kind: "told", id });
  }

  /** Ends the question at the receiver, which learns why. */
  async #refuse(id: number, why: OfferRefusal): Promise<void> {
    const { ended } = this.#looks.get(id)!;
    const { connection } = this.#leave(id);
    await sendRefusal(new TransferError(REFUSALS[why], "failed"), connection, () => ended);
    connection.reset();
  }

  #leave(id: number): ReceiverConnection {
    const { receiver } = this.#looks.get(id)!;
    this.#looks.delete(id);
    return receiver;
  }
}

/** Tells a receiver that another one has the transfer. Resolves once it knows, or cannot be told. */
export async function turnAway(connection: TcpConnection): Promise<void> {
  const reader = new TransferMessageReader(connection);
  const tooLate = new TransferError(REFUSALS["too-late"], "failed");
  await sendRefusal(tooLate, connection, () => reader.drain());
  connection.reset();
}

/** One receiver's look at the offer. */
interface Look<Answer> {
  readonly receiver: ReceiverConnection;
  /** Resolved once the receiver has answered, or is gone. */
  ended: Promise<void>;
  /** What it has answered, once it has accepted. */
  answer: Answer | undefined;
}

/** Sent, for people. */
const REFUSALS: Readonly<Record<OfferRefusal, string>> = {
  "too-late": "another receiver accepted the offer first",
  "too-many": "too many others look at the offer",
};
