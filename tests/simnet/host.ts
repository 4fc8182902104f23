/**
 * Hosts: the system of one machine, and its {@linkcode Network}.
 *
 * @module
 */

import { NetworkError } from "../../lib/base/errors.ts";
import {
  formatTransportAddress,
  type IpFamily,
  ipFamily,
  ipScope,
  isIp,
  parseIp,
} from "../../lib/net/address.ts";
import type { DefaultGateway, LocalAddress, Network } from "../../lib/net/network.ts";
import type { Link, LinkBehavior } from "./link.ts";
import { destinationIp } from "../../lab/model/nat_packet.ts";
import { type Packet, type UnreachableCode, unreachableFor } from "./packet.ts";
import type { Random } from "./random.ts";
import type { Router } from "./router.ts";
import type { Node, Observe, Subnet } from "./subnet.ts";
import { TcpStack } from "./tcp_stack.ts";
import { UdpStack } from "./udp_stack.ts";

/** How to build a host. */
export interface HostOptions {
  /** The router that the host is behind; the public internet without it. */
  readonly behind?: Router;
  /** IPv4 and IPv6 addresses, the ones it sends from first; one is chosen if none is given, none if empty. */
  readonly addresses?: readonly string[];
  /** Between the host and the network outside. */
  readonly link?: LinkBehavior;
  /** Whether the system lets sockets share a port, {@linkcode Network.canReusePort}; `false` unless told. */
  readonly reusePort?: boolean;
  /** What a segment gets that belongs to no socket: RST, or nothing, as behind a host's own firewall. */
  readonly closedPorts?: "reset" | "drop";
  /** What is wrong with the host. */
  readonly fault?: HostFault;
  /** What its routing table says; .1 of the LAN behind a NAT and none elsewhere, unless told. */
  readonly gateways?: readonly string[] | "unknown";
}

/** A host that takes everything and answers nothing, or answers everything with an ICMP error. */
export type HostFault = "silent" | UnreachableCode;

/** What the protocols of a host share. */
export interface HostSystem {
  readonly name: string;
  readonly random: Random;
  readonly reusePort: boolean;
  readonly closedPorts: "reset" | "drop";
  /** Whether a socket can be bound to the address. */
  owns(ip: string): boolean;
  /**
   * The address that packets to `ip` leave from.
   *
   * @throws {NetworkError} `unreachable` if no address of the host is of that family
   */
  sourceFor(ip: string): string;
  send(packet: Packet): void;
}

/** One machine. */
export class Host implements Node {
  readonly name: string;
  readonly link: Link;
  readonly addresses: readonly string[];
  readonly network: Network;
  /** May be changed at any time. */
  fault: HostFault | undefined;
  readonly #gateways: readonly string[] | "unknown";
  readonly #observe: Observe;
  readonly #sendOutside: (packet: Packet) => void;
  readonly #udp: UdpStack;
  readonly #tcp: TcpStack;

  constructor(name: string, options: {
    addresses: readonly string[];
    reusePort: boolean;
    closedPorts: "reset" | "drop";
    fault: HostFault | undefined;
    gateways: readonly string[] | "unknown";
    outside: Subnet;
    link: Link;
    random: Random;
    observe: Observe;
    lookUp: (hostname: string, signal?: AbortSignal) => Promise<readonly string[]>;
  }) {
    this.name = name;
    this.link = options.link;
    this.addresses = options.addresses;
    this.fault = options.fault;
    this.#gateways = options.gateways;
    this.#observe = options.observe;
    this.#sendOutside = options.outside.attach(this, options.link);
    const system: HostSystem = {
      name,
      random: options.random,
      reusePort: options.reusePort,
      closedPorts: options.closedPorts,
      owns: (ip) => this.#owns(ip),
      sourceFor: (ip) => this.#sourceFor(ip),
      send: (packet) => this.#send(packet),
    };
    this.#udp = new UdpStack(system);
    this.#tcp = new TcpStack(system);
    this.network = this.#makeNetwork(options);
  }

  /** As {@linkcode Node.leadsTo}. */
  leadsTo(ip: string): boolean {
    return this.addresses.includes(ip) || this.#udp.isMember(ip);
  }

