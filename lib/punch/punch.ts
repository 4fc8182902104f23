/**
 * TCP hole punching: two programs behind two NATs get one TCP connection between them.
 *
 * @module
 */

import { type ConnectionAttempt, messageOf, UnreachableError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { PunchMethodName } from "../base/path_kind.ts";
import { Deadline, ResettableTimer } from "../base/timers.ts";
import type { FamilyReport } from "../nat/behavior.ts";
import { chooseServers, parseServer } from "../nat/servers.ts";
import { ipFamily, ipScope, type TransportAddress } from "../net/address.ts";
import { type DenoConn, toDenoConn } from "../net/deno_conn.ts";
import { hasNoRoute, networkWith } from "../net/local_address.ts";
import type { Network } from "../net/network.ts";
import { resolveHost } from "../net/resolve.ts";
import { systemNetwork } from "../net/system.ts";
import type { SignalChannel } from "../signal/channel.ts";
import { BaseSocket } from "./base_socket.ts";
import type { KnownNetworks } from "./known_networks.ts";
import { DialBudget, PUNCH_LIMITS } from "./limits.ts";
import { MANUAL_TIMEOUT_MS } from "./manual.ts";
import { MAX_ROUNDS, type PunchRole } from "./offer.ts";
import { DIRECT_PATH_KINDS, type DirectPathKind, methodOf } from "./path_kinds.ts";
import type { PunchPlan } from "./plan_types.ts";
import { type ConnectedAttempt, countSyns, runRound, type UdpRival } from "./round.ts";
import type { UdpPunching } from "./udp_punch.ts";

export type { BaseSocket } from "./base_socket.ts";
export type { KnownNetworks } from "./known_networks.ts";
export { MANUAL_TIMEOUT_MS } from "./manual.ts";
export type { PunchRole } from "./offer.ts";
export type { DirectPathKind } from "./path_kinds.ts";
export type { PunchPlan } from "./plan_types.ts";

/** What a punch port needs before there is a peer. */
export interface PreparePunchOptions {
  /** STUN servers that speak TCP, `HOST[:PORT]`. Default: a few public ones. Pass none for a punch within a LAN. */
  readonly servers?: readonly string[];
  /** What {@linkcode testNat} found over TCP: it knows about filters and resets, which makes for better plans. */
  readonly report?: FamilyReport | null;
  /** External addresses that a router forwards to the punch port. */
  readonly mapped?: readonly TransportAddress[];
  /** Servers that may dial back to this host, to learn about filters and resets. Default: `servers`. */
  readonly dialBackServers?: readonly string[];
  /** @ignore what was learned of networks before */
  readonly knownNetworks?: KnownNetworks;
  /** @ignore resolves when it is to make do with the names that are resolved by then */
  readonly hurried?: Promise<void>;
  /** The network to use. Default: the system's. */
  readonly network?: Network;
  /** Aborts the preparation or the punch. */
  readonly signal?: AbortSignal;
}

/** What {@linkcode punch} takes. */
export interface PunchOptions extends PreparePunchOptions {
  /** Carries the offers of both sides. */
  readonly channel: SignalChannel;
  /** The controlling side chooses the connection; the two sides must have different roles. */
  readonly role: PunchRole;
  /** From {@linkcode preparePunch}, to save its time; it is used up. One that is older than 25 s is prepared again. */
  readonly base?: BaseSocket;
  /**
   * A key (not a password) that only the two sides know. With it only the peer can make an offer or be connected
   * to, even over a channel that is not trusted. The connection itself is not encrypted: everything on its path can
   * still read and change what runs over it.
   */
  readonly sharedSecret?: Uint8Array;
  /** The kinds of path to try. Default: all of {@linkcode DIRECT_PATH_KINDS}. */
  readonly pathKinds?: ReadonlySet<DirectPathKind>;
  /** @ignore what to wait for before many sockets take the NAT's sessions, if the peer waits as well; never rejects */
  readonly beforeSpray?: () => Promise<void>;
  /** Called with each plan as soon as both offers are known, even if the plan is that a punch is impossible. */
  readonly onPlan?: (plan: PunchPlan) => void;
  /** How long the punch may take, in milliseconds. Default: 30 000, or ten minutes if the channel is `isManual`. */
  readonly timeoutMs?: number;
  /** Receives plans and rounds. */
  readonly logger?: Logger;
}

/** The connection, and how it came about. */
export type PunchedConn = DenoConn & {
  /** How the connection came about. */
  readonly punch: PunchReport;
};

/** How a connection came about. */
export interface PunchReport {
  /** The kind of path that connects the two sides. */
  readonly kind: DirectPathKind;
  /** How it got through the filters of both sides; `null` unless `kind` is `"punch-tcp"`. */
  readonly method: PunchMethodName | null;
  /** The transport protocol. */
  readonly transport: "tcp";
  /** What this side planned, and what it expected. */
  readonly plan: PunchPlan;
  /** From the moment when this side knew both offers until the connection was established, in milliseconds. */
  readonly connectMs: number;
  /** From the same moment until the connection was nominated, in milliseconds. */
  readonly punchMs: number;
  /** From the call of {@linkcode punch}, in milliseconds. */
  readonly elapsedMs: number;
  /** How many times both sides tried. */
  readonly rounds: number;
  /** Everything that was dialled and accepted. */
  readonly attempts: readonly ConnectionAttempt[];
  /**
   * 32 bytes that only the two ends of this connection have, provided that others cannot read the channel, or do not
   * know the shared secret. Derive keys from it for whatever runs over the connection.
   */
  readonly channelBinding: Uint8Array;
}

/**
 * Gets a punch port ready: gathers its external address, and how the NAT chooses ports.
 *
 * @throws {NetworkError} `not-permitted`
 */
export async function preparePunch(options: PreparePunchOptions = {}): Promise<BaseSocket> {
  return await prepareWith(undefined, reaching(options));
}

/** As {@linkcode preparePunch}, for a punch by UDP as well. */
export async function prepareWith(
  udp: UdpPunching | undefined,
  options: PreparePunchOptions,
): Promise<BaseSocket> {
  const { network = systemNetwork } = options;
  const hosts = (options.servers ?? chooseServers(Math.random)).map(parseServer);
  const dialBackHosts = options.dialBackServers?.map(parseServer);
  const [servers, dialBackServers] = await Promise.all([
    resolveAll(network, hosts, options),
    dialBackHosts && resolveAll(network, dialBackHosts, options),
  ]);
  return await BaseSocket.open({
    network,
    servers,
    dialBackServers,
    knownNetworks: options.knownNetworks,
    family: 4,
    ipv6Hosts: hosts,
    report: options.report,
    mapped: options.mapped,
    openUdp: hosts.length > 0 || udp?.isWanted ? udp?.open : undefined,
    signal: options.signal,
  });
}

/**
 * Punches a hole: both sides call it, and both get the same connection or the same refusal.
 *
 * If one side aborts, runs out of time or vanishes after the controlling side has nominated the connection, the other
 * side may still return it; the connection is reset then, so the next read or write fails.
 *
 * What a peer tells about itself decides where SYNs go, and a peer that lies can send them to other hosts. They never
 * go to this host, unless the peer has proved that it is on it, never to a system port, and in private networks only to
 * the peer's own port. How many go to one address is limited by {@linkcode PUNCH_LIMITS}, those that the system repeats
 * included.
 *
 * @example
 * ```ts ignore
 * import { punch } from "@punchline/punchline/punch";
 *
 * await using conn = await punch({ channel, role: "controlling" }); // the other side: "controlled"
 * await conn.write(new TextEncoder().encode("hello"));
 * ```
 *
 * @throws {UnreachableError} if a punch is impossible, none succeeded in time, or both sides have the same role
 * @throws {NetworkError} if the channel breaks, or `not-permitted`
 */
export async function punch(options: PunchOptions): Promise<PunchedConn> {
  return await punchWithin(new DialBudget(), reaching(options));
}

/** As {@linkcode punch}, within what earlier searches for the same peer have left. */
export async function punchWithin(
  budget: DialBudget,
  options: PunchOptions & {
    /** Ends the punch like a timeout: with everything that was tried by then. */
    readonly until?: AbortSignal;
    /** The punch by UDP that runs beside it. */
    readonly udp?: UdpRival;
    /** What prepares base sockets for it. */
    readonly udpPunching?: UdpPunching;
    /** Called if both sides wait for what servers answer over UDP, because TCP has no way or ports cannot be known. */
    readonly onUdpAwaited?: () => void;
  },
): Promise<PunchedConn> {
  const { network = systemNetwork, channel, role } = options;
  const { isManual } = channel;
  const { until, knownNetworks = new Map() } = options;
  const { timeoutMs = isManual ? MANUAL_TIMEOUT_MS : DEFAULT_TIMEOUT_MS } = options;
  const maxRounds = isManual ? 1 : MAX_ROUNDS;
  const startedAtMs = performance.now();
  const ends = [options.signal, until].filter((each) => each !== undefined);
  using deadline = new Deadline(timeoutMs, AbortSignal.any(ends));
  const { signal } = deadline;
  const attempts: ConnectionAttempt[] = [];
  let reason = "the other side sent nothing";
  let birthdaySyns = 0;
  try {
    for (let round = 1; round <= maxRounds && countSyns(attempts) < MAX_SYNS;) {
      await using base = round === 1 && options.base !== undefined
        ? await options.base.renew(signal)
        : await prepareWith(options.udpPunching, { ...options, knownNetworks, signal });
      await base.refresh(signal);
      using _keptAlive = isManual ? base.keepAlive() : undefined;
      const result = await runRound({
        network,
        channel,
        role,
        sharedSecret: options.sharedSecret ?? new Uint8Array(0),
        pathKinds: options.pathKinds ?? ALL_PATH_KINDS,
        beforeSpray: options.beforeSpray,
        onPlan: options.onPlan,
        onUdpAwaited: options.onUdpAwaited,
        budget,
        udp: options.udp,
        round,
        base,
        maxSyns: MAX_SYNS - countSyns(attempts),
        signal,
      });
      attempts.push(...result.attempts);
      if (result.connected !== undefined) {
        return punchedConn(result.connected, { attempts, rounds: round, startedAtMs });
      }
      reason = result.plan?.reason ?? reason;
      if (result.end.kind === "impossible") {
        const why = whyImpossible(reason, options.udp?.plan, options.pathKinds ?? ALL_PATH_KINDS);
        throw new UnreachableError(`Cannot punch: ${why}`, attempts);
      }
      birthdaySyns += result.birthdaySyns;
      // Both sides count the same SYNs, so both stop here.
      const nextSyns = result.plan?.birthdaySyns ?? 0;
      if (nextSyns > 0 && birthdaySyns + nextSyns > PUNCH_LIMITS.maxSyns) break;
      options.logger?.debug(`punch: round ${round} ${result.end.kind}`);
      signal.throwIfAborted();
      round = result.end.kind === "superseded" ? result.end.round : round + 1;
    }
  } catch (error) {
    options.signal?.throwIfAborted();
    if (error !== signal.reason) throw error;
    const message = until?.aborted
      ? `Cannot punch: ${messageOf(until.reason)}`
      : `Cannot punch: no connection within ${timeoutMs / 1000} s (${reason})`;
    throw new UnreachableError(message, attempts, { cause: error });
  }
  throw new UnreachableError(`Cannot punch: all attempts failed (${reason})`, attempts);
}

/**
 * A network that reaches IPv4 addresses through a NAT64 where this host has IPv6 alone (`nat64_network.ts`, which is loaded
 * only there).
 */
export function withNat64(network: Network): Network {
  let loaded: Network | undefined;
  const load = async () =>
    loaded ??= (await import("../net/nat64_network.ts")).nat64Network(network);
  /** Whether the interfaces have IPv6 alone, as far as that is known by now. */
  let hasIpv6Alone: boolean | undefined;
  const look = async (): Promise<void> => {
    const listed = await network.localAddresses() ?? [];
    hasIpv6Alone = listed.length > 0 &&
      listed.every(({ ip }) => ipFamily(ip) === 6 || ipScope(ip) === "loopback");
  };
  let looking = look();
  /** Opens a socket of any IPv4 address. It does not wait for what is known. */
  const open = <T>(ip: string, on: (network: Network) => Promise<T>): Promise<T> => {
    if (loaded !== undefined || ip !== "0.0.0.0") return on(loaded ?? network);
    if (hasIpv6Alone === undefined) return looking.then(() => open(ip, on));
    if (hasIpv6Alone) return load().then(on);
    looking = look(); // this host may have moved to another network since
    return on(network);
  };
  const dial = async <T>(
    ip: string,
    signal: AbortSignal | undefined,
    open: (network: Network) => Promise<T>,
  ): Promise<T> => {
    const translating = loaded; // it may be loaded for another socket meanwhile
    try {
      return await open(translating ?? network);
    } catch (error) {
      signal?.throwIfAborted();
      if (translating !== undefined || ipFamily(ip) === 6 || !hasNoRoute(error)) throw error;
      return await open(await load());
    }
  };
  return networkWith(network, {
    bindUdp: (local, options) => open(local.ip, (network) => network.bindUdp(local, options)),
    listenTcp: (local, options) => open(local.ip, (network) => network.listenTcp(local, options)),
    connectTcp: (remote, options) =>
      dial(remote.ip, options?.signal, (network) => network.connectTcp(remote, options)),
    connectTls: (remote, options) =>
      dial(remote.ip, options.signal, (network) => network.connectTls(remote, options)),
  });
}

/** The options, with a network that reaches IPv4 addresses through a NAT64 if this host has IPv6 alone. */
function reaching<T extends PreparePunchOptions>(options: T): T {
  return { ...options, network: withNat64(options.network ?? systemNetwork) };
}

/**
 * Why there is no connection if TCP has no way. Where the user wants none by TCP, its plan lacks the addresses for it, and
 * only the one by UDP is of interest.
 *
 * @param udp what UDP does: it goes on beside, and the reason is of use once that has failed
 */
function whyImpossible(
  tcpReason: string,
  udp: PunchPlan | undefined,
  pathKinds: ReadonlySet<DirectPathKind>,
): string {
  const isTcpWanted = pathKinds.has("punch-tcp") || pathKinds.has("direct");
  if (udp === undefined || udp.method === "impossible" && isTcpWanted) return tcpReason;
  if (udp.method === "impossible") return udp.reason;
  const udpReason = `all attempts by UDP failed (${udp.reason})`;
  return isTcpWanted ? `${tcpReason}; ${udpReason}` : udpReason;
}

function punchedConn(
  { nominated, plan, startedAtMs, channelBinding, pathKind }: ConnectedAttempt,
  { attempts, rounds, startedAtMs: calledAtMs }: {
    readonly attempts: readonly ConnectionAttempt[];
    readonly rounds: number;
    readonly startedAtMs: number;
  },
): PunchedConn {
  const nowMs = performance.now();
  const punch: PunchReport = {
    kind: pathKind,
    method: methodOf(pathKind, plan.method),
    transport: "tcp",
    plan,
    connectMs: nominated.establishedAtMs - startedAtMs,
    punchMs: nowMs - startedAtMs,
    elapsedMs: nowMs - calledAtMs,
    rounds,
    attempts,
    channelBinding,
  };
  return Object.assign(toDenoConn(nominated.connection), { punch });
}

/**
 * The addresses of the hosts that resolve in time: peers in one LAN need none of them. Two tell how a NAT maps; where
 * they are known, a query that was lost, or a name server that is silent about others, is not waited for long.
 */
async function resolveAll(
  network: Network,
  hosts: readonly { host: string; port: number }[],
  { signal, hurried }: Pick<PreparePunchOptions, "signal" | "hurried">,
): Promise<TransportAddress[]> {
  using deadline = new Deadline(RESOLVE_TIMEOUT_MS, signal);
  hurried?.then(() => deadline.expire(new DOMException("The peer is near", "AbortError")));
  let known = 0;
  const isEnough = () =>
    deadline.expire(new DOMException("Enough names are resolved", "AbortError"));
  const enoughTimer = new ResettableTimer(isEnough);
  const found = await Promise.allSettled(hosts.map(async ({ host, port }) => {
    const ip = await resolveHost(network, host, { family: 4, signal: deadline.signal });
    if (++known === ENOUGH_HOSTS) enoughTimer.set(ENOUGH_MS);
    return { ip, port };
  }));
  enoughTimer.clear();
  signal?.throwIfAborted();
  return found.flatMap((each) => each.status === "fulfilled" ? [each.value] : []);
}

/**
 * SYNs of one punch after which no further attempt starts; one that is under way runs to its end, and the system's
 * retransmissions are not counted. Chosen by us: all birthday attempts, and three times as many redials after resets.
 */
const MAX_SYNS = 4 * PUNCH_LIMITS.maxSyns;

const ALL_PATH_KINDS: ReadonlySet<DirectPathKind> = new Set(DIRECT_PATH_KINDS);

/** As in a NAT test. Chosen by us: systems take 10 s and more to give up a name server that is silent. */
const RESOLVE_TIMEOUT_MS = 2000;

/** Chosen by us: a name that is not resolved this long after two others is hardly worth the wait. */
const [ENOUGH_HOSTS, ENOUGH_MS] = [2, 250];

/** Chosen by us: three rounds, and time for a peer that comes a little later. */
const DEFAULT_TIMEOUT_MS = 30_000;
