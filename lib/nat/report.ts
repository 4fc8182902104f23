/**
 * The NAT test: which NAT is this host behind, and what does that mean.
 *
 * @module
 */

import {
  MalformedMessageError,
  NetworkError,
  NoResponseError,
  RefusedError,
} from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import { runAll } from "../base/tasks.ts";
import {
  formatTransportAddress,
  type IpFamily,
  ipScope,
  isIp,
  parseHostPort,
  sameTransportAddress,
  type TransportAddress,
} from "../net/address.ts";
import type { Network } from "../net/network.ts";
import { systemNetwork } from "../net/system.ts";
import type { NatReport } from "./behavior.ts";
import { type FamilyReports, hasComeBack, probeFamily } from "./family.ts";
import { addressHints, nat64Prefixes } from "./hints.ts";
import { chooseServers } from "./servers.ts";
import { overallVerdict } from "./verdict.ts";

/** What to test, and with whom. */
export interface TestNatOptions {
  /**
   * STUN servers as `HOST[:PORT]`, port 3478 unless given; by default a few public ones. If the second is the other
   * address of the first, a full verdict takes one round trip less.
   */
  readonly servers?: readonly string[];
  /** Both unless given. */
  readonly transports?: readonly ("udp" | "tcp")[];
  /** Both unless given. */
  readonly families?: readonly IpFamily[];
  /** For each part of the test; 5000 unless given. What is not decided by then is `"unknown"`. */
  readonly timeoutMs?: number;
  /**
   * Look for hairpinning over UDP, by a few packets to the own external address; some firewalls take those for an
   * attack. `true` unless given.
   */
  readonly hairpinning?: boolean;
  /** Test how long idle UDP mappings live, up to this many seconds; takes as long. */
  readonly lifetimeSeconds?: number;
  /** Ends the test. */
  readonly signal?: AbortSignal;
  /** The system's own unless given. */
  readonly network?: Network;
  /** Hears what was wrong with servers. */
  readonly logger?: Logger;
}

/**
 * Tests which NAT this host is behind, over UDP and TCP, IPv4 and IPv6 at once.
 *
 * @example
 * ```ts
 * import { testNat } from "@punchline/punchline/nat";
 * import { systemNetwork } from "@punchline/punchline/net";
 * import { serveStun } from "@punchline/punchline/stun";
 * import { assertEquals } from "@std/assert";
 *
 * // A server of our own; without `servers` the test asks a few public ones.
 * await using server = await serveStun({
 *   network: systemNetwork,
 *   address: "127.0.0.1",
 *   alternateAddress: "127.0.0.2",
 *   port: 0,
 *   alternatePort: 0,
 * });
 * const { port } = server.addresses[0]!;
 * const report = await testNat({ servers: [`127.0.0.1:${port}`], families: [4] });
 * assertEquals(report.verdict.difficulty, "open"); // no NAT between this host and itself
 * ```
 *
 * @throws {TypeError} if a server is not `HOST[:PORT]`
 * @throws {RangeError} if a number of milliseconds or seconds is not positive, or there is no server
 * @throws {NetworkError} `name-not-found` if none of the names in `servers` exists, `not-permitted`
 * @throws {NoResponseError} if all of `servers` refuse connections and are silent otherwise
 * @throws {RefusedError} if `servers` answer with errors only
 * @throws {MalformedMessageError} if what answers at `servers` does not speak STUN
 */
