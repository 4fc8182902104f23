/**
 * `serve`: your own STUN server, rendezvous and relay.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import {
  formatTransportAddress,
  ipFamily,
  parseHostPort,
  parseIp,
  type TransportAddress,
} from "../net/address.ts";
import { parseIpPrefix } from "../net/ip_prefix.ts";
import { systemNetwork } from "../net/system.ts";
import { preferSmallMemory } from "../net/system/garbage.ts";
import { readSmallFile } from "../net/system/private_input.ts";
import type { FileTlsAcceptor } from "../net/system/tls_server.ts";
import { lineLogger, LOG_FORMATS, LOG_LEVELS } from "../serve/log.ts";
import { watchMemory } from "../serve/memory.ts";
import { type MetricsServer, serveMetrics } from "../serve/metrics.ts";
import type { NatsSettings, RunningRendezvous } from "../serve/threads.ts";
import type { NatsBus, NatsBusOptions } from "../signal/nats/bus.ts";
import { AccessKey } from "../signal/rendezvous/access_key.ts";
import type { RelayLimits } from "../signal/rendezvous/relay.ts";
import {
  type RendezvousLimits,
  type RendezvousOptions,
  serveRendezvous,
} from "../signal/rendezvous/server.ts";
import {
  DEFAULT_SERVER_LIMITS,
  serveStun,
  type StunServer,
  type StunServerOptions,
} from "../stun/server/server.ts";
import {
  type Arguments,
  readChoice,
  readCommand,
  readDuration,
  readInteger,
  readWith,
} from "./arguments.ts";
import {
  type CliIo,
  EXIT,
  interruptedCode,
  reasonOfFile,
  UsageError,
  withoutSecrets,
} from "./io.ts";
import { copyable } from "./layout.ts";
import { waitFor } from "./screen.ts";
import { withConfigFile } from "./serve_config.ts";
import { commandLine } from "./started_as.ts";

/** Runs the command until it is interrupted; returns its exit code. */
export async function serve(args: readonly string[], io: CliIo): Promise<number> {
  const given = await withConfigFile(readCommand("serve", args));
  const logger = readLogger(given, io);
  const ports = readPorts(given);
  const options = serverOptions(given, ports, logger);
  const rendezvousOptions = await readRendezvousOptions(given);
  const drainMs = readDuration("drain", given.values.get("drain"), { max: 3_600_000 }) ?? DRAIN_MS;
  const metricsAddress = readMetricsAddress(given);
  await using stack = new AsyncDisposableStack();
  const tls = await openTls(given, logger);
  if (tls !== undefined) stack.use(tls);
  const nats = await readNats(given);
  const servers: StunServer[] = [];
  const rendezvous: RunningRendezvous[] = [];
  for (const each of options) {
    const stun = stack.use(await startStun({ ...each, tls }, given, io));
    servers.push(stun);
    const local = { ip: each.address, port: ports.rendezvous };
    const serveStun = ports.isStunOnRendezvous ? stun.serveConnection.bind(stun) : undefined;
    const parts = { ...rendezvousOptions, local, logger, serveStun };
    rendezvous.push(stack.use(await startRendezvous(parts, given, { tls, nats, stack })));
  }
  const connections = () => connectionsSoFar(servers, rendezvous);
  stack.use(watchMemory({ connections, collect: preferSmallMemory() }));
  const sources = { stun: servers, rendezvous, certificateExpiresMs: tls && (() => tls.expiresMs) };
  const metrics = metricsAddress &&
    stack.use(await serveMetrics(systemNetwork, metricsAddress, sources));

  announce(given, io, { servers, rendezvous, ports, metrics, hasTls: tls !== undefined });
  logger.info("Serving");
  waitFor(io, "Serving, Ctrl-C ends it");
  const ends = [...servers, ...rendezvous, ...metrics ? [metrics] : []];
  await Promise.race([aborted(io.signal), ...ends.map((server) => server.finished)]);
  if (interruptedCode(io) === EXIT.terminated) {
    const pairs = rendezvous.reduce((sum, { relays }) => sum + relays, 0);
    logger.info(
      `Stopping: no new connections, and ${pairs} relayed pairs have ${drainMs} ms to end`,
    );
    await Promise.all(rendezvous.map((server) => server.drain(drainMs)));
  }
  logger.info("Stopped");
  return EXIT.interrupted;
}

