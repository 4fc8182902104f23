/**
 * `serve --config FILE`: options from a file, a JSON object whose names are those of the options. What the command line
 * says comes first.
 *
 * @module
 */

import { readSmallFile } from "../net/system/private_input.ts";
import type { Arguments } from "./arguments.ts";
import { closest } from "./closest.ts";
import { commandNamed } from "./command_table.ts";
import { reasonOfFile, UsageError } from "./io.ts";
import type { Option } from "./option_table.ts";

/**
 * Fills in the options that were not given on the command line.
 *
 * @throws {UsageError} if the file cannot be read, or holds something else
 */
export async function withConfigFile(given: Arguments): Promise<Arguments> {
  const path = given.values.get("config");
  if (path === undefined) return given;
  const entries = await readEntries(path);
  const flags = new Set(given.flags);
  const values = new Map(given.values);
  const lists = new Map(given.lists);
  for (const [name, value] of entries) {
    const option = OPTIONS.find((each) => each.name === name);
    if (option === undefined) throw unknown(path, name);
    const texts = textsOf(option, value, path);
    if (option.value === undefined) {
      if (texts.length > 0) flags.add(name);
    } else if (!option.repeats) {
      if (!values.has(name)) values.set(name, texts[0]!);
    } else if (lists.get(name)!.length === 0) {
      lists.set(name, texts);
    }
  }
  return { ...given, flags, values, lists };
}

async function readEntries(path: string): Promise<[string, unknown][]> {
  let value: unknown;
  try {
    value = JSON.parse((await readSmallFile(path, MAX_BYTES)).text);
  } catch (error) {
    const isSyntax = error instanceof SyntaxError;
    const why = isSyntax ? "it is not JSON" : reasonOfFile(error, path);
    throw new UsageError(`--config ${path}: ${why}`, { cause: error });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new UsageError(`--config ${path}: it is not a JSON object`);
  }
  return Object.entries(value);
}

/** The texts of a value, as the command line would have them; of a flag, one if it is set. */
function textsOf({ name, value: takes, repeats }: Option, value: unknown, path: string): string[] {
  if (takes === undefined) {
    if (typeof value !== "boolean") throw wrong(path, name, "true or false");
    return value ? [""] : [];
  }
  const isText = (each: unknown) =>
    typeof each === "string" && each !== "" || Number.isSafeInteger(each);
  const isList = repeats === true && Array.isArray(value);
  const texts: unknown[] = isList ? value : [value];
  if (!texts.every(isText)) {
    throw wrong(path, name, repeats ? "a text, a number or a list of them" : "a text or a number");
  }
  return texts.map(String);
}

function wrong(path: string, name: string, takes: string): UsageError {
  return new UsageError(`--config ${path}: ${JSON.stringify(name)} takes ${takes}`);
}

function unknown(path: string, name: string): UsageError {
  const meant = closest(name, OPTIONS.map((option) => option.name));
  const hint = meant === undefined ? "" : `; did you mean ${JSON.stringify(meant)}?`;
  return new UsageError(
    `--config ${path}: unknown option ${JSON.stringify(name.slice(0, 60))}${hint}`,
  );
}

/** The file names no other file, and the output is for whoever starts the command. */
const OPTIONS = commandNamed("serve").options.filter(({ name }) =>
  name !== "config" && name !== "json"
);

/** Chosen by us: every option, many times. */
const MAX_BYTES = 65_536;
