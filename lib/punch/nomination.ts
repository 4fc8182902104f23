/**
 * Finds the peer among the connections that were made, and agrees with it on one of them. Relayed paths use it too, with
 * the records of attempts.
 *
 * A peer may have named any service of a private network, so what is written before the other end has proved itself must
 * mean nothing to a service: every byte is one of sixteen that are neither ASCII nor a control character in any 8-bit
 * character set. There is no line to read, no command, and nothing to choose for whoever knows the secret.
 *
 * @module
 */

import { equalSecrets, hmac } from "../base/crypto.ts";
import { type ConnectionAttempt, NetworkError } from "../base/errors.ts";
import type { PathKind, PunchMethodName } from "../base/path_kind.ts";
import { writeAll } from "../base/reader.ts";
import { formatTransportAddress } from "../net/address.ts";
import type { TcpConnection } from "../net/network.ts";
import {
  type ConnectionOrigin,
  initialNominationState,
  type NominationAction,
  type NominationEvent,
  type NominationOutcome,
  type NominationState,
  stepNomination,
} from "./nomination_engine.ts";
import type { PunchOffer, PunchRole } from "./offer.ts";

// What peers need of a punch besides punch().
export { whyNotRelay } from "./candidates.ts";
export { type DialBudget, DialBudgets, type DialTarget } from "./limits.ts";
export type { ConnectionOrigin, NominationOutcome } from "./nomination_engine.ts";

/** The connection that both sides agreed on. */
export interface NominatedConnection {
  readonly connection: TcpConnection;
  /** When it was established, by `performance.now()`; proofs and nomination came after that. */
  readonly establishedAtMs: number;
}

/** Takes connections until one is nominated, and resets all others. */
export class Nomination implements AsyncDisposable {
  readonly #role: PunchRole;
  readonly #secret: Uint8Array;
  readonly #timeoutMs: number;
  readonly #winner = Promise.withResolvers<NominatedConnection>();
  readonly #entries = new Map<number, Entry>();
  #state: NominationState;
  #nominated: NominatedConnection | undefined;
  #added = 0;

  /**
   * Waits for connections.
   *
   * @param secret known only to the two sides
   * @param timeoutMs how long the other end of a connection may take to prove that it knows the secret
   */
  constructor(role: PunchRole, secret: Uint8Array, timeoutMs: number) {
    this.#role = role;
    this.#secret = secret;
    this.#timeoutMs = timeoutMs;
    this.#state = initialNominationState(role);
  }

  /** Resolves with the connection that both sides agreed on. */
  get winner(): Promise<NominatedConnection> {
    return this.#winner.promise;
  }

  /** That connection, once there is one. */
  get nominated(): NominatedConnection | undefined {
    return this.#nominated;
  }

  /** 32 bytes that only the two sides know, to bind other keys to this connection. */
  get channelBinding(): Uint8Array<ArrayBuffer> {
    return hmac("sha256", this.#secret, text("channel binding"));
  }

  /**
   * Takes over a connection. Resolves with what became of it: unless it was nominated it is reset by then.
   *
   * @param origin which room it takes up while nothing is proved
   * @throws whatever else than the network or the other end goes wrong
   */
  async add(
    connection: TcpConnection,
    origin: ConnectionOrigin = "elsewhere",
  ): Promise<NominationOutcome> {
    const id = this.#added++;
    const settled = Promise.withResolvers<NominationOutcome>();
    this.#entries.set(id, { connection, settled, establishedAtMs: performance.now() });
    this.#dispatch({ kind: "opened", id, origin });
    return await settled.promise;
  }

  /** Resets every connection but the nominated one. */
  async [Symbol.asyncDispose](): Promise<void> {
    const open = Array.from(this.#entries.values(), ({ settled }) => settled.promise);
    this.#dispatch({ kind: "closed" });
    await Promise.all(open);
  }

  #dispatch(event: NominationEvent): void {
    const { state, actions } = stepNomination(this.#state, event);
    this.#state = state;
    for (const action of actions) this.#perform(action);
  }

  #perform(action: NominationAction): void {
    const { id } = action;
    const entry = this.#entries.get(id)!;
    switch (action.kind) {
      case "prove":
        return void this.#run(id, () => this.#prove(id, entry), "proved");
      case "agree":
        return void this.#run(id, () => this.#agree(entry), "agreed");
      case "reset":
        return entry.connection.reset();
      case "settle":
        return this.#settle(id, entry, action.outcome);
    }
  }

  async #run(id: number, job: () => Promise<void>, kind: "proved" | "agreed"): Promise<void> {
    try {
      await job();
    } catch (error) {
      if (error instanceof UnauthenticatedPeerError) {
        return this.#dispatch({ kind: "failed", id, why: "not-authenticated" });
      }
      if (!(error instanceof NetworkError)) this.#entries.get(id)!.settled.reject(error);
      return this.#dispatch({ kind: "failed", id, why: "broken" });
    }
    this.#dispatch({ kind, id });
  }