export async function testNat(options: TestNatOptions = {}): Promise<NatReport> {
  const { network = systemNetwork, transports = ["udp", "tcp"], families = [4, 6], signal } =
    options;
  const { timeoutMs = DEFAULT_TIMEOUT_MS, lifetimeSeconds, logger } = options;
  requirePositive("timeoutMs", timeoutMs);
  if (lifetimeSeconds !== undefined) requirePositive("lifetimeSeconds", lifetimeSeconds);
  const hosts = (options.servers ?? chooseServers(Math.random)).map((server) =>
    parseHostPort(server, DEFAULT_PORT)
  );
  if (hosts.length === 0) throw new RangeError("Cannot test NAT: it takes at least one server");
  signal?.throwIfAborted();

  const startedAt = performance.now();
  const { resolved, mistake } = await resolveHosts(network, hosts, families, signal);
  // Names of our own choice exist: who cannot resolve a single one is offline.
  if (mistake !== undefined && options.servers !== undefined) throw mistake;
  const testsDone = new AbortController();
  const runTests = async (signal: AbortSignal) => {
    const jobs = families.map((family) => (signal: AbortSignal) => {
      const servers = resolved.get(family)!;
      return servers.length === 0 ? Promise.resolve(undefined) : probeFamily({
        network,
        family,
        servers,
        transports,
        timeoutMs,
        hairpinning: options.hairpinning ?? true,
        ...lifetimeSeconds !== undefined && { lifetimeSeconds },
        signal,
      });
    });
    try {
      return await runAll(jobs, signal);
    } finally {
      testsDone.abort();
    }
  };
  const hasIpv6Server = (resolved.get(6) ?? []).length > 0;
  const [results, nat64] = await runAll([
    runTests,
    async (signal: AbortSignal) =>
      hasIpv6Server ? await findNat64(network, AbortSignal.any([signal, testsDone.signal])) : [],
  ], signal);

  const byFamily = new Map(families.map((family, index) => [family, results[index]]));
  const tested = results.filter((reports) => reports !== undefined);
  const [udp, tcp] = (["udp", "tcp"] as const).map((transport) => ({
    ipv4: byFamily.get(4)?.[transport] ?? null,
    ipv6: byFamily.get(6)?.[transport] ?? null,
  })) as [NatReport["udp"], NatReport["tcp"]];
  const reports = [udp.ipv4, tcp.ipv4, udp.ipv6, tcp.ipv6].filter((report) => report !== null);
  if (!reports.some(({ reachable }) => reachable)) {
    throwIfNotSent(tested);
    // Of servers that nobody named it is known that they are there: then the network refuses.
    if (options.servers !== undefined) throwIfNoServer(hosts, tested);
  }
  for (const { details } of reports) details.servers.forEach((sentence) => logger?.debug(sentence));
  const hasIpv6 = udp.ipv6?.reachable || tcp.ipv6?.reachable;
  const isUp = tested.some(({ reach }) => hasComeBack(reach)) || hasNameResolved(hosts, resolved);
  return {
    version: 1,
    elapsedMs: performance.now() - startedAt,
    udp,
    tcp,
    verdict: overallVerdict({ udp, tcp }, {
      isOffline: reports.length === 0 || !isUp,
      isHasty: timeoutMs < ENOUGH_MS,
    }),
    hints: addressHints(reports, hasIpv6 ? nat64 : []),
  };
}

interface Host {
  readonly host: string;
  readonly port: number;
}

/**
 * The addresses of all hosts by family: one for each host that has one, and two where there is one host only, so
 * that it may have a dead address. With it an error if none of the names exists.
 */
async function resolveHosts(
  network: Network,
  hosts: readonly Host[],
  families: readonly IpFamily[],
  signal?: AbortSignal,
): Promise<{ resolved: Map<IpFamily, TransportAddress[]>; mistake?: NetworkError }> {
  const errors: NetworkError[] = [];
  const resolve = async (host: Host, family: IpFamily): Promise<TransportAddress[]> => {
    const ips = await resolveInTime(network, host.host, family, signal).catch((error) => {
      if (!(error instanceof NetworkError)) throw error;
      errors.push(error);
      return [];
    });
    return ips.slice(0, hosts.length === 1 ? 2 : 1).map((ip) => ({ ip, port: host.port }));
  };
  const found = await Promise.all(families.map(async (family) => {
    const addresses = await Promise.all(hosts.map((host) => resolve(host, family)));
    return [family, withoutRepetitions(addresses.flat())] as const;
  }));
  // A name that does not exist is the caller's mistake; a resolver that does not answer is the network's.
  const isMistake = errors.length > 0 && found.every(([, addresses]) => addresses.length === 0) &&
    errors.every(({ reason }) => reason === "name-not-found");
  return { resolved: new Map(found), ...isMistake && { mistake: errors[0]! } };
}

