/**
 * The NAT lab: real programs on real kernels, behind NATs and across links of any kind, on one Linux machine.
 *
 * ```ts
 * await using lab = await Lab.start({
 *   hosts: { server: {}, a: { behind: nat("portRestricted") }, b: { behind: nat("symmetric") } },
 *   internet: { rttMs: 50 },
 * });
 * const { stdout } = await lab.host("a").output("ping", ["-c", "1", lab.host("server").ip]);
 * ```
 *
 * @module
 */

import type { LabCounters } from "./counters.ts";
import { InternetClient } from "./internet_client.ts";
import { LabHost } from "./lab_host.ts";
import {
  NAT_BEHAVIORS,
  type NatBehavior,
  natBehavior,
  type NatBehaviorName,
} from "../model/nat_behavior.ts";
import type { SessionProtocol } from "../model/nat_packet.ts";
import {
  INTERNET,
  internetPlan,
  type InternetSpec,
  linkPlan,
  type LinkSpec,
  natNames,
  type NatPlan,
  type NatSpec,
  planTopology,
  type Topology,
} from "./topology.ts";

/** A running lab. Disposing of it ends all programs in its hosts, and leaves nothing behind. */
export class Lab implements AsyncDisposable {
  readonly #internet: InternetClient;
  readonly #hosts: ReadonlyMap<string, LabHost>;
  readonly #nats: ReadonlyMap<string, LabNat>;
  readonly #names: ReadonlyMap<NatSpec, string>;

  private constructor(
    internet: InternetClient,
    hosts: readonly LabHost[],
    nats: readonly LabNat[],
    names: ReadonlyMap<NatSpec, string>,
  ) {
    this.#internet = internet;
    this.#hosts = new Map(hosts.map((host) => [host.name, host]));
    this.#nats = new Map(nats.map((nat) => [nat.name, nat]));
    this.#names = names;
  }

  /**
   * Starts a lab with this topology.
   *
   * @throws {TypeError} if the topology is invalid
   * @throws {Error} if a system call fails; check {@linkcode labSupport} first
   */
  static async start(topology: Topology): Promise<Lab> {
    const plan = planTopology(topology);
    const internet = await InternetClient.start(plan);
    const hosts = plan.hosts.map((host) => new LabHost(host, internet.enterCommand(host.name)));
    const nats = plan.nats.map((nat) => new LabNat(nat, internet));
    return new Lab(internet, hosts, nats, natNames(topology));
  }

  /** @throws {TypeError} if there is no host with this name */
  host(name: string): LabHost {
    const host = this.#hosts.get(name);
    if (host === undefined) throw new TypeError(`Cannot find host ${name}: not in the topology`);
    return host;
  }

  /**
   * A NAT, by its specification or by its name: host `a` is behind `a/nat`.
   *
   * @throws {TypeError} if there is no such NAT
   */
  nat(nat: NatSpec | string): LabNat {
    const name = typeof nat === "string" ? nat : this.#names.get(nat);
    const found = this.#nats.get(name ?? "");
    if (found === undefined) throw new TypeError(`Cannot find NAT ${name}: not in the topology`);
    return found;
  }

  /** Replaces the path across the public internet. Packets already in transit are not affected. */
  async setInternet(spec: InternetSpec): Promise<void> {
    const link = internetPlan(spec);
    await this.#internet.request({ command: "set-link", place: INTERNET, link });
  }

  /** Replaces the link of a host or NAT, by its name. */
  async setLink(place: string, spec: LinkSpec): Promise<void> {
    await this.#internet.request({ command: "set-link", place, link: linkPlan(spec) });
  }

  /**
   * Schedules an outage, during which a link loses every packet sent over it.
   *
   * @param place the name of a host or NAT, or `internet`
   * @param options when it begins, by default now, and how long it lasts, by default until the lab ends
   */
  async outage(
    place: string,
    options: { readonly afterMs?: number; readonly forMs?: number } = {},
  ): Promise<void> {
    const { afterMs = 0, forMs = A_DAY_MS } = options;
    await this.#internet.request({ command: "outage", place, afterMs, forMs });
  }

  /**
   * Drops packets of these protocols on a link from now on, and only of these.
   *
   * @param place the name of a host or NAT, or `internet`
   */
  async block(place: string, ...protocols: SessionProtocol[]): Promise<void> {
    await this.#internet.request({ command: "block", place, protocols });
  }

  /** The counts since the start. */
  async counters(): Promise<LabCounters> {
    return (await this.#internet.request({ command: "counters" }))!;
  }

  /** Captures all packets that hosts send and receive to a file for tcpdump or Wireshark, until the lab ends. */
  async trace(path: string): Promise<void> {
    await this.#internet.request({ command: "trace", path });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#hosts.values()].map((host) => host.endPrograms()));
    await this.#internet[Symbol.asyncDispose]();
  }
}

/** One NAT of a running lab. */
export class LabNat {
  readonly name: string;
  readonly externalIps: readonly string[];
  readonly #internet: InternetClient;

  /** @param internet the process that runs this NAT */
  constructor(plan: NatPlan, internet: InternetClient) {
    this.name = plan.name;
    this.externalIps = plan.externalIps;
    this.#internet = internet;
  }

  /**
   * Changes the behavior: to a named one, or to one with these differences from `portRestricted`. Existing mappings
   * stay, until {@linkcode flush}.
   */
  async setBehavior(behavior: NatBehaviorName | Partial<NatBehavior>): Promise<void> {
    const whole = typeof behavior === "string" ? NAT_BEHAVIORS[behavior] : natBehavior(behavior);
    await this.#internet.request({ command: "set-behavior", nat: this.name, behavior: whole });
  }

  /** Forgets all mappings, like a NAT that restarts; or those of one family. */
  async flush(family?: 4 | 6): Promise<void> {
    await this.#internet.request({ command: "flush", nat: this.name, family });
  }

  /** The same, and it gets its next external address, like a home whose provider renumbers it. */
  async renumber(): Promise<void> {
    await this.#internet.request({ command: "renumber", nat: this.name });
  }
}

/** Longer than any lab. */
const A_DAY_MS = 86_400_000;
