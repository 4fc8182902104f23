/**
 * Runs a TCP NAT test over one IP family: mapping and allocation through STUN over TCP, filtering through the
 * TCP filter test of our own server.
 *
 * TCP retransmits by itself, so there is no plan to carry out here: all dials go at once, those to the alternate
 * address as soon as it is known, and the test is over when what they tell suffices.
 *
 * @module
 */

import type { IpFamily, TransportAddress } from "../net/address.ts";
import type { Network } from "../net/network.ts";
import { type AllocationVerdict, classifyAllocation, isPattern } from "./allocation.ts";
import type { BehaviorVerdict } from "./behavior.ts";
import { openConsecutive } from "./local_ports.ts";
import { classifyMapping } from "./mapping.ts";
import { OwnAddresses } from "./own_addresses.ts";
import { Pace } from "./pace.ts";
import {
  firstErrorCode,
  isSameProbe,
  mappingSamples,
  portSamples,
  type Probe,
  type ProbeSpec,
} from "./probe.ts";
import { alternatesOf, isFickle, learnServer, type ServerKnowledge } from "./server_knowledge.ts";
import { type DialFault, TcpDialer } from "./tcp_dialer.ts";
import type { TcpFiltering } from "./tcp_filtering.ts";
import { SideTests } from "./tcp_side_tests.ts";

