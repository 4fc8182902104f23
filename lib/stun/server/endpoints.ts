/**
 * The sockets of a STUN server: RFC 5780 §6 requires the same ports on both addresses, for UDP and for TCP. And the
 * counters that its parts share.
 *
 * @module
 */

import { NetworkError } from "../../base/errors.ts";
import type { Logger } from "../../base/logger.ts";
import type { TransportAddress } from "../../net/address.ts";
import type { DatagramAnswerer, Network, TcpListener, UdpSocket } from "../../net/network.ts";
import { shortageLogger } from "../../net/shortage.ts";

/** A transport address that the server listens on. */
export interface Endpoint {
  readonly address: TransportAddress;
  /** The transport address with the other IP address and the other port: Ca and Cp of RFC 5780 §6.1. */
  readonly other?: TransportAddress;
  readonly udp: UdpSocket;
  /** What the UDP socket answers by itself. */
  readonly direct: DirectAnswers;
  /** Missing where another server has the TCP port, and hands over the connections that speak STUN. */
  readonly tcp?: TcpListener;
}

/** Answers of a UDP socket where datagrams arrive. */
export interface DirectAnswers {
  /** As {@linkcode DatagramAnswerer.answer}; nothing until the addresses of all sockets are known. */
  answer: DatagramAnswerer["answer"];
}

/** Events since the server started. */
export interface StunServerCounters {
  /** Responses sent over UDP, errors included. */
  udpAnswers: number;
  /** Datagrams that were not Binding requests, or whose response would have been longer than they are. */
  udpIgnored: number;
  /** Responses that lost attributes so as not to be longer than the request. */
  udpShortened: number;
  /** Requests refused because their source asked for too many special responses. */
  udpLimited: number;
  /** Responses that the system failed to send. */
  udpSendFailures: number;
  /** Accepted connections. */
  tcpConnections: number;
  /** Connections that were reset at once: too many in all, or too many from one source. */
  tcpRefused: number;
  /** Connections that were reset because no complete message arrived in time. */
  tcpIdle: number;
  /** TLS handshakes that were completed. */
  tlsConnections: number;
  /** TLS handshakes that failed, or took too long. */
  tlsFailures: number;
  /** Responses sent over TCP, with or without TLS, errors included. */
  tcpAnswers: number;
  /** TCP filter tests that were run. */
  filterTests: number;
  /** TCP filter tests that were requested but not run. */
  filterTestsRefused: number;
}

/** What {@linkcode bindEndpoints} passes on to the sockets. */
export interface EndpointOptions {
  /** Drops the datagrams for which it is `false`. */
  readonly accepts: (data: Uint8Array) => boolean;
  /** Closes TCP connections from the addresses for which it is `false`. */
  readonly admits: (ip: string) => boolean;
  readonly counters: StunServerCounters;
  readonly logger?: Logger;
  /** Whether another server has the first TCP port. */
  readonly sharesTcp?: boolean;
}

/**
 * Binds every port on every address.
 *
 * @param ips one or two; the first endpoint has the first IP address and the first port
 * @param ports one or two; with 0 the system chooses
 * @throws {NetworkError} if a socket cannot be bound; the others are then closed
 */
export async function bindEndpoints(
  network: Network,
  ips: readonly string[],
  ports: readonly number[],
  options: EndpointOptions,
): Promise<Endpoint[]> {
  using bound = new DisposableStack();
  const columns: Endpoint[][] = [];
  for (const [index, port] of ports.entries()) {
    const sharesTcp = options.sharesTcp === true && index === 0;
    const column = await bindColumn(network, ips, port, { ...options, sharesTcp });
    for (const { udp, tcp } of column) {
      bound.use(udp);
      if (tcp !== undefined) bound.use(tcp);
    }
    columns.push(column);
  }
  bound.move();
  return columns.flatMap((column, p) =>
    column.map((endpoint, a) => ({ ...endpoint, other: columns[1 - p]?.[1 - a]?.address }))
  );
}

/** Counters, all zero. */
export function newCounters(): StunServerCounters {
  return {
    udpAnswers: 0,
    udpIgnored: 0,
    udpShortened: 0,
    udpLimited: 0,
    udpSendFailures: 0,
    tcpConnections: 0,
    tcpRefused: 0,
    tcpIdle: 0,
    tlsConnections: 0,
    tlsFailures: 0,
    tcpAnswers: 0,
    filterTests: 0,
    filterTestsRefused: 0,
  };
}

class CountedAnswers implements DatagramAnswerer, DirectAnswers {
  readonly #counters: StunServerCounters;
  answer: DatagramAnswerer["answer"] = () => undefined;

  constructor(counters: StunServerCounters) {
    this.#counters = counters;
  }

  onAnswered(isSent: boolean): void {
    if (isSent) this.#counters.udpAnswers++;
    else this.#counters.udpSendFailures++;
  }
}

/** Binds the same port on every address. */
async function bindColumn(
  network: Network,
  ips: readonly string[],
  port: number,
  options: EndpointOptions,
): Promise<Endpoint[]> {
  for (let triesLeft = port === 0 ? MAX_PORT_TRIES : 1;; triesLeft--) {
    try {
      return await tryColumn(network, ips, port, options);
    } catch (error) {
      const taken = error instanceof NetworkError && error.reason === "address-in-use";
      if (!taken || triesLeft === 1) throw error;
    }
  }
}

async function tryColumn(
  network: Network,
  ips: readonly string[],
  port: number,
  options: EndpointOptions,
): Promise<Endpoint[]> {
  using bound = new DisposableStack();
  const { accepts, admits, counters, logger, sharesTcp } = options;
  const column: Endpoint[] = [];
  for (const ip of ips) {
    // The port that the system chose for the first socket must be free for the others.
    const local = { ip, port: column[0]?.address.port ?? port };
    const direct = new CountedAnswers(counters);
    const udp = bound.use(await network.bindUdp(local, { accepts, answerer: direct }));
    const onShortage = logger && shortageLogger(udp.local, logger);
    const isShared = sharesTcp && column.length === 0;
    const tcp = isShared ? undefined : await network.listenTcp(udp.local, { onShortage, admits });
    if (tcp !== undefined) bound.use(tcp);
    column.push({ address: udp.local, udp, direct, tcp });
  }
  bound.move();
  return column;
}

/** Chosen by us: a port that is free for UDP on one address is rarely taken for the rest. */
const MAX_PORT_TRIES = 16;
