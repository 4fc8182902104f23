/**
 * The NAT test: which kind of NAT this host is behind, and what that means for connections.
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
import { shownUrl } from "../base/login.ts";
import { runAll } from "../base/tasks.ts";
import { Deadline, ResettableTimer } from "../base/timers.ts";
import {
  formatTransportAddress,
  type IpFamily,
  ipScope,
  isIp,
  parseTransportAddress,
  sameTransportAddress,
  synthesizeIp,
  type TransportAddress,
} from "../net/address.ts";
import { discoverNat64, isOwnAddress } from "../net/local_address.ts";
import type { Network } from "../net/network.ts";
import { systemNetwork } from "../net/system.ts";
import type { FamilyReport, Finding, NatReport, VerdictScope } from "./behavior.ts";
import { warmUp } from "../stun/client.ts";
import { BackgroundExamination } from "./examination.ts";
import { type FamilyReports, probeFamily, runAlongside } from "./family.ts";
import { explainNetwork, UDP_BLOCKED } from "./findings.ts";
import { addressFindings, nat64Prefixes } from "./hints.ts";
import { measurePathMtu, mtuFinding } from "./path_mtu.ts";
import { chooseServers, parseServer } from "./servers.ts";
import { isUdpBlocked, overallVerdict } from "./verdict.ts";
import { abortable } from "@std/async/abortable";

/** What to test, and with which servers. */
export interface TestNatOptions {
  /**
   * STUN servers as `HOST[:PORT]` or `stun:HOST[:PORT]`. The default port is 3478, and the default servers are a few public ones. If the second
   * server is the alternate address of the first, a full verdict takes one round trip less.
   */
  readonly servers?: readonly string[];
  /** Default: both. */
  readonly transports?: readonly ("udp" | "tcp")[];
  /** Default: both. */
  readonly families?: readonly IpFamily[];
  /** The time limit for each part of the test; what is undecided by then is `"unknown"`. Default: 5000. */
  readonly timeoutMs?: number;
  /**
   * Whether to test hairpinning over UDP. The test sends a few packets to this host's own external address, which some
   * firewalls mistake for an attack. Default: `true`.
   */
  readonly hairpinning?: boolean;
  /**
   * The longest idle time to test UDP mappings with, in seconds. The test then takes at least that long. By default the
   * lifetime of mappings is not tested.
   */
  readonly lifetimeSeconds?: number;
  /** Receives what is known of UDP, before the test over TCP has ended. Each IP family is reported once, if it is reachable. */
  readonly onUdp?: (progress: UdpProgress) => void;
  /**
   * The URL of the proxy that programs on this host are set up to use. The test goes around it, and names it if nothing
   * comes back.
   */
  readonly proxy?: string;
  /** Aborts the test. */
  readonly signal?: AbortSignal;
  /** Default: the system's network. */
  readonly network?: Network;
  /** Receives the reasons why servers were disregarded. */
  readonly logger?: Logger;
}

/** What is known of UDP while the test goes on. */
export interface UdpProgress {
  /** The IP family. */
  readonly family: IpFamily;
  /** Its report: the same as in the end, except for a local address that only TCP shows. */
  readonly report: FamilyReport;
  /** What it means, by itself. */
  readonly verdict: NatReport["verdict"];
}

/**
 * Finds out which kind of NAT this host is behind, over UDP and TCP and over IPv4 and IPv6 at the same time.
 *
 * @example
 * ```ts
 * import { testNat } from "@punchline/punchline/nat";
 * import { systemNetwork } from "@punchline/punchline/net";
 * import { serveStun } from "@punchline/punchline/stun";
 * import { assertEquals } from "@std/assert";
 *
 * // Run your own server; without `servers` the test uses a few public ones.
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
 * @throws {RangeError} if `timeoutMs` or `lifetimeSeconds` is not positive, or `servers` is empty
 * @throws {NetworkError} `name-not-found` if no name in `servers` exists; `not-permitted`
 * @throws {NoResponseError} if all `servers` refuse TCP connections and none answers over UDP
 * @throws {RefusedError} if `servers` answer only with errors
 * @throws {MalformedMessageError} if `servers` answer, but not with STUN
 * @throws the signal's reason on abort
 */
