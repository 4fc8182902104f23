/**
 * How this program was started: a person who is told to type a command gets the one that works for them.
 *
 * @module
 */

import type { Command } from "./command.ts";
import { findCommand } from "./command_table.ts";

/** What a person types before a command. */
export type StartedAs =
  /** An installed command: `punchline`, or `npx punchline`. */
  | { readonly kind: "command"; readonly words: string }
  /** `deno run`, with the permissions that the command needs, and this module. */
  | { readonly kind: "deno"; readonly module: string };

/** As {@linkcode StartedAs} has it if nothing else is known. */
const INSTALLED: StartedAs = { kind: "command", words: "punchline" };

/**
 * The command line that a person has to type.
 *
 * @example
 * ```ts
 * import { commandLine } from "./started_as.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const startedAs = { kind: "deno", module: "cli.ts" } as const;
 * assertEquals(commandLine({ startedAs }, "send", "a b"), "deno run --allow-net --allow-read cli.ts send 'a b'");
 * assertEquals(commandLine({}, "send", "a"), "punchline send a");
 * ```
 */
export function commandLine(
  { startedAs = INSTALLED }: { readonly startedAs?: StartedAs },
  ...words: readonly string[]
): string {
  return `${start(startedAs, findCommand(words))} ${words.map(quoted).join(" ")}`.trimEnd();
}

/** Replaces each `` `punchline ...` `` in a text by the command line that works here. */
export function withCommandLines(
  text: string,
  { startedAs = INSTALLED }: { readonly startedAs?: StartedAs },
): string {
  if (startedAs === INSTALLED) return text;
  return text.replaceAll(/`punchline( [^`]*)?`/g, (_, rest: string = "") => {
    return `\`${start(startedAs, findCommand(rest.trim().split(" ")))}${rest}\``;
  });
}

/** What this program knows about its own start. */
export interface StartFacts {
  /** The URL of the module that was run. */
  readonly url: string;
  /** The current folder, if it is known. */
  readonly folder?: string;
  /** The program's file if it was compiled into one. */
  readonly compiledInto?: string;
  /** What a launcher says it is called, such as `npx punchline`. */
  readonly launcher?: string;
}

/** Concludes how `cli.ts` was started. */
export function startedAsFrom({ url, folder, compiledInto, launcher }: StartFacts): StartedAs {
  if (launcher !== undefined && LAUNCHER.test(launcher)) {
    return { kind: "command", words: launcher };
  }
  if (compiledInto !== undefined) {
    return { kind: "command", words: compiledInto.split(/[/\\]/).at(-1)!.replace(/\.exe$/i, "") };
  }
  const [, name] = /^https?:\/\/[^/]+\/(@[\w-]+\/[\w-]+)\/\d[^/]*\/cli\.ts$/.exec(url) ?? [];
  if (name !== undefined) return { kind: "deno", module: `jsr:${name}/cli` };
  if (!url.startsWith("file:")) return { kind: "deno", module: url };
  const path = decodeURIComponent(new URL(url).pathname).replace(/^\/(?=[a-z]:)/i, "");
  const base = folder === undefined ? undefined : `${folder.replaceAll("\\", "/")}/`;
  const isBelow = base !== undefined && path.startsWith(base);
  return { kind: "deno", module: quoted(isBelow ? path.slice(base.length) : path) };
}

function start(startedAs: StartedAs, command: Command | undefined): string {
  if (startedAs.kind === "command") return startedAs.words;
  const flags = (command?.permissions ?? []).map((each) =>
    each === "all" ? "-A" : `--allow-${each}`
  );
  return ["deno run", ...flags, startedAs.module].join(" ");
}

/** As a shell has to be told it. */
function quoted(word: string): string {
  return /^[\w@%+=:,./~-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

/** What is believed of a launcher: words, and nothing that a shell would act upon. */
const LAUNCHER = /^[\w@./-]+(?: [\w@./-]+){0,3}$/;
