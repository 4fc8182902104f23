/**
 * The NAT test: which NAT is this host behind, and what does that mean.
 *
 * @module
 */

import { MalformedMessageError, NetworkError, NoResponseError } from "../errors.ts";
import type { Logger } from "../logger.ts";
import { type IpFamily, parseHostPort, type TransportAddress } from "../net/address.ts";
import type { Network } from "../net/network.ts";
import { systemNetwork } from "../net/system.ts";
import { runAll } from "../run_all.ts";
import type { NatReport } from "./behavior.ts";
import { addressHints, nat64Prefixes } from "./hints.ts";
import { type FamilyReports, probeFamily } from "./probe_family.ts";
import { isUp } from "./reach.ts";
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
   * Wait for the verdict on hairpinning over UDP; by default it is only taken if it comes before the others do.
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
 * import { serveStun, systemNetwork } from "@punchline/punchline/stun";
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
 * @throws {RangeError} if a number of milliseconds or seconds is not positive
 * @throws {NetworkError} `name-not-found` if no server's name resolves, `not-permitted`
 * @throws {NoResponseError} if all servers refuse
 * @throws {MalformedMessageError} if what answers does not speak STUN
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
  signal?.throwIfAborted();

  const startedAt = performance.now();
  const resolved = await resolveHosts(network, hosts, families, signal);
  const jobs = families.map((family) => async (signal: AbortSignal) => {
    const servers = resolved.get(family)!;
    if (servers.length === 0) return [family, undefined] as const;
    const reports = await probeFamily({
      network,
      family,
      servers,
      transports,
      timeoutMs,
      waitForHairpinning: options.hairpinning ?? false,
      ...lifetimeSeconds !== undefined && { lifetimeSeconds },
      signal,
    });
    return [family, reports] as const;
  });
  const byFamily = new Map<IpFamily, FamilyReports | undefined>(await runAll(jobs, signal));

  const tested = [...byFamily.values()].filter((reports) => reports !== undefined);
  const [udp, tcp] = (["udp", "tcp"] as const).map((transport) => ({
    ipv4: byFamily.get(4)?.[transport] ?? null,
    ipv6: byFamily.get(6)?.[transport] ?? null,
  })) as [NatReport["udp"], NatReport["tcp"]];
  const reports = [udp.ipv4, tcp.ipv4, udp.ipv6, tcp.ipv6].filter((report) => report !== null);
  if (!reports.some(({ reachable }) => reachable)) throwIfNoServer(hosts, tested);
  for (const { details } of reports) details.servers.forEach((sentence) => logger?.debug(sentence));
  return {
    version: 1,
    elapsedMs: performance.now() - startedAt,
    udp,
    tcp,
    verdict: overallVerdict({ udp, tcp }, !tested.some(({ reach }) => isUp(reach))),
    hints: addressHints(reports, await findNat64(network, byFamily.get(6), signal)),
  };
}

interface Host {
  readonly host: string;
  readonly port: number;
}

/** The addresses of all hosts by family, one for each host that has one. */
async function resolveHosts(
  network: Network,
  hosts: readonly Host[],
  families: readonly IpFamily[],
  signal?: AbortSignal,
): Promise<Map<IpFamily, TransportAddress[]>> {
  const errors: NetworkError[] = [];
  const resolve = async (host: Host, family: IpFamily): Promise<TransportAddress[]> => {
    const ips = await resolveInTime(network, host.host, family, signal).catch((error) => {
      if (!(error instanceof NetworkError)) throw error;
      errors.push(error);
      return [];
    });
    return ips.slice(0, 1).map((ip) => ({ ip, port: host.port }));
  };
  const found = await Promise.all(families.map(async (family) => {
    const addresses = await Promise.all(hosts.map((host) => resolve(host, family)));
    return [family, addresses.flat()] as const;
  }));
  if (found.every(([, addresses]) => addresses.length === 0)) {
    // A name that does not exist is the caller's mistake; a resolver that does not answer is the network's.
    const unknown = errors.find(({ reason }) => reason === "name-not-found");
    const isMistake = unknown !== undefined &&
      errors.every(({ reason }) => reason === "name-not-found");
    if (isMistake) throw unknown;
  }
  return new Map(found);
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

/** Where something did answer, but no STUN server, "blocked" would be the wrong verdict. */
function throwIfNoServer(hosts: readonly Host[], tested: readonly FamilyReports[]): void {
  const names = hosts.map(({ host, port }) => `${host}:${port}`).join(", ");
  if (tested.some(({ heardNoise }) => heardNoise)) {
    throw new MalformedMessageError(`Cannot test NAT: ${names} answers, but not with STUN`);
  }
  const faults = tested.flatMap(({ reach }) => reach.faults);
  const isRefused = faults.some(({ reason }) => reason === "refused") &&
    tested.every(({ reach }) => reach.localIp === undefined);
  if (isRefused) {
    throw new NoResponseError(`Cannot test NAT: no STUN server at ${names}, it refuses`);
  }
}

/** Only where there is IPv6 but no IPv4 server could be reached over it may NAT64 be at work. */
async function findNat64(
  network: Network,
  ipv6: FamilyReports | undefined,
  signal?: AbortSignal,
): Promise<string[]> {
  const hasIpv6 = ipv6?.udp?.reachable || ipv6?.tcp?.reachable;
  if (!hasIpv6) return [];
  try {
    return nat64Prefixes(await resolveInTime(network, "ipv4only.arpa", 6, signal));
  } catch (error) {
    if (error instanceof NetworkError) return [];
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
