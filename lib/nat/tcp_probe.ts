/**
 * Runs a TCP NAT test over one IP family: mapping and allocation through STUN over TCP, filtering through the
 * TCP filter test of our own server.
 *
 * TCP retransmits by itself, so there is no plan to carry out here: all dials go at once, those to the alternate
 * address as soon as it is known, and the test is over when what they tell suffices.
 *
 * @module
 */

import { MalformedMessageError, NetworkError, NoResponseError, RefusedError } from "../errors.ts";
import { type IpFamily, sameTransportAddress, type TransportAddress } from "../net/address.ts";
import type { Network } from "../net/network.ts";
import { testTcpFilter } from "../stun/tcp_filter.ts";
import { type AllocationVerdict, classifyAllocation } from "./allocation.ts";
import { type BehaviorVerdict, unknown } from "./behavior.ts";
import { openConsecutive } from "./local_ports.ts";
import { classifyMapping } from "./mapping.ts";
import { OwnAddresses } from "./own_addresses.ts";
import { Pace } from "./pace.ts";
import { mappingSamples, portSamples, type Probe } from "./probe.ts";
import { alternatesOf, learnServer, type ServerKnowledge } from "./server_knowledge.ts";
import { type DialFault, TcpDialer } from "./tcp_dialer.ts";
import { classifyTcpFiltering, type TcpFiltering } from "./tcp_filtering.ts";
import { hairpinsTcp } from "./tcp_hairpin.ts";

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
  readonly rttMs: number | null;
  readonly elapsedMs: number;
  readonly connections: number;
}

/**
 * Runs the test.
 *
 * @throws {NetworkError} `not-permitted`
 */
export async function probeTcp(options: ProbeTcpOptions): Promise<TcpResult> {
  const { network, family, servers, timeoutMs, signal } = options;
  const startedAt = performance.now();
  const now = () => performance.now() - startedAt;
  using deadline = new Deadline(timeoutMs, signal);
  const anyAddress = family === 4 ? "0.0.0.0" : "::";
  const ports = await freePorts(network, anyAddress);
  const localPort = ports[0]!;
  const own = new OwnAddresses(network, localPort);
  await using dialer = new TcpDialer(network, family, now);
  for (const [index, port] of ports.slice(1).entries()) {
    dialer.dial({ socket: `burst ${index}`, server: 0, test: "binding", to: servers[0]! }, port);
  }
  dialMapping(dialer, localPort, servers);

  let filterTest: Promise<FilterOutcome> | undefined;
  let hairpinTest: Promise<boolean | "unknown"> | undefined;
  for (;;) {
    const samples = mappingSamples(dialer.probes);
    await own.learn(samples.map(({ mapped }) => mapped));
    const lead = leadOf(servers, dialer.probes);
    if (lead !== undefined) {
      dialMapping(dialer, localPort, alternatesOf(lead.knowledge), lead.index);
      filterTest ??= testFilter(network, lead.knowledge.primary, deadline.signal);
    }
    const external = samples[0]?.mapped;
    const mapping = classifyMapping(samples, own.isOwn);
    // Only now: once somebody listens on the port, nothing can be dialled from it any more.
    if (external !== undefined && mapping.behavior !== "unknown") {
      const local = { ip: anyAddress, port: localPort };
      hairpinTest ??= hairpinsTcp(network, local, external, deadline.signal);
    }
    const allocation = classifyAllocation(portSamples(dialer.probes, servers[0]!));
    const isDecided = mapping.behavior !== "unknown" && allocation.allocation.kind !== "unknown";
    const limitMs = lead === undefined ? Math.min(SILENCE_MS, timeoutMs) : timeoutMs;
    if (!isDecided && !dialer.isIdle && now() < limitMs) {
      await dialer.wait(limitMs, signal);
      continue;
    }

    const filter = await filterTest ?? NO_SERVER;
    const elapsedMs = now();
    deadline.end(); // the hairpin test has had all the time that there was
    return {
      mapping,
      allocation,
      ...filterVerdict(filter, { isTranslated: mapping.behavior !== "none" }),
      hairpinning: await hairpinTest ?? "unknown",
      server: lead?.knowledge.primary ?? null,
      external: external ?? null,
      local: dialer.localIp === undefined ? null : { ip: dialer.localIp, port: localPort },
      isOwnAddress: external !== undefined && own.isOwn(external),
      faults: lead?.faults ?? [],
      dialFaults: dialer.faults,
      rttMs: lead === undefined
        ? null
        : new Pace(dialer.probes, 0).roundTripsMs(lead.index)[0] ?? null,
      elapsedMs,
      connections: dialer.probes.length,
    };
  }
}