export async function testNat(options: TestNatOptions = {}): Promise<NatReport> {
  const { network = systemNetwork, transports = ["udp", "tcp"], families = [4, 6], signal } =
    options;
  const { timeoutMs = DEFAULT_TIMEOUT_MS, lifetimeSeconds, logger } = options;
  requirePositive("timeoutMs", timeoutMs);
  if (lifetimeSeconds !== undefined) requirePositive("lifetimeSeconds", lifetimeSeconds);
  const hosts = (options.servers ?? chooseServers(Math.random)).map((server) =>
    parseServer(server)
  );
  if (hosts.length === 0) throw new RangeError("Cannot test NAT: name at least one server");
  signal?.throwIfAborted();

  warmUp();
  const startedAt = performance.now();
  const proxy = options.proxy && withoutSecrets(options.proxy);
  await using examination = new BackgroundExamination({ network, hosts, families, proxy, signal });
  const { resolved, denied, mistake } = await resolveHosts(network, hosts, families, signal);
  if (denied !== undefined) throw denied;
  // The default servers' names exist, so if none of them resolves that is a fault of the network.
  if (mistake !== undefined && options.servers !== undefined) throw mistake;
  const hairpinning = options.hairpinning ?? true;
  const answered = Promise.withResolvers<void>();
  const probe = (family: IpFamily, servers: readonly TransportAddress[], signal?: AbortSignal) =>
    probeFamily({
      network,
      family,
      servers,
      transports,
      timeoutMs,
      hairpinning,
      lifetimeSeconds,
      onAnswer: () => {
        examination.cancel();
        answered.resolve();
      },
      onUdp: async (report) => options.onUdp?.(await udpProgress(family, report, network)),
      signal,
    });
  const testFamilies = families.map((family) => async (signal: AbortSignal) => {
    const servers = resolved.get(family)!;
    return servers.length === 0 ? undefined : await probe(family, servers, signal);
  });
  const hasIpv6Server = (resolved.get(6) ?? []).length > 0;
  const measured = families.flatMap((family) => resolved.get(family)?.[0] ?? [])[0];
  const [results, [nat64, mtu]] = await runAlongside(
    (signal) => runAll(testFamilies, signal),
    async (aborted, testsDone) =>
      await Promise.all([
        hasIpv6Server ? findNat64(network, testsDone) : [],
        transports.includes("udp") && measured !== undefined
          ? findMtuHole(network, measured, answered.promise, { testsDone, aborted })
          : undefined,
      ]),
    signal,
  );

  const byFamily = new Map(families.map((family, index) => [family, results[index]]));
  const translated = await translatedServers(network, resolved, byFamily, signal);
  if (translated.length > 0) byFamily.set(6, await probe(6, translated, signal));
  const tested = [...byFamily.values()].filter((reports) => reports !== undefined);
  const [udp, tcp] = (["udp", "tcp"] as const).map((transport) => ({
    ipv4: byFamily.get(4)?.[transport] ?? null,
    ipv6: byFamily.get(6)?.[transport] ?? null,
  })) as [NatReport["udp"], NatReport["tcp"]];
  const reports = [udp.ipv4, tcp.ipv4, udp.ipv6, tcp.ipv6].filter((report) => report !== null);
  const isHasty = timeoutMs < ENOUGH_MS && reports.length > 0;
  let causes: readonly Finding[] = [];
  if (!reports.some(({ reachable }) => reachable)) {
    throwIfNotSent(tested);
    if (options.servers !== undefined) throwIfError(hosts, tested);
    if (!isHasty) {
      const hasWrongAnswer = tested.some(({ silence }) => silence.receivedNonStun);
      causes = explainNetwork({ ...await examination.evidence(), hasWrongAnswer });
    }
    // The default servers are known to exist, so it is the network that refuses them.
    if (options.servers !== undefined && !EXPLAINED.has(causes[0]?.kind)) {
      throwIfNoServer(hosts, tested);
    }
  } else if (isUdpBlocked(udp)) causes = [UDP_BLOCKED];
  for (const { details } of reports) details.servers.forEach((sentence) => logger?.debug(sentence));
  const hasIpv6 = udp.ipv6?.reachable || tcp.ipv6?.reachable;
  const prefixes = translated.length > 0 ? await findNat64(network, signal) : nat64;
  const noticed = addressFindings(reports, hasIpv6 ? prefixes : []);
  const broken = brokenIpv6({ udp, tcp });
  const elapsedMs = performance.now() - startedAt;
  const scopes = await scopesOf(reports.flatMap(({ server }) => server ?? []), network);
  return {
    version: 1,
    elapsedMs,
    udp,
    tcp,
    verdict: overallVerdict({ udp, tcp }, {
      cause: causes[0],
      isHasty,
    }, (server) => scopes.get(server)!),
    hints: noticed.map(({ summary }) => summary),
    findings: [...causes, ...mtu === undefined ? [] : [mtu], ...broken, ...noticed],
  };
}

/** The proxy for a message. */
function withoutSecrets(proxy: string): string {
  const url = URL.parse(proxy);
  return url === null || url.host === "" ? shownUrl(proxy) : `${url.protocol}//${url.host}`;
}

