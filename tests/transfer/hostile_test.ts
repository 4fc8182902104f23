/**
 * What a hostile sender can offer and send: nothing that leaves the target folder or stays in it unverified.
 *
 * @module
 */

import { assertEquals, assertMatch, assertThrows } from "@std/assert";
import { hash } from "../../lib/base/crypto.ts";
import type { TcpConnection } from "../../lib/net/network.ts";
import { writeAll } from "../../lib/base/reader.ts";
import { TransferError } from "../../lib/transfer/files.ts";
import type { ManifestEntry } from "../../lib/transfer/manifest.ts";
import { checkManifest, type OfferLimits } from "../../lib/transfer/paths.ts";
import { receiveFiles } from "../../lib/transfer/receiver.ts";
import {
  encodeDataHeader,
  encodeTransferMessage,
  HEADER_BYTES,
  type TransferMessage,
} from "../../lib/transfer/message.ts";
import { VirtualTime } from "../simnet/virtual_time.ts";
import type { MemoryFiles } from "./memory_files.ts";
import { pipe } from "./pipe.ts";
import { failureOf, inbox } from "./scene.ts";

for (
  const [what, path] of [
    ["is empty", ""],
    ["is absolute", "/etc/passwd"],
    ["is absolute", "//server/share"],
    ["has a zero byte", "a\0b"],
    ["has an empty part", "a//b"],
    ["has an empty part", "a/"],
    ["has the part ..", ".."],
    ["has the part ..", "a/../../b"],
    ["has the part .", "./a"],
    ["is longer than 4095 bytes", "a/".repeat(2048) + "a"],
    ["is not Unicode", "a\ud800"],
  ] as const
) {
  Deno.test(`checkManifest() rejects a name that ${what}: ${JSON.stringify(path).slice(0, 30)}`, () => {
    assertRejected([file(path)], what);
  });
}

for (
  const [what, ...manifest] of [
    ["occurs twice", file("a"), file("a")],
    ["occurs twice", folder("a"), file("a")],
    ["occurs twice", folder("a"), folder("a")],
    ["occurs twice", link("a", "b"), file("a")],
    ["occurs twice", folder("a"), file("a/b"), file("c"), folder("a")],
    ["does not follow its folder", file("a/b")],
    ["does not follow its folder", file("a"), file("a/b")],
    ["does not follow its folder", link("a", "b"), file("a/b")],
    ["does not follow its folder", folder("a"), file("b"), file("a/b")],
    ["does not follow its folder", folder("a"), file("A/b")],
    ["is empty"],
    ["has a size", { ...folder("a"), size: 1 }],
    ["has a size", folder("a"), { ...link("a/l", "b"), size: 1 }],
    ["after the year 9999", { ...file("a"), modifiedMs: 8.64e15 }],
    ["no target", folder("a"), link("a/l", "")],
    ["no target", folder("a"), link("a/l", "/etc/passwd")],
    ["no target", folder("a"), link("a/l", "b\0c")],
    ["leads out", link("l", "..")],
    ["leads out", folder("a"), link("a/l", "..")],
    ["leads out", folder("a"), link("a/l", "../b")],
    ["leads out", folder("a"), folder("a/b"), link("a/b/l", "../../c")],
    ["leads out", folder("a"), link("a/l", "x/../../../y")],
    [
      "leads out", // of a link to the topmost folder, `..` is not the folder that the link is in
      ...[
        folder("a"),
        folder("a/b"),
        folder("a/b/c"),
        link("a/b/c/up", "../.."),
        link("a/l", "b/c/up/../.."),
      ],
    ],
  ] as [string, ...ManifestEntry[]][]
) {
  const names = manifest.map(({ path, target }) =>
    target === undefined ? path : `${path} -> ${target}`
  );
  Deno.test(`checkManifest() rejects ${JSON.stringify(names)}: ${what}`, () => {
    assertRejected(manifest, what);
  });
}