/** A timeout that the test can end early, so that no timer outlives it. */
class Deadline implements Disposable {
  readonly #controller = new AbortController();
  readonly #timer: ReturnType<typeof setTimeout>;
  readonly signal: AbortSignal;

  constructor(timeoutMs: number, signal?: AbortSignal) {
    this.#timer = setTimeout(() => this.end(), timeoutMs);
    this.signal = AbortSignal.any([this.#controller.signal, ...signal ? [signal] : []]);
  }

  end(): void {
    clearTimeout(this.#timer);
    this.#controller.abort();
  }

  [Symbol.dispose](): void {
    this.end();
  }
}

interface Lead {
  readonly index: number;
  readonly knowledge: ServerKnowledge;
  readonly faults: readonly string[];
}

/** The first server to answer that has a second address; without one, the first to answer. */
function leadOf(servers: readonly TransportAddress[], probes: readonly Probe[]): Lead | undefined {
  const answered = servers
    .map((primary, index) => ({ index, knowledge: learnServer(primary, probes) }))
    .filter(({ knowledge }) => knowledge.answered);
  const lead = answered.find(({ knowledge }) => knowledge.alternate !== undefined) ?? answered[0];
  return lead && { ...lead, faults: answered.flatMap(({ knowledge }) => knowledge.fault ?? []) };
}

/** Dials from the mapping port to all of these that were not dialled yet. */
function dialMapping(
  dialer: TcpDialer,
  localPort: number,
  destinations: readonly TransportAddress[],
  server?: number,
): void {
  for (const [index, to] of destinations.entries()) {
    const isDialled = dialer.probes.some((probe) =>
      probe.socket === "mapping" && sameTransportAddress(probe.to, to)
    );
    if (isDialled) continue;
    dialer.dial({ socket: "mapping", server: server ?? index, test: "binding", to }, localPort);
  }
}

/** The mapping port, and those of the burst: a row and others. */
async function freePorts(network: Network, ip: string): Promise<number[]> {
  const listen = (port: number) => network.listenTcp({ ip, port });
  const row = await openConsecutive(ROW, listen) ?? [];
  const strangers = await Promise.all(Array.from({ length: STRANGERS + 1 }, () => listen(0)));
  const listeners = [strangers.pop()!, ...row, ...strangers];
  const ports = listeners.map(({ local }) => local.port);
  for (const listener of listeners) listener.close();
  return ports;
}

type FilterOutcome = Awaited<ReturnType<typeof testTcpFilter>> | { readonly reason: string };

async function testFilter(
  network: Network,
  server: TransportAddress,
  signal: AbortSignal,
): Promise<FilterOutcome> {
  try {
    return await testTcpFilter(network, server, { signal });
  } catch (error) {
    if (signal.aborted) return { reason: "the TCP filter test did not end in time" };
    const isExpected = error instanceof NetworkError || error instanceof NoResponseError ||
      error instanceof RefusedError || error instanceof MalformedMessageError;
    if (!isExpected) throw error;
    return { reason: error.message };
  }
}

function filterVerdict(outcome: FilterOutcome, options: { isTranslated: boolean }): TcpFiltering {
  if ("reason" in outcome) return { filtering: unknown(outcome.reason), unsolicitedSyn: "unknown" };
  return classifyTcpFiltering(outcome, options);
}

const NO_SERVER: FilterOutcome = { reason: "no server answered over TCP" };

/** After so long without any answer there is none to be expected; ours, just behind the system's third SYN. */
const SILENCE_MS = 3200;

/** Consecutive local ports in the burst, and others. */
const ROW = 4;
const STRANGERS = 3;
