/**
 * The base socket of a punch (RFC 8445 §5.1.1.1): a punch port, the mapping that one TCP connection to a STUN server keeps
 * alive in the NAT, and the description of this side that goes with it.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import { TaskGroup } from "../base/tasks.ts";
import { Deadline, ResettableTimer } from "../base/timers.ts";
import type { InboundBehavior } from "../nat/inbound.ts";
import type { TcpDialer } from "../nat/tcp_dialer.ts";
import { ipFamily, type Nat64Prefix, type TransportAddress } from "../net/address.ts";
import { discoverNat64, LocalIpv6Search, type NamedHost } from "../net/local_address.ts";
import { type Candidate, hostIps, publicIps, type PunchDescription } from "./candidates.ts";
import {
  candidatesOf,
  describe,
  freePorts,
  gather,
  type GatherOptions,
  localIpWithoutServers,
  resample,
} from "./gathering.ts";
import {
  askToDialBack,
  isReported,
  KNOWN_MS,
  type KnownNetwork,
  type KnownNetworks,
  type Learned,
  remember,
} from "./known_networks.ts";
import { dependsOnDestination } from "./nat_profile.ts";
import { isStale, MAX_CANDIDATES } from "./offer.ts";
import type { OpenUdpBaseSocketOptions, UdpBaseSocket } from "./udp_base_socket.ts";
import { abortable } from "@std/async/abortable";

/** What a base socket needs. */
export interface OpenBaseSocketOptions extends GatherOptions {
  /** Hosts to dial over IPv6, only to learn this host's address if its interfaces are not known. */
  readonly ipv6Hosts?: readonly NamedHost[];
  /** @ignore opens a base socket for UDP as well, which is gathered for at the same time. Default: none. */
  readonly openUdp?: (options: OpenUdpBaseSocketOptions) => Promise<UdpBaseSocket>;
  /** Servers that may dial back to this host. Default: `servers`. */
  readonly dialBackServers?: readonly TransportAddress[];
  /** @ignore what was learned of networks before: for all base sockets of one program */
  readonly knownNetworks?: KnownNetworks;
}

