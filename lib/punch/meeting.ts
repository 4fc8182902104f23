/**
 * Finds the peer among the connections that came about, and agrees with it on one of them.
 *
 * @module
 */

import { NetworkError } from "../errors.ts";
import type { TcpConnection } from "../net/network.ts";
import {
  awaitNomination,
  nominate,
  proveBoth,
  type PunchSecret,
  StrangerError,
} from "./handshake.ts";
import type { PunchRole } from "./message.ts";

/** What became of a connection. */
export type MeetingOutcome = "nominated" | "not-nominated" | "not-authenticated" | "broken";

/** The connection that both sides agreed on. */
export interface Met {
  readonly connection: TcpConnection;
  /** When it was established, by `performance.now()`; proofs and nomination came after that. */
  readonly establishedAtMs: number;
}

/** Takes connections until one is nominated; all others are reset. */
export class Meeting implements AsyncDisposable {
  readonly #role: PunchRole;
  readonly #secret: PunchSecret;
  readonly #patienceMs: number;
  readonly #winner = Promise.withResolvers<Met>();
  readonly #open = new Map<TcpConnection, Promise<MeetingOutcome>>();
  #met: Met | undefined;
  #isOver = false;

  /** @param patienceMs how long the other end may take for each step */
  constructor(role: PunchRole, secret: PunchSecret, patienceMs: number) {
    this.#role = role;
    this.#secret = secret;
    this.#patienceMs = patienceMs;
  }

  /** Resolves once there is a connection that both sides agreed on. */
  get winner(): Promise<Met> {
    return this.#winner.promise;
  }

  /** That connection, if there is one already. */
  get met(): Met | undefined {
    return this.#met;
  }

  /** Takes a connection; what becomes of it. */
  async add(connection: TcpConnection): Promise<MeetingOutcome> {
    if (this.#isOver || this.#open.size >= MAX_OPEN) {
      connection.reset();
      return "not-nominated";
    }
    const meeting = this.#meet(connection);
    this.#open.set(connection, meeting);
    const outcome = await meeting;
    this.#open.delete(connection);
    if (outcome !== "nominated") connection.reset();
    return outcome;
  }

  /** Resets all but the winner. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isOver = true;
    const meetings = [...this.#open.values()];
    for (const connection of this.#open.keys()) connection.reset();
    await Promise.all(meetings);
  }

  async #meet(connection: TcpConnection): Promise<MeetingOutcome> {
    const establishedAtMs = performance.now();
    // A connection that says nothing, or not enough, ends with the patience for it.
    const timer = setTimeout(() => connection.reset(), this.#patienceMs);
    try {
      await proveBoth(connection, this.#secret, this.#role);
      if (this.#isOver) return "not-nominated";
      if (this.#role === "controlling") {
        // From here on every other connection is a loser: there is one nomination.
        this.#isOver = true;
        await nominate(connection, this.#secret).catch((error) => {
          this.#isOver = false;
          throw error;
        });
      } else {
        clearTimeout(timer);
        await awaitNomination(connection, this.#secret);
        this.#isOver = true;
      }
      this.#met = { connection, establishedAtMs };
      this.#winner.resolve(this.#met);
      return "nominated";
    } catch (error) {
      if (error instanceof StrangerError) return "not-authenticated";
      if (error instanceof NetworkError) return this.#isOver ? "not-nominated" : "broken";
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }
}

/** Connections whose other end has not proved itself yet; ours: a stranger may open as many as it likes. */
const MAX_OPEN = 64;
