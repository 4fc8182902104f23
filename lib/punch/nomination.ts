/**
 * Finds the peer among the connections that came about, and agrees with it on one of them.
 *
 * @module
 */

import { writeAll } from "../base/reader.ts";
import { concat } from "../base/bytes.ts";
import { equalSecrets, hmac } from "../base/crypto.ts";
import { NetworkError } from "../base/errors.ts";
import { formatTransportAddress } from "../net/address.ts";
import type { TcpConnection } from "../net/network.ts";
import type { PunchOffer, PunchRole } from "./offer.ts";

/** Somebody answered who is not the peer, or is it in another meeting. */
export class UnauthenticatedPeerError extends Error {
  override readonly name = "StrangerError";
}

/** What two offers have in common and nobody else has. */
export type PunchSecret = Uint8Array;

/** The secret of two offers, and of whatever else both sides know. */
export function punchSecret(a: PunchOffer, b: PunchOffer, shared: Uint8Array): PunchSecret {
  const [controlling, controlled] = a.role === "controlling" ? [a, b] : [b, a];
  return hmac("sha256", shared, text(`punchline ${controlling.key} ${controlled.key}`));
}

/** What follows from the secret, for those who want to bind something to this connection: 32 bytes. */
export function channelBinding(secret: PunchSecret): Uint8Array<ArrayBuffer> {
  return hmac("sha256", secret, text("channel binding"));
}

/**
 * Sends this side's proof and checks the other's.
 *
 * @throws {UnauthenticatedPeerError} if the other end is not the peer, or ends the connection
 * @throws {NetworkError} if the connection breaks
 */
export async function proveBoth(
  connection: TcpConnection,
  secret: PunchSecret,
  role: PunchRole,
): Promise<void> {
  await writeAll(connection, hello(secret, role));
  const expected = hello(secret, role === "controlling" ? "controlled" : "controlling");
  await expect(connection, expected);
}

/** Tells the other side that this is the connection. */
export async function nominate(connection: TcpConnection, secret: PunchSecret): Promise<void> {
  await writeAll(connection, hmac("sha256", secret, text("nominate")));
}

/**
 * Waits to be told that this is the connection.
 *
 * @throws {UnauthenticatedPeerError} if the other end says something else, or ends the connection
 * @throws {NetworkError} if the connection breaks
 */
export async function awaitNomination(
  connection: TcpConnection,
  secret: PunchSecret,
): Promise<void> {
  await expect(connection, hmac("sha256", secret, text("nominate")));
}

function hello(secret: PunchSecret, role: PunchRole): Uint8Array {
  return concat(text("PNC1"), hmac("sha256", secret, text(`hello ${role}`)));
}

/** Reads exactly as much as is expected, so that nothing of what follows is taken away. */
async function expect(connection: TcpConnection, expected: Uint8Array): Promise<void> {
  const received = new Uint8Array(expected.length);
  let length = 0;
  while (length < expected.length) {
    const count = await connection.read(received.subarray(length));
    if (count === null) throw unauthenticatedPeerError(connection);
    length += count;
  }
  if (!equalSecrets(received, expected)) throw unauthenticatedPeerError(connection);
}

function unauthenticatedPeerError(connection: TcpConnection): UnauthenticatedPeerError {
  const remote = formatTransportAddress(connection.remote);
  return new UnauthenticatedPeerError(`Cannot meet the peer at ${remote}: somebody else is there`);
}

function text(ascii: string): Uint8Array {
  return new TextEncoder().encode(ascii);
}

/** What became of a connection. */
export type NominationOutcome = "nominated" | "not-nominated" | "not-authenticated" | "broken";

/** The connection that both sides agreed on. */
export interface NominatedConnection {
  readonly connection: TcpConnection;
  /** When it was established, by `performance.now()`; proofs and nomination came after that. */
  readonly establishedAtMs: number;
}

