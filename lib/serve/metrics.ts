/**
 * A listener for Prometheus, and what a server tells it. No value and no label names a client, a room, a topic, a token or
 * a key.
 *
 * @module
 */

import { MalformedMessageError, NetworkError, RefusedError } from "../base/errors.ts";
import { writeAll } from "../base/reader.ts";
import { TaskGroup } from "../base/tasks.ts";
import { formatTransportAddress, type TransportAddress } from "../net/address.ts";
import type { Network, TcpConnection, TcpListener } from "../net/network.ts";
import { newHandshakeReader, readHead } from "../signal/websocket/connection.ts";
import type { StunServer } from "../stun/server/server.ts";
import type { RunningRendezvous } from "./threads.ts";
import { encodeMetrics, type MetricFamily, type MetricSample } from "./metrics_message.ts";

/** What is measured. */
export interface MetricSources {
  readonly stun: readonly StunServer[];
  readonly rendezvous: readonly RunningRendezvous[];
  /** When the certificate expires, in milliseconds since 1970; `undefined` without TLS. */
  readonly certificateExpiresMs?: () => number;
}

/** A listener that runs until it is disposed. */
export interface MetricsServer extends AsyncDisposable {
  /** The URL to scrape. */
  readonly url: string;
  /** Resolves once the listener is closed; rejects if it fails. */
  readonly finished: Promise<void>;
}

/**
 * Starts a listener.
 *
 * @throws {NetworkError} as {@linkcode Network.listenTcp}
 */
export async function serveMetrics(
  network: Network,
  local: TransportAddress,
  sources: MetricSources,
): Promise<MetricsServer> {
  return new Server(await network.listenTcp(local), sources);
}

/** The metrics of these servers, added up. */
function collectMetrics(sources: MetricSources): MetricFamily[] {
  const { stun, rendezvous, certificateExpiresMs } = sources;
  const sumOf = (read: (server: RunningRendezvous) => number) => [{
    value: rendezvous.reduce((sum, server) => sum + read(server), 0),
  }];
  const stunOf = (kind: string, name: keyof StunServer["counters"]): MetricSample => ({
    labels: { kind },
    value: stun.reduce((sum, { counters }) => sum + counters[name], 0),
  });
  const expires: MetricFamily[] = certificateExpiresMs === undefined ? [] : [
    gauge("certificate_expiry_timestamp_seconds", "When the certificate expires", [
      { value: Math.floor(certificateExpiresMs() / 1000) },
    ]),
  ];
  return [
    gauge("connections", "Open connections", sumOf(({ connections }) => connections)),
    gauge("rooms", "Rooms with a member", sumOf(({ rooms }) => rooms)),
    gauge("topics", "Topics with a subscriber", sumOf(({ topics }) => topics)),
    gauge("relays", "Pairs that the relay joins", sumOf(({ relays }) => relays)),
    counter("relayed_bytes", "Bytes passed on by the relay", sumOf((each) => each.relayedBytes)),
    counter("accepted", "Accepted connections", sumOf(({ counters }) => counters.connections)),
    counter("tls_handshakes", "TLS handshakes", sumOf(({ counters }) => counters.tlsConnections)),
    counter(
      "upgrades",
      "Clients upgraded to WebSocket",
      sumOf(({ counters }) => counters.upgrades),
    ),
    counter("refusals", "Refused connections and requests by reason", refusalsOf(rendezvous)),
    counter("stun", "What became of STUN requests and connections by kind", [
      stunOf("udp-answered", "udpAnswers"),
      stunOf("udp-ignored", "udpIgnored"),
      stunOf("udp-shortened", "udpShortened"),
      stunOf("udp-limited", "udpLimited"),
      stunOf("udp-unsent", "udpSendFailures"),
      stunOf("tcp-connected", "tcpConnections"),
      stunOf("tcp-refused", "tcpRefused"),
      stunOf("tcp-idle", "tcpIdle"),
      stunOf("tcp-answered", "tcpAnswers"),
      stunOf("tls-connected", "tlsConnections"),
      stunOf("tls-failed", "tlsFailures"),
      stunOf("filter-tested", "filterTests"),
      stunOf("filter-test-refused", "filterTestsRefused"),
    ]),
    ...expires,
  ];
}

function refusalsOf(servers: readonly RunningRendezvous[]): MetricSample[] {
  const sums = new Map<string, number>();
  for (const { counters } of servers) {
    for (const [reason, count] of Object.entries(counters.refusals)) {
      sums.set(reason, (sums.get(reason) ?? 0) + count);
    }
  }
  return Array.from(sums, ([reason, value]) => ({ labels: { reason }, value }));
}

function gauge(name: string, help: string, samples: readonly MetricSample[]): MetricFamily {
  return { name: `punchline_${name}`, kind: "gauge", help, samples };
}

function counter(name: string, help: string, samples: readonly MetricSample[]): MetricFamily {
  return { name: `punchline_${name}_total`, kind: "counter", help, samples };
}

class Server implements MetricsServer {
  readonly finished: Promise<void>;
  readonly #listener: TcpListener;
  readonly #sources: MetricSources;
  readonly #tasks = new TaskGroup(reportError);
  readonly #connections = new Set<TcpConnection>();

  constructor(listener: TcpListener, sources: MetricSources) {
    this.#listener = listener;
    this.#sources = sources;
    this.finished = this.#serve();
  }

  get url(): string {
    return `http://${formatTransportAddress(this.#listener.local)}${PATH}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    const stopped = this.#tasks.stop();
    for (const connection of this.#connections) connection.reset();
    await stopped;
    await this.finished;
  }

  async #serve(): Promise<void> {
    for (;;) {
      let connection: TcpConnection;
      try {
        connection = await this.#listener.accept();
      } catch (error) {
        if (error instanceof NetworkError && error.reason === "closed") return;
        throw error;
      }
      if (this.#connections.size >= MAX_CONNECTIONS) connection.reset();
      else this.#tasks.run(() => this.#answer(connection));
    }
  }

  async #answer(connection: TcpConnection): Promise<void> {
    this.#connections.add(connection);
    const tooLate = setTimeout(() => connection.reset(), REQUEST_MS);
    try {
      const { startLine } = await readHead(connection, newHandshakeReader(connection));
      await writeAll(connection, this.#responseTo(startLine));
      await connection.closeWrite();
      await connection.read(new Uint8Array(1)); // the client closes first, so that it gets all
    } catch (error) {
      const isClients = error instanceof NetworkError || error instanceof RefusedError ||
        error instanceof MalformedMessageError;
      if (!isClients) throw error;
    } finally {
      clearTimeout(tooLate);
      this.#connections.delete(connection);
      connection.close();
    }
  }

  #responseTo(startLine: string): Uint8Array {
    const isRight = new RegExp(`^GET ${PATH} HTTP/1\\.[01]$`).test(startLine);
    const body = isRight ? encodeMetrics(collectMetrics(this.#sources)) : "Only GET /metrics\n";
    const type = isRight ? "text/plain; version=0.0.4; charset=utf-8" : "text/plain";
    return new TextEncoder().encode(
      `HTTP/1.1 ${isRight ? "200 OK" : "404 Not Found"}\r\nContent-Type: ${type}\r\n` +
        `Content-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`,
    );
  }
}

/** Where Prometheus looks if it is not told otherwise. */
const PATH = "/metrics";

/** Chosen by us: two monitors, and a person who looks. */
const MAX_CONNECTIONS = 16;

/** Chosen by us: what is asked for is on the same machine or network. */
const REQUEST_MS = 5000;
