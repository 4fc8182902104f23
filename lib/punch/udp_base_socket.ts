/**
 * The base socket of a punch by UDP (RFC 8445 §5.1.1.1): one socket asks STUN servers, carries the connectivity checks, and
 * then the path, because a NAT's mapping belongs to a socket. A few more sockets, each for one datagram, show how the NAT
 * chooses external ports at the moment.
 *
 * @module
 */

import { toHex } from "../base/bytes.ts";
import { NetworkError, undefinedIfMalformed } from "../base/errors.ts";
import { TaskGroup } from "../base/tasks.ts";
import { WakeableDelay } from "../base/timers.ts";
import type { Behavior, FamilyReport } from "../nat/behavior.ts";
import type { ChangeOutcome, ChangeTest } from "../nat/filtering.ts";
import { mappingSamples, type OpenProbe, type Probe, type ProbeSpec } from "../nat/probe.ts";
import { encodeProbe, readReply } from "../nat/probe_message.ts";
import { assessServer } from "../nat/servers.ts";
import { ipFamily, ipScope, type TransportAddress } from "../net/address.ts";
import { openConsecutive, OwnAddresses } from "../net/local_address.ts";
import type { Network, UdpSocket } from "../net/network.ts";
import { decodeMessage } from "../stun/message.ts";
import { UdpDemultiplexer } from "../udp/demultiplexer.ts";
import type { Candidate, PunchDescription } from "./candidates.ts";
import { type Gathered, nextGatheringStep } from "./gathering_plan.ts";
import { dependsOnDestination } from "./nat_profile.ts";
import { isStale, MAX_UDP_CANDIDATES, MAX_UDP_SAMPLES } from "./offer.ts";
import { delay } from "@std/async/delay";

/** What a base socket needs. */
export interface OpenUdpBaseSocketOptions {
  readonly network: Network;
  /** STUN servers, best first. */
  readonly servers: readonly TransportAddress[];
  /** What a NAT test found over UDP; without it a server is asked to answer from elsewhere, if there is one that can. */
  readonly report?: Pick<FamilyReport, "mapping" | "filtering"> | null;
  /** The addresses of this host's interfaces, once they are known. */
  readonly hostIps: Promise<readonly string[]>;
  /** Called with each answer of a server: UDP is not blocked here. */
  readonly onAnswer?: () => void;
  /** Called once everything is known that servers tell. */
  readonly onGathered?: () => void;
  readonly signal?: AbortSignal;
}

/** A UDP punch port that is ready for use, and the description of this side that goes with it. */
export class UdpBaseSocket implements AsyncDisposable {
  readonly #options: OpenUdpBaseSocketOptions;
  readonly #sockets: readonly UdpDemultiplexer[];
  readonly #mappings = new AsyncDisposableStack();
  #description: PunchDescription;
  #sampledAtMs = performance.now();
  #refreshes = 0;
  /** The owner, and the searches and the path that use the sockets. */
  #holders = 1;
  #isDisposed = false;
  readonly #tasks = new TaskGroup(() => {}); // no socket for a test: filtering stays unknown
  /** Those for whom the mapping is kept in use. */
  #keepers = 0;
  #keepAliveTimer: ReturnType<typeof setInterval> | undefined;

  private constructor(
    options: OpenUdpBaseSocketOptions,
    sockets: readonly UdpDemultiplexer[],
    description: PunchDescription,
  ) {
    this.#options = options;
    this.#sockets = sockets;
    this.#description = description;
  }

