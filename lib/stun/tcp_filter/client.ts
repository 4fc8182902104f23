/**
 * The client's half of the TCP filter test: asks a server of ours to dial back, and tells what the NATs and
 * filters on the way do with SYNs that nobody on this side asked for. docs/tcp-filter-test.md
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
import { WaitQueue } from "../../base/wait_queue.ts";
import { formatTransportAddress, ipFamily, type TransportAddress } from "../../net/address.ts";
import type { Network, TcpConnection, TcpListener } from "../../net/network.ts";
import {
  BINDING,
  decodeMessage,
  encodeMessage,
  getAttribute,
  type StunMessage,
} from "../message.ts";
import { writeAll } from "../../base/reader.ts";
import { readMessages } from "../transport.ts";
import {
  type DialResult,
  encodeTcpFilterRequest,
  getTcpFilterResult,
  type TcpFilterResult,
} from "./message.ts";

/** Accepts connections and reads from each the greeting by which the server's dials are known. */
export class GreetingListener implements Disposable {
  readonly #listener: TcpListener;
  readonly #transactionId: Uint8Array;
  readonly #origins = new WaitQueue<TransportAddress>(MAX_CONNECTIONS);
  readonly #connections = new Set<TcpConnection>();

  /**
   * @param listener is closed with this
   * @param transactionId of the request, which only the server knows
   */
  constructor(listener: TcpListener, transactionId: Uint8Array) {
    this.#listener = listener;
    this.#transactionId = transactionId;
    this.#accept().catch((error) => this.#origins.close(error));
  }

  /**
   * Where the dials came from, by their own account, once `expected` of them have arrived; or fewer, if they
   * do not arrive within a second: a greeting may take longer than the server's report of it.
   */
  async collect(expected: number, signal?: AbortSignal): Promise<TransportAddress[]> {
    const origins = this.#origins.drain();
    const timeouts = AbortSignal.timeout(GREETING_TIMEOUT_MS);
    const either = signal === undefined ? timeouts : AbortSignal.any([signal, timeouts]);
    while (origins.length < expected) {
      try {
        origins.push(await this.#origins.next(either));
      } catch (error) {
        signal?.throwIfAborted();
        if (error !== timeouts.reason) throw error;
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
    for (;;) {
      let connection: TcpConnection;
      try {
        connection = await this.#listener.accept();
      } catch (error) {
        if (error instanceof NetworkError && error.reason === "closed") return;
        throw error;
      }
      if (this.#connections.size >= MAX_CONNECTIONS) {
        connection.reset();
        continue;
      }
      this.#connections.add(connection);
      this.#read(connection).catch((error) => this.#origins.close(error));
    }
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
      // Somebody else's dial, or one that was cut short: no evidence of anything.
      if (!(error instanceof MalformedMessageError || error instanceof NetworkError)) throw error;
    } finally {
      connection.close();
    }
  }
}

/** Ours: the server dials six times at most. */
const MAX_CONNECTIONS = 16;

/** A header and RESPONSE-ORIGIN with an IPv6 address are 44 bytes. */
const MAX_GREETING_LENGTH = 128;

const GREETING_TIMEOUT_MS = 1000;

/** What an unsolicited SYN gets; `"unknown"` if the test could not tell. */
export type UnsolicitedSyn = "accepted" | "reset" | "dropped" | "unknown";

/** What a TCP filter test found. */
export interface TcpFilterReport {
  /** Of SYNs from the address that this side talks to, and another port. */
  readonly sameAddress: UnsolicitedSyn;
  /** Of SYNs from an address that this side has never talked to. */
  readonly alternateAddress: UnsolicitedSyn;
  /** Where the test was run from: this side's end of the connection. */
  readonly local: TransportAddress;
  /** The same end, as the server sees it. */
  readonly mapped: TransportAddress | undefined;
  /** What the verdicts rest on. */
  readonly evidence: TcpFilterEvidence;
}

/** What the verdicts of a {@linkcode TcpFilterReport} rest on. */
export interface TcpFilterEvidence {
  /** What the server says; `undefined` if it does not know this test. */
  readonly server: TcpFilterResult | undefined;
  /** Whether a dial of the server arrived here and proved to be its own. */
  readonly arrived: { readonly sameAddress: boolean; readonly alternateAddress: boolean };
  /** Whether this side could listen on the port. Without that, a RST may be this system's own. */
  readonly listening: boolean;
  /** Of the connection's handshake. */
  readonly rttMs: number;
  /** Of the whole test. */
  readonly elapsedMs: number;
}

/** What became of the SYNs of one origin, from both sides' view of it. */
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
      // "accepted", but not by this side: another machine or a proxy has the port.
      return "unknown";
  }
}

/** What {@linkcode testTcpFilter} takes. */
export interface TcpFilterOptions {
  /** Where to dial from; wildcard address or port 0 for the system's choice. The port should be a fresh one. */
  readonly local?: TransportAddress;
  /** How long the server shall wait for answers to its SYNs; by default what suits the round-trip time. */
  readonly windowMs?: number;
  /** Ends the test; it rejects with the reason. */
  readonly signal?: AbortSignal;
}

/**
 * Runs the test against a server, over IPv4 or IPv6.
 *
 * @throws {NetworkError} if the server cannot be reached over TCP
 * @throws {NoResponseError} if it does not answer
 * @throws {RefusedError} if it answers with an error
 * @throws {MalformedMessageError} if what it says is not STUN
 */
export async function testTcpFilter(
  network: Network,
  server: TransportAddress,
  options: TcpFilterOptions = {},
): Promise<TcpFilterReport> {
  // A local address has to be given: systems share with a listener only a port that was bound.
  const { local = { ip: ipFamily(server.ip) === 4 ? "0.0.0.0" : "::", port: 0 }, signal } = options;
  const startedMs = performance.now();
  using connection = await network.connectTcp(server, { local, signal });
  const rttMs = performance.now() - startedMs;
  const windowMs = options.windowMs ?? defaultWindowMs(rttMs);

  // Listening comes second: where both have one port, the systems allow it in this order only.
  const transactionId = crypto.getRandomValues(new Uint8Array(12));
  using listener = await tryListen(network, connection.local);
  using greetings = listener && new GreetingListener(listener, transactionId);

  const deadline = AbortSignal.timeout(windowMs + RESULT_TIMEOUT_MS);
  const response = await ask(connection, encodeRequest(transactionId, windowMs), {
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
  const valueLength = REQUEST_LENGTH - 20 - 4; // both headers
  return encodeMessage({
    class: "request",
    method: BINDING,
    transactionId,
    attributes: [encodeTcpFilterRequest({ windowMs }, valueLength)],
  });
}

async function ask(
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
      throw new RefusedError(`${cannot}: it answered ${code} ${reason}`.trimEnd(), code);
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

/** Ours: three SYNs, a quarter of the window apart, of which the last still has twice the path's time. */
function defaultWindowMs(rttMs: number): number {
  return Math.round(Math.min(MAX_WINDOW_MS, Math.max(MIN_WINDOW_MS, 4 * rttMs + 200)));
}

const MIN_WINDOW_MS = 600;
const MAX_WINDOW_MS = 1900;

/** What servers demand: docs/tcp-filter-test.md. */
const REQUEST_LENGTH = 1024;

/** Ours: for a lost segment or two on the way there or back, beyond the window. */
const RESULT_TIMEOUT_MS = 3000;
