/**
 * Gathering for a base socket: what is known of the NAT in front of it. One TCP connection to a STUN server shows the
 * external address; a few more, each from a port of its own, show how the NAT chooses external ports at the moment.
 *
 * @module
 */

import type { FamilyReport } from "../nat/behavior.ts";
import { bindingReply, mappingSamples } from "../nat/probe.ts";
import type { TcpDialer } from "../nat/tcp_dialer.ts";
import { type IpFamily, ipScope, type TransportAddress } from "../net/address.ts";
import { discoverLocalIpv4, openConsecutive, OwnAddresses } from "../net/local_address.ts";
import type { Network, TcpListener } from "../net/network.ts";
import type { Candidate, PunchDescription } from "./candidates.ts";
import {
  answeredTogetherAtMs,
  type Gathered,
  nextGatheringStep,
  NOTHING_GATHERED,
} from "./gathering_plan.ts";
import { dependsOnDestination, type NatProfile, type PortPair } from "./nat_profile.ts";
import { MAX_CANDIDATES, MAX_EXTERNAL_IPS } from "./offer.ts";

/** What gathering needs. */
export interface GatherOptions {
  /** The network to use. */
  readonly network: Network;
  /** STUN servers that speak TCP, best first; none for a punch without a NAT, such as within a LAN. */
  readonly servers: readonly TransportAddress[];
  /** The address family of the servers. */
  readonly family: IpFamily;
  /** What a NAT test found over TCP; without it a server is asked to dial back, if there is one that does. */
  readonly report?:
    | (
      & Pick<FamilyReport, "mapping" | "filtering" | "unsolicitedSyn">
      & Partial<Pick<FamilyReport, "crossingSyn">>
    )
    | null;
  /** External addresses that a router forwards to the punch port. */
  readonly mapped?: readonly TransportAddress[];
  /** Aborts the gathering. */
  readonly signal?: AbortSignal;
}

/** The ports of a base socket, all free when they were chosen. */
export interface BasePorts {
  /** Dials the servers. */
  readonly base: number;
  /** Not used before the punch, for NATs that make a new mapping for each destination. */
  readonly fresh: number;
  /** Sample the NAT's allocation of ports. */
  readonly burst: readonly number[];
}

/** A base port, one that is left alone, and for the burst a run of consecutive ports and some scattered ones. */
export async function freePorts(network: Network, family: IpFamily): Promise<BasePorts> {
  const ip = family === 4 ? "0.0.0.0" : "::";
  using listeners = new DisposableStack();
  const listen = async (port: number) => listeners.use(await network.listenTcp({ ip, port }));
  const row = await openConsecutive(ROW, listen) ?? [];
  const [base, fresh] = [await listen(0), await listen(0)];
  const scattered: TcpListener[] = [];
  while (scattered.length < SCATTERED) scattered.push(await listen(0));
  return {
    base: base.local.port,
    fresh: fresh.local.port,
    burst: [...row, ...scattered].map(({ local }) => local.port),
  };
}

/** Asks the servers until enough is known, or no more answers are to be expected. Without servers there is no dialer. */
export async function gather(
  dialer: TcpDialer | undefined,
  ports: BasePorts,
  { network, servers, report, family, signal, onDialled, udpReadyAtMs }: GatherOptions & {
    /** Called once the base port is in use, so that the system gives it to no other connection. */
    readonly onDialled?: () => void;
    /** When everything was known over UDP; `Infinity` if it is not. Once it is, the dialer has to be woken. */
    readonly udpReadyAtMs?: () => number;
  },
): Promise<Gathered> {
  const reported = report?.mapping.behavior ?? "unknown";
  if (dialer === undefined) return { ...NOTHING_GATHERED, mapping: reported };
  const own = new OwnAddresses(network, ports.base);
  const startedAtMs = performance.now();
  let hasMorePorts = false;
  sample(dialer, servers[0], ports.burst);
  for (;;) {
    const { probes } = dialer;
    const seen = mappingSamples(probes).map(({ mapped }) => mapped);
    if (seen.length > 0) await own.check(seen); // the base port is dialled before another socket can get it
    const udpMs = (udpReadyAtMs?.() ?? Infinity) - startedAtMs;
    const limitMs = Math.min(TIMEOUT_MS, Math.max(udpMs + AFTER_UDP_MS, UDP_FACTOR * udpMs));
    const deadlineMs = Math.min(startedAtMs + limitMs, dialer.deadlineMs);
    const { isOwn } = own;
    const step = nextGatheringStep(
      { servers, probes, isOwn, reported, hasMorePorts, deadlineMs },
      performance.now(),
    );
    if (step.isDone) return step.gathered;
    for (const spec of step.dials) dialer.dial(spec, ports.base);
    onDialled?.();
    if (step.needsMorePorts) {
      hasMorePorts = true;
      const { burst } = await freePorts(network, family);
      sample(dialer, servers[0], burst.slice(-SCATTERED));
    } else if (step.dials.length === 0) await dialer.wait(step.wakeAtMs, signal);
  }
}

