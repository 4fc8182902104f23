/**
 * The TCP stack of a host: which socket a segment belongs to, and which addresses and ports are free.
 *
 * @module
 */

import { NetworkError } from "../../lib/base/errors.ts";
import {
  formatTransportAddress,
  ipFamily,
  ipScope,
  type TransportAddress,
} from "../../lib/net/address.ts";
import type {
  ConnectTcpOptions,
  ListenTcpOptions,
  TcpConnection,
  TcpListener,
} from "../../lib/net/network.ts";
import type { HostSystem } from "./host.ts";
import { isBareSyn } from "../../lab/model/nat_packet.ts";
import { resetFor, type TcpPacket, type UnreachablePacket } from "./packet.ts";
import { covers, ephemeralPort, requireOwn } from "./ports.ts";
import { randomInteger } from "./random.ts";
import { SimTcpConnection, toNetworkError } from "./tcp_connection.ts";
import { SimTcpListener } from "./tcp_listener.ts";
import { TcpSocket } from "./tcp_socket.ts";

/** The connections and listeners of a host. */
export class TcpStack {
  readonly #system: HostSystem;
  readonly #sockets = new Map<string, TcpSocket>();
  readonly #listeners = new Set<SimTcpListener>();
  /** Held by programs: dials in progress, and connections that were not closed. */
  readonly #held = new Set<TcpSocket>();

  constructor(system: HostSystem) {
    this.#system = system;
  }

