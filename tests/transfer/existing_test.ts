/**
 * What is there already: equal files stay and need no permission, different ones are refused one by one, and the sender
 * learns nothing about them but that.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { toHex } from "../../lib/base/bytes.ts";
import { hash } from "../../lib/base/crypto.ts";
import { FileError } from "../../lib/transfer/files.ts";
import type { IncomingOffer } from "../../lib/transfer/mod.ts";
import { MemoryFiles } from "./memory_files.ts";
import { failureOf, inbox, play, valueOf } from "./scene.ts";

const SOURCES = ["/.profile", "/run.sh", "/plain"];

const utf8 = (text: string) => new TextEncoder().encode(text);

function offered(): MemoryFiles {
  return new MemoryFiles().put("/.profile", "alpha").put("/run.sh", "run", { isExecutable: true })
    .put("/plain", "plain");
}

Deno.test("hidden files and programs that are there and equal stay, and need no permission", async () => {
  const there = inbox().put("/in/.profile", "alpha").put("/in/run.sh", "run");
  const asked: IncomingOffer[] = [];
  const { sent, received } = await play({
    here: offered(),
    sources: SOURCES,
    there,
    receive: { onOffer: (offer) => asked.push(offer) > 0 },
  });
  const names = (entries: IncomingOffer["manifest"]) => entries.map(({ path }) => path);
  assertEquals(names(asked[0]!.existingEntries), [".profile", "run.sh"]);
  assertEquals(asked[0]!.needAllowHidden, []);
  assertEquals([names(asked[0]!.hidden), names(asked[0]!.executables)], [[".profile"], ["run.sh"]]);
  for (const side of [sent, received]) {
    const { files, sentBytes, resumedBytes, refused } = valueOf(side);
    assertEquals([files, sentBytes, resumedBytes, refused], [3, 5, 8, []]);
  }
});

Deno.test("one that is not there still needs permission, for all of the offer", async () => {
  const there = inbox().put("/in/run.sh", "run");
  const { received } = await play({ here: offered(), sources: SOURCES, there });
  assert(failureOf(received).startsWith("TransferError hidden: Cannot receive: .profile would"));
  assertEquals(there.below("/in"), ["run.sh"]);
});

for (const existing of ["refuse", "overwrite", "rename"] as const) {
  for (const [other, what] of [["OTHER", "of the same size"], ["another", "longer"]] as const) {
    Deno.test(`a hidden file that differs is refused without permission, with ${existing}: ${what}`, async () => {
      const there = inbox().put("/in/.profile", other).put("/in/run.sh", "run");
      const { sent, received } = await play({
        here: offered(),
        sources: SOURCES,
        there,
        receive: { existing },
      });
      for (const side of [sent, received]) {
        const { files, refused } = valueOf(side);
        assertEquals([files, refused.map(({ path }) => path)], [2, [".profile"]]);
        const isTaken = refused[0]!.reason === "something else is there";
        assertEquals(isTaken, existing === "refuse", refused[0]!.reason);
      }
      assertEquals(there.text("/in/.profile"), other);
      assertEquals(there.below("/in"), [".profile", "plain", "run.sh"]);
    });
  }

  Deno.test(`one that goes away after the question is not planted, with ${existing}`, async () => {
    const there = inbox().put("/in/.profile", "alpha").put("/in/run.sh", "run");
    const { received } = await play({
      here: offered(),
      sources: SOURCES,
      there,
      receive: {
        existing,
        onOffer: () => {
          there.delete("/in/.profile");
          return true;
        },
      },
    });
    assertEquals(valueOf(received).refused.map(({ path, reason }) => [path, reason]), [
      [".profile", "it is hidden or a program, and the receiver did not allow that"],
    ]);
    assertEquals(there.below("/in"), ["plain", "run.sh"]);
  });
}

Deno.test("a hidden folder of whose name there is a file is refused, with everything in it", async () => {
  const here = new MemoryFiles().put("/.ssh/authorized_keys", "evil").put("/.ssh/sub/x", "x");
  const there = inbox().put("/in/.ssh", "a file");
  const { received } = await play({ here, sources: ["/.ssh"], there });
  assertEquals(valueOf(received).refused.map(({ path }) => path), [
    ...[".ssh", ".ssh/authorized_keys", ".ssh/sub", ".ssh/sub/x"],
  ]);
  assertEquals(there.below("/in"), [".ssh"]);
});

Deno.test("a sender gets no hash of a file that stays, only whether it is equal", async () => {
  for (const [content, isEqual] of [["alpha", true], ["guess", false]] as const) {
    const there = inbox().put("/in/.profile", "alpha");
    const here = new MemoryFiles().put("/.profile", content);
    let written = "";
    const { received } = await play({
      here,
      sources: ["/.profile"],
      there,
      onReply: (bytes) => written += toHex(bytes),
    });
    assert(written.length > 0 && !written.includes(toHex(hash("sha256", utf8("alpha")))));
    assertEquals(valueOf(received).refused.length, isEqual ? 0 : 1);
  }
});

for (
  const [what, plant] of [
    ["a file", (there: MemoryFiles) => void there.put("/in/b", "planted")],
    ["a folder", (there: MemoryFiles) => void there.folder("/in/b")],
    ["a link", (there: MemoryFiles) => void there.putOther("/in/b", "link")],
  ] as const
) {
  for (const existing of ["refuse", "rename"] as const) {
    Deno.test(`${what} that takes a name during the transfer costs that file only, with ${existing}`, async () => {
      const here = new MemoryFiles().put("/a", "alpha").put("/b", "beta").put("/c", "gamma");
      const there = inbox();
      const { sent, received } = await play({
        here,
        sources: ["/a", "/b", "/c"],
        there,
        receive: { existing, onFile: ({ path }) => path === "a" && plant(there) },
      });
      const { refused, renamed } = valueOf(received);
      const expected = existing === "refuse" ? ["b"] : [];
      assertEquals(refused.map(({ path }) => path), expected);
      assertEquals(valueOf(sent).refused.map(({ path }) => path), expected);
      assertEquals(renamed.map(({ savedAs }) => savedAs), existing === "refuse" ? [] : ["b (1)"]);
      assertEquals([there.text("/in/a"), there.text("/in/c")], ["alpha", "gamma"]);
      assert(!there.below("/in").some((name) => name.includes("punchline")));
    });
  }
}

Deno.test("a failed transfer says what it keeps, and leaves nothing that is empty", async () => {
  const big = "x".repeat(300_000);
  for (
    const [what, fault, left] of [
      ["no folder can be made", "makeFolder", []],
      ["no part can be written", "write", ["data"]],
    ] as const
  ) {
    const there = inbox();
    there.fault = (doing, path) => {
      if (doing === fault && path.includes("data")) throw new FileError("full", "no-space");
    };
    const here = new MemoryFiles().put("/data/big", big);
    const kept: unknown[] = [];
    const onKept = (files: unknown) => void kept.push(files);
    const { received } = await play({ here, there, receive: { onKept } });
    assertEquals(failureOf(received), "FileError no-space: full", what);
    const names = there.below("/in").filter((name) => !name.endsWith(".punchline-transfer"));
    assertEquals([names, kept], [left, []], what);
    if (fault === "makeFolder") assertEquals(there.below("/in"), []);
  }
});

Deno.test("an incomplete file that was moved away is not said to be kept", async () => {
  const here = new MemoryFiles().put("/big", "x".repeat(700_000));
  for (const isMoved of [false, true]) {
    const there = inbox();
    const controller = new AbortController();
    const kept: unknown[] = [];
    await play({
      here,
      sources: ["/big"],
      there,
      receive: {
        signal: controller.signal,
        onKept: (files) => kept.push(...files),
        onProgress: ({ bytes }) => {
          if (bytes < 300_000 || controller.signal.aborted) return;
          if (isMoved) { for (const name of there.below("/in")) there.delete(`/in/${name}`); }
          controller.abort();
        },
      },
    });
    assertEquals(kept.length, isMoved ? 0 : 1);
  }
});

Deno.test("a file that cannot be read counts as different", async () => {
  for (const existing of ["refuse", "rename"] as const) {
    const there = inbox().put("/in/plain", "plain");
    there.fault = (what, path) => {
      if (what === "open" && path === "/in/plain") throw new FileError("Cannot open", "other");
    };
    const { received } = await play({
      here: offered(),
      sources: ["/plain"],
      there,
      receive: { existing },
    });
    const { refused, renamed } = valueOf(received);
    assertEquals([refused.length, renamed.length], existing === "refuse" ? [1, 0] : [0, 1]);
  }
});