  /** As {@linkcode Node.receive}. */
  receive(packet: Packet): void {
    this.#observe(this.name, "received", packet);
    if (this.fault === "silent") return;
    if (this.fault !== undefined) {
      const error = unreachableFor(packet, destinationIp(packet), this.fault);
      return error && this.#send(error);
    }
    switch (packet.protocol) {
      case "udp":
        return this.#udp.receive(packet);
      case "tcp":
        return this.#tcp.receive(packet);
      case "icmp-error":
        // Unconnected UDP sockets are told nothing of ICMP errors; Linux udp(7).
        if (packet.original.protocol === "tcp") this.#tcp.receiveError(packet);
    }
  }

  /** What has been opened and not closed, one line each. */
  openSockets(): string[] {
    return [...this.#udp.openSockets(), ...this.#tcp.openSockets()]
      .map((socket) => `${this.name}: ${socket}`);
  }

  #send(packet: Packet): void {
    this.#observe(this.name, "sent", packet);
    const ip = destinationIp(packet);
    if (!this.#owns(ip)) this.#sendOutside(packet);
    if (!this.#owns(ip) && !this.#udp.isMember(ip)) return;
    setTimeout(() => this.receive(packet), LOOPBACK_DELAY_MS);
  }

  #owns(ip: string): boolean {
    return this.addresses.includes(ip) || ipScope(ip) === "loopback";
  }

  #sourceFor(ip: string): string {
    if (this.#owns(ip)) return ip;
    const source = this.addresses.find((address) => ipFamily(address) === ipFamily(ip));
    if (source !== undefined) return source;
    throw new NetworkError(`Cannot send to ${ip}: ${this.name} has no route to it`, "unreachable");
  }

  #makeNetwork({ lookUp, reusePort: canReusePort }: {
    lookUp: (hostname: string, signal?: AbortSignal) => Promise<readonly string[]>;
    reusePort: boolean;
  }): Network {
    return {
      // deno-lint-ignore require-await -- a promise that rejects, where the plain call throws
      bindUdp: async (local, options) => this.#udp.bind(local, options),
      connectTcp: (remote, options) => this.#tcp.connect(remote, options),
      // deno-lint-ignore require-await
      connectTls: async (remote) => {
        const to = formatTransportAddress(remote);
        throw new NetworkError(`Cannot connect to ${to}: TLS is not simulated`, "tls");
      },
      // deno-lint-ignore require-await
      listenTcp: async (local, options) => this.#tcp.listen(local, options),
      canReusePort,
      resolve: (hostname, family, options) => resolve(hostname, family, { lookUp, ...options }),
      localAddresses: () => Promise.resolve(this.#localAddresses()),
      ownsAddress: (ip) => Promise.resolve(this.#owns(parseIp(ip))),
      defaultGateways: () => Promise.resolve(this.#defaultGateways()),
    };
  }

  #defaultGateways(): DefaultGateway[] | undefined {
    if (this.#gateways === "unknown") return undefined;
    return this.#gateways.map((ip) => ({ ip, interfaceName: "eth0" }));
  }

  #localAddresses(): LocalAddress[] {
    return [
      { interfaceName: "lo", ip: "127.0.0.1" },
      { interfaceName: "lo", ip: "::1" },
      ...this.addresses.map((ip) => ({ interfaceName: "eth0", ip })),
    ];
  }
}

async function resolve(hostname: string, family: IpFamily, options: {
  lookUp: (hostname: string, signal?: AbortSignal) => Promise<readonly string[]>;
  signal?: AbortSignal;
}): Promise<string[]> {
  const { lookUp, signal } = options;
  signal?.throwIfAborted();
  const known = isIp(hostname) ? [parseIp(hostname)] : await lookUp(hostname, signal);
  const ips = known.filter((ip) => ipFamily(ip) === family);
  if (ips.length > 0) return ips;
  throw new NetworkError(
    `Cannot resolve ${hostname} to an IPv${family} address: name not found`,
    "name-not-found",
  );
}

const LOOPBACK_DELAY_MS = 0.01;
