/**
 * The options that all commands with a peer have.
 *
 * @module
 */

import { fromBase64url, toBase64url } from "../base/bytes.ts";
import { parseHostPort } from "../net/address.ts";
import { KeyPair } from "../noise/key_pair.ts";
import { openKeyFile } from "../peer/key_file.ts";
import { parseRelay, parseStrategy, type PeerOptions, type Strategy } from "../peer/options.ts";
import { DEFAULT_SIGNALING, parseSignalUrl } from "../signal/open.ts";
import {
  type Arguments,
  type ArgumentSpec,
  readArguments,
  readInteger,
  readWith,
} from "./arguments.ts";
import { type CliIo, EXIT, UsageError } from "./io.ts";
import type { ManualPrompt } from "./manual_signaling.ts";

/** Help for them. */
export const PEER_USAGE =
  "[--rendezvous URL]... [--mqtt URL]... [--lan] [--hand] [--server HOST[:PORT]]... [--turn URL]... " +
  "[--strategy LIST] [--relay-only] [--key FILE] [--json]";

/** How to read them. */
export const PEER_ARGUMENTS = {
  flags: ["json", "lan", "hand", "relay-only"],
  values: ["key", "strategy"],
  lists: ["rendezvous", "mqtt", "server", "turn"],
} as const satisfies ArgumentSpec;

/**
 * Reads the options.
 *
 * @param desk where messages are passed on, if they go by hand
 * @throws {UsageError} if one of them is no good, the key file included
 */
export async function readPeerOptions(
  given: Arguments,
  io: CliIo,
  desk: ManualPrompt | undefined,
): Promise<PeerOptions> {
  const { flags, values, lists } = given;
  const strategies = readStrategies(values.get("strategy"));
  const turn = lists.get("turn")!.map((url) => readWith(() => parseRelay(url)));
  if (flags.has("relay-only")) requireRelay(turn, strategies);
  const servers = lists.get("server")!;
  for (const server of servers) readWith(() => parseHostPort(server, 0));
  const signaling = [
    ...lists.get("rendezvous")!.map((url) => readSignalUrl("rendezvous", url, /^wss?:/)),
    ...lists.get("mqtt")!.map((url) => readSignalUrl("mqtt", url, /^mqtts?\b/)),
    ...flags.has("lan") ? ["lan:"] : [],
  ];
  if (flags.has("hand") && signaling.length > 0) {
    throw new UsageError("--hand is for where there is no other way to signal");
  }
  const key = values.get("key");
  return {
    signaling: waysToSignal(signaling, desk),
    ...key !== undefined && { secretKey: await readKey(key, io) },
    ...servers.length > 0 && { servers },
    ...{ turn },
    ...strategies && { strategies },
    relayOnly: flags.has("relay-only"),
    logger: loggerOf(io, flags.has("json")),
    signal: io.signal,
  };
}

function waysToSignal(
  urls: readonly string[],
  desk: ManualPrompt | undefined,
): PeerOptions["signaling"] & object {
  if (desk !== undefined) return [desk.transport];
  return urls.length > 0 ? urls : DEFAULT_SIGNALING;
}

/** What goes by its own relays alone has to have one, and may use it. */
function requireRelay(
  turn: PeerOptions["turn"] & object,
  strategies: readonly Strategy[] | undefined,
): void {
  if (turn.length === 0) {
    throw new UsageError(
      "--relay-only takes --turn: a relay of the other side's would show your address",
    );
  }
  if (strategies?.includes("relay") === false) {
    throw new UsageError(
      "--relay-only and --strategy leave no way: relay is not among the strategies",
    );
  }
}

/**
 * How long to wait for the other side, in milliseconds, if that was given.
 *
 * @throws {UsageError} if it is no time
 */
export function readTimeout(values: ReadonlyMap<string, string>): number | undefined {
  return readInteger("timeout", values.get("timeout"), { min: 1, max: 86_400_000 });
}

/** The same, for the options of a peer that connects. */
export function readConnectTimings(
  values: ReadonlyMap<string, string>,
): Pick<PeerOptions, "timings"> {
  const timeoutMs = readTimeout(values);
  return timeoutMs === undefined
    ? {}
    : { timings: { answerMs: timeoutMs, connectMs: timeoutMs, manualMs: timeoutMs } };
}

/**
 * The secret key in the file that `--key` names.
 *
 * @throws {UsageError} if it cannot be had
 */
export async function readKey(path: string, io: CliIo): Promise<Uint8Array> {
  try {
    return await openKeyFile(path, loggerOf(io, false));
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new UsageError(`--key ${path} is of no use: ${why}`, { cause: error });
  }
}

/**
 * The public key in an option's text.
 *
 * @throws {UsageError} if it is none
 */
export function readPublicKey(name: string, text: string): Uint8Array {
  const key = fromBase64url(text);
  if (key?.length === 32) return key;
  throw new UsageError(`--${name} takes a key as \`punchline id\` prints it, not ${text}`);
}

function readStrategies(list: string | undefined): Strategy[] | undefined {
  return list?.split(",").map((name) => readWith(() => parseStrategy(name.trim())));
}

function readSignalUrl(option: string, url: string, scheme: RegExp): string {
  if (!scheme.test(url)) throw new UsageError(`--${option} does not take ${url}`);
  return readWith(() => parseSignalUrl(url));
}

/** What goes wrong without consequences is told to people, details to nobody. */
function loggerOf(io: CliIo, asJson: boolean): NonNullable<PeerOptions["logger"]> {
  return {
    debug() {},
    info() {},
    warn: (message) => asJson || io.err(`punchline: ${message}`),
  };
}

/** One line of help. */
export const ID_USAGE = "id --key FILE [--json]";

/** Runs the command; its exit code. */
export async function id(args: readonly string[], io: CliIo): Promise<number> {
  const { flags, values } = readArguments(args, { flags: ["json"], values: ["key"] });
  const path = values.get("key");
  if (path === undefined) {
    throw new UsageError("--key says in which file the secret key is, or shall be; it is missing");
  }
  using keyPair = new KeyPair(await readKey(path, io));
  const text = toBase64url(keyPair.publicKey);
  io.out(flags.has("json") ? JSON.stringify({ id: text }) : text);
  return EXIT.ok;
}
