/**
 * The punch port, and what is known of the NAT in front of it: a TCP connection to a STUN server keeps a mapping
 * alive and tells the external address; a few more, from ports of their own, show how the NAT chooses external ports
 * just now.
 *
 * @module
 */

import { type AllocationVerdict, classifyAllocation } from "../nat/allocation.ts";
import type { Behavior, FamilyReport } from "../nat/behavior.ts";
import { classifyMapping, differsByDestination } from "../nat/mapping.ts";
import {
  bindingReply,
  type MappingSample,
  mappingSamples,
  portSamples,
  type Probe,
  type ProbeSpec,
} from "../nat/probe.ts";
import { alternatesOf, assessServer } from "../nat/servers.ts";
import { TcpDialer } from "../nat/tcp_dialer.ts";
import { type IpFamily, ipScope, type TransportAddress } from "../net/address.ts";
import {
  findLocalIp,
  type NamedHost,
  openConsecutive,
  OwnAddresses,
  OwnIpv6,
} from "../net/local_address.ts";
import type { Network, TcpListener } from "../net/network.ts";
import type { Candidate, NatProfile, PortPair, PunchDescription } from "./candidates.ts";
import { dependsOnDestination } from "./nat_profile.ts";
import { isStale } from "./offer.ts";

/** What learning needs. */
export interface LearnOptions {
  readonly network: Network;
  /** Best first. */
  readonly servers: readonly TransportAddress[];
  /** Of the servers. */
  readonly family: IpFamily;
  /** What a NAT test found. */
  readonly report?: Pick<FamilyReport, "mapping"> | null;
  readonly signal?: AbortSignal;
}

/** What servers tell of the NAT. */
export interface Learned {
  readonly mapping: Behavior;
  readonly allocation: AllocationVerdict;
  readonly external: TransportAddress | null;
  readonly samples: readonly PortPair[];
}

/** The ports of an anchor, all free when they were chosen. */
export interface BasePorts {
  /** Dials the servers. */
  readonly base: number;
  /** Is not dialled from before the punch, for NATs on which each dial costs a mapping. */
  readonly fresh: number;
  readonly burst: readonly number[];
}

/** Asks the servers until enough is known, or nothing more will be. */
export async function learn(
  dialer: TcpDialer,
  ports: BasePorts,
  { network, servers, report, family, signal }: LearnOptions,
): Promise<Learned> {
  const own = new OwnAddresses(network, ports.base);
  const limitMs = performance.now() + TIMEOUT_MS;
  const reported = report?.mapping.behavior ?? "unknown";
  let hasMoreDials = false;
  const [first] = servers;
  if (first !== undefined) {
    for (const [index, port] of ports.burst.entries()) {
      dialer.dial({ socket: `burst ${index}`, server: 0, test: "binding", to: first }, port);
    }
  }
  const dialled = new Set<string>();
  const dialBase = (to: TransportAddress, server: number) => {
    if (dialled.has(`${to.ip} ${to.port}`)) return;
    dialled.add(`${to.ip} ${to.port}`);
    const spec: ProbeSpec = { socket: "mapping", server, test: "binding", to };
    dialer.dial(spec, ports.base);
  };
  for (const [index, to] of servers.entries()) dialBase(to, index);

  for (;;) {
    const samples = mappingSamples(dialer.probes);
    await own.learn(samples.map(({ mapped }) => mapped));
    const seen = mappingOf(samples, own);
    if (seen === "unknown") {
      for (const [index, primary] of servers.entries()) {
        const [alternate] = alternatesOf(assessServer(primary, dialer.probes));
        if (alternate !== undefined) dialBase(alternate, index);
      }
    }
    const pairs = first === undefined ? [] : portSamples(dialer.probes, first);
    const allocation = classifyAllocation(pairs);
    // What was asked together is answered together: what is missing then was lost, and takes a second or more.
    const togetherAtMs = answeredTogetherAtMs(dialer.probes);
    const isLate = togetherAtMs <= performance.now();
    const mapping = seen === "unknown" && isLate && samples.length > 0 ? reported : seen;
    const needsPorts = mapping === "unknown" || dependsOnDestination({ mapping });
    const isKnown = mapping !== "unknown" &&
      (!needsPorts || allocation.allocation.kind !== "unknown");
    if (isLate && needsPorts && first !== undefined && !hasMoreDials) {
      hasMoreDials = true;
      const { burst } = await freePorts(network, family);
      for (const [index, port] of burst.slice(-STRANGERS).entries()) {
        const spec = { socket: `burst ${ports.burst.length + index}`, server: 0, to: first };
        dialer.dial({ ...spec, test: "binding" }, port);
      }
    }
    const deadlineMs = Math.min(limitMs, dialer.deadlineMs);
    if (isKnown || deadlineMs <= performance.now()) {
      return {
        mapping: mapping === "unknown" ? reported : mapping,
        allocation,
        external: samples[0]?.mapped ?? null,
        samples: pairs.flatMap(({ localPort, externalPort }) =>
          externalPort === null ? [] : [{ localPort, externalPort }]
        ),
      };
    }
    await dialer.wait(isLate ? deadlineMs : Math.min(deadlineMs, togetherAtMs), signal);
  }
}

