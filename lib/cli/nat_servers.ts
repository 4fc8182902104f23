/**
 * `nat-test --servers`: which of the public servers that this program ships with are alive.
 *
 * @module
 */

import { messageOf } from "../base/errors.ts";
import { Semaphore } from "../base/tasks.ts";
import { Deadline } from "../base/timers.ts";
import { ONE_ADDRESS_SERVERS, plainServer, TWO_ADDRESS_SERVERS } from "../nat/servers.ts";
import type { Network } from "../net/network.ts";
import { systemNetwork } from "../net/system.ts";
import { PUBLIC_BROKERS } from "../signal/open.ts";
import { stunBinding } from "../stun/stun_binding.ts";
import { type Arguments, readTimeoutMs, readWith } from "./arguments.ts";
import { type CliIo, EXIT, UsageError } from "./io.ts";
import { pad } from "./layout.ts";
import { waitFor, waitOver } from "./screen.ts";

/** How one way to ask a server went. */
export interface Answer {
  readonly rttMs: number | null;
  /** Why there is no round trip; `null` if there is one. */
  readonly reason: string | null;
}

/** What became of one server. */
export type ServerCheck =
  | {
    readonly kind: "stun";
    /** `HOST:PORT`. */
    readonly server: string;
    readonly alive: boolean;
    readonly udp: Answer;
    readonly tcp: Answer;
    /** Whether it has a second address, for the filtering test. */
    readonly hasOtherAddress: boolean;
  }
  | ({
    readonly kind: "broker";
    /** Its URL. */
    readonly server: string;
    readonly alive: boolean;
  } & Answer);

/** How to ask. */
export interface CheckServersOptions {
  readonly network: Network;
  /** How long each server may take. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/**
 * Runs `nat-test --servers`; returns its exit code.
 *
 * @throws {UsageError} if the command line is wrong
 */
export async function natTestServers(given: Arguments, io: CliIo): Promise<number> {
  const { flags, values, lists } = given;
  for (const name of ["transport", "family", "lifetime", "no-hairpinning", "watch"]) {
    if (!flags.has(name) && !values.has(name)) continue;
    throw new UsageError(`--servers cannot be combined with --${name}`);
  }
  const named = lists.get("server")!.map((each) => readWith(() => plainServer(each), "--server"));
  const stun = named.length > 0 ? named : [...TWO_ADDRESS_SERVERS, ...ONE_ADDRESS_SERVERS];
  const brokers = named.length > 0 ? [] : PUBLIC_BROKERS;
  const timeoutMs = readTimeoutMs(values.get("timeout"), MAX_TIMEOUT_MS, { bareUnit: "ms" }) ??
    DEFAULT_TIMEOUT_MS;
  waitFor(io, `Asking ${stun.length + brokers.length} servers`);
  const { signal } = io;
  const checks = await checkServers(stun, brokers, { network: systemNetwork, timeoutMs, signal });
  waitOver(io);
  if (flags.has("json")) io.out(JSON.stringify({ version: 1, servers: checks }));
  else for (const line of serversText(checks)) io.out(line);
  return checks.some(({ alive }) => alive) ? EXIT.ok : EXIT.offlineOrBlocked;
}

/**
 * Asks each server once, a few at a time: a STUN server over UDP and TCP, a broker for an MQTT connection.
 *
 * @throws the signal's reason on abort
 */
export async function checkServers(
  stun: readonly string[],
  brokers: readonly string[],
  options: CheckServersOptions,
): Promise<ServerCheck[]> {
  const turns = new Semaphore(AT_ONCE);
  const checks = await Promise.all([
    ...stun.map((server) => turns.through(() => checkStun(server, options))),
    ...brokers.map((url) => turns.through(() => checkBroker(url, options))),
  ]);
  options.signal.throwIfAborted();
  return checks;
}

/** The table for people. */
export function serversText(checks: readonly ServerCheck[]): string[] {
  const width = Math.max(0, ...checks.map(({ server }) => server.length));
  const alive = checks.filter(({ alive }) => alive).length;
  const rows = checks.map((check) => {
    const name = pad(check.server, width);
    if (check.kind === "broker") return `  ${name}  ${answerText(check)}`;
    const { udp, tcp, hasOtherAddress } = check;
    const note = hasOtherAddress ? "  two addresses" : "";
    return `  ${name}  UDP ${pad(answerText(udp), 11)}  TCP ${answerText(tcp)}${note}`;
  });
  return [...rows, `${alive} of ${checks.length} are alive`];
}

function answerText({ rttMs, reason }: Answer): string {
  return rttMs === null ? `${reason}` : `${Math.round(rttMs)} ms`;
}

async function checkStun(server: string, options: CheckServersOptions): Promise<ServerCheck> {
  let hasOtherAddress = false;
  const ask = (transport: "udp" | "tcp") =>
    answerOf(options, async (signal) => {
      const { network } = options;
      const binding = await stunBinding(server, { network, transport, waitsMs: WAITS_MS, signal });
      hasOtherAddress ||= binding.otherAddress !== undefined;
      return binding.rttMs;
    });
  const [udp, tcp] = await Promise.all([ask("udp"), ask("tcp")]);
  const alive = udp.rttMs !== null || tcp.rttMs !== null;
  return { kind: "stun", server, alive, udp, tcp, hasOtherAddress };
}

async function checkBroker(url: string, options: CheckServersOptions): Promise<ServerCheck> {
  const { mqttTransport } = await import("../signal/mqtt/transport.ts");
  const answer = await answerOf(options, async (signal) => {
    await using connection = await mqttTransport(url).open({ network: options.network, signal });
    return connection.rttMs!;
  });
  return { kind: "broker", server: url, alive: answer.rttMs !== null, ...answer };
}

async function answerOf(
  { timeoutMs, signal }: CheckServersOptions,
  ask: (signal: AbortSignal) => Promise<number>,
): Promise<Answer> {
  using deadline = new Deadline(timeoutMs, signal);
  try {
    return { rttMs: await ask(deadline.signal), reason: null };
  } catch (error) {
    return { rttMs: null, reason: reasonOf(error, deadline.signal.aborted) };
  }
}

/** In a word or two; the whole message of what has none. */
function reasonOf(error: unknown, isLate: boolean): string {
  if (isLate) return "no answer";
  const { name, reason } = Object(error) as { name?: string; reason?: string };
  if (name === "NoResponseError" || reason === "timed-out") return "no answer";
  if (name === "RefusedError") return "refused";
  if (name === "MalformedMessageError") return "wrong answer";
  return REASONS[reason ?? ""] ?? messageOf(error);
}

const REASONS: Readonly<Record<string, string>> = {
  "name-not-found": "no such name",
  "refused": "refused",
  "reset": "cut off",
  "unreachable": "unreachable",
  "tls": "TLS failed",
};

/** Chosen by us: one lost packet, and another. */
const WAITS_MS = [500, 1000, 2000];

/** Chosen by us: the time of the waits above, and a slow lookup. */
const DEFAULT_TIMEOUT_MS = 5000;

const MAX_TIMEOUT_MS = 60_000;

/** Chosen by us: a home router notices nothing, and all servers are asked within seconds. */
const AT_ONCE = 8;