/** All connections that there have been, refused ones included. */
function connectionsSoFar(
  stun: readonly StunServer[],
  rendezvous: readonly RunningRendezvous[],
): number {
  let sum = 0;
  for (const { counters } of stun) sum += counters.tcpConnections + counters.tcpRefused;
  for (const { counters } of rendezvous) {
    sum += counters.connections;
    for (const refused of Object.values(counters.refusals)) sum += refused;
  }
  return sum;
}

/** What runs. */
interface Running {
  readonly servers: readonly StunServer[];
  readonly rendezvous: readonly RunningRendezvous[];
  readonly ports: Ports;
  readonly metrics: MetricsServer | undefined;
  readonly hasTls: boolean;
}

/** With --workers, the program of several threads is loaded, and started. */
async function startRendezvous(
  options: Omit<RendezvousOptions, "network" | "tls"> & { readonly logger: Logger },
  { values }: Arguments,
  { tls, nats, stack }: RendezvousParts,
): Promise<RunningRendezvous> {
  const count = readInteger("workers", values.get("workers"), { min: 1, max: MAX_WORKERS }) ?? 1;
  const network = systemNetwork;
  if (count === 1) {
    const { logger } = options;
    const bus = nats && stack.use(await openNats({ ...nats, network, logger }));
    const limits = { ...options.limits, ...numberShareOf(nats) };
    const nodeHost = nats?.host;
    return await serveRendezvous({ ...options, network, tls, bus, nodeHost, limits });
  }
  if (!systemNetwork.canReusePort) {
    throw new UsageError("--workers: threads cannot share a port on this platform");
  }
  const { startWorkers } = await import("./serve_workers.ts");
  const cert = values.get("cert");
  const files = cert === undefined ? undefined : { cert, key: values.get("cert-key")! };
  return await startWorkers(count, { ...options, files, nats });
}

/** What a rendezvous is made of, besides its options. */
interface RendezvousParts {
  readonly tls: FileTlsAcceptor | undefined;
  readonly nats: NatsSettings | undefined;
  /** Ends what is opened for it. */
  readonly stack: AsyncDisposableStack;
}

async function readNats({ values, lists }: Arguments): Promise<NatsSettings | undefined> {
  const urls = lists.get("nats")!;
  const [path, node] = [values.get("nats-key"), values.get("node")];
  const host = values.get("node-host");
  if (urls.length === 0) {
    if (path !== undefined) throw new UsageError("--nats-key needs --nats");
    if (node !== undefined) throw new UsageError("--node needs --nats");
    if (host !== undefined) throw new UsageError("--node-host needs --nats");
    return undefined;
  }
  if (path === undefined) throw new UsageError("--nats needs --nats-key");
  const [, index, count] = /^([1-9]\d{0,2})\/([1-9]\d{0,2})$/.exec(node ?? "") ?? [];
  if (index === undefined || Number(index) > Number(count)) {
    throw new UsageError("--nats needs --node I/N: which of how many nodes this is, such as 1/3");
  }
  const { parseNatsUrl } = await import("../signal/nats/connection.ts");
  for (const url of urls) readWith(() => parseNatsUrl(url), "--nats");
  if (host !== undefined) readWith(() => parseHostPort(host, 1), "--node-host");
  const key = await readSecretFile("nats-key", path);
  if (key.length < 16) throw new UsageError(`--nats-key ${path}: it has fewer than 16 characters`);
  return { urls, key, host, index: Number(index) - 1, count: Number(count) };
}

