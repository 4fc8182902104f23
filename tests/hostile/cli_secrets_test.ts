/**
 * Other users of the machine, and whoever reads a log or a screenshot, want the passwords and tickets of the command line.
 *
 * @module
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { start, withScratch, withServers } from "../cli/command.ts";
import { runMain } from "../cli/run_main.ts";

const PASSWORD = "hunter2-hunter2";
const SECRET_TICKET = `punchline:${"Ab1_".repeat(20)}`;

/** Command lines with typing errors, and such that are right but lead nowhere. */
const LEAKS: readonly (readonly string[])[] = [
  ["listen", "--mqtt", `mqts://me:${PASSWORD}@broker.example`],
  ["listen", "--mqtt", `mqtt:me:${PASSWORD}@broker.example`],
  ["listen", "--mqtt", `mqtt:/me:${PASSWORD}@broker.example`],
  ["listen", "--mqtt", `me:${PASSWORD}@broker.example`],
  ["listen", "--mqtt", `mqtt://me:${PASSWORD}@`],
  ["listen", "--mqtt", `mqtt//me:${PASSWORD}@broker.example`],
  ["listen", "--mqtt", `mqtt://me:${PASSWORD}#x@broker.example`],
  ["listen", "--mqtt", `mqtt://me:${PASSWORD}%@127.0.0.1:1`],
  ["listen", "--mqtt", `mqtt://me:${PASSWORD}@127.0.0.1:1`],
  ["listen", "--mqtt", `mqtt+ws://me:${PASSWORD}@127.0.0.1:1`],
  ["listen", "--mqtt", `mqtt://me:${PASSWORD} x@127.0.0.1:1`],
  ["listen", "--mqtt", `mqtt://me:${PASSWORD}@127.0.0.1:1/${"x".repeat(300)}`],
  ["listen", "--rendezvous", `ws//me:${PASSWORD}@server.example`],
  ["listen", "--rendezvous", `ws://me:${PASSWORD}@127.0.0.1:1`],
  ["listen", "--rendezvous", `http://me:${PASSWORD}@server.example`],
  ["listen", "--turn", `turn:me:${PASSWORD}`],
  ["listen", "--turn", `turm:me:${PASSWORD}@relay.example`],
  ["listen", "--turn", `turn:me:${PASSWORD}@relay.example:port`],
  ["listen", "--turn", `me:${PASSWORD}@relay.example`],
  ["listen", "--turn", `me:${PASSWORD}`],
  ["listen", "--turn", `turn:me:x@127.0.0.1?transport=${PASSWORD}`],
  ["listen", "--turn", `turns:me:x@127.0.0.1?transport=${PASSWORD}`],
  ["doctor", "--proxy", `htp://me:${PASSWORD}@proxy.example`],
  ["listen", "--proxy", `htp://me:${PASSWORD}@proxy.example`],
  ["listen", "--proxy", `http:me:${PASSWORD}@proxy.example`],
  ["listen", "--proxy", `me:${PASSWORD}`],
  ["listen", "--proxy", `http://me:${PASSWORD}@proxy.example/${PASSWORD}`],
  ["listen", "--proxy", `socks5://me:${PASSWORD}%0a@127.0.0.1`],
  [
    ...["listen", "--relay-only", "--rendezvous", "ws://meet.example"],
    ...["--proxy", `http://me:${PASSWORD}@127.0.0.1:1`],
  ],
  [
    ...["punch", "room", "--rendezvous", "ws://meet.example"],
    ...["--proxy", `socks5://me:${PASSWORD}@127.0.0.1:1`],
  ],
  ["send", `mqtt://me:${PASSWORD}@broker.example`],
  ["send", `mqtt://me:${PASSWORD}@broker.example`, "--json"],
  ["listen", "--turn", `turn://me:${PASSWORD}@relay.example`],
  ["listen", `--trun=turn:me:${PASSWORD}@relay.example`],
  ["listen", `turn:me:${PASSWORD}@relay.example`],
  ["turn", `turn:me:${PASSWORD}@relay.example`],
  [`turn:me:${PASSWORD}@relay.example`],
  ["punch", "room", "--rendezvous", `ws://me:${PASSWORD}@127.0.0.1:1`],
  ["punch", "room", "--rendezvous", `w://me:${PASSWORD}@127.0.0.1:1`],
  ["connect", SECRET_TICKET, "--mqtt", `mqts://me:${PASSWORD}@broker.example`],
  ["connect", SECRET_TICKET, SECRET_TICKET],
  ["listen", SECRET_TICKET],
  ["id", SECRET_TICKET],
  [SECRET_TICKET],
];

for (const args of LEAKS) {
  const shown = args.join(" ").slice(0, 90);
  Deno.test(`no message of ${JSON.stringify(shown)} repeats what is secret`, async () => {
    const { code, out, err } = await runMain(args);
    assert(code !== 0);
    const printed = [...out, ...err].join("\n");
    assert(printed.length > 10, "it says something");
    for (const secret of ["hunter2", SECRET_TICKET.slice(10, 50)]) {
      assert(!printed.includes(secret), printed);
    }
  });
}

Deno.test("ps shows no ticket and no login when they come from stdin, files or the environment", () =>
  withScratch((folder) =>
    withServers(async (servers) => {
      await Deno.writeTextFile(`${folder}/turn`, "turn:me:secret@127.0.0.1:1\n");
      const [, server, , rendezvous] = servers.all as [string, string, string, string];
      await Deno.writeTextFile(`${folder}/rendezvous`, `${rendezvous}\n`);
      const read = [`--allow-read=${folder}`];
      const ways = [
        { args: ["connect", "-"], first: true },
        { args: ["connect", `@${folder}/ticket`], permissions: read },
        { args: ["connect"], env: true, permissions: ["--allow-env=PUNCHLINE_TICKET"] },
      ];
      for (const { args, first, env, permissions } of ways) {
        const listener = start(
          ["listen", "--rendezvous", `@${folder}/rendezvous`, "--turn", `@${folder}/turn`]
            .concat("--server", server),
          { permissions: read, input: "to the connector" },
        );
        const ticket = await listener.ticket();
        await Deno.writeTextFile(`${folder}/ticket`, `${ticket}\n`);
        const connector = start([...args, ...servers.connecting], {
          permissions,
          ...env && { env: { PUNCHLINE_TICKET: ticket } },
          input: first ? `${ticket}\nto the listener` : "to the listener",
        });
        const [a, b] = await Promise.all([listener.end(), connector.end()]);
        assertEquals([a.code, b.code], [0, 0], a.stderr + b.stderr);
        assertEquals([a.stdout, b.stdout], ["to the listener", "to the connector"]);
      }
    })
  ));

Deno.test("an endless line, file or key file fills no memory", async () => {
  const line = new Uint8Array(65_536).fill(0x61);
  const endless = new ReadableStream({ pull: (controller) => controller.enqueue(line) });
  const fromStdin = await start(["connect", "-"], { input: endless }).end();
  assertEquals(fromStdin.code, 2);
  assertMatch(fromStdin.stderr, /a line of stdin is longer than 4096 bytes/);
  if (Deno.build.os === "windows") return;
  const permissions = ["--allow-read=/dev/zero", "--v8-flags=--max-old-space-size=64"];
  const fromFile = await start(["connect", "@/dev/zero"], { permissions }).end();
  assertEquals(fromFile.code, 2);
  assertMatch(fromFile.stderr, /larger than 4096 bytes/);
  const fromKey = await start(["id", "--key", "/dev/zero"], { permissions }).end();
  assertEquals(fromKey.code, 2);
  assertMatch(fromKey.stderr, /it is not a file/);
});
