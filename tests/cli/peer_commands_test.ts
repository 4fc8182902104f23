/**
 * `listen`, `connect`, `send`, `recv` and `id` as processes, over a rendezvous on this machine.
 *
 * @module
 */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { FILES_PROTOCOL } from "../../lib/cli/send.ts";
import { REJECTION_CODES } from "../../lib/peer/rejection.ts";
import { Peer } from "../../lib/peer/peer.ts";
import { RefusedError } from "../../lib/base/errors.ts";
import type { TcpConnection } from "../../lib/net/network.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { receiveFiles } from "../../lib/transfer/mod.ts";
import { CLI, type Servers, start, WITH_UNSTABLE, withScratch, withServers } from "./command.ts";
import { ATTEMPT_KEYS, CONNECTED_KEYS } from "./event_keys.ts";

const WITHOUT_UNSTABLE = new URL("without_unstable.json", import.meta.url).pathname;

for (const config of [WITH_UNSTABLE, WITHOUT_UNSTABLE]) {
  const flag = config === WITH_UNSTABLE ? "with" : "without";
  Deno.test(`listen and connect make a connection under --allow-net alone, ${flag} --unstable-net`, () =>
    withServers(async (servers) => {
      const listener = start(["listen", ...servers.all], { config, input: "to the connector" });
      const connector = start(["connect", await listener.ticket(), ...servers.connecting], {
        config,
        input: "to the listener",
      });
      const [a, b] = await Promise.all([listener.end(), connector.end()]);
      assertEquals([a.code, b.code], [0, 0], a.stderr + b.stderr);
      assertEquals([a.stdout, b.stdout], ["to the listener", "to the connector"]);
      assertMatch(
        a.stderr,
        /^On the other machine: .*\n(?:Or, within an hour: .*\n)?Connected .* in \d+ ms: same machine\nClosed\n$/,
      );
    }));
}

Deno.test("listen and connect with --json print exactly the promised events", () =>
  withServers(async (servers) => {
    const listener = start(["listen", "--json", ...servers.all]);
    const connector = start(["connect", await listener.ticket(), "--json", ...servers.connecting]);
    for (const { stderr } of await Promise.all([listener.end(), connector.end()])) {
      const events = stderr.trim().split("\n").map((line) => JSON.parse(line));
      const keys = Object.fromEntries(events.map((event) => [event.event, Object.keys(event)]));
      const tickets = events.filter(({ event }) => event === "ticket").map((each) =>
        Object.keys(each)
      );
      const promised = [["event", "ticket"], ["event", "ticket", "code"]];
      assertEquals(tickets, promised.slice(0, tickets.length)); // the code is drawn meanwhile
      assertEquals(
        keys.attempt,
        ATTEMPT_KEYS,
      );
      assertEquals(keys.connected, CONNECTED_KEYS);
      assertEquals(events.at(-1), { event: "closed" });
    }
  }));

Deno.test("a large stream arrives complete while the other direction is closed", () =>
  withServers(async (servers) => {
    const big = crypto.getRandomValues(new Uint8Array(60_000));
    const input = Array.from({ length: 100 }, () => big);
    const listener = start(["listen", ...servers.all], { input });
    const connector = start(["connect", await listener.ticket(), ...servers.connecting]);
    const [a, b] = await Promise.all([listener.end(), connector.end()]);
    assertEquals([a.code, b.code], [0, 0], a.stderr + b.stderr);
    assertEquals(b.bytes.length, 6_000_000);
    assertEquals(await digest(b.bytes), await digest(...input));
  }));