  /**
   * Gathers the external address and how the NAT behaves, in a round trip to the servers or two.
   *
   * @throws {NetworkError} if no socket can be opened
   * @throws the signal's reason on abort
   */
  static async open(options: OpenUdpBaseSocketOptions): Promise<UdpBaseSocket> {
    const { network, servers, report, onAnswer, onGathered, signal } = options;
    using opened = new DisposableStack();
    const base = opened.use(new UdpDemultiplexer(await bind(network, 0)));
    await using prober = new StunProber(network, PATIENT_WAITS_MS, onAnswer);
    prober.add(BASE, base.stun);
    const gathered = await gather(prober, base.local.port, { network, servers, report, signal });
    onGathered?.();
    const hostIps = await options.hostIps;
    signal?.throwIfAborted();
    // The mapping for the server would be in the way of another one from the same port.
    const main = dependsOnDestination(gathered)
      ? opened.use(new UdpDemultiplexer(await bind(network, 0)))
      : base;
    const v6 = await bindIpv6(network, main.local.port, hostIps);
    if (v6 !== undefined) opened.use(v6.socket);
    if (main !== base) base.close();
    const description = describe(gathered, main.local.port, report, [
      ...hostIps.filter((ip) => ipFamily(ip) === 4),
      ...(v6 === undefined ? [] : [v6.ip]),
    ]);
    opened.move();
    const sockets = v6 === undefined ? [main] : [main, v6.socket];
    const udp = new UdpBaseSocket(options, sockets, description);
    udp.#learnFiltering(prober.probes);
    return udp;
  }

  /** What to send to the peer. */
  get description(): PunchDescription {
    return this.#description;
  }

  /** The sockets of the punch port: IPv4 and, if this host has a public address, IPv6. */
  get sockets(): readonly UdpDemultiplexer[] {
    return this.#sockets;
  }

  /** Whether a punch may fail for lack of a known address, so that a port that a router forwards would help. */
  get needsMapping(): boolean {
    const { profile } = this.#description;
    return dependsOnDestination(profile) || profile.externalIp === null;
  }

  /** Keeps the sockets open until the result is disposed of, even after the base socket is. */
  hold(): Disposable {
    this.#holders++;
    let isHeld = true;
    return {
      [Symbol.dispose]: () => {
        if (isHeld) this.#release();
        isHeld = false;
      },
    };
  }

