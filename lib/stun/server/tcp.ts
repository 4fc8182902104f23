/**
 * The TCP side of a STUN server: accepts connections, limits them and answers on them.
 *
 * @module
 */

import { MalformedMessageError, NetworkError } from "../../base/errors.ts";
import type { Rate } from "../../base/rate_limiter.ts";
import { writeAll } from "../../base/reader.ts";
import { TaskGroup } from "../../base/tasks.ts";
import { idleDelay, ResettableTimer } from "../../base/timers.ts";
import { acceptUntilClosed } from "../../net/accept.ts";
import type { TransportAddress } from "../../net/address.ts";
import { sortConnection } from "../../net/demultiplexer.ts";
import type { TcpConnection, TcpListener, TlsAcceptor } from "../../net/network.ts";
import { ConnectionCounts, type ConnectionLimits, SourceRateLimiter } from "../../net/source.ts";
import type { StunAttribute } from "../attributes.ts";
import { readMessages } from "../framing.ts";
import type { StunMessage } from "../message.ts";
import {
  encodeTcpCrossingPorts,
  encodeTcpFilterResult,
  getTcpCrossingRequest,
  getTcpFilterRequest,
  type TcpCrossingRequest,
  type TcpFilterRequest,
} from "../tcp_filter/message.ts";
import { MIN_FILTER_REQUEST_LENGTH, type TcpFilterService } from "../tcp_filter/service.ts";
import {
  answerBinding,
  type Arrival,
  type BindingAnswer,
  decodeRequest,
  encodeAnswer,
  refuseBinding,
} from "./binding.ts";
import type { StunServerCounters } from "./endpoints.ts";

/** The limits of TCP connections. */
export interface TcpLimits extends ConnectionLimits {
  /** A connection is reset if no complete message arrives for this long. */
  readonly idleMs: number;
  /** The rate of new connections of each source; further ones are closed. Default: no limit. */
  readonly connections?: Rate;
  /** The rate of messages of each source, over all its connections; further ones wait. Default: no limit. */
  readonly messages?: Rate;
}

/** Accepts connections and answers on them. */
export class TcpService {
  readonly #limits: TcpLimits;
  readonly #counters: StunServerCounters;
  readonly #filterTests: TcpFilterService;
  /** One task per connection. A fault of this program ends it, as any uncaught error does. */
  readonly #tasks = new TaskGroup(reportError);
  readonly #connections = new Set<TcpConnection>();
  readonly #counts: ConnectionCounts;
  readonly #tls: TlsAcceptor | undefined;
  readonly #newConnections: SourceRateLimiter;
  readonly #messages: SourceRateLimiter;

  /** @param seed any 32 bits that others cannot guess */
  constructor(
    limits: TcpLimits,
    { tls, counters, filterTests, seed }: {
      tls?: TlsAcceptor;
      counters: StunServerCounters;
      filterTests: TcpFilterService;
      seed: number;
    },
  ) {
    this.#tls = tls;
    this.#limits = limits;
    this.#counts = new ConnectionCounts(limits);
    this.#newConnections = new SourceRateLimiter(limits.connections ?? UNLIMITED, seed);
    this.#messages = new SourceRateLimiter(limits.messages ?? UNLIMITED, seed);
    this.#counters = counters;
    this.#filterTests = filterTests;
  }

  /** Whether an IP address may have another connection now, as far as its rate goes. */
  admits(ip: string): boolean {
    return this.#newConnections.has(ip, 1, performance.now());
  }

  /** Serves a listener until it is closed. */
  async serve(listener: TcpListener, other: TransportAddress | undefined): Promise<void> {
    await acceptUntilClosed(listener, (connection) => {
      this.#admit(connection, (signal) => this.#serveSorted(connection, other, signal));
    });
  }

  /** Serves a connection that another listener has accepted, until it ends. */
  async serveConnection(
    connection: TcpConnection,
    other: TransportAddress | undefined,
  ): Promise<void> {
    await this.#admit(connection, (signal) => this.#serveStun(connection, other, signal));
  }

