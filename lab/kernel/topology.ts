/**
 * Topologies: which hosts are behind which NATs, as data, and the addresses that each gets.
 *
 * ```ts
 * const home = nat("portRestricted", { behind: nat("symmetric") }); // a home NAT behind a carrier's NAT
 * const plan = planTopology({ hosts: { server: {}, a: { behind: home }, b: { behind: home } } });
 * ```
 *
 * Addresses: public hosts 203.0.113.0/24 and NATs on the public side 198.51.100.0/24 (RFC 5737), home LANs
 * 192.168.n.0/24, LANs that contain NATs 100.64.n.0/24 (RFC 6598), IPv6 2001:db8::/32 (RFC 3849).
 *
 * @module
 */

import { ipFamily } from "../../lib/net/address.ts";
import {
  NAT_BEHAVIORS,
  type NatBehavior,
  natBehavior,
  type NatBehaviorName,
} from "../model/nat_behavior.ts";
import type { SessionProtocol } from "../model/nat_packet.ts";

/** A small internet. */
export interface Topology {
  /** By name. */
  readonly hosts: Readonly<Record<string, HostSpec>>;
  /** The path across the public internet, which each packet crosses once per direction. */
  readonly internet?: InternetSpec;
  /** Whether each host also gets a global IPv6 address; NATs filter IPv6 without translating it. Default: `false`. */
  readonly ipv6?: boolean;
  /** Seeds all randomness: ports, loss, jitter. Default: 1. */
  readonly seed?: number;
}

/** The path between any two nodes on the public internet. */
export interface InternetSpec {
  /** Half of it each way, in addition to the links at both ends. Default: 0. */
  readonly rttMs?: number;
  /** Added each way, uniformly from 0 to this; may reorder packets. Default: 0. */
  readonly jitterMs?: number;
  /** The probability of loss, each way. Default: 0. */
  readonly loss?: number;
}

/** The link between a host or NAT and the network outside it. */
export interface LinkSpec {
  /** One way; one number applies to both directions. Default: 0. */
  readonly delayMs?: number | { readonly up: number; readonly down: number };
  /** Added each way, uniformly from 0 to this; may reorder packets. Default: 0. */
  readonly jitterMs?: number;
  /** The probability of loss; one number applies to both directions. Default: 0. */
  readonly loss?: number | { readonly up: number; readonly down: number };
  /** The rate of each direction, in megabits per second. Default: unlimited. */
  readonly megabitsPerSecond?: number;
  /** The drop-tail buffer of each direction, if there is a rate. Default: 100 ms of it. */
  readonly bufferBytes?: number;
  /** Whose packets it delays and loses, as a shaper does; others pass at once. Default: all. */
  readonly only?: SessionProtocol;
  /** The longest IP packet in bytes, each way; longer ones vanish without an ICMP error. Default: unlimited. */
  readonly mtu?: number;
  /** Whether it lowers the maximum segment size in SYNs so that segments fit into the `mtu`. Default: `false`. */
  readonly clampsMss?: boolean;
}

/** A host: a network namespace, with its own TCP in the kernel. */
export interface HostSpec {
  /** The NAT in front of it; by default it is on the public internet. Hosts behind the same object share one LAN. */
  readonly behind?: NatSpec;
  /** Its addresses, IPv4 or IPv6. Default: chosen by the address plan. */
  readonly addresses?: readonly string[];
  readonly link?: LinkSpec;
}

/** A NAT, or a firewall if its mapping is `none`. Created by {@linkcode nat}. */
export interface NatSpec extends NatOptions {
  readonly behavior: NatBehavior;
}

/** Where a NAT is. */
export interface NatOptions {
  /** Default: the name of the first host or NAT behind it, plus `/nat`. */
  readonly name?: string;
  /** The NAT in front of this one; by default it is on the public internet. */
  readonly behind?: NatSpec;
  /** External addresses. Default: one, chosen by the address plan. */
  readonly addresses?: readonly string[];
  /** The /24 of the LAN, such as `192.168.1.0`; several NATs may have the same. Default: chosen by the address plan. */
  readonly lan?: string;
  readonly link?: LinkSpec;
}

/**
 * A NAT with a named behavior, or with these differences from `portRestricted`.
 *
 * @throws {RangeError} if the port range is not within 1 to 65535
 */