Deno.test("connect notices at once that the listener was killed, and reports its restart", () =>
  withScratch((folder) =>
    withServers(async (servers) => {
      const permissions = [`--allow-read=${folder}`, `--allow-write=${folder}`];
      const args = ["listen", "--key", `${folder}/key`, ...servers.all];
      const listener = start(args, { permissions, input: endless() });
      const ticket = await listener.ticket();
      const connector = start(["connect", ticket, ...servers.connecting], { input: endless() });
      await connector.prints("Connected");
      listener.kill();
      await listener.end();
      await connector.prints("Lost the path");
      // Started again it has the same ticket, but does not know the connection.
      const again = start(args, { permissions });
      await again.ticket();
      const { code, stderr } = await connector.end();
      assertEquals(code, 1);
      assertMatch(stderr, /the peer was restarted and no longer knows this connection/);
      // Of the other side's version only if it was not heard before it was killed.
      const remedy = /if that fails as well, (run the same version on both sides|update Punchline)/;
      assertMatch(stderr, remedy);
      again.interrupt();
      await again.end();
    })
  ));

Deno.test("--tcp forwards several connections at once from one machine's port to the other's", () =>
  withServers(async (servers) => {
    await using web = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => {
      return new Response(`you asked for ${new URL(request.url).pathname}`);
    });
    const { port } = await freePort();
    const listener = start(["listen", "--tcp", `${web.addr.port}`, ...servers.all]);
    const args = ["connect", await listener.ticket(), "--tcp", `${port}`, ...servers.connecting];
    const connector = start(args);
    await connector.prints("Forwarding");
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

Deno.test("--key keeps the ID, and --allow accepts only that ID", async () => {
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
      const other = await start(["connect", ticket, ...servers.connecting]).end();
      assertEquals([other.code, other.stdout], [5, ""], other.stderr);
      const remedy = "Ask the other side to accept, or to allow this peer's ID";
      assertEquals(other.stderr, `punchline: Cannot connect: the peer refused\n${remedy}\n`);
      const friend = start(["connect", ticket, "--key", key, ...servers.connecting], {
        permissions: files,
        input: "it is me",
      });
      const [a, b] = await Promise.all([listener.end(), friend.end()]);
      assertEquals([a.code, b.code, a.stdout], [0, 0, "it is me"], a.stderr + b.stderr);
    });
  });
});

Deno.test("id rejects a key file that holds something else", () =>
  withScratch(async (folder) => {
    await Deno.writeTextFile(`${folder}/key`, "nonsense");
    const permissions = [`--allow-read=${folder}`, `--allow-write=${folder}`];
    const { code, stderr } = await start(["id", "--key", `${folder}/key`], { permissions }).end();
    assertEquals(code, 2);
    assertMatch(stderr, /^punchline: --key \S+: a key file holds one line, 32 bytes/); // not the advice to chmod it
  }));

Deno.test("id says that the folder of the key file does not exist, in words", () =>
  withScratch(async (folder) => {
    const permissions = [`--allow-read=${folder}`, `--allow-write=${folder}`];
    const path = `${folder}/no/key`;
    const { code, stderr } = await start(["id", "--key", path], { permissions }).end();
    assertEquals(code, 2);
    assertEquals(stderr.split("\n")[0], `punchline: --key ${path}: the folder does not exist`);
  }));

for (const [what, content] of [["is missing", undefined], ["is too long", "x".repeat(5000)]]) {
  Deno.test(`a file of a ticket that ${what} is named once`, () =>
    withScratch(async (folder) => {
      const path = `${folder}/ticket`;
      if (content !== undefined) await Deno.writeTextFile(path, content);
      const permissions = [`--allow-read=${folder}`];
      const { code, stderr } = await start(["connect", `@${path}`], { permissions }).end();
      assertEquals([code, stderr.split(path).length - 1], [2, 1], stderr);
      assert(!stderr.includes("os error"), stderr);
    }));
}

