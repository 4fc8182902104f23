/**
 * Whether a program can name every type that it is given: each entry point exports what its signatures refer to. And
 * whether another file needs what a file exports.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import config from "../deno.json" with { type: "json" };

for (const [name, path] of Object.entries(config.exports)) {
  Deno.test(`${name} exports every type that its signatures refer to`, async () => {
    const symbols = await documented(path);
    const exported = new Set(symbols.map((symbol) => symbol.name));
    const missing = new Set<string>();
    for (const symbol of symbols) {
      for (const reference of references(symbol, new Set())) {
        if (!exported.has(reference) && !PLATFORM.has(reference)) {
          missing.add(`${symbol.name}: ${reference}`);
        }
      }
    }
    assertEquals([...missing], []);
  });
}

Deno.test("every function, class and constant that a file of lib exports is used by another file", () => {
  const folders = ["lib/", "tests/", "lab/", "bench/", "examples/", "deps/"];
  const paths = [...folders.flatMap(listSources), "cli.ts", "mod.ts", "punchline.ts"];
  const words = new Map(paths.map((path) => [path, wordsOf(path)]));
  const unused = [...words].filter(([path]) => path.startsWith("lib/")).flatMap(([path]) =>
    exportedValues(path)
      .filter((name) => ![...words].some(([other, all]) => other !== path && all.has(name)))
      .map((name) => `${path}: ${name}`)
  );
  assertEquals(unused, []);
});

function exportedValues(path: string): string[] {
  return Array.from(
    read(path).matchAll(/^export (?:async |abstract )*(?:function\*?|class|const) ([\w$]+)/gm),
    ([, name]) => name!,
  ).filter((name) => !MEANT_FOR_TYPES.has(name));
}

function wordsOf(path: string): ReadonlySet<string> {
  const code = read(path).replaceAll(/\/\*[^]*?\*\/|(?<!:)\/\/.*$/gm, "");
  return new Set(code.match(/[\w$]+/g));
}

function read(path: string): string {
  return Deno.readTextFileSync(new URL(path, ROOT));
}

function listSources(folder: string): string[] {
  return [...Deno.readDirSync(new URL(folder, ROOT))].flatMap(({ name, isDirectory }) => {
    const path = `${folder}${name}`;
    if (isDirectory) return PASSED_OVER.has(name) ? [] : listSources(`${path}/`);
    return name.endsWith(".ts") ? [path] : [];
  });
}

async function documented(path: string): Promise<{ name: string }[]> {
  const { stdout, success } = await new Deno.Command(Deno.execPath(), {
    args: ["doc", "--json", path],
    cwd: ROOT,
    env: { DENO_NO_UPDATE_CHECK: "1" },
    stderr: "inherit",
  }).output();
  assertEquals(success, true);
  const { nodes } = JSON.parse(new TextDecoder().decode(stdout));
  return Array.isArray(nodes)
    ? nodes
    : Object.values(nodes as Record<string, { symbols: { name: string }[] }>)
      .flatMap((file) => file.symbols);
}

/** The types in a part of the documentation, without type parameters and private members. */
function* references(part: unknown, parameters: ReadonlySet<string>): Generator<string> {
  if (Array.isArray(part)) {
    for (const each of part) yield* references(each, parameters);
  } else if (typeof part === "object" && part !== null) {
    const { accessibility, typeName, typeParams, typeParam, jsDoc: _, ...rest } = part as Record<
      string,
      unknown
    >;
    if (accessibility === "private") return;
    const own = [typeParams ?? [], typeParam ?? []].flat() as { name: string }[];
    const all = new Set([...parameters, ...own.map(({ name }) => name)]);
    if (typeof typeName === "string") {
      const [first] = typeName.split(".");
      if (first !== "Deno" && !all.has(first!)) yield first!;
    }
    for (const value of [...Object.values(rest), ...own]) yield* references(value, all);
  }
}

const PLATFORM = new Set(
  ("AbortSignal ArrayBuffer AsyncDisposable AsyncGenerator AsyncIterable Disposable Error " +
    "ErrorOptions Exclude Omit Partial Pick Promise ReadableStream Readonly ReadonlySet Record " +
    "URL Uint8Array WritableStream").split(" "),
);

/** Classes that exported signatures name, and errors for `@throws`. */
const MEANT_FOR_TYPES = new Set([
  "Admission",
  "KeepAlive",
  "ReceiverConnection",
  "TicketFileError",
]);

/** Folders without sources of ours; tests that run at the same time make and remove files in the second one. */
const PASSED_OVER = new Set(["node_modules", "scratch"]);

const ROOT = new URL("../", import.meta.url);