/** How to run the test. */
export interface ProbeTcpOptions {
  readonly network: Network;
  readonly family: IpFamily;
  /** Primary addresses of STUN servers, best first; at least one. */
  readonly servers: readonly TransportAddress[];
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

/** What the test found. */
export interface TcpResult extends TcpFiltering {
  readonly mapping: BehaviorVerdict;
  readonly allocation: AllocationVerdict;
  readonly hairpinning: boolean | "unknown";
  /** The server on which the verdict rests; `null` if none answered. */
  readonly server: TransportAddress | null;
  readonly external: TransportAddress | null;
  readonly local: TransportAddress | null;
  readonly isOwnAddress: boolean;
  /** What was wrong with servers that did not count. */
  readonly faults: readonly string[];
  /** Why dials gave no answer. */
  readonly dialFaults: readonly DialFault[];
  /** The code of the first error that a server answered with. */
  readonly errorCode: number | undefined;
  readonly rttMs: number | null;
  readonly elapsedMs: number;
  readonly connections: number;
}

/**
 * Runs the test.
 *
 * @throws {NetworkError} if no socket can be opened
 */
export async function probeTcp(options: ProbeTcpOptions): Promise<TcpResult> {
  const { network, family, servers, timeoutMs, signal } = options;
  const startedAt = performance.now();
  const now = () => performance.now() - startedAt;
  const anyAddress = family === 4 ? "0.0.0.0" : "::";
  const ports = await freePorts(network, anyAddress);
  const localPort = ports[0]!;
  const own = new OwnAddresses(network, localPort);
  await using side = new SideTests(network, timeoutMs, signal);
  await using dialer = new TcpDialer(network, family, now);
  dialBurst(dialer, ports.slice(1), servers[0]!, 0);
  dialMapping(dialer, localPort, servers);

  for (;;) {
    const samples = mappingSamples(dialer.probes).filter(({ to }) => !isFickle(to, dialer.probes));
    await own.learn(samples.map(({ mapped }) => mapped));
    const leads = leadsOf(servers, dialer.probes);
    const [lead] = leads;
    const burst = burstServer(lead, dialer.probes, now());
    if (burst.index > 0) dialBurst(dialer, ports.slice(1), servers[burst.index]!, burst.index);
    // Once somebody listens on the port, nothing can be dialled from it any more.
    if (lead !== undefined && !side.isListening) {
      dialMapping(dialer, localPort, alternatesOf(lead.knowledge), lead.index);
    }
    for (const { knowledge } of leads) {
      if (knowledge.alternate !== undefined) side.testFilter(knowledge.primary);
    }
    const external = samples[0]?.mapped;
    const mapping = classifyMapping(samples, own.isOwn);
    if (external !== undefined && mapping.behavior !== "unknown") {
      side.testHairpin({ ip: anyAddress, port: localPort }, external);
    }
    const burstTo = servers[burst.index]!;
    const allocation = classifyAllocation(
      isFickle(burstTo, dialer.probes) ? [] : portSamples(dialer.probes, burstTo),
    );
    const isDecided = mapping.behavior !== "unknown" && isPattern(allocation.allocation);
    const limitMs = Math.min(timeoutMs, Math.max(dialer.giveUpAtMs, burst.changesAtMs));
    if (!isDecided && now() < limitMs) {
      const wakeAtMs = burst.changesAtMs > now() ? burst.changesAtMs : Infinity;
      await dialer.wait(Math.min(limitMs, wakeAtMs), signal);
      continue;
    }

    const filtering = await side.filtering({ isTranslated: mapping.behavior !== "none" });
    signal?.throwIfAborted();
    const elapsedMs = now();
    return {
      mapping,
      allocation,
      ...filtering,
      hairpinning: await side.hairpinning(),
      server: lead?.knowledge.primary ?? null,
      external: external ?? null,
      local: dialer.localIp === undefined ? null : { ip: dialer.localIp, port: localPort },
      isOwnAddress: external !== undefined && own.isOwn(external),
      faults: leads.flatMap(({ knowledge }) => knowledge.fault ?? []),
      dialFaults: dialer.faults,
      errorCode: firstErrorCode(dialer.probes),
      rttMs: lead === undefined
        ? null
        : new Pace(dialer.probes, 0).roundTripsMs(lead.index)[0] ?? null,
      elapsedMs,
      connections: dialer.probes.length,
    };
  }
}

interface Lead {
  readonly index: number;
  readonly knowledge: ServerKnowledge;
}

/** The servers that answered, those with a second address first: on the first of them the verdict rests. */
function leadsOf(servers: readonly TransportAddress[], probes: readonly Probe[]): Lead[] {
  const answered = servers
    .map((primary, index) => ({ index, knowledge: learnServer(primary, probes) }))
    .filter(({ knowledge }) => knowledge.answered);
  const hasAlternate = ({ knowledge }: Lead) => knowledge.alternate !== undefined;
  return [...answered.filter(hasAlternate), ...answered.filter((lead) => !hasAlternate(lead))];
}

/**
 * The server that the burst goes to: the first in the list, unless another has answered long before it; and until
 * when that may change.
 */
function burstServer(
  lead: Lead | undefined,
  probes: readonly Probe[],
  nowMs: number,
): { index: number; changesAtMs: number } {
  const isFirstAlive = probes.some(({ server, reply }) => server === 0 && reply !== undefined);
  if (lead === undefined || isFirstAlive) return { index: 0, changesAtMs: -Infinity };
  const replies = probes.flatMap(({ server, reply }) =>
    server === lead.index && reply !== undefined ? [reply.atMs] : []
  );
  const patienceMs = Math.min(...replies) * 2 + MIN_PATIENCE_MS;
  return nowMs >= patienceMs
    ? { index: lead.index, changesAtMs: -Infinity }
    : { index: 0, changesAtMs: patienceMs };
}

/** Dials a server from each port of the burst, unless that is done already. */
function dialBurst(
  dialer: TcpDialer,
  ports: readonly number[],
  to: TransportAddress,
  server: number,
): void {
  for (const [index, port] of ports.entries()) {
    dialOnce(dialer, { socket: `burst ${index}`, server, test: "binding", to }, port);
  }
}

/** Dials all of these from the mapping port, but for those to which that is done already. */
function dialMapping(
  dialer: TcpDialer,
  localPort: number,
  destinations: readonly TransportAddress[],
  server?: number,
): void {
  for (const [index, to] of destinations.entries()) {
    dialOnce(
      dialer,
      { socket: "mapping", server: server ?? index, test: "binding", to },
      localPort,
    );
  }
}

function dialOnce(dialer: TcpDialer, spec: ProbeSpec, localPort: number): void {
  if (!dialer.probes.some((probe) => isSameProbe(probe, spec))) dialer.dial(spec, localPort);
}

/** The mapping port, and those of the burst: a row and others. */
async function freePorts(network: Network, ip: string): Promise<number[]> {
  const listen = (port: number) => network.listenTcp({ ip, port });
  const row = await openConsecutive(ROW, listen) ?? [];
  const listeners = [...row];
  try {
    for (let i = 0; i <= STRANGERS; i++) listeners.push(await listen(0));
    const ports = listeners.map(({ local }) => local.port);
    return [ports.pop()!, ...ports];
  } finally {
    for (const listener of listeners) listener.close();
  }
}

/** Longer than this behind twice the time of another, a server's answer is not waited for; ours. */
const MIN_PATIENCE_MS = 50;

/** Consecutive local ports in the burst, and others. */
const ROW = 4;
const STRANGERS = 3;
