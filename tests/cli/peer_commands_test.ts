/**
 * `listen`, `connect`, `send`, `recv` and `id` in processes of their own, over a rendezvous on this machine.
 *
 * @module
 */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { FILES_PROTOCOL } from "../../lib/cli/send.ts";
import { REJECTION_CODES } from "../../lib/peer/dialer.ts";
import { Peer } from "../../lib/peer/peer.ts";
import { RefusedError } from "../../lib/base/errors.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { receiveFiles } from "../../lib/transfer/mod.ts";
import { CLI, type Servers, start, WITH_UNSTABLE, withScratch, withServers } from "./command.ts";

const WITHOUT_UNSTABLE = new URL("without_unstable.json", import.meta.url).pathname;

for (const config of [WITH_UNSTABLE, WITHOUT_UNSTABLE]) {
  const flag = config === WITH_UNSTABLE ? "with" : "without";
  Deno.test(`listen and connect are one connection under --allow-net alone, ${flag} --unstable-net`, () =>
    withServers(async (servers) => {
      const listener = start(["listen", ...servers.all], { config, input: "to the connector" });
      const connector = start(["connect", await listener.ticket(), ...servers.stun], {
        config,
        input: "to the listener",
      });
      const [a, b] = await Promise.all([listener.end(), connector.end()]);
      assertEquals([a.code, b.code], [0, 0], a.stderr + b.stderr);
      assertEquals([a.stdout, b.stdout], ["to the listener", "to the connector"]);
      assertMatch(
        a.stderr,
        /^On the other machine: .*\nConnected .* in \d+ ms: same host\nClosed\n$/,
      );
    }));
}

Deno.test("events of listen and connect are JSON lines that other programs rely on", () =>
  withServers(async (servers) => {
    const listener = start(["listen", "--json", ...servers.all]);
    const connector = start(["connect", await listener.ticket(), "--json", ...servers.stun]);
    for (const { stderr } of await Promise.all([listener.end(), connector.end()])) {
      const events = stderr.trim().split("\n").map((line) => JSON.parse(line));
      const keys = Object.fromEntries(events.map((event) => [event.event, Object.keys(event)]));
      if (keys.ticket) assertEquals(keys.ticket, ["event", "ticket"]);
      assertEquals(
        keys.attempt,
        [
          ...["event", "strategy", "method", "transport", "local", "remote", "outcome"],
          ...["reason", "remedy", "elapsedMs"],
        ],
      );
      assertEquals(keys.connected, [
        "event",
        "strategy",
        "method",
        "transport",
        "local",
        "remote",
        "relayed",
        "elapsedMs",
        "punchMs",
        "attempts",
      ]);
      assertEquals(events.at(-1), { event: "closed" });
    }
  }));

Deno.test("what is large arrives whole, while the other direction is closed", () =>
  withServers(async (servers) => {
    const big = crypto.getRandomValues(new Uint8Array(60_000));
    const input = Array.from({ length: 100 }, () => big);
    const listener = start(["listen", ...servers.all], { input });
    const connector = start(["connect", await listener.ticket(), ...servers.stun]);
    const [a, b] = await Promise.all([listener.end(), connector.end()]);
    assertEquals([a.code, b.code], [0, 0], a.stderr + b.stderr);
    assertEquals(b.bytes.length, 6_000_000);
    assertEquals(await digest(b.bytes), await digest(...input));
  }));

Deno.test("a side that is killed is missed at once, and told apart from one that has finished", () =>
  withScratch((folder) =>
    withServers(async (servers) => {
      const permissions = [`--allow-read=${folder}`, `--allow-write=${folder}`];
      const args = ["listen", "--key", `${folder}/key`, ...servers.all];
      const listener = start(args, { permissions, input: endless() });
      const ticket = await listener.ticket();
      const connector = start(["connect", ticket, ...servers.stun], { input: endless() });
      await connector.says("Connected");
      listener.kill();
      await listener.end();
      await connector.says("Lost the path");
      // The one that is started again has the same ticket, and knows nothing of the connection.
      const again = start(args, { permissions });
      await again.ticket();
      const { code, stderr } = await connector.end();
      assertEquals(code, 1);
      assertMatch(stderr, /the peer was restarted and no longer knows this connection/);
      again.interrupt();
      await again.end();
    })
  ));