async function openNats(options: NatsBusOptions): Promise<NatsBus> {
  const { openNatsBus } = await import("../signal/nats/bus.ts");
  return await openNatsBus(options);
}

function numberShareOf(nats: NatsSettings | undefined): Partial<RendezvousLimits> {
  return nats === undefined ? {} : { numberShare: { index: nats.index, count: nats.count } };
}

function announce(given: Arguments, io: CliIo, running: Running): void {
  const { servers, rendezvous, ports, metrics, hasTls } = running;
  const hasRelay = !given.flags.has("no-relay");
  const addresses = servers.flatMap((server) => server.addresses.map(formatTransportAddress));
  const stuns = hasTls
    ? servers.map(({ tlsAddress, addresses }) =>
      formatTransportAddress(tlsAddress ?? { ip: addresses[0]!.ip, port: ports.stuns })
    )
    : [];
  if (given.flags.has("json")) {
    const { url } = rendezvous[0]!;
    const relay = hasRelay ? url : null;
    const listening = { event: "listening", stun: addresses, rendezvous: url, relay };
    io.out(JSON.stringify({ ...listening, stuns, metrics: metrics?.url ?? null }));
    return;
  }
  io.out(`Serving STUN over UDP and TCP on ${addresses.join(", ")}`);
  if (hasTls) io.out(`Serving STUN over TLS on ${stuns.join(", ")}`);
  const what = hasRelay ? "a rendezvous and relay" : "a rendezvous";
  io.out(`Serving ${what} on ${rendezvous.map(({ url }) => url).join(", ")}`);
  if (metrics !== undefined) io.out(`Serving metrics on ${metrics.url}`);
  const test = copyable(commandLine(io, "nat-test", "--server", addresses[0]!));
  io.out(`Try it in another terminal: ${test}`);
}

/** Without `--log`, only warnings are printed, as other commands print them. */
function readLogger({ values }: Arguments, io: CliIo): Logger {
  const format = readChoice("log", values.get("log"), LOG_FORMATS);
  const level = readChoice("log-level", values.get("log-level"), LOG_LEVELS);
  if (format !== undefined) {
    const print = (line: string) => io.err(withoutSecrets(line));
    return lineLogger({ format, level: level ?? "info", print });
  }
  if (level !== undefined) throw new UsageError("--log-level needs --log");
  return { debug() {}, info() {}, warn: (text: string) => io.err(`punchline: ${text}`) };
}

/** The certificate is loaded only where there is one. */
async function openTls(
  { values }: Arguments,
  logger: Logger,
): Promise<FileTlsAcceptor | undefined> {
  const cert = values.get("cert");
  const key = values.get("cert-key");
  if (cert === undefined && key === undefined) {
    if (values.has("stuns-port")) throw new UsageError("--stuns-port needs --cert and --cert-key");
    return undefined;
  }
  if (cert === undefined || key === undefined) {
    throw new UsageError("--cert and --cert-key need each other");
  }
  const { openTlsAcceptor } = await import("../net/system/tls_server.ts");
  try {
    return await openTlsAcceptor({ cert, key, logger });
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new UsageError(error.message, { cause: error });
  }
}

function readMetricsAddress({ values }: Arguments): TransportAddress | undefined {
  const text = values.get("metrics");
  if (text === undefined) return undefined;
  return readWith(() => {
    if (/^\d+$/.test(text)) return { ip: "127.0.0.1", port: readInteger("metrics", text, PORTS)! };
    const { host, port } = parseHostPort(text, NaN);
    if (Number.isNaN(port)) throw new TypeError("it needs a port");
    return { ip: parseIp(host), port };
  }, "--metrics");
}

