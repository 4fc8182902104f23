/**
 * `serve`: your own STUN server, rendezvous and relay.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import { formatTransportAddress, ipFamily, parseIp } from "../net/address.ts";
import { parseIpPrefix } from "../net/ip_prefix.ts";
import { systemNetwork } from "../net/system.ts";
import { readSmallFile } from "../net/system/private_input.ts";
import { AccessKey } from "../signal/rendezvous/access_key.ts";
import type { RelayLimits } from "../signal/rendezvous/relay.ts";
import {
  type RendezvousOptions,
  type RendezvousServer,
  serveRendezvous,
} from "../signal/rendezvous/server.ts";
import {
  DEFAULT_SERVER_LIMITS,
  serveStun,
  type StunServer,
  type StunServerOptions,
} from "../stun/server/server.ts";
import { type Arguments, readCommand, readInteger, readWith } from "./arguments.ts";
import { type CliIo, EXIT, reasonOfFile, UsageError } from "./io.ts";
import { copyable } from "./layout.ts";
import { waitFor } from "./screen.ts";
import { commandLine } from "./started_as.ts";

/** Runs the command until it is interrupted; returns its exit code. */
export async function serve(args: readonly string[], io: CliIo): Promise<number> {
  const given = readCommand("serve", args);
  const logger = { debug() {}, info() {}, warn: (text: string) => io.err(`punchline: ${text}`) };
  const options = serverOptions(given, logger);
  const rendezvousOptions = await readRendezvousOptions(given);
  const rendezvousPort = readRendezvousPort(given);
  await using stack = new AsyncDisposableStack();
  const servers: StunServer[] = [];
  const rendezvous: RendezvousServer[] = [];
  for (const each of options) {
    servers.push(stack.use(await startStun(each, given, io)));
    const local = { ip: each.address, port: rendezvousPort };
    rendezvous.push(
      stack.use(
        await serveRendezvous({ network: systemNetwork, local, logger, ...rendezvousOptions }),
      ),
    );
  }

  const hasRelay = !given.flags.has("no-relay");
  const addresses = servers.flatMap((server) => server.addresses.map(formatTransportAddress));
  if (given.flags.has("json")) {
    const { url } = rendezvous[0]!;
    const relay = hasRelay ? url : null;
    io.out(JSON.stringify({ event: "listening", stun: addresses, rendezvous: url, relay }));
  } else {
    io.out(`Serving STUN over UDP and TCP on ${addresses.join(", ")}`);
    const what = hasRelay ? "a rendezvous and relay" : "a rendezvous";
    io.out(`Serving ${what} on ${rendezvous.map(({ url }) => url).join(", ")}`);
    const test = copyable(commandLine(io, "nat-test", "--server", addresses[0]!));
    io.out(`Try it in another terminal: ${test}`);
  }
  waitFor(io, "Serving, Ctrl-C ends it");
  const ends = [...servers, ...rendezvous].map((server) => server.finished);
  await Promise.race([aborted(io.signal), ...ends]);
  return EXIT.interrupted;
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
  if (path === undefined) return undefined;
  try {
    const key = (await readSmallFile(path, MAX_KEY_FILE_BYTES)).text.trim();
    new AccessKey(key);
    return key;
  } catch (error) {
    throw new UsageError(`--access-key ${path}: ${reasonOfFile(error, path)}`, { cause: error });
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

function readRendezvousPort({ values }: Arguments): number {
  return readInteger("rendezvous-port", values.get("rendezvous-port"), PORTS) ?? RENDEZVOUS_PORT;
}

/** Options for one STUN server for each address family. */
function serverOptions(given: Arguments, logger: Logger): StunServerOptions[] {
  const { lists, values } = given;
  const port = readInteger("port", values.get("port"), PORTS);
  const alternatePort = readInteger("alternate-port", values.get("alternate-port"), PORTS);
  const tcp = { ...DEFAULT_SERVER_LIMITS.tcp, ...readConnectionLimits(given) };
  const common = { network: systemNetwork, port, alternatePort, logger, limits: { tcp } };
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

/** 0 lets the system choose. */
const PORTS = { min: 0, max: 65_535 };