Deno.test("id warns about a key file that others can read, and uses it", () =>
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
    [
      "an invalid URL",
      ["listen", "--rendezvous", "kitchen"],
      /--rendezvous takes a URL such as .*, not kitchen/,
    ],
    ["a broker without a host", ["listen", "--mqtt", "mqtt://"], /Cannot signal by "mqtt:/],
    [
      "a timeout with --tcp",
      ["listen", "--tcp", "80", "--timeout", "9s"],
      /cannot be combined with --tcp/,
    ],
    ["an invalid relay", ["listen", "--turn", "http://x"], /Cannot use relay/],
    [
      "--relay-only without a relay",
      ["listen", "--relay-only"],
      /--relay-only needs --rendezvous or --turn/,
    ],
    [
      "--relay-only without relay among the strategies",
      ["listen", "--relay-only", "--turn", "turn:192.0.2.1", "--strategy", "punch"],
      /--relay-only needs relay among the strategies/,
    ],
    ["an invalid ID", ["listen", "--allow", "me"], /--allow takes an ID/],
    ["no file", ["send"], /an argument is missing/],
    ["a damaged ticket", ["recv", "punchline:AAAA", "--overwrite"], /Cannot read ticket/],
  ] as const
) {
  Deno.test(`${args[0]} rejects ${what} with exit code 2, and says why`, async () => {
    const { code, stdout, stderr } = await start(args).end();
    assertEquals([code, stdout], [2, ""]);
    assertMatch(stderr, message);
    assert(!stderr.includes("    at "), stderr);
  });
}

Deno.test("connect exits with 4 if the peer does not answer, and with 3 if it cannot reach the rendezvous", () =>
  withServers(async (servers) => {
    const listener = start(["listen", ...servers.all]);
    const ticket = await listener.ticket();
    listener.interrupt();
    assertEquals((await listener.end()).code, 130);
    const alone = await start(["connect", ticket, "--timeout", "300ms", ...servers.connecting])
      .end();
    assertEquals(alone.code, 4);
    assertMatch(alone.stderr, /^punchline: Cannot connect: no answer in 0.3 s/);
    const waited = await start(["listen", "--timeout", "300ms", ...servers.all]).end();
    assertEquals(waited.code, 4);
    await servers.stop();
    const offline = await start(["connect", ticket, ...servers.connecting]).end();
    assertEquals(offline.code, 3, offline.stderr);
  }));

Deno.test("connect exits with 6 if only a relay would work and the strategies rule it out", () =>
  withServers(async (servers) => {
    const listener = start(["listen", "--strategy", "lan", ...servers.all]);
    const args = ["connect", await listener.ticket(), "--strategy", "lan", ...servers.connecting];
    const { code, stderr } = await start(args).end();
    assertEquals(code, 6, stderr);
    listener.interrupt();
    await listener.end();
  }));

Deno.test("listen --qr shows the ticket as a QR code", () =>
  withServers(async (servers) => {
    const listener = start(["listen", "--qr", ...servers.all]);
    await listener.prints("█");
    listener.interrupt();
    assertEquals((await listener.end()).code, 130);
  }));

Deno.test("send and recv transfer files, and do not touch existing ones", () =>
  withScratch((folder) =>
    withServers(async (servers) => {
      const files = [`--allow-read=${folder}`, `--allow-write=${folder}`];
      await Deno.mkdir(`${folder}/from/deep`, { recursive: true });
      await Deno.mkdir(`${folder}/to`);
      const content = crypto.getRandomValues(new Uint8Array(65_536));
      await Deno.writeFile(`${folder}/from/deep/photo.jpg`, content);
      const runs = [
        [[], 0],
        [["--merge"], 0],
        [["--merge", "--rename"], 0],
        [[], 1], // the folder was there before, and merging into it takes leave
      ] as const;
      for (const [options, expected] of runs) {
        const sender = start(["send", `${folder}/from/deep`, ...servers.all], {
          permissions: files,
        });
        const args = [
          "recv",
          await sender.ticket(),
          "--yes",
          "--to",
          `${folder}/to`,
          ...options,
        ];
        const receiver = start([...args, ...servers.connecting], { permissions: files });
        const [a, b] = await Promise.all([sender.end(), receiver.end()]);
        assertEquals([a.code, b.code], [expected, expected], a.stderr + b.stderr);
        assertEquals(await Deno.readFile(`${folder}/to/deep/photo.jpg`), content);
      }
      await Deno.writeTextFile(`${folder}/from/deep/photo.jpg`, "another one");
      const sender = start(["send", `${folder}/from/deep`, ...servers.all], { permissions: files });
      const args = [
        "recv",
        await sender.ticket(),
        "--yes",
        "--merge",
        "--to",
        `${folder}/to`,
        ...servers.connecting,
      ];
      const receiver = start(args, { permissions: files });
      const ends = await Promise.all([sender.end(), receiver.end()]);
      assertEquals(ends.map(({ code }) => code), [1, 1]);
      assertEquals(await Deno.readFile(`${folder}/to/deep/photo.jpg`), content);
    })
  ));

