/**
 * The NAT test over one IP family: UDP and TCP at once, on ports of their own.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import { runAll } from "../base/tasks.ts";
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

/**
 * The report of a UDP test.
 *
 * @param localIp the address that packets leave from, if it is known
 */
export function udpReport(
  result: UdpResult,
  localIp: string | undefined,
  lifetimeSeconds: FamilyDetails["lifetimeSeconds"],
): FamilyReport {
  const ip = result.isOwnAddress ? result.external!.ip : localIp;
  const local = ip === undefined ? null : { ip, port: result.localPort };
  return assemble({ ...result, local, unsolicitedSyn: "unknown" }, {
    allocation: result.allocation.details,
    rewritesPayload: result.rewritesPayload,
    lifetimeSeconds,
    servers: result.faults,
    packetsSent: result.packetsSent,
  });
}

/** The report of a TCP test. */
export function tcpReport(result: TcpResult): FamilyReport {
  const faults = result.dialFaults.map(({ to, reason }) =>
    `${formatTransportAddress(to)} over TCP: ${reason}`
  );
  return assemble(result, {
    allocation: result.allocation.details,
    rewritesPayload: "unknown",
    lifetimeSeconds: null,
    servers: [...result.faults, ...new Set(faults)],
    packetsSent: result.connections,
  });
}

type Result = Omit<
  UdpResult & TcpResult,
  | "localPort"
  | "dialFaults"
  | "connections"
  | "packetsSent"
  | "sendFault"
  | "errorCode"
  | "heardNoise"
  | "rewritesPayload"
>;

function assemble(result: Result, details: FamilyDetails): FamilyReport {
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
    rfc3489Name: rfc3489Name(result.mapping.behavior, result.filtering.behavior),
    details,
  };
}

function format(address: TransportAddress | null): string | null {
  return address && formatTransportAddress(address);
}

/** What dialling over TCP has shown. */
export interface Reach {
  /** The address that a connection left from, if one was made. */
  readonly localIp?: string;
  /** Why servers could not be reached. */
  readonly faults: readonly DialFault[];
}

/** Dials servers over TCP and says nothing, until one answers or the signal ends it. */
export async function reachTcp(
  network: Network,
  servers: readonly TransportAddress[],
  signal: AbortSignal,
): Promise<Reach> {
  const faults: DialFault[] = [];
  const dials = servers.map(async (to) => {
    try {
      using connection = await network.connectTcp(to, { signal });
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

/** Whether anything came back: then there is a network. */
export function hasComeBack({ localIp, faults }: Reach): boolean {
  return localIp !== undefined || faults.some(({ reason }) => CAME_BACK.includes(reason));
}

const CAME_BACK: readonly DialFault["reason"][] = ["refused", "reset", "not-stun"];

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
  readonly signal?: AbortSignal;
}

/** The reports: `null` where not asked for, or where the host has no address of this family. */
export interface FamilyReports {
  readonly udp: FamilyReport | null;
  readonly tcp: FamilyReport | null;
  readonly reach: Reach;
  /** What is to be said of the servers if none of them answered as it should. */
  readonly silence: Silence;
}

/** Why servers did not answer, as far as it shows. */
export interface Silence {
  /** A server answered with something that is not STUN. */
  readonly heardNoise: boolean;
  /** The code of an error that a server answered with. */
  readonly errorCode: number | undefined;
  /** All servers refuse connections. */
  readonly isRefused: boolean;
  /** The system sends nothing. */
  readonly sendFault: NetworkError | undefined;
}

/**
 * Runs the tests of one family.
 *
 * @throws {NetworkError} if no socket can be opened, though the host has an address of this family
 */
export async function probeFamily(options: ProbeFamilyOptions): Promise<FamilyReports> {
  const { network, transports, servers, lifetimeSeconds } = options;
  const udpDone = new AbortController();
  const [udp, tcp] = await runAll([
    async (signal): Promise<UdpResult | undefined> => {
      if (!transports.includes("udp")) return undefined;
      try {
        return await unlessWithoutFamily(probeUdp({ ...options, signal }));
      } finally {
        udpDone.abort();
      }
    },
    async (signal): Promise<TcpResult | Reach> =>
      transports.includes("tcp")
        ? await unlessWithoutFamily(probeTcp({ ...options, signal })) ?? NOWHERE
        : await reachTcp(network, servers, AbortSignal.any([signal, udpDone.signal])),
  ], options.signal);

  const reach = "mapping" in tcp ? reachOf(tcp) : tcp;
  const lifetime = udp?.server && lifetimeSeconds !== undefined
    ? await testLifetime({ ...options, server: udp.server, maxSeconds: lifetimeSeconds })
    : null;
  const localIp = reach.localIp ?? await onlyLocalIp(network, options.family);
  const canSend = udp !== undefined && !isNoRoute(udp.sendFault?.reason);
  return {
    udp: canSend ? udpReport(udp, localIp, lifetime) : null,
    tcp: "mapping" in tcp && (canSend || !hasNoRoute(tcp)) ? tcpReport(tcp) : null,
    reach,
    silence: {
      heardNoise: udp?.heardNoise === true ||
        reach.faults.some(({ reason }) => reason === "not-stun"),
      errorCode: udp?.errorCode ?? ("mapping" in tcp ? tcp.errorCode : undefined),
      isRefused: servers.every((server) =>
        reach.faults.some(({ to, reason }) =>
          reason === "refused" && sameTransportAddress(to, server)
        )
      ),
      sendFault: udp?.sendFault,
    },
  };
}

/** The result of a test, or `undefined` if the host has no address of its family. */
async function unlessWithoutFamily<T>(test: Promise<T>): Promise<T | undefined> {
  try {
    return await test;
  } catch (error) {
    if (error instanceof NetworkError && isNoRoute(error.reason)) return undefined;
    throw error;
  }
}

function isNoRoute(reason: DialFault["reason"] | undefined): boolean {
  return reason === "unreachable" || reason === "address-not-available";
}

function reachOf({ local, dialFaults }: TcpResult): Reach {
  return { faults: dialFaults, ...local && { localIp: local.ip } };
}

/** Routers say "unreachable" too, of hosts that are down; so this is asked only where UDP could not tell. */
function hasNoRoute({ server, dialFaults, connections }: TcpResult): boolean {
  return server === null && dialFaults.length === connections &&
    dialFaults.every(({ reason }) => isNoRoute(reason));
}

/** The local address, if the interfaces may be listed and only one can be meant. */
async function onlyLocalIp(network: Network, family: IpFamily): Promise<string | undefined> {
  const all = await network.localAddresses() ?? [];
  const usable = all.map(({ ip }) => ip).filter((ip) =>
    ipFamily(ip) === family && !["loopback", "link-local"].includes(ipScope(ip))
  );
  return usable.length === 1 ? usable[0] : undefined;
}

const NOWHERE: Reach = { faults: [] };
