/**
 * Every error says what to do where something can be done: the exported classes, and each place in the library that makes
 * one.
 *
 * @module
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import config from "../../deno.json" with { type: "json" };
import {
  malformed,
  MalformedMessageError,
  NetworkError,
  type NetworkErrorReason,
  NoResponseError,
  PunchlineError,
  RefusedError,
  UnreachableError,
} from "../../lib/base/errors.ts";
import { failureOf } from "../../lib/cli/io.ts";
import { PROTOCOL_NAMES } from "../../lib/portmap/mapper.ts";
import { MappingRefusedError, NoMappingError } from "../../lib/portmap/mod.ts";
import {
  FileError,
  type FileErrorReason,
  TransferError,
  type TransferErrorReason,
} from "../../lib/transfer/mod.ts";

/** Reasons, complete by their type; `false` for one that leaves nothing to do, or whose place has to say what. */
const NETWORK: Readonly<Record<NetworkErrorReason, boolean>> = {
  "refused": true,
  "reset": true,
  "unreachable": true,
  "timed-out": true,
  "address-in-use": true,
  "address-not-available": true,
  "name-not-found": true,
  "not-permitted": true,
  "not-allowed": true,
  "proxy": true,
  "tls": true,
  "closed": false, // by this side
  "other": false,
};
const FILE: Readonly<Record<FileErrorReason, true>> = {
  "not-found": true,
  "exists": true,
  "not-permitted": true,
  "no-space": true,
  "name": true,
  "replaced": true,
  "other": true,
};
const TRANSFER: Readonly<Record<TransferErrorReason, true>> = {
  "unacceptable": true,
  "declined": true,
  "merge": true,
  "hidden": true,
  "version": true,
  "exists": true,
  "changed": true,
  "damaged": true,
  "failed": true,
  "broken": true,
};

/** Some of each exported class, by its name. */
const EXAMPLES: Readonly<Record<string, readonly PunchlineError[]>> = {
  MalformedMessageError: [
    new MalformedMessageError("Cannot read"),
    ...["ticket", "code", "message", "settings", "ticket list", "offer"].map((what) =>
      malformed(what, "it is cut off")
    ),
  ],
  NoResponseError: [new NoResponseError("Cannot reach")],
  RefusedError: [new RefusedError("Cannot connect", 401)],
  NetworkError: Object.entries(NETWORK).flatMap(([reason, hasRemedy]) =>
    hasRemedy ? [new NetworkError("Cannot connect", reason as NetworkErrorReason)] : []
  ),
  UnreachableError: [new UnreachableError("Cannot connect", [])],
  NoMappingError: [
    new NoMappingError("map TCP port 80", []),
    ...(Object.keys(PROTOCOL_NAMES) as (keyof typeof PROTOCOL_NAMES)[]).map((strategy) =>
      new NoMappingError("map TCP port 80", [{
        ...{ strategy, local: null, remote: "192.0.2.1", outcome: "timed-out", tries: 0 },
        ...{ resets: 0, elapsedMs: 1, reason: "no answer", remedy: "Enable it in the router" },
      }])
    ),
  ],
  MappingRefusedError: [
    new MappingRefusedError("Cannot map", {
      ...{ mapper: "pcp", code: 2, reason: "NOT_AUTHORIZED", remedy: "Enable PCP in the router" },
    }),
  ],
  FileError: Object.keys(FILE).map((reason) => new FileError("Cannot", reason as FileErrorReason)),
  TransferError: Object.keys(TRANSFER).map((reason) =>
    new TransferError("Cannot", reason as TransferErrorReason)
  ),
};

Deno.test("each exported error class has a remedy that names an action", async () => {
  const exported = new Set<string>();
  for (const path of Object.values(config.exports)) {
    const module: Record<string, unknown> = await import(new URL(path, ROOT).href);
    for (const [name, value] of Object.entries(module)) {
      const isError = typeof value === "function" && value.prototype instanceof Error;
      if (isError && value !== PunchlineError) exported.add(name);
    }
  }
  assertEquals([...exported].sort(), Object.keys(EXAMPLES).sort());
  for (const [name, errors] of Object.entries(EXAMPLES)) {
    for (const error of errors) {
      assertEquals(
        error.name,
        name === "NoMappingError" || name === "MappingRefusedError"
          ? error.name // that of the class which it extends
          : name,
      );
      assertMatch(error.remedy ?? "", ACTION, `${name}: ${error.message}`);
    }
  }
});

