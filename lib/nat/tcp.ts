/**
 * Runs a TCP NAT test over one IP family: mapping and allocation through STUN over TCP, filtering through the
 * TCP filter test of our own server.
 *
 * TCP retransmits by itself, so there is no plan to carry out here: all dials go at once, those to the alternate
 * address as soon as it is known, and the test is over when what they tell suffices.
 *
 * @module
 */

import {
  MalformedMessageError,
  NetworkError,
  NoResponseError,
  RefusedError,
} from "../base/errors.ts";
import { formatTransportAddress, type IpFamily, type TransportAddress } from "../net/address.ts";
import { openConsecutive, OwnAddresses } from "../net/local_address.ts";
import type { Network, TcpConnection } from "../net/network.ts";
import { type TcpFilterReport, testTcpFilter } from "../stun/tcp_filter/client.ts";
import { type AllocationVerdict, classifyAllocation, isPattern } from "./allocation.ts";
import { type BehaviorVerdict, unknown } from "./behavior.ts";
import { classifyMapping } from "./mapping.ts";
import {
  alternatesOf,
  firstErrorCode,
  isFickle,
  isSameProbe,
  learnServer,
  mappingSamples,
  Pace,
  portSamples,
  type Probe,
  type ProbeSpec,
  type ServerKnowledge,
} from "./probe.ts";
import { type DialFault, TcpDialer } from "./tcp_dialer.ts";
import { classifyTcpFiltering, type TcpFiltering } from "./tcp_filtering.ts";

/**
 * Dials the external address of a local port and listens there. A refusal is the NAT's "no"; silence proves
 * nothing, because a filter may be as silent.
 *
 * @param signal ends the wait
 */
export async function hairpinsTcp(
  network: Network,
  local: TransportAddress,
  external: TransportAddress,
  signal: AbortSignal,
): Promise<boolean | "unknown"> {
  try {
    using listener = await network.listenTcp(local);
    using dialled = await network.connectTcp(external, { signal });
    // Something else may answer at the external address, such as the router's own pages.
    using accepted = await listener.accept({ signal });
    const isOurs = await closedOnAbort(accepted, signal, async () => {
      await dialled.write(GREETING);
      const received = new Uint8Array(1);
      return await accepted.read(received) === 1 && received[0] === GREETING[0];
    });
    return isOurs ? true : "unknown";
  } catch (error) {
    if (signal.aborted) return "unknown";
    if (error instanceof NetworkError) return error.reason === "refused" ? false : "unknown";
    throw error;
  }
}

/** Whoever dialled may say nothing for ever; nothing but its end wakes who reads from a connection. */
async function closedOnAbort<T>(
  connection: TcpConnection,
  signal: AbortSignal,
  job: () => Promise<T>,
): Promise<T> {
  const close = () => connection.close();
  signal.addEventListener("abort", close, { once: true });
  try {
    signal.throwIfAborted();
    return await job();
  } finally {
    signal.removeEventListener("abort", close);
  }
}

const GREETING = new Uint8Array([0x50]);

/** Starts each test once, and ends them all when time is over or it is disposed. */
export class SideTests implements AsyncDisposable {
  readonly #network: Network;
  readonly #end = new AbortController();
  readonly #timer: ReturnType<typeof setTimeout>;
  readonly #signal: AbortSignal;
  /** By server, in the order of their start. */
  readonly #filterTests = new Map<string, Promise<FilterOutcome[]>>();
  #hairpinTest: Promise<boolean | "unknown"> | undefined;

  /** @param timeoutMs from now on, for all tests */
  constructor(network: Network, timeoutMs: number, signal?: AbortSignal) {
    this.#network = network;
    this.#timer = setTimeout(() => this.#end.abort(), timeoutMs);
    this.#signal = signal === undefined
      ? this.#end.signal
      : AbortSignal.any([this.#end.signal, signal]);
  }

  /** Whether the hairpin test has taken its port for listening. */
  get isListening(): boolean {
    return this.#hairpinTest !== undefined;
  }

  /** Asks a server to dial back, to two ports at once. */
  testFilter(server: TransportAddress): void {
    const name = formatTransportAddress(server);
    if (this.#filterTests.has(name)) return;
    const ask = () => askToDialBack(this.#network, server, this.#signal);
    this.#filterTests.set(name, this.#settled(Promise.all(Array.from({ length: PORTS }, ask))));
  }

  /** Tests whether a local port can be dialled by its external address. */
  testHairpin(local: TransportAddress, external: TransportAddress): void {
    this.#hairpinTest ??= this.#settled(
      hairpinsTcp(this.#network, local, external, this.#signal),
    );
  }

  /** What the first server to know the filter test found, waited for; else why there is no verdict. */
  async filtering(options: { isTranslated: boolean }): Promise<TcpFiltering> {
    let first: TcpFiltering | undefined;
    for (const test of this.#filterTests.values()) {
      const found = verdictOf(await test, options);
      if (found.filtering.behavior !== "unknown" || found.unsolicitedSyn !== "unknown") {
        return found;
      }
      first ??= found;
    }
    return first ?? verdictOf([{ reason: NO_SERVER }], options);
  }

  /** What the hairpin test has found by now. */
  async hairpinning(): Promise<boolean | "unknown"> {
    this.#stop();
    return await this.#hairpinTest ?? "unknown";
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop();
    await Promise.allSettled([...this.#filterTests.values(), this.#hairpinTest]);
  }

  #stop(): void {
    clearTimeout(this.#timer);
    this.#end.abort();
  }

  /** A failure belongs to who waits for the test, and must not end the program before. */
  #settled<T>(test: Promise<T>): Promise<T> {
    test.catch(() => {});
    return test;
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
    if (signal.aborted) return { reason: "the TCP filter test did not end in time" };
    const isExpected = error instanceof NetworkError || error instanceof NoResponseError ||
      error instanceof RefusedError || error instanceof MalformedMessageError;
    if (!isExpected) throw error;
    return { reason: error.message };
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

/** Each port gets three SYNs from either origin: at 10 % loss each way all six are lost once in 20,000 tests. */
const PORTS = 2;

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
    await own.check(samples.map(({ mapped }) => mapped));
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
    const limitMs = Math.min(timeoutMs, Math.max(dialer.deadlineMs, burst.changesAtMs));
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
  const timeoutMs = Math.min(...replies) * 2 + MIN_PATIENCE_MS;
  return nowMs >= timeoutMs
    ? { index: lead.index, changesAtMs: -Infinity }
    : { index: 0, changesAtMs: timeoutMs };
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