/** Takes connections until one is nominated; all others are reset. */
export class Nomination implements AsyncDisposable {
  readonly #role: PunchRole;
  readonly #secret: PunchSecret;
  readonly #timeoutMs: number;
  readonly #winner = Promise.withResolvers<NominatedConnection>();
  readonly #open = new Map<TcpConnection, Promise<NominationOutcome>>();
  /** How to turn away those whose other end has not proved itself yet, oldest first. */
  readonly #strangers = new Map<TcpConnection, () => void>();
  #met: NominatedConnection | undefined;
  #isOver = false;
  #isDisposed = false;

  /** @param timeoutMs how long the other end may take to prove itself */
  constructor(role: PunchRole, secret: PunchSecret, timeoutMs: number) {
    this.#role = role;
    this.#secret = secret;
    this.#timeoutMs = timeoutMs;
  }

  /** Resolves once there is a connection that both sides agreed on. */
  get winner(): Promise<NominatedConnection> {
    return this.#winner.promise;
  }

  /** That connection, if there is one already. */
  get met(): NominatedConnection | undefined {
    return this.#met;
  }

  /** Whether there are connections of which it is not known yet what becomes of them. */
  get isBusy(): boolean {
    return this.#open.size > 0;
  }

  /** Takes a connection; what becomes of it. */
  async add(connection: TcpConnection): Promise<NominationOutcome> {
    if (this.#isOver || this.#isDisposed || !this.#makeRoom()) {
      connection.reset();
      return "not-nominated";
    }
    const nomination = this.#meet(connection);
    this.#open.set(connection, nomination);
    try {
      const outcome = await nomination;
      if (outcome !== "nominated") connection.reset();
      return outcome;
    } finally {
      this.#open.delete(connection);
    }
  }

  /** Resets all but the winner. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isDisposed = true;
    const nominations = [...this.#open.values()];
    for (const connection of this.#open.keys()) {
      if (connection !== this.#met?.connection) connection.reset();
    }
    await Promise.all(nominations);
  }

  async #meet(connection: TcpConnection): Promise<NominationOutcome> {
    const establishedAtMs = performance.now();
    let isTurnedAway = false;
    const turnAway = () => {
      isTurnedAway = true;
      connection.reset();
    };
    this.#strangers.set(connection, turnAway);
    // A connection that says nothing, or not enough, ends with the patience for it.
    const timer = setTimeout(turnAway, this.#timeoutMs);
    try {
      await proveBoth(connection, this.#secret, this.#role);
      clearTimeout(timer);
      this.#strangers.delete(connection);
      if (!await this.#agree(connection)) return "not-nominated";
      this.#isOver = true;
      this.#met = { connection, establishedAtMs };
      this.#winner.resolve(this.#met);
      return "nominated";
    } catch (error) {
      if (error instanceof UnauthenticatedPeerError || isTurnedAway) return "not-authenticated";
      if (!(error instanceof NetworkError)) throw error;
      return this.#isOver || this.#isDisposed ? "not-nominated" : "broken";
    } finally {
      clearTimeout(timer);
      this.#strangers.delete(connection);
    }
  }

  /** Whether it is this one. The controlling side takes the first whose other end proved itself. */
  async #agree(connection: TcpConnection): Promise<boolean> {
    if (this.#role === "controlled") {
      await awaitNomination(connection, this.#secret);
    } else {
      if (this.#isOver) return false;
      this.#isOver = true; // from here on every other connection is a loser: there is one nomination
      await nominate(connection, this.#secret).catch((error) => {
        this.#isOver = false;
        throw error;
      });
    }
    return !this.#isDisposed && this.#met === undefined;
  }

  /** The peer speaks as soon as it is there: of those who say nothing, the oldest is the most likely stranger. */
  #makeRoom(): boolean {
    if (this.#open.size < MAX_OPEN) return true;
    const [oldest] = this.#strangers;
    if (oldest === undefined) return false;
    const [connection, turnAway] = oldest;
    this.#strangers.delete(connection);
    turnAway();
    return true;
  }
}

/** Connections at once, whose other end has not proved itself yet or waits for a nomination. Ours. */
const MAX_OPEN = 64;
