/**
 * Whether a program can name every type that it is given: each entry point exports what its signatures refer to.
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

async function documented(path: string): Promise<{ name: string }[]> {
  const { stdout, success } = await new Deno.Command(Deno.execPath(), {
    args: ["doc", "--json", path],
    cwd: new URL("..", import.meta.url),
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
