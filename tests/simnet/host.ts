/**
 * Hosts of the simulated internet: the operating system of one machine, and its {@linkcode Network}.
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

/** The settings of a host. */
export interface HostOptions {
  /** The router that the host is behind. Default: none, it is on the public internet. */
  readonly behind?: Router;
  /** IPv4 and IPv6 addresses; it sends from the first one of each. Default: one chosen automatically. */
  readonly addresses?: readonly string[];
  /** The link between the host and the network outside. */
  readonly link?: LinkBehavior;
  /** Whether sockets can share a port, {@linkcode Network.canReusePort}. Default: `false`. */
  readonly reusePort?: boolean;
  /** How to treat segments to closed ports: RST, or silence, as with a firewall on the host. */
  readonly closedPorts?: "reset" | "drop";
  /** A fault of the host. Default: none. */
  readonly fault?: HostFault;
  /** The gateways in its routing table. Default: .1 of the LAN if behind a NAT, otherwise none. */
  readonly gateways?: readonly string[] | "unknown";
}

/** The host answers nothing, or answers everything with this ICMP error. */
export type HostFault = "silent" | UnreachableCode;

/** What the TCP and UDP stacks of a host need from it. */
export interface HostSystem {
  readonly name: string;
  readonly random: Random;
  readonly reusePort: boolean;
  readonly closedPorts: "reset" | "drop";
  /** Whether a socket can be bound to this address. */
  owns(ip: string): boolean;
  /**
   * The source address of packets to `ip`.
   *
   * @throws {NetworkError} `unreachable` if the host has no address of that family
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
  /** Can be changed at any time. */
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
        // Linux does not report ICMP errors to unconnected UDP sockets; udp(7).
        if (packet.original.protocol === "tcp") this.#tcp.receiveError(packet);
    }
  }

  /** All open sockets, one line each. */
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
      // deno-lint-ignore require-await -- rejects where the synchronous call throws
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