  /** Closes all connections and waits for everything that runs to end. */
  async close(): Promise<void> {
    const stopped = this.#tasks.stop();
    for (const connection of this.#connections) connection.close();
    await stopped;
  }

  /** Resets the connection if there are too many; resolves once it has ended. */
  #admit(
    connection: TcpConnection,
    serve: (signal: AbortSignal) => Promise<void>,
  ): Promise<void> {
    const { ip } = connection.remote;
    const isInTime = this.#newConnections.take(ip, 1, performance.now());
    const release = isInTime && !this.#tasks.signal.aborted ? this.#counts.admit(ip) : undefined;
    if (release === undefined) {
      this.#counters.tcpRefused++;
      connection.reset();
      return Promise.resolve();
    }
    this.#connections.add(connection);
    return new Promise((resolve) => {
      this.#tasks.run(async (signal) => {
        try {
          await serve(signal);
        } finally {
          this.#connections.delete(connection);
          release();
          resolve();
        }
      });
    });
  }

  /** A client that takes long for its first bytes, or for its handshake, is idle. */
  async #serveSorted(
    connection: TcpConnection,
    other: TransportAddress | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    if (this.#tls === undefined) return await this.#serveStun(connection, other, signal);
    const idle = new ResettableTimer(() => {
      this.#counters.tcpIdle++;
      connection.reset();
    });
    idle.set(this.#limits.idleMs);
    try {
      const tls = this.#tls;
      const sorted = await sortConnection(connection, { tls, handshakeMs: HANDSHAKE_MS });
      idle.clear();
      if (sorted?.isSecure) this.#counters.tlsConnections++;
      if (sorted?.protocol === "stun") await this.#serveStun(sorted.connection, other, signal);
    } catch (error) {
      if (!(error instanceof NetworkError)) throw error;
      if (error.reason === "tls" || error.reason === "timed-out") this.#counters.tlsFailures++;
    } finally {
      idle.clear();
      connection.close();
    }
  }

  async #serveStun(
    connection: TcpConnection,
    other: TransportAddress | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    this.#counters.tcpConnections++;
    const arrival: Arrival = {
      transport: "tcp",
      source: connection.remote,
      destination: connection.local,
      other,
    };
    const idle = new ResettableTimer(() => {
      this.#counters.tcpIdle++;
      connection.reset();
    });
    idle.set(this.#limits.idleMs);
    const tests = { left: 1, signal };
    try {
      for await (const bytes of readMessages(connection, { maxLength: MAX_MESSAGE_LENGTH })) {
        await this.#turn(connection.remote.ip, signal);
        const reaction = await this.#respond(bytes, arrival, tests);
        if (reaction === undefined) continue;
        await writeAll(connection, reaction.response);
        this.#counters.tcpAnswers++;
        idle.set(this.#limits.idleMs);
        if (reaction.followUp !== undefined) await writeAll(connection, await reaction.followUp());
      }
    } catch (error) {
      // Another protocol, or a peer that is gone: there is nothing to say to either.
      if (signal.aborted) return;
      if (!(error instanceof MalformedMessageError || error instanceof NetworkError)) throw error;
    } finally {
      idle.clear();
      connection.close();
    }
  }

  /** Without it, one source that sends without a pause would keep the server from everything else. */
  async #turn(ip: string, signal: AbortSignal): Promise<void> {
    while (!signal.aborted && !this.#messages.take(ip, 1, performance.now())) {
      await idleDelay(PAUSE_MS, signal);
    }
  }

  async #respond(
    bytes: Uint8Array,
    arrival: Arrival,
    tests: FilterTestAllowance,
  ): Promise<Reaction | undefined> {
    const request = decodeRequest(bytes);
    let answer = request && answerBinding(request, arrival);
    if (request === undefined || answer === undefined) return undefined;
    const test = answer.response.class === "success" && requestedTest(request, bytes.length);
    let followUp: Reaction["followUp"];
    if (test === "bad") {
      answer = refuseBinding(request, arrival, 400);
    } else if (test && "windowMs" in test) {
      const { transactionId } = request;
      const { signal } = tests;
      const result = tests.left-- > 0
        ? await this.#filterTests.test(test, arrival, { transactionId, signal })
        : this.#filterTests.refuse();
      answer = withAttribute(answer, encodeTcpFilterResult(result));
    } else if (test && tests.left-- > 0) {
      const { ports, run } = await this.#filterTests.cross(test, arrival, {
        transactionId: request.transactionId,
        signal: tests.signal,
      });
      answer = withAttribute(answer, encodeTcpCrossingPorts(ports));
      followUp = run;
    }
    const response = encodeAnswer(answer, bytes.length, () => true);
    return response && { response, followUp };
  }
}

/** What a request leads to. */
interface Reaction {
  readonly response: Uint8Array;
  /** What to do once the response has been sent, and to send after that. */
  readonly followUp: (() => Promise<Uint8Array>) | undefined;
}

/** How many TCP filter tests a connection may still have, and what cancels them. */
interface FilterTestAllowance {
  left: number;
  readonly signal: AbortSignal;
}

/** The test that a request asks for; `"bad"` if the request is malformed or shorter than its cost. */
function requestedTest(
  request: StunMessage,
  length: number,
): TcpFilterRequest | TcpCrossingRequest | "bad" | undefined {
  try {
    const test = getTcpFilterRequest(request) ?? getTcpCrossingRequest(request);
    return test !== undefined && length < MIN_FILTER_REQUEST_LENGTH ? "bad" : test;
  } catch (error) {
    if (error instanceof MalformedMessageError) return "bad";
    throw error;
  }
}

function withAttribute(answer: BindingAnswer, attribute: StunAttribute): BindingAnswer {
  const { response } = answer;
  return {
    ...answer,
    response: { ...response, attributes: [...response.attributes, attribute] },
  };
}

/** Chosen by us: two round trips on any path, with a lost SYN, as for the upgrade of a rendezvous. */
const HANDSHAKE_MS = 5000;

/** Chosen by us: the longest useful message is a request for a TCP filter test. */
const MAX_MESSAGE_LENGTH = 2048;

const UNLIMITED: Rate = { burst: Infinity, perSecond: 0 };

/** Chosen by us: a source that has used up its rate is served in this many milliseconds at the latest. */
const PAUSE_MS = 100;