/** When whatever was asked together with what is answered already should be answered, too. */
function answeredTogetherAtMs(probes: readonly Probe[]): number {
  const times = probes.flatMap(({ sentAtMs, reply }) => {
    return reply ? [reply.atMs + Math.max(MIN_GRACE_MS, (reply.atMs - sentAtMs) / 2)] : [];
  });
  return Math.min(...times);
}

/** New mappings on new ports, oldest first. */
export async function resample(
  dialer: TcpDialer,
  server: TransportAddress,
  { network, family, signal }: LearnOptions,
): Promise<PortPair[]> {
  const { burst } = await freePorts(network, family);
  const before = dialer.probes.length;
  for (const [index, port] of burst.entries()) {
    const socket = `resample ${before + index}`;
    dialer.dial({ socket, server: 0, test: "binding", to: server }, port);
  }
  const limitMs = performance.now() + TIMEOUT_MS;
  const mine = () => dialer.probes.slice(before, before + burst.length);
  while (mine().some(({ reply }) => reply === undefined)) {
    const isEnough = mine().filter(({ reply }) => reply !== undefined).length >= ENOUGH_SAMPLES;
    const lateAtMs = isEnough ? answeredTogetherAtMs(mine()) : Infinity;
    const deadlineMs = Math.min(limitMs, dialer.deadlineMs, lateAtMs);
    if (deadlineMs <= performance.now()) break;
    await dialer.wait(deadlineMs, signal);
  }
  return mine().flatMap((probe) => {
    const reply = bindingReply(probe);
    return reply ? [{ localPort: probe.localPort, externalPort: reply.mapped.port }] : [];
  });
}

/** Two servers tell whether the destination matters; whether its port does makes no difference to a punch. */
function mappingOf(samples: readonly MappingSample[], own: OwnAddresses): Behavior {
  const { behavior } = classifyMapping(samples, own.isOwn);
  const isKnown = behavior !== "unknown" || !differsByDestination(samples);
  return isKnown ? behavior : "address-and-port-dependent";
}

/** A port for the anchor, one that is left alone, and for the burst a row and others. */
export async function freePorts(network: Network, family: IpFamily): Promise<BasePorts> {
  const ip = family === 4 ? "0.0.0.0" : "::";
  using listeners = new DisposableStack();
  const listen = async (port: number) => listeners.use(await network.listenTcp({ ip, port }));
  const row = await openConsecutive(ROW, listen) ?? [];
  const [base, fresh] = [await listen(0), await listen(0)];
  const strangers: TcpListener[] = [];
  while (strangers.length < STRANGERS) strangers.push(await listen(0));
  return {
    base: base.local.port,
    fresh: fresh.local.port,
    burst: [...row, ...strangers].map(({ local }) => local.port),
  };
}

/** How long servers are waited for; ours: three SYNs of the system, and an answer. */
const TIMEOUT_MS = 3500;

