/**
 * Runs a TCP NAT test over one IP family: mapping and allocation with STUN over TCP, filtering with the TCP filter test
 * of this library's own STUN server, and hairpinning.
 *
 * TCP retransmits by itself, so there is no plan to carry out. All dials start at once, those to the alternate address as
 * soon as it is known, and the test ends when the answers suffice.
 *
 * @module
 */

import { PunchlineError } from "../base/errors.ts";
import { optionalResolvers, TaskGroup } from "../base/tasks.ts";
import { Deadline } from "../base/timers.ts";
import {
  formatTransportAddress,
  type IpFamily,
  sameTransportAddress,
  type TransportAddress,
} from "../net/address.ts";
import { openConsecutive, OwnAddresses } from "../net/local_address.ts";
import type { Network } from "../net/network.ts";
import { type TcpFilterReport, testTcpFilter } from "../stun/tcp_filter/client.ts";
import { testTcpCrossing } from "../stun/tcp_filter/crossing.ts";
import { type AllocationVerdict, classifyAllocation, isPattern } from "./allocation.ts";
import { type BehaviorVerdict, unknown, type UnsolicitedSyn } from "./behavior.ts";
import { hairpinsTcp, mayHairpin } from "./hairpinning.ts";
import { classifyMapping } from "./mapping.ts";
import {
  externalIpsOf,
  firstErrorCode,
  isSameProbe,
  mappingSamples,
  portSamples,
  type Probe,
  type ProbeSpec,
  RetransmissionTiming,
} from "./probe.ts";
import { alternatesOf, assessServer, isInconsistent, type ServerAssessment } from "./servers.ts";
import { type DialFault, TcpDialer } from "./tcp_dialer.ts";
import { classifyTcpFiltering, type TcpFiltering } from "./tcp_filtering.ts";
import { abortable } from "@std/async/abortable";

/** How to run the test. */
export interface ProbeTcpOptions {
  readonly network: Network;
  readonly family: IpFamily;
  /** Primary addresses of STUN servers, best first; at least one. */
  readonly servers: readonly TransportAddress[];
  readonly timeoutMs: number;
  /** Called with each success response of a server. */
  readonly onAnswer?: () => void;
  /** Called with the local address of each connection that is established. */
  readonly onLocalIp?: (ip: string) => void;
  readonly signal?: AbortSignal;
}

/** The result of the test. */
export interface TcpResult extends TcpFiltering {
  readonly mapping: BehaviorVerdict;
  readonly allocation: AllocationVerdict;
  readonly hairpinning: boolean | "unknown";
  readonly crossingSyn: UnsolicitedSyn;
  /** The server that the verdict is based on; `null` if none answered. */
  readonly server: TransportAddress | null;
  readonly external: TransportAddress | null;
  readonly externalIps: readonly string[];
  readonly local: TransportAddress | null;
  readonly isOwnAddress: boolean;
  /** Why servers were disregarded. */
  readonly faults: readonly string[];
  /** Why dials gave no answer. */
  readonly dialFaults: readonly DialFault[];
  /** The code of the first error response. */
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
  await using inbound = new InboundTests(network, timeoutMs, signal);
  const { onAnswer, onLocalIp } = options;
  await using dialer = new TcpDialer(network, family, now, { onAnswer, onLocalIp });
  dialBurst(dialer, ports.slice(1), servers[0]!, 0);
  dialMapping(dialer, localPort, servers);
  // Most servers that serve TCP can dial back too: not waiting for their first answers saves two round trips.
  for (const server of servers.slice(0, SERVERS_AT_ONCE)) inbound.testFilter(server);
  inbound.testCrossing(servers[0]!);