async function udpProgress(
  family: IpFamily,
  report: FamilyReport,
  network: Network,
): Promise<UdpProgress> {
  const scopes = await scopesOf([report.server!], network);
  const udp = { ipv4: family === 4 ? report : null, ipv6: family === 6 ? report : null };
  const reports = { udp, tcp: { ipv4: null, ipv6: null } };
  const scopeOf = (server: string) => scopes.get(server)!;
  return { family, report, verdict: overallVerdict(reports, { isHasty: false }, scopeOf) };
}

/**
 * The servers as a NAT64 reaches them, if this host has IPv6 alone and the servers IPv4 alone (RFC 7050, RFC 6052);
 * otherwise none.
 */
async function translatedServers(
  network: Network,
  resolved: ReadonlyMap<IpFamily, readonly TransportAddress[]>,
  tested: ReadonlyMap<IpFamily, FamilyReports | undefined>,
  signal?: AbortSignal,
): Promise<TransportAddress[]> {
  const isNeeded = tested.has(6) &&
    [...tested.values()].every((reports) =>
      reports === undefined || reports.udp === null && reports.tcp === null
    );
  const servers = resolved.get(4) ?? [];
  if (!isNeeded || servers.length === 0) return [];
  const [prefix] = await discoverNat64(network, { signal });
  if (prefix === undefined) return [];
  return servers.map(({ ip, port }) => ({ ip: synthesizeIp(ip, prefix), port }));
}

/** Where the servers are. */
async function scopesOf(
  servers: readonly string[],
  network: Network,
): Promise<ReadonlyMap<string, VerdictScope>> {
  const scopes = new Map<string, VerdictScope>();
  for (const server of servers) {
    if (!scopes.has(server)) {
      const { ip } = parseTransportAddress(server);
      const isHere = ipScope(ip) === "loopback" || await isOwnAddress(network, ip);
      scopes.set(
        server,
        isHere ? "machine" : LOCAL_SCOPES.has(ipScope(ip)) ? "network" : "internet",
      );
    }
  }
  return scopes;
}

interface Host {
  readonly host: string;
  readonly port: number;
}

/**
 * The addresses of all hosts by family: one per host, or up to two if there is only one host, in case one of its addresses
 * is dead. Without any address, `denied` says that a permission is missing, and `mistake` that none of the names exists.
 */
async function resolveHosts(
  network: Network,
  hosts: readonly Host[],
  families: readonly IpFamily[],
  signal?: AbortSignal,
): Promise<
  { resolved: Map<IpFamily, TransportAddress[]>; denied?: NetworkError; mistake?: NetworkError }
> {
  const failures = new Map<IpFamily, NetworkError[]>(families.map((family) => [family, []]));
  const resolve = async (host: Host, family: IpFamily): Promise<TransportAddress[]> => {
    const ips = await resolveInTime(network, host.host, family, signal).catch((error) => {
      if (!(error instanceof NetworkError)) throw error;
      failures.get(family)!.push(error);
      return [];
    });
    return ips.slice(0, hosts.length === 1 ? 2 : 1).map((ip) => ({ ip, port: host.port }));
  };
  const found = await Promise.all(families.map(async (family) => {
    const addresses = await Promise.all(hosts.map((host) => resolve(host, family)));
    return [family, withoutRepetitions(addresses.flat())] as const;
  }));
  // A name that does not exist is the caller's mistake. A resolver that does not answer is a problem of the network.
  const resolved = new Map(found);
  if (found.some(([, addresses]) => addresses.length > 0)) return { resolved };
  const errors = [...failures.values()].flat();
  const isMistake = errors.every(({ reason }) => reason === "name-not-found");
  return {
    resolved,
    denied: errors.find(({ reason }) => reason === "not-permitted"),
    mistake: isMistake ? errors[0] : undefined,
  };
}

/** Two names of one server would count as two independent servers. */
function withoutRepetitions(addresses: readonly TransportAddress[]): TransportAddress[] {
  return addresses.filter((address, index) =>
    addresses.findIndex((other) => sameTransportAddress(address, other)) === index
  );
}

async function resolveInTime(
  network: Network,
  host: string,
  family: IpFamily,
  signal?: AbortSignal,
): Promise<string[]> {
  using deadline = new Deadline(RESOLVE_TIMEOUT_MS, signal);
  try {
    return await network.resolve(host, family, { signal: deadline.signal });
  } catch (error) {
    signal?.throwIfAborted();
    if (error !== deadline.signal.reason) throw error;
    throw new NetworkError(`Cannot resolve ${host}: no answer`, "timed-out", { cause: error });
  }
}

/** A permission of Deno's is the caller's to give. A firewall that refuses has a cause, the error of the system. */
function throwIfNotSent(tested: readonly FamilyReports[]): void {
  const denied = tested.map(({ silence }) => silence.sendFault)
    .find((fault) => fault?.reason === "not-permitted" && fault.cause === undefined);
  if (denied !== undefined) throw denied;
}

