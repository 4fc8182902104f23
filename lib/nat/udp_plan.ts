/**
 * The plan of a UDP NAT test: given all that was sent and seen, what to send now, when to look again, and
 * whether the test is over. Pure, so that every turn of it can be tested without a network.
 *
 * All that can go at once goes at once: mapping, filtering and the burst for the allocation start together, on
 * sockets of their own, because packets that prepare one of them falsify another on the same port. Once a server
 * has answered, its alternate address is asked too, and silence is made to count by repetition beside controls.
 *
 * @module
 */

import { sameTransportAddress, type TransportAddress } from "../net/address.ts";
import { type AllocationVerdict, classifyAllocation, isPattern } from "./allocation.ts";
import { type BehaviorVerdict, unknown } from "./behavior.ts";
import { classifyMapping } from "./mapping.ts";
import {
  alternatesOf,
  isFickle,
  isSameProbe,
  learnServer,
  type MappingSample,
  mappingSamples,
  Pace,
  portSamples,
  type Probe,
  type ProbeSpec,
  type ServerKnowledge,
} from "./probe.ts";
import {
  type FilteringState,
  filteringState,
  openingRound,
  type Want,
} from "./udp_filtering_plan.ts";

/** All that a running test knows. Times are milliseconds since its start. */
export interface UdpTest {
  /** Primary addresses, best first. */
  readonly servers: readonly TransportAddress[];
  /** Names of the sockets for the allocation burst, in the order in which they shall send. */
  readonly burst: readonly string[];
  /** In the order of sending. */
  readonly probes: readonly Probe[];
  /** Whether an external address is this host's own: then there is no NAT. */
  readonly isOwn: (address: TransportAddress) => boolean;
  readonly timeoutMs: number;
}

/** What to do now. */
export interface UdpStep {
  readonly send: readonly ProbeSpec[];
  /** Ask again after the next reply, or at this time. */
  readonly wakeAtMs: number;
  readonly verdict: UdpVerdict;
  /** Whether the verdict is final. */
  readonly done: boolean;
}

/** What the test has found so far. */
export interface UdpVerdict {
  readonly mapping: BehaviorVerdict;
  readonly filtering: BehaviorVerdict;
  readonly allocation: AllocationVerdict;
  /** The server on which the verdict rests; `null` before any answered. */
  readonly server: TransportAddress | null;
  /** What that server sees of the mapping socket. */
  readonly external: TransportAddress | null;
  /** What was wrong with servers that did not count. */
  readonly faults: readonly string[];
}

/** The next step of a test. */
export function nextUdpStep(test: UdpTest, nowMs: number): UdpStep {
  const pace = new Pace(test.probes, nowMs);
  const samples = mappingSamples(soundProbes(test));
  const lead = leadOf(test, pace, samples);
  const mapping = mappingPart(test, pace, lead, samples);
  const filtering = filteringPart(test, pace, lead);
  const allocation = allocationPart(test, pace, lead);
  const parts: readonly Part<unknown>[] = [allocation, mapping, filtering];

  const isSilent = lead === undefined;
  const done = nowMs >= test.timeoutMs || (isSilent && nowMs >= SILENCE_MS) ||
    parts.every(({ isDecided }) => isDecided);
  const wants = done ? [] : parts.flatMap(({ wants }) => wants);
  const times = [
    ...wants.map(({ atMs }) => atMs),
    ...parts.flatMap(({ judgedAtMs }) => judgedAtMs ?? []),
    ...isSilent ? [SILENCE_MS] : [],
    test.timeoutMs,
  ];
  return {
    send: unique(wants.filter(({ atMs }) => atMs <= nowMs).map(({ spec }) => spec)),
    wakeAtMs: Math.min(...times.filter((atMs) => atMs > nowMs)),
    verdict: {
      mapping: mapping.verdict,
      filtering: filtering.verdict,
      allocation: allocation.verdict,
      server: lead?.knowledge.primary ?? null,
      external: externalOf(samples, lead),
      faults: lead?.faults ?? [],
    },
    done,
  };
}

/** A part of the test: what it found, and what it still needs. */
interface Part<T> {
  readonly verdict: T;
  readonly isDecided: boolean;
  readonly wants: readonly Want[];
  readonly judgedAtMs?: readonly number[];
}

/** The server that the test goes on with. */
interface Lead {
  readonly index: number;
  readonly knowledge: ServerKnowledge;
  /** Where it has an alternate address. */
  readonly filtering?: FilteringState;
  /** What was wrong with the servers that would have come first. */
  readonly faults: readonly string[];
}

/**
 * The first server to answer that serves RFC 5780, those whose alternate address is slow to answer last; without
 * one, the first to answer.
 */
