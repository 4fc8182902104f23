/**
 * Two hosts behind two NATs carry out their plans, packet by packet in virtual time.
 *
 * ```
 *   host 0 ── NAT 0 ──── rttMs / 2 ──── NAT 1 ── host 1
 * ```
 *
 * @module
 */

import type { TransportAddress } from "../../lib/net/address.ts";
import { classifyAllocation } from "../../lib/nat/allocation.ts";
import { type PlanOptions, planPunch } from "../../lib/punch/check_list.ts";
import type { CheckListEntry, PunchPlan } from "../../lib/punch/plan_types.ts";
import type { Candidate, PunchDescription } from "../../lib/punch/candidates.ts";
import type { PortPair } from "../../lib/punch/nat_profile.ts";
import { EventQueue } from "../../lab/model/event_queue.ts";
import { Nat } from "../../lab/model/nat.ts";
import type { NatBehavior } from "../../lab/model/nat_behavior.ts";
import type { SessionPacket } from "../../lab/model/nat_packet.ts";
import { seededRandom } from "../../lab/model/random.ts";
import { type Segment, type Socket, SynHost } from "./syn_host.ts";

/** What a run depends on. */
export interface SimulationOptions {
  readonly seed: number;
  readonly rttMs?: number;
  /** How much later the controlling side has both descriptions; default: half a signaling round trip. */
  readonly skewMs?: number;
  readonly signalRttMs?: number;
  /** Uniform from 0 to this, each way. */
  readonly jitterMs?: number;
  /** Probability, each way. */
  readonly loss?: number;
  /** Mappings per second that other hosts make at each NAT, from the sampling on. */
  readonly othersPerSecond?: number;
  readonly canListenBeside?: boolean;
  /** Whether both sides know how their NATs filter and reset. */
  readonly knowsFilters?: boolean;
  readonly limits?: PlanOptions["limits"];
}

/** How a run ended. */
export interface SimulationResult {
  readonly plans: readonly [PunchPlan, PunchPlan];
  /** From the later side's start until both ends were connected; `null` if they never were. */
  readonly metMs: number | null;
  /** SYNs that both sides sent. */
  readonly syns: number;
}

/** Both sides sample their NATs, plan, and dial. */
export function simulatePunch(
  behaviors: readonly [NatBehavior, NatBehavior],
  options: SimulationOptions,
): SimulationResult {
  const { signalRttMs = 60, skewMs = signalRttMs / 2, rttMs = 80 } = options;
  const world = new World(behaviors, options);
  const sides = [world.describe(0), world.describe(1)] as const;
  world.run(SAMPLE_AGE_MS);
  const planOptions = { rttMs, signalRttMs, limits: options.limits };
  const plans = [
    planPunch(sides[0], sides[1], { ...planOptions, role: "controlling", isSecond: false }),
    planPunch(sides[1], sides[0], { ...planOptions, role: "controlled", isSecond: true }),
  ] as const;
  const startMs = [Math.max(0, skewMs), Math.max(0, -skewMs)] as const;
  for (const party of [0, 1] as const) world.start(party, plans[party], startMs[party]);
  world.run(Math.max(...startMs) + DEADLINE_MS);
  const laterMs = SAMPLE_AGE_MS + Math.max(...startMs);
  return {
    plans,
    metMs: world.metAtMs === null ? null : Math.max(0, world.metAtMs - laterMs),
    syns: world.synsSent,
  };
}

/** Everything between the two hosts, and the hosts. */
class World {
  metAtMs: number | null = null;
  readonly #options: SimulationOptions;
  readonly #random: () => number;
  readonly #queue = new EventQueue<() => void>();
  readonly #nats: readonly [Nat, Nat];
  readonly #hosts: readonly [SynHost, SynHost];
  readonly #behaviors: readonly [NatBehavior, NatBehavior];
  readonly #punchPorts: [number, number] = [0, 0];
  #nowMs = 0;
  #others = 0;