for (const [interrupted, other] of [["connect", "listen"], ["listen", "connect"]] as const) {
  Deno.test(`${other} fails if ${interrupted} is interrupted, rather than take partial data for all`, () =>
    withServers(async (servers) => {
      const inputs = { [interrupted]: { input: endless() }, [other]: {} };
      const listener = start(["listen", ...servers.all], inputs.listen);
      const connector = start(
        ["connect", await listener.ticket(), ...servers.connecting],
        inputs.connect,
      );
      await Promise.all([listener.prints("Connected"), connector.prints("Connected")]);
      const sides = { listen: listener, connect: connector };
      await new Promise((resolve) => setTimeout(resolve, 300));
      sides[interrupted].interrupt();
      assertEquals((await sides[interrupted].end()).code, 130);
      const { code, stderr } = await sides[other].end();
      assertEquals(code, 1, stderr);
      assertMatch(stderr, /^punchline: Cannot continue: the other side was interrupted/m);
    }));
}

Deno.test("connect ends quietly if the reader of its stdout goes away, and the other side ends normally", () =>
  withServers(async (servers) => {
    const listener = start(["listen", ...servers.all], { input: "one\ntwo\n" });
    const ticket = await listener.ticket();
    const args = ["run", "--quiet", "--allow-net", CLI, "connect", ticket, ...servers.connecting];
    const shell = new Deno.Command("sh", {
      args: ["-c", `{ sleep 1; yes; } | "$0" "$@" | true`, Deno.execPath(), ...args],
    });
    const { stderr } = await shell.output();
    assertEquals(new TextDecoder().decode(stderr).includes("    at "), false);
    const { code, stderr: printed } = await listener.end();
    assertEquals(code, 0, printed);
  }));

Deno.test("an interrupted recv resumes when it is run again with its ticket", () =>
  withScratch((folder) =>
    withServers(async (servers) => {
      const permissions = [`--allow-read=${folder}`, `--allow-write=${folder}`];
      await Deno.mkdir(`${folder}/to`);
      await Deno.writeFile(`${folder}/big`, new Uint8Array());
      await Deno.truncate(`${folder}/big`, BIG_BYTES); // so large that it is not complete when the first is interrupted
      const sender = start(["send", `${folder}/big`, ...servers.all], { permissions });
      const args = [
        "recv",
        await sender.ticket(),
        "--yes",
        "--to",
        `${folder}/to`,
        ...servers.connecting,
      ];
      const first = start(args, { permissions });
      await first.prints("Receiving");
      first.interrupt();
      assertMatch((await first.end()).stderr, /\nRun the same command again to resume\n$/);
      const again = start(args, { permissions });
      const [a, b] = await Promise.all([sender.end(), again.end()]);
      assertEquals([a.code, b.code], [0, 0], a.stderr + b.stderr);
      assertEquals((await Deno.stat(`${folder}/to/big`)).size, BIG_BYTES);
    })
  ));

Deno.test("recv does not wait for a sender that was interrupted, and says what happened", () =>
  withScratch((folder) =>
    withServers(async (servers) => {
      const permissions = [`--allow-read=${folder}`, `--allow-write=${folder}`];
      await Deno.mkdir(`${folder}/to`);
      await Deno.writeFile(`${folder}/big`, new Uint8Array());
      await Deno.truncate(`${folder}/big`, BIG_BYTES);
      const sender = start(["send", `${folder}/big`, ...servers.all], { permissions });
      const args = ["recv", await sender.ticket(), "--yes", "--to", `${folder}/to`];
      const receiver = start([...args, ...servers.connecting], { permissions });
      await receiver.prints("Receiving");
      sender.interrupt();
      const [a, b] = await Promise.all([sender.end(), receiver.end()]);
      assertEquals([a.code, b.code], [130, 1], a.stderr + b.stderr);
      assertMatch(
        b.stderr,
        /the sender has ended the transfer\nAsk the sender to send again\n(Kept: .*\n.*\n)?$/,
      ); // if some of it came
      assert(!/broke|Waiting/.test(b.stderr), b.stderr);
    })
  ));