/** Ours: what answers that were sent together may be apart, at least; else half a round trip. */
const MIN_GRACE_MS = 20;

/** With the NAT's habit known, the last ports tell where it stands; ours. */
const ENOUGH_SAMPLES = 3;

/** Consecutive local ports in the burst, and others: with the anchor's, enough to tell every pattern. */
const ROW = 4;
const STRANGERS = 2;

/** What an anchor needs. */
export interface OpenBaseSocketOptions {
  /** Whose sockets to use. */
  readonly network: Network;
  /** STUN servers that speak TCP, best first; none for a punch without a NAT, such as within a LAN. */
  readonly servers: readonly TransportAddress[];
  /** Of the servers. */
  readonly family: IpFamily;
  /** What a NAT test found over TCP: filtering and resets take too long to be learned here. */
  readonly report?: Pick<FamilyReport, "mapping" | "filtering" | "unsolicitedSyn"> | null;
  /** Who is dialled over IPv6, only to learn this host's address where its interfaces are not known. */
  readonly ipv6Hosts?: readonly NamedHost[];
  /** External addresses that a router forwards to the punch port. */
  readonly mapped?: readonly TransportAddress[];
  /** Ends it. */
  readonly signal?: AbortSignal;
}

/** A punch port that is ready for use. */
export class BaseSocket implements AsyncDisposable {
  readonly #options: OpenBaseSocketOptions;
  readonly #dialer: TcpDialer;
  #side: PunchDescription;
  #learnedAtMs = performance.now();
  #refreshes = 0;
  readonly #mappings = new AsyncDisposableStack();
  readonly #openedAtMs = performance.now();

  private constructor(options: OpenBaseSocketOptions, dialer: TcpDialer, side: PunchDescription) {
    this.#options = options;
    this.#dialer = dialer;
    this.#side = side;
  }

  /** What to tell the peer. */
  get side(): PunchDescription {
    return this.#side;
  }

  /**
   * Learns the external address and the NAT's habits; takes two round trips to the servers, four if there is only one
   * of them. Without any answer it is ready all the same, with what this host knows of itself.
   *
   * @throws {NetworkError} `not-permitted`
   */
  static async open(options: OpenBaseSocketOptions): Promise<BaseSocket> {
    const { network, family, signal } = options;
    const ports = await freePorts(network, family);
    const dialer = new TcpDialer(network, family, () => performance.now(), {
      reusePort: network.canReusePort,
    });
    await using ownIpv6 = new OwnIpv6(network, options.ipv6Hosts, signal);
    try {
      const learned = await learn(dialer, ports, options);
      const seen = [
        dialer.localIp ?? await localIpWithoutServers(network, signal),
        await ownIpv6.find(learned.external === null),
      ];
      const seenIps = seen.filter((ip) => ip !== undefined);
      const candidates = await candidatesOf(ports, learned, seenIps, options);
      return new BaseSocket(options, dialer, describe(ports, learned, candidates, options));
    } catch (error) {
      await dialer[Symbol.asyncDispose]();
      signal?.throwIfAborted();
      throw error;
    }
  }

  /** How long ago the samples in the profile were taken. */
  get sampleAgeMs(): number {
    return performance.now() - this.#learnedAtMs;
  }

  /**
   * Takes new samples, if those in the profile are too old to go by; whether it did. Takes two round trips then. It
   * does so {@linkcode MAX_REFRESHES} times at most: a peer that never has enough shall not make us bother the server.
   */
  async refresh(signal?: AbortSignal): Promise<boolean> {
    const [server] = this.#options.servers;
    if (server === undefined || !isStale(this) || this.#refreshes >= MAX_REFRESHES) return false;
    this.#refreshes++;
    const samples = await resample(this.#dialer, server, {
      ...this.#options,
      ...signal && { signal },
    });
    if (samples.length === 0) return false;
    this.#learnedAtMs = performance.now();
    this.#side = { ...this.#side, profile: { ...this.#side.profile, samples } };
    return true;
  }

