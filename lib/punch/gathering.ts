/**
 * The base socket of a punch (RFC 8445 §5.1.1.1), and gathering what is known of the NAT in front of it: one TCP
 * connection to a STUN server keeps a mapping alive and shows the external address; a few more, each from a port of its
 * own, show how the NAT chooses external ports at the moment.
 *
 * @module
 */

import { TaskGroup } from "../base/tasks.ts";
import { Deadline } from "../base/timers.ts";
import type { FamilyReport } from "../nat/behavior.ts";
import { bindingReply, mappingSamples } from "../nat/probe.ts";
import { TcpDialer } from "../nat/tcp_dialer.ts";
import { type IpFamily, ipScope, type Nat64Prefix, type TransportAddress } from "../net/address.ts";
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
import { dependsOnDestination, type NatProfile, type PortPair } from "./nat_profile.ts";
import { isStale, MAX_CANDIDATES } from "./offer.ts";
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
  /** What a NAT test found over TCP: gathering has no time to learn filtering and resets. */
  readonly report?: Pick<FamilyReport, "mapping" | "filtering" | "unsolicitedSyn"> | null;
  /** Hosts to dial over IPv6, only to learn this host's address if its interfaces are not known. */
  readonly ipv6Hosts?: readonly NamedHost[];
  /** External addresses that a router forwards to the punch port. */
  readonly mapped?: readonly TransportAddress[];
  /** @ignore opens a base socket for UDP as well, which is gathered for at the same time. Default: none. */
  readonly openUdp?: (options: OpenUdpBaseSocketOptions) => Promise<UdpBaseSocket>;
  /** Aborts the gathering. */
  readonly signal?: AbortSignal;
}

/** A punch port that is ready for use, and the description of this side that goes with it. */
export class BaseSocket implements AsyncDisposable {
  readonly #options: OpenBaseSocketOptions;
  readonly #dialer: TcpDialer;
  readonly #udp: UdpGathering | undefined;
  readonly #mappings = new AsyncDisposableStack();
  readonly #openedAtMs = performance.now();
  readonly #closed = new AbortController(); // ends what goes on after open() has returned
  #nat64Prefixes: Promise<readonly Nat64Prefix[]> | undefined;
  #description: PunchDescription;
  #sampledAtMs = performance.now();
  #refreshes = 0;

  private constructor(
    options: OpenBaseSocketOptions,
    dialer: TcpDialer,
    udp: UdpGathering | undefined,
    description: PunchDescription,
  ) {
    this.#options = options;
    this.#dialer = dialer;
    this.#udp = udp;
    this.#description = description;
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
    try {
      const gathered = await gather(dialer, ports, options);
      const seen = [
        dialer.localIp ?? await localIpWithoutServers(network, signal),
        await ownIpv6.find(gathered.external === null),
      ];
      const seenIps = seen.filter((ip) => ip !== undefined);
      const candidates = await candidatesOf(ports, gathered, seenIps, options);
      await udp?.finish(hostIps({ candidates }), signal);
      const description = describe(ports, gathered, candidates, options);
      const base = new BaseSocket(options, dialer, udp, description);
      // A resolver takes a while: by the time that an offer arrives, it has answered.
      if (candidates.some(({ address }) => address.ip.includes(":"))) void base.nat64Prefixes();
      return base;
    } catch (error) {
      await dialer[Symbol.asyncDispose]();
      await udp?.[Symbol.asyncDispose]();
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
    for (const each of [tcp, udp]) if (each.status === "rejected") throw each.reason;
    return tcp.status === "fulfilled" && tcp.value;
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

  /** Closes the connections that keep the mapping alive; connections that were punched stay. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed.abort();
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

type GatherOptions = Pick<
  OpenBaseSocketOptions,
  "network" | "servers" | "family" | "report" | "signal"
>;

/** Asks the servers until enough is known, or no more answers are to be expected. */
async function gather(
  dialer: TcpDialer,
  ports: BasePorts,
  { network, servers, report, family, signal }: GatherOptions,
): Promise<Gathered> {
  const own = new OwnAddresses(network, ports.base);
  const reported = report?.mapping.behavior ?? "unknown";
  const limitMs = performance.now() + TIMEOUT_MS;
  let hasMorePorts = false;
  sample(dialer, servers[0], ports.burst);
  for (;;) {
    const { probes } = dialer;
    await own.check(mappingSamples(probes).map(({ mapped }) => mapped));
    const deadlineMs = Math.min(limitMs, dialer.deadlineMs);
    const { isOwn } = own;
    const step = nextGatheringStep(
      { servers, probes, isOwn, reported, hasMorePorts, deadlineMs },
      performance.now(),
    );
    if (step.isDone) return step.gathered;
    for (const spec of step.dials) dialer.dial(spec, ports.base);
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
  { mapping, allocation, external, samples }: Gathered,
  candidates: readonly Candidate[],
  { network, report }: OpenBaseSocketOptions,
): PunchDescription {
  const profile: NatProfile = {
    mapping,
    filtering: report?.filtering.behavior ?? "unknown",
    unsolicitedSyn: report?.unsolicitedSyn ?? "unknown",
    allocation: allocation.allocation,
    onlyForNeighbours: allocation.details.onlyForNeighbours,
    externalIp: external?.ip ?? null,
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

/** Each refresh opens some connections, which last as long as the base socket. Chosen by us: a few for each round. */
const MAX_REFRESHES = 8;
