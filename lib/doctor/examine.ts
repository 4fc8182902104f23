/**
 * Examines this host's network: all checks at once, within five seconds in all.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import { TaskGroup } from "../base/tasks.ts";
import { Deadline } from "../base/timers.ts";
import { gatherEvidence } from "../nat/examination.ts";
import { nameFault } from "../nat/findings.ts";
import type { NatReport } from "../nat/behavior.ts";
import { measurePathMtu, mtuFinding } from "../nat/path_mtu.ts";
import { testNat } from "../nat/report.ts";
import { parseServer } from "../nat/servers.ts";
import { ipFamily, isIp, synthesizeIp } from "../net/address.ts";
import { discoverNat64, type NamedHost } from "../net/local_address.ts";
import { nat64Network } from "../net/nat64_network.ts";
import type { Network } from "../net/network.ts";
import type { Proxy, ProxyOptions } from "../net/proxy/client.ts";
import { resolveHost } from "../net/resolve.ts";
import { probeGateways } from "../portmap/admin.ts";
import { checksOf } from "./check_plan.ts";
import {
  type DoctorFacts,
  isConnected,
  type MtuFacts,
  type NameFacts,
  type Outcome,
  type ProxyFacts,
  valueOf,
} from "./facts.ts";
import { askHttp, clockOf } from "./http_head.ts";
import { outlooks } from "./pair_plan.ts";
import { networkProfile } from "./profile.ts";
import { probePage, PUBLIC_PAGES } from "./public_hosts.ts";
import { type DoctorReport, PROGRAM } from "./report_message.ts";
import { faultOf, probeServer } from "./servers.ts";
import { judge } from "./verdict.ts";

/** What to examine, and with which servers. */
export interface ExamineOptions {
  readonly network: Network;
  /** STUN servers, `HOST[:PORT]`; at least one. */
  readonly servers: readonly string[];
  /** URLs of signaling servers, without `lan:`. */
  readonly signaling: readonly string[];
  /** Default: none is set up. */
  readonly proxy?: ProxyOptions;
  /** Whether to ask {@linkcode PUBLIC_PAGES}, too. */
  readonly isPublic: boolean;
  readonly signal?: AbortSignal;
}

/**
 * Examines the network. Whatever the network does is a result.
 *
 * @throws {NetworkError} `not-permitted` if a permission of Deno's is missing
 * @throws the signal's reason on abort
 */
export async function examineNetwork(options: ExamineOptions): Promise<DoctorReport> {
  const startedMs = performance.now();
  const facts = await gatherFacts(options);
  const servers = valueOf(facts.servers) ?? [];
  const profile = networkProfile({
    nat: valueOf(facts.nat),
    gateways: valueOf(facts.gateways) ?? [],
    meets: servers.filter(({ isOpen }) => isOpen).map(({ name }) => name),
    relays: servers.filter(({ relay }) => relay === "works").map(({ name }) => name),
  });
  return {
    version: 1,
    program: PROGRAM,
    elapsedMs: performance.now() - startedMs,
    ...judge(facts),
    checks: checksOf(facts),
    peers: outlooks(profile),
    profile,
    pair: null,
  };
}