export function nat(
  behavior: NatBehaviorName | Partial<NatBehavior>,
  options: NatOptions = {},
): NatSpec {
  const whole = typeof behavior === "string" ? NAT_BEHAVIORS[behavior] : natBehavior(behavior);
  return { ...options, behavior: whole };
}

/** A topology with all names and addresses filled in; survives `JSON.stringify()`. */
export interface LabPlan {
  readonly seed: number;
  readonly internet: LinkPlan;
  readonly hosts: readonly HostPlan[];
  readonly nats: readonly NatPlan[];
}

/** A link, with all defaults filled in. */
export interface LinkPlan {
  readonly delayMs: { readonly up: number; readonly down: number };
  readonly jitterMs: number;
  readonly loss: { readonly up: number; readonly down: number };
  /** How fast it is, if it is not unlimited. */
  readonly line?: { readonly bytesPerMs: number; readonly bufferBytes: number };
  /** If it concerns the packets of one protocol alone. */
  readonly only?: SessionProtocol;
  /** The longest packet that it carries, if there is a limit. */
  readonly mtu?: number;
  /** Whether it lowers the maximum segment size in SYNs to that. */
  readonly clampsMss?: boolean;
}

/** A host, and its addresses. */
export interface HostPlan {
  readonly name: string;
  /** The NAT that it is behind, or {@linkcode INTERNET}. */
  readonly segment: string;
  readonly ipv4: readonly string[];
  readonly ipv6: readonly string[];
  /** The NAT's address on the LAN; `undefined` for public hosts. */
  readonly gateway: string | undefined;
  readonly link: LinkPlan;
}

/** A NAT, the LAN behind it, and its external addresses. */
export interface NatPlan {
  readonly name: string;
  /** The NAT that it is behind, or {@linkcode INTERNET}. */
  readonly segment: string;
  readonly externalIps: readonly string[];
  readonly gateway: string | undefined;
  readonly behavior: NatBehavior;
  readonly link: LinkPlan;
}

/** The name of the public internet, as a segment and as a link. */
export const INTERNET = "internet";

/** The link between two NATs on the public internet, in addition to that: it spares what goes to servers. */
export const HOMES = "homes";

/**
 * Assigns names and addresses to everything in a topology.
 *
 * @throws {TypeError} if two nodes have the same name, or a host is called `internet` or `homes`
 */
export function planTopology(topology: Topology): LabPlan {
  return new Planner(topology, natNames(topology)).plan();
}

/**
 * The name of each NAT in a topology.
 *
 * @throws {TypeError} if two nodes have the same name, or a host is called `internet` or `homes`
 */
export function natNames(topology: Topology): Map<NatSpec, string> {
  const names = new Map<NatSpec, string>();
  const taken = new Set(Object.keys(topology.hosts));
  for (const link of [INTERNET, HOMES]) {
    if (taken.has(link)) throw new TypeError(`Cannot plan topology: no host is called ${link}`);
    taken.add(link);
  }
  for (const [hostName, { behind }] of Object.entries(topology.hosts)) {
    let inner = hostName;
    for (let spec = behind; spec !== undefined && !names.has(spec); spec = spec.behind) {
      const name = spec.name ?? `${inner}/nat`;
      if (taken.has(name)) throw new TypeError(`Cannot plan topology: the name ${name} is taken`);
      taken.add(name);
      names.set(spec, name);
      inner = name;
    }
  }
  return names;
}

/** The addresses of a segment, assigned one after another. */
interface AddressPool {
  readonly gateway: string | undefined;
  readonly hostPrefix: string;
  readonly natPrefix: string;
  nextHost: number;
  nextNat: number;
}

class Planner {
  readonly #topology: Topology;
  readonly #names: ReadonlyMap<NatSpec, string>;
  readonly #pools = new Map<NatSpec | undefined, AddressPool>();
  readonly #ipv6Prefixes = new Map<NatSpec | undefined, { prefix: string; next: number }>();
  #homes = 0;
  #carriers = 0;