  /** Takes new samples if those in the profile are too old to predict from; a few times at most. */
  async refresh(signal?: AbortSignal): Promise<void> {
    const { network, servers: [server] } = this.#options;
    const sampleAgeMs = performance.now() - this.#sampledAtMs;
    const isNeeded = isStale({ side: this.#description, sampleAgeMs });
    if (server === undefined || !isNeeded || this.#refreshes >= MAX_REFRESHES) return;
    this.#refreshes++;
    await using prober = new StunProber(network, WAITS_MS);
    await sample(prober, server, SAMPLES);
    while (prober.deadlineMs > performance.now()) await prober.wait(prober.deadlineMs, signal);
    const samples = samplesOf(prober.probes);
    if (samples.length === 0) return;
    this.#sampledAtMs = performance.now();
    const { profile } = this.#description;
    this.#description = { ...this.#description, profile: { ...profile, samples } };
  }

  /** Keeps the NAT's mapping, which the description names, in use until the result is disposed of. */
  keepAlive(): Disposable {
    const { servers: [server] } = this.#options;
    const isMapped = this.#description.candidates.some(({ kind }) => kind === "reflexive");
    if (server === undefined || !isMapped) return new DisposableStack();
    const { stun } = this.#sockets[0]!;
    const send = () => {
      const transactionId = crypto.getRandomValues(new Uint8Array(12));
      const spec = { socket: BASE, server: 0, test: "binding", to: server } as const;
      const request = encodeProbe(spec, transactionId, { isRfc3489: false });
      stun.send(request, server).catch(() => {}); // as good as lost: the next one follows
    };
    if (this.#keepers++ === 0) {
      send();
      this.#keepAliveTimer = setInterval(send, KEEP_ALIVE_MS);
    }
    const stack = new DisposableStack();
    stack.defer(() => {
      if (--this.#keepers === 0) clearInterval(this.#keepAliveTimer);
    });
    return stack;
  }

  /**
   * Adds an external address that a router forwards to the punch port.
   *
   * @param mapping taken over: it is disposed of together with the base socket
   */
  async addMapped(address: TransportAddress, mapping: AsyncDisposable): Promise<void> {
    if (this.#mappings.disposed) return await mapping[Symbol.asyncDispose]();
    this.#mappings.use(mapping);
    const mapped: Candidate = { kind: "mapped", address };
    const candidates = [mapped, ...this.#description.candidates].slice(0, MAX_UDP_CANDIDATES);
    this.#description = { ...this.#description, candidates };
  }

  /**
   * Learns whether the NAT lets others in than those whom a socket has sent to, with answers from addresses that were never
   * contacted. The description has it a round trip after this; where no answer comes, it stays unknown.
   */
  #learnFiltering(probes: readonly Probe[]): void {
    const { network, servers, report } = this.#options;
    const known = report?.filtering.behavior ?? "unknown";
    const server = servers.map((primary) => assessServer(primary, probes))
      .find(({ alternate }) => alternate !== undefined);
    // Another port would be in the way of the prediction of ports, and helps little there.
    if (
      known !== "unknown" || server === undefined || dependsOnDestination(this.#description.profile)
    ) {
      return;
    }
    this.#tasks.run(async (signal) => {
      const { changeOutcome } = await import("../nat/filtering.ts"); // few connections wait for it
      const outcomeOf = (test: ChangeTest) =>
        changeOutcome(test, server, prober.probes, { nowMs: 0, timeoutMs: 0 });
      await using prober = new StunProber(network, WAITS_MS);
      const [socket] = await prober.openFresh(1);
      for (const test of CHANGE_TESTS) {
        prober.ask({ socket: socket!, server: 0, test, to: server.primary });
      }
      while (prober.deadlineMs > performance.now()) {
        await prober.wait(prober.deadlineMs, signal);
        const filtering = filteringOf(outcomeOf);
        const { profile } = this.#description;
        this.#description = { ...this.#description, profile: { ...profile, filtering } };
        if (filtering === "endpoint-independent") return;
      }
    });
  }

  /** Closes the sockets as soon as no search and no path uses them. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    await this.#tasks.stop();
    this.#release();
    await this.#mappings.disposeAsync();
  }

  #release(): void {
    if (--this.#holders > 0) return;
    for (const socket of this.#sockets) socket.close();
  }
}

/** Opens a UDP socket for a punch: datagrams of a path are no longer than this. */
export function bind(network: Network, port: number, ip = "0.0.0.0"): Promise<UdpSocket> {
  return network.bindUdp({ ip, port }, { maxDatagramBytes: MAX_DATAGRAM_BYTES });
}

/** Asks the servers until enough is known, or no more answers are to be expected. */
async function gather(
  prober: StunProber,
  basePort: number,
  { network, servers, report, signal }: Pick<
    OpenUdpBaseSocketOptions,
    "network" | "servers" | "report" | "signal"
  >,
): Promise<Gathered> {
  const own = new OwnAddresses(network, basePort);
  const startedAtMs = performance.now();
  const [server] = servers;
  let hasMorePorts = false;
  const ask = (spec: ProbeSpec) => prober.ask(spec);
  if (server !== undefined) {
    ask({ socket: BASE, server: 0, test: "binding", to: server });
    await sample(prober, server, SAMPLES);
  }
  for (;;) {
    const { probes } = prober;
    await own.check(mappingSamples(probes).map(({ mapped }) => mapped));
    const answeredMs = prober.answeredAtMs() - startedAtMs;
    // Without the address of the punch port there is no punch: that one is waited for longer than the others.
    const seenMs = Math.min(prober.answeredAtMs(BASE) - startedAtMs, PATIENCE_MS);
    const repeatsMs = Math.max(REPEATS_MS, 2 * answeredMs);
    const limitMs = Math.min(TIMEOUT_MS, Math.max(answeredMs, seenMs) + repeatsMs);
    const step = nextGatheringStep({
      servers,
      probes,
      isOwn: own.isOwn,
      reported: report?.mapping.behavior ?? "unknown",
      hasMorePorts,
      deadlineMs: Math.min(startedAtMs + limitMs, prober.deadlineMs),
    }, performance.now());
    if (step.isDone) return step.gathered;
    for (const spec of step.dials) ask(spec);
    if (step.needsMorePorts && server !== undefined) {
      hasMorePorts = true;
      await sample(prober, server, MORE_SAMPLES);
    } else if (step.dials.length === 0) await prober.wait(step.wakeAtMs, signal);
  }
}

/** Asks a server from fresh ports, some of them consecutive. */
async function sample(prober: StunProber, to: TransportAddress, count: number): Promise<void> {
  for (const socket of await prober.openFresh(count)) {
    prober.ask({ socket, server: 0, test: "binding", to });
  }
}

function samplesOf(probes: readonly Probe[]) {
  return probes.flatMap(({ localPort, reply }) =>
    reply?.kind === "success" ? [{ localPort, externalPort: reply.mapped.port }] : []
  ).slice(-MAX_UDP_SAMPLES);
}

/** STUN requests over UDP from several sockets, and their answers as probes. */
class StunProber implements AsyncDisposable {
  readonly #network: Network;
  readonly #onAnswer: () => void;
  readonly #waitsMs: readonly number[];
  readonly #answerMs: number;
  readonly #sockets = new Map<string, UdpSocket>();
  /** The sockets that it has opened itself. */
  readonly #fresh = new DisposableStack();
  readonly #probes: OpenProbe[] = [];
  /** By transaction ID. */
  readonly #open = new Map<string, OpenProbe>();
  readonly #delay = new WakeableDelay();
  readonly #tasks = new TaskGroup(() => {}); // a socket that is closed or refused: no answer is recorded

  /** @param waitsMs how long to wait for an answer after each try */
  constructor(network: Network, waitsMs: readonly number[], onAnswer: () => void = () => {}) {
    this.#network = network;
    this.#onAnswer = onAnswer;
    this.#waitsMs = waitsMs;
    this.#answerMs = waitsMs.reduce((sum, waitMs) => sum + waitMs, 0);
  }

  /** All probes so far, in the order in which they were sent. */
  get probes(): readonly Probe[] {
    return this.#probes;
  }

  /** When the first answer arrived, at this socket or any; `Infinity` before. */
  answeredAtMs(at?: string): number {
    const probes = this.#probes.filter(({ socket }) => at === undefined || socket === at);
    return Math.min(...probes.map(({ reply }) => reply?.atMs ?? Infinity));
  }

  /** How long answers are worth waiting for. */
  get deadlineMs(): number {
    return Math.max(
      ...Array.from(this.#open.values(), ({ sentAtMs }) => sentAtMs + this.#answerMs),
    );
  }

  /** Asks from this socket, too. */
  add(name: string, socket: UdpSocket): void {
    this.#sockets.set(name, socket);
    this.#tasks.run((signal) => this.#receive(name, socket, signal));
  }

  /** Opens sockets, and returns their names. If one cannot be opened, the others are closed with the prober. */
  async openFresh(count: number): Promise<string[]> {
    const open = (port: number) => bind(this.#network, port);
    const row = await openConsecutive(Math.min(count, ROW), open) ?? [];
    const names = row.map((socket) => this.#addFresh(socket));
    while (names.length < count) names.push(this.#addFresh(await open(0)));
    return names;
  }

  #addFresh(socket: UdpSocket): string {
    const name = `burst ${this.#sockets.size}`;
    this.add(name, this.#fresh.use(socket));
    return name;
  }

  /** Sends a request, and repeats it until it is answered. */
  ask(spec: ProbeSpec): void {
    const socket = this.#sockets.get(spec.socket)!;
    const transactionId = crypto.getRandomValues(new Uint8Array(12));
    const probe: OpenProbe = {
      ...spec,
      localPort: socket.local.port,
      sentAtMs: performance.now(),
    };
    this.#probes.push(probe);
    this.#open.set(toHex(transactionId), probe);
    const request = encodeProbe(spec, transactionId, { isRfc3489: false });
    this.#tasks.run(async (signal) => {
      for (const waitMs of this.#waitsMs) {
        await socket.send(request, spec.to);
        await delay(waitMs, { signal });
        if (probe.reply !== undefined) return;
      }
      this.#open.delete(toHex(transactionId));
      this.#delay.wake();
    });
  }

  /** Waits for an answer, or until `atMs`. */
  async wait(atMs: number, signal?: AbortSignal): Promise<void> {
    await this.#delay.wait(atMs - performance.now(), signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tasks.stop();
    this.#fresh.dispose();
  }

  async #receive(name: string, socket: UdpSocket, signal: AbortSignal): Promise<void> {
    for (;;) {
      const { data, from } = await socket.receive({ signal });
      const message = undefinedIfMalformed(() => decodeMessage(data));
      if (message === undefined) continue;
      const id = toHex(message.transactionId);
      const probe = this.#open.get(id);
      if (probe === undefined || probe.socket !== name) continue;
      const reply = readReply(message, from, performance.now());
      if (reply === undefined) continue;
      probe.reply = reply;
      this.#open.delete(id);
      this.#onAnswer();
      this.#delay.wake();
    }
  }
}

/** What the answers to a fresh socket, which has sent to the primary address alone, say about filtering. */
function filteringOf(outcomeOf: (test: ChangeTest) => ChangeOutcome): Behavior {
  if (outcomeOf("change-address-and-port").kind === "answered") return "endpoint-independent";
  return outcomeOf("change-port").kind === "answered" ? "address-dependent" : "unknown";
}

/** A socket on a public IPv6 address of this host; `undefined` if it has none, or the port is taken there. */
async function bindIpv6(
  network: Network,
  port: number,
  hostIps: readonly string[],
): Promise<{ readonly ip: string; readonly socket: UdpDemultiplexer } | undefined> {
  const ip = hostIps.find((each) =>
    ipFamily(each) === 6 && ["global", "documentation"].includes(ipScope(each))
  );
  if (ip === undefined) return undefined;
  try {
    return { ip, socket: new UdpDemultiplexer(await bind(network, port, ip)) };
  } catch (error) {
    if (error instanceof NetworkError) return undefined;
    throw error;
  }
}

function describe(
  { mapping, allocation, external, samples }: Gathered,
  punchPort: number,
  report: OpenUdpBaseSocketOptions["report"],
  hostIps: readonly string[],
): PunchDescription {
  const isReflexive = external !== null && !dependsOnDestination({ mapping });
  const reflexive: Candidate[] = isReflexive ? [{ kind: "reflexive", address: external }] : [];
  const hosts = hostIps.map((ip): Candidate => ({
    kind: "host",
    address: { ip, port: punchPort },
  }));
  return {
    profile: {
      mapping,
      filtering: report?.filtering.behavior ?? "unknown",
      unsolicitedSyn: "dropped", // datagrams are not reset
      allocation: allocation.allocation,
      onlyForNeighbours: allocation.details.onlyForNeighbours,
      externalIp: external?.ip ?? null,
      samples: samples.slice(-MAX_UDP_SAMPLES),
    },
    candidates: [...reflexive, ...hosts].slice(0, MAX_UDP_CANDIDATES),
    punchPort,
    canListenBeside: true,
  };
}

/** The socket whose mapping is classified. */
const BASE = "mapping";

/** Answers from another address, and from another port of the same one. */
const CHANGE_TESTS: readonly ChangeTest[] = ["change-address-and-port", "change-port"];

/** Fresh ports that show how the NAT chooses ports, the first of them consecutive. Chosen by us, as for TCP. */
const SAMPLES = 6;
const MORE_SAMPLES = 2;
const ROW = 4;

/** After each try of a request. Chosen by us: a server is rarely farther than the first two. See {@linkcode REPEATS_MS}. */
const WAITS_MS: readonly number[] = [100, 150, 150, 150, 200, 250];

/** The same for what the punch depends on: an answer to any try counts, however long it takes. See {@linkcode TIMEOUT_MS}. */
const PATIENT_WAITS_MS: readonly number[] = [...WAITS_MS, 500, 1000, 1000];

/**
 * The same once one has arrived, or twice as long as that took. Chosen by us: at a loss of 5 % each way, all tries within it
 * are lost once in 100,000 times.
 */
const REPEATS_MS = 600;

/**
 * How long gathering waits for the first answer at the punch port before it counts {@linkcode REPEATS_MS}. Chosen by us:
 * together they allow for an answer that is a second late.
 */
const PATIENCE_MS = 650;

/** How long to wait for servers. Chosen by us, as for TCP, which does not wait for what is blocked. */
const TIMEOUT_MS = 3500;

/** As for TCP. */
const MAX_REFRESHES = 8;

/** Chosen by us: half of the 30 s after which many NATs drop a mapping; RFC 4787 REQ-5 requires two minutes. */
const KEEP_ALIVE_MS = 15_000;

/** More than any datagram of a path. */
const MAX_DATAGRAM_BYTES = 2048;
