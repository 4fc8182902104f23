/**
 * The side that has a ticket: knocks, gets its connection, and gets it again when its path is lost.
 *
 * @module
 */

import {
  MalformedMessageError,
  NetworkError,
  NoResponseError,
  RefusedError,
} from "../base/errors.ts";
import { Deadline, idleDelay } from "../base/timers.ts";
import { generateKeyPair } from "../noise/key_pair.ts";
import { MANUAL_URL } from "../signal/manual.ts";
import type { SignalingConnection } from "../signal/transport.ts";
import { PeerConnection } from "./connection.ts";
import type { PeerContext } from "./context.ts";
import { resumptionId, TicketSecrets } from "./keys.ts";
import { firstPath, lostAtOnce, overSignal, supplyPaths } from "./path_search.ts";
import { InitiatorHandshake } from "./signaling_handshake.ts";
import { type ConnectionRequest, decodeEnvelope, type Rejection } from "./signaling_message.ts";
import {
  CHANNELS,
  InitiatorSession,
  receiveRejection,
  sendRejection,
} from "./signaling_session.ts";
import type { Ticket } from "./ticket.ts";
import { abortable } from "@std/async/abortable";
import { delay } from "@std/async/delay";

/** How to dial. */
export interface DialOptions {
  readonly protocol: string;
  /** Whether to look for another path once there is none. */
  readonly reconnects: boolean;
  readonly signal: AbortSignal;
}

/**
 * Connects to the owner of a ticket.
 *
 * @throws {NoResponseError} if nobody answers
 * @throws {RefusedError} if the peer declines; `code` is one of {@linkcode REJECTION_CODES}
 * @throws {UnreachableError} if there is no way to it
 * @throws {NetworkError} if none of the ticket's ways to signal works
 * @throws the signal's reason on abort
 */
export async function dialPeer(
  context: PeerContext,
  ticket: Ticket,
  options: DialOptions,
): Promise<PeerConnection> {
  const dialer = new Dialer(context, ticket, options);
  return await dialer.connect();
}

/** One connection, from the side that knocks. */
class Dialer {
  readonly #context: PeerContext;
  readonly #ticket: Ticket;
  readonly #secrets: TicketSecrets;
  readonly #options: DialOptions;
  readonly #isManual: boolean;
  readonly #connection: PeerConnection;
  readonly #reconnects: boolean;
  /** Aborted when nobody needs another path. */
  readonly #over: AbortSignal;
  #resumes: string | null = null;
  /** Ends the search that is under way. */
  #ended = new AbortController();
  /** How many are under way. */
  #searches = 0;
  #isReconnecting = false;
  /** Before the next attempt to reconnect. */
  #waitMs = 0;
  #triedAtMs = -Infinity;

