/**
 * The TCP side of a STUN server: accepts connections, limits them and answers on them.
 *
 * @module
 */

import { MalformedMessageError, NetworkError } from "../../base/errors.ts";
import { writeAll } from "../../base/reader.ts";
import { TaskGroup } from "../../base/tasks.ts";
import { ResettableTimer } from "../../base/timers.ts";
import type { TransportAddress } from "../../net/address.ts";
import { sortConnection } from "../../net/demultiplexer.ts";
import type { TcpConnection, TcpListener, TlsAcceptor } from "../../net/network.ts";
import { ConnectionCounts, type ConnectionLimits } from "../../net/source.ts";
import type { StunAttribute } from "../attributes.ts";
import { readMessages } from "../framing.ts";
import type { StunMessage } from "../message.ts";
import {
  encodeTcpFilterResult,
  getTcpFilterRequest,
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

  constructor(
    limits: TcpLimits,
    { tls, counters, filterTests }: {
      tls?: TlsAcceptor;
      counters: StunServerCounters;
      filterTests: TcpFilterService;
    },
  ) {
    this.#tls = tls;
    this.#limits = limits;
    this.#counts = new ConnectionCounts(limits);
    this.#counters = counters;
    this.#filterTests = filterTests;
  }

  /** Serves a listener until it is closed. */
  async serve(listener: TcpListener, other: TransportAddress | undefined): Promise<void> {
    for (;;) {
      let connection: TcpConnection;
      try {
        connection = await listener.accept();
      } catch (error) {
        if (error instanceof NetworkError && error.reason === "closed") return;
        throw error;
      }
      this.#admit(connection, (signal) => this.#serveSorted(connection, other, signal));
    }
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
    const isStopped = this.#tasks.signal.aborted;
    const release = isStopped ? undefined : this.#counts.admit(connection.remote.ip);
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
        const response = await this.#respond(bytes, arrival, tests);
        if (response === undefined) continue;
        await writeAll(connection, response);
        this.#counters.tcpAnswers++;
        idle.set(this.#limits.idleMs);
      }
    } catch (error) {
      // Another protocol, or a peer that is gone: there is nothing to say to either.
      if (!(error instanceof MalformedMessageError || error instanceof NetworkError)) throw error;
    } finally {
      idle.clear();
      connection.close();
    }
  }

  async #respond(
    bytes: Uint8Array,
    arrival: Arrival,
    tests: FilterTestAllowance,
  ): Promise<Uint8Array | undefined> {
    const request = decodeRequest(bytes);
    let answer = request && answerBinding(request, arrival);
    if (request === undefined || answer === undefined) return undefined;
    const test = answer.response.class === "success" && requestedTest(request, bytes.length);
    if (test === "bad") {
      answer = refuseBinding(request, arrival, 400);
    } else if (test) {
      const { transactionId } = request;
      const { signal } = tests;
      const result = tests.left-- > 0
        ? await this.#filterTests.test(test, arrival, { transactionId, signal })
        : this.#filterTests.refuse();
      answer = withAttribute(answer, encodeTcpFilterResult(result));
    }
    return encodeAnswer(answer, bytes.length, () => true);
  }
}

/** How many TCP filter tests a connection may still have, and what cancels them. */
interface FilterTestAllowance {
  left: number;
  readonly signal: AbortSignal;
}

/** The TCP filter test that a request asks for; `"bad"` if the request is malformed or shorter than its cost. */
function requestedTest(
  request: StunMessage,
  length: number,
): TcpFilterRequest | "bad" | undefined {
  try {
    const test = getTcpFilterRequest(request);
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
