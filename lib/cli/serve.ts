/**
 * `serve`: your own STUN server and rendezvous.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
import { formatTransportAddress, ipFamily, parseIp } from "../net/address.ts";
import { systemNetwork } from "../net/system.ts";
import { type RendezvousServer, serveRendezvous } from "../signal/rendezvous/server.ts";
import { serveStun, type StunServer, type StunServerOptions } from "../stun/server/server.ts";
import { type Arguments, readArguments, readInteger, readWith } from "./arguments.ts";
import { type CliIo, EXIT, UsageError } from "./io.ts";

/** One line of help. */
export const SERVE_USAGE =
  "serve [--address IP]... [--alternate IP]... [--port 3478] [--alternate-port 3479] " +
  "[--rendezvous-port 3480] [--json]";

/** Runs the command until it is interrupted; returns its exit code. */
export async function serve(args: readonly string[], io: CliIo): Promise<number> {
  const given = readArguments(args, {
    flags: ["json"],
    values: ["port", "alternate-port", "rendezvous-port"],
    lists: ["address", "alternate"],
  });
  const options = serverOptions(given);
  await using stack = new AsyncDisposableStack();
  const servers: StunServer[] = [];
  const rendezvous: RendezvousServer[] = [];
  for (const each of options) {
    servers.push(stack.use(await startStun(each, given, io)));
    const local = { ip: each.address, port: readRendezvousPort(given) };
    rendezvous.push(stack.use(await serveRendezvous({ network: systemNetwork, local })));
  }

  const addresses = servers.flatMap((server) => server.addresses.map(formatTransportAddress));
  if (given.flags.has("json")) {
    const { url } = rendezvous[0]!;
    io.out(JSON.stringify({ event: "listening", stun: addresses, rendezvous: url }));
  } else {
    io.out(`Serving STUN over UDP and TCP on ${addresses.join(", ")}`);
    io.out(`Serving a rendezvous on ${rendezvous.map(({ url }) => url).join(", ")}`);
    io.out(`Try it in another terminal: punchline nat-test --server ${addresses[0]}`);
  }
  const ends = [...servers, ...rendezvous].map((server) => server.finished);
  await Promise.race([aborted(io.signal), ...ends]);
  return EXIT.interrupted;
}

function readRendezvousPort({ values }: Arguments): number {
  return readInteger("rendezvous-port", values.get("rendezvous-port"), PORTS) ?? RENDEZVOUS_PORT;
}

/** Options for one STUN server for each address family. */
function serverOptions({ lists, values }: Arguments): StunServerOptions[] {
  const port = readInteger("port", values.get("port"), PORTS);
  const alternatePort = readInteger("alternate-port", values.get("alternate-port"), PORTS);
  const common = { network: systemNetwork, port, alternatePort };
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
  for (const ip of texts.map((text) => readWith(() => parseIp(text)))) {
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

/** 0 lets the system choose. */
const PORTS = { min: 0, max: 65_535 };
