/**
 * Examines a network in which servers did not answer: whether the system sends at all, names resolve, other ports of the
 * same servers are open, and a web page answers in their place. It contacts no host but those that were asked anyway.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import { writeAll } from "../base/reader.ts";
import { optionalResolvers, TaskGroup } from "../base/tasks.ts";
import { Deadline, WakeableDelay } from "../base/timers.ts";
import { type IpFamily, ipFamily, ipScope, isIp, synthesizeIp } from "../net/address.ts";
import { sourceAddresses } from "../net/interface_failover.ts";
import { discoverNat64, type NamedHost } from "../net/local_address.ts";
import type { ConnectTcpOptions, Network } from "../net/network.ts";
import { stunBinding } from "../stun/stun_binding.ts";
import {
  type DialEvidence,
  type NameEvidence,
  type NameFault,
  nameFault,
  type NetworkEvidence,
  type WebAnswer,
} from "./findings.ts";
import { abortable } from "@std/async/abortable";

/** What to examine. */
export interface ExamineNetworkOptions {
  readonly network: Network;
  /** Servers that did not answer, each with the port that was asked. */
  readonly hosts: readonly NamedHost[];
  /** Default: both. */
  readonly families?: readonly IpFamily[];
  /** Whether a server answered with another protocol than its own. Default: no. */
  readonly hasWrongAnswer?: boolean;
  /** Whether an address of a host may be dialled; for hosts that others have named. Default: all. */
  readonly mayDial?: (host: string, ip: string) => boolean | Promise<boolean>;
  /** The proxy that programs on this host are set up to use. */
  readonly proxy?: string;
  /** STUN servers, of which one that answers shows that UDP gets through; for programs that use them anyway. */
  readonly stunServers?: readonly string[];
  readonly signal?: AbortSignal;
}

/**
 * An examination in the background. It begins if no server has answered after a second, so that its result is there by the
 * time that the silence is certain.
 */
export class BackgroundExamination implements AsyncDisposable {
  readonly #tasks: TaskGroup;
  readonly #delay = new WakeableDelay();
  readonly #found = optionalResolvers<NetworkEvidence>();

