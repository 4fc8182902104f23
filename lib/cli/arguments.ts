/**
 * Reads the arguments of one command, strictly: an unknown option is an error, and its message says what was meant.
 *
 * @module
 */

import { closest } from "./closest.ts";
import type { Command } from "./command.ts";
import { commandNamed, COMMANDS } from "./command_table.ts";
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
  /** How many arguments without dashes the command takes. Default: none. */
  readonly operands?: {
    readonly min: number;
    readonly max: number;
    /** What each is called, for messages. */
    readonly names?: readonly string[];
  };
  /** The command that takes them, for messages. */
  readonly command?: string;
  /** What each option with a value takes, such as `HOST[:PORT]`, for messages. */
  readonly placeholders?: Readonly<Record<string, string>>;
}

/** The arguments of a command, by kind. */
export interface Arguments {
  readonly flags: ReadonlySet<string>;
  readonly values: ReadonlyMap<string, string>;
  readonly lists: ReadonlyMap<string, readonly string[]>;
  readonly operands: readonly string[];
}

/**
 * Reads the arguments of a command as the table describes it.
 *
 * @param name the command, such as `map add`
 * @throws {UsageError} as {@linkcode readArguments}
 */
export function readCommand(name: string, args: readonly string[]): Arguments {
  return readArguments(args, argumentSpecOf(commandNamed(name)));
}

/** What the table says about a command, as {@linkcode readArguments} takes it. */
export function argumentSpecOf({ name, options, operands }: Command): Required<ArgumentSpec> {
  const named = (isWanted: (option: Command["options"][number]) => boolean) =>
    options.filter(isWanted).map(({ name }) => name);
  return {
    flags: named(({ value }) => value === undefined),
    values: named(({ value, repeats }) => value !== undefined && !repeats),
    lists: named(({ value, repeats }) => value !== undefined && repeats === true),
    operands: {
      min: operands.filter(({ isOptional }) => !isOptional).length,
      max: operands.some(({ repeats }) => repeats)
        ? Infinity
        : operands.reduce((sum, { maxWords = 1 }) => sum + maxWords, 0),
      names: operands.map(({ name, shown = name, choices, help }) =>
        choices === undefined ? `${shown} (${help})` : shown
      ),
    },
    command: name,
    placeholders: Object.fromEntries(
      options.flatMap(({ name, value }) => value === undefined ? [] : [[name, value]]),
    ),
  };
}

/**
 * Reads the arguments that the specification allows.
 *
 * @throws {UsageError} if an option is unknown, lacks its value or is repeated, or if there are too many or too few
 * operands
 */
export function readArguments(args: readonly string[], spec: ArgumentSpec): Arguments {
  const { flags = [], values = [], lists = [], operands = NO_OPERANDS, command } = spec;
  const valued = [...values, ...lists];
  const parsed = parseArgs(joinValues(args, spec), {
    boolean: flags,
    string: [...valued, "_"],
    collect: valued,
  });
  const given = new Map<string, readonly string[]>(
    valued.map((name) => [name, parsed[name] as string[] | undefined ?? []]),
  );
  for (const [name, list] of given) {
    if (list.includes("")) throw valueMissing(name, spec);
    if (values.includes(name) && list.length > 1) {
      throw new UsageError(`--${name} is given twice, and takes one value`);
    }
  }
  const rest = parsed._.map(String);
  if (rest.length > operands.max) {
    const unexpected = withoutSecrets(JSON.stringify(rest[operands.max]));
    throw new UsageError(`unexpected argument ${unexpected}`, { remedy: helpHint(command) });
  }
  if (rest.length < operands.min) {
    const missing = operands.names?.[rest.length];
    throw new UsageError(
      missing === undefined ? "an argument is missing" : `an argument is missing: ${missing}`,
      { remedy: helpHint(command) },
    );
  }
  const empty = rest.indexOf(""); // such as a variable of a script that is not set
  if (empty >= 0) {
    const name = operands.names?.[empty] ?? operands.names?.at(-1);
    throw new UsageError(
      name === undefined ? "an argument is empty" : `an argument is empty: ${name}`,
      {
        remedy: helpHint(command),
      },
    );
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
    `--${name} takes a whole number from ${range.min} to ${range.max}, not ${shown(text)}`,
  );
}

/**
 * Reads an option that takes one of a few words.
 *
 * @throws {UsageError} if the text is another one
 */
export function readChoice<T extends string>(
  name: string,
  text: string | undefined,
  choices: readonly T[],
): T | undefined {
  const choice = choices.find((each) => each === text);
  if (text === undefined || choice !== undefined) return choice;
  throw new UsageError(`--${name} takes ${choices.join(" or ")}, not ${shown(text)}`);
}

/** The range of a time, in milliseconds, and what a bare number means. */
export interface DurationRange {
  readonly min?: number;
  readonly max?: number;
  /** Default: milliseconds. */
  readonly bareUnit?: "ms" | "s";
}

/**
 * Reads the time in an option's text, such as `500ms`, `5s`, `2m`, `1h` or `7d`.
 *
 * @returns milliseconds
 * @throws {UsageError} if the text is not a time, or out of range
 */