  constructor(behaviors: readonly [NatBehavior, NatBehavior], options: SimulationOptions) {
    this.#options = options;
    this.#behaviors = behaviors;
    this.#random = seededRandom(options.seed);
    const nat = (party: 0 | 1) => new Nat([EXTERNAL_IPS[party]], behaviors[party], this.#random);
    this.#nats = [nat(0), nat(1)];
    const host = (party: 0 | 1) =>
      new SynHost(behaviors[party].mapping === "none" ? EXTERNAL_IPS[party] : HOST_IPS[party], {
        send: (segment) => this.#leave(party, segment),
        after: (ms, action) => this.#queue.push(this.#nowMs + ms, action),
        onEstablished: (socket) => this.#noteEstablished(socket),
      });
    this.#hosts = [host(0), host(1)];
    for (const party of [0, 1] as const) {
      this.#mapAt(party, 1024 + this.#integer(60_000)); // a sequence may start anywhere
    }
    if ((options.othersPerSecond ?? 0) > 0) {
      for (const party of [0, 1] as const) this.#addOther(party);
    }
  }

  get synsSent(): number {
    return this.#hosts[0].synsSent + this.#hosts[1].synsSent;
  }

  /** What a side gathers: its base port, and a burst of four consecutive ports and two others. */
  describe(party: 0 | 1): PunchDescription {
    const { canListenBeside = true, knowsFilters = true } = this.#options;
    const { mapping, filtering, unsolicitedSyn } = this.#behaviors[party];
    const dependent = mapping === "address-dependent" || mapping === "address-and-port-dependent";
    const basePort = this.#ephemeralPort();
    const base = this.#map(party, basePort);
    const row = this.#ephemeralPort();
    const burst = [0, 1, 2, 3, 20, 30].map((i) => row + i);
    const samples = burst.map((localPort): PortPair => ({
      localPort,
      externalPort: this.#map(party, localPort).port,
    }));
    const { allocation, details } = classifyAllocation(samples);
    const punchPort = dependent ? this.#ephemeralPort() : basePort;
    this.#punchPorts[party] = punchPort;
    const reflexive: Candidate = { kind: "reflexive", address: base };
    return {
      profile: {
        mapping,
        filtering: knowsFilters ? filtering : "unknown",
        unsolicitedSyn: !knowsFilters
          ? "unknown"
          : unsolicitedSyn === "reset"
          ? "reset"
          : "dropped",
        allocation,
        onlyForNeighbours: details.onlyForNeighbours,
        externalIp: EXTERNAL_IPS[party],
        samples,
      },
      candidates: dependent ? [] : [reflexive],
      punchPort,
      canListenBeside,
    };
  }

  /** Carries out a plan, starting `afterMs` from now. */
  start(party: 0 | 1, plan: PunchPlan, afterMs: number): void {
    const host = this.#hosts[party];
    const { canListenBeside = true } = this.#options;
    const lastMs = Math.max(0, ...plan.dials.map(({ startMs }) => startMs));
    const listenMs = afterMs + (canListenBeside ? 0 : lastMs + AFTER_DIALS_MS);
    const punchPort = this.#punchPorts[party];
    if (plan.listens) this.#after(listenMs, () => host.listensOn = punchPort);
    for (const entry of plan.dials) {
      this.#after(afterMs + entry.startMs, () => this.#dialEntry(host, entry, punchPort));
    }
  }

  /** Lets `forMs` pass. */
  run(forMs: number): void {
    const endMs = this.#nowMs + forMs;
    for (;;) {
      const next = this.#queue.popDue(endMs);
      if (next === undefined || this.metAtMs !== null) break;
      this.#nowMs = next.dueMs;
      next.event();
    }
    this.#nowMs = endMs;
  }

  #dialEntry(host: SynHost, entry: CheckListEntry, punchPort: number): void {
    const targets = Array.from({ length: entry.perTarget }, () => entry.targets).flat();
    const endMs = this.#nowMs + entry.timeoutMs;
    for (const [index, target] of targets.entries()) {
      this.#after(index * entry.spacingMs, () => {
        const port = entry.from === "punch"
          ? punchPort
          : entry.localPorts?.[index] ?? this.#freshPort(host);
        this.#dial(host, port, target, { entry, endMs, tries: 1 });
      });
    }
  }

  #dial(
    host: SynHost,
    port: number,
    target: TransportAddress,
    { entry, endMs, tries }: { entry: CheckListEntry; endMs: number; tries: number },
  ): void {
    if (this.#nowMs >= endMs) return;
    const redial = () =>
      this.#after(
        tries < QUICK_TRIES ? 3 * this.#random() : 50,
        () => this.#dial(host, port, target, { entry, endMs, tries: tries + 1 }),
      );
    const socket = host.dial(port, target, tries < entry.maxTries ? redial : undefined);
    if (socket !== undefined) this.#after(endMs - this.#nowMs, () => host.close(socket));
  }

  /** From a host to its NAT, and on if the NAT forwards it. */
  #leave(party: 0 | 1, segment: Segment): void {
    const verdict = this.#nats[party].outbound(segment.packet, this.#nowMs);
    if (verdict.action !== "forward") return;
    const there = party === 0 ? 1 : 0;
    const packet = verdict.packet as SessionPacket;
    this.#travel(() => this.#arrive(there, { ...segment, packet }));
  }

  #arrive(party: 0 | 1, segment: Segment): void {
    const { packet } = segment;
    if (packet.destination.ip !== EXTERNAL_IPS[party]) return;
    const verdict = this.#nats[party].inbound(packet, this.#nowMs);
    if (verdict.action === "forward") {
      this.#hosts[party].receive({ ...segment, packet: verdict.packet as SessionPacket });
    } else if (verdict.action === "reset") {
      const there = party === 0 ? 1 : 0;
      this.#travel(() => this.#arrive(there, { packet: verdict.packet, sender: null }));
    }
  }

  #travel(arrive: () => void): void {
    const { rttMs = 80, jitterMs = 0, loss = 0 } = this.#options;
    if (this.#random() < loss) return;
    this.#after(rttMs / 2 + jitterMs * this.#random(), arrive);
  }

  #noteEstablished(socket: Socket): void {
    if (socket.peer?.state === "established" && socket.peer.peer === socket) {
      this.metAtMs ??= this.#nowMs;
    }
  }

  #addOther(party: 0 | 1): void {
    const { othersPerSecond = 0 } = this.#options;
    this.#after(-Math.log(1 - this.#random()) * 1000 / othersPerSecond, () => {
      const source = { ip: "192.168.9.9", port: this.#ephemeralPort() };
      this.#outbound(party, source, { ip: SERVER.ip, port: 1 + this.#others++ % 65_000 });
      this.#addOther(party);
    });
  }

  #map(party: 0 | 1, port: number): TransportAddress {
    return this.#outbound(party, { ip: this.#hosts[party].ip, port }, SERVER);
  }

  #mapAt(party: 0 | 1, port: number): void {
    this.#outbound(party, { ip: "192.168.9.8", port }, SERVER);
  }

  #outbound(
    party: 0 | 1,
    source: TransportAddress,
    destination: TransportAddress,
  ): TransportAddress {
    const packet = { protocol: "tcp", source, destination, tcpFlags: { syn: true } } as const;
    const verdict = this.#nats[party].outbound(packet, this.#nowMs);
    return verdict.action === "forward" ? (verdict.packet as SessionPacket).source : source;
  }

  #freshPort(host: SynHost): number {
    for (;;) {
      const port = this.#ephemeralPort();
      if (host.isFree(port)) return port;
    }
  }

  #ephemeralPort(): number {
    return 32_768 + this.#integer(28_000);
  }

  #integer(below: number): number {
    return Math.floor(this.#random() * below);
  }

  #after(ms: number, action: () => void): void {
    this.#queue.push(this.#nowMs + ms, action);
  }
}

const EXTERNAL_IPS = ["198.51.100.1", "198.51.100.2"] as const;
const HOST_IPS = ["192.168.1.2", "192.168.2.2"] as const;
const SERVER: TransportAddress = { ip: "203.0.113.1", port: 3478 };

/** From the sampling until both sides have the samples. */
const SAMPLE_AGE_MS = 200;

const DEADLINE_MS = 13_000;
const AFTER_DIALS_MS = 20;
const QUICK_TRIES = 100;
