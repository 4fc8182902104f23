/**
 * All commands as data. The command line is read by this table, and help, usage errors, the man page and completion are
 * made from it.
 *
 * @module
 */

import type { Command } from "./command.ts";
import { CONNECTION_COMMANDS } from "./connection_commands.ts";
import { NETWORK_COMMANDS } from "./network_commands.ts";
import { option } from "./option_table.ts";

/**
 * Finds the command that the words name: a subcommand if the second one names it.
 *
 * @returns `undefined` if the first word names no command
 */
export function findCommand(words: readonly string[]): Command | undefined {
  const command = COMMANDS.find(({ name }) => name === words[0]);
  const full = `${words[0]} ${words[1]}`;
  return command?.subcommands?.find(({ name }) => name === full) ?? command;
}

/**
 * The command of this name.
 *
 * @throws {Error} if the table does not have it, which is a bug
 */
export function commandNamed(name: string): Command {
  const command = findCommand(name.split(" "));
  if (command?.name === name) return command;
  throw new Error(`Cannot find the command ${name}: the table does not have it`);
}

const PROGRAM_COMMANDS: readonly Command[] = [
  {
    name: "help",
    summary: "explain a command; --man prints the man page",
    operands: [{
      name: "COMMAND",
      isOptional: true,
      repeats: true,
      completes: "command",
      help: "the command to explain",
    }],
    options: [option("man", { help: "print the man page of all commands, as roff" })],
    examples: [
      { args: "send", does: "examples and options of send" },
      { args: "--man | man -l -", does: "everything, on Linux" },
    ],
    permissions: [],
  },
  {
    name: "completion",
    summary: "print what makes Tab complete commands and options in bash, zsh or fish",
    operands: [{
      name: "SHELL",
      shown: "bash|zsh|fish",
      choices: ["bash", "zsh", "fish"],
      help: "the shell",
    }],
    options: [],
    examples: [
      { args: "bash >> ~/.bash_completion", does: "for bash, with the package bash-completion" },
      { args: "fish > ~/.config/fish/completions/punchline.fish", does: "for fish" },
      { args: "zsh > ~/.zfunc/_punchline", does: "for zsh, with ~/.zfunc in $fpath" },
    ],
    permissions: [],
  },
  {
    name: "complete",
    summary: "print what a word may become, for the scripts of completion",
    operands: [{ name: "WORD", help: "what is typed", repeats: true, isOptional: true }],
    options: [],
    examples: [{ args: "-- map pr", does: "what Tab does behind map pr" }],
    permissions: [],
    isHidden: true,
  },
];

/** What `punchline` does, in the order in which help lists it. */
export const COMMANDS: readonly Command[] = [
  ...CONNECTION_COMMANDS,
  ...NETWORK_COMMANDS,
  ...PROGRAM_COMMANDS,
];

/** Those that lists show. */
export const SHOWN_COMMANDS: readonly Command[] = COMMANDS.filter(({ isHidden }) => !isHidden);