/** Two names of one server would pass for two witnesses. */
function withoutRepetitions(addresses: readonly TransportAddress[]): TransportAddress[] {
  return addresses.filter((address, index) =>
    addresses.findIndex((other) => sameTransportAddress(address, other)) === index
  );
}

/** Whether a name server answered: then there is a network. */
function hasNameResolved(
  hosts: readonly Host[],
  resolved: ReadonlyMap<IpFamily, readonly TransportAddress[]>,
): boolean {
  return hosts.every(({ host }) => !isIp(host)) &&
    [...resolved.values()].flat().some(({ ip }) => ipScope(ip) !== "loopback");
}

async function resolveInTime(
  network: Network,
  host: string,
  family: IpFamily,
  signal?: AbortSignal,
): Promise<string[]> {
  const timeout = AbortSignal.timeout(RESOLVE_TIMEOUT_MS);
  try {
    const either = signal === undefined ? timeout : AbortSignal.any([timeout, signal]);
    return await network.resolve(host, family, { signal: either });
  } catch (error) {
    if (error !== timeout.reason) throw error;
    throw new NetworkError(`Cannot resolve ${host}: no answer`, "timed-out", { cause: error });
  }
}

function throwIfNotSent(tested: readonly FamilyReports[]): void {
  const denied = tested.map(({ silence }) => silence.sendFault)
    .find((fault) => fault?.reason === "not-permitted");
  if (denied !== undefined) throw denied;
}

/** Where something did answer, but no STUN server, "blocked" would be the wrong verdict. */
function throwIfNoServer(hosts: readonly Host[], tested: readonly FamilyReports[]): void {
  const names = hosts.map(({ host, port }) =>
    isIp(host) ? formatTransportAddress({ ip: host, port }) : `${host}:${port}`
  ).join(", ");
  const silences = tested.map(({ silence }) => silence);
  const code = silences.map(({ errorCode }) => errorCode).find((code) => code !== undefined);
  if (code !== undefined) {
    throw new RefusedError(`Cannot test NAT: ${names} answers with error ${code}`, code);
  }
  if (silences.some(({ heardNoise }) => heardNoise)) {
    throw new MalformedMessageError(`Cannot test NAT: ${names} answers, but not with STUN`);
  }
  const usable = tested.filter(({ udp, tcp }) => udp !== null || tcp !== null);
  if (usable.length > 0 && usable.every(({ silence }) => silence.isRefused)) {
    throw new NoResponseError(
      `Cannot test NAT: no STUN server at ${names}, where connections are refused`,
    );
  }
}

/** What NAT64 shows of itself (RFC 7050), if it does before the signal ends the wait. */
async function findNat64(network: Network, signal: AbortSignal): Promise<string[]> {
  try {
    return nat64Prefixes(await resolveInTime(network, "ipv4only.arpa", 6, signal));
  } catch (error) {
    if (signal.aborted || error instanceof NetworkError) return [];
    throw error;
  }
}

function requirePositive(name: string, value: number): void {
  if (!(value > 0 && Number.isFinite(value))) {
    throw new RangeError(`Cannot test NAT: ${name} must be a positive number, not ${value}`);
  }
}

/** RFC 8489 §18.5. */
const DEFAULT_PORT = 3478;

const DEFAULT_TIMEOUT_MS = 5000;

/** Names that take longer are left out; ours, so that "offline" is said within four seconds. */
const RESOLVE_TIMEOUT_MS = 2000;

/** Less time than this is too short to tell a slow path from a closed one; ours. */
const ENOUGH_MS = 2000;