/** Which ports serve what. */
interface Ports {
  readonly stun: number | undefined;
  readonly rendezvous: number;
  /** Where clients find STUN over TLS, if there is TLS. */
  readonly stuns: number;
  /** Whether STUN and the rendezvous share one TCP port. */
  readonly sharesTcp: boolean;
  /** Whether `stuns` is a port of its own. */
  readonly hasStunsPort: boolean;
  /** Whether the rendezvous port speaks STUN too. */
  readonly isStunOnRendezvous: boolean;
}

function readPorts({ values }: Arguments): Ports {
  const read = (name: string) => readInteger(name, values.get(name), PORTS);
  const stun = read("port");
  const rendezvous = read("rendezvous-port") ?? RENDEZVOUS_PORT;
  const sharesTcp = rendezvous !== 0 && rendezvous === (stun ?? STUN_PORT);
  const stuns = read("stuns-port") ?? (sharesTcp ? rendezvous : STUNS_PORT);
  const isOnRendezvous = stuns !== 0 && stuns === rendezvous;
  return {
    stun,
    rendezvous,
    stuns,
    sharesTcp,
    hasStunsPort: values.has("cert") && !isOnRendezvous &&
      (stuns === 0 || stuns !== (stun ?? STUN_PORT)),
    isStunOnRendezvous: sharesTcp || values.has("cert") && isOnRendezvous,
  };
}

/** The limits of connections hold for STUN over TCP and for the rendezvous, each on its own. */
function readConnectionLimits(
  { values }: Arguments,
): { maxConnections?: number; maxConnectionsPerSource?: number } {
  return withoutUndefined({
    maxConnections: readLimit("max-connections", values),
    maxConnectionsPerSource: readLimit("max-connections-per-source", values),
  });
}

async function readRendezvousOptions(
  given: Arguments,
): Promise<Pick<RendezvousOptions, "limits" | "trustedProxies" | "accessKey">> {
  const trustedProxies = given.lists.get("trust-proxy")!;
  for (const proxy of trustedProxies) readWith(() => parseIpPrefix(proxy), "--trust-proxy");
  return {
    trustedProxies,
    accessKey: await readAccessKey(given.values.get("access-key")),
    limits: {
      ...readConnectionLimits(given),
      ...withoutUndefined({
        maxRooms: readLimit("max-rooms", given.values),
        maxTopics: readLimit("max-topics", given.values),
      }),
      ...readRelayLimits(given),
    },
  };
}

function readRelayLimits({ flags, values }: Arguments): Partial<RelayLimits> {
  if (flags.has("no-relay")) {
    const given = RELAY_LIMITS.find((name) => values.has(name));
    if (given !== undefined) throw new UsageError(`--${given} cannot be combined with --no-relay`);
    return { maxRelays: 0 };
  }
  return withoutUndefined({
    maxRelays: readLimit("max-relays", values),
    maxRelaysPerSource: readLimit("max-relays-per-source", values),
    relayBytesPerSecond: readRate("relay-rate", values),
    allRelaysBytesPerSecond: readRate("relay-rate-total", values),
  });
}

function readRate(
  name: typeof RELAY_LIMITS[number],
  values: ReadonlyMap<string, string>,
): number | undefined {
  return readInteger(name, values.get(name), { min: 1000, max: 1_000_000_000_000 });
}

async function readAccessKey(path: string | undefined): Promise<string | undefined> {
  return path === undefined
    ? undefined
    : await readSecretFile("access-key", path, (key) => new AccessKey(key));
}

/** @param check throws if the secret is not one */
async function readSecretFile(
  option: string,
  path: string,
  check: (secret: string) => void = () => {},
): Promise<string> {
  try {
    const secret = (await readSmallFile(path, MAX_KEY_FILE_BYTES)).text.trim();
    check(secret);
    return secret;
  } catch (error) {
    throw new UsageError(`--${option} ${path}: ${reasonOfFile(error, path)}`, { cause: error });
  }
}

