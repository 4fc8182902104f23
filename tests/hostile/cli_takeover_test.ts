/**
 * Commands are killed, as by the system when memory runs out. Those that come after them want their place, in seconds.
 *
 * @module
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { delay } from "@std/async/delay";
import { type Command, type Servers, start, withScratch, withServers } from "../cli/command.ts";

const IS_WINDOWS = Deno.build.os === "windows"; // it has no SIGSTOP, and other rules for open files

for (const [how, signal] of [["killed", "SIGKILL"], ["frozen", "SIGSTOP"]] as const) {
  Deno.test({
    name: `a recv that was ${how} does not keep the next one waiting, which goes on where it was`,
    ignore: IS_WINDOWS,
    fn: () =>
      withTransfer(400, async ({ receive, folder, sender }) => {
        const first = receive();
        const arrived = await partOf(`${folder}/to`, 20_000_000);
        first.signal(signal);
        const startedMs = performance.now();
        const second = receive();
        await second.prints("Connected");
        const elapsedMs = performance.now() - startedMs;
        const { code, stderr } = await second.end();
        if (signal === "SIGSTOP") first.kill();
        const sent = await sender.end();
        assertEquals([code, sent.code], [0, 0], stderr + sent.stderr);
        assert(elapsedMs < 6000, `it waited ${elapsedMs} ms`);
        if (signal === "SIGKILL") assertMatch(stderr, /already there/, `${arrived} had arrived`);
        assertEquals(await digest(`${folder}/to/big`), await digest(`${folder}/big`));
        await first.end();
      }),
  });
}

Deno.test({
  name: "a newcomer does not disturb a receiver that answers, and is told busy",
  ignore: IS_WINDOWS,
  fn: () =>
    withTransfer(400, async ({ receive, folder, sender }) => {
      const first = receive();
      await partOf(`${folder}/to`, 1_000_000);
      await Deno.mkdir(`${folder}/other`);
      const startedMs = performance.now();
      const others = await Promise.all([1, 2, 3].map(() => receive(`${folder}/other`).end()));
      for (const { code, stderr } of others) {
        assertEquals(code, 1, stderr);
        assertMatch(stderr, /busy/);
      }
      assert(performance.now() - startedMs < 10_000);
      const [a, b] = await Promise.all([sender.end(), first.end()]);
      assertEquals([a.code, b.code], [0, 0], a.stderr + b.stderr);
      assert(!/broke|Lost/.test(a.stderr + b.stderr), a.stderr + b.stderr);
    }),
});

Deno.test({
  name: "a send --key that was killed and is back goes on with the receiver that waits",
  ignore: IS_WINDOWS,
  fn: () =>
    withTransfer(400, async ({ receive, folder, sender, resend }) => {
      const receiver = receive();
      await partOf(`${folder}/to`, 20_000_000);
      sender.kill();
      await sender.end();
      const again = resend();
      const b = await receiver.end();
      if (b.code !== 0) again.kill();
      const a = await again.end();
      assertEquals([a.code, b.code], [0, 0], a.stderr + b.stderr);
      assertMatch(b.stderr, /over 2 connections|already there/);
      assertEquals(await digest(`${folder}/to/big`), await digest(`${folder}/big`));
    }),
});

for (const [how, signal] of [["killed", "SIGKILL"], ["frozen", "SIGSTOP"]] as const) {
  Deno.test({
    name: `a connect that was ${how} does not lock out the next one`,
    ignore: IS_WINDOWS,
    fn: () =>
      withServers(async (servers) => {
        const keyboard = new ReadableStream({ pull: () => new Promise(() => {}) });
        const listener = start(["listen", ...servers.all], { input: "to the connector" });
        const ticket = await listener.ticket();
        const args = ["connect", ticket, ...servers.connecting];
        const first = start(args, { input: keyboard });
        await Promise.all([first.prints("Connected"), listener.prints("Connected")]);
        first.signal(signal);
        const startedMs = performance.now();
        const second = start(args, { input: "to the listener" });
        const [a, b] = await Promise.all([listener.end(), second.end()]);
        assertEquals([a.code, b.code], [0, 0], a.stderr + b.stderr);
        assertEquals(a.stdout, "to the listener");
        assert(performance.now() - startedMs < 6000);
        first.kill();
        await first.end();
      }),
  });
}

Deno.test({
  name: "a connect that came to an end with part of its data makes listen exit with 1",
  ignore: IS_WINDOWS,
  fn: () =>
    withServers(async (servers) => {
      const keyboard = new ReadableStream<Uint8Array>({
        start: (controller) => controller.enqueue(new TextEncoder().encode("half of ")),
        pull: () => new Promise(() => {}),
      });
      const listener = start(["listen", ...servers.all]);
      const args = ["connect", await listener.ticket(), ...servers.connecting];
      const first = start(args, { input: keyboard });
      await Promise.all([first.prints("Connected"), listener.prints("Connected")]);
      await delay(500);
      first.kill();
      await first.end();
      const second = start(args, { input: "all of it" });
      const [a, b] = await Promise.all([listener.end(), second.end()]);
      assertEquals([a.code, b.code], [1, 0], a.stderr + b.stderr);
      assertEquals(a.stdout, "half of all of it");
    }),
});

interface Transfer {
  readonly folder: string;
  readonly sender: Command;
  receive(to?: string): Command;
  /** Starts the sender again. */
  resend(): Command;
}

async function withTransfer(
  megabytes: number,
  test: (transfer: Transfer) => Promise<void>,
): Promise<void> {
  await withScratch((folder) =>
    withServers(async (servers: Servers) => {
      await makeFile(`${folder}/big`, megabytes);
      await Deno.mkdir(`${folder}/to`);
      const permissions = [`--allow-read=${folder}`, `--allow-write=${folder}`];
      const resend = () => {
        const args = ["send", `${folder}/big`, "--key", `${folder}/key`, ...servers.all];
        return start(args, { permissions });
      };
      const sender = resend();
      const ticket = await sender.ticket();
      const receive = (to = `${folder}/to`) =>
        start(["recv", ticket, "--yes", "--to", to, ...servers.connecting], { permissions });
      await test({ folder, sender, receive, resend });
    })
  );
}

async function makeFile(path: string, megabytes: number): Promise<void> {
  using file = await Deno.open(path, { write: true, create: true });
  const piece = new Uint8Array(1_048_576);
  for (let at = 0; at < piece.length; at += 65_536) {
    crypto.getRandomValues(piece.subarray(at, at + 65_536));
  }
  for (let count = 0; count < megabytes; count++) {
    piece[0] = count;
    await file.write(piece);
  }
}

/** Waits until that much of a file has arrived. */
async function partOf(folder: string, bytes: number): Promise<number> {
  for (;;) {
    for await (const { name } of Deno.readDir(folder)) {
      const { size } = await Deno.stat(`${folder}/${name}`).catch(() => ({ size: 0 }));
      if (size > bytes) return size;
    }
    await delay(10);
  }
}

async function digest(path: string): Promise<string> {
  const hash = await crypto.subtle.digest("SHA-256", await Deno.readFile(path));
  return new Uint8Array(hash).toHex();
}
