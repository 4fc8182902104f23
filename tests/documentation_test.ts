/**
 * The documentation agrees with the code: its commands are ones that the command line takes, what it links to is there, and
 * the files and tasks that it names exist.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { argumentSpecOf, readArguments } from "../lib/cli/arguments.ts";
import { findCommand } from "../lib/cli/command_table.ts";

const ROOT = new URL("../", import.meta.url);
const PAGES = [
  ...["README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"],
  ...listPages("docs"),
];
const TEXTS = new Map(PAGES.map((page) => [page, Deno.readTextFileSync(new URL(page, ROOT))]));

Deno.test("each command in the documentation is one that the command line takes", () => {
  const wrong: string[] = [];
  let count = 0;
  for (const [page, text] of TEXTS) {
    for (const words of commandsIn(text)) {
      count++;
      try {
        check(words);
      } catch (error) {
        wrong.push(`${page}: punchline ${words.join(" ")}: ${(error as Error).message}`);
      }
    }
  }
  assertEquals(wrong, []);
  assert(count > 60, `only ${count} commands were found`);
});

Deno.test("each link in the documentation leads to a file and a heading", () => {
  const missing: string[] = [];
  for (const [page, text] of TEXTS) {
    for (const [, target] of withoutBlocks(text).matchAll(/\]\((?!https?:)([^)\s]+)\)/g)) {
      const [path, heading] = target!.split("#");
      const url = path === "" ? new URL(page, ROOT) : new URL(path!, new URL(page, ROOT));
      if (!isThere(url)) missing.push(`${page}: ${target}`);
      else if (heading !== undefined && !headingsOf(url).includes(heading)) {
        missing.push(`${page}: ${target}`);
      }
    }
  }
  assertEquals(missing, []);
});

Deno.test("each page is linked from another one", () => {
  const linked = new Set<string>();
  for (const [page, text] of TEXTS) {
    for (const [, target] of text.matchAll(/\]\((?!https?:)([^)\s#]+)/g)) {
      linked.add(new URL(target!, new URL(page, ROOT)).href);
    }
  }
  const lonely = PAGES.filter((page) => page.startsWith("docs/"))
    .filter((page) => !linked.has(new URL(page, ROOT).href));
  assertEquals(lonely, []);
});

Deno.test("each file and task in the documentation exists", () => {
  const { tasks } = JSON.parse(Deno.readTextFileSync(new URL("deno.json", ROOT)));
  const missing: string[] = [];
  for (const [page, text] of TEXTS) {
    for (const [, task] of text.matchAll(/deno task ([\w:]+)/g)) {
      if (!(task! in tasks)) missing.push(`${page}: deno task ${task}`);
    }
    const paths = /(?<![\w/.<-])(?:lib|lab|tests|bench|examples|deps)\/[\w./*-]*[\w*/]/g;
    for (const [path] of text.matchAll(paths)) {
      if (!path.includes("*") && !path.endsWith("/..") && !isThere(new URL(path, ROOT))) {
        missing.push(`${page}: ${path}`);
      }
    }
  }
  assertEquals(missing, []);
});

/** The words after `punchline` wherever it is typed: in blocks of the shell, and in the text. */
function* commandsIn(text: string): Generator<string[]> {
  for (const [, body] of text.matchAll(/^ *```sh.*\n([^]*?)^ *```$/gm)) {
    const lines = body!.split("\n");
    const typed = lines.some((line) => line.startsWith("$ "))
      ? lines.filter((line) => line.startsWith("$ ")).map((line) => line.slice(2))
      : lines;
    for (const line of typed) yield* commandsOf(line);
  }
  for (const [, code] of withoutBlocks(text).matchAll(/`(punchline [^`]+)`/g)) {
    yield* commandsOf(code!.replaceAll(/\s+/g, " "));
  }
}

function* commandsOf(line: string): Generator<string[]> {
  for (const part of line.split(/ (?:\||&&|;) /)) {
    const [, typed] =
      /^(?:npx |deno run [^#]*?\bcli\.ts |)punchline(?: (.*))?$/.exec(part.trim()) ?? [];
    if (typed === undefined) continue;
    const plain = typed.replace(/\s+#.*$/, "").replaceAll(/\s\d?(?:<|>>?) *\S+/g, "");
    yield plain.split(/\s+/).filter((word) => word !== "");
  }
}

function check(words: readonly string[]): void {
  if (words.at(-1) === "...") return check(words.slice(0, -1)); // as much as is meant
  if (words[0] === "--version" || words.includes("--help")) return;
  const command = findCommand(words);
  if (command === undefined) throw new Error("there is no such command");
  const args = words.slice(command.name.split(" ").length);
  if (args.length > 0) readArguments(args, argumentSpecOf(command));
}

function withoutBlocks(text: string): string {
  return text.replaceAll(/^ *```[^]*?^ *```$/gm, "");
}

/** As GitHub makes them of headings. */
function headingsOf(url: URL): string[] {
  const text = withoutBlocks(Deno.readTextFileSync(url));
  return [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
    heading!.toLowerCase().replaceAll(/[^\p{L}\p{N} _-]/gu, "").replaceAll(" ", "-")
  );
}

function isThere(url: URL): boolean {
  try {
    return Deno.statSync(url) !== undefined;
  } catch {
    return false;
  }
}

function listPages(folder: string): string[] {
  return [...Deno.readDirSync(new URL(folder, ROOT))].flatMap(({ name, isDirectory }) =>
    isDirectory ? listPages(`${folder}/${name}`) : name.endsWith(".md") ? [`${folder}/${name}`] : []
  ).sort();
}
