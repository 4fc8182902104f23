/**
 * What the word that is being typed may become: a pure function of the words before it and of the table of commands.
 *
 * @module
 */

import type { Command, Operand } from "./command.ts";
import { COMMANDS, findCommand } from "./command_table.ts";
import type { Option } from "./option_table.ts";

/** What a word may become. */
export interface Completion {
  /** The words, with what they mean. */
  readonly candidates: readonly Candidate[];
  /** Whether names of files or folders fit too. */
  readonly paths?: "file" | "folder";
  /** Whether names of friends fit too, or names of friends and codes. */
  readonly targets?: "friend" | "target";
}

/** A word, and what it means. */
export interface Candidate {
  readonly text: string;
  /** Empty if there is nothing to say. */
  readonly help: string;
}

/**
 * Completes the last of the words.
 *
 * @param words what is typed behind the program's name; the last one may be empty
 *
 * @example
 * ```ts
 * import { completionsOf } from "./completion_plan.ts";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(completionsOf(["map", "pr"]).candidates.map(({ text }) => text), ["probe"]);
 * ```
 */
export function completionsOf(words: readonly string[]): Completion {
  const before = words.slice(0, -1);
  const current = words.at(-1) ?? "";
  const { candidates, ...rest } = allOf(before, current);
  return { candidates: candidates.filter(({ text }) => text.startsWith(current)), ...rest };
}

function allOf(before: readonly string[], current: string): Completion {
  const command = before.length === 0 ? undefined : findCommand(before);
  if (before.length === 0) return { candidates: [...commandsOf(COMMANDS), ...GLOBAL] };
  if (command === undefined) return NOTHING;
  if (command.subcommands !== undefined) {
    return before.length === 1 ? { candidates: commandsOf(command.subcommands) } : NOTHING;
  }
  const taken = before.slice(command.name.split(" ").length);
  const { pending, operands, used, isClosed } = readWords(taken, command);
  if (pending !== undefined) return valuesOf(pending);
  if (current.startsWith("-") && !isClosed) {
    const free = command.options.filter(({ name, repeats }) => repeats || !used.has(name));
    return { candidates: [...free.map(optionOf), HELP] };
  }
  const operand = command.operands[operands.length] ?? command.operands.findLast((o) => o.repeats);
  return operand === undefined ? NOTHING : operandsOf(operand, operands);
}

/** What the words before the current one say: which option waits for its value, and what there is already. */
function readWords(words: readonly string[], { options }: Command) {
  const used = new Set<string>();
  const operands: string[] = [];
  let pending: Option | undefined;
  let isClosed = false;
  for (const word of words) {
    if (pending !== undefined) {
      pending = undefined;
    } else if (isClosed || !word.startsWith("--")) {
      operands.push(word);
    } else if (word === "--") {
      isClosed = true;
    } else {
      const [name, value] = word.slice(2).split("=", 2);
      const option = options.find((each) => each.name === name);
      if (option !== undefined) used.add(option.name);
      if (option?.value !== undefined && value === undefined) pending = option;
    }
  }
  return { pending, operands, used, isClosed };
}

function valuesOf({ choices = [], completes }: Option): Completion {
  return { candidates: choices.map((text) => ({ text, help: "" })), paths: completes };
}

function operandsOf({ choices = [], completes }: Operand, before: readonly string[]): Completion {
  if (completes === "command") {
    const parent = before.length === 0 ? undefined : findCommand(before);
    const shown = before.length === 0 ? COMMANDS : parent?.subcommands ?? [];
    return { candidates: commandsOf(shown) };
  }
  if (completes === "target" || completes === "friend") {
    return { candidates: [], targets: completes };
  }
  return { candidates: choices.map((text) => ({ text, help: "" })), paths: completes };
}

function commandsOf(commands: readonly Command[]): Candidate[] {
  return commands.filter(({ isHidden }) => !isHidden)
    .map(({ name, summary }) => ({ text: name.split(" ").at(-1)!, help: summary }));
}

function optionOf({ name, help }: Option): Candidate {
  return { text: `--${name}`, help };
}

const HELP: Candidate = { text: "--help", help: "explain the command" };

const GLOBAL: readonly Candidate[] = [HELP, { text: "--version", help: "print the version" }];

const NOTHING: Completion = { candidates: [] };
