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
const WITHOUT_PERMISSION: readonly (readonly string[])[] = [
  ["nat-test"],
  ["nat-test", "--server", "127.0.0.1:1"],
  ["stun", "127.0.0.1:1"],
  ["map", "add", "tcp", "8080"],
  ["map", "list"],
  ["map", "delete", "tcp", "8080"],
  ["map", "probe"],
  ["serve"],
  ["punch", "room", "--rendezvous", "ws://127.0.0.1:1"],
  ["listen", "--lan"],
  ["connect", TICKET],
  ["send", CLI],
  ["recv", TICKET, "--yes"],
  ["ticket", "list", "--key", "me.key"],
  ["ticket", "new", "--key", "me.key"],
  ["id", "--key", "me.key"],
];

/** The same imports and nothing else, as in a program that imports this package. */
const WITHOUT_UNSTABLE = new URL("without_unstable.json", import.meta.url).pathname;

Deno.test("the configuration without unstable features has the same imports as the project's own", async () => {
  const [own, other] = await Promise.all(
    [WITH_UNSTABLE, WITHOUT_UNSTABLE].map(async (path) =>
      JSON.parse(await Deno.readTextFile(path))
    ),
  );
  for (const [name, from] of Object.entries(other.imports)) assertEquals(own.imports[name], from);
  assertEquals([own.unstable.includes("net"), other.unstable], [true, undefined]);
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

for (const args of WITHOUT_PERMISSION) {
  Deno.test(`${args[0]} ${args[1] ?? ""} without permissions names the flag, and the command to run`, async () => {
    const { code, stdout, stderr } = await run(WITH_UNSTABLE, [], args);
    const [why, remedy, ...rest] = stderr.trimEnd().split("\n");
    assert(code === EXIT.failure || code === EXIT.offlineOrBlocked, `${code}`);
    assertEquals([stdout, rest], ["", []]);
    assertMatch(
      why!,
      /^punchline: .*(?:is not granted|--allow-read is not granted)/,
    );
    const { name, permissions } = findCommand(args)!;
    const flags = permissions.map((each) => `--allow-${each}`).join(" ");
    assertMatch(remedy!, new RegExp(`^Run it as deno run ${flags} \\S*cli.ts ${name}$`));
  });
}

for (const args of [["map", "add", "tcp", "80"], ["map", "delete", "tcp", "80"]]) {
  Deno.test(`${args.join(" ")} without --allow-net says so for a gateway that is known`, async () => {
    const permissions = ["--allow-sys", "--allow-read"]; // this host's addresses, and where it stands
    const known = [...args, "--gateway", "127.0.0.1"];
    const { code, stdout, stderr } = await run(WITH_UNSTABLE, permissions, known);
    assertEquals([code, stdout], [1, ""], stderr);
    assertMatch(
      stderr,
      /^ {2}.*UPnP at .*: network access is not granted\n[^]*\nRun .*--allow-net\n$/,
    );
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

function command(config: string, permissions: string[], args: readonly string[]): Deno.Command {
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
  args: readonly string[],
): Promise<{ code: number; stdout: string; stderr: string }> {
  const { code, stdout, stderr } = await command(config, permissions, args).output();
  return { code, stdout: text(stdout), stderr: text(stderr) };
}

function text(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}