  constructor(context: PeerContext, ticket: Ticket, options: DialOptions) {
    this.#context = context;
    this.#ticket = ticket;
    this.#secrets = new TicketSecrets(ticket);
    this.#options = options;
    const { protocol } = options;
    this.#isManual = this.#pathKinds.every((url) => url === MANUAL_URL);
    this.#reconnects = options.reconnects && !this.#isManual; // people would have to be asked
    this.#connection = new PeerConnection({
      role: "controlling",
      remoteKey: ticket.publicKey,
      protocol,
      timeoutMs: this.#reconnects ? context.timings.reconnectMs : 0,
      closed: context.closed,
      onLost: () => {
        context.buses.check();
        if (this.#reconnects) context.inBackground(this.#reconnect());
      },
    });
    this.#over = overSignal(context, this.#connection);
  }

  async connect(): Promise<PeerConnection> {
    const search = (signal: AbortSignal) => this.#search("any", signal);
    const { signal } = this.#options;
    await firstPath(this.#context, this.#connection, search, { signal, graceMs: 0 });
    const mayImprove = this.#reconnects && this.#context.bases !== undefined;
    if (mayImprove) this.#context.inBackground(this.#improve());
    return this.#connection;
  }

  /** While a relay carries the connection, looks for a direct path from time to time. */
  async #improve(): Promise<void> {
    const { improveMs } = this.#context.timings;
    let waitMs = improveMs;
    while (!this.#over.aborted) {
      await idleDelay(waitMs, this.#over);
      const isRelayed = this.#connection.hasPath && this.#connection.path.relayed;
      waitMs = isRelayed ? Math.min(2 * waitMs, 16 * improveMs) : improveMs;
      if (!isRelayed || this.#searches > 0 || this.#over.aborted) continue;
      await this.#search("direct", this.#over)
        .catch((error) => this.#context.logger?.debug(`connect: no direct path yet: ${error}`));
    }
  }

  /** Tries again and again, for as long as the connection waits. */
  async #reconnect(): Promise<void> {
    if (this.#isReconnecting) return;
    this.#isReconnecting = true;
    this.#ended.abort(new DOMException("The path is lost", "AbortError"));
    const { retryMs, reconnectMs } = this.#context.timings;
    using deadline = new Deadline(reconnectMs, this.#over);
    // At once; but who cuts each path that there is has to wait longer each time, too.
    if (performance.now() - this.#triedAtMs >= 10 * retryMs) this.#waitMs = 0;
    while (!this.#over.aborted && !this.#connection.hasPath) {
      const pauseMs = this.#waitMs * (0.5 + Math.random()); // others may have lost theirs at the same time
      if (pauseMs > 0) await delay(pauseMs, { signal: deadline.signal }).catch(() => {});
      this.#waitMs = Math.min(Math.max(retryMs, 2 * this.#waitMs), 10 * retryMs);
      this.#triedAtMs = performance.now();
      try {
        await this.#search("any", deadline.signal);
      } catch (error) {
        // Also a search that has found a way may end with a throw: when the time for a better one is over.
        if (this.#over.aborted || this.#connection.hasPath) continue;
        // Where the other side has forgotten the connection, or does not want it, more knocks are of no use.
        if (error instanceof RefusedError || deadline.signal.aborted) return this.#abandon(error);
        this.#context.logger?.debug(`connect: ${error}`);
      }
    }
    this.#isReconnecting = false;
  }

  #abandon(cause: unknown): void {
    const why = cause instanceof Error ? cause.message : String(cause);
    const message = `Cannot go on over another path: ${why}`;
    this.#connection.abandon(new NetworkError(message, "other", { cause }));
  }

  /** One knock, and all that comes of it. */
  async #search(wants: ConnectionRequest["wants"], signal: AbortSignal): Promise<void> {
    const { staticKey, timings } = this.#context;
    const ended = this.#ended = new AbortController();
    const both = AbortSignal.any([signal, ended.signal]);
    await using stack = new AsyncDisposableStack();
    this.#searches++;
    stack.defer(() => void this.#searches--);
    const knocker = new InitiatorHandshake(
      { secrets: this.#secrets, staticKey, ephemeralKey: generateKeyPair() },
      this.#ticket.publicKey,
    );
    const buses = new Set<SignalingConnection>();
    const line = stack.use(
      new InitiatorSession(knocker, () => this.#header(wants), (message) => {
        for (const signaling of buses) this.#publish(signaling, message);
      }),
    );
    line.isManual = this.#isManual;
    const failed = Promise.withResolvers<never>();
    const opening = this.#openBuses(line, buses, both, stack);
    opening.catch(failed.reject);
    receiveRejection(line, both).then((rejection) => failed.reject(refusal(rejection)), () => {});
    const answerMs = this.#isManual ? timings.manualMs : timings.answerMs;
    this.#answered(line, answerMs, both).catch(failed.reject);
    line.ready.then((cipher) => this.#resumes ??= resumptionId(cipher.connectionKey), () => {});
    const supplying = supplyPaths(this.#context, line, this.#connection, {
      ...{ role: "controlling", wants, signal: both },
    });
    try {
      if (!await Promise.race([supplying, failed.promise])) throw lostAtOnce();
    } catch (error) {
      const isReplaced = ended.signal.aborted && !signal.aborted;
      ended.abort(error);
      await supplying.catch(() => {});
      if (!isReplaced && !(error instanceof RefusedError)) this.#withdraw(line);
      signal.throwIfAborted();
      throw error;
    } finally {
      ended.abort(); // before anything that still waits is disposed of
    }
  }

  /** People are not bothered where there is another way. */
  get #pathKinds(): readonly string[] {
    const { signaling } = this.#ticket;
    const others = signaling.filter((url) => url !== MANUAL_URL);
    return others.length > 0 ? others : signaling;
  }

  #header(wants: ConnectionRequest["wants"]) {
    const { protocol } = this.#options;
    return { sentAtMs: Date.now(), protocol, resumes: this.#resumes, wants };
  }

  /** @throws {NetworkError} if none of them can be opened */
  async #openBuses(
    line: InitiatorSession,
    buses: Set<SignalingConnection>,
    signal: AbortSignal,
    stack: AsyncDisposableStack,
  ): Promise<void> {
    const topic = this.#secrets.replyTopic(line.ephemeralKey);
    const opened = this.#pathKinds.map(async (url) => {
      const lease = stack.use(this.#context.buses.lease(url));
      const signaling = await lease.signaling;
      signal.throwIfAborted();
      const subscribed = signaling.subscribe(topic, (message) => acceptMessage(line, message), {
        signal,
      });
      buses.add(signaling); // what is published now arrives after the subscription
      if (line.knock !== undefined) this.#publish(signaling, line.knock);
      stack.use(await subscribed);
      if (signaling.rttMs !== undefined) line.rttMs ??= 2 * signaling.rttMs;
    });
    try {
      await Promise.any(opened);
    } catch (error) {
      signal.throwIfAborted();
      const causes = error instanceof AggregateError ? error.errors : [error];
      const why = causes.map((cause) => cause instanceof Error ? cause.message : String(cause));
      throw new NetworkError(
        `Cannot reach anybody who could pass on a message to the peer: ${why.join("; ")}`,
        "unreachable",
        { cause: causes[0] },
      );
    }
  }

  #publish(signaling: SignalingConnection, message: Uint8Array): void {
    signaling.publish(this.#secrets.topicAt(Date.now()), message)
      .catch((error) => this.#context.logger?.debug(`connect: ${signaling.url}: ${error}`));
  }

  /** Lets the other side search no longer. */
  #withdraw(line: InitiatorSession): void {
    if (!line.isOpen || this.#connection.hasPath) return;
    sendRejection(line, "withdrawn").catch(() => {}); // the line is closed
  }

  /** Knocks until there is an answer. @throws {NoResponseError} if there is none in time */
  async #answered(line: InitiatorSession, withinMs: number, signal: AbortSignal): Promise<void> {
    using deadline = new Deadline(withinMs, signal);
    try {
      if (this.#isManual) return void await abortable(line.ready, deadline.signal);
      const control = line.channel(CHANNELS.control);
      // The first message of a punch is the knock where there is one; without, somebody has to.
      if (this.#context.bases !== undefined) await delay(KNOCK_MS, { signal: deadline.signal });
      while (!line.isOpen) {
        await control.send(new Uint8Array(0));
        await delay(KNOCK_MS, { signal: deadline.signal });
      }
    } catch (error) {
      if (signal.aborted || error !== deadline.signal.reason) return;
      throw new NoResponseError(
        `Cannot connect: nobody answered in ${
          withinMs / 1000
        } s; the peer may be offline, or the ticket an old one`,
      );
    }
  }
}

/** Hands a message from a bus to its line, if it is one. */
export function acceptMessage(
  line: { accept: InitiatorSession["accept"] },
  message: Uint8Array,
): void {
  try {
    line.accept(decodeEnvelope(message));
  } catch (error) {
    if (!(error instanceof MalformedMessageError)) throw error;
  }
}

function refusal({ why, timeMs }: Rejection): RefusedError {
  return new RefusedError(`Cannot connect: ${REASONS[why](timeMs)}`, REJECTION_CODES[why]);
}

/** The `code` of a {@linkcode RefusedError} for each reason to decline. */
export const REJECTION_CODES: Readonly<
  Record<"refused" | "protocol" | "clock" | "unknown" | "busy" | "withdrawn", number>
> = {
  refused: 1,
  protocol: 2,
  clock: 3,
  unknown: 4,
  busy: 5,
  withdrawn: 6,
};

const REASONS: Readonly<Record<Rejection["why"], (timeMs: number) => string>> = {
  refused: () => "the peer refused",
  protocol: () => "the peer does not speak this protocol",
  clock: (timeMs) =>
    `the clocks differ by ${
      Math.round(Math.abs(timeMs - Date.now()) / 60_000)
    } minutes: set the one that is wrong`,
  unknown: () => "the peer has started anew and knows nothing of this connection",
  busy: () => "the peer is busy with somebody else",
  withdrawn: () => "the peer has given up",
};

/** Ours: a few round trips of most ways to signal. */
const KNOCK_MS = 1000;