  constructor(topology: Topology, names: ReadonlyMap<NatSpec, string>) {
    this.#topology = topology;
    this.#names = names;
    this.#pools.set(undefined, {
      gateway: undefined,
      hostPrefix: "203.0.113.",
      natPrefix: "198.51.100.",
      nextHost: 101,
      nextNat: 1,
    });
  }

  plan(): LabPlan {
    // NATs come first, outermost first, so that each LAN exists before its members need addresses.
    const nats = [...this.#names.keys()]
      .sort((a, b) => depth(a) - depth(b))
      .map((spec) => this.#natPlan(spec));
    const hosts = Object.entries(this.#topology.hosts)
      .map(([name, spec]) => this.#hostPlan(name, spec));
    return {
      seed: this.#topology.seed ?? 1,
      internet: internetPlan(this.#topology.internet),
      hosts,
      nats,
    };
  }

  #natPlan(spec: NatSpec): NatPlan {
    const outside = this.#pool(spec.behind);
    const translates = spec.behavior.mapping !== "none";
    if (translates) this.#pools.set(spec, this.#lanPool(spec));
    else this.#pools.set(spec, outside);
    return {
      name: this.#names.get(spec)!,
      segment: this.#segment(spec.behind),
      externalIps: translates ? spec.addresses ?? [`${outside.natPrefix}${outside.nextNat++}`] : [],
      gateway: this.#pool(spec).gateway,
      behavior: spec.behavior,
      link: linkPlan(spec.link),
    };
  }

  #hostPlan(name: string, spec: HostSpec): HostPlan {
    const pool = this.#pool(spec.behind);
    const given = spec.addresses ?? [];
    const ipv4 = given.filter((ip) => ipFamily(ip) === 4);
    const ipv6 = given.filter((ip) => ipFamily(ip) === 6);
    if (ipv4.length === 0) ipv4.push(`${pool.hostPrefix}${pool.nextHost++}`);
    if (ipv6.length === 0 && this.#topology.ipv6) ipv6.push(this.#nextIpv6(spec.behind));
    const segment = this.#segment(spec.behind);
    return { name, segment, ipv4, ipv6, gateway: pool.gateway, link: linkPlan(spec.link) };
  }

  #lanPool(spec: NatSpec): AddressPool {
    const isCarrier = [...this.#names.keys()].some(({ behind }) => behind === spec);
    const prefix = spec.lan?.replace(/\d+$/, "") ??
      (isCarrier ? `100.64.${++this.#carriers}.` : `192.168.${++this.#homes}.`);
    return {
      gateway: `${prefix}1`,
      hostPrefix: prefix,
      natPrefix: prefix,
      nextHost: 2,
      nextNat: 129,
    };
  }

  #nextIpv6(behind: NatSpec | undefined): string {
    const known = this.#ipv6Prefixes.get(behind);
    const lan = known ?? { prefix: `2001:db8:${this.#ipv6Prefixes.size + 1}::`, next: 2 };
    this.#ipv6Prefixes.set(behind, lan);
    return `${lan.prefix}${(lan.next++).toString(16)}`;
  }

  #pool(spec: NatSpec | undefined): AddressPool {
    return this.#pools.get(spec)!;
  }

  #segment(behind: NatSpec | undefined): string {
    return behind === undefined ? INTERNET : this.#names.get(behind)!;
  }
}

function depth(spec: NatSpec): number {
  return spec.behind === undefined ? 0 : 1 + depth(spec.behind);
}

/** Fills in the defaults of a link. */
export function linkPlan(spec: LinkSpec = {}): LinkPlan {
  const { delayMs = 0, jitterMs = 0, loss = 0, megabitsPerSecond } = spec;
  const plan = {
    delayMs: eachWay(delayMs),
    jitterMs,
    loss: eachWay(loss),
    ...spec.only !== undefined && { only: spec.only },
    ...spec.mtu !== undefined && { mtu: spec.mtu, clampsMss: spec.clampsMss ?? false },
  };
  if (megabitsPerSecond === undefined) return plan;
  const bytesPerMs = megabitsPerSecond * 125;
  return { ...plan, line: { bytesPerMs, bufferBytes: spec.bufferBytes ?? 100 * bytesPerMs } };
}

function eachWay(value: number | { readonly up: number; readonly down: number }) {
  return typeof value === "number" ? { up: value, down: value } : value;
}

/** The path across the internet as a link, with all defaults filled in. */
export function internetPlan({ rttMs = 0, jitterMs, loss }: InternetSpec = {}): LinkPlan {
  return linkPlan({ delayMs: rttMs / 2, jitterMs, loss });
}
