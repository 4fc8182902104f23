/**
 * Transfers between two file systems in memory.
 *
 * @module
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { FileError } from "../../lib/transfer/files.ts";
import type { TransferProgress } from "../../lib/transfer/progress.ts";
import { MemoryFiles } from "./memory_files.ts";
import { failureOf, inbox, play, valueOf } from "./scene.ts";

Deno.test("files and folders arrive unchanged, including empty ones", async () => {
  const { sent, received, there } = await play({ here: aTree() });
  assertEquals(valueOf(sent).files, 4);
  assertEquals(valueOf(received).bytes, valueOf(sent).bytes);
  assertEquals(there.below("/in"), [
    ...["data", "data/empty", "data/nothing.txt", "data/run.sh", "data/sub", "data/sub/a.txt"],
    "data/sub/big.bin",
  ]);
  assertEquals(there.text("/in/data/sub/a.txt"), "alpha");
  assertEquals(there.text("/in/data/nothing.txt"), "");
  assertEquals(there.text("/in/data/sub/big.bin"), BIG);
  assertEquals(there.attributes("/in/data/run.sh"), { modifiedMs: 77_000, isExecutable: true });
});

Deno.test("links that lead outside and devices in a folder are skipped, and both sides say so", async () => {
  const here = aTree().putOther("/data/link", "link").putOther("/data/sub/null", "other");
  const skipped: unknown[] = [];
  const { there, sent, received } = await play({
    here,
    send: { onOffer: (_, all) => skipped.push(...all) },
  });
  assertEquals(skipped, [
    { path: "/data/sub/null", kind: "other" },
    { path: "/data/link", kind: "link" },
  ]);
  for (const side of [sent, received]) {
    assertEquals(valueOf(side).skipped, [
      { path: "data/sub/null", reason: "other" },
      { path: "data/link", reason: "link" },
    ]);
  }
  assertEquals(there.below("/in").filter((path) => /link|null/.test(path)), []);
});

Deno.test("a listed file that cannot be found, like one whose name is not UTF-8, is skipped and reported", async () => {
  const here = aTree();
  const list = here.list.bind(here);
  here.list = async (path) => [...await list(path), ...path === "/data" ? ["bad\ufffd"] : []];
  const skipped: unknown[] = [];
  const { received } = await play({
    here,
    send: { onOffer: (_, all) => skipped.push(...all) },
  });
  assertEquals(skipped, [{ path: "/data/bad\ufffd", kind: "missing" }]);
  assertEquals(valueOf(received).skipped, [{ path: "data/bad\ufffd", reason: "missing" }]);
});

Deno.test("a transfer that is cut anywhere continues over the next connection", async () => {
  const here = new MemoryFiles().put("/data/a", "alpha").put("/data/b", "x".repeat(300)).put(
    "/data/c",
    "",
  );
  const whole = 800; // more than the whole transfer takes
  for (let cutAfter = 0; cutAfter < whole; cutAfter++) {
    const { sent, received, there } = await play({
      here,
      cuts: [cutAfter],
      receive: { onBreak: () => {} },
    });
    assertEquals(valueOf(received).files, 3, `cut after ${cutAfter}`);
    assertEquals(valueOf(sent).files, 3, `cut after ${cutAfter}`);
    assertEquals(there.below("/in"), ["data", "data/a", "data/b", "data/c"]);
    assertEquals(there.text("/in/data/b"), "x".repeat(300));
  }
});

Deno.test("data that arrived before a break is not sent again", async () => {
  const here = new MemoryFiles().put("/data/big", BIG);
  const { sent, received, connections } = await play({ here, cuts: [400_000, 400_000] });
  assertEquals(connections, 3);
  assertEquals(valueOf(sent).breaks, 2);
  assert(
    valueOf(received).sentBytes === BIG.length,
    `${valueOf(received).sentBytes} bytes were sent`,
  );
});

Deno.test("a restarted receiver continues its incomplete files", async () => {
  const here = new MemoryFiles().put("/data/big", BIG);
  const there = await interrupted(here, 600_000);
  const { sent, received } = await play({ here, there });
  const { resumedBytes } = valueOf(sent);
  assert(resumedBytes >= 600_000 && resumedBytes < BIG.length);
  assertEquals(valueOf(received).sentBytes, BIG.length - resumedBytes);
  assertEquals(there.text("/in/data/big"), BIG);
  assertEquals(there.below("/in"), ["data", "data/big"]);
});

Deno.test("an incomplete file that does not match is sent from the start", async () => {
  const here = new MemoryFiles().put("/data/big", BIG);
  for (const part of ["another file", "x".repeat(BIG.length + 1)]) {
    const there = await interrupted(here, 600_000);
    there.put(partIn(there), part);
    const { sent } = await play({ here, there });
    assertEquals(valueOf(sent).resumedBytes, 0);
    assertEquals(there.text("/in/data/big"), BIG);
  }
});

Deno.test("a file that exists with the same content is not sent again", async () => {
  const here = new MemoryFiles().put("/data/a", "alpha").put("/data/b", "beta");
  const there = inbox().put("/in/data/a", "alpha");
  const { sent, received } = await play({ here, there, receive: { merge: true } });
  assertEquals(valueOf(sent).sentBytes, 4);
  assertEquals([valueOf(received).files, valueOf(received).resumedBytes], [2, 5]);
});

for (const other of ["OTHER", "longer than the file that is offered"]) {
  Deno.test(`a different file of ${other.length} bytes is not overwritten`, async () => {
    const here = new MemoryFiles().put("/data/a", "alpha").put("/data/0", "zero");
    const there = inbox().put("/in/data/a", other);
    const { sent, received } = await play({ here, there, receive: { merge: true } });
    const refused = {
      ...{ path: "data/a", by: "receiver" as const, reason: "something else is there" },
    };
    for (const side of [sent, received]) {
      const { files, bytes, resumedBytes, sentBytes, ...rest } = valueOf(side);
      assertEquals([files, bytes, resumedBytes, sentBytes], [1, 4, 0, 4], "the rest arrives");
      assertEquals(rest.refused, [refused]);
    }
    assertEquals([there.text("/in/data/a"), there.text("/in/data/0")], [other, "zero"]);
  });

  Deno.test(`a different file of ${other.length} bytes is overwritten on request`, async () => {
    const here = new MemoryFiles().put("/data/a", "alpha");
    const there = inbox().put("/in/data/a", other);
    const { received } = await play({
      here,
      there,
      receive: { existing: "overwrite", merge: true },
    });
    valueOf(received);
    assertEquals(there.text("/in/data/a"), "alpha");
  });

  Deno.test(`a different file of ${other.length} bytes stays, and the new one is renamed on request`, async () => {
    const here = new MemoryFiles().put("/data/a.txt", "alpha").put("/data/a (1).txt", "one");
    const there = inbox().put("/in/data/a.txt", other);
    const saved: unknown[] = [];
    const { received } = await play({
      here,
      there,
      receive: {
        merge: true,
        existing: "rename",
        onFile: (file) => saved.push([file.path, file.savedAs]),
      },
    });
    valueOf(received);
    assertEquals(there.text("/in/data/a.txt"), other);
    assertEquals(there.text("/in/data/a (1).txt"), "one");
    assertEquals(there.text("/in/data/a (2).txt"), "alpha");
    assertEquals(saved, [
      ["data/a (1).txt", undefined],
      ["data/a.txt", "data/a (2).txt"],
    ]);
  });
}

Deno.test("nothing is written through a symbolic link in the target folder", async () => {
  const here = new MemoryFiles().put("/data/sub/a", "alpha");
  for (const link of ["/in/data", "/in/data/sub", "/in/data/sub/a"]) {
    for (const existing of ["refuse", "overwrite"] as const) {
      const there = inbox().folder(link.slice(0, link.lastIndexOf("/"))).putOther(link, "link");
      const before = there.below("/in");
      const { received } = await play({ here, there, receive: { existing, merge: true } });
      const { files, refused } = valueOf(received);
      assertEquals([files, refused.at(-1)!.path], [0, "data/sub/a"]);
      assert(refused.every(({ reason }) => reason === "something else is there"));
      assertEquals(there.below("/in"), before);
    }
  }
});

for (const kind of ["link", "other"] as const) {
  Deno.test(`a ${kind} with the name of an incomplete file is left alone, not followed`, async () => {
    const here = new MemoryFiles().put("/data/big", BIG);
    const there = await interrupted(here, 600_000);
    const part = partIn(there);
    there.delete(part);
    there.putOther(part, kind);
    valueOf((await play({ here, there })).received);
    assertEquals(there.below("/in").length, 3);
    assertEquals((await there.stat(part))?.kind, kind);
    assertEquals(there.text("/in/data/big"), BIG);
  });
}

Deno.test("onOffer is called before anything is written, and can decline", async () => {
  const seen: unknown[] = [];
  const there = inbox();
  const { sent, received } = await play({
    here: aTree(),
    there,
    receive: {
      onOffer: ({ files, folders, bytes, manifest }) => {
        seen.push([files, folders, bytes, manifest[0]!.path, there.below("/in")]);
        return false;
      },
    },
  });
  assertEquals(failureOf(sent), "TransferError declined: The other side declined the offer");
  assertMatch(failureOf(received), /^TransferError declined: /);
  assertEquals(seen, [[4, 3, BIG.length + 14, "data", []]]);
  assertEquals(there.below("/in"), []);
});

Deno.test("a file that changes while it is sent does not arrive, both sides say so, and the rest arrives", async () => {
  const changes: ((here: MemoryFiles) => void)[] = [
    (here) => here.put("/data/big", BIG, { modifiedMs: 2000 }),
    (here) => here.put("/data/big", BIG.slice(1)),
    (here) => here.put("/data/big", BIG + "!"),
    (here) => here.delete("/data/big"),
  ];
  for (const change of changes) {
    const here = new MemoryFiles().put("/data/big", BIG).put("/data/small", "small");
    const { sent, received, there } = await play({
      here,
      receive: {
        onOffer: () => {
          change(here);
          return true;
        },
      },
    });
    for (const side of [sent, received]) {
      const { files, bytes, refused } = valueOf(side);
      assertEquals([files, bytes], [1, 5]);
      assertEquals(refused.map(({ path, by }) => [path, by]), [["data/big", "sender"]]);
      assertMatch(refused[0]!.reason, /changed|cannot be read/);
    }
    assertEquals(there.below("/in"), ["data", "data/small"]);
  }
});

Deno.test("a file whose size is not known, as in /proc, does not arrive empty without a word", async () => {
  const here = new MemoryFiles().put("/data/version", "Linux");
  const stat = here.stat.bind(here);
  const open = here.open.bind(here);
  const unsized = <T extends { size: number } | undefined>(info: T) => info && { ...info, size: 0 };
  here.stat = async (path) => unsized(await stat(path));
  here.open = async (path, offset) => {
    const file = await open(path, offset);
    return { ...file, stat: async () => unsized(await file.stat()) };
  };
  const { sent, received } = await play({ here });
  for (const side of [sent, received]) {
    assertEquals(valueOf(side).refused.map(({ path }) => path), ["data/version"]);
  }
});

Deno.test("a full disk ends both sides with the reason, and keeps the incomplete file", async () => {
  const there = inbox();
  let room = 3;
  there.fault = (what) => {
    if (what === "write" && room-- === 0) throw new FileError("Cannot write: full", "no-space");
  };
  const here = new MemoryFiles().put("/data/big", BIG);
  const { sent, received } = await play({ here, there });
  assertEquals(failureOf(received), "FileError no-space: Cannot write: full");
  assertEquals(
    failureOf(sent),
    "TransferError failed: The other side gave up: no space is left there",
  );
  assertEquals(there.below("/in").slice(1).map(withoutKey), [
    "data",
    "data/big.KEY.punchline-part",
  ]);
  there.fault = () => {};
  const again = await play({ here, there });
  assert(valueOf(again.sent).resumedBytes > 0);
  assertEquals(there.text("/in/data/big"), BIG);
});

for (const what of ["makeFolder", "createPart", "finish", "publish", "stat", "syncFolder"]) {
  Deno.test(`a failure of ${what} at the receiver ends both sides`, async () => {
    const there = inbox();
    there.fault = (doing, path) => {
      if (doing === what && path.includes("data")) {
        throw new FileError(`Cannot use ${path}: not permitted`, "not-permitted");
      }
    };
    const { sent, received } = await play({ here: aTree(), there });
    assertMatch(failureOf(received), /^FileError not-permitted: /);
    assertEquals(
      failureOf(sent),
      "TransferError failed: The other side gave up: a file may not be read or written there",
    );
  });
}

for (const what of ["open", "read"]) {
  Deno.test(`a failure to ${what} a file at the sender is named on both sides, and the rest arrives`, async () => {
    const here = aTree();
    here.fault = (doing, path) => {
      if (doing === what && path.endsWith("a.txt")) {
        throw new FileError(`Cannot ${what} ${path}`, "not-permitted");
      }
    };
    const { sent, received } = await play({ here });
    for (const side of [sent, received]) {
      assertEquals(valueOf(side).files, 3);
      assertEquals(valueOf(side).refused, [
        { path: "data/sub/a.txt", by: "sender", reason: "it cannot be read" },
      ]);
    }
  });
}

Deno.test("a source that does not exist fails before any connection", async () => {
  const { sent, connections } = await play({
    here: new MemoryFiles(),
    sources: ["/nowhere"],
    receive: { signal: AbortSignal.abort(new Error("there is no sender")) },
  });
  assertMatch(failureOf(sent), /^FileError not-found: /);
  assertEquals(connections, 0);
});

Deno.test("the sender rejects two sources with the same name", async () => {
  const { sent } = await play({
    here: new MemoryFiles().put("/a/x", "1").put("/b/x", "2"),
    sources: ["/a/x", "/b/x"],
    receive: { signal: AbortSignal.abort() },
  });
  assertMatch(
    failureOf(sent),
    /^TransferError unacceptable: Cannot send \/b\/x: another source has the same name/,
  );
});

Deno.test("a transfer gives up after several connections without progress", async () => {
  const here = new MemoryFiles().put("/data/a", "alpha");
  const { sent, received } = await play({
    here,
    cuts: Array(10).fill(3),
    send: { maxFruitless: 2 },
    receive: { maxFruitless: 2 },
  });
  assertMatch(failureOf(sent), /^TransferError broken: .*2 connections in a row made no progress/);
  assertMatch(failureOf(received), /^TransferError broken: /);
});

Deno.test("an abort ends a transfer with the reason of the signal", async () => {
  const controller = new AbortController();
  const reason = new Error("enough");
  const { sent, received } = await play({
    here: new MemoryFiles().put("/data/big", BIG),
    receive: { signal: controller.signal },
    send: {
      signal: controller.signal,
      onProgress: ({ bytes }) => bytes > 300_000 && controller.abort(reason),
    },
  });
  assertEquals(sent.status === "rejected" && sent.reason, reason);
  assertEquals(received.status === "rejected" && received.reason, reason);
});

Deno.test("progress counts every byte once, and names the file", async () => {
  const reports: TransferProgress[] = [];
  const here = new MemoryFiles().put("/data/big", BIG);
  const there = await interrupted(here, 600_000);
  there.put(partIn(there), BIG.slice(0, 1000));
  await play({ here, there, receive: { onProgress: (progress) => reports.push(progress) } });
  const [first, last] = [reports[0]!, reports.at(-1)!];
  assertEquals(first, {
    bytes: 1000,
    totalBytes: BIG.length,
    resumedBytes: 1000,
    files: 0,
    totalFiles: 1,
    file: null,
  });
  assertEquals([last.bytes, last.files], [BIG.length, 1]);
  assert(reports.every(({ bytes }, index) => index === 0 || bytes >= reports[index - 1]!.bytes));
  assert(reports.slice(1, -1).every(({ file }) => file === "data/big"));
});

/** The receiver's files after a transfer that was aborted after some bytes. */
async function interrupted(here: MemoryFiles, afterBytes: number): Promise<MemoryFiles> {
  const controller = new AbortController();
  const { there } = await play({
    here,
    send: { signal: controller.signal },
    receive: {
      signal: controller.signal,
      onProgress: ({ bytes }) => bytes >= afterBytes && controller.abort(new Error("enough")),
    },
  });
  return there;
}

/** The path of the incomplete file. */
function partIn(there: MemoryFiles): string {
  return `/in/${there.below("/in").find((path) => path.endsWith(".punchline-part"))!}`;
}

function withoutKey(path: string): string {
  return path.replace(/\.[0-9a-f]{10}\./, ".KEY.");
}

function aTree(): MemoryFiles {
  return new MemoryFiles()
    .put("/data/sub/a.txt", "alpha").put("/data/sub/big.bin", BIG).put("/data/nothing.txt", "")
    .put("/data/run.sh", "#!/bin/sh", { isExecutable: true, modifiedMs: 77_000 })
    .folder("/data/empty");
}

/** A few pieces long, and no two pieces are equal. */
const BIG = Array.from({ length: 100_000 }, (_, index) => `${index}`.padStart(10)).join("");
