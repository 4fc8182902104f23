/**
 * The real program as a process: its permissions, its output and its exit codes.
 *
 * @module
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { findCommand } from "../../lib/cli/command_table.ts";
import { EXIT } from "../../lib/cli/io.ts";
import { formatTransportAddress } from "../../lib/net/address.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { encodeTicket } from "../../lib/peer/ticket.ts";
import { serveLocally } from "./run_main.ts";

const CLI = new URL("../../cli.ts", import.meta.url).pathname;
const WITH_UNSTABLE = new URL("../../deno.json", import.meta.url).pathname;
/** A peer on the local network that is not there. */
const TICKET = encodeTicket({
  publicKey: new Uint8Array(32).fill(9),
  secret: new Uint8Array(16),
  signaling: ["lan:"],
});

/** Every command that needs a permission, with what it needs beside it to get that far. */
const WITHOUT_PERMISSION: Readonly<Record<string, readonly string[]>> = {
  "nat-test": ["--server", "127.0.0.1:1"],
  stun: ["127.0.0.1:1"],
  map: ["probe"],
  serve: ["--port", "0", "--alternate-port", "0", "--rendezvous-port", "0"],
  punch: ["kitchen", "--rendezvous", "ws://127.0.0.1:1"],
  listen: ["--lan"],
  connect: [TICKET],
  send: [CLI],
  recv: [TICKET, "--yes"],
  ticket: ["list", "--key", "me.key"],
  id: ["--key", "me.key"],
};

/** The same imports and nothing else, as in a program that imports this package. */
const WITHOUT_UNSTABLE = new URL("without_unstable.json", import.meta.url).pathname;

Deno.test("the configuration without unstable features has the same imports as the project's own", async () => {
  const [own, other] = await Promise.all(
    [WITH_UNSTABLE, WITHOUT_UNSTABLE].map(async (path) =>
      JSON.parse(await Deno.readTextFile(path))
    ),
  );
  for (const [name, from] of Object.entries(other.imports)) assertEquals(own.imports[name], from);
  assertEquals([own.unstable, other.unstable], [["net"], undefined]);
});

for (const config of [WITH_UNSTABLE, WITHOUT_UNSTABLE]) {
  const flag = config === WITH_UNSTABLE ? "with" : "without";
  Deno.test(`nat-test works under --allow-net alone, ${flag} --unstable-net`, async () => {
    await using server = await serveLocally();
    const args = ["nat-test", "--server", server.name, "--json"];
    const { code, stdout, stderr } = await run(config, ["--allow-net"], args);
    assertEquals([code, stderr], [0, ""]);
    const { verdict, udp, tcp } = JSON.parse(stdout);
    assertEquals(verdict.difficulty, "open");
    assertEquals([udp.ipv4.rfc3489Name, tcp.ipv4.rfc3489Name], ["Open Internet", "Open Internet"]);
  });

  Deno.test(`stun works under --allow-net alone, ${flag} --unstable-net`, async () => {
    await using server = await serveLocally();
    for (const transport of [[], ["--tcp"]]) {
      const args = ["stun", server.name, ...transport];
      const { code, stdout, stderr } = await run(config, ["--allow-net"], args);
      assertEquals([code, stderr], [0, ""]);
      assertMatch(
        stdout,
        /^127\.0\.0\.1:\d+ sees this machine as 127\.0\.0\.1:\d+ over (UDP|TCP)\n/,
      );
    }
  });
}

for (const [command, args] of Object.entries(WITHOUT_PERMISSION)) {
  Deno.test(`${command} without permissions names the flag that it needs`, async () => {
    const { code, stdout, stderr } = await run(WITH_UNSTABLE, [], [command, ...args]);
    assert(code === EXIT.failure || code === EXIT.offlineOrBlocked, `${code}`);
    assert(stdout === "" || command === "nat-test" || command === "map", stdout);
    const { permissions } = findCommand([command, ...args])!;
    const flags = permissions.map((each) => `--allow-${each}`).join(" ");
    const lines = stderr.trimEnd().split("\n");
    const line = lines.at(-1)!;
    assert(
      line.startsWith(`Not all access is granted; run it with ${flags}: deno run ${flags} `),
      stderr,
    );
    assert(lines.length <= 2 && !/\bat .*:\d+:\d+/.test(stderr), stderr);
  });
}

Deno.test("a usage error exits with 2, without a stack trace", async () => {
  const { code, stdout, stderr } = await run(WITH_UNSTABLE, [], ["nat-test", "--nonsense"]);
  assertEquals([code, stdout], [2, ""]);
  assertEquals(
    stderr,
    "punchline: unknown option --nonsense\n`deno run cli.ts help nat-test` explains the command\n",
  );
});

for (const args of [["nat-test", "--server"], ["stun"]]) {
  Deno.test({
    name: `Ctrl-C ends ${args[0]} with 130 and no output`,
    // Windows has no SIGINT to send to another process.
    ignore: Deno.build.os === "windows",
    fn: async () => {
      const socket = await listenForOne();
      const child = command(WITH_UNSTABLE, ["--allow-net"], [...args, socket.name]).spawn();
      await socket.asked; // so the command is running
      child.kill("SIGINT");
      const { code, stdout, stderr } = await child.output();
      assertEquals([code, text(stdout), text(stderr)], [130, "", ""]);
    },
  });
}

Deno.test("the program ends quietly if the reader of its stdout goes away", async () => {
  const child = command(WITH_UNSTABLE, [], ["--help"]).spawn();
  await child.stdout.cancel();
  const [{ code }, stderr] = await Promise.all([child.status, new Response(child.stderr).text()]);
  assert(code === 141 || code === 0, `${code}`);
  assertEquals(stderr, "");
});

/** A UDP port that resolves `asked` on the first request, and never answers. */
async function listenForOne(): Promise<{ name: string; asked: Promise<void> }> {
  const socket = await systemNetwork.bindUdp({ ip: "127.0.0.1", port: 0 });
  const asked = socket.receive().then(() => socket.close());
  return { name: formatTransportAddress(socket.local), asked };
}

function command(config: string, permissions: string[], args: string[]): Deno.Command {
  return new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--quiet", "--no-prompt", "--no-check", "--no-lock", "--config", config],
      ...permissions,
      CLI,
      ...args,
    ],
    env: { DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  });
}

async function run(
  config: string,
  permissions: string[],
  args: string[],
): Promise<{ code: number; stdout: string; stderr: string }> {
  const { code, stdout, stderr } = await command(config, permissions, args).output();
  return { code, stdout: text(stdout), stderr: text(stderr) };
}

function text(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}
