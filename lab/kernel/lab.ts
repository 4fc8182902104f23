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

/** A running topology. Disposing of it ends all programs in its hosts and leaves nothing. */
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
   * Starts a topology.
   *
   * @throws {TypeError} if the topology is not one
   * @throws {Error} if the system refuses; {@linkcode labSupport} knows before
   */
  static async start(topology: Topology): Promise<Lab> {
    const plan = planTopology(topology);
    const internet = await InternetClient.start(plan);
    const hosts = plan.hosts.map((host) => new LabHost(host, internet.enterCommand(host.name)));
    const nats = plan.nats.map((nat) => new LabNat(nat, internet));
    return new Lab(internet, hosts, nats, natNames(topology));
  }

  /** @throws {TypeError} if there is none of this name */
  host(name: string): LabHost {
    const host = this.#hosts.get(name);
    if (host === undefined) throw new TypeError(`Cannot find host ${name}: the topology has none`);
    return host;
  }

  /**
   * A NAT by its specification or by its name, such as `a/nat` for the one that host `a` is behind.
   *
   * @throws {TypeError} if there is no such NAT
   */
  nat(nat: NatSpec | string): LabNat {
    const name = typeof nat === "string" ? nat : this.#names.get(nat);
    const found = this.#nats.get(name ?? "");
    if (found === undefined) throw new TypeError(`Cannot find NAT ${name}: the topology has none`);
    return found;
  }

  /** Replaces the way across the public internet. Packets that are on it already arrive as before. */
  async setInternet(spec: InternetSpec): Promise<void> {
    const link = internetPlan(spec);
    await this.#internet.request({ command: "set-link", place: INTERNET, link });
  }

  /** Replaces the link of a host or NAT, by its name. */
  async setLink(place: string, spec: LinkSpec): Promise<void> {
    await this.#internet.request({ command: "set-link", place, link: linkPlan(spec) });
  }

  /**
   * Plans an outage, in which all packets are lost that begin to cross a link.
   *
   * @param place a host, a NAT, or `internet`
   * @param options when it begins, from now, and how long it takes; both without end if left out
   */
  async outage(
    place: string,
    options: { readonly afterMs?: number; readonly forMs?: number } = {},
  ): Promise<void> {
    const { afterMs = 0, forMs = A_DAY_MS } = options;
    await this.#internet.request({ command: "outage", place, afterMs, forMs });
  }

  /**
   * Drops these protocols on a link, and no others any more.
   *
   * @param place a host, a NAT, or `internet`
   */
  async block(place: string, ...protocols: SessionProtocol[]): Promise<void> {
    await this.#internet.request({ command: "block", place, protocols });
  }

  /** What was counted since the start. */
  async counters(): Promise<LabCounters> {
    return (await this.#internet.request({ command: "counters" }))!;
  }

  /** Writes all packets that hosts send and get to a file for tcpdump or Wireshark, until the lab ends. */
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

  /** @param internet the process that this NAT is part of */
  constructor(plan: NatPlan, internet: InternetClient) {
    this.name = plan.name;
    this.externalIps = plan.externalIps;
    this.#internet = internet;
  }

  /**
   * Changes the behaviour; by name, or what differs from `portRestricted`. The table stays, as {@linkcode flush}
   * does not happen by itself.
   */
  async setBehavior(behavior: NatBehaviorName | Partial<NatBehavior>): Promise<void> {
    const whole = typeof behavior === "string" ? NAT_BEHAVIORS[behavior] : natBehavior(behavior);
    await this.#internet.request({ command: "set-behavior", nat: this.name, behavior: whole });
  }

  /** Forgets all mappings, as a NAT that restarts. */
  async flush(): Promise<void> {
    await this.#internet.request({ command: "flush", nat: this.name });
  }
}

/** Longer than any lab. */
const A_DAY_MS = 86_400_000;
