/**
 * The client of the TCP filter test (docs/tcp-filter-test.md): asks a Punchline server to dial back, and reports what
 * the NATs and firewalls on the path do with the unsolicited SYNs.
 *
 * @module
 */

import { equalBytes } from "../../base/bytes.ts";
import {
  MalformedMessageError,
  NetworkError,
  NoResponseError,
  RefusedError,
} from "../../base/errors.ts";
import { writeAll } from "../../base/reader.ts";
import { WaitQueue } from "../../base/wait_queue.ts";
import { acceptUntilClosed } from "../../net/accept.ts";
import { formatTransportAddress, ipFamily, type TransportAddress } from "../../net/address.ts";
import type { Network, TcpConnection, TcpListener } from "../../net/network.ts";
import { readMessages } from "../framing.ts";
import {
  BINDING,
  decodeMessage,
  encodeMessage,
  getAttribute,
  type StunMessage,
} from "../message.ts";
import {
  type DialResult,
  encodeTcpFilterRequest,
  getTcpFilterResult,
  type TcpFilterResult,
  type UnsolicitedSyn,
} from "./message.ts";

/** Options of {@linkcode testTcpFilter}. */
export interface TcpFilterOptions {
  /**
   * The local address to test, preferably one with a fresh port. With a wildcard address or port 0, the system chooses.
   */
  readonly local?: TransportAddress;
  /** How long the server waits for replies to its SYNs. Default: what suits the round-trip time and `patience`. */
  readonly windowMs?: number;
  /** Whether a lost SYN more is worth some 300 ms less. Default: `"long"`. */
  readonly patience?: "long" | "short";
  /** Cancels the test. */
  readonly signal?: AbortSignal;
}

/** The result of a TCP filter test. */
export interface TcpFilterReport {
  /** What happens to SYNs from the address that this host is connected to, and another port. */
  readonly sameAddress: UnsolicitedSyn;
  /** What happens to SYNs from an address that this host has never sent to. */
  readonly alternateAddress: UnsolicitedSyn;
  /** The tested address: the local end of the connection. */
  readonly local: TransportAddress;
  /** The same address as the server sees it. */
  readonly mapped: TransportAddress | undefined;
  /** What the verdicts rest on. */
  readonly evidence: TcpFilterEvidence;
}

/** What the verdicts of a {@linkcode TcpFilterReport} rest on. */
export interface TcpFilterEvidence {
  /** The server's report; `undefined` if the server does not support the test. */
  readonly server: TcpFilterResult | undefined;
  /** Whether a dial arrived here that proved to be the server's. */
  readonly arrived: { readonly sameAddress: boolean; readonly alternateAddress: boolean };
  /** Whether this host could listen on the port. If not, a RST may be its own. */
  readonly listening: boolean;
  /** How long the TCP handshake took. */
  readonly rttMs: number;
  /** How long the whole test took. */
  readonly elapsedMs: number;
}

/**
 * Runs the test against a server, over IPv4 or IPv6.
 *
 * @throws {NetworkError} if the server cannot be reached over TCP
 * @throws {NoResponseError} if it does not respond
 * @throws {RefusedError} if it responds with an error
 * @throws {MalformedMessageError} if what it sends is not STUN
 */
export async function testTcpFilter(
  network: Network,
  server: TransportAddress,
  options: TcpFilterOptions = {},
): Promise<TcpFilterReport> {
  // The local address is never left out: systems let a listener share only a port that was bound explicitly.
  const { local = { ip: ipFamily(server.ip) === 4 ? "0.0.0.0" : "::", port: 0 }, signal } = options;
  const startedMs = performance.now();
  using connection = await network.connectTcp(server, { local, signal });
  const rttMs = performance.now() - startedMs;
  const windowMs = options.windowMs ??
    (options.patience === "short" ? shortWindowMs(rttMs) : defaultWindowMs(rttMs));

  // Connect first, then listen: on a shared port, systems allow only this order.
  const transactionId = crypto.getRandomValues(new Uint8Array(12));
  using listener = await tryListen(network, connection.local);
  using greetings = listener && new GreetingListener(listener, transactionId);

  const deadline = AbortSignal.timeout(windowMs + RESULT_TIMEOUT_MS);
  const response = await requestTest(connection, encodeRequest(transactionId, windowMs), {
    transactionId,
    signal: signal === undefined ? deadline : AbortSignal.any([signal, deadline]),
    deadline,
  });
  const result = getTcpFilterResult(response);
  const origin = getAttribute(response, "RESPONSE-ORIGIN") ?? server;
  const expected = Number(result?.sameAddress.outcome === "accepted") +
    Number(result?.alternateAddress.outcome === "accepted");
  const arrivedFrom = await greetings?.collect(expected, signal) ?? [];
  const arrived = {
    sameAddress: arrivedFrom.some(({ ip }) => ip === origin.ip),
    alternateAddress: arrivedFrom.some(({ ip }) => ip !== origin.ip),
  };
  const listening = listener !== undefined;
  return {
    sameAddress: judge(result?.sameAddress, arrived.sameAddress, { listening }),
    alternateAddress: judge(result?.alternateAddress, arrived.alternateAddress, { listening }),
    local: connection.local,
    mapped: getAttribute(response, "XOR-MAPPED-ADDRESS"),
    evidence: {
      server: result,
      arrived,
      listening,
      rttMs,
      elapsedMs: performance.now() - startedMs,
    },
  };
}

/** The verdict on the SYNs from one address, from what both sides saw. */
export function judge(
  dialled: DialResult | undefined,
  arrived: boolean,
  { listening }: { listening: boolean },
): UnsolicitedSyn {
  if (arrived) return "accepted";
  switch (dialled?.outcome) {
    case "silent":
      return "dropped";
    case "refused":
      return listening ? "reset" : "unknown";
    default:
      // "accepted", but not by this host: another machine or a proxy has the port.
      return "unknown";
  }
}