function leadOf(test: UdpTest, pace: Pace, samples: readonly MappingSample[]): Lead | undefined {
  const isTranslated = !samples.some(({ mapped }) => test.isOwn(mapped));
  const candidates = test.servers
    .map((primary, index) => ({ index, knowledge: learnServer(primary, test.probes) }))
    .filter(({ knowledge }) => knowledge.answered)
    .sort((a, b) => pace.firstReplyMs(a.index) - pace.firstReplyMs(b.index));
  const faults: string[] = [];
  const sound: Lead[] = [];
  for (const { index, knowledge } of candidates) {
    const filtering = knowledge.alternate &&
      filteringState(index, knowledge, test.probes, pace, { isTranslated });
    const fault = knowledge.fault ?? filtering?.fault;
    if (fault !== undefined) faults.push(fault);
    else sound.push({ index, knowledge, faults, ...filtering && { filtering } });
  }
  const doubtful = ({ filtering }: Lead) =>
    filtering?.wants.some(({ spec }) => pace.isDoubtful(spec));
  const [first] = candidates;
  return sound.find((lead) => !doubtful(lead)) ?? sound[0] ??
    (first &&
      { index: first.index, knowledge: { ...first.knowledge, alternate: undefined }, faults });
}

function mappingPart(
  test: UdpTest,
  pace: Pace,
  lead: Lead | undefined,
  samples: readonly MappingSample[],
): Part<BehaviorVerdict> {
  const verdict = classifyMapping(samples, test.isOwn);
  const specs = test.servers.map((to, server) => mappingSpec(to, server));
  if (lead !== undefined) {
    specs.push(...alternatesOf(lead.knowledge).map((to) => mappingSpec(to, lead.index)));
  }
  const open = unique(specs).filter((spec) => !pace.isAnswered(spec) && !pace.isGivenUp(spec));
  const isDecided = verdict.behavior !== "unknown" || (lead !== undefined && open.length === 0);
  return { verdict, isDecided, wants: isDecided ? [] : asWants(open, pace) };
}

function filteringPart(test: UdpTest, pace: Pace, lead: Lead | undefined): Part<BehaviorVerdict> {
  if (lead?.filtering !== undefined) return lead.filtering;
  // Servers that have not answered yet may still serve RFC 5780.
  const open = test.servers.flatMap((to, server) => {
    const spec = mappingSpec(to, server);
    return pace.isAnswered(spec) || pace.isGivenUp(spec) ? [] : [spec];
  });
  const opening = test.servers.flatMap((primary, server) => {
    const isAsked = server < SERVERS_AT_ONCE && open.some((spec) => spec.server === server);
    return isAsked ? openingRound(server, primary, pace) : [];
  });
  return {
    verdict: unknown(...lead?.faults ?? [], "no server with two addresses (RFC 5780) answered"),
    isDecided: lead !== undefined && open.length === 0,
    wants: [...opening, ...asWants(open, pace)],
  };
}

function allocationPart(
  test: UdpTest,
  pace: Pace,
  lead: Lead | undefined,
): Part<AllocationVerdict> {
  const server = burstServer(test, pace, lead);
  const to = test.servers[server]!;
  if (isFickle(to, test.probes)) {
    return { verdict: classifyAllocation([]), isDecided: lead !== undefined, wants: [] };
  }
  const specs = test.burst.map((socket): ProbeSpec => ({ socket, server, test: "binding", to }));
  const open = specs.filter((spec) => !pace.isAnswered(spec) && !pace.isGivenUp(spec));
  const verdict = classifyAllocation(portSamples(test.probes, to));
  // "No pattern" is only said once all answers have been awaited.
  const isDecided = isPattern(verdict.allocation) || (lead !== undefined && open.length === 0);
  return { verdict, isDecided, wants: isDecided ? [] : asWants(open, pace) };
}

/** The server that the burst goes to: the first in the list, unless it is silent or lies and another does not. */
function burstServer(test: UdpTest, pace: Pace, lead: Lead | undefined): number {
  const [first] = test.probes;
  if (lead === undefined || first === undefined) return 0;
  const isSilent = pace.firstReplyMs(0) === Infinity &&
    pace.nowMs >= first.sentAtMs + pace.retransmitMs(lead.index)!;
  return isSilent || isFickle(test.servers[0]!, test.probes) ? lead.index : 0;
}

function mappingSpec(to: TransportAddress, server: number): ProbeSpec {
  return { socket: "mapping", server, test: "binding", to };
}

/** All but those that went to servers whose answers contradict each other. */
function soundProbes({ servers, probes }: UdpTest): Probe[] {
  const fickle = servers.map((primary) => isFickle(primary, probes));
  return probes.filter(({ server }) => !fickle[server]);
}

function externalOf(
  samples: readonly MappingSample[],
  lead: Lead | undefined,
): TransportAddress | null {
  const seen = samples.find(({ to }) => lead && sameTransportAddress(to, lead.knowledge.primary));
  return (seen ?? samples[0])?.mapped ?? null;
}

function asWants(specs: readonly ProbeSpec[], pace: Pace): Want[] {
  return specs.map((spec) => ({ spec, atMs: pace.nextTryMs(spec) }));
}

function unique(specs: readonly ProbeSpec[]): ProbeSpec[] {
  return specs.filter((spec, index) =>
    specs.findIndex((other) => isSameProbe(spec, other)) === index
  );
}

/** Servers whose filtering tests start before any has answered; ours: two, so that one may be dead. */
const SERVERS_AT_ONCE = 2;

/** After so long without any answer there is none to be expected; ours. */
const SILENCE_MS = 3200;
