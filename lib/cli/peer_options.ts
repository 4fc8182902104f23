/**
 * The options that all commands with a peer share; and the command `id`, which prints the peer's ID.
 *
 * @module
 */

import { fromBase64url, toBase64url } from "../base/bytes.ts";
import { shownUrl, stripLogin } from "../base/login.ts";
import { configFolder } from "../net/system/private_file.ts";
import { plainServer } from "../nat/servers.ts";
import { KeyPair } from "../noise/handshake.ts";
import { openKeyFile, readKeyFile } from "../peer/key_file.ts";
import { parseRelay, type PeerOptions } from "../peer/options.ts";
import { Peer } from "../peer/peer.ts";
import { parseStrategy, type Strategy } from "../punch/path_kinds.ts";
import { DEFAULT_SIGNALING, parseSignalUrl } from "../signal/open.ts";
import { type Arguments, readCommand, readTimeoutMs, readWith } from "./arguments.ts";
import { readConfig } from "./config.ts";
import { URL_VARIABLES } from "./environment.ts";
import { type CliIo, EXIT, reasonOfFile, UsageError, withoutSecrets } from "./io.ts";
import type { ManualPrompt } from "./manual_signaling.ts";
import { readProxy } from "./proxy.ts";
import { SecretReader } from "./secrets.ts";
import { StdinLines } from "./stdin_lines.ts";

/** What a command with a peer gets from the outside. */
export interface PeerInput {
  readonly io: CliIo;
  readonly stdin: StdinLines;
  readonly secrets: SecretReader;
}

/** Opens stdin for tickets, answers and pasted messages; nothing is read yet. */
export function openPeerInput(io: CliIo): PeerInput {
  const stdin = new StdinLines(io);
  return { io, stdin, secrets: new SecretReader(io, stdin) };
}

/**
 * Turns the arguments into options for a peer.
 *
 * @param prompt carries the messages if signaling is manual
 * @throws {UsageError} if an option is invalid, or the key file cannot be used
 */
export async function readPeerOptions(
  given: Arguments,
  { io, secrets }: PeerInput,
  prompt: ManualPrompt | undefined,
): Promise<PeerOptions> {
  const { flags, values, lists } = given;
  const strategies = readStrategies(values.get("strategy"));
  const relays = await secrets.readAll("turn", lists.get("turn")!, URL_VARIABLES.turn);
  const turn = relays.map((url) => readUrl(url, parseRelay));
  const servers = lists.get("server")!.map((server) =>
    readWith(() => plainServer(server), "--server")
  );
  const signaling = await readSignalUrls(given, secrets);
  if (flags.has("hand") && signaling.length > 0) {
    throw new UsageError("--hand cannot be combined with --rendezvous, --mqtt or --lan");
  }
  if (flags.has("relay-only")) requireRelay([...relays, ...signaling], strategies);
  const proxy = await readProxy(given, secrets);
  const isSealed = flags.has("relay-only") && proxy !== undefined;
  if (isSealed && flags.has("lan")) {
    throw new UsageError(
      "--lan cannot be combined with --relay-only and a proxy: it goes around it",
    );
  }
  const key = values.get("key");
  return {
    signaling: prompt === undefined ? urlsOrDefault(signaling, isSealed) : [prompt.transport],
    proxy,
    secretKey: key === undefined ? undefined : await readKey(key, io),
    servers: servers.length > 0 ? servers : undefined,
    turn,
    strategies,
    relayOnly: flags.has("relay-only"),
    logger: warningsOnly(io, flags.has("json")),
    signal: io.signal,
  };
}

/** Whether the user ruled out direct paths. */
export function rulesOutDirect({ flags, values }: Arguments): boolean {
  return flags.has("relay-only") || values.get("strategy")?.trim() === "relay";
}

/**
 * Reads `--rendezvous`, `--mqtt` and `--lan`. As `--lan` or `--hand` says where to meet, variables do not.
 *
 * @throws {UsageError} if a URL is invalid
 */
export async function readSignalUrls(
  { flags, lists }: Arguments,
  secrets: PeerInput["secrets"],
): Promise<string[]> {
  const isDecided = flags.has("lan") || flags.has("hand");
  const urls = async (option: "rendezvous" | "mqtt") => {
    const given = lists.get(option)!;
    if (given.length === 0 && isDecided) return [];
    return await secrets.readAll(option, given, URL_VARIABLES[option]);
  };
  return [
    ...(await urls("rendezvous")).map((url) => readSignalUrl("rendezvous", url)),
    ...(await urls("mqtt")).map((url) => readSignalUrl("mqtt", url)),
    ...flags.has("lan") ? ["lan:"] : [],
  ];
}

/** The option that names a signaling server, without its login: `--mqtt mqtts://broker.example`. */
export function signalingOption(url: string): string {
  if (url === "lan:") return "--lan";
  return `${/^mqtt/.test(url) ? "--mqtt" : "--rendezvous"} ${stripLogin(url)}`;
}

/**
 * Checks the URL in an option's text.
 *
 * @throws {UsageError} if it is not of the kind that the option takes
 */
export function readSignalUrl(option: "rendezvous" | "mqtt", url: string): string {
  const { scheme, form } = SIGNAL_URLS[option];
  if (!scheme.test(url)) {
    throw new UsageError(`--${option} takes a URL such as ${form}, not ${shownUrl(url)}`);
  }
  return readUrl(url, parseSignalUrl);
}

