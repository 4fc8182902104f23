/**
 * What all connections of one peer share.
 *
 * @module
 */

import { equalBytes } from "../base/bytes.ts";
import { NetworkError } from "../base/errors.ts";
import { TaskGroup } from "../base/tasks.ts";
import type { Finding } from "../nat/behavior.ts";
import type { Logger } from "../base/logger.ts";
import { withoutLogin } from "../base/login.ts";
import { ipFamily, ipScope, type TransportAddress } from "../net/address.ts";
import { discoverLocalIpv4, networkWith } from "../net/local_address.ts";
import { idleDelay, ResettableTimer } from "../base/timers.ts";
import type { InterfaceFailover, LateDial } from "../net/interface_failover.ts";
import type { Network, TcpConnection } from "../net/network.ts";
import type { Proxy, withNames } from "../net/proxy/client.ts";
import { systemNetwork } from "../net/system.ts";
import type { KeyPair } from "../noise/handshake.ts";
import { mapPort } from "../portmap/map_port.ts";
import { DialBudgets } from "../punch/nomination.ts";
import { prepareWith, type PunchOptions, withNat64 } from "../punch/punch.ts";
import type { UdpPunching } from "../punch/udp_punch.ts";
import { parseStrategy, pathKindsOf, STRATEGIES } from "../punch/path_kinds.ts";
import { WindowBudget } from "../session/receive_stream.ts";
import { DEFAULT_SIGNALING, openSignaling, parseSignalUrl } from "../signal/open.ts";
import type { SignalingState, SignalTransport } from "../signal/transport.ts";
import { parseTurnUri } from "../turn/turn_uri.ts";
import { DialPolicy } from "./dial_policy.ts";
import { MAX_CONNECTIONS } from "./listener_engine.ts";
import {
  parseRelay,
  PEER_TIMINGS,
  type PeerOptions,
  type PeerTimings,
  type RelayServer,
} from "./options.ts";
import { BaseSocketPool, RouterMemory, SignalingPool } from "./pools.ts";
import type { RelayOpener, RendezvousOpener } from "./relay_path.ts";

/** What all connections of one peer share. */
export interface PeerContext {
  readonly network: Network;
  readonly staticKey: KeyPair;
  readonly signaling: SignalingPool;
  /** Decides about URLs and relays that others name. */
  readonly dialPolicy: DialPolicy;
  /** How much each peer may make this host send. */
  readonly budgets: DialBudgets;
  /** `undefined` if all direct paths are ruled out. */
  readonly baseSockets: BaseSocketPool | undefined;
  /** Punches by UDP beside those by TCP; `undefined` if UDP is ruled out. */
  readonly udp: UdpPunching | undefined;
  readonly punchOptions: Pick<
    PunchOptions,
    "servers" | "dialBackServers" | "report" | "knownNetworks" | "pathKinds" | "logger"
  >;
  readonly relays: readonly RelayOpener[];
  /** The signaling servers that this side named. */
  readonly signalingUrls: readonly string[];
  /** The rendezvous servers among these URLs, each with its relay; the best first. */
  rendezvousOf(urls: readonly string[]): RendezvousOpener[];
  /** Whether a relay may be used, this side's or the other's. */
  readonly mayRelay: boolean;
  /** Whether other peers must not learn this side's addresses. */
  readonly isHidden: boolean;
  /** Whether signaling and relays go through a proxy. */
  readonly isProxied: boolean;
  /** Whether nothing may be sent around the proxy. */
  readonly isSealed: boolean;
  /** Whether no server is contacted but those that this side named: it relies on their relays to hide its addresses. */
  readonly usesNamedOnly: boolean;
  readonly timings: PeerTimings;
  /** How many connections this side accepts at a time. */
  readonly maxConnections: number;
  /** The memory that the windows of all connections share. */
  readonly windows: WindowBudget;
  readonly logger: Logger | undefined;
  readonly onProgress: PeerOptions["onProgress"];
  /** Aborted when the peer is closed. */
  readonly closed: AbortSignal;
  /**
   * Gets ready for the first connection. A peer that does not listen, and does not connect at once, connects to the rendezvous
   * servers that it named, which tickets are likely to name, too; not where they must not see that it is there.
   */
  warm(options: { readonly listen: boolean }): void;
  /** Starts a job that the peer waits for when it is closed. Once it is closed, no job is started. */
  inBackground(job: () => Promise<unknown>): void;
}