function readLimit(
  name: typeof LIMITS[number] | typeof RELAY_LIMITS[number],
  values: ReadonlyMap<string, string>,
): number | undefined {
  return readInteger(name, values.get(name), { min: 1, max: 1_000_000 });
}

function withoutUndefined<T extends object>(record: T): Partial<T> {
  const given = Object.entries(record).filter(([, value]) => value !== undefined);
  return Object.fromEntries(given) as Partial<T>;
}

/** Options for one STUN server for each address family. */
function serverOptions(given: Arguments, ports: Ports, logger: Logger): StunServerOptions[] {
  const { lists, values } = given;
  const { stun: port, sharesTcp } = ports;
  const tlsPort = ports.hasStunsPort ? ports.stuns : undefined;
  const alternatePort = readInteger("alternate-port", values.get("alternate-port"), PORTS);
  const tcp = { ...DEFAULT_SERVER_LIMITS.tcp, ...readConnectionLimits(given) };
  const network = systemNetwork;
  const common = { network, port, alternatePort, tlsPort, sharesTcp, logger, limits: { tcp } };
  const addresses = byFamily("address", lists.get("address")!);
  const alternates = byFamily("alternate", lists.get("alternate")!);
  if (addresses.size === 0 && alternates.size === 0) return [{ ...common, ...LOOPBACK }];

  for (const family of alternates.keys()) {
    if (!addresses.has(family)) {
      throw new UsageError(
        `--alternate ${alternates.get(family)} needs an --address of the same family`,
      );
    }
  }
  return [...addresses].map(([family, address]) => ({
    ...common,
    address,
    alternateAddress: alternates.get(family),
  }));
}

function byFamily(name: string, texts: readonly string[]): Map<number, string> {
  const found = new Map<number, string>();
  for (const ip of texts.map((text) => readWith(() => parseIp(text), `--${name}`))) {
    const family = ipFamily(ip);
    if (found.has(family)) throw new UsageError(`--${name} takes only one IPv${family} address`);
    found.set(family, ip);
  }
  return found;
}

async function startStun(
  options: StunServerOptions,
  { lists }: Arguments,
  io: CliIo,
): Promise<StunServer> {
  try {
    return await serveStun(options);
  } catch (error) {
    if (error instanceof TypeError || error instanceof RangeError) {
      throw new UsageError(error.message, { cause: error });
    }
    const isDefault = lists.get("address")!.length === 0;
    const unavailable = error instanceof NetworkError && error.reason === "address-not-available";
    if (!isDefault || !unavailable) throw error;
    // Linux and Windows have all of 127/8, macOS only 127.0.0.1.
    io.err(`${error.message}; serving one address only, so clients cannot classify their NATs`);
    return await serveStun({ ...options, alternateAddress: undefined });
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) =>
    signal.addEventListener("abort", () => resolve(), { once: true })
  );
}

/** Without any addresses given: enough for a NAT test on this machine, without a network. */
const LOOPBACK = { address: "127.0.0.1", alternateAddress: "127.0.0.2" };

/** RFC 8489 §14. */
const [STUN_PORT, STUNS_PORT] = [3478, 5349];

/** Chosen by us: long enough for most small files, and below the 10 s after which containers are killed. */
const DRAIN_MS = 5000;

/** Chosen by us: next to STUN's 3478, and 3479 for the alternate port. */
const RENDEZVOUS_PORT = 3480;

/** The options that are limits. */
const LIMITS = [
  "max-connections",
  "max-connections-per-source",
  "max-rooms",
  "max-topics",
] as const;

const RELAY_LIMITS = [
  "max-relays",
  "max-relays-per-source",
  "relay-rate",
  "relay-rate-total",
] as const;

/** Chosen by us: a key, and a line feed. */
const MAX_KEY_FILE_BYTES = 256;

/** Chosen by us: each thread has a port to each other one. */
const MAX_WORKERS = 64;

/** 0 lets the system choose. */
const PORTS = { min: 0, max: 65_535 };
