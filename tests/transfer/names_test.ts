/**
 * Names that one system can hold and another cannot.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { localName, partName } from "../../lib/transfer/local_names.ts";
import type { ManifestEntry } from "../../lib/transfer/manifest.ts";
import { localPaths } from "../../lib/transfer/destination.ts";
import { MemoryFiles } from "./memory_files.ts";
import { inbox, play, valueOf } from "./scene.ts";

for (
  const [name, windows] of [
    ["plain.txt", "plain.txt"],
    ["aux.c", "_aux.c"],
    ["com1 .log", "_com1 .log"],
    ["LPT¹", "_LPT¹"],
    ["Album Vol.", "Album Vol_"],
    ["a ", "a_"],
    ["...", ".._"],
    ["a:b", "a_b"],
    ["a\\b", "a_b"],
    ["a\nb", "a_b"],
    ['<>"|?*', "______"],
  ] as const
) {
  Deno.test(`localName() keeps ${JSON.stringify(name)} on POSIX systems, and makes it ${windows} on Windows`, () => {
    assertEquals(localName(name, "posix"), name);
    assertEquals(localName(name, "windows"), windows);
  });
}

Deno.test("localName() gives no file the name of an incomplete file or of a record", () => {
  assertEquals(localName("x.punchline-part", "posix"), "x.punchline-part_");
  assertEquals(
    localName(".punchline-1.PUNCHLINE-TRANSFER", "posix"),
    ".punchline-1.PUNCHLINE-TRANSFER_",
  );
});

Deno.test("partName() fits into 143 bytes, whatever the name", () => {
  for (const name of ["x".repeat(255), "é".repeat(127), "👍".repeat(63)]) {
    const part = partName(name, "0123456789");
    const { length } = new TextEncoder().encode(part);
    assertEquals([length <= 143, length > 138, part.isWellFormed()], [true, true, true]);
  }
});

Deno.test("localPaths() keeps apart what differs in case, where the folder does not", async () => {
  const manifest = [
    ...[folder("A"), file("A/t.h"), file("A/T.h"), file("A/T (1).h"), folder("a"), file("a/x")],
    ...[file("straße"), file("STRASSE"), file("\u00e9"), file("e\u0301")],
  ];
  assertEquals(await localPaths(manifest, "posix", () => Promise.resolve(true)), new Map());
  assertEquals(
    await localPaths(manifest, "posix", () => Promise.resolve(false)),
    new Map([
      [2, "A/T (1).h"],
      [3, "A/T (1) (1).h"],
      [4, "a (1)"],
      [5, "a (1)/x"],
      [7, "STRASSE (1)"],
      [9, "e\u0301 (1)"],
    ]),
  );
});

Deno.test("localPaths() keeps apart names that become the same on Windows", async () => {
  const manifest = [folder("a:"), file("a:/x"), folder("a?"), file("a?/x"), file("a_")];
  assertEquals(
    [...(await localPaths(manifest, "windows", () => Promise.resolve(false))).values()],
    ["a_", "a_/x", "a_ (1)", "a_ (1)/x", "a_ (2)"],
  );
});

Deno.test("a system that ignores case gets every file, and says which it renamed", async () => {
  const here = new MemoryFiles().put("/data/T.h", "upper").put("/data/t.h", "lower");
  const there = inbox();
  there.isCaseSensitive = false;
  const { received } = await play({ here, there });
  assertEquals(valueOf(received).renamed, [{ path: "data/t.h", savedAs: "data/t (1).h" }]);
  assertEquals(there.text("/in/data/T.h"), "upper");
  assertEquals(there.text("/in/data/t (1).h"), "lower");
});

Deno.test("Windows gets every file, and says which it renamed", async () => {
  const here = new MemoryFiles().put("/data/aux.c", "aux").put("/data/a:b", "colon").put(
    "/data/c",
    "c",
  );
  const there = inbox();
  there.naming = "windows";
  const { received } = await play({ here, there });
  assertEquals(valueOf(received).renamed, [
    { path: "data/a:b", savedAs: "data/a_b" },
    { path: "data/aux.c", savedAs: "data/_aux.c" },
  ]);
  assertEquals(there.below("/in/data"), ["_aux.c", "a_b", "c"]);
});

Deno.test("a name that the receiver's system cannot hold is refused on both sides, and the rest arrives", async () => {
  const long = "long".repeat(11);
  const here = new MemoryFiles().put(`/data/${long}`, "x").put("/data/short", "y")
    .put(`/data/${long} folder/inside`, "z").put("/data/zz", "last");
  const there = inbox();
  there.maxName = 40; // room for the names of a record and of a short incomplete file
  const { sent, received } = await play({ here, there });
  for (const side of [sent, received]) {
    const { files, refused } = valueOf(side);
    assertEquals(files, 2);
    assert(refused.every(({ by }) => by === "receiver"));
    assertEquals(refused.map(({ path }) => path).sort(), [
      `data/${long}`,
      `data/${long} folder`,
      `data/${long} folder/inside`,
    ]);
  }
  assertEquals(there.below("/in/data"), ["short", "zz"]);
});

Deno.test("links that stay inside arrive as links, after everything else", async () => {
  const here = new MemoryFiles().put("/data/sub/a", "alpha")
    .putOther("/data/sub/link", "link", "../b").putOther("/data/aa", "link", "sub")
    .put("/data/b", "beta");
  const order: string[] = [];
  const there = inbox();
  there.fault = (what, path) => {
    if (what === "publish" || what === "makeLink") order.push(`${what} ${path}`);
  };
  const { sent, received } = await play({ here, there });
  assertEquals([valueOf(sent).skipped, valueOf(received).refused], [[], []]);
  assertEquals(there.target("/in/data/sub/link"), "../b");
  assertEquals(there.target("/in/data/aa"), "sub");
  assertEquals(order.slice(-2), ["makeLink /in/data/aa", "makeLink /in/data/sub/link"]);
  const again = await play({ here, there, receive: { merge: true } });
  assertEquals(valueOf(again.received).refused, []);
});

Deno.test("a link is not put in the place of a file, and not made where links are not allowed", async () => {
  const here = new MemoryFiles().put("/data/a", "alpha").putOther("/data/l", "link", "a");
  const there = inbox();
  const makeLink = there.makeLink.bind(there);
  there.makeLink = (path, target) => {
    there.put(path, "in the way");
    return makeLink(path, target);
  };
  const { sent, received } = await play({ here, there });
  for (const side of [sent, received]) {
    assertEquals(valueOf(side).refused.map(({ path }) => path), ["data/l"]);
  }
  assertEquals(there.text("/in/data/l"), "in the way");
});

function file(path: string): ManifestEntry {
  return { kind: "file", path, size: 0, modifiedMs: 0, isExecutable: false };
}

function folder(path: string): ManifestEntry {
  return { ...file(path), kind: "folder" };
}