/**
 * Makes what the connections of a peer share.
 *
 * @throws {TypeError} if a URL, a relay or a strategy is invalid, or no strategy is left
 * @throws {RangeError} if `maxConnections` is less than 1, or not whole
 */
export function makeContext(
  options: PeerOptions,
  own:
    & Pick<PeerContext, "staticKey" | "closed" | "inBackground">
    & Partial<Pick<PeerContext, "udp">>
    & { readonly proxy?: LoadedProxy },
): PeerContext {
  const { logger, turn = [], mapPorts = true } = options;
  const { servers, report, relayOnly = false, onProgress } = options;
  const maxConnections = requireConnections(
    "maxConnections",
    options.maxConnections ?? MAX_CONNECTIONS,
  );
  const isSealed = relayOnly && own.proxy !== undefined;
  const { network: given = systemNetwork } = options;
  const onInterface = (ip: string) => {
    baseSockets.discard(); // those by the other interface reach nothing
    onProgress?.({ event: "finding", finding: interfaceFinding(ip) });
  };
  const network = isSealed // a NAT64 asks the resolver for a prefix
    ? given
    : withNat64(withFailover(given, onInterface));
  const kinds = pathKindsOf((options.strategies ?? STRATEGIES).map(parseStrategy));
  const pathKinds = new Set([...kinds].filter((kind) => kind !== "relay"));
  const isDirect = !relayOnly && pathKinds.size > 0;
  const mayRelay = kinds.has("relay");
  if (!isDirect && !mayRelay) throw new TypeError("Cannot connect: no strategy is left");
  const named = (options.signaling ?? [])
    .map((each) => typeof each === "string" ? parseSignalUrl(each) : each.url);
  const hasRendezvous = options.signaling?.some((each) => isRendezvous(each)) ?? false;
  const lan = named.find((url) => isSealed && url.startsWith("lan:"));
  if (lan !== undefined) {
    throw new TypeError(
      "Cannot signal by lan: with relayOnly and a proxy: it goes around the proxy",
    );
  }
  if (relayOnly && turn.length === 0 && !hasRendezvous) {
    throw new TypeError(
      "Cannot use relayOnly without a relay or rendezvous of this side's: the other side's would show this side's address",
    );
  }
  // No servers means that none is to be dialled.
  const dialBackServers = servers?.length === 0 ? [] : [...servers ?? [], ...stunServersOf(named)];
  const knownNetworks = new Map();
  const punchOptions = { pathKinds, servers, dialBackServers, report, knownNetworks, logger };
  const routers = new RouterMemory();
  const baseSockets = new BaseSocketPool({
    prepare: (signal, hurried) =>
      prepareWith(own.udp, { ...punchOptions, network, signal, hurried }),
    map: mapPorts && pathKinds.has("mapped")
      ? (protocol, internalPort, signal) =>
        routers.map(
          () => addressesOf(network, signal),
          () => mapBriefly(network, protocol, internalPort, signal),
        )
      : undefined,
  });
  const transports = new Map(
    (options.signaling ?? []).flatMap((each) => typeof each === "string" ? [] : [[each.url, each]]),
  );
  const dialPolicy = new DialPolicy({
    network,
    named,
    allowUrl: options.allowUrl,
    proxy: own.proxy?.proxy,
    isSealed,
  });
  let isSignaling = false;
  const signaling: SignalingPool = new SignalingPool(async (url, signal) => {
    isSignaling = true;
    const report = signalingReporter(url, onProgress);
    const onState = (state: SignalingState, error?: unknown) => {
      if (state === "open") signaling.memory.noteOpened(url);
      else if (state === "failed") signaling.memory.noteFailed(url, performance.now());
      report(state, error);
    };
    onState("opening");
    const network = await dialPolicy.networkFor(url, signal).catch((error) => {
      if (!signal.aborted) onState("failed", error);
      throw error;
    });
    return await openSignaling(transports.get(url) ?? url, { network, signal, logger, onState });
  }, options.serverRecord);
  return {
    udp: undefined,
    ...own,
    network,
    dialPolicy,
    budgets: new DialBudgets(),
    signaling,
    signalingUrls: named,
    rendezvousOf: (urls) => {
      const plain = urls.filter((url) => !transports.has(url));
      const { now, spare } = signaling.memory.choose(plain, performance.now());
      return rendezvousOpeners([...now, ...spare], { signaling, dialPolicy, onProgress, ...own });
    },
    baseSockets: isDirect ? baseSockets : undefined,
    warm: ({ listen }) => {
      if (isDirect) baseSockets.warm();
      const servers = named.filter((url) => isRendezvous(url) && !transports.has(url));
      if (listen || relayOnly || options.proxy !== undefined || servers.length === 0) return;
      own.inBackground(async () => {
        await idleDelay(UNUSED_MS, own.closed);
        if (!own.closed.aborted && !isSignaling) useBriefly(signaling, servers);
      });
    },
    punchOptions,
    relays: turn.map(parseRelay).map((server) => relayOpener(server, network, own.proxy)),
    mayRelay,
    isHidden: relayOnly,
    isProxied: own.proxy !== undefined,
    isSealed,
    usesNamedOnly: relayOnly && turn.length === 0,
    timings: { ...PEER_TIMINGS, ...options.timings },
    maxConnections,
    windows: new WindowBudget(),
    logger,
    onProgress,
  };
}

