/**
 * Every exit code that other programs rely on, by the real program.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { toBase64url } from "../../lib/base/bytes.ts";
import { EXIT } from "../../lib/cli/io.ts";
import { start, withServers } from "./command.ts";
import { closedPort } from "./run_main.ts";
import { Terminal, terminalTest } from "./terminal.ts";

Deno.test("0: a command succeeds", async () => {
  const { code, stderr } = await start(["--version"]).end();
  assertEquals([code, stderr], [EXIT.ok, ""]);
});

Deno.test("1: a command fails", async () => {
  const { code, stderr } = await start(["send", "/no/such/file"], {
    permissions: ["--allow-read"],
  }).end();
  const why = "punchline: Cannot find /no/such/file: not found\nCheck the spelling of the path\n";
  assertEquals([code, stderr], [EXIT.failure, why]);
});

Deno.test("2: the command line is wrong", async () => {
  const { code } = await start(["stun"]).end();
  assertEquals(code, EXIT.usage);
});

Deno.test("3: there is no way to the network, 4: the peer does not answer", () =>
  withServers(async (servers) => {
    const listener = start(["listen", ...servers.all]);
    const ticket = await listener.ticket();
    listener.interrupt();
    assertEquals((await listener.end()).code, EXIT.interrupted);
    const args = ["connect", ticket, "--timeout", "2s", ...servers.connecting];
    assertEquals((await start(args).end()).code, EXIT.peerNotFound);
    await servers.stop();
    assertEquals((await start(args).end()).code, EXIT.offlineOrBlocked);
  }));

Deno.test("5: the peer refuses", () =>
  withServers(async (servers) => {
    const friend = toBase64url(new Uint8Array(32).fill(9));
    const listener = start(["listen", "--allow", friend, ...servers.all]);
    const args = ["connect", await listener.ticket(), ...servers.connecting];
    const { code, stderr } = await start(args).end();
    assertEquals(code, EXIT.authenticationFailed, stderr);
    listener.interrupt();
    await listener.end();
  }));

Deno.test("6: only a relay would do, and the strategies rule it out", () =>
  withServers(async (servers) => {
    const listener = start(["listen", "--strategy", "lan", ...servers.all]);
    const args = ["connect", await listener.ticket(), "--strategy", "lan", ...servers.connecting];
    const { code, stderr } = await start(args).end();
    assertEquals(code, EXIT.onlyRelayed, stderr);
    listener.interrupt();
    await listener.end();
  }));

Deno.test("124: there is no answer in time", async () => {
  const { code } = await start(["stun", await closedPort(), "--timeout", "100ms"]).end();
  assertEquals(code, EXIT.timeout);
});

terminalTest("129: the terminal is gone", async () => {
  await using terminal = Terminal.start(["listen", "--hand"]);
  const screen = await terminal.prints("On the other machine");
  const [, pid] = /pid (\d+)\./.exec(screen)!;
  Deno.kill(Number(pid), "SIGHUP");
  assertEquals(await terminal.end(), EXIT.hungUp);
});

for (
  const [signal, code] of [["SIGINT", EXIT.interrupted], ["SIGTERM", EXIT.terminated]] as const
) {
  Deno.test({
    name: `${code}: ${signal} ends a command`,
    ignore: Deno.build.os === "windows", // it has no signals to send to another process
    fn: async () => {
      const listener = start(["listen", "--hand"], { input: new ReadableStream() }); // without end
      await listener.prints("On the other machine");
      listener.signal(signal);
      assertEquals((await listener.end()).code, code);
    },
  });
}

Deno.test("141: the reader of stdout is gone", async () => {
  const command = new Deno.Command("bash", {
    args: ["-c", `set -o pipefail; "$0" "$@" | true; echo "\${PIPESTATUS[0]}"`, ...HELP],
    env: { DENO_NO_UPDATE_CHECK: "1" },
  });
  const { stdout } = await command.output();
  const code = Number(new TextDecoder().decode(stdout));
  assert(code === EXIT.brokenPipe || code === EXIT.ok, `${code}`); // ok if it was all written before
});

const HELP = [
  ...[Deno.execPath(), "run", "--quiet", "--no-prompt"],
  ...[new URL("../../cli.ts", import.meta.url).pathname, "help", "--man"],
];
