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
    ["begins with a drive letter", "C:/x"],
    ["begins with a drive letter", "c:x"],
    ["has a backslash", "a\\b"],
    ["has a backslash", "..\\x"],
    ["has control characters", "a\0b"],
    ["has control characters", "a\nb"],
    ["has control characters", "\u001b[2J"],
    ["has control characters", "a\u0085"],
    ["has control characters", "a\u2028b"],
    ["has an empty part", "a//b"],
    ["has an empty part", "a/"],
    ["has the part ..", ".."],
    ["has the part ..", "a/../../b"],
    ["has the part .", "./a"],
    ["ends with a dot or a space", "a."],
    ["ends with a dot or a space", "a /b"],
    ["ends with a dot or a space", "..."],
    ["is a device on Windows", "CON"],
    ["is a device on Windows", "a/nul.txt"],
    ["is a device on Windows", "com1 .log"],
    ["is a device on Windows", "LPT¹"],
    ["ends with .punchline-part", "a.punchline-part"],
    ["ends with .punchline-part", "a.PUNCHLINE-PART"],
    ["has a part of more than 240 bytes", "é".repeat(121)],
    ["is longer than 3072 bytes", "a/".repeat(2000) + "a"],
    ["is deeper than 64 folders", "a/".repeat(64) + "a"],
    ["is not Unicode", "a\ud800"],
  ] as const
) {
  Deno.test(`checkManifest() rejects a name that ${what}: ${JSON.stringify(path).slice(0, 30)}`, () => {
    assertRejected([file(path)], what);
  });
}

for (
  const [what, ...manifest] of [
    ["would be the same file", file("a"), file("a")],
    ["would be the same file", file("a"), file("A")],
    ["would be the same file", file("straße"), file("STRASSE")],
    ["would be the same file", file("\u00e9"), file("e\u0301")],
    ["would be the same file", file("a"), file("a/b")],
    ["would be the same file", file("a/b"), file("a")],
    ["would be the same file", folder("a"), file("a")],
    ["would be the same file", folder("a"), folder("a")],
    ["would be the same file", file("Dir/a"), file("dir/b")],
    ["is empty"],
    ["has a size", { ...folder("a"), size: 1 }],
    ["after the year 9999", { ...file("a"), modifiedMs: 8.64e15 }],
  ] as [string, ...ManifestEntry[]][]
) {
  const names = manifest.map(({ path }) => path).join(" and ");
  Deno.test(`checkManifest() rejects a manifest in which ${names || "nothing"} ${what}`, () => {
    assertRejected(manifest, what);
  });
}

Deno.test("checkManifest() rejects a manifest that exceeds a limit", () => {
  const two = [{ ...file("a"), size: 10 }, { ...file("b"), size: 10 }];
  assertRejected(two, "1 are allowed", { maxEntries: 1 });
  assertRejected(two, "9 are allowed", { maxFileBytes: 9 });
  assertRejected(two, "19 are allowed", { maxTotalBytes: 19 });
  assertRejected(
    Array.from({ length: 100_001 }, (_, index) => file(`${index}`)),
    "100000 are allowed",
  );
  assertRejected(
    [file("a"), file("b")].map((each) => ({ ...each, size: Number.MAX_SAFE_INTEGER })),
    "in total",
  );
});

Deno.test("checkManifest() rejects names with characters that Windows reserves, on Windows only", () => {
  for (const path of ["ab:c", "a?", 'a"', "a<b", "a|b", "a*"]) {
    checkManifest([file(path)], "posix");
    assertThrows(() => checkManifest([file(path)], "windows"), TransferError, "does not allow");
  }
});

Deno.test("checkManifest() accepts ordinary names", () => {
  checkManifest(
    [folder("a"), file("a/b"), file("a/c.d"), file(".hidden"), file("console"), file("ö 漢字 👍🏽")],
    "windows",
  );
});

Deno.test("checkManifest() shows names without control characters in its errors", () => {
  assertRejected([file("\u001b[2J\u202etxt.exe")], 'the name "?[2J?txt.exe"');
});

for (
  const [what, messages, failure] of [
    ["a hostile name", [offer(file("../x"))], /^TransferError unacceptable: .*has the part \.\./],
    ["a manifest that is too long", [Uint8Array.of(1, 0xff, 0, 0, 0)], /^Malformed.*allowed/],
    [
      "another message instead of an offer",
      [{ type: "done" }],
      /^Malformed.*done was received instead of offer/,
    ],
    ["another protocol", [new TextEncoder().encode("GET / HTTP/1.1\r\n")], /^Malformed.*type/],
    [
      "a plan that keeps a file that does not exist",
      [offer(file("a", 1)), plan("keep")],
      /^Malformed.*plan/,
    ],
    [
      "a plan that continues a file that does not exist",
      [offer(file("a", 1)), plan("continue")],
      /^Malformed.*plan/,
    ],
    [
      "a plan for another offer",
      [offer(file("a", 1)), plan("send", "send")],
      /^Malformed.*allowed/,
    ],
    ["a plan that sends a folder", [offer(folder("a")), plan("send")], /^Malformed.*plan/],
    [
      "more bytes than were offered",
      [offer(file("a", 1)), plan("send"), data("xy")],
      /^TransferError unacceptable: .*more bytes/,
    ],
    [
      "fewer bytes than were offered",
      [offer(file("a", 2)), plan("send"), data("x"), end("x")],
      /^TransferError unacceptable: .*1 bytes are missing/,
    ],
    [
      "a wrong hash",
      [offer(file("a", 1)), plan("send"), data("x"), end("y")],
      /^TransferError damaged: /,
    ],
    ["empty data", [offer(file("a", 1)), plan("send"), data("")], /^Malformed.*empty/],
    [
      "too much data in one message",
      [offer(file("a", 1)), plan("send"), Uint8Array.of(4, 0, 0x10, 0, 1)],
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
      receiveFiles(next, "/in", { files: there, maxFruitless: 1 }),
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
    () => checkManifest(manifest, "posix", limits),
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

function offer(...manifest: ManifestEntry[]): TransferMessage {
  return { type: "offer", manifest };
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