/**
 * The number of connections that an option allows.
 *
 * @throws {RangeError} if it is less than 1, or not whole
 */
export function requireConnections(
  option: "maxConnections" | "maxPerKey",
  value: number,
): number {
  if (value === Infinity || Number.isInteger(value) && value >= 1) return value;
  const wanted = "a whole number of at least 1";
  throw new RangeError(`Cannot accept connections: ${option} is ${wanted}, not ${value}`);
}

/**
 * A network that goes by another interface where dials by the default route are not answered (`interface_failover.ts`,
 * which is loaded only where this host has several addresses).
 */
function withFailover(network: Network, onInterface: (ip: string) => void): Network {
  let failover: InterfaceFailover | undefined;
  const dial = async (
    remote: TransportAddress,
    tls: LateDial["tls"],
    signal: AbortSignal | undefined,
    open: (network: Network, signal: AbortSignal) => Promise<TcpConnection>,
  ): Promise<TcpConnection> => {
    await using tasks = new TaskGroup(() => {}); // for its signal: it ends a dial that others have overtaken
    const either = signal === undefined ? tasks.signal : AbortSignal.any([signal, tasks.signal]);
    const first = open(failover?.network ?? network, either);
    const family = ipFamily(remote.ip);
    if (failover?.chosenIp(family) !== undefined || !await isLate(first)) return await first;
    signal?.throwIfAborted();
    if (!await hasChoice(network, family)) return await first;
    const { InterfaceFailover } = await import("../net/interface_failover.ts");
    failover ??= new InterfaceFailover(network, onInterface);
    return await failover.rescue({ remote, tls, signal, first });
  };
  const isDialled = ({ ip }: TransportAddress, local?: TransportAddress) =>
    local === undefined && ["global", "documentation", "translation"].includes(ipScope(ip));
  return networkWith(network, {
    bindUdp: (local, options) => (failover?.network ?? network).bindUdp(local, options),
    connectTcp: (remote, options) => {
      const open = (network: Network, signal?: AbortSignal) =>
        network.connectTcp(remote, { ...options, signal });
      if (!isDialled(remote, options?.local)) {
        return open(failover?.network ?? network, options?.signal);
      }
      return dial(remote, undefined, options?.signal, open);
    },
    connectTls: (remote, options) => {
      const open = (network: Network, signal?: AbortSignal) =>
        network.connectTls(remote, { ...options, signal });
      if (!isDialled(remote)) return open(network, options.signal);
      return dial(remote, options, options.signal, open);
    },
  });
}

