/**
 * The plan of a UDP NAT test: from all probes and replies so far, what to send now, when to check again, and whether the
 * test is done. Pure, so that each step can be tested without a network.
 *
 * Everything that can start at once does: mapping, filtering and the allocation burst start together, each on its own
 * sockets, because packets for one would distort the others if they shared a port. Once a server has answered, its
 * alternate address is asked as well. Silence is turned into evidence by repeating requests together with controls.
 *
 * @module
 */

import { sameTransportAddress, type TransportAddress } from "../net/address.ts";
import { type AllocationVerdict, classifyAllocation, isPattern } from "./allocation.ts";
import { type BehaviorVerdict, unknown } from "./behavior.ts";
import { classifyMapping } from "./mapping.ts";
import {
  isSameProbe,
  type MappingSample,
  mappingSamples,
  portSamples,
  type Probe,
  type ProbeSpec,
  RetransmissionTiming,
} from "./probe.ts";
import { alternatesOf, assessServer, isInconsistent, type ServerAssessment } from "./servers.ts";
import {
  type FilteringState,
  filteringState,
  openingRound,
  type ScheduledProbe,
} from "./udp_filtering_plan.ts";

/** Everything that a running test knows. Times are milliseconds since its start. */
export interface UdpTest {
  /** Primary addresses of the STUN servers, best first. */
  readonly servers: readonly TransportAddress[];
  /** Names of the sockets of the allocation burst, in the order they send. */
  readonly burst: readonly string[];
  /** In the order they were sent. */
  readonly probes: readonly Probe[];
  /** Whether an external address is the host's own, which means that there is no NAT. */
  readonly isOwn: (address: TransportAddress) => boolean;
  readonly timeoutMs: number;
}

/** The next step of a test. */
export interface UdpStep {
  /** What to send now. */
  readonly send: readonly ProbeSpec[];
  /** When to ask for the next step, unless a reply arrives earlier. */
  readonly wakeAtMs: number;
  readonly verdict: UdpVerdict;
  /** Whether the verdict is final. */
  readonly done: boolean;
}

/** What a test has found so far. */
export interface UdpVerdict {
  readonly mapping: BehaviorVerdict;
  readonly filtering: BehaviorVerdict;
  readonly allocation: AllocationVerdict;
  /** The server that the verdict is based on; `null` before any has answered. */
  readonly server: TransportAddress | null;
  /** The mapping socket's address as that server sees it. */
  readonly external: TransportAddress | null;
  /** Why servers were disregarded. */
  readonly faults: readonly string[];
}

/** Decides the next step of a test. */
export function nextUdpStep(test: UdpTest, nowMs: number): UdpStep {
  const timing = new RetransmissionTiming(test.probes, nowMs);
  const samples = mappingSamples(soundProbes(test));
  const selected = selectServer(test, timing, samples);
  const mapping = mappingPart(test, timing, selected, samples);
  const filtering = filteringPart(test, timing, selected);
  const allocation = allocationPart(test, timing, selected);
  const parts: readonly Part<unknown>[] = [allocation, mapping, filtering];

  const isSilent = selected === undefined;
  const done = nowMs >= test.timeoutMs || (isSilent && nowMs >= SILENCE_MS) ||
    parts.every(({ isDecided }) => isDecided);
  const scheduled = done ? [] : parts.flatMap(({ scheduled }) => scheduled);
  const times = [
    ...scheduled.map(({ atMs }) => atMs),
    ...parts.flatMap(({ judgedAtMs }) => judgedAtMs ?? []),
    ...isSilent ? [SILENCE_MS] : [],
    test.timeoutMs,
  ];
  return {
    send: unique(scheduled.filter(({ atMs }) => atMs <= nowMs).map(({ spec }) => spec)),
    wakeAtMs: Math.min(...times.filter((atMs) => atMs > nowMs)),
    verdict: {
      mapping: mapping.verdict,
      filtering: filtering.verdict,
      allocation: allocation.verdict,
      server: selected?.assessment.primary ?? null,
      external: externalOf(samples, selected),
      faults: selected?.faults ?? [],
    },
    done,
  };
}

/** One part of the test: what it has found, and what it still needs. */
interface Part<T> {
  readonly verdict: T;
  readonly isDecided: boolean;
  readonly scheduled: readonly ScheduledProbe[];
  /** When pending silence turns into evidence. */
  readonly judgedAtMs?: readonly number[];
}

/** The server that the test continues with. */
interface SelectedServer {
  readonly index: number;
  readonly assessment: ServerAssessment;
  /** Only if it has an alternate address. */
  readonly filtering?: FilteringState;
  /** Why better-placed servers were passed over. */
  readonly faults: readonly string[];
}

/**
 * Selects the first server to answer that supports RFC 5780, preferring those whose alternate address answers promptly.
 * If none does, the first server to answer.
 */
