/**
 * The base socket of a punch (RFC 8445 §5.1.1.1), and gathering what is known of the NAT in front of it: one TCP
 * connection to a STUN server keeps a mapping alive and shows the external address; a few more, each from a port of its
 * own, show how the NAT chooses external ports at the moment.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import { TaskGroup } from "../base/tasks.ts";
import { Deadline } from "../base/timers.ts";
import type { FamilyReport } from "../nat/behavior.ts";
import { bindingReply, mappingSamples } from "../nat/probe.ts";
import { TcpDialer } from "../nat/tcp_dialer.ts";
import {
  type IpFamily,
  ipFamily,
  ipScope,
  type Nat64Prefix,
  type TransportAddress,
} from "../net/address.ts";
import {
  discoverLocalIpv4,
  discoverNat64,
  LocalIpv6Search,
  type NamedHost,
  openConsecutive,
  OwnAddresses,
} from "../net/local_address.ts";
import type { Network, TcpListener } from "../net/network.ts";
import { type Candidate, hostIps, type PunchDescription } from "./candidates.ts";
import { answeredTogetherAtMs, type Gathered, nextGatheringStep } from "./gathering_plan.ts";
import type { InboundBehavior } from "../nat/inbound.ts";
import { dependsOnDestination, type NatProfile, type PortPair } from "./nat_profile.ts";
import { isStale, MAX_CANDIDATES, MAX_EXTERNAL_IPS } from "./offer.ts";
import type { OpenUdpBaseSocketOptions, UdpBaseSocket } from "./udp_base_socket.ts";
import { abortable } from "@std/async/abortable";

/** What a base socket needs. */
export interface OpenBaseSocketOptions {
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
  /** Hosts to dial over IPv6, only to learn this host's address if its interfaces are not known. */
  readonly ipv6Hosts?: readonly NamedHost[];
  /** External addresses that a router forwards to the punch port. */
  readonly mapped?: readonly TransportAddress[];
  /** @ignore opens a base socket for UDP as well, which is gathered for at the same time. Default: none. */
  readonly openUdp?: (options: OpenUdpBaseSocketOptions) => Promise<UdpBaseSocket>;
  /** Servers that may dial back to this host. Default: `servers`. */
  readonly dialBackServers?: readonly TransportAddress[];
  /** @ignore what was learned of networks before: for all base sockets of one program */
  readonly knownNetworks?: KnownNetworks;
  /** Aborts the gathering. */
  readonly signal?: AbortSignal;
}

/** What SYNs from outside get, by this host's address and its external one; `undefined` if no server dials back. */
export type KnownNetworks = Map<string, KnownNetwork>;

/** See {@linkcode KnownNetworks}. */
export interface KnownNetwork {
  readonly inbound: InboundBehavior | undefined;
  /** As {@linkcode NatProfile.sessionLimit}. */
  readonly sessionLimit?: number | undefined;
  /** By `performance.now()`. */
  readonly learnedAtMs: number;
}

/** A punch port that is ready for use, and the description of this side that goes with it. */
export class BaseSocket implements AsyncDisposable {
  readonly #options: OpenBaseSocketOptions;
  readonly #dialer: TcpDialer;
  readonly #udp: UdpGathering | undefined;
  readonly #mappings = new AsyncDisposableStack();
  readonly #openedAtMs = performance.now();
  readonly #closed: AbortController; // ends what goes on after open() has returned
  #nat64Prefixes: Promise<readonly Nat64Prefix[]> | undefined;
  #learning: Promise<unknown> | undefined;
  #description: PunchDescription;
  #sampledAtMs = performance.now();
  #refreshes = 0;

  private constructor(
    options: OpenBaseSocketOptions,
    dialer: TcpDialer,
    udp: UdpGathering | undefined,
    description: PunchDescription,
    closed: AbortController,
  ) {
    this.#options = options;
    this.#dialer = dialer;
    this.#udp = udp;
    this.#description = description;
    this.#closed = closed;
  }

