/**
 * The TCP side of a STUN server: connections, how many there may be, and how long they may say nothing.
 *
 * @module
 */

import { MalformedMessageError, NetworkError } from "../../base/errors.ts";
import { sourceKey, type TransportAddress } from "../../net/address.ts";
import type { TcpConnection, TcpListener } from "../../net/network.ts";
import type { StunAttribute } from "../attributes.ts";
import type { StunMessage } from "../message.ts";
import {
  encodeTcpFilterResult,
  getTcpFilterRequest,
  type TcpFilterRequest,
} from "../tcp_filter/message.ts";
import { MIN_FILTER_REQUEST_LENGTH, type TcpFilterService } from "../tcp_filter/service.ts";
import { writeAll } from "../../base/reader.ts";
import { readMessages } from "../transport.ts";
import {
  answerBinding,
  type Arrival,
  type BindingAnswer,
  decodeRequest,
  encodeAnswer,
  refuse,
} from "./binding.ts";
import type { StunServerCounters } from "./endpoints.ts";

/** What connections may cost. */
export interface TcpLimits {
  /** Open ones; further ones are reset. */
  readonly maxConnections: number;
  /** Open ones of one source; further ones are reset. */
  readonly maxConnectionsPerSource: number;
  /** A connection on which no whole message arrives for this long is reset. */
  readonly idleMs: number;
}

/** Accepts connections and answers on them. */
export class TcpService {
  readonly #limits: TcpLimits;
  readonly #counters: StunServerCounters;
  readonly #filterTests: TcpFilterService;
  readonly #closing = new AbortController();
  readonly #sessions = new Map<TcpConnection, Promise<void>>();
  readonly #perSource = new Map<string, number>();

  constructor(
    limits: TcpLimits,
    { counters, filterTests }: { counters: StunServerCounters; filterTests: TcpFilterService },
  ) {
    this.#limits = limits;
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
      if (this.#admit(connection)) {
        this.#sessions.set(connection, this.#converse(connection, other));
      } else {
        this.#counters.tcpRefused++;
        connection.reset();
      }
    }
  }

  /** Closes all connections and waits until nothing runs any more. */
  async close(): Promise<void> {
    this.#closing.abort();
    for (const connection of this.#sessions.keys()) connection.close();
    await Promise.all(this.#sessions.values());
  }

  #admit({ remote }: TcpConnection): boolean {
    const { maxConnections, maxConnectionsPerSource } = this.#limits;
    const key = sourceKey(remote.ip);
    const fromSource = this.#perSource.get(key) ?? 0;
    if (this.#closing.signal.aborted || this.#sessions.size >= maxConnections) return false;
    if (fromSource >= maxConnectionsPerSource) return false;
    this.#perSource.set(key, fromSource + 1);
    return true;
  }

  #release(connection: TcpConnection): void {
    this.#sessions.delete(connection);
    const key = sourceKey(connection.remote.ip);
    const left = this.#perSource.get(key)! - 1;
    if (left === 0) this.#perSource.delete(key);
    else this.#perSource.set(key, left);
  }

  async #converse(connection: TcpConnection, other: TransportAddress | undefined): Promise<void> {
    this.#counters.tcpConnections++;
    const arrival: Arrival = {
      transport: "tcp",
      source: connection.remote,
      destination: connection.local,
      other,
    };
    const onIdle = () => {
      this.#counters.tcpIdle++;
      connection.reset();
    };
    let idle = setTimeout(onIdle, this.#limits.idleMs);
    const tests = { left: 1 };
    try {
      for await (const bytes of readMessages(connection, { maxLength: MAX_MESSAGE_LENGTH })) {
        const response = await this.#respond(bytes, arrival, tests);
        if (response === undefined) continue;
        await writeAll(connection, response);
        this.#counters.tcpAnswers++;
        clearTimeout(idle);
        idle = setTimeout(onIdle, this.#limits.idleMs);
      }
    } catch (error) {
      // Another protocol, or a peer that is gone: nothing to say to either.
      if (!(error instanceof MalformedMessageError || error instanceof NetworkError)) throw error;
    } finally {
      clearTimeout(idle);
      connection.close();
      this.#release(connection);
    }
  }

  async #respond(
    bytes: Uint8Array,
    arrival: Arrival,
    tests: { left: number },
  ): Promise<Uint8Array | undefined> {
    const request = decodeRequest(bytes);
    let answer = request && answerBinding(request, arrival);
    if (request === undefined || answer === undefined) return undefined;
    const wish = answer.response.class === "success" && tcpFilterWish(request, bytes.length);
    if (wish === "bad") {
      answer = refuse(request, arrival, 400);
    } else if (wish) {
      const { transactionId } = request;
      const result = tests.left-- > 0
        ? await this.#filterTests.test(wish, arrival, {
          transactionId,
          signal: this.#closing.signal,
        })
        : this.#filterTests.refuse();
      answer = withAttribute(answer, encodeTcpFilterResult(result));
    }
    return encodeAnswer(answer, bytes.length, () => true);
  }
}

/** The filter test that a request asks for; `"bad"` if it is too short to pay for one. */
function tcpFilterWish(
  request: StunMessage,
  length: number,
): TcpFilterRequest | "bad" | undefined {
  try {
    const wish = getTcpFilterRequest(request);
    return wish !== undefined && length < MIN_FILTER_REQUEST_LENGTH ? "bad" : wish;
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

/** Ours: the longest that has a use is a TCP filter test's. */
const MAX_MESSAGE_LENGTH = 2048;
