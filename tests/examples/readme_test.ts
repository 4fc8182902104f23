/**
 * Runs the programs of the README as they are written, with servers and a router on this machine in place of the public ones.
 *
 * @module
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { systemNetwork } from "../../lib/net/system.ts";
import { openWebSocketChannel, serveRendezvous } from "../../lib/signal/mod.ts";
import { punch } from "../../lib/punch/punch.ts";
import { WITH_UNSTABLE, withScratch } from "../cli/command.ts";
import { serveLocally } from "../cli/run_main.ts";
import { FakeGateway } from "../portmap/fake_gateway/fake_gateway.ts";

/** No other test has this address. */
const GATEWAY = { ip: "127.33.5.1", port: 5351 };

Deno.test("the README's programs run: a peer serves, and another one connects", () =>
  withReadme(async ([serve, connect]) => {
    const server = serve!().spawn();
    const ticket = await firstLine(server.stdout);
    const { success, stdout, stderr } = await connect!(ticket).output();
    const said = new TextDecoder().decode(stdout);
    assert(success, new TextDecoder().decode(stderr));
    assertMatch(said, /^hello\n\{\s+kind: "host",/);
    server.kill();
    await Promise.all([server.status, server.stderr.cancel()]);
  }));

Deno.test("the README's programs run: a NAT test, a port mapping and a punch", () =>
  withReadme(async ([, , parts], { url, stun }) => {
    const running = parts!().output();
    await using channel = await openWebSocketChannel(url, "kitchen");
    using _conn = await punch({ channel, role: "controlled", servers: [stun] });
    const { success, stdout, stderr } = await running;
    const said = new TextDecoder().decode(stdout);
    assert(success, new TextDecoder().decode(stderr));
    assertMatch(said, /behavior: "none"/);
    assertMatch(said, /^\{ ip: "203\.0\.113\.7", port: 8080 \}/m);
    assertMatch(said, /direct behind the same NAT/);
  }));

/** The programs, each as a function that makes its process. */
async function withReadme(
  test: (
    programs: ((...args: string[]) => Deno.Command)[],
    servers: { readonly url: string; readonly stun: string },
  ) => Promise<void>,
): Promise<void> {
  await using stun = await serveLocally();
  await using rendezvous = await serveRendezvous({
    network: systemNetwork,
    local: { ip: "127.0.0.1", port: 0 },
  });
  using _gateway = await FakeGateway.start(systemNetwork, GATEWAY);
  const readme = await Deno.readTextFile(new URL("../../README.md", import.meta.url));
  const blocks = Array.from(readme.matchAll(/^```ts ignore\n([^]*?)^```$/gm), ([, text]) => text!);
  assertEquals(blocks.length, 3);
  const here = new URL("programs/here.ts", import.meta.url).href;
  await withScratch(async (folder) => {
    const programs = await Promise.all(blocks.map(async (text, index) => {
      const path = `${folder}/readme_${index}.ts`;
      await Deno.writeTextFile(path, text.replaceAll(/jsr:@punchline\/punchline[/\w]*/g, here));
      return (...args: string[]) =>
        new Deno.Command(Deno.execPath(), {
          args: [
            ...["run", "--quiet", "--no-prompt", "--config", WITH_UNSTABLE, "--allow-net"],
            // A router on loopback is reached from an address that only the list of interfaces has.
            ...["--allow-sys=networkInterfaces", "--allow-env=HERE", path, ...args],
          ],
          env: {
            HERE: `${rendezvous.url} ${stun.name} ${GATEWAY.ip}`,
            DENO_NO_UPDATE_CHECK: "1",
            NO_COLOR: "1",
          },
          stdout: "piped",
          stderr: "piped",
        });
    }));
    await test(programs, { url: rendezvous.url, stun: stun.name });
  });
}

async function firstLine(output: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<string> {
  let text = "";
  const reader = output.pipeThrough(new TextDecoderStream()).getReader();
  while (!text.includes("\n")) {
    const { value, done } = await reader.read();
    assert(!done, text);
    text += value;
  }
  await reader.cancel();
  return text.split("\n")[0]!;
}