/**
 * Opens a peer.
 *
 * @throws {UsageError} if an option is invalid
 * @throws as {@linkcode Peer.open}
 */
export async function openPeer(options: PeerOptions): Promise<Peer> {
  const serverRecord = await openRecord();
  try {
    return await Peer.open({ ...options, serverRecord });
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof RangeError)) throw error;
    throw new UsageError(error.message, { cause: error });
  }
}

/** What earlier commands have learned of signaling servers, if there is a place for it. */
async function openRecord(): Promise<PeerOptions["serverRecord"]> {
  const folder = await configFolder("punchline");
  if (folder === undefined) return undefined;
  const { ServerFile } = await import("./server_file.ts");
  return await ServerFile.open(`${folder}/servers.json`);
}

/**
 * Reads `--timeout`.
 *
 * @returns milliseconds
 *
 * @throws {UsageError} if it is not a time
 */
export function readTimeout(values: ReadonlyMap<string, string>): number | undefined {
  return readTimeoutMs(values.get("timeout"), MAX_TIMEOUT_MS);
}

/** Turns `--timeout` into options for a peer that connects. */
export function readConnectTimings(
  values: ReadonlyMap<string, string>,
): Pick<PeerOptions, "timings"> {
  const timeoutMs = readTimeout(values);
  return timeoutMs === undefined
    ? {}
    : { timings: { answerMs: timeoutMs, connectMs: timeoutMs, manualMs: timeoutMs } };
}

/**
 * Reads the public key in an option's text.
 *
 * @throws {UsageError} if it is not a key
 */
export function readPublicKey(name: string, text: string): Uint8Array {
  const key = fromBase64url(text);
  if (key?.length === 32) return key;
  throw new UsageError(`--${name} takes an ID as \`punchline id\` prints it, not ${text}`);
}

/** Runs the command `id`; returns its exit code. */
export async function id(args: readonly string[], io: CliIo): Promise<number> {
  const { flags, values } = readCommand("id", args);
  const path = values.get("key") ?? (await readConfig()).key;
  if (path === undefined) {
    throw new UsageError("--key is missing: name the file with the secret key, or one to create");
  }
  using keyPair = new KeyPair(await readKey(path, io));
  const text = toBase64url(keyPair.publicKey);
  io.out(flags.has("json") ? JSON.stringify({ id: text }) : text);
  return EXIT.ok;
}

/**
 * The secret key in the file that `--key` names.
 *
 * @throws {UsageError} if the file cannot be used
 */
export async function readKey(
  path: string,
  io: CliIo,
  { creates = true }: { readonly creates?: boolean } = {},
): Promise<Uint8Array> {
  const logger = warningsOnly(io, false);
  try {
    const key = await (creates ? openKeyFile : readKeyFile)(path, logger);
    if (key !== undefined) return key;
    const remedy = "Check the spelling of the path; `punchline ticket new` and listen create a key";
    throw new UsageError(`--key ${path}: there is no such file`, { remedy });
  } catch (error) {
    if (error instanceof UsageError) throw error;
    const why = error instanceof Deno.errors.NotFound
      ? "the folder does not exist"
      : reasonOfFile(error, path);
    throw new UsageError(`--key ${path}: ${why}`, { cause: error });
  }
}

/** @param isSealed whether nothing may go around the proxy */
function urlsOrDefault(urls: readonly string[], isSealed: boolean): readonly string[] {
  if (urls.length > 0) return urls;
  return isSealed ? DEFAULT_SIGNALING.filter((url) => url !== "lan:") : DEFAULT_SIGNALING;
}

/** `--relay-only` needs a relay, and must be allowed to use it. */
function requireRelay(
  urls: readonly string[],
  strategies: readonly Strategy[] | undefined,
): void {
  if (!urls.some((url) => /^(turns?|wss?):/i.test(url))) {
    throw new UsageError(
      "--relay-only needs --rendezvous or --turn: a relay that the peer names would learn your address",
    );
  }
  if (strategies?.includes("relay") === false) {
    throw new UsageError("--relay-only needs relay among the strategies: add it to --strategy");
  }
}

function readStrategies(list: string | undefined): Strategy[] | undefined {
  return list?.split(",").map((name) => readWith(() => parseStrategy(name.trim())));
}

/** As {@linkcode readWith}, for a URL that may hold a password. */
function readUrl<T>(url: string, parse: (url: string) => T): T {
  return readWith(() => {
    try {
      return parse(url);
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      throw new TypeError(error.message.replaceAll(url, shownUrl(url)));
    }
  });
}

/** Chosen by us: a day, longer than anyone waits. */
const MAX_TIMEOUT_MS = 86_400_000;

/** Prints warnings for people, and drops everything else. */
function warningsOnly(io: CliIo, asJson: boolean): NonNullable<PeerOptions["logger"]> {
  return {
    debug() {},
    info() {},
    warn: (message) => asJson || io.err(`punchline: ${withoutSecrets(message)}`),
  };
}

/** Which URLs the options take, and an example of each. */
const SIGNAL_URLS = {
  rendezvous: { scheme: /^wss?:/, form: "ws://192.0.2.1:3480" },
  mqtt: { scheme: /^mqtts?\b/, form: "mqtts://broker.example" },
} as const;