  /** @param options as for {@linkcode gatherEvidence} */
  constructor(options: ExamineNetworkOptions) {
    const { signal: given } = options;
    this.#tasks = new TaskGroup(this.#found.reject);
    this.#tasks.run(async (signal) => {
      await this.#delay.wait(EXAMINE_AFTER_MS, signal);
      const ended = given === undefined ? signal : AbortSignal.any([signal, given]);
      this.#found.resolve(await gatherEvidence({ ...options, signal: ended }));
    });
  }

  /** A server has answered: there is nothing to examine. */
  readonly cancel = (): void => void this.#tasks.stop();

  /**
   * What was found. Not to be called once it is cancelled.
   *
   * @throws the signal's reason on abort
   */
  async evidence(): Promise<NetworkEvidence> {
    this.#delay.wake();
    return await abortable(this.#found.promise, this.#tasks.signal);
  }

  /** Ends it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tasks.stop();
  }
}

/**
 * Gathers what `explainNetwork()` judges by, within four seconds.
 *
 * @throws the signal's reason on abort
 */
export async function gatherEvidence(options: ExamineNetworkOptions): Promise<NetworkEvidence> {
  const { network, families = [4, 6], signal } = options;
  const hosts = options.hosts.slice(0, MAX_HOSTS);
  const sendingBy = new Map<IpFamily, NetworkEvidence["sending"]>();
  for (const family of families) sendingBy.set(family, await howItSends(network, family));
  const sends = [...sendingBy].filter(([, how]) => how === "sends").map(([family]) => family);
  const mayResolve = sends.length > 0 || hosts.some(({ host }) => isIp(host) && isLoopback(host));
  const { names, targets } = await resolveAll(network, hosts, mayResolve ? families : [], signal);
  const isTranslated = sends.length === 1 && sends[0] === 6 &&
    targets.every(({ ip }) => ipFamily(ip) === 4 && !isLoopback(ip));
  const [prefix] = isTranslated ? await discoverNat64(network, { signal }) : [];
  const sent = targets.filter(({ ip }) =>
    prefix !== undefined || isLoopback(ip) || sends.includes(ipFamily(ip))
  );
  const { mayDial = () => true } = options;
  const allowed = await Promise.all(sent.map(({ host, ip }) => mayDial(host, ip)));
  const reached = sent.filter((_, index) => allowed[index])
    .map((target) =>
      prefix === undefined ? target : { ...target, ip: synthesizeIp(target.ip, prefix) }
    );
  const isCutOff = sent.length === 0 && (targets.length > 0 || sends.length === 0);
  // Without an address to dial there is nothing that UDP would say more of.
  const stunServers = reached.length > 0 ? options.stunServers : undefined;
  const [dials, web, hasUdp, otherWay] = await Promise.all([
    Promise.all(reached.flatMap((target) => dialsOf(network, target, signal))),
    askForPage(network, reached, signal),
    stunServers && answersByUdp(network, stunServers, signal),
    findOtherWay(network, reached, signal),
  ]);
  signal?.throwIfAborted();
  return {
    sending: !isCutOff
      ? "sends"
      : [...sendingBy.values()].includes("refused")
      ? "refused"
      : "no route",
    onlyFamily: sends.length === 1 ? sends[0]! : null,
    names,
    dials: [...dials, ...web.dials],
    otherWay: hasUdp || dials.some(({ outcome }) => hasAnswered(outcome)) ? null : otherWay,
    web: web.answer,
    hasWrongAnswer: options.hasWrongAnswer ?? false,
    vpn: await findVpn(network),
    proxy: options.proxy ?? null,
    ...hasUdp === undefined ? {} : { hasUdp },
    routes: await routesOf(network),
  };
}

/** Whether a packet leaves this host: one byte to an address that no host has, and routers drop. */
async function howItSends(
  network: Network,
  family: IpFamily,
): Promise<NetworkEvidence["sending"]> {
  try {
    using socket = await network.bindUdp({ ip: family === 4 ? "0.0.0.0" : "::", port: 0 });
    await socket.send(new Uint8Array(1), { ip: NOWHERE[family], port: DISCARD_PORT });
    return "sends";
  } catch (error) {
    if (!(error instanceof NetworkError)) throw error;
    if (error.reason !== "not-permitted") return "no route";
    return error.cause === undefined ? "sends" : "refused"; // a permission of Deno's: this cannot be found out
  }
}

/** A server and one of its addresses. */
interface Target extends NamedHost {
  readonly ip: string;
}

async function resolveAll(
  network: Network,
  hosts: readonly NamedHost[],
  families: readonly IpFamily[],
  signal?: AbortSignal,
): Promise<{ names: NameEvidence; targets: Target[] }> {
  const faults: NameFault[] = [];
  const found = await Promise.all(hosts.map(async (each): Promise<Target[]> => {
    if (isIp(each.host)) return [{ ...each, ip: each.host }];
    const startedAt = performance.now();
    using deadline = new Deadline(RESOLVE_MS, signal);
    const results = await Promise.allSettled(
      families.map((family) => network.resolve(each.host, family, { signal: deadline.signal })),
    );
    signal?.throwIfAborted();
    const ips = results.flatMap((result) => result.status === "fulfilled" ? result.value : []);
    if (ips.length > 0) return [{ ...each, ip: ips[0]! }];
    const elapsedMs = performance.now() - startedAt;
    const reasons = results.map((result) =>
      result.status === "rejected" && result.reason instanceof NetworkError
        ? result.reason.reason
        : "timed-out"
    );
    // One family may be silent while the other says that there is no address.
    faults.push(
      nameFault(reasons.find((each) => each !== "name-not-found") ?? reasons[0]!, elapsedMs),
    );
    return [];
  }));
  const byName = found.flat().filter(({ host }) => !isIp(host));
  const names: NameEvidence = {
    asked: hosts.filter(({ host }) => !isIp(host)).length,
    found: byName.length,
    faults,
    sharedIp: sharedIp(byName),
    redirected:
      byName.flatMap(({ host, ip }) =>
        isOfInternet(host) && isRedirected(ip) ? [{ name: host, ip }] : []
      )[0] ?? null,
  };
  const targets = found.flat().filter(({ ip }, index, all) =>
    all.findIndex((other) => other.ip === ip) === index
  );
  return { names, targets };
}

/** The one address of all names, if they belong to several operators. */
function sharedIp(targets: readonly Target[]): string | null {
  const operators = new Set(targets.map(({ host }) => host.split(".").slice(-2).join(".")));
  const ips = new Set(targets.map(({ ip }) => ip));
  return operators.size > 1 && ips.size === 1 ? targets[0]!.ip : null;
}

/** Whether a name is one that everyone can look up (RFC 6762, RFC 8375, and what routers and companies use). */
function isOfInternet(name: string): boolean {
  return name.includes(".") && !LOCAL_NAMES.test(name);
}

/** Where filters and sign-in pages send names. Companies give some of their servers private addresses, and those answer. */
function isRedirected(ip: string): boolean {
  return REDIRECTED.has(ipScope(ip));
}

/** The port that was asked, and that of the encrypted web. */
function dialsOf(network: Network, target: Target, signal?: AbortSignal): Promise<DialEvidence>[] {
  const { ip, port } = target;
  const ports = isLoopback(ip) ? [port] : [...new Set([port, HTTPS_PORT])];
  return ports.map(async (each) => ({
    port: each,
    isAsked: each === port,
    outcome: await dial(network, ip, each, { signal }),
  }));
}

async function dial(
  network: Network,
  ip: string,
  port: number,
  { local, signal }: ConnectTcpOptions,
): Promise<DialEvidence["outcome"]> {
  using deadline = new Deadline(DIAL_MS, signal);
  try {
    const connection = await network.connectTcp({ ip, port }, { local, signal: deadline.signal });
    connection.reset();
    return "accepted";
  } catch (error) {
    return outcomeOf(error, deadline.signal);
  }
}

function outcomeOf(error: unknown, deadline: AbortSignal): DialEvidence["outcome"] {
  if (deadline.aborted) return "silent";
  if (!(error instanceof NetworkError)) throw error;
  if (error.reason === "refused" || error.reason === "reset") return "refused";
  return error.reason === "timed-out" ? "silent" : "unreachable";
}

/** Whether one of them answers over UDP. */
async function answersByUdp(
  network: Network,
  servers: readonly string[],
  signal?: AbortSignal,
): Promise<boolean> {
  using deadline = new Deadline(DIAL_MS, signal);
  const options = { network, signal: deadline.signal };
  try {
    await Promise.any(servers.slice(0, MAX_HOSTS).map((server) => stunBinding(server, options)));
    return true;
  } catch {
    signal?.throwIfAborted();
    return false;
  } finally {
    deadline.expire(new DOMException("One is enough", "AbortError"));
  }
}

/** Asks port 80 of the first server for a page. */
async function askForPage(
  network: Network,
  targets: readonly Target[],
  signal?: AbortSignal,
): Promise<{ answer: WebAnswer | null; dials: DialEvidence[] }> {
  const target = targets.find(({ ip }) => !isLoopback(ip));
  if (target === undefined) return { answer: null, dials: [] };
  const told = (outcome: DialEvidence["outcome"], answer: WebAnswer | null = null) => {
    const isAsked = target.port === HTTP_PORT;
    return { answer, dials: [{ port: HTTP_PORT, isAsked, outcome }] };
  };
  using deadline = new Deadline(DIAL_MS, signal);
  try {
    const to = { ip: target.ip, port: HTTP_PORT };
    using connection = await network.connectTcp(to, { signal: deadline.signal });
    const close = () => connection.reset();
    deadline.signal.addEventListener("abort", close, { once: true });
    try {
      const host = ipFamily(target.host) === 6 ? `[${target.host}]` : target.host;
      const request = `GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`;
      await writeAll(connection, new TextEncoder().encode(request));
      return told("accepted", readAnswer(await readSome(connection), target.host));
    } catch (error) {
      if (!deadline.signal.aborted && !(error instanceof NetworkError)) throw error;
      return told("accepted");
    } finally {
      deadline.signal.removeEventListener("abort", close);
    }
  } catch (error) {
    return told(outcomeOf(error, deadline.signal));
  }
}

/** The head of an answer, or what fits of it. */
async function readSome(
  connection: { read(buffer: Uint8Array): Promise<number | null> },
): Promise<string> {
  const bytes = new Uint8Array(MAX_ANSWER_BYTES);
  let length = 0;
  while (length < bytes.length) {
    const count = await connection.read(bytes.subarray(length));
    if (count === null) break;
    length += count;
    if (/\r?\n\r?\n/.test(latin1(bytes.subarray(0, length)))) break;
  }
  return latin1(bytes.subarray(0, length));
}

function latin1(bytes: Uint8Array): string {
  return new TextDecoder("latin1").decode(bytes);
}

/** `null` if it is not HTTP. */
export function readAnswer(text: string, asked: string): WebAnswer | null {
  const [, status] = /^HTTP\/1\.[01] (\d{3})(?: |\r?\n)/.exec(text) ?? [];
  if (status === undefined) return null;
  const [, host] = /\nlocation:[ \t]*https?:\/\/([\w.-]{1,253})/i.exec(text) ?? [];
  const isRedirect = /^30[12378]$/.test(status) && host !== undefined;
  return {
    status: Number(status),
    leadsTo: isRedirect && !isSameSite(host.toLowerCase(), asked.toLowerCase()) ? host : null,
  };
}

/** `www.example.org` and `stun.example.org` belong together. */
function isSameSite(a: string, b: string): boolean {
  const site = (host: string) => isIp(host) ? host : host.split(".").slice(-2).join(".");
  return site(a) === site(b);
}

/** The first interface by whose address a server is reached, if there are several to choose from. */
async function findOtherWay(
  network: Network,
  targets: readonly Target[],
  signal?: AbortSignal,
): Promise<string | null> {
  const target = targets.find(({ ip }) => !isLoopback(ip));
  if (target === undefined) return null;
  const sources = new Map<string, string>();
  for (const own of await sourceAddresses(network, ipFamily(target.ip))) {
    if (!sources.has(own.interfaceName)) sources.set(own.interfaceName, own.ip);
  }
  if (sources.size < 2) return null;
  const found = await Promise.all(
    Array.from(sources, async ([interfaceName, ip]) => {
      const outcome = await dial(network, target.ip, target.port, {
        local: { ip, port: 0 },
        signal,
      });
      return hasAnswered(outcome) ? interfaceName : null;
    }),
  );
  return found.find((each) => each !== null) ?? null;
}

function hasAnswered(outcome: DialEvidence["outcome"]): boolean {
  return outcome === "accepted" || outcome === "refused";
}

/** An interface that leads into a VPN, if the interfaces may be listed. */
async function findVpn(network: Network): Promise<string | null> {
  const all = await network.localAddresses() ?? [];
  return all.find(({ interfaceName }) => VPN_NAMES.test(interfaceName))?.interfaceName ?? null;
}

/** The default gateways of IPv4, if they may be listed. */
async function routesOf(network: Network): Promise<string[]> {
  const all = await network.defaultGateways() ?? [];
  return [...new Set(all.map(({ ip }) => ip).filter((ip) => ipFamily(ip) === 4))];
}

function isLoopback(ip: string): boolean {
  return ipScope(ip) === "loopback";
}

/** Documentation addresses (RFC 5737, RFC 3849): no host has them. */
const NOWHERE: Readonly<Record<IpFamily, string>> = { 4: "192.0.2.1", 6: "2001:db8::1" };

/** RFC 863. */
const DISCARD_PORT = 9;

const LOCAL_NAMES =
  /\.(?:local|lan|home|internal|intranet|corp|private|localdomain|home\.arpa|test|fritz\.box|localhost)\.?$/i;

const REDIRECTED: ReadonlySet<string> = new Set([
  "private",
  "loopback",
  "unspecified",
  "link-local",
]);

const HTTP_PORT = 80;
const HTTPS_PORT = 443;

/** As systems name them. */
const VPN_NAMES = /^(?:tun|tap|wg|utun|ppp|ipsec|nordlynx|proton|mullvad|vpn|zt|cscotun|gpd)/i;

/** Chosen by us: longer than most servers take to answer, and short enough to name the cause within five seconds. */
const EXAMINE_AFTER_MS = 1000;

/** Chosen by us: a few are enough to judge a network by. */
const MAX_HOSTS = 4;

/** Chosen by us: a resolver that takes longer holds up everything. */
const RESOLVE_MS = 2000;

/** Chosen by us: a long round trip, and the system's first retransmission of a SYN after a second. */
const DIAL_MS = 1800;

/** Chosen by us: enough for the head of a redirect. */
const MAX_ANSWER_BYTES = 4096;