  /** A connection whose other end sends too little is given up when its time is up. */
  async #prove(id: number, { connection }: Entry): Promise<void> {
    const timer = setTimeout(() => this.#dispatch({ kind: "expired", id }), this.#timeoutMs);
    try {
      await proveBoth(connection, this.#secret, this.#role);
    } finally {
      clearTimeout(timer);
    }
  }

  async #agree({ connection }: Entry): Promise<void> {
    if (this.#role === "controlling") await nominate(connection, this.#secret);
    else await awaitNomination(connection, this.#secret);
  }

  #settle(id: number, entry: Entry, outcome: NominationOutcome): void {
    const { connection, establishedAtMs, settled } = entry;
    this.#entries.delete(id);
    if (outcome === "nominated") {
      this.#nominated = { connection, establishedAtMs };
      this.#winner.resolve(this.#nominated);
    } else {
      connection.reset();
    }
    settled.resolve(outcome);
  }
}

/** The record of one dial, of many dials that belong together, or of a connection that was accepted. */
export class AttemptRecord {
  /** SYNs, or probes by UDP, sent so far. */
  tries = 0;
  /** How many of them were reset. */
  resets = 0;
  /** This side's addresses, by those of the other side. */
  readonly #candidates = new Map<string, string | null>();
  readonly #kind: PathKind;
  readonly #method: PunchMethodName | null;
  readonly #remote: string;
  readonly #transport: "tcp" | "udp";
  readonly #startedAtMs = performance.now();
  #local: string | null = null;
  #outcome: ConnectionAttempt["outcome"] = "abandoned";
  #reason: string | undefined;
  #elapsedMs: number | undefined;

  /**
   * Starts a record.
   *
   * @param remote the address that is dialled, or a description of several
   * @param method how filters are punched; `null` unless `kind` is `"punch-tcp"` or `"punch-udp"`
   */
  constructor(
    kind: PathKind,
    remote: string,
    method: PunchMethodName | null = null,
    transport: "tcp" | "udp" = "tcp",
  ) {
    this.#kind = kind;
    this.#transport = transport;
    this.#remote = remote;
    this.#method = method;
  }

  /** Notes that a SYN or a probe is sent, and from where, as far as that is known. */
  tried(remote: string, local: string | null = null): void {
    this.tries++;
    this.addCandidate(remote, local);
  }