/** New mappings of new ports, oldest first. */
export async function resample(
  dialer: TcpDialer,
  server: TransportAddress,
  { network, family, signal }: GatherOptions,
): Promise<PortPair[]> {
  const { burst } = await freePorts(network, family);
  const before = dialer.probes.length;
  sample(dialer, server, burst);
  const limitMs = performance.now() + TIMEOUT_MS;
  const probes = () => dialer.probes.slice(before, before + burst.length);
  while (probes().some(({ reply }) => reply === undefined)) {
    const answered = probes().filter(({ reply }) => reply !== undefined).length;
    const lateAtMs = answered >= ENOUGH_SAMPLES ? answeredTogetherAtMs(probes()) : Infinity;
    const deadlineMs = Math.min(limitMs, dialer.deadlineMs, lateAtMs);
    if (deadlineMs <= performance.now()) break;
    await dialer.wait(deadlineMs, signal);
  }
  return probes().flatMap((probe) => {
    const reply = bindingReply(probe);
    return reply ? [{ localPort: probe.localPort, externalPort: reply.mapped.port }] : [];
  });
}

/** What to send to the peer. */
export function describe(
  ports: BasePorts,
  { mapping, allocation, external, externalIps, samples }: Gathered,
  candidates: readonly Candidate[],
  { network, report }: GatherOptions,
): PunchDescription {
  const profile: NatProfile = {
    mapping,
    filtering: report?.filtering.behavior ?? "unknown",
    unsolicitedSyn: report?.unsolicitedSyn ?? "unknown",
    ...report?.crossingSyn !== undefined && { crossingSyn: report.crossingSyn },
    allocation: allocation.allocation,
    onlyForNeighbours: allocation.details.onlyForNeighbours,
    externalIp: external?.ip ?? null,
    ...externalIps.length > 1 && { externalIps: externalIps.slice(0, MAX_EXTERNAL_IPS) },
    samples,
  };
  return {
    profile,
    candidates,
    punchPort: punchPortOf(ports, profile),
    canListenBeside: network.canReusePort,
  };
}

/** The addresses at which the peer may reach this side. */
export async function candidatesOf(
  ports: BasePorts,
  { mapping, external }: Gathered,
  seenIps: readonly string[],
  { network, mapped = [] }: GatherOptions,
): Promise<Candidate[]> {
  const port = punchPortOf(ports, { mapping });
  const interfaces = (await network.localAddresses())?.map(({ ip }) => ip);
  const usable = interfaces?.filter(isUsable);
  const loopback = interfaces?.filter((ip) => ipScope(ip) === "loopback") ?? [];
  // A host without a network still reaches itself.
  const ownIps = new Set(usable?.length === 0 ? loopback : usable ?? seenIps);
  const isReflexive = external !== null && !dependsOnDestination({ mapping });
  const reflexive: Candidate[] = isReflexive ? [{ kind: "reflexive", address: external }] : [];
  return [
    ...mapped.map((address): Candidate => ({ kind: "mapped", address })),
    ...reflexive,
    ...Array.from(ownIps, (ip): Candidate => ({ kind: "host", address: { ip, port } })),
  ].slice(0, MAX_CANDIDATES);
}

/** This host's address, without an answer of a server: peers in one LAN find each other without the internet too. */
export async function localIpWithoutServers(
  network: Network,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  if (await network.localAddresses() !== undefined) return undefined; // nothing to find out
  return await discoverLocalIpv4(network, { signal });
}

/** Dials a server from each of these ports. */
function sample(
  dialer: TcpDialer,
  server: TransportAddress | undefined,
  localPorts: readonly number[],
): void {
  if (server === undefined) return;
  for (const port of localPorts) {
    const socket = `burst ${dialer.probes.length}`;
    dialer.dial({ socket, server: 0, test: "binding", to: server }, port);
  }
}

/**
 * If the mapping depends on the destination, the mapping for the server is of no use to the peer, and would be in the
 * way of another one from the same port.
 */
function punchPortOf(ports: BasePorts, profile: Pick<NatProfile, "mapping">): number {
  return dependsOnDestination(profile) ? ports.fresh : ports.base;
}

/** Link-local addresses mean nothing without a zone of the peer's. */
function isUsable(ip: string): boolean {
  return !["loopback", "link-local", "unspecified", "multicast"].includes(ipScope(ip));
}

/** How long to wait for servers. Chosen by us: three SYNs of the system, and an answer. */
const TIMEOUT_MS = 3500;

/**
 * The same once everything is known over UDP, which takes a round trip or two: the system repeats a lost SYN only after a
 * second, and a server that is silent over TCP never answers. Chosen by us: TCP takes twice as many round trips, and 0.3 s more
 * if data was lost.
 */
const AFTER_UDP_MS = 500;
const UDP_FACTOR = 2.5;

/** Once the NAT's pattern is known, the latest ports show where it stands. Chosen by us. */
const ENOUGH_SAMPLES = 3;

/** Consecutive and scattered local ports in the burst: with the base port, enough to distinguish all patterns. */
const ROW = 4;
const SCATTERED = 2;
