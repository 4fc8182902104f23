/**
 * `help`, and `--help` of every command: examples first, then the options in groups, with defaults and units. Made from
 * the table of commands.
 *
 * @module
 */

import { readCommand } from "./arguments.ts";
import { closest } from "./closest.ts";
import { type Command, usageWords } from "./command.ts";
import { findCommand, SHOWN_COMMANDS } from "./command_table.ts";
import { type CliIo, EXIT, UsageError, withoutSecrets } from "./io.ts";
import { copyable, layoutColumns, table, wrap } from "./layout.ts";
import { DURATION, optionRows, SECONDS, unitsText } from "./option_table.ts";
import { commandLine, withCommandLines } from "./started_as.ts";

/** Runs the command; returns its exit code. */
export async function help(args: readonly string[], io: CliIo): Promise<number> {
  const { flags, operands } = readCommand("help", args);
  if (flags.has("man")) {
    const { manPage } = await import("./man_page.ts");
    io.out(manPage());
    return EXIT.ok;
  }
  if (operands.length === 0) printOverview(io, io.out);
  else printHelp(namedCommand(operands), io);
  return EXIT.ok;
}

/** Prints what a command does and takes. */
export function printHelp(command: Command, io: CliIo): void {
  for (const line of helpText(command, io)) io.out(line);
}

/** Prints all commands. */
export function printOverview(io: CliIo, print: (line: string) => void): void {
  for (const line of overviewText(io)) print(line);
}

/**
 * The command that the words name.
 *
 * @throws {UsageError} if there is no such command
 */
export function namedCommand(words: readonly string[]): Command {
  const command = findCommand(words);
  const depth = command?.name.split(" ").length ?? 0;
  if (command !== undefined && (words.length <= depth || command.subcommands === undefined)) {
    return command;
  }
  throw unknownCommand(words[depth]!, command);
}

/** The error for a word that names no command, or no subcommand of the one given. */
export function unknownCommand(word: string, parent?: Command): UsageError {
  const known = (parent?.subcommands ?? SHOWN_COMMANDS)
    .map(({ name }) => name.split(" ").at(-1)!);
  const isTicket = parent === undefined && /^["'\s]*punchline:/i.test(word);
  const name = JSON.stringify(withoutSecrets(word.slice(0, MAX_SHOWN)));
  const where = parent === undefined ? "unknown command" : `unknown command of ${parent.name}:`;
  if (isTicket) {
    const remedy =
      "Use `punchline connect` with a ticket of listen, `punchline recv` with one of send";
    return new UsageError(`a ticket is not a command`, { remedy });
  }
  const meant = closest(word, known);
  if (meant !== undefined) return new UsageError(`${where} ${name}; did you mean ${meant}?`);
  return parent === undefined
    ? new UsageError(`${where} ${name}`, { remedy: "`punchline help` lists them" })
    : new UsageError(`${where} ${name}; use one of ${known.join(", ")}`);
}

/** What is printed without a command: all of them, in one line each; commands to copy are {@linkcode copyable}. */
export function overviewText(io: HelpIo): string[] {
  const columns = columnsOf(io);
  return [
    ...wrap("Punchline connects two machines, through NATs and firewalls.", { columns }),
    "",
    ...wrap("Send a file, and receive it on the other machine:", { columns }),
    `  ${copyable(commandLine(io, "send", "photos/"))}`,
    `  ${copyable(commandLine(io, "recv", "CODE"))}`,
    "",
    ...wrap(`Usage: ${copyable(commandLine(io))} COMMAND [ARGUMENT]... [OPTION]...`, { columns }),
    "",
    "Commands:",
    ...table(SHOWN_COMMANDS.map(({ name, summary }) => [name, summary]), { columns }),
    "",
    ...wrap(`${copyable(commandLine(io, "help", "COMMAND"))} explains a command.`, { columns }),
  ];
}

/** What `--help` prints; commands are {@linkcode copyable}. */
export function helpText(command: Command, io: HelpIo): string[] {
  const columns = columnsOf(io);
  const { name, summary, details, operands, options, subcommands, examples } = command;
  const start = commandLine(io, ...name.split(" "));
  const timed = options.flatMap(({ value }) => value === undefined ? [] : [value]);
  return [
    ...wrap(`${name}: ${summary}`, { columns }),
    "",
    "Examples:",
    ...examples.flatMap(({ args, does }) => [
      `  ${copyable([start, args].join(" ").trimEnd())}`,
      ...wrap(`      ${withCommandLines(does, io)}`, { columns, hang: 0 }),
    ]),
    "",
    ...wrap(`Usage: ${[copyable(start), ...usageWords(command)].join(" ")}`, { columns, hang: 4 }),
    ...operands.length === 0 ? [] : [
      "",
      ...table(operands.map(({ name, help }) => [name, withCommandLines(help, io)]), { columns }),
    ],
    ...subcommands === undefined ? [] : [
      "",
      "Commands:",
      ...table(subcommands.map(({ name, summary }) => [name, summary]), { columns }),
    ],
    ...optionRows(options).flatMap(({ group, rows }) => {
      const shown = rows.map(([text, help]) => [text, withCommandLines(help, io)]);
      return ["", `${group}:`, ...table(shown, { columns })];
    }),
    ...timed.includes(DURATION) || timed.includes(SECONDS)
      ? ["", ...wrap(unitsText(timed), { columns })]
      : [],
    ...details === undefined ? [] : ["", ...wrap(details, { columns, hang: 0 })],
  ];
}

/** What help needs of the outside. */
export type HelpIo = Pick<CliIo, "isTerminal" | "status" | "startedAs">;

function columnsOf({ isTerminal, status }: HelpIo): number {
  return layoutColumns(isTerminal ? status?.columns ?? DEFAULT_COLUMNS : DEFAULT_COLUMNS);
}

/** Of most terminals, and of text that goes to a file. */
const DEFAULT_COLUMNS = 80;

/** Chosen by us: one line of a message can hold it. */
const MAX_SHOWN = 60;
