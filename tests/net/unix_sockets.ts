/**
 * Unix sockets of the system. Deno's permission for them names an absolute path, so these run in a process of their own:
 * see `unix_test.ts`.
 *
 * @module
 */

import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { NetworkError } from "../../lib/base/errors.ts";
import { connectUnix, listenUnix } from "../../lib/net/system/unix.ts";
import { withScratch } from "../cli/command.ts";
import { readAll } from "../session/fixtures.ts";

Deno.test("a Unix socket carries bytes both ways, and only its owner may connect", () =>
  withScratch(async (folder) => {
    const path = `${folder}/socket`;
    using listener = await listenUnix(path);
    assertEquals((await Deno.lstat(path)).mode! & 0o777, 0o600);
    assertEquals(names(folder), ["socket"]); // nothing else is left behind
    using client = await connectUnix(path);
    using service = await listener.accept();
    await client.write(HELLO);
    await client.closeWrite();
    assertEquals(await readAll(service), HELLO);
    await service.write(HELLO);
    service.close();
    assertEquals(await readAll(client), HELLO);
    listener.close();
    assertEquals(names(folder), []);
    await assertRejects(() => listener.accept(), NetworkError, "closed");
  }));

Deno.test("listenUnix() replaces a socket of its own that nothing listens at any more", () =>
  withScratch(async (folder) => {
    const path = `${folder}/socket`;
    leaveDead(path, 0o600);
    using listener = await listenUnix(path);
    using _client = await connectUnix(path);
    using _service = await listener.accept();
  }));

for (
  const [what, why, leave] of [
    ["a file", "it is not a socket", (path) => Deno.writeTextFileSync(path, "mine")],
    ["a folder", "it is not a socket", (path) => Deno.mkdirSync(path)],
    ["the dead socket of another program", "not one of this user's", (path) => {
      leaveDead(path, 0o755);
    }],
  ] as [string, string, (path: string) => void][]
) {
  Deno.test(`listenUnix() leaves ${what} alone`, () =>
    withScratch(async (folder) => {
      const path = `${folder}/socket`;
      leave(path);
      const { ino } = Deno.lstatSync(path);
      const error = await assertRejects(() => listenUnix(path), NetworkError, why);
      assertEquals([error.reason, Deno.lstatSync(path).ino], ["address-in-use", ino]);
      assertEquals(names(folder), ["socket"]);
    }));
}

Deno.test("listenUnix() leaves a socket alone at which something listens, and close() one that is not its own", () =>
  withScratch(async (folder) => {
    const path = `${folder}/socket`;
    using listener = await listenUnix(path);
    await assertRejects(() => listenUnix(path), NetworkError, "another program listens there");
    Deno.removeSync(path);
    using other = await listenUnix(path);
    listener.close();
    using _client = await connectUnix(path);
    using _service = await other.accept();
  }));

Deno.test("connectUnix() says that nothing listens, or that the path may not be used", () =>
  withScratch(async (folder) => {
    const absent = await assertRejects(() => connectUnix(`${folder}/absent`), NetworkError);
    assertEquals([absent.reason, absent.message.endsWith("no such socket")], ["refused", true]);
    leaveDead(`${folder}/dead`, 0o600);
    const dead = await assertRejects(() => connectUnix(`${folder}/dead`), NetworkError);
    assertEquals(dead.reason, "refused");
    for (const call of [connectUnix, listenUnix]) {
      const forbidden = await assertRejects(() => call("/punchline-forbidden"), NetworkError);
      assertEquals(forbidden.reason, "not-permitted");
      assertMatch(forbidden.message, /--allow-write is not granted for it$/);
    }
    await assertRejects(() => listenUnix(`${folder}/${"x".repeat(300)}`), NetworkError);
    for (const beside of ["absent", "dead"]) {
      const path = `${folder}/${beside}/socket`;
      await assertRejects(() => listenUnix(path), NetworkError, "its folder does not exist");
    }
    assertEquals(names(folder), ["dead"]);
  }));

Deno.test("paths as long as there is room for work, and longer ones are refused before anything is made", () =>
  withScratch(async (folder) => {
    const roomiest = `${folder}/${"f".repeat(93 - folder.length - 1)}`; // 94 bytes with the slash
    Deno.mkdirSync(roomiest);
    for (const name of ["s", "x".repeat(9)]) {
      const path = `${roomiest}/${name}`;
      using listener = await listenUnix(path);
      using client = await connectUnix(path);
      using service = await listener.accept();
      await client.write(HELLO);
      assertEquals(await service.read(new Uint8Array(9)), HELLO.length);
    }
    Deno.mkdirSync(`${roomiest}f`);
    for (const path of [`${roomiest}f/s`, `${roomiest}/${"x".repeat(10)}`]) {
      const error = await assertRejects(() => listenUnix(path), NetworkError, "at most 103 bytes");
      assertEquals(error.remedy, "Use a shorter path, in a folder of at most 94 bytes");
    }
    await assertRejects(() => connectUnix("x".repeat(104)), NetworkError, "at most 103 bytes");
    assertEquals([...names(roomiest), ...names(`${roomiest}f`)], []);
  }));

/** As a program does that was killed: Deno removes the socket where it was bound. */
function leaveDead(path: string, mode: number): void {
  const listener = Deno.listen({ transport: "unix", path: `${path}2` });
  Deno.chmodSync(`${path}2`, mode);
  Deno.renameSync(`${path}2`, path);
  listener.close();
}

function names(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map(({ name }) => name);
}

const HELLO = new TextEncoder().encode("hello");
