/**
 * The real program in a process of its own: what it may do, what it asks for, and how it ends.
 *
 * @module
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { formatTransportAddress } from "../../lib/net/address.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { serveLocally } from "./run_main.ts";

const ROOT = new URL("../../", import.meta.url);

for (const unstable of [true, false]) {
  const flag = unstable ? "with" : "without";
  Deno.test(`nat-test works under --allow-net alone, ${flag} --unstable-net`, async () => {
    await using server = await serveLocally();
    await using config = await configuration({ unstable });
    const args = ["nat-test", "--server", server.name, "--json"];
    const { code, stdout, stderr } = await run(config.path, ["--allow-net"], args);
    assertEquals([code, stderr], [0, ""]);
    const { verdict, udp, tcp } = JSON.parse(stdout);
    assertEquals(verdict.difficulty, "open");
    assertEquals([udp.ipv4.rfc3489Name, tcp.ipv4.rfc3489Name], ["Open Internet", "Open Internet"]);
  });

  Deno.test(`stun works under --allow-net alone, ${flag} --unstable-net`, async () => {
    await using server = await serveLocally();
    await using config = await configuration({ unstable });
    for (const transport of [[], ["--tcp"]]) {
      const args = ["stun", server.name, ...transport];
      const { code, stdout, stderr } = await run(config.path, ["--allow-net"], args);
      assertEquals([code, stderr], [0, ""]);
      assertMatch(stdout, /^127\.0\.0\.1:\d+ sees this host as 127\.0\.0\.1:\d+ over (UDP|TCP)\n/);
    }
  });
}

Deno.test("without --allow-net a command says so in one line", async () => {
  await using config = await configuration({ unstable: true });
  for (const args of [["nat-test", "--server", "127.0.0.1:1"], ["stun", "127.0.0.1:1"]]) {
    const { code, stdout, stderr } = await run(config.path, [], args);
    assertEquals([code, stdout], [1, ""]);
    assertMatch(stderr, /^punchline: Cannot .*: network access to .* is not granted\n$/);
  }
});

Deno.test("misuse ends the program with 2, without a stack trace", async () => {
  await using config = await configuration({ unstable: true });
  const { code, stdout, stderr } = await run(config.path, [], ["nat-test", "--nonsense"]);
  assertEquals([code, stdout], [2, ""]);
  assertMatch(stderr, /^punchline: unknown option --nonsense\nUsage: punchline nat-test .*\n$/);
});

for (const args of [["nat-test", "--server"], ["stun"]]) {
  Deno.test({
    name: `Ctrl-C ends ${args[0]} with 130 and nothing on either stream`,
    // Windows has no SIGINT to send to another process.
    ignore: Deno.build.os === "windows",
    fn: async () => {
      await using config = await configuration({ unstable: true });
      const socket = await listenForOne();
      const child = command(config.path, ["--allow-net"], [...args, socket.name]).spawn();
      await socket.asked; // so it is under way
      child.kill("SIGINT");
      const { code, stdout, stderr } = await child.output();
      assertEquals([code, text(stdout), text(stderr)], [130, "", ""]);
    },
  });
}

Deno.test("a reader that goes away ends the program quietly", async () => {
  await using config = await configuration({ unstable: true });
  const child = command(config.path, [], ["--help"]).spawn();
  await child.stdout.cancel();
  const [{ code }, stderr] = await Promise.all([child.status, new Response(child.stderr).text()]);
  assert(code === 141 || code === 0, `${code}`);
  assertEquals(stderr, "");
});

/** A UDP port that says when the first request has come, and answers none. */
async function listenForOne(): Promise<{ name: string; asked: Promise<void> }> {
  const socket = await systemNetwork.bindUdp({ ip: "127.0.0.1", port: 0 });
  const asked = socket.receive().then(() => socket.close());
  return { name: formatTransportAddress(socket.local), asked };
}

/** The project's own configuration, with or without its unstable features, as a file of its own. */
async function configuration(
  options: { unstable: boolean },
): Promise<AsyncDisposable & { path: string }> {
  const { imports, links, unstable } = JSON.parse(
    await Deno.readTextFile(new URL("deno.json", ROOT)),
  );
  const directory = await Deno.makeTempDir();
  const path = `${directory}/deno.json`;
  const absolute = (links as string[] | undefined)?.map((link) => new URL(link, ROOT).pathname);
  await Deno.writeTextFile(
    path,
    JSON.stringify({ imports, links: absolute, ...options.unstable && { unstable } }),
  );
  return {
    path,
    [Symbol.asyncDispose]: () => Deno.remove(directory, { recursive: true }),
  };
}

function command(config: string, permissions: string[], args: string[]): Deno.Command {
  return new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--quiet", "--no-prompt", "--no-check", "--no-lock", "--config", config],
      ...permissions,
      new URL("cli.ts", ROOT).pathname,
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