/** Runs the jobs side by side. Those that only explain a failure are ended soon after the others have shown that all is well. */
async function gatherFacts(options: ExamineOptions): Promise<DoctorFacts> {
  const { network, signaling, isPublic } = options;
  const reaching = nat64Network(network); // as peers use it
  const proxy = await loadProxy({ ...options, network: reaching });
  const networkOf = (host: string) => proxy?.networkFor(host) ?? reaching;
  const startedMs = performance.now();
  const hosts = options.servers.map(parseServer);
  const meeting = signaling.flatMap(hostOf);
  const [first] = hosts as [NamedHost, ...NamedHost[]];
  using deadline = new Deadline(LIMIT_MS, options.signal);
  const run = <T>(job: (signal: AbortSignal) => Promise<T>) => outcomeOf(job, deadline.signal);
  let denied: NetworkError | undefined;
  await using evidence = new Companion(
    (signal) =>
      gatherEvidence({
        network,
        hosts: [...hosts.slice(0, 2), ...meeting.slice(0, 2)],
        proxy: proxy?.url,
        signal,
      }),
    deadline.signal,
  );
  await using gateways = new Companion(
    (signal) => probeGateways({ network, servers: options.servers.slice(0, 2), signal }),
    deadline.signal,
  );
  const [nat, servers, names, mtu, clock, nat64, proxyFacts, publicHosts] = await Promise.all([
    run(async (signal) => {
      try {
        return await testNat({ network, servers: options.servers, timeoutMs: NAT_TEST_MS, signal });
      } catch (error) {
        if (isDenied(error)) denied = error;
        throw error;
      }
    }),
    run((signal) =>
      Promise.all(
        signaling.map((url) => {
          const [server] = hostOf(url);
          return probeServer(networkOf(server?.host ?? ""), url, signal, proxy?.withNames);
        }),
      )
    ),
    run((signal) => resolveNames(network, [...hosts, ...meeting], signal)),
    run((signal) => measureMtu(network, first, signal)),
    run((signal) => readServerClock(networkOf, signaling, signal)),
    run((signal) => prefixesOf(network, signal)),
    run(async (signal) => await probeProxy(proxy, meeting[0], signal)),
    isPublic
      ? run((signal) => Promise.all(PUBLIC_PAGES.map((page) => probePage(network, page, signal))))
      : null,
  ]);
  if (denied !== undefined) throw denied;
  const isWell = isConnected({ nat, servers });
  const told = publicHosts === null ? [] : valueOf(publicHosts) ?? [];
  const facts = {
    nat,
    servers,
    names,
    mtu,
    clock: withPublicClock(clock, told.flatMap(({ clockMs }) => clockMs ?? [])),
    nat64,
    evidence: await evidence.outcome(isWell ? GRACE_MS : LIMIT_MS),
    gateways: await gateways.outcome(
      isWell && isTranslated(nat) ? startedMs + ROUTER_MS - performance.now() : GRACE_MS,
    ),
    proxy: proxyFacts,
    publicHosts,
  };
  options.signal?.throwIfAborted();
  return facts;
}

/** A job whose result is wanted only if it comes soon enough. */
class Companion<T> implements AsyncDisposable {
  readonly #ending = new TaskGroup(() => {}); // the outcome holds the job's failure
  readonly #outcome: Promise<Outcome<T>>;

  constructor(job: (signal: AbortSignal) => Promise<T>, signal: AbortSignal) {
    this.#outcome = outcomeOf(job, AbortSignal.any([signal, this.#ending.signal]));
  }