function selectServer(
  test: UdpTest,
  timing: RetransmissionTiming,
  samples: readonly MappingSample[],
): SelectedServer | undefined {
  const isTranslated = !samples.some(({ mapped }) => test.isOwn(mapped));
  const candidates = test.servers
    .map((primary, index) => ({ index, assessment: assessServer(primary, test.probes) }))
    .filter(({ assessment }) => assessment.answered)
    .sort((a, b) => timing.firstReplyMs(a.index) - timing.firstReplyMs(b.index));
  const faults: string[] = [];
  const sound: SelectedServer[] = [];
  for (const { index, assessment } of candidates) {
    const filtering = assessment.alternate &&
      filteringState(index, assessment, test.probes, timing, { isTranslated });
    const fault = assessment.fault ?? filtering?.fault;
    if (fault === undefined) sound.push({ index, assessment, filtering, faults });
    else faults.push(fault);
  }
  const doubtful = ({ filtering }: SelectedServer) =>
    filtering?.scheduled.some(({ spec }) => timing.isDoubtful(spec));
  const [first] = candidates;
  if (sound.length > 0) return sound.find((server) => !doubtful(server)) ?? sound[0];
  if (first === undefined) return undefined;
  return { index: first.index, assessment: { ...first.assessment, alternate: undefined }, faults };
}

function mappingPart(
  test: UdpTest,
  timing: RetransmissionTiming,
  selected: SelectedServer | undefined,
  samples: readonly MappingSample[],
): Part<BehaviorVerdict> {
  const verdict = classifyMapping(samples, test.isOwn);
  const specs = test.servers.map((to, server) => mappingSpec(to, server));
  if (selected !== undefined) {
    specs.push(...alternatesOf(selected.assessment).map((to) => mappingSpec(to, selected.index)));
  }
  const open = unique(specs).filter((spec) => !timing.isAnswered(spec) && !timing.isGivenUp(spec));
  const isDecided = verdict.behavior !== "unknown" || (selected !== undefined && open.length === 0);
  return { verdict, isDecided, scheduled: isDecided ? [] : schedule(open, timing) };
}

function filteringPart(
  test: UdpTest,
  timing: RetransmissionTiming,
  selected: SelectedServer | undefined,
): Part<BehaviorVerdict> {
  if (selected?.filtering !== undefined) return selected.filtering;
  // Servers that have not answered yet may still turn out to support RFC 5780.
  const open = test.servers.flatMap((to, server) => {
    const spec = mappingSpec(to, server);
    return timing.isAnswered(spec) || timing.isGivenUp(spec) ? [] : [spec];
  });
  const opening = test.servers.flatMap((primary, server) => {
    const isAsked = server < SERVERS_AT_ONCE && open.some((spec) => spec.server === server);
    return isAsked ? openingRound(server, primary, timing) : [];
  });
  return {
    verdict: unknown(...selected?.faults ?? [], "no server with two addresses (RFC 5780) answered"),
    isDecided: selected !== undefined && open.length === 0,
    scheduled: [...opening, ...schedule(open, timing)],
  };
}

function allocationPart(
  test: UdpTest,
  timing: RetransmissionTiming,
  selected: SelectedServer | undefined,
): Part<AllocationVerdict> {
  const server = burstServer(test, timing, selected);
  const to = test.servers[server]!;
  if (isInconsistent(to, test.probes)) {
    return { verdict: classifyAllocation([]), isDecided: selected !== undefined, scheduled: [] };
  }
  const specs = test.burst.map((socket): ProbeSpec => ({ socket, server, test: "binding", to }));
  const open = specs.filter((spec) => !timing.isAnswered(spec) && !timing.isGivenUp(spec));
  const verdict = classifyAllocation(portSamples(test.probes, to));
  // "No pattern" is final only once no more answers can arrive.
  const isDecided = isPattern(verdict.allocation) || (selected !== undefined && open.length === 0);
  return { verdict, isDecided, scheduled: isDecided ? [] : schedule(open, timing) };
}

/** The burst's server: the first in the list, unless it is silent or inconsistent and another server was selected. */
function burstServer(
  test: UdpTest,
  timing: RetransmissionTiming,
  selected: SelectedServer | undefined,
): number {
  const [first] = test.probes;
  if (selected === undefined || first === undefined) return 0;
  const isSilent = timing.firstReplyMs(0) === Infinity &&
    timing.nowMs >= first.sentAtMs + timing.retransmitMs(selected.index)!;
  return isSilent || isInconsistent(test.servers[0]!, test.probes) ? selected.index : 0;
}

function mappingSpec(to: TransportAddress, server: number): ProbeSpec {
  return { socket: "mapping", server, test: "binding", to };
}

/** All probes except those to inconsistent servers. */
function soundProbes({ servers, probes }: UdpTest): Probe[] {
  const inconsistent = servers.map((primary) => isInconsistent(primary, probes));
  return probes.filter(({ server }) => !inconsistent[server]);
}

function externalOf(
  samples: readonly MappingSample[],
  selected: SelectedServer | undefined,
): TransportAddress | null {
  const seen = samples.find(({ to }) =>
    selected && sameTransportAddress(to, selected.assessment.primary)
  );
  return (seen ?? samples[0])?.mapped ?? null;
}

function schedule(specs: readonly ProbeSpec[], timing: RetransmissionTiming): ScheduledProbe[] {
  return specs.map((spec) => ({ spec, atMs: timing.nextTryMs(spec) }));
}

function unique(specs: readonly ProbeSpec[]): ProbeSpec[] {
  return specs.filter((spec, index) =>
    specs.findIndex((other) => isSameProbe(spec, other)) === index
  );
}

/** Chosen by us: filtering tests start with this many servers before any has answered, in case one is down. */
const SERVERS_AT_ONCE = 2;

/** Chosen by us: without any answer for this long, none is expected any more. */
const SILENCE_MS = 3200;