async function tryListen(
  network: Network,
  local: TransportAddress,
): Promise<TcpListener | undefined> {
  try {
    return await network.listenTcp(local);
  } catch (error) {
    if (error instanceof NetworkError) return undefined;
    throw error;
  }
}

function encodeRequest(transactionId: Uint8Array, windowMs: number): Uint8Array {
  const valueLength = REQUEST_LENGTH - 20 - 4; // without the headers of the message and the attribute
  return encodeMessage({
    class: "request",
    method: BINDING,
    transactionId,
    attributes: [encodeTcpFilterRequest({ windowMs }, valueLength)],
  });
}

async function requestTest(
  connection: TcpConnection,
  request: Uint8Array,
  { transactionId, signal, deadline }: {
    transactionId: Uint8Array;
    signal: AbortSignal;
    deadline: AbortSignal;
  },
): Promise<StunMessage> {
  const cannot = `Cannot test the TCP filter with ${formatTransportAddress(connection.remote)}`;
  const onAbort = () => connection.reset();
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    signal.throwIfAborted();
    await writeAll(connection, request);
    for await (const bytes of readMessages(connection)) {
      const response = decodeMessage(bytes);
      if (!equalBytes(response.transactionId, transactionId)) continue;
      if (response.class === "success") return response;
      const { code, reason } = getAttribute(response, "ERROR-CODE") ?? { code: 0, reason: "" };
      const message = `${cannot}: it answered ${code} ${reason}`.trimEnd();
      throw new RefusedError(message, code, { remedy: "Use a `punchline serve` as the server" });
    }
    throw new NoResponseError(`${cannot}: it closed the connection`);
  } catch (error) {
    if (deadline.aborted) throw new NoResponseError(`${cannot}: no response`, { cause: error });
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

/** Accepts connections and reads from each the greeting that identifies the server's dials. */
class GreetingListener implements Disposable {
  readonly #listener: TcpListener;
  readonly #transactionId: Uint8Array;
  readonly #origins = new WaitQueue<TransportAddress>(MAX_CONNECTIONS);
  readonly #connections = new Set<TcpConnection>();

  /**
   * @param listener closed together with this object
   * @param transactionId the request's, which only the server knows
   */
  constructor(listener: TcpListener, transactionId: Uint8Array) {
    this.#listener = listener;
    this.#transactionId = transactionId;
    this.#accept().catch((error) => this.#origins.close(error));
  }

  /**
   * The addresses that the dials claim to come from, once `expected` of them have arrived. Returns fewer if they do
   * not arrive within a second: a greeting may take longer than the server's report of it.
   */
  async collect(expected: number, signal?: AbortSignal): Promise<TransportAddress[]> {
    const origins = this.#origins.drain();
    const timeout = AbortSignal.timeout(GREETING_TIMEOUT_MS);
    const either = signal === undefined ? timeout : AbortSignal.any([signal, timeout]);
    while (origins.length < expected) {
      try {
        origins.push(await this.#origins.next(either));
      } catch (error) {
        signal?.throwIfAborted();
        if (error !== timeout.reason) throw error;
        break;
      }
    }
    return origins;
  }

  [Symbol.dispose](): void {
    this.#listener.close();
    for (const connection of this.#connections) connection.close();
  }

  async #accept(): Promise<void> {
    await acceptUntilClosed(this.#listener, (connection) => {
      if (this.#connections.size >= MAX_CONNECTIONS) return connection.reset();
      this.#connections.add(connection);
      this.#read(connection).catch((error) => this.#origins.close(error));
    });
  }

  async #read(connection: TcpConnection): Promise<void> {
    try {
      for await (const bytes of readMessages(connection, { maxLength: MAX_GREETING_LENGTH })) {
        const message = decodeMessage(bytes);
        const origin = getAttribute(message, "RESPONSE-ORIGIN");
        const isGreeting = message.class === "indication" && origin !== undefined &&
          equalBytes(message.transactionId, this.#transactionId);
        if (isGreeting) this.#origins.push(origin);
        return;
      }
    } catch (error) {
      // Not the server's dial, or one that was cut short: evidence of nothing.
      if (!(error instanceof MalformedMessageError || error instanceof NetworkError)) throw error;
    } finally {
      connection.close();
    }
  }
}

/** Chosen by us: three SYNs, a quarter of the window apart; the last one still has twice the path's round-trip time. */
function defaultWindowMs(rttMs: number): number {
  return Math.round(Math.min(MAX_WINDOW_MS, Math.max(MIN_WINDOW_MS, 4 * rttMs + 80)));
}

/** Chosen by us: three SYNs, of which the last one still has the path's round-trip time. */
function shortWindowMs(rttMs: number): number {
  return Math.round(Math.min(MAX_WINDOW_MS, 4 * rttMs + 80));
}

/** Chosen by us: the window for paths faster than 50 ms, of which the last SYN still has 140 ms. */
const MIN_WINDOW_MS = 280;

/** The longest window that servers grant. */
const MAX_WINDOW_MS = 1900;

/** The length that servers require: docs/tcp-filter-test.md. */
export const REQUEST_LENGTH = 1024;

/** Chosen by us: time for a lost segment or two in either direction, on top of the window. */
export const RESULT_TIMEOUT_MS = 3000;

/** Chosen by us: a greeting may take longer than the server's report of it. */
const GREETING_TIMEOUT_MS = 1000;

/** Chosen by us: the server dials six times at most. */
const MAX_CONNECTIONS = 16;

/** A header and RESPONSE-ORIGIN with an IPv6 address have 44 bytes. */
const MAX_GREETING_LENGTH = 128;