/** A punch port that is ready for use, and the description of this side that goes with it. */
export class BaseSocket implements AsyncDisposable {
  readonly #options: OpenBaseSocketOptions;
  /** `undefined` if there is no server to dial. */
  readonly #dialer: TcpDialer | undefined;
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
    dialer: TcpDialer | undefined,
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
    const dialer = options.servers.length === 0 ? undefined : await dialerFor(options);
    const ports = await freePorts(network, family); // last: another program may take them meanwhile
    await using ownIpv6 = new LocalIpv6Search(network, options.ipv6Hosts, signal);
    const udp = options.openUdp === undefined
      ? undefined
      : new UdpGathering(options, () => dialer?.wake());
    const closed = new AbortController();
    // Which network this is shows only with the answers of servers: if none is known, it is a new one.
    let asked: Promise<Learned> | undefined;
    const onDialled = () => {
      if (!options.knownNetworks?.size) asked ??= askToDialBack(options, closed.signal);
    };
    try {
      const udpReadyAtMs = () => udp?.readyAtMs ?? Infinity;
      const gathered = await gather(dialer, ports, { ...options, onDialled, udpReadyAtMs });
      const seen = [
        dialer?.localIp ?? await localIpWithoutServers(network, signal),
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
        dialer?.[Symbol.asyncDispose](),
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

  /** @ignore whether it may still become ready: servers are late to answer over UDP */
  get isUdpPending(): boolean {
    return this.#udp?.isPending ?? false;
  }

  /** @ignore waits until it is ready, or counts as blocked; resolves with whether it was pending */
  async udpSettled(signal: AbortSignal): Promise<boolean> {
    if (!this.isUdpPending) return false;
    await this.#udp!.settled(signal);
    return true;
  }

  /** What to send to the peer. */
  get description(): PunchDescription {
    return this.#description;
  }

  /** @ignore the public addresses that this host's dials may come from, as far as they are known */
  get externalIps(): string[] {
    return publicIps(this.#description);
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
    const answered = this.#dialer?.probes.find(({ reply }) => reply !== undefined);
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
    const network = `${this.#dialer?.localIp} ${externalIp}`;
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
    const samples = await resample(this.#dialer!, server, options);
    if (samples.length === 0) return false;
    this.#sampledAtMs = performance.now();
    const { profile } = this.#description;
    this.#description = { ...this.#description, profile: { ...profile, samples } };
    return true;
  }

  /**
   * This base socket or, if its mapping may be gone, a new one in its place: servers reset idle connections, and some
   * NATs end the mapping with them. A port that a router forwards must stay, unless this host has moved to another network.
   *
   * @throws the signal's reason; this base socket is disposed of then
   */
  async renew(signal?: AbortSignal): Promise<BaseSocket> {
    const { servers } = this.#options;
    const isYoung = performance.now() - this.#openedAtMs < MAX_IDLE_MS;
    const isForwarded = this.#description.candidates.some(({ kind }) => kind === "mapped");
    const isLasting = isYoung || servers.length === 0 || isForwarded;
    if (isLasting && !await this.#hasMoved()) return this;
    await this[Symbol.asyncDispose]();
    return await BaseSocket.open({ ...this.#options, signal: signal ?? this.#options.signal });
  }

  /** Whether an address that the description offers is no longer this host's, as far as its interfaces are known. */
  async #hasMoved(): Promise<boolean> {
    const listed = await this.#options.network.localAddresses();
    if (listed === undefined) return false;
    const own = new Set(listed.map(({ ip }) => ip));
    return hostIps(this.#description).some((ip) => !own.has(ip));
  }

  /** Keeps the NAT's mapping and its connection in use until the result is disposed of. */
  keepAlive(): Disposable {
    const { punchPort } = this.#description;
    const timer = setInterval(() => this.#dialer?.keepAlive(punchPort), KEEP_ALIVE_MS);
    const stack = new DisposableStack();
    stack.defer(() => clearInterval(timer));
    if (this.udp !== undefined) stack.use(this.udp.keepAlive());
    return stack;
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
    const network = `${this.#dialer?.localIp} ${external.ip}`;
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
    await this.#dialer?.[Symbol.asyncDispose]();
  }
}

/** What dials STUN servers; loaded only where there is one. */
async function dialerFor({ network, family }: OpenBaseSocketOptions): Promise<TcpDialer> {
  const { TcpDialer } = await import("../nat/tcp_dialer.ts");
  return new TcpDialer(network, family, () => performance.now(), {
    reusePort: network.canReusePort,
  });
}

/** Gathering for UDP, beside that for TCP. Without UDP there is still TCP. */
class UdpGathering implements AsyncDisposable {
  /** The base socket, once it is ready. */
  socket: UdpBaseSocket | undefined;
  /** When everything was known; `Infinity` before, and if no server answers. */
  readyAtMs = Infinity;
  /** Whether it may become ready in time for an offer. */
  isPending = true;
  readonly #pendingTimer = new ResettableTimer(() => this.#settle());
  readonly #settled = Promise.withResolvers<void>();
  readonly #hostIps = Promise.withResolvers<readonly string[]>();
  readonly #ready = Promise.withResolvers<void>();
  readonly #tasks = new TaskGroup(() => {}); // it is blocked, or not permitted
  #isAnswered = false;

  /** @param onReady called when everything is known */
  constructor({ openUdp, network, servers }: OpenBaseSocketOptions, onReady: () => void) {
    this.#pendingTimer.isReferenced = false;
    this.#pendingTimer.set(UDP_PENDING_MS);
    this.#tasks.run(async (signal) => {
      try {
        const hostIps = this.#hostIps.promise;
        const onAnswer = () => this.#onAnswer();
        const onGathered = () => {
          if (!this.#isAnswered) return;
          this.readyAtMs = performance.now();
          onReady();
        };
        this.socket = await openUdp!({ network, servers, hostIps, onAnswer, onGathered, signal });
      } finally {
        this.#ready.resolve();
        this.#settle();
      }
    });
  }

  /**
   * Waits a little: servers that answer over TCP answer over UDP as fast, or hardly ever. If one of them has, what is missing
   * was lost on the way and is being repeated; without it this side would have no description for UDP at all.
   */
  async finish(hostIps: readonly string[], signal: AbortSignal | undefined): Promise<void> {
    this.#hostIps.resolve(hostIps);
    using deadline = new Deadline(UDP_GRACE_MS, signal);
    try {
      await abortable(this.#ready.promise, deadline.signal);
    } catch (error) {
      signal?.throwIfAborted();
      if (error !== deadline.signal.reason) throw error;
      if (!this.#isAnswered) return;
      await (signal === undefined ? this.#ready.promise : abortable(this.#ready.promise, signal));
    }
  }

  /** Resolves once it is ready, or no longer pending. */
  async settled(signal: AbortSignal): Promise<void> {
    await abortable(this.#settled.promise, signal);
  }

  /** Gathering ends by itself then. */
  #onAnswer(): void {
    this.#isAnswered = true;
    this.#pendingTimer.clear();
  }

  #settle(): void {
    this.isPending = false;
    this.#pendingTimer.clear();
    this.#settled.resolve();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#hostIps.resolve([]);
    await this.#tasks.stop();
    this.#settle();
    await this.socket?.[Symbol.asyncDispose]();
  }
}

/** Chosen by us, beside two round trips to the servers, which both take: time for a request that was lost. */
const UDP_GRACE_MS = 200;

/**
 * How long from the start an offer may wait for servers that have not answered over UDP, if all depends on it. Chosen by us:
 * an answer that is a second late, over a long way.
 */
const UDP_PENDING_MS = 1250;

/** Chosen by us: less than the 30 s after which our own server resets an idle connection. */
const MAX_IDLE_MS = 25_000;

/** Chosen by us: half of those 30 s. */
const KEEP_ALIVE_MS = 15_000;

/** How long an offer waits for what SYNs from outside get. Chosen by us: two dials of a server over a slow link. */
const LEARNING_MS = 1500;

/** Chosen by us: at 10 % loss each way, four SYNs are lost once in 800 times. */
const ROOM_TRIES = 2;

/** How long a server may take to answer then. Chosen by us. */
const MIN_ROOM_MS = 250;

/** Each refresh opens some connections, which last as long as the base socket. Chosen by us: a few for each round. */
const MAX_REFRESHES = 8;
