/**
 * The man page, as roff, made from the table of commands: `man -l <(punchline help --man)`.
 *
 * @module
 */

import { type Command, usageWords } from "./command.ts";
import { SHOWN_COMMANDS } from "./command_table.ts";
import { VARIABLES } from "./environment.ts";
import { EXIT } from "./io.ts";
import { DURATION, optionRows, SECONDS, unitsText } from "./option_table.ts";
import { VERSION } from "./version.ts";

/** The man page of all commands, section 1. */
export function manPage(): string {
  return [
    `.TH PUNCHLINE 1 "" "punchline ${VERSION}" "User Commands"`,
    ".SH NAME",
    `punchline \\- ${escape("connect two machines, through NATs and firewalls")}`,
    ".SH SYNOPSIS",
    ".B punchline",
    ".I COMMAND",
    "[\\fIARGUMENT\\fR]... [\\fIOPTION\\fR]...",
    ".SH COMMANDS",
    ...SHOWN_COMMANDS.flatMap((command) =>
      (command.subcommands ?? [command]).flatMap((each) => commandSection(each))
    ),
    ".SH TIMES",
    escape(unitsText([DURATION, SECONDS])),
    ".SH ENVIRONMENT",
    "Each is read only where that is permitted.",
    ...VARIABLES.filter(({ isOtherCase }) => !isOtherCase).flatMap((
      { name, help },
    ) => [".TP", `.B ${escape(name)}`, escape(help)]),
    ".SH EXIT STATUS",
    ...Object.entries(EXIT_IN_WORDS).flatMap(([name, words]) => [
      ".TP",
      `.B ${EXIT[name as keyof typeof EXIT]}`,
      escape(words),
    ]),
    "",
  ].join("\n");
}

function commandSection(command: Command): string[] {
  const { name, summary, details, operands, options, examples } = command;
  return [
    `.SS "${escape(`punchline ${[name, ...usageWords(command)].join(" ")}`)}"`,
    escape(sentence(summary)),
    ...details === undefined ? [] : [".PP", escape(details)],
    ...examples.flatMap(({ args, does }) => [
      ".TP",
      `.B ${escape(`punchline ${name} ${args}`.trimEnd())}`,
      escape(does),
    ]),
    ...operands.flatMap(({ name, help }) => [".TP", `.I ${escape(name)}`, escape(help)]),
    ...optionRows(options).flatMap(({ rows }) =>
      rows.flatMap(([text, help]) => [".TP", `.B ${escape(text)}`, escape(help)])
    ),
  ];
}

function sentence(summary: string): string {
  return `${summary[0]!.toUpperCase()}${summary.slice(1)}.`;
}

/** As roff has to be told it: a hyphen that can be copied, and no line that starts with a control character. */
function escape(text: string): string {
  return text.replaceAll("\\", "\\e").replaceAll("-", "\\-").replaceAll("`", "\\(ga")
    .replaceAll('"', "\\(dq").replace(/^[.']/, "\\&$&");
}

/** What each exit code means. */
const EXIT_IN_WORDS: Readonly<Record<keyof typeof EXIT, string>> = {
  ok: "Success",
  failure: "Failure, also if send or recv left anything out",
  usage: "The command line is wrong",
  offlineOrBlocked: "There is no network, or it blocks what the command needs",
  peerNotFound: "The peer did not answer",
  authenticationFailed: "The peer refused, or could not prove who it is",
  onlyRelayed: "Only a relay would have worked, and --strategy rules it out",
  timeout: "No answer in time",
  hungUp: "The terminal was closed",
  interrupted: "Interrupted by Ctrl-C",
  brokenPipe: "The reader of stdout has gone",
  terminated: "Ended by TERM",
};