Deno.test("a remedy is that of the place, of the cause, or of the kind of error, in this order", () => {
  const cause = new NetworkError("Cannot connect to 192.0.2.1:80", "refused");
  assertEquals(new NetworkError("Cannot", "other", { cause }).remedy, cause.remedy);
  assertEquals(new NoResponseError("Cannot", { cause, remedy: "Wait" }).remedy, "Wait");
  assertEquals(new NetworkError("Cannot", "closed").remedy, undefined);
  assertEquals(new NetworkError("Cannot", "closed", { cause }).cause, cause);
});

Deno.test("the command line calls options as it knows them", () => {
  const { remedy } = failureOf(new UnreachableError("Cannot connect", []));
  assertEquals(remedy, "Name a TURN relay in --turn on either side, for when no direct path works");
});

Deno.test("each place that makes an error has a remedy, or leaves nothing to do", async () => {
  const missing: string[] = [];
  let count = 0;
  for await (const path of sources("lib/")) {
    const text = await Deno.readTextFile(new URL(path, ROOT));
    for (const { name, args, line } of constructions(text)) {
      count++;
      if (!isActionKnown(name, args)) missing.push(`${path}:${line} ${name}(${args.trim()})`);
    }
  }
  assert(count > 100, `${count}`);
  const unexpected = missing.filter((each) => !NOTHING_TO_DO.some(([part]) => each.includes(part)));
  assertEquals(unexpected, []);
  for (const [part] of NOTHING_TO_DO) {
    assert(missing.some((each) => each.includes(part)), `no place says ${part}`);
  }
});

Deno.test("each remedy in the library names an action, without a period", async () => {
  for await (const path of sources("lib/")) {
    if (path.startsWith("lib/cli/")) continue; // those name commands
    const text = await Deno.readTextFile(new URL(path, ROOT));
    for (const [, quote, remedy] of text.matchAll(/\bremedy:\s*(["`])([^"\n]+?)\1/g)) {
      if (quote === "`" && remedy!.startsWith("${")) continue;
      assertMatch(remedy!, ACTION, path);
    }
  }
});

/** Whether the place names a remedy, or its kind of error has one. */
function isActionKnown(name: string, args: string): boolean {
  if (/\bremedy\b/.test(args)) return true;
  if (name === "RefusedError" || name === "TicketFileError") return false;
  if (name !== "NetworkError") return true;
  const reasons = [...args.matchAll(/"([a-z-]+)"/g)].map(([, reason]) => reason!);
  const known = reasons.filter((reason): reason is NetworkErrorReason => reason in NETWORK);
  const isDynamic = known.length === 0;
  if (isDynamic) return false;
  return known.every((reason) => NETWORK[reason] || reason === "closed");
}

/** Each `new SomeError(...)`, with its arguments as text. */
function* constructions(text: string): Generator<{ name: string; args: string; line: number }> {
  for (const match of text.matchAll(/\bnew (\w+Error)\(/g)) {
    const name = match[1]!;
    if (!(name in EXAMPLES) && name !== "TicketFileError") continue;
    const start = match.index + match[0].length;
    let depth = 1;
    let end = start;
    for (let quote = ""; depth > 0; end++) {
      const character = text[end]!;
      if (quote !== "") {
        if (character === "\\") end++;
        else if (character === quote) quote = "";
      } else if (/["'`]/.test(character)) quote = character;
      else if (/[([{]/.test(character)) depth++;
      else if (/[)\]}]/.test(character)) depth--;
    }
    const line = text.slice(0, match.index).split("\n").length;
    yield { name, args: text.slice(start, end - 1).replaceAll(/\s+/g, " "), line };
  }
}

async function* sources(folder: string): AsyncGenerator<string> {
  for await (const { name, isDirectory } of Deno.readDir(new URL(folder, ROOT))) {
    if (isDirectory) yield* sources(`${folder}${name}/`);
    else if (name.endsWith(".ts")) yield `${folder}${name}`;
  }
}

/** Places whose error passes on the remedy of its cause, or that only other parts of the library see. */
const NOTHING_TO_DO: readonly (readonly [place: string, why: string])[] = [
  ["udp_connection.ts", "what the reason or the cause stands for"],
  ["session/path.ts", "what the reason or the cause stands for"],
  ["peer/rejection.ts", "that of the cause"],
  ["accept_first.ts", "it is told to the other side as busy, and not thrown to anyone"],
  ["relay_connection.ts", "what the reason stands for: closed by this side, or reset"],
];

/** What to do, first or behind why, without a period. `Nothing` is said where all is well already. */
const ACTION =
  /(?:^|[:;] )(?:allow|ask|check|choose|close|compare|connect|copy|correct|delete|enable|end|forward|free|give|grant|if|leave|let|listen|make|map|move|name|nothing|open|rename|restart|restore|run|send|set|start|try|turn|type|update|use|wait)\b[^\n]*[^.\n]$/i;

const ROOT = new URL("../../", import.meta.url);
