/**
 * What the tables say about a command.
 *
 * @module
 */

import type { Option } from "./option_table.ts";

/** One command, or one of its subcommands. */
export interface Command {
  /** What is typed: `listen`, or `map add`. */
  readonly name: string;
  /** What it does: starts with a verb, and has no period. */
  readonly summary: string;
  /** What a person may want to know before the first use, in sentences. */
  readonly details?: string;
  /** Its arguments without dashes, in order. */
  readonly operands: readonly Operand[];
  /** Its options. */
  readonly options: readonly Option[];
  /** Its usual uses. */
  readonly examples: readonly Example[];
  /** The permissions that it needs; what else it can use is in `docs/install.md`. */
  readonly permissions: readonly Permission[];
  /** Whether `--json` prints events on stderr, because stdout is the connection. */
  readonly printsEvents?: boolean;
  /** If there are any, one of them has to be named. */
  readonly subcommands?: readonly Command[];
  /** Whether lists leave it out. */
  readonly isHidden?: boolean;
}

/** An argument without dashes. */
export interface Operand {
  /** Its placeholder, such as `TICKET`. */
  readonly name: string;
  /** What it is, without a period. */
  readonly help: string;
  /** What may stand in its place, as usage shows it. Default: its name. */
  readonly shown?: string;
  readonly isOptional?: boolean;
  /** How many words it may have, if it may be typed with spaces. Default: one. */
  readonly maxWords?: number;
  readonly repeats?: boolean;
  readonly choices?: readonly string[];
  readonly completes?: "file" | "folder" | "command" | "target" | "friend";
}

/** A use of a command. */
export interface Example {
  /** What follows the command's name. */
  readonly args: string;
  /** What it does, in a few words. */
  readonly does: string;
}

/** A permission of Deno's; `all` are all. */
export type Permission = "net" | "read" | "write" | "all";

/** A command that does nothing without one of its subcommands. */
export function commandGroup(group: Omit<Command, "operands" | "options">): Command {
  return { ...group, operands: [], options: [] };
}

/** What usage shows behind the name of a command. */
export function usageWords({ operands, options, subcommands }: Command): string[] {
  if (subcommands !== undefined) return ["COMMAND", "[ARGUMENT]...", "[OPTION]..."];
  return [...operands.map(operandText), ...options.length > 0 ? ["[OPTION]..."] : []];
}

/** How usage shows an operand. */
function operandText({ name, shown = name, isOptional, repeats }: Operand): string {
  return `${isOptional ? `[${shown}]` : shown}${repeats ? "..." : ""}`;
}