  /** Notes between which addresses a connection is tried; of many, the first ones. */
  addCandidate(remote: string, local: string | null): void {
    const known = this.#candidates.get(remote);
    if (known === undefined && this.#candidates.size >= MAX_CANDIDATE_PAIRS) return;
    this.#candidates.set(remote, local ?? known ?? null);
  }

  /**
   * Notes how a dial ended. The last dial decides, but a connection stays a connection.
   *
   * @param local the address that it left from, if known
   * @param reason why, in words
   */
  end(outcome: ConnectionAttempt["outcome"], local: string | null = null, reason?: string): void {
    if (this.#outcome === "connected") return;
    this.#reason = reason;
    this.#local = local ?? this.#local;
    this.#outcome = outcome;
    this.#elapsedMs = performance.now() - this.#startedAtMs;
  }

  /** Notes which address the other side dialled from, with success: from there, this side's own dial had to fail. */
  giveWay(remote: string): void {
    if (this.#remote === remote && this.#outcome === "failed") this.#outcome = "abandoned";
  }

  /** Whether it has ended. */
  get isOver(): boolean {
    return this.#elapsedMs !== undefined;
  }

  /** Notes what the nomination decided about a connection. */
  settle(
    outcome: NominationOutcome,
    { local, remote }: Pick<TcpConnection, "local" | "remote">,
  ): void {
    const from = formatTransportAddress(local);
    this.addCandidate(formatTransportAddress(remote), from);
    this.end(OUTCOMES[outcome], from);
  }

  /** The record as data. */
  toAttempt(): ConnectionAttempt {
    return {
      kind: this.#kind,
      method: this.#method,
      transport: this.#transport,
      local: this.#local,
      remote: this.#remote,
      candidates: Array.from(
        this.#candidates,
        ([remote, local]) => ({ transport: this.#transport, local, remote }),
      ),
      outcome: this.#outcome,
      tries: this.tries,
      resets: this.resets,
      elapsedMs: this.#elapsedMs ?? performance.now() - this.#startedAtMs,
      reason: this.#reason,
      remedy: FAILURES.has(this.#outcome) ? ATTEMPT_REMEDIES[this.#kind] : undefined,
    };
  }
}

/** A connection that is not settled. */
interface Entry {
  readonly connection: TcpConnection;
  readonly settled: PromiseWithResolvers<NominationOutcome>;
  readonly establishedAtMs: number;
}

/** The other end of a connection is not the peer, or is the peer in another attempt. */
class UnauthenticatedPeerError extends Error {
  /** `"UnauthenticatedPeerError"`. */
  override readonly name = "UnauthenticatedPeerError";
}

/** The secret that both sides derive from the two offers and from their shared secret. */
export function punchSecret(a: PunchOffer, b: PunchOffer, shared: Uint8Array): Uint8Array {
  const [controlling, controlled] = a.role === "controlling" ? [a, b] : [b, a];
  return hmac("sha256", shared, text(`punchline ${controlling.key} ${controlled.key}`));
}

/**
 * Sends this side's proof and checks the other side's.
 *
 * @throws {UnauthenticatedPeerError} if the other end sends anything else, or ends the connection
 * @throws {NetworkError} if the connection breaks
 */
export async function proveBoth(
  connection: TcpConnection,
  secret: Uint8Array,
  role: PunchRole,
): Promise<void> {
  await writeAll(connection, hello(secret, role));
  const expected = hello(secret, role === "controlling" ? "controlled" : "controlling");
  await expect(connection, expected);
}

/** Sends the nomination: this is the connection. */
export async function nominate(connection: TcpConnection, secret: Uint8Array): Promise<void> {
  await writeAll(connection, nomination(secret));
}

/** Spells bytes with half as many bits each: two bytes from 0xB0 to 0xBF for each. */
export function spell(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(
    [...bytes].flatMap((byte) => [LETTERS | byte >> 4, LETTERS | byte & 0x0f]),
  );
}

/**
 * Waits for the other side's nomination.
 *
 * @throws {UnauthenticatedPeerError} if the other end sends anything else, or ends the connection
 * @throws {NetworkError} if the connection breaks
 */
async function awaitNomination(connection: TcpConnection, secret: Uint8Array): Promise<void> {
  await expect(connection, nomination(secret));
}

function hello(secret: Uint8Array, role: PunchRole): Uint8Array {
  return spell(hmac("sha256", secret, text(`hello ${role}`)));
}

function nomination(secret: Uint8Array): Uint8Array {
  return hmac("sha256", secret, text("nominate"));
}

/** Reads no more than what is expected, so that nothing that follows is lost. */
async function expect(connection: TcpConnection, expected: Uint8Array): Promise<void> {
  const received = new Uint8Array(expected.length);
  let length = 0;
  while (length < expected.length) {
    const count = await connection.read(received.subarray(length));
    if (count === null) throw notThePeer(connection);
    length += count;
  }
  if (!equalSecrets(received, expected)) throw notThePeer(connection);
}

function notThePeer({ remote }: TcpConnection): UnauthenticatedPeerError {
  const address = formatTransportAddress(remote);
  return new UnauthenticatedPeerError(`Cannot connect to ${address}: it is not the peer`);
}

function text(ascii: string): Uint8Array {
  return new TextEncoder().encode(ascii);
}

const LETTERS = 0xb0;

/** Chosen by us: what a person reads, and a program logs; a birthday attempt has a thousand. */
const MAX_CANDIDATE_PAIRS = 32;

const OUTCOMES: Readonly<Record<NominationOutcome, ConnectionAttempt["outcome"]>> = {
  "nominated": "connected",
  "not-nominated": "abandoned",
  "not-authenticated": "not-authenticated",
  "broken": "failed",
};

/** Outcomes that the network decided: with the others, there is nothing to mend there. */
const FAILURES: ReadonlySet<ConnectionAttempt["outcome"]> = new Set([
  "refused",
  "unreachable",
  "timed-out",
  "failed",
]);

const ATTEMPT_REMEDIES: Readonly<Record<PathKind, string>> = {
  "host": "Let the firewall of this machine accept connections from itself",
  "lan": "Let the firewalls of both machines accept connections from the local network",
  "ipv6": "Let the firewalls in front of both machines accept IPv6 connections",
  "direct": "Let the firewall in front of that address accept connections",
  "mapped": "Check the port mapping on the other side's router",
  "punch-tcp": "Forward a port on one side's router",
  "punch-udp": "Allow outgoing UDP in the firewall of each side",
  "relay": "Check the relay's URL and login, and that its firewall lets both sides in",
};
