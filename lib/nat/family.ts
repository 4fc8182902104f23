/**
 * The NAT test over one IP family: UDP and TCP at the same time, each on its own ports.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import { runAll } from "../base/tasks.ts";
import { Deadline, idleDelay } from "../base/timers.ts";
import {
  formatTransportAddress,
  type IpFamily,
  ipFamily,
  ipScope,
  sameTransportAddress,
  type TransportAddress,
} from "../net/address.ts";
import type { Network } from "../net/network.ts";
import {
  type BehaviorVerdict,
  type FamilyDetails,
  type FamilyReport,
  rfc3489Name,
  unknown,
} from "./behavior.ts";
import { testLifetime } from "./lifetime.ts";
import { probeTcp, type TcpResult } from "./tcp.ts";
import type { DialFault } from "./tcp_dialer.ts";
import { probeUdp, type UdpResult } from "./udp.ts";
import { abortable } from "@std/async/abortable";

/** What to test over one family. */
export interface ProbeFamilyOptions {
  readonly network: Network;
  readonly family: IpFamily;
  /** At least one. */
  readonly servers: readonly TransportAddress[];
  readonly transports: readonly ("udp" | "tcp")[];
  readonly timeoutMs: number;
  readonly hairpinning: boolean;
  readonly lifetimeSeconds?: number;
  /** Called with each success response of a server. */
  readonly onAnswer?: () => void;
  /** Called with the UDP report as soon as it is known, if a server has answered; not if the lifetime is tested. */
  readonly onUdp?: (report: FamilyReport) => Promise<void>;
  readonly signal?: AbortSignal;
}

/** The reports: `null` for a transport that was not requested, or if the host has no address of this family. */
export interface FamilyReports {
  readonly udp: FamilyReport | null;
  readonly tcp: FamilyReport | null;
  readonly reachability: TcpReachability;
  /** Why no server answered as it should, if none did. */
  readonly silence: Silence;
}

/** Why servers did not answer, as far as is known. */
export interface Silence {
  /** A server answered with something other than STUN. */
  readonly receivedNonStun: boolean;
  /** The code of an error response. */
  readonly errorCode: number | undefined;
  /** All servers refuse connections. */
  readonly isRefused: boolean;
  /** The system refuses to send. */
  readonly sendFault: NetworkError | undefined;
}

/** What dialling servers over TCP has shown. */
export interface TcpReachability {
  /** The local address of a connection that was established. */
  readonly localIp?: string;
  /** Why servers could not be reached. */
  readonly faults: readonly DialFault[];
}

/**
 * Runs the tests of one family.
 *
 * @throws {NetworkError} if no socket can be opened, although the host has an address of this family
 */
export async function probeFamily(options: ProbeFamilyOptions): Promise<FamilyReports> {
  const { network, family, transports, servers, lifetimeSeconds } = options;
  const known = Promise.withResolvers<string | undefined>();
  const probe = async (signal: AbortSignal): Promise<UdpResult | undefined> => {
    const result = await undefinedWithoutFamily(probeUdp({ ...options, signal }));
    if (result?.server && lifetimeSeconds === undefined && options.onUdp !== undefined) {
      const localIp = await soon(known.promise, signal) ?? await onlyLocalIp(network, family);
      await options.onUdp(udpReport(result, localIp, null));
    }
    return result;
  };
  const dial = async (signal: AbortSignal): Promise<TcpResult | TcpReachability> => {
    if (transports.includes("udp")) await idleDelay(UDP_FIRST_MS, signal);
    const result = probeTcp({ ...options, onLocalIp: known.resolve, signal });
    return await undefinedWithoutFamily(result) ?? { faults: [] };
  };
  const [udp, tcp] = await runAlongside(
    async (signal) => transports.includes("udp") ? await probe(signal) : undefined,
    async (signal, mainDone) =>
      transports.includes("tcp")
        ? await dial(signal)
        : await reachTcp(network, servers, { onLocalIp: known.resolve, signal: mainDone }),
    options.signal,
  );

  const reachability = "mapping" in tcp ? reachabilityOf(tcp) : tcp;
  const lifetime = udp?.server && lifetimeSeconds !== undefined
    ? await testLifetime({ ...options, server: udp.server, maxSeconds: lifetimeSeconds })
    : null;
  const localIp = reachability.localIp ?? await onlyLocalIp(network, family);
  const canSend = udp !== undefined && !isNoRoute(udp.sendFault?.reason);
  return {
    udp: canSend ? udpReport(udp, localIp, lifetime) : null,
    tcp: "mapping" in tcp && (canSend || !hasNoRoute(tcp)) ? tcpReport(tcp) : null,
    reachability,
    silence: {
      receivedNonStun: udp?.receivedNonStun === true ||
        reachability.faults.some(({ reason }) => reason === "not-stun"),
      errorCode: udp?.errorCode ?? ("mapping" in tcp ? tcp.errorCode : undefined),
      isRefused: servers.every((server) =>
        reachability.faults.some(({ to, reason }) =>
          reason === "refused" && sameTransportAddress(to, server)
        )
      ),
      sendFault: udp?.sendFault,
    },
  };
}

/**
 * Runs a main job and a companion, and returns the results of both. The companion's second signal aborts once the main
 * job has ended, so that the companion never takes longer.
 */
export async function runAlongside<Main, Companion>(
  main: (signal: AbortSignal) => Promise<Main>,
  companion: (signal: AbortSignal, mainDone: AbortSignal) => Promise<Companion>,
  signal?: AbortSignal,
): Promise<[Main, Companion]> {
  const done = new AbortController(); // ends the companion, whatever the outcome of the main job
  return await runAll([
    async (signal) => {
      try {
        return await main(signal);
      } finally {
        done.abort();
      }
    },
    (signal) => companion(signal, AbortSignal.any([signal, done.signal])),
  ], signal);
}

