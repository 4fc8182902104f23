/**
 * What an anchor learns of the NAT in front of it, from the answers of STUN servers.
 *
 * @module
 */

import { type AllocationVerdict, classifyAllocation } from "../nat/allocation.ts";
import type { Behavior, FamilyReport } from "../nat/behavior.ts";
import { openConsecutive } from "../nat/local_ports.ts";
import { classifyMapping, differsByDestination } from "../nat/mapping.ts";
import { OwnAddresses } from "../nat/own_addresses.ts";
import {
  bindingReply,
  type MappingSample,
  mappingSamples,
  portSamples,
  type Probe,
  type ProbeSpec,
} from "../nat/probe.ts";
import { alternatesOf, learnServer } from "../nat/server_knowledge.ts";
import type { TcpDialer } from "../nat/tcp_dialer.ts";
import type { IpFamily, TransportAddress } from "../net/address.ts";
import type { Network, TcpListener } from "../net/network.ts";
import type { PortPair } from "./candidates.ts";
import { dependsOnDestination } from "./nat_profile.ts";

/** What learning needs. */
export interface LearnOptions {
  readonly network: Network;
  /** Best first. */
  readonly servers: readonly TransportAddress[];
  /** Of the servers. */
  readonly family: IpFamily;
  /** What a NAT test found. */
  readonly report?: Pick<FamilyReport, "mapping"> | null;
  readonly signal?: AbortSignal;
}

/** What servers tell of the NAT. */
export interface Learned {
  readonly mapping: Behavior;
  readonly allocation: AllocationVerdict;
  readonly external: TransportAddress | null;
  readonly samples: readonly PortPair[];
}

/** The ports of an anchor, all free when they were chosen. */
export interface AnchorPorts {
  /** Dials the servers. */
  readonly anchor: number;
  /** Is not dialled from before the punch, for NATs on which each dial costs a mapping. */
  readonly fresh: number;
  readonly burst: readonly number[];
}

/** Asks the servers until enough is known, or nothing more will be. */
export async function learn(
  dialer: TcpDialer,
  ports: AnchorPorts,
  { network, servers, report, family, signal }: LearnOptions,
): Promise<Learned> {
  const own = new OwnAddresses(network, ports.anchor);
  const limitMs = performance.now() + PATIENCE_MS;
  const reported = report?.mapping.behavior ?? "unknown";
  let hasMoreDials = false;
  const [first] = servers;
  if (first !== undefined) {
    for (const [index, port] of ports.burst.entries()) {
      dialer.dial({ socket: `burst ${index}`, server: 0, test: "binding", to: first }, port);
    }
  }
  const dialled = new Set<string>();
  const dialAnchor = (to: TransportAddress, server: number) => {
    if (dialled.has(`${to.ip} ${to.port}`)) return;
    dialled.add(`${to.ip} ${to.port}`);
    const spec: ProbeSpec = { socket: "mapping", server, test: "binding", to };
    dialer.dial(spec, ports.anchor);
  };
  for (const [index, to] of servers.entries()) dialAnchor(to, index);

  for (;;) {
    const samples = mappingSamples(dialer.probes);
    await own.learn(samples.map(({ mapped }) => mapped));
    const seen = mappingOf(samples, own);
    if (seen === "unknown") {
      for (const [index, primary] of servers.entries()) {
        const [alternate] = alternatesOf(learnServer(primary, dialer.probes));
        if (alternate !== undefined) dialAnchor(alternate, index);
      }
    }
    const pairs = first === undefined ? [] : portSamples(dialer.probes, first);
    const allocation = classifyAllocation(pairs);
    // What was asked together is answered together: what is missing then was lost, and takes a second or more.
    const togetherAtMs = answeredTogetherAtMs(dialer.probes);
    const isLate = togetherAtMs <= performance.now();
    const mapping = seen === "unknown" && isLate && samples.length > 0 ? reported : seen;
    const needsPorts = mapping === "unknown" || dependsOnDestination({ mapping });
    const isKnown = mapping !== "unknown" &&
      (!needsPorts || allocation.allocation.kind !== "unknown");
    if (isLate && needsPorts && first !== undefined && !hasMoreDials) {
      hasMoreDials = true;
      const { burst } = await freePorts(network, family);
      for (const [index, port] of burst.slice(-STRANGERS).entries()) {
        const spec = { socket: `burst ${ports.burst.length + index}`, server: 0, to: first };
        dialer.dial({ ...spec, test: "binding" }, port);
      }
    }
    const giveUpAtMs = Math.min(limitMs, dialer.giveUpAtMs);
    if (isKnown || giveUpAtMs <= performance.now()) {
      return {
        mapping: mapping === "unknown" ? reported : mapping,
        allocation,
        external: samples[0]?.mapped ?? null,
        samples: pairs.flatMap(({ localPort, externalPort }) =>
          externalPort === null ? [] : [{ localPort, externalPort }]
        ),
      };
    }
    await dialer.wait(isLate ? giveUpAtMs : Math.min(giveUpAtMs, togetherAtMs), signal);
  }
}