  /** Ends the job if it takes longer than this from now. */
  async outcome(graceMs: number): Promise<Outcome<T>> {
    using grace = new Deadline(graceMs);
    grace.signal.addEventListener("abort", () => void this.#ending.stop(), { once: true });
    return await this.#outcome;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#ending.stop();
    await Promise.allSettled([this.#outcome]);
  }
}

async function outcomeOf<T>(
  job: (signal: AbortSignal) => Promise<T>,
  signal: AbortSignal,
): Promise<Outcome<T>> {
  const startMs = performance.now();
  try {
    const value = await job(signal);
    return { kind: "done", value, elapsedMs: performance.now() - startMs };
  } catch (error) {
    const elapsedMs = performance.now() - startMs;
    if (signal.aborted) return { kind: "unfinished", elapsedMs };
    return { kind: "failed", fault: faultOf(error), elapsedMs };
  }
}

/** A permission of Deno's is the caller's to give. A firewall that refuses has a cause, the error of the system. */
function isDenied(error: unknown): error is NetworkError {
  return error instanceof NetworkError && error.reason === "not-permitted" &&
    error.cause === undefined;
}

async function resolveNames(
  network: Network,
  hosts: readonly NamedHost[],
  signal: AbortSignal,
): Promise<NameFacts[]> {
  const names = [...new Set(hosts.map(({ host }) => host))].filter((host) => !isIp(host));
  return await Promise.all(names.map(async (name): Promise<NameFacts> => {
    const startMs = performance.now();
    using deadline = new Deadline(RESOLVE_MS, signal);
    try {
      const ip = await resolveHost(network, name, { signal: deadline.signal });
      return { name, ips: [ip], fault: null };
    } catch (error) {
      signal.throwIfAborted();
      if (deadline.signal.aborted) return { name, ips: [], fault: "silent" };
      if (!(error instanceof NetworkError)) throw error;
      const fault = nameFault(error.reason, performance.now() - startMs);
      return { name, ips: [], fault };
    }
  }));
}

/** `null` if the server has no address, which the check of names tells. */
async function measureMtu(
  network: Network,
  { host, port }: NamedHost,
  signal: AbortSignal,
): Promise<MtuFacts | null> {
  try {
    const ip = await resolveHost(network, host, { signal });
    const measure = (ip: string) => measurePathMtu({ network, server: { ip, port }, signal });
    let found = await measure(ip);
    if (found.answeredBytes === null && ipFamily(ip) === 4) {
      const [prefix] = await discoverNat64(network, { signal });
      if (prefix !== undefined) found = await measure(synthesizeIp(ip, prefix));
    }
    return { answeredBytes: found.answeredBytes, finding: mtuFinding(found) ?? null };
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof NetworkError)) throw error;
    return null;
  }
}

/** Loaded only if there is one. */
async function loadProxy({ network, proxy }: ExamineOptions): Promise<Proxy | undefined> {
  if (proxy === undefined) return undefined;
  const { throughProxy } = await import("../net/proxy/client.ts");
  return throughProxy(network, proxy);
}

/** Whether the proxy connects to a signaling server; `null` if there is nothing to try. */
async function probeProxy(
  proxy: Proxy | undefined,
  server: NamedHost | undefined,
  signal: AbortSignal,
): Promise<ProxyFacts | null> {
  if (proxy === undefined || server === undefined) return null;
  const network = proxy.networkFor(server.host);
  try {
    const ip = await resolveHost(network, server.host, { signal });
    const connection = await network.connectTcp({ ip, port: server.port }, { signal });
    connection.reset();
    return { url: proxy.url, fault: null };
  } catch (error) {
    signal.throwIfAborted();
    const fault = faultOf(error);
    return { url: proxy.url, fault: { ...fault, message: proxy.withNames(fault.message) } };
  }
}

/** The clock of the first rendezvous that tells the time. */
async function readServerClock(
  networkOf: (host: string) => Network,
  signaling: readonly string[],
  signal: AbortSignal,
): Promise<number | null> {
  const offsets = await Promise.all(
    signaling.filter((url) => /^wss?:/.test(url)).map(async (url) => {
      const [server] = hostOf(url);
      if (server === undefined) return null;
      const network = networkOf(server.host);
      try {
        const ip = await resolveHost(network, server.host, { signal });
        const tlsName = url.startsWith("wss:") ? server.host : undefined;
        const lines = ["GET /healthz HTTP/1.1", `Host: ${server.host}`, "Connection: close"];
        const answer = await askHttp(network, { ip, port: server.port, tlsName }, lines, signal);
        return clockOf(answer, Date.now());
      } catch (error) {
        signal.throwIfAborted();
        if (!(error instanceof NetworkError)) throw error;
        return null;
      }
    }),
  );
  return offsets.find((offset) => offset !== null) ?? null;
}

function withPublicClock(
  clock: Outcome<number | null>,
  [offsetMs]: readonly number[],
): Outcome<number | null> {
  if (offsetMs === undefined || typeof valueOf(clock) === "number") return clock;
  return { kind: "done", value: offsetMs, elapsedMs: clock.elapsedMs };
}

async function prefixesOf(network: Network, signal: AbortSignal): Promise<string[]> {
  const prefixes = await discoverNat64(network, { signal });
  return prefixes.map(({ ip, bits }) => `${ip}/${bits}`);
}

function isTranslated(nat: Outcome<NatReport>): boolean {
  const report = valueOf(nat);
  return [report?.udp.ipv4, report?.tcp.ipv4].some((each) => each?.translated === true);
}

/** The server that a URL of a signaling server names. */
function hostOf(url: string): NamedHost[] {
  const [, scheme, rest] = /^([a-z+]+):\/\/(.*)$/.exec(url) ?? [];
  const parsed = rest === undefined ? null : URL.parse(`http://${rest}`);
  if (scheme === undefined || parsed === null) return [];
  const isPlainWeb = /:80(?:[/?#]|$)/.test(rest!); // `URL` leaves out port 80
  const port = parsed.port !== "" ? Number(parsed.port) : isPlainWeb ? 80 : PORTS[scheme] ?? 443;
  return [{ host: parsed.hostname.replace(/^\[(.*)\]$/, "$1"), port }];
}

const PORTS: Readonly<Record<string, number>> = {
  ...{ "ws": 80, "wss": 443, "mqtt": 1883, "mqtts": 8883, "mqtt+ws": 80, "mqtt+wss": 443 },
};

/** Chosen by us: with the start of the program, it is five seconds. */
const LIMIT_MS = 4200;

/** Chosen by us: routers that answer at all mostly do so by then. */
const ROUTER_MS = 3500;

/** Chosen by us: enough to tell a slow path from a blocked one. */
const NAT_TEST_MS = 3000;

/** Chosen by us: a resolver that takes longer holds up everything. */
const RESOLVE_MS = 2000;

/** Chosen by us: what only explains failures may not cost more where all is well. */
const GRACE_MS = 200;
