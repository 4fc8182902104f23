/**
 * A service manager, a closed window and an impatient user end the commands, and want no peer to be left waiting.
 *
 * @module
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { delay } from "@std/async/delay";
import { type Command, start, withScratch, withServers } from "../cli/command.ts";
import { Terminal, terminalTest } from "../cli/terminal.ts";

const IS_WINDOWS = Deno.build.os === "windows"; // it has no signals to send to another process

for (const victim of ["listen", "connect"] as const) {
  Deno.test({
    name: `TERM to ${victim} is told to the other side at once`,
    ignore: IS_WINDOWS,
    fn: () =>
      withServers(async (servers) => {
        const listener = start(["listen", ...servers.all], { input: keyboard() });
        const ticket = await listener.ticket();
        const connector = start(["connect", ticket, ...servers.connecting], { input: keyboard() });
        await Promise.all([listener.prints("Connected"), connector.prints("Connected")]);
        const [killed, other] = victim === "listen" ? [listener, connector] : [connector, listener];
        const { code, elapsedMs } = await endsAfter(other, () => killed.signal("SIGTERM"));
        assertEquals([(await killed.end()).code, code], [143, 1]);
        assert(elapsedMs < 2000, `the other side waited ${elapsedMs} ms`);
      }),
  });
}

Deno.test({
  name: "TERM to send ends recv at once, and TERM to recv lets another take over at once",
  ignore: IS_WINDOWS,
  fn: () =>
    withScratch((folder) =>
      withServers(async (servers) => {
        await makeFile(`${folder}/big`, 400);
        await Deno.mkdir(`${folder}/to`);
        const permissions = [`--allow-read=${folder}`, `--allow-write=${folder}`];
        const sender = start(["send", `${folder}/big`, ...servers.all], { permissions });
        const args = ["recv", await sender.ticket(), "--yes", "--to", `${folder}/to`];
        const receive = () => start([...args, ...servers.connecting], { permissions });
        const first = receive();
        await first.prints("Connected");
        await partOf(`${folder}/to`);
        first.signal("SIGTERM");
        assertEquals((await first.end()).code, 143);
        const startedMs = performance.now();
        const second = receive();
        await second.prints("Connected");
        assert(performance.now() - startedMs < 3000, "the sender was busy");
        const { code, elapsedMs } = await endsAfter(second, () => sender.signal("SIGTERM"));
        assertEquals([(await sender.end()).code, code], [143, 1]);
        assert(elapsedMs < 3000, `recv waited ${elapsedMs} ms`);
      })
    ),
});

for (const [signal, expected] of [["SIGTERM", 143], ["SIGINT", 130]] as const) {
  for (const command of ["serve", "listen", "send"]) {
    Deno.test({
      name: `${signal} ends ${command} with ${expected}`,
      ignore: IS_WINDOWS,
      fn: () =>
        withScratch((folder) =>
          withServers(async (servers) => {
            await Deno.writeTextFile(`${folder}/file`, "x");
            const permissions = [`--allow-read=${folder}`];
            const serve = ["serve", "--port", "0", "--alternate-port", "0"];
            const running = command === "serve"
              ? start([...serve, "--rendezvous-port", "0"])
              : start([command, ...command === "send" ? [`${folder}/file`] : [], ...servers.all], {
                permissions,
                input: keyboard(),
              });
            if (command === "serve") await delay(1500);
            else await running.ticket();
            running.signal(signal);
            assertEquals((await running.end()).code, expected);
          })
        ),
    });
  }
}

terminalTest(
  "HUP ends a command that was started from a terminal with 129, and tells the other side",
  () =>
    onTerminal(async ({ terminal, connector, pid }) => {
      const { elapsedMs } = await endsAfter(connector, () => Deno.kill(pid, "SIGHUP"));
      assertEquals(await terminal.end(), 129);
      assert(elapsedMs < 2000, `the other side waited ${elapsedMs} ms`);
    }),
);

terminalTest(
  "closing the window tells the other side, although nothing can be printed any more",
  () =>
    onTerminal(async ({ terminal, connector, pid }) => {
      const { elapsedMs } = await endsAfter(connector, () => terminal.close());
      assert(elapsedMs < 2000, `the other side waited ${elapsedMs} ms`);
      await gone(pid);
    }),
);

terminalTest(
  "nohup punchline serve & survives its terminal, and TERM ends it",
  () =>
    withScratch(async (folder) => {
      const args = ["serve", "--port", "0", "--alternate-port", "0", "--rendezvous-port", "0"];
      const shell = `cd '${folder}'; nohup $COMMAND > log 2>&1 & echo "job $!."; wait`;
      await using terminal = Terminal.start([...args, "--json"], { shell });
      const pid = Number(/job (\d+)\./.exec(await terminal.prints(/job \d+\./))![1]);
      try {
        await until(async () => (await Deno.readTextFile(`${folder}/log`)).includes("listening"));
        await terminal.close();
        Deno.kill(pid, "SIGHUP"); // what a shell sends to its jobs
        await delay(500);
        assert(isRunning(pid), "it has gone with its terminal");
        const log = await Deno.readTextFile(`${folder}/log`);
        const { rendezvous } = JSON.parse(log.trim().split("\n").at(-1)!);
        const response = await fetch(rendezvous.replace("ws:", "http:"));
        await response.body?.cancel(); // it still answers
        Deno.kill(pid, "SIGTERM");
        await gone(pid);
      } finally {
        if (isRunning(pid)) Deno.kill(pid, "SIGKILL");
      }
    }),
);

Deno.test({
  name: "HUP does not end a command that was started without a terminal",
  ignore: IS_WINDOWS,
  fn: () =>
    withServers(async (servers) => {
      const listener = start(["listen", ...servers.all], { input: "to the connector" });
      const ticket = await listener.ticket();
      listener.signal("SIGHUP");
      await delay(300);
      const connector = start(["connect", ticket, ...servers.connecting]);
      const [a, b] = await Promise.all([listener.end(), connector.end()]);
      assertEquals([a.code, b.code, b.stdout], [0, 0, "to the connector"], a.stderr + b.stderr);
    }),
});

Deno.test({
  name: "two signals in a row end a command at once",
  ignore: IS_WINDOWS,
  fn: () =>
    withServers(async (servers) => {
      const listener = start(["listen", ...servers.all], { input: keyboard() });
      await listener.ticket();
      const { code, elapsedMs } = await endsAfter(listener, () => {
        listener.signal("SIGTERM");
        listener.signal("SIGINT");
      });
      assert(elapsedMs < 1000, `it took ${elapsedMs} ms`);
      assert(code === 130 || code === 143, `${code}`);
    }),
});

Deno.test("a reader that goes away does not keep a command from leaving in good order", () =>
  withServers(async (servers) => {
    const shell = new Deno.Command("sh", {
      args: ["-c", `"$@" 2>/dev/null | head -1; echo`, "sh", Deno.execPath()]
        .concat("run", "--quiet", "--no-prompt", "--allow-net", "cli.ts", "stun", "--json")
        .concat(servers.stun),
      stdout: "piped",
    });
    const { stdout } = await shell.output();
    assertMatch(new TextDecoder().decode(stdout), /"mapped"/);
  }));

async function endsAfter(
  command: Command,
  act: () => void | Promise<void>,
): Promise<{ code: number; elapsedMs: number }> {
  const startedMs = performance.now();
  await act();
  const { code } = await command.end();
  return { code, elapsedMs: performance.now() - startedMs };
}

async function ticketOn(terminal: Terminal): Promise<string> {
  const screen = await terminal.prints(/punchline:[\w-]{60,}\s/);
  return /punchline:[\w-]{60,}/.exec(screen)![0];
}

async function makeFile(path: string, megabytes: number): Promise<void> {
  using file = await Deno.open(path, { write: true, create: true });
  const piece = crypto.getRandomValues(new Uint8Array(65_536));
  for (let count = 0; count < megabytes * 16; count++) await file.write(piece);
}

/** Waits until part of a file has arrived. */
async function partOf(folder: string): Promise<void> {
  await until(async () => {
    for await (const { name } of Deno.readDir(folder)) {
      if ((await Deno.stat(`${folder}/${name}`)).size > 1_000_000) return true;
    }
    return false;
  });
}

async function until(holds: () => Promise<boolean>): Promise<void> {
  while (!await holds().catch(() => false)) await delay(20);
}

async function gone(pid: number): Promise<void> {
  await until(() => Promise.resolve(!isRunning(pid)));
}

/** `/proc` takes all permissions, so `ps` has to say it. */
function isRunning(pid: number): boolean {
  const { stdout } = new Deno.Command("ps", { args: ["-o", "stat=", "-p", `${pid}`] }).outputSync();
  return /^[^Z\s]/.test(new TextDecoder().decode(stdout));
}

function keyboard(): ReadableStream<Uint8Array> {
  return new ReadableStream({ pull: () => new Promise(() => {}) });
}

/** Runs a test with `listen` on a terminal, and `connect` without one. */
function onTerminal(
  test: (pair: { terminal: Terminal; connector: Command; pid: number }) => Promise<void>,
): Promise<void> {
  return withServers(async (servers) => {
    await using terminal = Terminal.start(["listen", ...servers.all]);
    const connector = start(["connect", await ticketOn(terminal), ...servers.connecting], {
      input: keyboard(),
    });
    await Promise.all([terminal.prints("Connected"), connector.prints("Connected")]);
    await test({ terminal, connector, pid: await terminal.pid() });
  });
}