/** Whether a dial takes long, or fails without an answer. */
async function isLate(dial: Promise<TcpConnection>): Promise<boolean> {
  const { promise: late, resolve } = Promise.withResolvers<boolean>();
  const timer = new ResettableTimer(() => resolve(true));
  timer.set(LATE_MS);
  const failed = (error: unknown) =>
    error instanceof NetworkError && ["unreachable", "timed-out"].includes(error.reason);
  try {
    return await Promise.race([late, dial.then(() => false, failed)]);
  } finally {
    timer.clear();
  }
}

/** Whether this host has addresses to choose from: one interface has several of IPv6 even where it is the only one. */
async function hasChoice(network: Network, family: 4 | 6): Promise<boolean> {
  const own = (await network.localAddresses() ?? []).filter(({ ip }) =>
    ipFamily(ip) === family && !["loopback", "link-local"].includes(ipScope(ip))
  );
  const distinct = family === 4 ? own.map(({ ip }) => ip) : own.map((each) => each.interfaceName);
  return new Set(distinct).size > 1;
}

function interfaceFinding(ip: string): Finding {
  return {
    kind: "vpn",
    summary: `The default route${
      ipFamily(ip) === 6 ? " of IPv6" : ""
    } leads nowhere: connections go by ${ip} instead, which is answered`,
    remedy: "Check the VPN or the interface that the default route leads to, or turn it off",
  };
}

/** Opens connections to servers, which stay open for as long as after any use. */
function useBriefly(signaling: SignalingPool, urls: readonly string[]): void {
  for (const url of signaling.memory.choose(urls, performance.now()).now) {
    const lease = signaling.lease(url);
    const giveBack = () => lease[Symbol.asyncDispose]();
    lease.signaling.then(giveBack, giveBack);
  }
}

/** What punches by UDP; loaded only where it is used. Without STUN servers, only who asks for UDP gets it. */
export async function loadUdp(
  { strategies, servers, relayOnly = false }: PeerOptions,
): Promise<UdpPunching | undefined> {
  const isNamed = strategies?.some((each) => each === "punch-udp" || each === "punch") ?? false;
  const isUsed = isNamed || strategies === undefined && servers?.length !== 0;
  if (!isUsed || relayOnly) return undefined;
  const { udpPunching } = await import("../punch/udp_punch.ts");
  return udpPunching(strategies?.includes("punch-udp") ?? false);
}

/** Where to meet if the options do not say it: with nothing around the proxy, not on the LAN. */
export function defaultSignaling({ proxy, relayOnly = false }: PeerOptions): readonly string[] {
  const isSealed = relayOnly && proxy !== undefined;
  return isSealed ? DEFAULT_SIGNALING.filter((url) => url !== "lan:") : DEFAULT_SIGNALING;
}

/** A proxy, with the code that few peers need. */
export interface LoadedProxy {
  readonly proxy: Proxy;
  readonly withNames: typeof withNames;
}

/**
 * The proxy of the options; loaded only if there is one.
 *
 * @throws {TypeError} if its URL is invalid
 */
export async function loadProxy(
  { proxy, network = systemNetwork }: PeerOptions,
): Promise<LoadedProxy | undefined> {
  if (proxy === undefined) return undefined;
  const { throughProxy, withNames } = await import("../net/proxy/client.ts");
  const options = typeof proxy === "string" ? { url: proxy } : proxy;
  return { proxy: throughProxy(network, options), withNames };
}

/** Who may connect. */
export interface AllowList {
  /** The decision about a public key, if it is known at once: from a list, or because everyone is allowed. */
  readonly atOnce: (remoteKey: Uint8Array) => boolean | undefined;
  /** The decision, from the application's function if there is one. */
  readonly decide: (remoteKey: Uint8Array) => boolean | Promise<boolean>;
}

/** Makes the list of who may connect, from the option. */
export function allowing(allow: PeerOptions["allow"]): AllowList {
  if (typeof allow === "function") return { atOnce: () => undefined, decide: allow };
  const keys = allow?.map((key) => key.slice());
  const isAllowed = (remoteKey: Uint8Array) =>
    keys?.some((key) => equalBytes(key, remoteKey)) ?? true;
  return { atOnce: isAllowed, decide: isAllowed };
}

