/**
 * `docs/terminal.md` lists every event that the commands print with `--json`, and every field: both are compared with the
 * places in the code that print them.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import type { CodeEvent } from "../../lib/code/offer.ts";
import type { FinishedFile, RefusedFile, TransferProgress } from "../../lib/transfer/progress.ts";
import type { TransferResult } from "../../lib/transfer/mod.ts";

const ROOT = new URL("../../", import.meta.url);

/** What is spread into an event, complete by its type. */
const SPREAD: Readonly<Record<string, readonly string[]>> = {
  "...progress": keysOf<TransferProgress>({
    bytes: true,
    totalBytes: true,
    resumedBytes: true,
    files: true,
    totalFiles: true,
    file: true,
  }),
  "file ...file": keysOf<FinishedFile>({
    path: true,
    size: true,
    resumedBytes: true,
    savedAs: true,
  }),
  "refused ...file": keysOf<RefusedFile>({ path: true, by: true, reason: true }),
  "...result": keysOf<TransferResult>({
    files: true,
    bytes: true,
    resumedBytes: true,
    sentBytes: true,
    elapsedMs: true,
    breaks: true,
    skipped: true,
    refused: true,
    renamed: true,
  }),
  "...rest": keysOf<Omit<UnionOf<Exclude<CodeEvent, { kind: "offered" }>>, "kind">>({
    guessesLeft: true,
    reason: true,
  }),
};

/** Commands that print a report of one line: they are described with their commands. */
const OTHERS: ReadonlySet<string> = new Set([
  "peers.ts",
  "ticket.ts",
  "map.ts",
  "nat_watch.ts",
  "serve.ts",
]);

Deno.test("docs/terminal.md has all events that are printed with --json, with all their fields", async () => {
  const documented = new Map<string, Set<string>>();
  const text = await Deno.readTextFile(new URL("docs/terminal.md", ROOT));
  for (
    const [, first, rest] of text.slice(text.indexOf("## Events")).matchAll(
      /^\| (`.*?) +\| (.*)\|$/gm,
    )
  ) {
    const names = first!.split(" of ")[0]!.matchAll(/`(\w+)`/g);
    const outside = rest!.replaceAll(/\([^)]*\)/g, "").replace(/: .*/, "");
    for (const [, name] of names) {
      const fields = documented.get(name!) ?? new Set();
      for (const [, field] of outside.matchAll(/`(\w+)`/g)) fields.add(field!);
      documented.set(name!, fields);
    }
  }
  const printed = new Map<string, Set<string>>();
  for await (const { name } of Deno.readDir(new URL("lib/cli/", ROOT))) {
    if (OTHERS.has(name)) continue;
    const source = await Deno.readTextFile(new URL(`lib/cli/${name}`, ROOT));
    for (const [event, fields] of eventsOf(source)) {
      const all = printed.get(event) ?? new Set();
      for (const field of fields) all.add(field);
      printed.set(event, all);
    }
  }
  assert(printed.size >= 20, `${printed.size}`);
  assertEquals(asObject(documented), asObject(printed));
});

/** The object literals with an event that are printed. */
function* eventsOf(source: string): Generator<[event: string, fields: readonly string[]]> {
  const isPrinted = /(?:emit\(|JSON\.stringify\(|: |return )\{\s*event: "([\w-]+)"/g;
  for (const match of source.matchAll(isPrinted)) {
    const event = match[1]!;
    const start = match.index + match[0].indexOf("{");
    const parts = partsOf(source, start + 1);
    if (/^(?:opened|closed|failed)$/.test(event) && parts.includes("target")) continue; // of a library
    yield [event, parts.flatMap((part) => fieldsOf(event, part))];
  }
}

/** What is between the commas of an object literal. */
function partsOf(source: string, start: number): string[] {
  const parts = [""];
  for (let [at, depth] = [start, 0];; at++) {
    const character = source[at]!;
    if (depth === 0 && character === "}") return parts.map((part) => part.trim()).filter(Boolean);
    if (/[([{]/.test(character)) depth++;
    if (/[)\]}]/.test(character)) depth--;
    if (depth === 0 && character === ",") parts.push("");
    else parts[parts.length - 1] += character;
  }
}

function fieldsOf(event: string, part: string): readonly string[] {
  if (!part.startsWith("...")) {
    const name = part.split(":")[0]!.trim();
    return name === "event" ? [] : [name];
  }
  const spread = SPREAD[part] ?? SPREAD[`${event} ${part}`];
  assert(spread !== undefined, `${event}: ${part}`);
  return spread;
}

function keysOf<T>(keys: Record<keyof Required<T>, true>): readonly string[] {
  return Object.keys(keys);
}

/** One type with the fields of all in a union. */
type UnionOf<T> = { [K in T extends unknown ? keyof T : never]: unknown };

function asObject(events: ReadonlyMap<string, ReadonlySet<string>>): Record<string, string[]> {
  return Object.fromEntries(
    [...events].sort().map(([event, fields]) => [event, [...fields].sort()]),
  );
}