  for (;;) {
    const samples = mappingSamples(dialer.probes)
      .filter(({ to }) => !isInconsistent(to, dialer.probes));
    await own.check(samples.map(({ mapped }) => mapped));
    const ranked = rankServers(servers, dialer.probes);
    const [selected] = ranked;
    const burst = burstServer(selected, dialer.probes, now());
    if (burst.index > 0) dialBurst(dialer, ports.slice(1), servers[burst.index]!, burst.index);
    // Once the port is listened on, it cannot be dialled from any more.
    if (selected !== undefined && !inbound.isListening) {
      dialMapping(dialer, localPort, alternatesOf(selected.assessment), selected.index);
    }
    const dialsBack = ranked.filter(({ assessment }) => assessment.alternate !== undefined)
      .map(({ assessment }) => assessment.primary);
    for (const server of dialsBack) inbound.testFilter(server);
    const external = (samples.find(({ to }) =>
      selected && sameTransportAddress(to, selected.assessment.primary)
    ) ?? samples[0])?.mapped;
    const hairpinned = samples.find(({ mapped, to }) =>
      mayHairpin(mapped, to)
    )?.mapped;
    const mapping = classifyMapping(samples, own.isOwn);
    if (selected?.assessment.alternate) inbound.testCrossing(selected.assessment.primary);
    if (hairpinned !== undefined && mapping.behavior !== "unknown") {
      inbound.testHairpin({ ip: anyAddress, port: localPort }, hairpinned);
    }
    const burstTo = servers[burst.index]!;
    const allocation = classifyAllocation(
      isInconsistent(burstTo, dialer.probes) ? [] : portSamples(dialer.probes, burstTo),
    );
    const isDecided = mapping.behavior !== "unknown" && isPattern(allocation.allocation);
    const limitMs = Math.min(timeoutMs, Math.max(dialer.deadlineMs, burst.changesAtMs));
    if (!isDecided && now() < limitMs) {
      const wakeAtMs = burst.changesAtMs > now() ? burst.changesAtMs : Infinity;
      await dialer.wait(Math.min(limitMs, wakeAtMs), signal);
      continue;
    }

    const isTranslated = mapping.behavior !== "none";
    const filtering = await inbound.filtering(dialsBack, { isTranslated });
    signal?.throwIfAborted();
    const elapsedMs = now();
    return {
      mapping,
      allocation,
      ...filtering,
      // If the mapping depends on the destination, the server has dialled another address than this host dialled from.
      crossingSyn: isConsistent(mapping) && dialsBack.length > 0
        ? await inbound.crossingSyn(dialsBack[0]!)
        : "unknown",
      hairpinning: await inbound.hairpinning(),
      server: selected?.assessment.primary ?? null,
      external: external ?? null,
      externalIps: externalIpsOf(
        dialer.probes.filter(({ to }) => !isInconsistent(to, dialer.probes)),
      ),
      local: dialer.localIp === undefined ? null : { ip: dialer.localIp, port: localPort },
      isOwnAddress: external !== undefined && own.isOwn(external),
      faults: ranked.flatMap(({ assessment }) => assessment.fault ?? []),
      dialFaults: dialer.faults,
      errorCode: firstErrorCode(dialer.probes),
      rttMs: selected === undefined
        ? null
        : new RetransmissionTiming(dialer.probes, 0).roundTripsMs(selected.index)[0] ?? null,
      elapsedMs,
      connections: dialer.probes.length,
    };
  }
}

function isConsistent({ behavior }: BehaviorVerdict): boolean {
  return behavior === "endpoint-independent" || behavior === "none";
}

interface RankedServer {
  readonly index: number;
  readonly assessment: ServerAssessment;
}

/** The servers that answered, those with an alternate address first. The verdict is based on the first one. */
function rankServers(
  servers: readonly TransportAddress[],
  probes: readonly Probe[],
): RankedServer[] {
  const answered = servers
    .map((primary, index) => ({ index, assessment: assessServer(primary, probes) }))
    .filter(({ assessment }) => assessment.answered);
  const hasAlternate = ({ assessment }: RankedServer) => assessment.alternate !== undefined;
  return [
    ...answered.filter(hasAlternate),
    ...answered.filter((server) => !hasAlternate(server)),
  ];
}

