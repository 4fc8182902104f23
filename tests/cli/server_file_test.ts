import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { decodeServers, encodeServers, ServerFile } from "../../lib/cli/server_file.ts";
import type { KnownServer } from "../../lib/peer/pools.ts";
import { serveRendezvous } from "../../lib/signal/rendezvous/server.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { decodeTicket, encodeTicket } from "../../lib/peer/ticket.ts";
import { start, withScratch } from "./command.ts";

const NOW_MS = 1.7e12;
const DAY_MS = 86_400_000;
const NAME = "A".repeat(22);

Deno.test("what was learned of servers is read back as it was written", () => {
  const name = fc.stringMatching(/^[\w-]{22}$/).filter((each) => !/^\d+$/.test(each));
  const server = fc.record({
    works: fc.boolean(),
    rttMs: fc.integer({ min: 0, max: 60_000 }),
    atMs: fc.integer({ min: NOW_MS - 30 * DAY_MS, max: NOW_MS }),
  }, { requiredKeys: ["works", "atMs"] });
  fc.assert(fc.property(fc.array(fc.tuple(name, server), { maxLength: 20 }), (entries) => {
    const servers = new Map(entries);
    assertEquals(decodeServers(encodeServers(servers), NOW_MS), servers);
  }));
});

Deno.test("a file that holds something else is empty, and what is wrong in it is left out", () => {
  const good = { works: true, atMs: NOW_MS };
  const file = (servers: unknown, version: unknown = 1) => JSON.stringify({ version, servers });
  const one = (server: unknown) => file({ [NAME]: server });
  assertEquals(decodeServers(one(good), NOW_MS).size, 1);
  const empty = [
    ...["", "{", "null", "[]", "7", "{}", file(null), file([]), file({ [NAME]: good }, 2)],
    ...[file({ "wss://meet.example": good }), file({ [`${NAME}A`]: good })],
    ...[one(null), one({ ...good, works: "yes" }), one({ ...good, rttMs: -1 })],
    ...[one({ ...good, rttMs: 1e9 }), one({ works: true }), one({ ...good, atMs: NOW_MS + 1 })],
    one({ ...good, atMs: NOW_MS - 31 * DAY_MS }),
  ];
  for (const text of empty) assertEquals(decodeServers(text, NOW_MS).size, 0, text);
  fc.assert(fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
    decodeServers(text, NOW_MS); // it throws nothing
  }));
});

Deno.test("the file keeps the 256 servers that were used last", () => {
  const servers = new Map(Array.from({ length: 300 }, (_, index) => {
    const name = `${index}`.padStart(22, "x");
    return [name, { works: true, atMs: NOW_MS - 1000 * index }] as const;
  }));
  const kept = decodeServers(encodeServers(servers), NOW_MS);
  assertEquals([kept.size, kept.has("299".padStart(22, "x"))], [256, false]);
});

Deno.test("a failure is recalled with its age, and nothing is written that says nothing new", () =>
  withScratch(async (folder) => {
    const path = `${folder}/deeper/servers.json`;
    const learned: [string, KnownServer][] = [
      ["wss://meet.example/0123456789abcdef", { works: true, rttMs: 18.4 }],
      ["mqtts://broker.example", { works: false, failedAtMs: performance.now() - 60_000 }],
      ["lan:", { works: true }],
      ["hand:", { works: true }],
    ];
    await (await ServerFile.open(path)).keep(new Map(learned));
    const text = await Deno.readTextFile(path);
    assertEquals(Object.keys(JSON.parse(text).servers).length, 2);
    assert(!/meet|broker|0123456789abcdef/.test(text), text);
    if (Deno.build.os !== "windows") assertEquals((await Deno.stat(path)).mode! & 0o777, 0o600);

    const again = await ServerFile.open(path);
    assertEquals(again.recall(learned[0]![0]), { works: true, rttMs: 18 });
    const { works, failedAtMs } = again.recall(learned[1]![0])!;
    assertEquals([works, Math.round((performance.now() - failedAtMs!) / 1000)], [false, 60]);
    assertEquals(again.recall("lan:"), undefined);

    await Deno.remove(path);
    await again.keep(new Map([learned[0]!])); // as before
    assertEquals(await exists(path), false);
    await again.keep(new Map([[learned[1]![0], { works: true }]]));
    assertEquals(await exists(path), true);
  }));

Deno.test("a folder in the place of the file, and a file that is too large, are no obstacle", () =>
  withScratch(async (folder) => {
    await Deno.mkdir(`${folder}/servers.json`);
    const blocked = await ServerFile.open(`${folder}/servers.json`);
    await blocked.keep(new Map([["wss://meet.example", { works: true }]]));
    const path = `${folder}/large.json`;
    await Deno.writeTextFile(path, " ".repeat(100_000));
    await (await ServerFile.open(path)).keep(new Map([["wss://meet.example", { works: true }]]));
    assertEquals((await ServerFile.open(path)).recall("wss://meet.example"), { works: true });
  }));

Deno.test("the next command tries first what worked last time; without a place, nothing is kept", () =>
  withScratch(async (folder) => {
    await using server = await serveRendezvous({
      network: systemNetwork,
      local: { ip: "127.0.0.1", port: 0 },
    });
    const silent = await Promise.all(
      [0, 1, 2, 3].map(() => systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 })),
    );
    let isFourthDialled = false;
    const fourthDialled = silent[3]!.accept().then((connection) => {
      isFourthDialled = true;
      connection.close();
    });
    const urls = [...silent.map(({ local: { port } }) => `ws://127.0.0.1:${port}`), server.url];
    const meeting = urls.flatMap((url) => ["--rendezvous", url]);
    const connect = async (signaling: string[], permissions: string[], until?: Promise<void>) => {
      const listen = ["listen", "--strategy", "host", "--rendezvous", server.url];
      const listener = start(listen, { input: "" });
      const ticket = encodeTicket({ ...decodeTicket(await listener.ticket()), signaling });
      const args = ["connect", ticket, "--strategy", "host", ...meeting];
      const env = { XDG_CONFIG_HOME: folder, APPDATA: folder };
      const connector = start(args, { input: "", env, permissions });
      await until;
      if (until !== undefined) connector.kill();
      const { code } = await connector.end();
      listener.kill();
      await listener.end();
      return code;
    };
    const granted = [
      ...["--allow-env=XDG_CONFIG_HOME,APPDATA", `--allow-read=${folder}`],
      `--allow-write=${folder}`,
    ];
    const path = `${folder}/punchline/servers.json`;
    for (const permissions of [[], granted.slice(0, 2), granted]) {
      assertEquals(await connect([server.url], permissions), 0);
      assertEquals(await exists(path), permissions === granted);
    }
    // Four are dialled at a time: the one that worked, and the first three of the ticket.
    assertEquals(await connect(urls, granted), 0);
    assertEquals(isFourthDialled, false);
    await connect(urls, [], fourthDialled);
    for (const listener of silent) listener.close();
  }));

async function exists(path: string): Promise<boolean> {
  try {
    await Deno.stat(path);
    return true;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    return false;
  }
}
