/**
 * Reads the arguments of one command, strictly: an unknown option is an error. Prints the help for its options.
 *
 * @module
 */

import { UsageError, withoutSecrets } from "./io.ts";
import { parseArgs } from "@std/cli/parse-args";

/** The options that a command accepts; names are without dashes. */
export interface ArgumentSpec {
  /** Options without a value. */
  readonly flags?: readonly string[];
  /** Options with a value, at most once. */
  readonly values?: readonly string[];
  /** Options with a value, any number of times. */
  readonly lists?: readonly string[];
  /** The arguments without dashes that the command takes. Default: none. */
  readonly operands?: {
    readonly min: number;
    readonly max: number;
    /** What the first `min` of them are, for the message if one is missing. */
    readonly names: readonly string[];
  };
}

/** The arguments of a command, by kind. */
export interface Arguments {
  readonly flags: ReadonlySet<string>;
  readonly values: ReadonlyMap<string, string>;
  readonly lists: ReadonlyMap<string, readonly string[]>;
  readonly operands: readonly string[];
}

/**
 * Reads the arguments that the specification allows.
 *
 * @throws {UsageError} if an option is unknown, lacks its value or is repeated, or if there are too many or too few
 * operands
 */
export function readArguments(args: readonly string[], spec: ArgumentSpec): Arguments {
  const { flags = [], values = [], lists = [], operands = { min: 0, max: 0, names: [] } } = spec;
  const valued = [...values, ...lists];
  const parsed = parseArgs(joinValues(args, flags, valued), {
    boolean: flags,
    string: [...valued, "_"],
    collect: valued,
  });
  const given = new Map<string, readonly string[]>(
    valued.map((name) => [name, parsed[name] as string[] | undefined ?? []]),
  );
  for (const [name, list] of given) {
    if (list.includes("")) throw new UsageError(`--${name} takes a value`);
    if (values.includes(name) && list.length > 1) throw new UsageError(`--${name} is given twice`);
  }
  const rest = parsed._.map(String);
  if (rest.length > operands.max) {
    const unexpected = JSON.stringify(rest[operands.max]);
    throw new UsageError(`unexpected argument ${withoutSecrets(unexpected)}`);
  }
  if (rest.length < operands.min) {
    throw new UsageError(`an argument is missing: ${operands.names[rest.length]}`);
  }
  return {
    flags: new Set(flags.filter((name) => parsed[name] === true)),
    values: new Map(values.flatMap((name) => given.get(name)!.slice(0, 1).map((v) => [name, v]))),
    lists: new Map(lists.map((name) => [name, given.get(name)!])),
    operands: rest,
  };
}

/**
 * Reads the whole number in an option's text.
 *
 * @throws {UsageError} if the text is not a whole number, or out of range
 */
export function readInteger(
  name: string,
  text: string | undefined,
  range: { min: number; max: number },
): number | undefined {
  if (text === undefined) return undefined;
  const value = /^\d+$/.test(text) ? Number(text) : NaN;
  if (value >= range.min && value <= range.max) return value;
  throw new UsageError(
    `--${name} takes a whole number from ${range.min} to ${range.max}, not ${text}`,
  );
}

/**
 * Reads the time in an option's text, such as `500ms`, `5s`, `2m`, `1h` or `7d`; a bare number is milliseconds.
 *
 * @returns milliseconds
 * @throws {UsageError} if the text is not a time, or out of range
 */
export function readDuration(
  name: string,
  text: string | undefined,
  { min = 0, max = MAX_DURATION_MS }: { min?: number; max?: number } = {},
): number | undefined {
  if (text === undefined) return undefined;
  const [, digits, unit = "ms"] = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)?$/.exec(text) ?? [];
  const value = digits === undefined ? NaN : Math.round(Number(digits) * UNITS_MS[unit]!);
  if (value >= min && value <= max) return value;
  throw new UsageError(
    `--${name} takes a time such as 500ms, 5s, 2m, 1h or 7d, not ${text}`,
  );
}

const UNITS_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** Chosen by us: a hundred years. */
const MAX_DURATION_MS = 100 * 365 * 86_400_000;

/**
 * Calls a function that parses an argument and turns its TypeError or RangeError into a usage error.
 *
 * @throws {UsageError} with the same message
 */
export function readWith<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof RangeError)) throw error;
    throw new UsageError(error.message, { cause: error });
  }
}

/**
 * Joins each option with its value: parseArgs would not take a value that starts with a dash, as a base64url key may.
 * Rejects what parseArgs would accept: unknown options, and values for flags.
 */
function joinValues(
  args: readonly string[],
  flags: readonly string[],
  valued: readonly string[],
): string[] {
  const isOption = (arg: string) => [...flags, ...valued].some((name) => arg === `--${name}`);
  const joined: string[] = [];
  for (let index = 0; index < args.length; index++) {
    const arg = args[index]!;
    if (arg === "--") return [...joined, ...args.slice(index)];
    const [, name, value] = /^--([^=]+)(?:=(.*))?$/s.exec(arg) ?? [];
    if (!arg.startsWith("-") || arg === "-") {
      joined.push(arg);
    } else if (name !== undefined && valued.includes(name)) {
      const next = value ?? args[++index];
      if (next === undefined || value === undefined && (next === "--" || isOption(next))) {
        throw new UsageError(`--${name} takes a value`);
      }
      joined.push(`--${name}=${next}`);
    } else if (name === undefined || !flags.includes(name)) {
      throw new UsageError(`unknown option ${arg.replace(/=.*[:@].*$/s, "=…")}`); // it may hold a password
    } else if (value !== undefined) {
      throw new UsageError(`--${name} takes no value`);
    } else {
      joined.push(arg);
    }
  }
  return joined;
}

