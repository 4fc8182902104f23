/**
 * The sockets of a STUN server: RFC 5780 §6 wants the same ports on both addresses, for UDP and for TCP.
 *
 * @module
 */

import { NetworkError } from "../../base/errors.ts";
import type { TransportAddress } from "../../net/address.ts";
import type { Network, TcpListener, UdpSocket } from "../../net/network.ts";

/** A transport address that the server serves on. */
export interface Endpoint {
  readonly address: TransportAddress;
  /** The transport address with the other IP address and the other port: Ca and Cp of RFC 5780 §6.1. */
  readonly other?: TransportAddress;
  readonly udp: UdpSocket;
  readonly tcp: TcpListener;
}

/**
 * Binds every address to every port.
 *
 * @param ips one or two; the first of them and of the ports make the first endpoint
 * @param ports one or two; 0 for the system's choice
 * @throws {NetworkError} if one of the sockets cannot be bound; the others are closed then
 */
export async function bindEndpoints(
  network: Network,
  ips: readonly string[],
  ports: readonly number[],
): Promise<Endpoint[]> {
  using bound = new DisposableStack();
  const columns: Endpoint[][] = [];
  for (const port of ports) {
    const column = await bindColumn(network, ips, port);
    for (const { udp, tcp } of column) {
      bound.use(udp);
      bound.use(tcp);
    }
    columns.push(column);
  }
  bound.move();
  return columns.flatMap((column, p) =>
    column.map((endpoint, a) => ({ ...endpoint, other: columns[1 - p]?.[1 - a]?.address }))
  );
}

/** Binds the same port on every address. */
async function bindColumn(
  network: Network,
  ips: readonly string[],
  port: number,
): Promise<Endpoint[]> {
  for (let triesLeft = port === 0 ? MAX_PORT_TRIES : 1;; triesLeft--) {
    try {
      return await tryColumn(network, ips, port);
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
): Promise<Endpoint[]> {
  using bound = new DisposableStack();
  const column: Endpoint[] = [];
  for (const ip of ips) {
    // What the system chose for the first socket has to be free for the others.
    const udp = bound.use(await network.bindUdp({ ip, port: column[0]?.address.port ?? port }));
    const tcp = bound.use(await network.listenTcp({ ip, port: udp.local.port }));
    column.push({ address: udp.local, udp, tcp });
  }
  bound.move();
  return column;
}

/** Ours: a port that is free for UDP on one address and taken otherwise is rare. */
const MAX_PORT_TRIES = 16;

/** Events since the server was started. */
export interface StunServerCounters {
  /** Answers sent over UDP, refusals among them. */
  udpAnswers: number;
  /** Datagrams that were no Binding request, or that answering would have amplified. */
  udpIgnored: number;
  /** Answers that lost attributes to be no longer than the request. */
  udpShortened: number;
  /** Requests that were refused because their source asked for too many special answers. */
  udpLimited: number;
  /** Answers that the system would not send. */
  udpSendFailures: number;
  /** Connections that were accepted. */
  tcpConnections: number;
  /** Connections that were reset at once: too many of them, or too many from one source. */
  tcpRefused: number;
  /** Connections that were closed because no whole message came in time. */
  tcpIdle: number;
  /** Answers sent over TCP, refusals among them. */
  tcpAnswers: number;
  /** TCP filter tests that were run. */
  filterTests: number;
  /** TCP filter tests that were asked for and not run. */
  filterTestsRefused: number;
}

/** All zero. */
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
    tcpAnswers: 0,
    filterTests: 0,
    filterTestsRefused: 0,
  };
}