/** When whatever was asked together with what is answered already should be answered, too. */
function answeredTogetherAtMs(probes: readonly Probe[]): number {
  const times = probes.flatMap(({ sentAtMs, reply }) => {
    return reply ? [reply.atMs + Math.max(MIN_GRACE_MS, (reply.atMs - sentAtMs) / 2)] : [];
  });
  return Math.min(...times);
}

/** New mappings on new ports, oldest first. */
export async function resample(
  dialer: TcpDialer,
  server: TransportAddress,
  { network, family, signal }: LearnOptions,
): Promise<PortPair[]> {
  const { burst } = await freePorts(network, family);
  const before = dialer.probes.length;
  for (const [index, port] of burst.entries()) {
    const socket = `resample ${before + index}`;
    dialer.dial({ socket, server: 0, test: "binding", to: server }, port);
  }
  const limitMs = performance.now() + PATIENCE_MS;
  const mine = () => dialer.probes.slice(before, before + burst.length);
  while (mine().some(({ reply }) => reply === undefined)) {
    const isEnough = mine().filter(({ reply }) => reply !== undefined).length >= ENOUGH_SAMPLES;
    const lateAtMs = isEnough ? answeredTogetherAtMs(mine()) : Infinity;
    const giveUpAtMs = Math.min(limitMs, dialer.giveUpAtMs, lateAtMs);
    if (giveUpAtMs <= performance.now()) break;
    await dialer.wait(giveUpAtMs, signal);
  }
  return mine().flatMap((probe) => {
    const reply = bindingReply(probe);
    return reply ? [{ localPort: probe.localPort, externalPort: reply.mapped.port }] : [];
  });
}

/** Two servers tell whether the destination matters; whether its port does makes no difference to a punch. */
function mappingOf(samples: readonly MappingSample[], own: OwnAddresses): Behavior {
  const { behavior } = classifyMapping(samples, own.isOwn);
  const isKnown = behavior !== "unknown" || !differsByDestination(samples);
  return isKnown ? behavior : "address-and-port-dependent";
}

/** A port for the anchor, one that is left alone, and for the burst a row and others. */
export async function freePorts(network: Network, family: IpFamily): Promise<AnchorPorts> {
  const ip = family === 4 ? "0.0.0.0" : "::";
  using listeners = new DisposableStack();
  const listen = async (port: number) => listeners.use(await network.listenTcp({ ip, port }));
  const row = await openConsecutive(ROW, listen) ?? [];
  const [anchor, fresh] = [await listen(0), await listen(0)];
  const strangers: TcpListener[] = [];
  while (strangers.length < STRANGERS) strangers.push(await listen(0));
  return {
    anchor: anchor.local.port,
    fresh: fresh.local.port,
    burst: [...row, ...strangers].map(({ local }) => local.port),
  };
}

/** How long servers are waited for; ours: three SYNs of the system, and an answer. */
const PATIENCE_MS = 3500;

/** Ours: what answers that were sent together may be apart, at least; else half a round trip. */
const MIN_GRACE_MS = 20;

/** With the NAT's habit known, the last ports tell where it stands; ours. */
const ENOUGH_SAMPLES = 3;

/** Consecutive local ports in the burst, and others: with the anchor's, enough to tell every pattern. */
const ROW = 4;
const STRANGERS = 2;