/**
 * The burst's server, and when that may change. It is the first in the list, unless another server answered long before
 * it.
 */
function burstServer(
  selected: RankedServer | undefined,
  probes: readonly Probe[],
  nowMs: number,
): { index: number; changesAtMs: number } {
  const isFirstAlive = probes.some(({ server, reply }) => server === 0 && reply !== undefined);
  if (selected === undefined || isFirstAlive) return { index: 0, changesAtMs: -Infinity };
  const replies = probes.flatMap(({ server, reply }) =>
    server === selected.index && reply !== undefined ? [reply.atMs] : []
  );
  const timeoutMs = Math.min(...replies) * 2 + MIN_TIMEOUT_MS;
  return nowMs >= timeoutMs
    ? { index: selected.index, changesAtMs: -Infinity }
    : { index: 0, changesAtMs: timeoutMs };
}

/** Dials a server from each port of the burst that has not dialled it yet. */
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

/** Dials each destination from the mapping port that was not dialled yet. */
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

/** The mapping port, then the ports of the burst: some consecutive, some not. */
async function freePorts(network: Network, ip: string): Promise<number[]> {
  const listen = (port: number) => network.listenTcp({ ip, port });
  const consecutive = await openConsecutive(CONSECUTIVE_PORTS, listen) ?? [];
  const listeners = [...consecutive];
  try {
    for (let i = 0; i <= ISOLATED_PORTS; i++) listeners.push(await listen(0));
    const ports = listeners.map(({ local }) => local.port);
    return [ports.pop()!, ...ports];
  } finally {
    for (const listener of listeners) listener.close();
  }
}

/** The tests of inbound connections, filtering and hairpinning, which run while the dials do. Each starts only once. */
class InboundTests implements AsyncDisposable {
  readonly #network: Network;
  /** Ends all tests. */
  readonly #deadline: Deadline;
  readonly #tasks: TaskGroup;
  /** By server, in the order they were started. */
  readonly #filterTests = new Map<string, Promise<FilterOutcome[]>>();
  #hairpinTest: Promise<boolean | "unknown"> | undefined;
  /** By `performance.now()`. */
  #hairpinEndsAtMs = 0;
  /** By server. */
  readonly #crossingTests = new Map<string, Promise<UnsolicitedSyn>>();