  /**
   * Gathers the external address and how the NAT behaves. It takes two round trips to the servers, or four with only one
   * server. If no server answers, the base socket is ready anyway, with what this host knows about itself.
   *
   * @throws {NetworkError} `not-permitted`
   */
  static async open(options: OpenBaseSocketOptions): Promise<BaseSocket> {
    const { network, family, signal } = options;
    const ports = await freePorts(network, family);
    const dialer = new TcpDialer(network, family, () => performance.now(), {
      reusePort: network.canReusePort,
    });
    await using ownIpv6 = new LocalIpv6Search(network, options.ipv6Hosts, signal);
    const udp = options.openUdp === undefined ? undefined : new UdpGathering(options);
    const closed = new AbortController();
    // Which network this is shows only with the answers of servers: if none is known, it is a new one.
    let asked: Promise<Learned> | undefined;
    const onDialled = () => {
      if (!options.knownNetworks?.size) asked ??= askToDialBack(options, closed.signal);
    };
    try {
      const gathered = await gather(dialer, ports, { ...options, onDialled });
      const seen = [
        dialer.localIp ?? await localIpWithoutServers(network, signal),
        await ownIpv6.find(gathered.external === null),
      ];
      const seenIps = seen.filter((ip) => ip !== undefined);
      const candidates = await candidatesOf(ports, gathered, seenIps, options);
      await udp?.finish(hostIps({ candidates }), signal);
      const description = describe(ports, gathered, candidates, options);
      const base = new BaseSocket(options, dialer, udp, description, closed);
      base.#learn(gathered.external, asked);
      // A resolver takes a while: by the time that an offer arrives, it has answered.
      if (candidates.some(({ address }) => address.ip.includes(":"))) void base.nat64Prefixes();
      return base;
    } catch (error) {
      closed.abort();
      await Promise.all([
        asked,
        dialer[Symbol.asyncDispose](),
        udp?.[Symbol.asyncDispose](),
      ]);
      signal?.throwIfAborted();
      throw error;
    }
  }

  /** @ignore the base socket for UDP, if there is one and it is ready. */
  get udp(): UdpBaseSocket | undefined {
    return this.#udp?.socket;
  }

  /** What to send to the peer. */
  get description(): PunchDescription {
    return this.#description;
  }

  /** The NAT64 prefixes of this host's network, if its resolver tells them in time. */
  async nat64Prefixes(): Promise<readonly Nat64Prefix[]> {
    const { network } = this.#options;
    this.#nat64Prefixes ??= discoverNat64(network, { signal: this.#closed.signal });
    return await this.#nat64Prefixes;
  }