function namesOf(hosts: readonly Host[]): string {
  return hosts.map(({ host, port }) =>
    isIp(host) ? formatTransportAddress({ ip: host, port }) : `${host}:${port}`
  ).join(", ");
}

/** A server that answers with errors is there, and the network is up. */
function throwIfError(hosts: readonly Host[], tested: readonly FamilyReports[]): void {
  const code = tested.map(({ silence }) => silence.errorCode).find((code) => code !== undefined);
  if (code === undefined) return;
  const remedy = "Name another STUN server in `servers`";
  const message = `Cannot test NAT: ${namesOf(hosts)} answers with error ${code}`;
  throw new RefusedError(message, code, { remedy });
}

/** If something answered that is not a STUN server, "blocked" would be the wrong verdict. */
function throwIfNoServer(hosts: readonly Host[], tested: readonly FamilyReports[]): void {
  const names = namesOf(hosts);
  const silences = tested.map(({ silence }) => silence);
  if (silences.some(({ receivedNonStun }) => receivedNonStun)) {
    throw new MalformedMessageError(`Cannot test NAT: ${names} answers, but not with STUN`);
  }
  const usable = tested.filter(({ udp, tcp }) => udp !== null || tcp !== null);
  if (usable.length > 0 && usable.every(({ silence }) => silence.isRefused)) {
    throw new NoResponseError(`Cannot test NAT: no STUN server at ${names}: connection refused`);
  }
}

/** Whether the path swallows long packets, as far as that is known when the tests have ended. */
async function findMtuHole(
  network: Network,
  server: TransportAddress,
  answered: Promise<void>,
  { testsDone, aborted }: { readonly testsDone: AbortSignal; readonly aborted: AbortSignal },
): Promise<Finding | undefined> {
  try {
    await abortable(answered, testsDone); // the first packets of a NAT test must not be mixed with others
    const late = new AbortController(); // packets that are not answered are sent again, if there is a doubt
    const timer = new ResettableTimer(() => late.abort());
    const onDone = () => timer.set(MTU_DOUBT_MS);
    testsDone.addEventListener("abort", onDone, { once: true });
    try {
      const signal = AbortSignal.any([late.signal, aborted]);
      return mtuFinding(await measurePathMtu({ network, server, signal }));
    } finally {
      testsDone.removeEventListener("abort", onDone);
      timer.clear();
    }
  } catch (error) {
    if (testsDone.aborted || error instanceof NetworkError) return undefined;
    throw error;
  }
}

/** The NAT64 prefixes of this network (RFC 7050); none if the signal aborts first. */
async function findNat64(network: Network, signal?: AbortSignal): Promise<string[]> {
  try {
    return nat64Prefixes(await resolveInTime(network, "ipv4only.arpa", 6, signal));
  } catch (error) {
    if (signal?.aborted || error instanceof NetworkError) return [];
    throw error;
  }
}

/** What to say if IPv4 works, and IPv6 is there and does not. */
function brokenIpv6({ udp, tcp }: Pick<NatReport, "udp" | "tcp">): Finding[] {
  const works = udp.ipv4?.reachable || tcp.ipv4?.reachable;
  const tested = [udp.ipv6, tcp.ipv6].filter((report) => report !== null);
  if (!works || tested.length < 2 || tested.some(({ reachable }) => reachable)) return [];
  return [{
    kind: "ipv6",
    summary:
      "Nothing came back over IPv6, although this machine and the servers have addresses: IPv6 is broken here, or the servers do not serve it",
    remedy:
      "Open an IPv6-only page in a browser; if it fails, restart the router or turn off IPv6: programs wait for it in vain",
  }];
}

function requirePositive(name: string, value: number): void {
  if (!(value > 0 && Number.isFinite(value))) {
    throw new RangeError(`Cannot test NAT: ${name} must be a positive number, not ${value}`);
  }
}

const DEFAULT_TIMEOUT_MS = 5000;

/** What says more than that no server is there. */
const EXPLAINED: ReadonlySet<Finding["kind"] | undefined> = new Set(["captive-portal", "dns"]);

/** Chosen by us: names that take longer are left out, so that "offline" is reported within four seconds. */
const RESOLVE_TIMEOUT_MS = 2000;

/** Chosen by us: a shorter timeout cannot tell a slow path from a blocked one. */
const ENOUGH_MS = 2000;

/** Chosen by us: how much longer than the tests it may take to be sure of an MTU hole. */
const MTU_DOUBT_MS = 300;

/** Addresses that lead nowhere from the internet. */
const LOCAL_SCOPES: ReadonlySet<string> = new Set(["private", "shared", "link-local"]);