  /** @param timeoutMs from now, for all tests */
  constructor(network: Network, timeoutMs: number, signal?: AbortSignal) {
    this.#network = network;
    this.#tasks = new TaskGroup((error) => {
      throw error; // never happens: each job's result settles its promise
    });
    this.#deadline = new Deadline(
      timeoutMs,
      signal === undefined ? this.#tasks.signal : AbortSignal.any([this.#tasks.signal, signal]),
    );
  }

  /** Whether the hairpinning test listens on the mapping port. */
  get isListening(): boolean {
    return this.#hairpinTest !== undefined;
  }

  /** Asks a server to dial back, to two ports at the same time. */
  testFilter(server: TransportAddress): void {
    const name = formatTransportAddress(server);
    if (this.#filterTests.has(name)) return;
    const ask = () => askToDialBack(this.#network, server, this.#deadline.signal);
    const asked = () => Promise.all(Array.from({ length: FILTER_TEST_PORTS }, ask));
    this.#filterTests.set(name, this.#start(asked));
  }

  /** Tests whether a local port can be reached at its external address. */
  testHairpin(local: TransportAddress, external: TransportAddress): void {
    if (this.#hairpinTest !== undefined) return;
    this.#hairpinEndsAtMs = performance.now() + HAIRPIN_MS;
    this.#hairpinTest = this.#start(() =>
      hairpinsTcp(this.#network, local, external, this.#deadline.signal)
    );
  }

  /** Asks a server to dial this host while this host dials it. Each server is asked once. */
  testCrossing(server: TransportAddress): void {
    const name = formatTransportAddress(server);
    if (this.#crossingTests.has(name)) return;
    const cross = () => crossWith(this.#network, server, this.#deadline.signal);
    this.#crossingTests.set(name, this.#start(cross));
  }

  /** What a SYN that crosses one of this host's gets, as far as a server's test has shown in time. */
  async crossingSyn(server: TransportAddress): Promise<UnsolicitedSyn> {
    return await this.#crossingTests.get(formatTransportAddress(server)) ?? "unknown";
  }

  /** Waits for the first of the servers that supports the filter test; if none does, the reason of the first one. */
  async filtering(
    servers: readonly TransportAddress[],
    options: { isTranslated: boolean },
  ): Promise<TcpFiltering> {
    let first: TcpFiltering | undefined;
    for (const server of servers) {
      const found = verdictOf(
        await this.#filterTests.get(formatTransportAddress(server))!,
        options,
      );
      if (found.filtering.behavior !== "unknown" || found.unsolicitedSyn !== "unknown") {
        return found;
      }
      first ??= found;
    }
    return first ?? verdictOf([{ reason: NO_SERVER }], options);
  }

  /** Waits a moment for the hairpinning test, and ends all tests. */
  async hairpinning(): Promise<boolean | "unknown"> {
    if (this.#hairpinTest === undefined) return "unknown";
    using patience = new Deadline(Math.max(0, this.#hairpinEndsAtMs - performance.now()));
    try {
      await abortable(this.#hairpinTest, patience.signal);
    } catch (error) {
      if (error !== patience.signal.reason) throw error;
    }
    await this.#tasks.stop();
    return await this.#hairpinTest;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tasks.stop();
    this.#deadline[Symbol.dispose]();
  }

  /** Starts a test. If it fails, the failure goes to the caller that waits for its result, if any. */
  #start<T>(test: () => Promise<T>): Promise<T> {
    const { promise, resolve, reject } = optionalResolvers<T>();
    this.#tasks.run(() => test().then(resolve, reject));
    return promise;
  }
}

type FilterOutcome = TcpFilterReport | { readonly reason: string };

async function askToDialBack(
  network: Network,
  server: TransportAddress,
  signal: AbortSignal,
): Promise<FilterOutcome> {
  try {
    return await testTcpFilter(network, server, { signal });
  } catch (error) {
    if (signal.aborted) return { reason: "the TCP filter test timed out" };
    if (error instanceof PunchlineError) return { reason: error.message };
    throw error;
  }
}

async function crossWith(
  network: Network,
  server: TransportAddress,
  signal: AbortSignal,
): Promise<UnsolicitedSyn> {
  try {
    return (await testTcpCrossing(network, server, { signal })).crossingSyn;
  } catch (error) {
    if (signal.aborted || error instanceof PunchlineError) return "unknown";
    throw error;
  }
}

function verdictOf(
  outcomes: readonly FilterOutcome[],
  options: { isTranslated: boolean },
): TcpFiltering {
  const reports = outcomes.flatMap((outcome) => "reason" in outcome ? [] : [outcome]);
  if (reports.length > 0) return classifyTcpFiltering(reports, options);
  const reasons = outcomes.flatMap((outcome) => "reason" in outcome ? [outcome.reason] : []);
  return { filtering: unknown(...new Set(reasons)), unsolicitedSyn: "unknown" };
}

const NO_SERVER = "no server with two addresses answered over TCP";

/** Each port gets three SYNs from each origin: at 10 % loss each way, all six are lost once in 20,000 tests. */
const FILTER_TEST_PORTS = 2;

/** Chosen by us: the NAT is nearer than any server; packets that come back do so in a few milliseconds. */
const HAIRPIN_MS = 30;

/** Chosen by us: a server may take this much longer than twice the time that another one took. */
const MIN_TIMEOUT_MS = 50;

/** Chosen by us: as many servers are asked to dial back before any has answered, in case one is down. */
const SERVERS_AT_ONCE = 2;

/** How many ports of the burst are consecutive, and how many are not. */
const CONSECUTIVE_PORTS = 4;
const ISOLATED_PORTS = 3;