  /** As {@linkcode Network.connectTcp}. */
  async connect(remote: TransportAddress, options: ConnectTcpOptions = {}): Promise<TcpConnection> {
    const { signal } = options;
    signal?.throwIfAborted();
    const local = this.#localForDial(remote, options);
    const { promise: opened, resolve, reject } = Promise.withResolvers<void>();
    const socket = this.#open(local, remote, {
      onOpen: resolve,
      onGone: () =>
        reject(toNetworkError(`Cannot connect to ${formatTransportAddress(remote)}`, socket)),
    });
    this.#held.add(socket);
    const onAbort = () => reject(signal?.reason);
    signal?.addEventListener("abort", onAbort, { once: true });
    socket.dial();
    try {
      await opened;
      signal?.throwIfAborted();
      return new SimTcpConnection(socket);
    } catch (error) {
      socket.close();
      throw error;
    } finally {
      signal?.removeEventListener("abort", onAbort);
    }
  }

  /** As {@linkcode Network.listenTcp}. */
  listen(requested: TransportAddress, options: ListenTcpOptions = {}): TcpListener {
    requireOwn(this.#system, requested, "listen on TCP");
    const reusePort = this.#reusesPort(options);
    const isFree = (port: number) => !this.#isListenedOn({ ip: requested.ip, port }, reusePort);
    // Linux gives a listener no port by itself that a connection has (inet_csk_find_open_port).
    const isUnused = (port: number) => isFree(port) && !this.#isDialledFrom(port);
    const port = requested.port === 0
      ? ephemeralPort(this.#system.random, isUnused)
      : requested.port;
    if (port === undefined || !isFree(port)) throw inUse("listen on TCP", requested);
    // Linux allows a listener on a port that sockets were dialled from before.
    const listener = new SimTcpListener({ ip: requested.ip, port }, {
      reusePort,
      onClose: () => this.#listeners.delete(listener),
    });
    this.#listeners.add(listener);
    return listener;
  }

  /** Delivers a segment. A socket with exactly this pair of addresses takes precedence over a listener. */
  receive(packet: TcpPacket): void {
    const { source, destination } = packet;
    const socket = this.#socketOf(destination, source);
    if (socket !== undefined && !(isBareSyn(packet) && socket.yieldsTo(packet))) {
      return socket.receive(packet);
    }
    const listener = [...this.#listeners].find(({ local }) => covers(local, destination));
    if (listener !== undefined && isBareSyn(packet)) {
      socket?.forget();
      return this.#answer(packet, listener);
    }
    // RFC 9293 §3.10.7.1 and .2: closed ports and listeners answer everything but RST with RST.
    if (!packet.tcpFlags.rst && this.#system.closedPorts === "reset") {
      this.#system.send(resetFor(packet));
    }
  }

  /** Delivers an ICMP error to the socket whose packet caused it. */
  receiveError({ original, code }: UnreachablePacket): void {
    this.#socketOf(original.source, original.destination)?.receiveError(code);
  }

  /** All open sockets. */
  openSockets(): string[] {
    for (const socket of this.#held) {
      if (socket.isClosedByUser || socket.error !== undefined) this.#held.delete(socket);
    }
    return [
      ...Array.from(this.#listeners, ({ local }) => {
        return `TCP listener ${formatTransportAddress(local)}`;
      }),
      ...Array.from(this.#held, ({ local, remote }) => {
        return `TCP ${formatTransportAddress(local)} to ${formatTransportAddress(remote)}`;
      }),
    ];
  }

  #answer(syn: TcpPacket, listener: SimTcpListener): void {
    const socket = this.#open(syn.destination, syn.source, {
      onOpen: () => {
        this.#held.add(socket);
        listener.push(new SimTcpConnection(socket));
      },
      onGone: () => {},
    });
    socket.answer(syn);
  }

  #open(local: TransportAddress, remote: TransportAddress, on: {
    onOpen: () => void;
    onGone: () => void;
  }): TcpSocket {
    const key = pairKey(local, remote);
    const socket: TcpSocket = new TcpSocket({
      local,
      remote,
      initialSequence: randomInteger(this.#system.random, 1, 2 ** 31),
      send: (packet) => this.#system.send(packet),
      onOpen: on.onOpen,
      onGone: () => {
        if (this.#sockets.get(key) === socket) this.#sockets.delete(key);
        on.onGone();
      },
    });
    this.#sockets.set(key, socket);
    return socket;
  }

  #localForDial(remote: TransportAddress, options: ConnectTcpOptions): TransportAddress {
    const requested = options.local;
    const reusePort = this.#reusesPort(options);
    const verb = `connect to ${formatTransportAddress(remote)} from`;
    if (requested !== undefined) requireOwn(this.#system, requested, verb);
    const isChosen = requested !== undefined && ipScope(requested.ip) !== "unspecified";
    if (requested !== undefined && ipFamily(requested.ip) !== ipFamily(remote.ip)) {
      const cannot = `Cannot ${verb} ${formatTransportAddress(requested)}`;
      throw new NetworkError(`${cannot}: different IP family`, "address-not-available");
    }
    const route = this.#system.sourceFor(remote.ip);
    const ip = isChosen ? requested.ip : route;
    const isFree = (port: number) =>
      this.#socketOf({ ip, port }, remote) === undefined &&
      !this.#isListenedOn({ ip, port }, reusePort);
    const wanted = requested?.port ?? 0;
    const port = wanted === 0 ? ephemeralPort(this.#system.random, isFree) : wanted;
    if (port === undefined || !isFree(port)) throw inUse(verb, requested ?? { ip, port: wanted });
    return { ip, port };
  }

  #isDialledFrom(port: number): boolean {
    return this.#sockets.values().some(({ local }) => local.port === port);
  }

  #reusesPort({ reusePort = false }: ListenTcpOptions): boolean {
    return reusePort && this.#system.reusePort;
  }

  /**
   * Whether a listener blocks an address. One port can have any number of dials, because all of them set
   * SO_REUSEADDR, but together with a listener only if all sockets on the port set SO_REUSEPORT.
   */
  #isListenedOn(wanted: TransportAddress, reusePort: boolean): boolean {
    return [...this.#listeners].some((listener) =>
      !(reusePort && listener.reusePort) &&
      (covers(listener.local, wanted) || covers(wanted, listener.local))
    );
  }

  #socketOf(local: TransportAddress, remote: TransportAddress): TcpSocket | undefined {
    const key = pairKey(local, remote);
    const socket = this.#sockets.get(key);
    if (socket?.hasLingered(performance.now())) socket.forget();
    return this.#sockets.get(key);
  }
}

function pairKey(local: TransportAddress, remote: TransportAddress): string {
  return `${formatTransportAddress(local)} ${formatTransportAddress(remote)}`;
}

function inUse(verb: string, address: TransportAddress): NetworkError {
  return new NetworkError(
    `Cannot ${verb} ${formatTransportAddress(address)}: address already in use`,
    "address-in-use",
  );
}