Deno.test("--tcp forwards a port of the one to a port of the other, for several at once", () =>
  withServers(async (servers) => {
    await using web = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => {
      return new Response(`you asked for ${new URL(request.url).pathname}`);
    });
    const { port } = await freePort();
    const listener = start(["listen", "--tcp", `${web.addr.port}`, ...servers.all]);
    const args = ["connect", await listener.ticket(), "--tcp", `${port}`, ...servers.stun];
    const connector = start(args);
    await connector.says("Forwarding");
    const pages = await Promise.all(
      ["a", "b", "c"].map(async (name) => {
        const response = await fetch(`http://127.0.0.1:${port}/${name}`, {
          headers: { connection: "close" },
        });
        return await response.text();
      }),
    );
    assertEquals(pages, ["a", "b", "c"].map((name) => `you asked for /${name}`));
    connector.interrupt();
    listener.interrupt();
    const ends = await Promise.all([listener.end(), connector.end()]);
    assertEquals(ends.map(({ code }) => code), [130, 130]);
  }));

Deno.test("--key keeps who somebody is, and --allow lets in nobody else", async () => {
  await withScratch(async (folder) => {
    await withServers(async (servers) => {
      const key = `${folder}/key`;
      const files = [`--allow-read=${folder}`, `--allow-write=${folder}`];
      const id = await start(["id", "--key", key], { permissions: files }).end();
      assertMatch(id.stdout, /^[A-Za-z0-9_-]{43}\n$/);
      const { mode } = await Deno.stat(key);
      if (Deno.build.os !== "windows") assertEquals(mode! & 0o777, 0o600);
      const again = await start(["id", "--key", key], { permissions: files }).end();
      assertEquals(again.stdout, id.stdout);

      const listener = start(["listen", "--allow", id.stdout.trim(), ...servers.all]);
      const ticket = await listener.ticket();
      const stranger = await start(["connect", ticket, ...servers.stun]).end();
      assertEquals([stranger.code, stranger.stdout], [5, ""], stranger.stderr);
      assertEquals(stranger.stderr, "punchline: Cannot connect: the peer refused\n");
      const friend = start(["connect", ticket, "--key", key, ...servers.stun], {
        permissions: files,
        input: "it is me",
      });
      const [a, b] = await Promise.all([listener.end(), friend.end()]);
      assertEquals([a.code, b.code, a.stdout], [0, 0, "it is me"], a.stderr + b.stderr);
    });
  });
});

Deno.test("a key file with something else in it is refused", () =>
  withScratch(async (folder) => {
    await Deno.writeTextFile(`${folder}/key`, "nonsense");
    const permissions = [`--allow-read=${folder}`, `--allow-write=${folder}`];
    const { code, stderr } = await start(["id", "--key", `${folder}/key`], { permissions }).end();
    assertEquals(code, 2);
    assertMatch(
      stderr,
      /^punchline: --key .* is of no use: .* a key file holds one line, 32 bytes/,
    ); // and no advice to chmod it
  }));

Deno.test("a key that others can read is used, with a warning", () =>
  withScratch(async (folder) => {
    await Deno.writeTextFile(`${folder}/key`, `${"A".repeat(43)}\n`, { mode: 0o644 });
    const permissions = [`--allow-read=${folder}`];
    const { code, stderr } = await start(["id", "--key", `${folder}/key`], { permissions }).end();
    assertEquals(code, 0);
    assertMatch(stderr, /punchline: other users can read the key in .*: run chmod 600/);
  }));