/** The result of a test, or `undefined` if the host has no address of its family. */
async function undefinedWithoutFamily<T>(test: Promise<T>): Promise<T | undefined> {
  try {
    return await test;
  } catch (error) {
    if (error instanceof NetworkError && isNoRoute(error.reason)) return undefined;
    throw error;
  }
}

/** What is known within a moment; `undefined` if it is not. */
async function soon<T>(promise: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  using deadline = new Deadline(SOON_MS, signal);
  try {
    return await abortable(promise, deadline.signal);
  } catch {
    return undefined; // late, or aborted
  }
}

function isNoRoute(reason: DialFault["reason"] | undefined): boolean {
  return reason === "unreachable" || reason === "address-not-available";
}

/** Dials servers over TCP without sending anything, until one accepts or the signal aborts. */
async function reachTcp(
  network: Network,
  servers: readonly TransportAddress[],
  { onLocalIp, signal }: { onLocalIp: (ip: string) => void; signal: AbortSignal },
): Promise<TcpReachability> {
  const faults: DialFault[] = [];
  const dials = servers.map(async (to) => {
    try {
      using connection = await network.connectTcp(to, { signal });
      onLocalIp(connection.local.ip);
      return connection.local.ip;
    } catch (error) {
      if (error instanceof NetworkError) faults.push({ to, reason: error.reason });
      throw error;
    }
  });
  try {
    return { localIp: await Promise.any(dials), faults };
  } catch (error) {
    if (!(error instanceof AggregateError)) throw error;
    return { faults };
  } finally {
    await Promise.allSettled(dials);
  }
}

function reachabilityOf({ local, dialFaults }: TcpResult): TcpReachability {
  return { localIp: local?.ip, faults: dialFaults };
}

/** Routers also report hosts that are down as "unreachable", so this decides only if UDP could not. */
function hasNoRoute({ server, dialFaults, connections }: TcpResult): boolean {
  return server === null && dialFaults.length === connections &&
    dialFaults.every(({ reason }) => isNoRoute(reason));
}

/** The local address, if the interfaces may be listed and there is only one candidate. */
async function onlyLocalIp(network: Network, family: IpFamily): Promise<string | undefined> {
  const all = await network.localAddresses() ?? [];
  const usable = all.map(({ ip }) => ip).filter((ip) =>
    ipFamily(ip) === family && !["loopback", "link-local"].includes(ipScope(ip))
  );
  return usable.length === 1 ? usable[0] : undefined;
}

/**
 * The report of a UDP test.
 *
 * @param localIp the address that packets leave from, if it is known
 */
function udpReport(
  result: UdpResult,
  localIp: string | undefined,
  lifetimeSeconds: FamilyDetails["lifetimeSeconds"],
): FamilyReport {
  const ip = result.isOwnAddress ? result.external!.ip : localIp;
  const local = ip === undefined ? null : { ip, port: result.localPort };
  return familyReport({ ...result, local, unsolicitedSyn: "unknown", crossingSyn: "unknown" }, {
    externalIps: result.externalIps,
    allocation: result.allocation.details,
    rewritesPayload: result.rewritesPayload,
    lifetimeSeconds,
    servers: result.faults,
    packetsSent: result.packetsSent,
  });
}

/** The report of a TCP test. */
function tcpReport(result: TcpResult): FamilyReport {
  const faults = result.dialFaults.map(({ to, reason }) =>
    `${formatTransportAddress(to)} over TCP: ${reason}`
  );
  return familyReport(result, {
    externalIps: result.externalIps,
    allocation: result.allocation.details,
    rewritesPayload: "unknown",
    lifetimeSeconds: null,
    servers: [...result.faults, ...new Set(faults)],
    packetsSent: result.connections,
  });
}

/** What the results of both transports have in common. */
type Result = Pick<
  UdpResult & TcpResult,
  | "server"
  | "external"
  | "local"
  | "isOwnAddress"
  | "rttMs"
  | "elapsedMs"
  | "mapping"
  | "filtering"
  | "allocation"
  | "hairpinning"
  | "unsolicitedSyn"
  | "crossingSyn"
>;

function familyReport(result: Result, details: FamilyDetails): FamilyReport {
  const { server, external, local } = result;
  const reachable = server !== null;
  const verdict = (found: BehaviorVerdict) => reachable ? found : unknown("no server answered");
  return {
    reachable,
    server: format(server),
    local: format(local),
    external: format(external),
    translated: external === null ? "unknown" : !result.isOwnAddress,
    rttMs: result.rttMs,
    elapsedMs: result.elapsedMs,
    mapping: verdict(result.mapping),
    filtering: verdict(result.filtering),
    allocation: result.allocation.allocation,
    hairpinning: result.hairpinning,
    unsolicitedSyn: result.unsolicitedSyn,
    crossingSyn: result.crossingSyn,
    rfc3489Name: rfc3489Name(result.mapping.behavior, result.filtering.behavior),
    details,
  };
}

function format(address: TransportAddress | null): string | null {
  return address && formatTransportAddress(address);
}

/**
 * Chosen by us: in a program that has just started, TCP's dials would take the processor from UDP's first packets, which
 * then leave ten milliseconds later (`deno task lab report`).
 */
const UDP_FIRST_MS = 10;

/** Chosen by us: a handshake over TCP takes hardly longer than the exchange over UDP. */
const SOON_MS = 100;
