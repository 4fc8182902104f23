/**
 * Reads the arguments of one command, strictly: what it does not know is an error.
 *
 * @module
 */

import { UsageError } from "./io.ts";
import { parseArgs } from "@std/cli/parse-args";

/** The options of a command; the names are without dashes. */
export interface ArgumentSpec {
  /** Present or not. */
  readonly flags?: readonly string[];
  /** With a value. */
  readonly values?: readonly string[];
  /** With a value, any number of times. */
  readonly lists?: readonly string[];
  /** How many arguments without dashes there may be; none unless given. */
  readonly operands?: { readonly min: number; readonly max: number };
}

/** What was given. */
export interface Arguments {
  readonly flags: ReadonlySet<string>;
  readonly values: ReadonlyMap<string, string>;
  readonly lists: ReadonlyMap<string, readonly string[]>;
  readonly operands: readonly string[];
}

/**
 * Reads arguments by a specification.
 *
 * @throws {UsageError} if an option is unknown, lacks its value, or is given twice, or the operands are too many or too few
 */
export function readArguments(args: readonly string[], spec: ArgumentSpec): Arguments {
  const { flags = [], values = [], lists = [], operands = { min: 0, max: 0 } } = spec;
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
    throw new UsageError(`unexpected argument ${JSON.stringify(rest[operands.max])}`);
  }
  if (rest.length < operands.min) throw new UsageError("an argument is missing");
  return {
    flags: new Set(flags.filter((name) => parsed[name] === true)),
    values: new Map(values.flatMap((name) => given.get(name)!.slice(0, 1).map((v) => [name, v]))),
    lists: new Map(lists.map((name) => [name, given.get(name)!])),
    operands: rest,
  };
}

/**
 * A whole number from an option's text.
 *
 * @throws {UsageError} if it is none, or out of range
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
 * Reads an argument by a function that throws a TypeError or RangeError for what it cannot read.
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
 * Joins options with their values, which parseArgs would not take if they begin with a dash, as keys in base64url may.
 * Refuses what it would let pass: unknown options, and values for flags.
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
      throw new UsageError(`unknown option ${arg}`);
    } else if (value !== undefined) {
      throw new UsageError(`--${name} takes no value`);
    } else {
      joined.push(arg);
    }
  }
  return joined;
}

/** A line for each option that a usage names, in the order in which it does. */
export function optionHelp(usage: string): string[] {
  const [command] = usage.split(" ", 1);
  const names = [...new Set(usage.match(/--[a-z-]+/g))];
  const width = Math.max(...names.map((name) => name.length));
  return names.map((name) => `  ${name.padEnd(width)}  ${helpOf(name, command!)}`);
}

/**
 * @throws {Error} if there is none: each option has one
 */
function helpOf(name: string, command: string): string {
  const help = OPTIONS[`${command} ${name}`] ?? OPTIONS[name];
  if (help === undefined) throw new Error(`There is no help for ${name} of ${command}`);
  return help;
}

/** By their names; where commands differ, with the command's before it. */
const OPTIONS: Readonly<Record<string, string>> = {
  "--address":
    "an address of this host to serve at; for a demonstration on this host alone unless given",
  "--allow": "a key, as `punchline id` prints it: nobody else gets in",
  "--alternate": "a second address of this host, so that NATs can be classified",
  "--alternate-port": "the second STUN port",
  "--check": "how often to look whether the mapping is still there, in seconds",
  "--external": "the external port to ask for",
  "--family": "4 or 6; both unless given",
  "--gateway": "the router's address, where it is not found",
  "--hand": "you pass on the few messages yourself, in a chat or by mail",
  "--json": "results and events as JSON, for programs",
  "--keep": "leave the mapping open at the end",
  "--key": "a file with this peer's secret key, made if it is missing: keeps identity and ticket",
  "--lan": "meet in the local network, by multicast",
  "--lifetime": "how long routers keep the mapping unless it is renewed, in seconds",
  "nat-test --lifetime": "also how long idle mappings last, looked for up to so many seconds",
  "--mqtt": "meet at this MQTT broker, such as mqtts://broker.example",
  "--no-hairpinning": "do not look whether the NAT leads back inside",
  "--overwrite": "replace files that are there and differ",
  "--port": "the STUN port",
  "--protocol": "how to ask the router; all at once unless given",
  "--qr": "draw the ticket as a QR code",
  "--relay-only": "go by --turn alone, so that the other side does not learn your address",
  "--rename": "write files beside those that are there and differ",
  "--rendezvous": "meet at this server, such as ws://192.0.2.1:3480",
  "--rendezvous-port": "the port of the rendezvous",
  "--runs": "how many of each kind",
  "--server": "a STUN server, instead of public ones",
  "lab --server": "which STUN server is asked: ours, coturn or vovida",
  "--strategy": "kinds of path to try, such as lan,punch,relay; default: all",
  "--svg": "draw the punch matrix",
  "--tcp": "over TCP",
  "listen --tcp": "each connection goes to this port of this machine",
  "connect --tcp": "each connection to this port of this machine goes to the peer",
  "--timeout": "how long to wait, in milliseconds",
  "--tls": "over TLS",
  "--to": "the folder to write to; this one unless given",
  "--transport": "udp or tcp; both unless given",
  "--turn": "a relay for what nothing else connects: turn:USER:PASSWORD@HOST",
  "--verbose": "with all evidence",
};