  /**
   * This one or, if its mapping may be gone, another in its place: servers reset connections that say nothing, and some
   * NATs end the mapping with them. A port that a router forwards has to stay.
   *
   * @throws the signal's reason; this one is disposed of then
   */
  async renew(signal?: AbortSignal): Promise<BaseSocket> {
    const { servers } = this.#options;
    const isYoung = performance.now() - this.#openedAtMs < MAX_IDLE_MS;
    const isForwarded = this.#side.candidates.some(({ kind }) => kind === "mapped");
    if (isYoung || servers.length === 0 || isForwarded) return this;
    await this[Symbol.asyncDispose]();
    return await BaseSocket.open({ ...this.#options, ...signal && { signal } });
  }

  /** Keeps the NAT's mapping, and the connection that it is for, in use until it is disposed of. */
  keepAlive(): Disposable {
    const timer = setInterval(() => this.#dialer.keepAlive(this.#side.punchPort), KEEP_ALIVE_MS);
    return { [Symbol.dispose]: () => clearInterval(timer) };
  }

  /**
   * Adds an external address that a router forwards to the punch port, to what the next offer says.
   *
   * @param mapping taken over: it is of no use without the port, and disposed of together with this
   */
  async addMapped(address: TransportAddress, mapping: AsyncDisposable): Promise<void> {
    if (this.#mappings.disposed) return await mapping[Symbol.asyncDispose]();
    this.#mappings.use(mapping);
    const { candidates } = this.#side;
    const added: Candidate = { kind: "mapped", address };
    this.#side = { ...this.#side, candidates: [added, ...candidates].slice(0, MAX_CANDIDATES) };
  }

  /** Lets go of the connections that keep the mapping; connections that were punched stay. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#mappings.disposeAsync();
    await this.#dialer[Symbol.asyncDispose]();
  }
}

function describe(
  ports: BasePorts,
  learned: Learned,
  candidates: readonly Candidate[],
  { network, report }: OpenBaseSocketOptions,
): PunchDescription {
  const { mapping, allocation, external, samples } = learned;
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
 * Where the mapping depends on the destination, the server's mapping is of no use to the peer, and in the way of
 * another one from the same port.
 */
function punchPortOf(ports: BasePorts, profile: Pick<NatProfile, "mapping">): number {
  return dependsOnDestination(profile) ? ports.fresh : ports.base;
}

async function candidatesOf(
  ports: BasePorts,
  { mapping, external }: Learned,
  seenIps: readonly string[],
  { network, mapped = [] }: OpenBaseSocketOptions,
): Promise<Candidate[]> {
  const isReflexive = external !== null && !dependsOnDestination({ mapping });
  const punchPort = punchPortOf(ports, { mapping });
  const interfaces = (await network.localAddresses())?.map(({ ip }) => ip).filter(isUsable);
  const hostIps = new Set(interfaces ?? seenIps);
  return [
    ...mapped.map((address): Candidate => ({ kind: "mapped", address })),
    ...isReflexive ? [{ kind: "reflexive" as const, address: external }] : [],
    ...Array.from(hostIps, (ip): Candidate => ({ kind: "host", address: { ip, port: punchPort } })),
  ].slice(0, MAX_CANDIDATES);
}

/** Peers in one LAN find each other without the internet too. */
async function localIpWithoutServers(
  network: Network,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  if (await network.localAddresses() !== undefined) return undefined; // known as they are
  return await findLocalIp(network, signal && { signal });
}

/** Link-local addresses mean nothing without a zone of the peer's own. */
function isUsable(ip: string): boolean {
  return !["loopback", "link-local", "unspecified", "multicast"].includes(ipScope(ip));
}

/** Ours: less than the 30 s after which our own server resets a silent connection. */
const MAX_IDLE_MS = 25_000;

/** Ours: half of that. */
const KEEP_ALIVE_MS = 15_000;

/** Each opens some connections, which last as long as the anchor; ours: a few for each round. */
const MAX_REFRESHES = 8;

/** Ours; beyond it hosts have virtual interfaces that nobody else can reach. */
const MAX_CANDIDATES = 12;
