/**
 * The plan of gathering: from all answers so far, what to dial now, how long to wait, and what is known of the NAT. Pure,
 * so that each step can be tested without a network.
 *
 * @module
 */

import { type AllocationVerdict, classifyAllocation } from "../nat/allocation.ts";
import type { Behavior } from "../nat/behavior.ts";
import { classifyMapping, differsByDestination } from "../nat/mapping.ts";
import {
  externalIpsOf,
  type MappingSample,
  mappingSamples,
  portSamples,
  type Probe,
  type ProbeSpec,
} from "../nat/probe.ts";
import { alternatesOf, assessServer } from "../nat/servers.ts";
import { sameTransportAddress, type TransportAddress } from "../net/address.ts";
import { dependsOnDestination, type PortPair } from "./nat_profile.ts";

/** Everything that is known while servers are asked. Times are milliseconds on one clock. */
export interface Gathering {
  /** STUN servers that speak TCP, best first. The first one samples ports. */
  readonly servers: readonly TransportAddress[];
  /** In the order in which they were sent: those from the base port, and those that sample ports. */
  readonly probes: readonly Probe[];
  /** Whether an external address is the host's own, which means that there is no NAT. */
  readonly isOwn: (address: TransportAddress) => boolean;
  /** What a NAT test found about the mapping. */
  readonly reported: Behavior;
  /** Whether {@linkcode GatheringStep.needsMorePorts} was heeded: once is enough. */
  readonly hasMorePorts: boolean;
  /** How long answers are worth waiting for; in the past if no dial is under way. */
  readonly deadlineMs: number;
}

/** The next step of gathering. */
export interface GatheringStep {
  /** What to dial now from the base port. */
  readonly dials: readonly ProbeSpec[];
  /** Whether to sample a few more ports now: too few answers have arrived to tell how the NAT chooses ports. */
  readonly needsMorePorts: boolean;
  /** When to ask for the next step, unless an answer arrives earlier. */
  readonly wakeAtMs: number;
  /** Whether enough is known, or no more answers are to be expected. */
  readonly isDone: boolean;
  /** What is known. */
  readonly gathered: Gathered;
}

/** What the servers' answers show. */
export interface Gathered {
  readonly mapping: Behavior;
  readonly allocation: AllocationVerdict;
  readonly external: TransportAddress | null;
  /** The IP addresses that mappings were seen at, that of `external` first. */
  readonly externalIps: readonly string[];
  readonly samples: readonly PortPair[];
}

/** Decides the next step of gathering. */
export function nextGatheringStep(gathering: Gathering, nowMs: number): GatheringStep {
  const { servers: [first], probes, isOwn, reported, hasMorePorts, deadlineMs } = gathering;
  const samples = mappingSamples(probes);
  const seen = mappingOf(samples, isOwn);
  const pairs = first === undefined ? [] : portSamples(probes, first);
  const allocation = classifyAllocation(pairs);
  // Requests that were sent together are answered together: whatever is missing then was lost for a second or more.
  const togetherAtMs = answeredTogetherAtMs(probes);
  const isLate = togetherAtMs <= nowMs;
  const mapping = seen === "unknown" && isLate && samples.length > 0 ? reported : seen;
  const needsPorts = mapping === "unknown" || dependsOnDestination({ mapping });
  const isKnown = mapping !== "unknown" &&
    (!needsPorts || allocation.allocation.kind !== "unknown");
  const dials = isKnown || seen !== "unknown" ? [] : newDials(gathering);
  const needsMorePorts = !isKnown && needsPorts && isLate && !hasMorePorts;
  return {
    dials,
    needsMorePorts,
    wakeAtMs: isLate ? deadlineMs : Math.min(deadlineMs, togetherAtMs),
    isDone: isKnown || dials.length === 0 && !needsMorePorts && deadlineMs <= nowMs,
    gathered: {
      mapping: mapping === "unknown" ? reported : mapping,
      allocation,
      external: samples[0]?.mapped ?? null,
      externalIps: externalIpsOf(probes),
      samples: pairs.flatMap(({ localPort, externalPort }) =>
        externalPort === null ? [] : [{ localPort, externalPort }]
      ),
    },
  };
}

/** When everything that was sent together with an answered request should have been answered too. */
export function answeredTogetherAtMs(probes: readonly Probe[]): number {
  const times = probes.flatMap(({ sentAtMs, reply }) => {
    return reply ? [reply.atMs + Math.max(MIN_GRACE_MS, (reply.atMs - sentAtMs) / 2)] : [];
  });
  return Math.min(...times);
}

/** Two servers show whether the destination matters; whether the port alone does makes no difference to a punch. */
function mappingOf(samples: readonly MappingSample[], isOwn: Gathering["isOwn"]): Behavior {
  if (samples.length === 0) return "unknown";
  const { behavior } = classifyMapping(samples, isOwn);
  const isKnown = behavior !== "unknown" || !differsByDestination(samples);
  return isKnown ? behavior : "address-and-port-dependent";
}

/** The servers, and the first alternate address of each, as far as they have not been dialled from the base port. */
function newDials({ servers, probes }: Gathering): ProbeSpec[] {
  const dialled = probes.filter(({ socket }) => socket === BASE).map(({ to }) => to);
  const alternates = servers.map((primary) => alternatesOf(assessServer(primary, probes))[0]);
  const dials: ProbeSpec[] = [];
  for (const addresses of [servers, alternates]) {
    for (const [server, to] of addresses.entries()) {
      if (to === undefined || dialled.some((each) => sameTransportAddress(each, to))) continue;
      dialled.push(to);
      dials.push({ socket: BASE, server, test: "binding", to });
    }
  }
  return dials;
}

/** What {@linkcode nextGatheringStep} gathers without servers, besides the mapping. */
export const NOTHING_GATHERED: Omit<Gathered, "mapping"> = {
  allocation: {
    allocation: { kind: "unknown", delta: null, range: null },
    details: {
      samples: 0,
      onlyForNeighbours: false,
      preservesParity: "unknown",
      preservesContiguity: "unknown",
    },
  },
  external: null,
  externalIps: [],
  samples: [],
};

/** The socket whose mapping is classified. */
const BASE = "mapping";

/** How far apart answers to simultaneous requests may be: half a round trip, and at least this. Chosen by us. */
const MIN_GRACE_MS = 20;