for (
  const [what, args, message] of [
    ["no ticket", ["connect"], /an argument is missing/],
    ["a damaged ticket", ["connect", "punchline:AAAA"], /Cannot read ticket/],
    ["an unknown strategy", ["listen", "--strategy", "magic"], /strategies are host, lan/],
    ["a URL that is none", ["listen", "--rendezvous", "kitchen"], /does not take kitchen/],
    ["a broker without a host", ["listen", "--mqtt", "mqtt://"], /Cannot signal by "mqtt:/],
    ["a timeout for what goes on", ["listen", "--tcp", "80", "--timeout", "9"], /no last one/],
    ["a relay that is none", ["listen", "--turn", "http://x"], /Cannot use relay/],
    ["to hide without a relay", ["listen", "--relay-only"], /--relay-only takes --turn/],
    [
      "to hide without relays among the strategies",
      ["listen", "--relay-only", "--turn", "turn:192.0.2.1", "--strategy", "punch"],
      /relay is not among the strategies/,
    ],
    ["a key that is none", ["listen", "--allow", "me"], /--allow takes a key/],
    ["no file", ["send"], /an argument is missing/],
    ["two ways with what exists", ["recv", "punchline:AAAA", "--overwrite"], /Cannot read ticket/],
  ] as const
) {
  Deno.test(`${args[0]} refuses ${what} with 2, and says why`, async () => {
    const { code, stdout, stderr } = await start(args).end();
    assertEquals([code, stdout], [2, ""]);
    assertMatch(stderr, message);
    assert(!stderr.includes("    at "), stderr);
  });
}

Deno.test("nobody there is 4, and no rendezvous is 3", () =>
  withServers(async (servers) => {
    const listener = start(["listen", ...servers.all]);
    const ticket = await listener.ticket();
    listener.interrupt();
    assertEquals((await listener.end()).code, 130);
    const alone = await start(["connect", ticket, "--timeout", "300", ...servers.stun]).end();
    assertEquals(alone.code, 4);
    assertMatch(alone.stderr, /^punchline: Cannot connect: no answer in 0.3 s/);
    const waited = await start(["listen", "--timeout", "300", ...servers.all]).end();
    assertEquals(waited.code, 4);
    await servers.stop();
    const offline = await start(["connect", ticket, ...servers.stun]).end();
    assertEquals(offline.code, 3, offline.stderr);
  }));

Deno.test("where only a relay would do and a direct path is demanded, that is 6", () =>
  withServers(async (servers) => {
    const listener = start(["listen", "--strategy", "lan", ...servers.all]);
    const args = ["connect", await listener.ticket(), "--strategy", "lan", ...servers.stun];
    const { code, stderr } = await start(args).end();
    assertEquals(code, 6, stderr);
    listener.interrupt();
    await listener.end();
  }));

Deno.test("--qr draws the ticket", () =>
  withServers(async (servers) => {
    const listener = start(["listen", "--qr", ...servers.all]);
    await listener.says("█");
    listener.interrupt();
    assertEquals((await listener.end()).code, 130);
  }));

Deno.test("send and recv carry files, and leave what is there alone", () =>
  withScratch((folder) =>
    withServers(async (servers) => {
      const files = [`--allow-read=${folder}`, `--allow-write=${folder}`];
      await Deno.mkdir(`${folder}/from/deep`, { recursive: true });
      await Deno.mkdir(`${folder}/to`);
      const content = crypto.getRandomValues(new Uint8Array(65_536));
      await Deno.writeFile(`${folder}/from/deep/photo.jpg`, content);
      for (const [options, expected] of [[[], 0], [[], 0], [["--rename"], 0]] as const) {
        const sender = start(["send", `${folder}/from/deep`, ...servers.all], {
          permissions: files,
        });
        const args = ["recv", await sender.ticket(), "--to", `${folder}/to`, ...options];
        const receiver = start([...args, ...servers.stun], { permissions: files });
        const [a, b] = await Promise.all([sender.end(), receiver.end()]);
        assertEquals([a.code, b.code], [expected, expected], a.stderr + b.stderr);
        assertEquals(await Deno.readFile(`${folder}/to/deep/photo.jpg`), content);
      }
      await Deno.writeTextFile(`${folder}/from/deep/photo.jpg`, "another one");
      const sender = start(["send", `${folder}/from/deep`, ...servers.all], { permissions: files });
      const args = ["recv", await sender.ticket(), "--to", `${folder}/to`, ...servers.stun];
      const receiver = start(args, { permissions: files });
      const ends = await Promise.all([sender.end(), receiver.end()]);
      assertEquals(ends.map(({ code }) => code), [1, 1]);
      assertEquals(await Deno.readFile(`${folder}/to/deep/photo.jpg`), content);
    })
  ));

for (const [interrupted, other] of [["connect", "listen"], ["listen", "connect"]] as const) {
  Deno.test(`what ${interrupted} was interrupted in is not taken for all by ${other}`, () =>
    withServers(async (servers) => {
      const inputs = { [interrupted]: { input: endless() }, [other]: {} };
      const listener = start(["listen", ...servers.all], inputs.listen);
      const dialler = start(["connect", await listener.ticket(), ...servers.stun], inputs.connect);
      await Promise.all([listener.says("Connected"), dialler.says("Connected")]);
      const sides = { listen: listener, connect: dialler };
      await new Promise((resolve) => setTimeout(resolve, 300));
      sides[interrupted].interrupt();
      assertEquals((await sides[interrupted].end()).code, 130);
      const { code, stderr } = await sides[other].end();
      assertEquals(code, 1, stderr);
      assertMatch(stderr, /^punchline: Cannot /m);
    }));
}

Deno.test("a program whose stdout nobody reads any more ends quietly, and the other side in peace", () =>
  withServers(async (servers) => {
    const listener = start(["listen", ...servers.all], { input: "one\ntwo\n" });
    const ticket = await listener.ticket();
    const args = ["run", "--quiet", "--allow-net", CLI, "connect", ticket, ...servers.stun];
    const shell = new Deno.Command("sh", {
      args: ["-c", `{ sleep 1; yes; } | "$0" "$@" | true`, Deno.execPath(), ...args],
    });
    const { stderr } = await shell.output();
    assertEquals(new TextDecoder().decode(stderr).includes("    at "), false);
    const { code, stderr: told } = await listener.end();
    assertEquals(code, 0, told);
  }));

Deno.test("a recv that was interrupted goes on when it is run again with its ticket", () =>
  withScratch((folder) =>
    withServers(async (servers) => {
      const permissions = [`--allow-read=${folder}`, `--allow-write=${folder}`];
      await Deno.mkdir(`${folder}/to`);
      await Deno.writeFile(`${folder}/big`, new Uint8Array());
      await Deno.truncate(`${folder}/big`, BIG_BYTES); // much of it is under way when the first is interrupted
      const sender = start(["send", `${folder}/big`, ...servers.all], { permissions });
      const args = ["recv", await sender.ticket(), "--to", `${folder}/to`, ...servers.stun];
      const first = start(args, { permissions });
      await first.says("Receiving");
      first.interrupt();
      await first.end();
      const again = start(args, { permissions });
      const [a, b] = await Promise.all([sender.end(), again.end()]);
      assertEquals([a.code, b.code], [0, 0], a.stderr + b.stderr);
      assertEquals((await Deno.stat(`${folder}/to/big`)).size, BIG_BYTES);
    })
  ));

Deno.test("a recv may be there before the one that was interrupted is missed", () =>
  withScratch((folder) =>
    withServers(async (servers) => {
      const { sender, ticket, first } = await startSendToPeer(folder, servers);
      const args = ["recv", ticket, "--to", `${folder}/to`, ...servers.stun];
      const again = start(args, {
        permissions: [`--allow-read=${folder}`, `--allow-write=${folder}`],
      });
      await delay(1000); // it has knocked by then, or is slower and finds nobody in its place
      first.reset();
      const [a, b] = await Promise.all([sender.end(), again.end()]);
      assertEquals([a.code, b.code], [0, 0], a.stderr + b.stderr);
      assertEquals(await Deno.readTextFile(`${folder}/to/file`), "whole");
      await first[Symbol.asyncDispose]();
    })
  ));

Deno.test("a recv that waits in vain for the place of another is told so when the files are through", () =>
  withScratch((folder) =>
    withServers(async (servers) => {
      const { sender, ticket, first, options } = await startSendToPeer(folder, servers);
      await using other = await Peer.open(options);
      const refused = assertRejects(() => other.connect(ticket), RefusedError);
      await delay(2000); // until it has knocked
      await receiveFiles(() => Promise.resolve(first), `${folder}/to`);
      assertEquals((await refused).code, REJECTION_CODES.busy);
      assertEquals((await sender.end()).code, 0);
      await first[Symbol.asyncDispose]();
    })
  ));

/** Starts a `send` of `file` whose receiver is in this process and reads nothing yet; there is a folder `to` for it. */
async function startSendToPeer(folder: string, servers: Servers) {
  await Deno.mkdir(`${folder}/to`);
  await Deno.writeTextFile(`${folder}/file`, "whole");
  const permissions = [`--allow-read=${folder}`];
  const sender = start(["send", `${folder}/file`, ...servers.all], { permissions });
  const ticket = await sender.ticket();
  const options = { listen: false, protocol: FILES_PROTOCOL, servers: [servers.stun[1]!] };
  await using peer = await Peer.open(options);
  const first = await peer.connect(ticket);
  await sender.says("Connected"); // before that, another one might still be faster
  return { sender, ticket, first, options };
}

Deno.test("recv with the ticket of a listen is told that files are not spoken there", () =>
  withScratch((folder) =>
    withServers(async (servers) => {
      const listener = start(["listen", ...servers.all]);
      const args = ["recv", await listener.ticket(), "--to", folder, ...servers.stun];
      const permissions = [`--allow-read=${folder}`, `--allow-write=${folder}`];
      const { code, stderr } = await start(args, { permissions }).end();
      assertEquals(code, 5, stderr);
      assertMatch(stderr, /the peer does not speak this protocol/);
      listener.interrupt();
      assertEquals((await listener.end()).code, 130);
    })
  ));

Deno.test("a ticket is read with what people and programs put around it", () =>
  withServers(async (servers) => {
    const listener = start(["listen", ...servers.all], { input: "hello" });
    const ticket = `punchline connect ${await listener.ticket()}\u200b.`;
    const { code, stdout } = await start(["connect", ticket, ...servers.stun]).end();
    assertEquals([code, stdout], [0, "hello"]);
    await listener.end();
  }));

Deno.test("with --json, a failure is an event too", () =>
  withServers(async (servers) => {
    const args = ["listen", "--json", "--qr", "--timeout", "300", ...servers.all];
    const { code, stdout, stderr } = await start(args).end();
    const events = stderr.trim().split("\n").map((line) => JSON.parse(line));
    assertEquals([code, stdout, events.map(({ event }) => event)], [4, "", ["ticket", "error"]]);
    assertMatch(events[1].message, /^Cannot connect: nobody came within 300 ms/);
  }));

Deno.test("send shows no ticket for what is not there to be sent", () =>
  withScratch(async (folder) => {
    const sender = start(["send", `${folder}/nothing`], {
      permissions: [`--allow-read=${folder}`],
    });
    const { code, stdout, stderr } = await sender.end();
    assertEquals([code, stdout], [1, ""]);
    assertEquals(stderr, `punchline: Cannot find ${folder}/nothing: not found\n`);
  }));

for (const [command, protocol] of [["listen", ""], ["send", FILES_PROTOCOL]] as const) {
  Deno.test(`${command} tells who comes later that it is busy`, () =>
    withScratch((folder) =>
      withServers(async (servers) => {
        await Deno.writeTextFile(`${folder}/file`, "");
        const operands = command === "send" ? [`${folder}/file`] : [];
        const busy = start([command, ...operands, ...servers.all], {
          permissions: [`--allow-read=${folder}`],
          input: endless(),
        });
        const ticket = await busy.ticket();
        const options = { listen: false, protocol, servers: [servers.stun[1]!] };
        await using first = await Peer.open(options);
        await using second = await Peer.open(options);
        const conn = await first.connect(ticket);
        await busy.says("Connected"); // before that, another one might still be faster
        const refused = assertRejects(() => second.connect(ticket), RefusedError);
        const later = command === "listen"
          ? start(["connect", ticket, ...servers.stun])
          : start(["recv", ticket, "--to", folder, ...servers.stun], {
            permissions: [`--allow-read=${folder}`, `--allow-write=${folder}`],
          });
        const { code, stderr } = await later.end();
        assertEquals(code, 1);
        assertMatch(stderr, /^punchline: Cannot connect: the peer is busy\n$/);
        assertEquals((await refused).code, REJECTION_CODES.busy);
        busy.kill();
        conn.reset();
        await Promise.all([busy.end(), conn[Symbol.asyncDispose]()]);
      })
    ));
}

const BIG_BYTES = 256_000_000;

async function freePort(): Promise<{ port: number }> {
  using listener = await systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 });
  return { port: listener.local.port };
}

/** Nothing, for as long as somebody waits for it. */
function endless(): ReadableStream<Uint8Array> {
  return new ReadableStream({ pull: () => new Promise(() => {}) });
}

async function digest(...parts: readonly Uint8Array<ArrayBuffer>[]): Promise<string> {
  const hash = await crypto.subtle.digest("SHA-256", await new Blob([...parts]).arrayBuffer());
  return new Uint8Array(hash).toHex();
}
