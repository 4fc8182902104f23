/**
 * Runs a command line: finds the command, runs it, and turns errors into one line and an exit code.
 *
 * @module
 */

import { closest } from "./closest.ts";
import type { Command } from "./command.ts";
import { findCommand } from "./command_table.ts";
import { explainFailure } from "./failures.ts";
import {
  type CliIo,
  EXIT,
  type Failure,
  interruptedCode,
  printError,
  printFailure,
  UsageError,
} from "./io.ts";
import { copyable, uncopyable } from "./layout.ts";
import { withCommandLines } from "./started_as.ts";
import { VERSION } from "./version.ts";

/**
 * Runs a command line.
 *
 * @returns the exit code
 */
export async function main(args: readonly string[], outside: CliIo): Promise<number> {
  const visible = withVisibleText(outside);
  const [name] = args;
  if (name === "--version" || name === "-V") {
    visible.out(`punchline ${VERSION}`);
    return EXIT.ok;
  }
  const { withScreen } = await import("./screen.ts");
  using screen = withScreen(visible, { asJson: args.includes("--json") });
  const io = withNamedCommands(screen);
  if (name === undefined) {
    const { printOverview } = await import("./help.ts");
    printOverview(io, io.err);
    return EXIT.usage;
  }
  const command = findCommand(args);
  const asksForHelp = isHelpAsked(args);
  if (asksForHelp || command === undefined) return await helpOrUnknown(args, asksForHelp, io);
  const asJson = command.printsEvents === true && args.includes("--json");
  return await run(command, args, asJson ? withJsonErrors(io) : io);
}

/** `--help` anywhere: before the command, behind it, or among what it takes, but not behind `--`. */
function isHelpAsked(args: readonly string[]): boolean {
  const end = args.indexOf("--");
  return (end < 0 ? args : args.slice(0, end)).some((arg) => HELP_OPTIONS.has(arg));
}

async function helpOrUnknown(
  args: readonly string[],
  asksForHelp: boolean,
  io: CliIo,
): Promise<number> {
  const { namedCommand, printHelp, printOverview, unknownCommand } = await import("./help.ts");
  try {
    const words = args.filter((arg) => !arg.startsWith("-"));
    if (!asksForHelp) {
      throw args[0]!.startsWith("-") ? unknownOption(args[0]!) : unknownCommand(args[0]!);
    }
    if (words.length === 0) printOverview(io, io.out);
    else printHelp(findCommand(words) ?? namedCommand(words), io);
    return EXIT.ok;
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    printError(error, io);
    return EXIT.usage;
  }
}

/** An option where a command should be. */
function unknownOption(option: string): UsageError {
  const name = option.split("=", 1)[0]!;
  const meant = name === "-v" ? "--version" : closest(name, ["--help", "--version"]);
  const hint = meant === undefined ? "" : `; did you mean ${meant}?`;
  const remedy = hint === "" ? "The command comes first; `punchline help` lists them" : undefined;
  return new UsageError(`unknown option ${name.slice(0, MAX_SHOWN)}${hint}`, { remedy });
}

async function run(
  command: Command,
  args: readonly string[],
  io: CliIo,
): Promise<number> {
  try {
    if (command.subcommands !== undefined) throw await missingSubcommand(command, args[1]);
    const runCommand = await RUNNERS[args[0]!]!();
    const code = await runCommand(args.slice(1), io);
    return code === EXIT.interrupted ? interruptedCode(io) : code;
  } catch (error) {
    (await import("./screen.ts")).waitOver(io);
    if (io.signal.aborted) return interruptedCode(io);
    if (error instanceof Deno.errors.BrokenPipe) return EXIT.brokenPipe; // stdout was closed by its reader
    const failure = explainFailure(error, command, io);
    if (failure === undefined) throw error;
    printFailure(failure, io);
    return failure.exitCode;
  }
}

async function missingSubcommand(command: Command, word: string | undefined): Promise<UsageError> {
  if (word !== undefined) return (await import("./help.ts")).unknownCommand(word, command);
  const known = command.subcommands!.map(({ name }) => name.split(" ").at(-1));
  return new UsageError(`${command.name} needs a command: ${known.join(", ")}`, {
    remedy: `\`punchline help ${command.name}\` explains them`,
  });
}

/** Names commands as they work here, and keeps what is quoted like them in one piece. */
function withNamedCommands(io: CliIo): CliIo {
  const named = (text: string) =>
    text.startsWith("{") ? text : withCommandLines(text, io).replaceAll(/`[^`\n]*`/g, copyable);
  return Object.create(io, {
    out: { value: (line: string) => io.out(named(line)) },
    err: { value: (line: string) => io.err(named(line)) },
  });
}

/**
 * Prints the names and reasons of others without letting them control the terminal: control characters, and those that
 * turn the direction of text, are written as `\\u` and their number, which means the same in JSON.
 */
function withVisibleText(io: CliIo): CliIo {
  const visible = (text: string) => text.replaceAll(INVISIBLE, escapeCharacter);
  return Object.create(io, {
    out: { value: (line: string) => io.out(visible(line)) },
    err: { value: (line: string) => io.err(visible(line)) },
  });
}

function escapeCharacter(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}

/** All control characters but newline and tab, separators of lines, and marks of direction (UAX #9). */
const INVISIBLE =
  // deno-lint-ignore no-control-regex
  /[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/** Turns the failures that a command prints on stderr into JSON events. */
function withJsonErrors(io: CliIo): CliIo {
  const err = (line: string) => {
    const isEvent = line.startsWith("{");
    io.err(
      isEvent
        ? line
        : JSON.stringify({ event: "error", message: uncopyable(line.replace(/^punchline: /, "")) }),
    );
  };
  const fail = ({ message, remedy }: Failure) => {
    const [why, what] = [message, remedy].map((text) =>
      text && uncopyable(withCommandLines(text, io))
    );
    io.err(JSON.stringify({ event: "error", message: why, remedy: what }));
  };
  return Object.create(io, { err: { value: err }, fail: { value: fail } }); // a copy would open stdin and stdout, which are opened on first use
}

type RunCommand = (args: readonly string[], io: CliIo) => Promise<number> | number;

/** Loads a command; what the others need is not loaded. */
const RUNNERS: Readonly<Record<string, () => Promise<RunCommand>>> = {
  "nat-test": async () => (await import("./nat.ts")).natTest,
  doctor: async () => (await import("./doctor.ts")).doctor,
  stun: async () => (await import("./stun.ts")).stun,
  map: async () => (await import("./map.ts")).map,
  serve: async () => (await import("./serve.ts")).serve,
  punch: async () => (await import("./punch.ts")).punchCommand,
  listen: async () => (await import("./listen.ts")).listen,
  connect: async () => (await import("./connect.ts")).connect,
  send: async () => (await import("./send.ts")).send,
  recv: async () => (await import("./recv.ts")).recv,
  ticket: async () => (await import("./ticket.ts")).ticket,
  peers: async () => (await import("./peers.ts")).peers,
  id: async () => (await import("./peer_options.ts")).id,
  lab: async () => (await import("./lab.ts")).lab,
  help: async () => (await import("./help.ts")).help,
  completion: async () => (await import("./completion.ts")).completion,
  complete: async () => (await import("./completion.ts")).complete,
};

const HELP_OPTIONS: ReadonlySet<string> = new Set(["--help", "-h"]);

/** Chosen by us: one line of a message can hold it. */
const MAX_SHOWN = 60;