Deno.test("checkManifest() accepts links that stay inside, and those to nothing", () => {
  const folders = [folder("a"), folder("a/b"), folder("a/b/c")];
  for (const target of ["x", "../b", "c/../c", "./c//", "../b/./c/..", "c"]) {
    checkManifest([...folders, link("a/b/l", target)]);
  }
});

Deno.test("checkManifest() rejects a manifest that exceeds a limit", () => {
  const two = [{ ...file("a"), size: 10 }, { ...file("b"), size: 10 }];
  assertRejected(two, "more than the 1 files", { maxEntries: 1 });
  assertRejected(two, "9 are allowed", { maxFileBytes: 9 });
  assertRejected(two, "19 are allowed", { maxTotalBytes: 19 });
  assertRejected(
    Array.from({ length: 500_001 }, (_, index) => file(`${index}`)),
    "500000 files and folders allowed",
  );
  assertRejected(
    [file("a"), file("b")].map((each) => ({ ...each, size: Number.MAX_SAFE_INTEGER })),
    "in total",
  );
});

Deno.test("checkManifest() accepts every name that some system can hold", () => {
  checkManifest(
    [
      ...[
        folder("a"),
        file("a/b"),
        file("a/c.d"),
        file(".hidden"),
        file("console"),
        file("ö 漢字 👍🏽"),
      ],
      ...[file("aux.c"), file("T.h"), file("t.h"), file("Album Vol."), file("x:b"), file("x\\b")],
      ...[file("C:"), file("line\nbreak"), file("x".repeat(255)), file("x.punchline-part")],
    ],
  );
});

Deno.test("checkManifest() shows names without control characters in its errors", () => {
  assertRejected([file("\u001b[2J\u202etxt.exe/")], 'the name "?[2J?txt.exe/"');
});

for (
  const [what, messages, failure] of [
    [
      "a hostile name",
      [...offer(file("../x"))],
      /^TransferError unacceptable: .*has the part \.\./,
    ],
    [
      "entries that are too long for one message",
      [{ type: "offer" }, Uint8Array.of(8, 0xff, 0, 0, 0)],
      /^Malformed.*allowed/,
    ],
    [
      "a manifest that never ends",
      [
        { type: "offer" },
        ...Array.from({ length: 40 }, (_, index) => entries(...someFolders(index))),
      ],
      /^TransferError unacceptable: .*longer than the 100000 bytes/,
    ],
    [
      "a false count",
      [...offer(file("a")).slice(0, 2), { type: "offered", entries: 2, skipped: 0 }],
      /^Malformed.*offered/,
    ],
    [
      "an older version",
      [Uint8Array.of(1, 0, 0x10, 0, 0, ...new TextEncoder().encode("PLFT"), 1)],
      /^TransferError version: .*the sender speaks version 1 .*$/,
    ],
    [
      "a newer version",
      [Uint8Array.of(1, 0, 0, 0, 5, ...new TextEncoder().encode("PLFT"), 3)],
      /^TransferError version: .*the sender speaks version 3 .*$/,
    ],
    [
      "another message instead of an offer",
      [{ type: "done", refused: [] }],
      /^Malformed.*done was received instead of offer/,
    ],
    ["another protocol", [new TextEncoder().encode("GET / HTTP/1.1\r\n")], /^Malformed.*type/],
    [
      "a plan that keeps a file that does not exist",
      [...offer(file("a", 1)), plan("keep")],
      /^Malformed.*plan/,
    ],
    [
      "a plan that continues a file that does not exist",
      [...offer(file("a", 1)), plan("continue")],
      /^Malformed.*plan/,
    ],
    [
      "a plan for another offer",
      [...offer(file("a", 1)), plan("send", "send")],
      /^Malformed.*allowed/,
    ],
    ["a plan that sends a folder", [...offer(folder("a")), plan("send")], /^Malformed.*plan/],
    [
      "more bytes than were offered",
      [...offer(file("a", 1)), plan("send"), data("xy")],
      /^TransferError unacceptable: .*more bytes/,
    ],
    [
      "fewer bytes than were offered",
      [...offer(file("a", 2)), plan("send"), data("x"), end("x")],
      /^TransferError unacceptable: .*1 bytes are missing/,
    ],
    [
      "a wrong hash",
      [...offer(file("a", 1)), plan("send"), data("x"), end("y")],
      /^TransferError damaged: /,
    ],
    ["empty data", [...offer(file("a", 1)), plan("send"), data("")], /^Malformed.*empty/],
    [
      "too much data in one message",
      [...offer(file("a", 1)), plan("send"), Uint8Array.of(4, 0, 0x10, 0, 1)],
      /^Malformed.*allowed/,
    ],
  ] as [string, (TransferMessage | Uint8Array)[], RegExp][]
) {
  Deno.test(`receiveFiles() refuses a sender of ${what}, and leaves no file`, async () => {
    const there = inbox();
    assertMatch(await receiveFrom(there, messages), failure);
    assertEquals(there.below("/in"), []);
  });
}