  /** Resolves once it is known what SYNs from outside get, or it will not be known; `false` if nothing has changed. */
  async learned(signal?: AbortSignal): Promise<boolean> {
    if (this.#learning === undefined || !this.#description.isLearning) return false;
    using deadline = new Deadline(LEARNING_MS, signal ?? this.#closed.signal);
    try {
      await abortable(this.#learning, deadline.signal);
    } catch (error) {
      if (error !== deadline.signal.reason) throw error;
      signal?.throwIfAborted();
    }
    this.#stopLearning(); // what is learned later is for the next base socket
    return true;
  }

  /**
   * Whether the NAT still opens sessions: if not, a server that has answered before cannot be reached from new ports. Several
   * SYNs must be lost for an error.
   */
  async hasRoom(): Promise<boolean> {
    const answered = this.#dialer.probes.find(({ reply }) => reply !== undefined);
    if (answered === undefined) return true;
    const { sentAtMs, reply, to } = answered;
    const timeoutMs = Math.max(MIN_ROOM_MS, 3 * (reply!.atMs - sentAtMs));
    for (let tries = 0; tries < ROOM_TRIES; tries++) {
      const dials = Array.from({ length: ROOM_TRIES }, () => this.#reaches(to, timeoutMs));
      if ((await Promise.all(dials)).includes(true) || this.#closed.signal.aborted) return true;
    }
    return false;
  }

  /** Remembers for the next punches from this network that its NAT is full after so many dials. */
  noteExhausted(dials: number): void {
    const { externalIp } = this.#description.profile;
    const { knownNetworks } = this.#options;
    if (externalIp === null || knownNetworks === undefined) return;
    const network = `${this.#dialer.localIp} ${externalIp}`;
    const known = knownNetworks.get(network);
    const sessionLimit = Math.min(dials, known?.sessionLimit ?? Infinity);
    remember(knownNetworks, network, {
      inbound: known?.inbound,
      learnedAtMs: known?.learnedAtMs ?? -Infinity,
      sessionLimit,
    });
  }

  async #reaches(to: TransportAddress, timeoutMs: number): Promise<boolean> {
    using deadline = new Deadline(timeoutMs, this.#closed.signal);
    try {
      const local = { ip: ipFamily(to.ip) === 4 ? "0.0.0.0" : "::", port: 0 };
      const { network } = this.#options;
      const connection = await network.connectTcp(to, { local, signal: deadline.signal });
      connection.reset();
      return true;
    } catch (error) {
      // A RST is an answer; an error of this host says nothing about the NAT.
      return error !== deadline.signal.reason;
    }
  }

  /** Whether a punch may fail for lack of a known address, so that a port that a router forwards would help. */
  get needsMapping(): boolean {
    const { profile } = this.#description;
    return dependsOnDestination(profile) || profile.externalIp === null;
  }

  /** How long ago the samples in the profile were taken, in milliseconds. */
  get sampleAgeMs(): number {
    return performance.now() - this.#sampledAtMs;
  }

  /**
   * Takes new samples if those in the profile are too old to predict from, which takes two round trips; resolves with
   * whether it did. It does so a few times at most, so that a peer cannot make this side flood the server.
   */
  async refresh(signal?: AbortSignal): Promise<boolean> {
    const [tcp, udp] = await Promise.allSettled([this.#refresh(signal), this.udp?.refresh(signal)]);
    if (tcp.status === "rejected") throw tcp.reason;
    signal?.throwIfAborted();
    // Without new samples for UDP there is still TCP.
    if (udp.status === "rejected" && !(udp.reason instanceof NetworkError)) throw udp.reason;
    return tcp.value;
  }

  async #refresh(signal?: AbortSignal): Promise<boolean> {
    const [server] = this.#options.servers;
    const isNeeded = isStale({ side: this.#description, sampleAgeMs: this.sampleAgeMs });
    if (server === undefined || !isNeeded || this.#refreshes >= MAX_REFRESHES) return false;
    this.#refreshes++;
    const options = { ...this.#options, signal: signal ?? this.#options.signal };
    const samples = await resample(this.#dialer, server, options);
    if (samples.length === 0) return false;
    this.#sampledAtMs = performance.now();
    const { profile } = this.#description;
    this.#description = { ...this.#description, profile: { ...profile, samples } };
    return true;
  }

  /**
   * This base socket or, if its mapping may be gone, a new one in its place: servers reset idle connections, and some
   * NATs end the mapping with them. A port that a router forwards must stay.
   *
   * @throws the signal's reason; this base socket is disposed of then
   */
  async renew(signal?: AbortSignal): Promise<BaseSocket> {
    const { servers } = this.#options;
    const isYoung = performance.now() - this.#openedAtMs < MAX_IDLE_MS;
    const isForwarded = this.#description.candidates.some(({ kind }) => kind === "mapped");
    if (isYoung || servers.length === 0 || isForwarded) return this;
    await this[Symbol.asyncDispose]();
    return await BaseSocket.open({ ...this.#options, signal: signal ?? this.#options.signal });
  }

  /** Keeps the NAT's mapping and its connection in use until the result is disposed of. */
  keepAlive(): Disposable {
    const { punchPort } = this.#description;
    const timer = setInterval(() => this.#dialer.keepAlive(punchPort), KEEP_ALIVE_MS);
    return { [Symbol.dispose]: () => clearInterval(timer) };
  }

  /**
   * Adds an external address that a router forwards to the punch port; the next offer names it.
   *
   * @param mapping taken over: it is disposed of together with the base socket
   */
  async addMapped(address: TransportAddress, mapping: AsyncDisposable): Promise<void> {
    if (this.#mappings.disposed) return await mapping[Symbol.asyncDispose]();
    this.#mappings.use(mapping);
    const mapped: Candidate = { kind: "mapped", address };
    const candidates = [mapped, ...this.#description.candidates].slice(0, MAX_CANDIDATES);
    this.#description = { ...this.#description, candidates };
  }

  /** Learns what SYNs from outside get, unless that is known. */
  #learn(external: TransportAddress | null, asked: Promise<Learned> | undefined): void {
    const { report, knownNetworks } = this.#options;
    this.#learning = asked;
    if (external === null) return;
    const network = `${this.#dialer.localIp} ${external.ip}`;
    const known = knownNetworks?.get(network);
    if (isReported(report)) return this.#describe({ ...known, inbound: undefined, learnedAtMs: 0 });
    if (known !== undefined && performance.now() - known.learnedAtMs < KNOWN_MS) {
      return this.#describe(known);
    }
    this.#description = { ...this.#description, isLearning: true };
    const learned = asked ?? askToDialBack(this.#options, this.#closed.signal);
    this.#learning = learned.then((inbound) => {
      if (inbound === "unknown") return this.#stopLearning();
      const { sessionLimit } = knownNetworks?.get(network) ?? {};
      const learned = { inbound, learnedAtMs: performance.now(), sessionLimit };
      if (knownNetworks !== undefined) remember(knownNetworks, network, learned);
      if (!this.#description.isLearning) return;
      this.#describe(learned);
      this.#stopLearning();
    });
  }

  #stopLearning(): void {
    const { isLearning: _, ...description } = this.#description;
    this.#description = description;
  }

  #describe({ inbound, sessionLimit }: KnownNetwork): void {
    const { profile } = this.#description;
    const limit = sessionLimit === undefined ? {} : { sessionLimit };
    this.#description = { ...this.#description, profile: { ...profile, ...limit } };
    if (inbound !== undefined) this.#describeInbound(inbound);
  }

  #describeInbound(inbound: InboundBehavior): void {
    const { profile } = this.#description;
    // The server dialled the address that it knew: if the mapping depends on the destination, its SYN crossed none.
    const { crossingSyn, ...rest } = inbound;
    const crossing = dependsOnDestination(profile) ? {} : { crossingSyn };
    this.#description = { ...this.#description, profile: { ...profile, ...rest, ...crossing } };
  }

  /** Closes the connections that keep the mapping alive; connections that were punched stay. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed.abort();
    await this.#learning;
    await this.#nat64Prefixes;
    await this.#mappings.disposeAsync();
    await this.#udp?.[Symbol.asyncDispose]();
    await this.#dialer[Symbol.asyncDispose]();
  }
}

/** Gathering for UDP, beside that for TCP. Without UDP there is still TCP. */
class UdpGathering implements AsyncDisposable {
  /** The base socket, once it is ready. */
  socket: UdpBaseSocket | undefined;
  readonly #hostIps = Promise.withResolvers<readonly string[]>();
  readonly #ready = Promise.withResolvers<void>();
  readonly #tasks = new TaskGroup(() => {}); // it is blocked, or not permitted

  constructor({ openUdp, network, servers }: OpenBaseSocketOptions) {
    this.#tasks.run(async (signal) => {
      try {
        const hostIps = this.#hostIps.promise;
        this.socket = await openUdp!({ network, servers, hostIps, signal });
      } finally {
        this.#ready.resolve();
      }
    });
  }

  /** Waits a little: servers that answer over TCP answer over UDP as fast, or never. */
  async finish(hostIps: readonly string[], signal: AbortSignal | undefined): Promise<void> {
    this.#hostIps.resolve(hostIps);
    using deadline = new Deadline(UDP_GRACE_MS, signal);
    try {
      await abortable(this.#ready.promise, deadline.signal);
    } catch (error) {
      signal?.throwIfAborted();
      if (error !== deadline.signal.reason) throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#hostIps.resolve([]);
    await this.#tasks.stop();
    await this.socket?.[Symbol.asyncDispose]();
  }
}

/** The ports of a base socket, all free when they were chosen. */
interface BasePorts {
  /** Dials the servers. */
  readonly base: number;
  /** Not used before the punch, for NATs that make a new mapping for each destination. */
  readonly fresh: number;
  /** Sample the NAT's allocation of ports. */
  readonly burst: readonly number[];
}

type GatherOptions =
  & Pick<OpenBaseSocketOptions, "network" | "servers" | "family" | "report" | "signal">
  /** Called once the base port is in use, so that the system gives it to no other connection. */
  & { readonly onDialled?: () => void };

/** Asks the servers until enough is known, or no more answers are to be expected. */
async function gather(
  dialer: TcpDialer,
  ports: BasePorts,
  { network, servers, report, family, signal, onDialled }: GatherOptions,
): Promise<Gathered> {
  const own = new OwnAddresses(network, ports.base);
  const reported = report?.mapping.behavior ?? "unknown";
  const limitMs = performance.now() + TIMEOUT_MS;
  let hasMorePorts = false;
  sample(dialer, servers[0], ports.burst);
  for (;;) {
    const { probes } = dialer;
    const seen = mappingSamples(probes).map(({ mapped }) => mapped);
    if (seen.length > 0) await own.check(seen); // the base port is dialled before another socket can get it
    const deadlineMs = Math.min(limitMs, dialer.deadlineMs);
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

/** New mappings of new ports, oldest first. */
async function resample(
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

/** A base port, one that is left alone, and for the burst a run of consecutive ports and some scattered ones. */
async function freePorts(network: Network, family: IpFamily): Promise<BasePorts> {
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

function describe(
  ports: BasePorts,
  { mapping, allocation, external, externalIps, samples }: Gathered,
  candidates: readonly Candidate[],
  { network, report }: OpenBaseSocketOptions,
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

/**
 * If the mapping depends on the destination, the mapping for the server is of no use to the peer, and would be in the
 * way of another one from the same port.
 */
function punchPortOf(ports: BasePorts, profile: Pick<NatProfile, "mapping">): number {
  return dependsOnDestination(profile) ? ports.fresh : ports.base;
}

async function candidatesOf(
  ports: BasePorts,
  { mapping, external }: Gathered,
  seenIps: readonly string[],
  { network, mapped = [] }: OpenBaseSocketOptions,
): Promise<Candidate[]> {
  const port = punchPortOf(ports, { mapping });
  const interfaces = (await network.localAddresses())?.map(({ ip }) => ip).filter(isUsable);
  const ownIps = new Set(interfaces ?? seenIps);
  const isReflexive = external !== null && !dependsOnDestination({ mapping });
  const reflexive: Candidate[] = isReflexive ? [{ kind: "reflexive", address: external }] : [];
  return [
    ...mapped.map((address): Candidate => ({ kind: "mapped", address })),
    ...reflexive,
    ...Array.from(ownIps, (ip): Candidate => ({ kind: "host", address: { ip, port } })),
  ].slice(0, MAX_CANDIDATES);
}

/** Peers in one LAN find each other without the internet too. */
async function localIpWithoutServers(
  network: Network,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  if (await network.localAddresses() !== undefined) return undefined; // nothing to find out
  return await discoverLocalIpv4(network, { signal });
}

/** Link-local addresses mean nothing without a zone of the peer's. */
function isUsable(ip: string): boolean {
  return !["loopback", "link-local", "unspecified", "multicast"].includes(ipScope(ip));
}

/** What SYNs from outside get, `undefined` if no server dials back, or `"unknown"` if that could not be found out. */
type Learned = InboundBehavior | undefined | "unknown";

/** A server that lies, or a NAT with a pool, names another network each time: the oldest is forgotten. */
function remember(networks: KnownNetworks, network: string, known: KnownNetwork): void {
  networks.delete(network); // the latest is the last
  networks.set(network, known);
  const [oldest] = networks.keys();
  if (networks.size > MAX_NETWORKS) networks.delete(oldest!);
}

/** Never rejects. */
async function askToDialBack(
  { network, servers, dialBackServers = servers, report }: OpenBaseSocketOptions,
  signal: AbortSignal,
): Promise<Learned> {
  if (isReported(report) || servers.length === 0 || dialBackServers.length === 0) return "unknown";
  try {
    const { learnInbound } = await import("../nat/inbound.ts");
    return await learnInbound(network, dialBackServers, signal);
  } catch {
    return "unknown"; // aborted, or not permitted
  }
}

/** Whether a NAT test has found out about filters. */
function isReported(report: OpenBaseSocketOptions["report"]): boolean {
  return report != null && report.filtering.behavior !== "unknown";
}

/** How long to wait for servers. Chosen by us: three SYNs of the system, and an answer. */
const TIMEOUT_MS = 3500;

/** Once the NAT's pattern is known, the latest ports show where it stands. Chosen by us. */
const ENOUGH_SAMPLES = 3;

/** Consecutive and scattered local ports in the burst: with the base port, enough to distinguish all patterns. */
const ROW = 4;
const SCATTERED = 2;

/** Chosen by us, beside two round trips to the servers, which both take: time for a request that was lost. */
const UDP_GRACE_MS = 200;

/** Chosen by us: less than the 30 s after which our own server resets an idle connection. */
const MAX_IDLE_MS = 25_000;

/** Chosen by us: half of those 30 s. */
const KEEP_ALIVE_MS = 15_000;

/** How long an offer waits for what SYNs from outside get. Chosen by us: two dials of a server over a slow link. */
const LEARNING_MS = 1500;

/** Chosen by us: more than a laptop sees in the hour for which they count. */
const MAX_NETWORKS = 64;

/** How long that holds for a network. Chosen by us: NATs rarely change, and servers are not ours to bother. */
const KNOWN_MS = 3_600_000;

/** Chosen by us: at 10 % loss each way, four SYNs are lost once in 800 times. */
const ROOM_TRIES = 2;

/** How long a server may take to answer then. Chosen by us. */
const MIN_ROOM_MS = 250;

/** Each refresh opens some connections, which last as long as the base socket. Chosen by us: a few for each round. */
const MAX_REFRESHES = 8;