/** Reports the changes of one signaling connection. */
function signalingReporter(
  url: string,
  onProgress: PeerOptions["onProgress"],
): (state: SignalingState, error?: unknown) => void {
  let last: SignalingState | undefined;
  return (state, error) => {
    if (state !== last) onProgress?.({ event: "signaling", url: withoutLogin(url), state, error });
    last = state;
  };
}

/** This host's addresses as text, which change with the network. */
async function addressesOf(network: Network, signal: AbortSignal): Promise<string> {
  const listed = await network.localAddresses();
  const ips = listed?.map(({ ip }) => ip) ?? [await discoverLocalIpv4(network, { signal }) ?? ""];
  return ips.sort().join(" ");
}

/** A rendezvous server of `punchline serve` has a STUN server beside it, which dials back if it is asked to. */
function stunServersOf(urls: readonly string[]): string[] {
  const hosts = urls.filter((url) => /^wss?:/.test(url)).map((url) => new URL(url).hostname);
  return [...new Set(hosts)].map((host) => `${host}:${STUN_PORT}`);
}

function mapBriefly(
  network: Network,
  protocol: "tcp" | "udp",
  internalPort: number,
  signal: AbortSignal,
) {
  return mapPort({
    protocol,
    internalPort,
    network,
    lifetimeSeconds: MAPPING_SECONDS,
    checkSeconds: Infinity,
    signal,
  });
}

function relayOpener(
  server: RelayServer,
  network: Network,
  loaded: LoadedProxy | undefined,
): RelayOpener {
  const { url, ...access } = server;
  const open = async (network: Network, signal: AbortSignal) => {
    // Few connections need a relay, so the others do not load it.
    const { openStreamRelay } = await import("../turn/open_relay.ts");
    return await openStreamRelay(url, { ...access, network, signal });
  };
  if (loaded === undefined) return { url, open: (signal) => open(network, signal) };
  const { proxy, withNames } = loaded;
  const carrier = proxy.networkFor(parseTurnUri(url).host);
  return { url, open: (signal) => withNames(proxy, () => open(carrier, signal)) };
}

function rendezvousOpeners(
  urls: readonly string[],
  { signaling, dialPolicy, onProgress, closed, inBackground }:
    & Pick<PeerContext, "signaling" | "dialPolicy">
    & Pick<PeerContext, "onProgress" | "closed" | "inBackground">,
): RendezvousOpener[] {
  return urls.filter(isRendezvous).map((url) => ({
    url: plainUrl(url),
    rttMs: signaling.rttMsOf(url) ?? null,
    open: async (token, signal) => {
      const network = await dialPolicy.networkFor(url, signal);
      const { openRelayConnection } = await import("../signal/rendezvous/relay_connection.ts");
      const connection = await openRelayConnection(url, { network, token, signal });
      if (onProgress === undefined) return connection;
      const { relayFinding, watchRelay } = await import("./relay_watch.ts");
      const find = async () => {
        const finding = await relayFinding(url, { network, signal: closed });
        if (finding !== undefined) onProgress({ event: "finding", finding });
      };
      return watchRelay(connection, () => inBackground(find));
    },
  }));
}

/** Whether it is the URL of a rendezvous server; a transport of the application's may be anything. */
function isRendezvous(signaling: string | SignalTransport): boolean {
  return typeof signaling === "string" && /^wss?:/i.test(signaling);
}

/** The same text for the same server, whoever logs in. */
function plainUrl(url: string): string {
  const { protocol, host, pathname } = new URL(url);
  return `${protocol}//${host}${pathname.replace(/\/$/, "")}`;
}

/** Chosen by us: the port is needed only until there is a connection; routers grant no less than this. */
const MAPPING_SECONDS = 120;

/** RFC 8489 §18.6, and the default of `serve`. */
const STUN_PORT = 3478;

/** How long a peer is open before it connects to servers. Chosen by us: a command that has a ticket uses it before. */
const UNUSED_MS = 250;

/** When a dial is late. Chosen by us: a SYN that was lost is sent again by then. */
const LATE_MS = 1000;
