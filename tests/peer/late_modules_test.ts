import { assertEquals } from "@std/assert";

const LIB = new URL("../../lib/", import.meta.url);

/** What peers run; the command line and `doctor` load what they like. */
const FOLDERS = [
  ...[
    "base",
    "code",
    "nat",
    "net",
    "noise",
    "peer",
    "portmap",
    "punch",
    "session",
    "signal",
    "stun",
  ],
  ...["turn", "udp"],
];

Deno.test("a peer that listens loads every module ahead that it would load late", async () => {
  const list = "peer/late_modules.ts";
  const late = new Set<string>();
  for (const folder of FOLDERS) {
    for await (const path of sources(`${folder}/`)) {
      if (path === list) continue;
      for (const each of await importedLate(path)) late.add(each);
    }
  }
  late.delete(list);
  assertEquals(await importedLate(list), [...late].sort());
});

async function importedLate(path: string): Promise<string[]> {
  const url = new URL(path, LIB);
  const text = (await Deno.readTextFile(url)).replaceAll(/^\s*(?:\/\/|\/?\*).*$/gm, "");
  const names = text.matchAll(/\bimport\(\s*"([^"]+)"/g);
  return [...names].map(([, name]) => new URL(name!, url).href.slice(LIB.href.length)).sort();
}

async function* sources(folder: string): AsyncGenerator<string> {
  for await (const { name, isDirectory } of Deno.readDir(new URL(folder, LIB))) {
    if (isDirectory) yield* sources(`${folder}${name}/`);
    else if (name.endsWith(".ts")) yield folder + name;
  }
}