Deno.test("a new recv may connect right after the old one was interrupted", () =>
  withScratch((folder) =>
    withServers(async (servers) => {
      const { sender, ticket, first } = await startSendToPeer(folder, servers);
      const args = ["recv", ticket, "--yes", "--to", `${folder}/to`, ...servers.connecting];
      first.reset();
      const again = start(args, {
        permissions: [`--allow-read=${folder}`, `--allow-write=${folder}`],
      });
      const [a, b] = await Promise.all([sender.end(), again.end()]);
      assertEquals([a.code, b.code], [0, 0], a.stderr + b.stderr);
      assertEquals(await Deno.readTextFile(`${folder}/to/file`), "whole");
      await first[Symbol.asyncDispose]();
    })
  ));

Deno.test("a recv that comes while another receives is refused, which does not disturb the transfer", () =>
  withScratch((folder) =>
    withServers(async (servers) => {
      const { sender, ticket, first, options } = await startSendToPeer(folder, servers);
      await using other = await Peer.open(options);
      const receiving = acceptAndStall(first, `${folder}/to`);
      await receiving.accepted;
      const refused = await assertRejects(() => other.connect(ticket), RefusedError);
      assertEquals(refused.code, REJECTION_CODES.busy);
      receiving.goOn();
      await receiving.received;
      assertEquals((await sender.end()).code, 0);
      await first[Symbol.asyncDispose]();
    })
  ));

/** Accepts the offer, and then reads no more until it is told to go on. */
function acceptAndStall(connection: TcpConnection, folder: string) {
  const [accepted, going] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  let hasAccepted = false;
  const stalling = new Proxy(connection, {
    get(target, name) {
      const value = Reflect.get(target, name);
      if (name !== "read") return typeof value === "function" ? value.bind(target) : value;
      return async (buffer: Uint8Array) => {
        const count = await target.read(buffer);
        if (!hasAccepted) return count;
        accepted.resolve(); // the sender goes on
        await going.promise;
        return count;
      };
    },
  });
  const onOffer = () => hasAccepted = true;
  const received = receiveFiles(() => Promise.resolve(stalling), folder, { onOffer });
  return { accepted: accepted.promise, goOn: () => going.resolve(), received };
}

/** Starts a `send` of `file` to a receiver in this process, which reads nothing yet; creates a folder `to`. */
async function startSendToPeer(folder: string, servers: Servers) {
  await Deno.mkdir(`${folder}/to`);
  await Deno.writeTextFile(`${folder}/file`, "whole");
  const permissions = [`--allow-read=${folder}`];
  const sender = start(["send", `${folder}/file`, ...servers.all], { permissions });
  const ticket = await sender.ticket();
  const options = {
    listen: false,
    protocol: FILES_PROTOCOL,
    servers: [servers.stun],
    signaling: [servers.url],
  };
  await using peer = await Peer.open(options);
  const first = await peer.connect(ticket);
  await sender.prints("Connected"); // before that, another one could still be first
  return { sender, ticket, first, options };
}

Deno.test("recv with the ticket of a listen says which command takes it, and exits with 2", () =>
  withScratch((folder) =>
    withServers(async (servers) => {
      const listener = start(["listen", ...servers.all]);
      const args = [
        "recv",
        await listener.ticket(),
        "--yes",
        "--to",
        folder,
        ...servers.connecting,
      ];
      const permissions = [`--allow-read=${folder}`, `--allow-write=${folder}`];
      const { code, stderr } = await start(args, { permissions }).end();
      assertEquals(code, 2, stderr);
      assertMatch(
        stderr,
        /^punchline: recv takes a ticket of send; this is another one\nIf listen printed it, use `.* connect` with it\n$/,
      );
      listener.interrupt();
      assertEquals((await listener.end()).code, 130);
    })
  ));