/** One line of help for each option in a command's usage, in the same order. */
export function optionHelp(usage: string): string[] {
  const [command] = usage.split(" ", 1);
  const names = [...new Set(usage.match(/--[a-z-]+/g))];
  const width = Math.max(...names.map((name) => name.length));
  return names.map((name) => `  ${name.padEnd(width)}  ${helpOf(name, command!)}`);
}

/** @throws {Error} if the option has no help, which is a fault of this program */
function helpOf(name: string, command: string): string {
  const help = OPTIONS[`${command} ${name}`] ?? OPTIONS[name];
  if (help === undefined) throw new Error(`Cannot explain ${name} of ${command}: it has no help`);
  return help;
}

/** By name; where commands differ, with the command before it. */
const OPTIONS: Readonly<Record<string, string>> = {
  "--address":
    "serve at this address of this machine (default: loopback, for a test on this machine)",
  "--allow-hidden":
    "accept hidden files and programs even into folders that existed before the transfer",
  "--allow": "accept only peers with this ID, as `punchline id` prints it",
  "--alternate": "a second address of this machine, which clients need to classify their NATs",
  "--alternate-port": "the second STUN port (default: 3479)",
  "--check": "check this often that the mapping still exists, in seconds (default: 60)",
  "--expires":
    "how long the ticket is good for, such as 30m, 1h or 7d (default: until it is revoked)",
  "--external": "the external port to ask for (default: the same port)",
  "--family": "test IPv4 or IPv6 only: 4 or 6 (default: both)",
  "--gateway": "the router's address, if it is not found automatically",
  "--hand": "copy and paste the messages yourself, over a chat or by mail",
  "--json": "print results and events as JSON, for programs",
  "--keep": "leave the port open on exit, until the lease expires",
  "--key": "the file with this peer's secret key, created if missing: keeps the same ID and ticket",
  "ticket --rendezvous":
    "the server that the ticket names (default: where listen or send was reachable last)",
  "ticket --mqtt": "an MQTT broker that the ticket names",
  "ticket --lan": "make a ticket for the local network",
  "--lan": "exchange messages on the local network, by multicast",
  "--lifetime": "the lease to ask for, in seconds; it is renewed in time (default: 3600)",
  "nat-test --lifetime": "also measure how long idle mappings last, up to this many seconds",
  "--max-connections": "accept this many connections, per service (default: 2048)",
  "--max-connections-per-source":
    "accept this many from one IPv4 address or IPv6 /64 (default: 128 for STUN, 64 for the rendezvous)",
  "--max-rooms": "open this many rooms at a time (default: 2048)",
  "--max-topics": "keep this many topics at a time (default: 131072)",
  "--merge": "accept files into existing folders of the same name",
  "--mqtt":
    "exchange messages through this MQTT broker, such as mqtts://USER:PASSWORD@HOST; also @FILE, -, or $PUNCHLINE_MQTT; also allows it in a ticket",
  "--name": "what to call the ticket, for list and revoke",
  "--no-hairpinning": "skip the hairpinning test",
  "--once": "a ticket for one connection, or one finished transfer",
  "--overwrite": "replace existing files that differ",
  "--port": "the STUN port (default: 3478)",
  "--protocol": "how to ask the router (default: auto, all protocols at once)",
  "--qr": "show the ticket as a QR code",
  "--relay-only": "connect only through the --turn relays, to hide your address from the peer",
  "--rename": "keep existing files that differ, and save the new ones under other names",
  "--rendezvous":
    "exchange messages through this server, such as ws://192.0.2.1:3480; also allows it in a ticket",
  "--rendezvous-port": "the port of the rendezvous (default: 3480)",
  "--runs": "how many runs of each kind",
  "--server": "use this STUN server instead of the public ones",
  "map --server": "a STUN server to check the external address with (default: no check)",
  "lab --server": "the STUN server to test against: punchline, coturn or vovida",
  "--strategy": "how to connect, such as lan,punch,relay (default: all of them)",
  "--svg": "draw the punch matrix into this file",
  "--tcp": "over TCP",
  "listen --tcp": "forward each connection to this port of this machine",
  "connect --tcp": "forward each connection to this port of this machine to the peer",
  "--timeout": "how long to wait, in milliseconds",
  "--tls": "over TLS",
  "--to": "the folder to write to (default: the current folder)",
  "--transport": "test UDP or TCP only: udp or tcp (default: both)",
  "--trust-proxy":
    "believe X-Forwarded-For from this address or prefix, such as 10.0.0.0/8, to count clients by",
  "--turn":
    "a relay for when nothing else works: turn:USER:PASSWORD@HOST; also @FILE, - (stdin), or $PUNCHLINE_TURN",
  "--verbose": "print diagnostics on stderr",
  "--yes": "receive without asking about the files",
};
