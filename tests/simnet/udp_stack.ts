/**
 * The UDP stack of a host.
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
import type { BindUdpOptions, Datagram, UdpSocket } from "../../lib/net/network.ts";
import { WaitQueue } from "../../lib/base/wait_queue.ts";
import type { HostSystem } from "./host.ts";
import type { UdpPacket } from "./packet.ts";
import { covers, ephemeralPort, requireOwn } from "./ports.ts";

/** The UDP sockets of a host. */
export class UdpStack {
  readonly #system: HostSystem;
  readonly #sockets = new Set<SimUdpSocket>();

  constructor(system: HostSystem) {
    this.#system = system;
  }

  /** As {@linkcode Network.bindUdp}. */
  bind(requested: TransportAddress, options: BindUdpOptions = {}): UdpSocket {
    requireOwn(this.#system, requested, "bind UDP");
    const groups = new Set(options.multicast?.groups?.map(({ group }) => group));
    const shares = groups.size > 0;
    const isFree = (port: number) => !this.#isTaken({ ip: requested.ip, port }, shares);
    const port = requested.port === 0 ? ephemeralPort(this.#system.random, isFree) : requested.port;
    const local = { ip: requested.ip, port };
    if (port === undefined || !isFree(port)) {
      const text = formatTransportAddress(requested);
      throw new NetworkError(`Cannot bind UDP ${text}: address already in use`, "address-in-use");
    }
    const socket = new SimUdpSocket({ ip: local.ip, port }, {
      system: this.#system,
      groups,
      onClose: () => this.#sockets.delete(socket),
    });
    this.#sockets.add(socket);
    return socket;
  }

  /** Whether a socket has joined the multicast group. */
  isMember(group: string): boolean {
    return [...this.#sockets].some(({ groups }) => groups.has(group));
  }

  /** Delivers a datagram to the socket it is addressed to, or to all members of the group; otherwise drops it. */
  receive(packet: UdpPacket): void {
    const { ip, port } = packet.destination;
    if (ipScope(ip) === "multicast") {
      for (const socket of this.#sockets) {
        if (socket.groups.has(ip) && socket.local.port === port) socket.deliver(packet);
      }
      return;
    }
    const sockets = [...this.#sockets].filter(({ local }) => covers(local, packet.destination));
    const exact = sockets.find(({ local }) => local.ip === packet.destination.ip);
    (exact ?? sockets[0])?.deliver(packet);
  }

  /** All open sockets. */
  openSockets(): string[] {
    return Array.from(this.#sockets, ({ local }) => `UDP ${formatTransportAddress(local)}`);
  }

  /** Without SO_REUSEADDR on both sockets, the wildcard and any single address exclude each other. */
  #isTaken(wanted: TransportAddress, shares: boolean): boolean {
    for (const { local, groups } of this.#sockets) {
      if (shares && groups.size > 0) continue;
      if (covers(local, wanted) || covers(wanted, local)) return true;
    }
    return false;
  }
}

class SimUdpSocket implements UdpSocket {
  readonly local: TransportAddress;
  readonly groups: ReadonlySet<string>;
  readonly #system: HostSystem;
  readonly #onClose: () => void;
  readonly #queue = new WaitQueue<Datagram>(MAX_WAITING);

  constructor(local: TransportAddress, options: {
    system: HostSystem;
    groups: ReadonlySet<string>;
    onClose: () => void;
  }) {
    this.local = local;
    this.groups = options.groups;
    this.#system = options.system;
    this.#onClose = options.onClose;
  }

  // deno-lint-ignore require-await -- rejects where the synchronous call throws
  async send(data: Uint8Array, to: TransportAddress): Promise<void> {
    const cannot = `Cannot send to ${formatTransportAddress(to)}`;
    if (this.#queue.isClosed) throw new NetworkError(`${cannot}: the socket is closed`, "closed");
    if (ipFamily(to.ip) !== ipFamily(this.local.ip)) {
      throw new NetworkError(`${cannot}: different IP family`, "address-not-available");
    }
    if (to.port === 0) throw new NetworkError(`${cannot}: port 0`, "other");
    if (data.length > MAX_PAYLOAD) {
      throw new NetworkError(
        `${cannot}: ${data.length} bytes are too long for a datagram`,
        "other",
      );
    }
    const route = this.#system.sourceFor(to.ip);
    const ip = ipScope(this.local.ip) === "unspecified" ? route : this.local.ip;
    this.#system.send({
      protocol: "udp",
      source: { ip, port: this.local.port },
      destination: to,
      data: data.slice(),
    });
  }

  receive(options: { signal?: AbortSignal } = {}): Promise<Datagram> {
    return this.#queue.next(options.signal);
  }

  deliver({ data, source }: UdpPacket): void {
    this.#queue.push({ data: data.slice(), from: source }); // a duplicated packet has two owners
  }

  close(): void {
    const cannot = `Cannot receive on ${formatTransportAddress(this.local)}`;
    if (!this.#queue.close(new NetworkError(`${cannot}: the socket is closed`, "closed"))) return;
    this.#queue.drain();
    this.#onClose();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** How many datagrams wait for a receiver: about as many small ones as fit into Linux's default buffer of 212,992 bytes. */
const MAX_WAITING = 256;

/** The largest payload in an IPv4 packet. */
const MAX_PAYLOAD = 65_507;