Deno.test("connect accepts a ticket with what people and programs paste around it", () =>
  withServers(async (servers) => {
    const listener = start(["listen", ...servers.all], { input: "hello" });
    const ticket = `punchline connect ${await listener.ticket()}\u200b.`;
    const { code, stdout } = await start(["connect", ticket, ...servers.connecting]).end();
    assertEquals([code, stdout], [0, "hello"]);
    await listener.end();
  }));

Deno.test("listen --json prints a failure as an event", () =>
  withServers(async (servers) => {
    const options = ["--json", "--qr", "--no-code", "--timeout", "300ms"];
    const args = ["listen", ...options, ...servers.all];
    const { code, stdout, stderr } = await start(args).end();
    const events = stderr.trim().split("\n").map((line) => JSON.parse(line));
    const names = events.map(({ event }) => event).filter((name) => name !== "signaling");
    assertEquals([code, stdout, names], [4, "", ["ticket", "error"]]);
    const { url, state, reason } = events.find(({ event }) => event === "signaling");
    assertEquals([state, reason], ["open", null], url);
    const { message, remedy } = events.at(-1);
    assertEquals(message, "Cannot connect: no peer connected within 300 ms");
    assertEquals(remedy, "Give the other side the ticket or the code, and start again");
  }));

Deno.test("send shows no ticket if the file does not exist", () =>
  withScratch(async (folder) => {
    const sender = start(["send", `${folder}/nothing`], {
      permissions: [`--allow-read=${folder}`],
    });
    const { code, stdout, stderr } = await sender.end();
    assertEquals([code, stdout], [1, ""]);
    assertEquals(
      stderr,
      `punchline: Cannot find ${folder}/nothing: not found\nCheck the spelling of the path\n`,
    );
  }));

for (const [command, protocol] of [["listen", ""], ["send", FILES_PROTOCOL]] as const) {
  Deno.test(`${command} refuses later peers as busy`, () =>
    withScratch((folder) =>
      withServers(async (servers) => {
        await Deno.writeTextFile(`${folder}/file`, "");
        const operands = command === "send" ? [`${folder}/file`] : [];
        const busy = start([command, ...operands, ...servers.all], {
          permissions: [`--allow-read=${folder}`],
          input: endless(),
        });
        const ticket = await busy.ticket();
        const options = {
          listen: false,
          protocol,
          servers: [servers.stun],
          signaling: [servers.url],
        };
        await using first = await Peer.open(options);
        await using second = await Peer.open(options);
        const conn = await first.connect(ticket);
        await busy.prints("Connected"); // before that, another one could still be first
        const receiving = command === "send" ? acceptAndStall(conn, folder) : undefined;
        await receiving?.accepted; // until then others may accept
        const refused = assertRejects(() => second.connect(ticket), RefusedError);
        const later = command === "listen"
          ? start(["connect", ticket, ...servers.connecting])
          : start(["recv", ticket, "--yes", "--to", folder, ...servers.connecting], {
            permissions: [`--allow-read=${folder}`, `--allow-write=${folder}`],
          });
        const { code, stderr } = await later.end();
        assertEquals(code, 1);
        assertMatch(
          stderr,
          /^punchline: Cannot connect: the peer is busy\nTry again in a moment\n$/,
        );
        assertEquals((await refused).code, REJECTION_CODES.busy);
        receiving?.goOn();
        await receiving?.received;
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

/** A stream that stays open and empty. */
function endless(): ReadableStream<Uint8Array> {
  return new ReadableStream({ pull: () => new Promise(() => {}) });
}

async function digest(...parts: readonly Uint8Array<ArrayBuffer>[]): Promise<string> {
  const hash = await crypto.subtle.digest("SHA-256", await new Blob([...parts]).arrayBuffer());
  return new Uint8Array(hash).toHex();
}