/** The failure of a receiver whose sender sends these messages and then waits. */
async function receiveFrom(
  there: MemoryFiles,
  messages: readonly (TransferMessage | Uint8Array)[],
): Promise<string> {
  using time = new VirtualTime();
  const [senderEnd, receiverEnd] = pipe();
  const next = () => Promise.resolve(receiverEnd);
  const [received] = await time.run(() =>
    Promise.allSettled([
      receiveFiles(next, "/in", {
        files: there,
        maxFruitless: 1,
        onOffer: () => true,
        limits: { maxManifestBytes: 100_000 },
      }),
      sendAll(senderEnd, messages),
    ])
  );
  return failureOf(received);
}

async function sendAll(
  connection: TcpConnection,
  messages: readonly (TransferMessage | Uint8Array)[],
): Promise<void> {
  for (const message of messages) {
    await writeAll(
      connection,
      message instanceof Uint8Array ? message : encodeTransferMessage(message),
    );
  }
  while (await connection.read(new Uint8Array(1000)) !== null);
  connection.close();
}

function assertRejected(
  manifest: readonly ManifestEntry[],
  what: string,
  limits?: OfferLimits,
): void {
  const error = assertThrows(
    () => checkManifest(manifest, limits),
    TransferError,
    what,
  );
  assertEquals(error.reason, "unacceptable");
}

function file(path: string, size = 0): ManifestEntry {
  return { kind: "file", path, size, modifiedMs: 0, isExecutable: false };
}

function folder(path: string): ManifestEntry {
  return { ...file(path), kind: "folder" };
}

function link(path: string, target: string): ManifestEntry {
  return { ...file(path), kind: "link", target };
}

function offer(...manifest: ManifestEntry[]): TransferMessage[] {
  const offered = { type: "offered", entries: manifest.length, skipped: 0 } as const;
  return [{ type: "offer" }, entries(...manifest), offered];
}

function entries(...entries: ManifestEntry[]): TransferMessage {
  return { type: "entries", entries };
}

function someFolders(start: number): ManifestEntry[] {
  return Array.from({ length: 100 }, (_, index) => folder(`${start}-${index}-${"x".repeat(40)}`));
}

function plan(...steps: ("keep" | "send" | "continue")[]): TransferMessage {
  return { type: "plan", steps };
}

function data(text: string): Uint8Array {
  const bytes = new TextEncoder().encode(text);
  const message = new Uint8Array(HEADER_BYTES + bytes.length);
  encodeDataHeader(bytes.length, message);
  message.set(bytes, HEADER_BYTES);
  return message;
}

function end(text: string): TransferMessage {
  return { type: "end", hash: hash("sha256", new TextEncoder().encode(text)) };
}