export function readDuration(
  name: string,
  text: string | undefined,
  { min = 0, max = MAX_DURATION_MS, bareUnit }: DurationRange = {},
): number | undefined {
  if (text === undefined) return undefined;
  const [, digits, unit] = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)?$/.exec(text) ?? [];
  const ms = Math.round(Number(digits) * UNITS_MS[unit ?? bareUnit ?? "ms"]!);
  const isBare = unit === undefined && bareUnit === undefined;
  if (isBare && ms > 0 && ms < Math.max(min, LEAST_BARE_MS)) {
    const unit = Number(digits) === 1 ? "millisecond" : "milliseconds";
    throw new UsageError(`--${name} ${shown(text)} would be ${shown(text)} ${unit}`, {
      remedy: `Write ${shown(text)}s, ${shown(text)}m or ${shown(text)}ms`,
    });
  }
  const value = digits === undefined ? NaN : ms;
  if (value >= min && value <= max) return value;
  const limits = max === MAX_DURATION_MS ? "" : `, from ${inUnits(min)} to ${inUnits(max)}`;
  throw new UsageError(
    `--${name} takes a time such as 500ms, 5s, 2m, 1h or 7d${limits}, not ${shown(text)}`,
  );
}

/**
 * Reads `--timeout`, or another time that someone waits for.
 *
 * @returns milliseconds
 * @throws {UsageError} if the text is not a time, or out of range
 */
export function readTimeoutMs(
  text: string | undefined,
  maxMs: number,
  options: Pick<DurationRange, "bareUnit"> = {},
): number | undefined {
  return readDuration("timeout", text, { min: 1, max: maxMs, ...options });
}

/**
 * Reads a time that is counted in seconds; a bare number is seconds.
 *
 * @returns whole seconds
 * @throws {UsageError} if the text is not a time, or out of range
 */
export function readSeconds(
  name: string,
  text: string | undefined,
  { min, max }: { min: number; max: number },
): number | undefined {
  const range = { min: min * 1000, max: max * 1000, bareUnit: "s" } as const;
  const ms = readDuration(name, text, range);
  return ms === undefined ? undefined : Math.round(ms / 1000);
}

/** A time in the largest unit that it is a whole number of, as {@linkcode readDuration} reads it. */
function inUnits(ms: number): string {
  const [unit, size] = Object.entries(UNITS_MS).findLast(([, size]) => ms > 0 && ms % size === 0) ??
    ["ms", 1];
  return `${ms / size}${unit}`;
}

/** Chosen by us: a person who writes less than this without a unit means seconds or minutes. */
const LEAST_BARE_MS = 50;

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
 * @param what what is parsed, such as `--server`, if the message of the function does not say it
 * @throws {UsageError} with the same message
 */
export function readWith<T>(read: () => T, what?: string): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof RangeError)) throw error;
    const message = what === undefined ? error.message : `${what}: ${error.message}`;
    throw new UsageError(message, { cause: error });
  }
}

/**
 * Joins each option with its value: parseArgs would not take a value that starts with a dash, as a base64url key may.
 * Rejects what parseArgs would accept: unknown options, and values for flags.
 */
function joinValues(args: readonly string[], spec: ArgumentSpec): string[] {
  const { flags = [], values = [], lists = [], command } = spec;
  const valued = [...values, ...lists];
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
        throw valueMissing(name, spec);
      }
      joined.push(`--${name}=${next}`);
    } else if (name === undefined || !flags.includes(name)) {
      throw unknownOption(arg, [...flags, ...valued], command);
    } else if (value !== undefined) {
      throw new UsageError(`--${name} takes no value`);
    } else {
      joined.push(arg);
    }
  }
  return joined;
}

function valueMissing(name: string, { placeholders = {} }: ArgumentSpec): UsageError {
  const placeholder = placeholders[name];
  const which = placeholder === undefined ? "" : `: ${placeholder}`;
  return new UsageError(`--${name} takes a value${which}`);
}

function unknownOption(arg: string, known: readonly string[], command?: string): UsageError {
  const text = shown(arg.replace(/=.*[:@].*$/s, "=…")); // it may hold a password
  const [name] = arg.split("=", 1);
  const guess = closest(name!, known.map((each) => `--${each}`));
  const takers = commandsThatTake(name!);
  // What is exactly an option of another command is no slip of a finger, unless a letter at the end is.
  const isSlip = takers.length === 0 || guess?.startsWith(name!) ||
    name!.startsWith(guess ?? name!);
  if (guess !== undefined && isSlip) {
    return new UsageError(`unknown option ${text}; did you mean ${guess}?`);
  }
  const hint = helpHint(command);
  const others = `${takers.join(" and ")} ${takers.length === 1 ? "takes" : "take"} ${name}`;
  return new UsageError(`unknown option ${text}`, {
    remedy: takers.length === 0 || hint === undefined ? hint : `${others}; ${hint}`,
  });
}

/** The commands with that option, if they are few. */
function commandsThatTake(arg: string): string[] {
  const takers = COMMANDS.flatMap((each) => [each, ...each.subcommands ?? []])
    .filter(({ options }) => options.some(({ name }) => arg === `--${name}`));
  return takers.length > MAX_TAKERS ? [] : takers.map(({ name }) => name);
}

function helpHint(command: string | undefined): string | undefined {
  return command === undefined ? undefined : `\`punchline help ${command}\` explains the command`;
}

/** A text from the command line, for a message: not longer than a message should be. */
function shown(text: string): string {
  return text.length <= MAX_SHOWN ? text : `${text.slice(0, MAX_SHOWN)}…`;
}

const NO_OPERANDS: ArgumentSpec["operands"] & object = { min: 0, max: 0 };

/** Chosen by us: more than two commands are no hint. */
const MAX_TAKERS = 2;

/** Chosen by us: one line of a message can hold it. */
const MAX_SHOWN = 60;
