/**
 * What somebody can do with a ticket that was taken back, used up or has expired.
 *
 * @module
 */

import { assert, assertEquals, assertMatch, assertNotEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { NetworkError, NoResponseError, RefusedError } from "../../lib/base/errors.ts";
import { Peer } from "../../lib/peer/peer.ts";
import { type Command, type Servers, start, withScratch, withServers } from "../cli/command.ts";
import { inPeerScene, nextOf } from "../scenes/peer_scene.ts";
import { readText, toBytes } from "../simnet/fixtures.ts";

Deno.test("a ticket that was revoked opens nothing, and other tickets still do", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    await using alice = await open(a, { listen: false });
    await using bob = await open(b);
    const [lent, kept] = [bob.createTicket(), bob.createTicket()];
    assertNotEquals(lent, kept);
    assertEquals([bob.revokeTicket(lent), bob.revokeTicket(lent)], [true, false]);
    await assertRejects(() => alice.connect(lent), NoResponseError);
    for (const ticket of [kept, bob.ticket]) await connectAndClose(alice, bob, ticket);
  }));

Deno.test("revoking a ticket ends the connections that were made with it", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    await using alice = await open(a, { listen: false });
    await using bob = await open(b);
    const ticket = bob.createTicket();
    const accepted = nextOf(bob).then((incoming) => incoming.accept());
    await using conn = await alice.connect(ticket);
    await using other = await accepted;
    await other.write(toBytes("hello"));
    assertEquals(await readText(conn, 5), "hello");
    bob.revokeTicket(ticket);
    await assertRejects(() => other.finished, NetworkError, "revoked");
    assertEquals((await assertRejects(() => conn.finished, NetworkError)).reason, "reset");
  }));

Deno.test("a request that waits for an answer ends when its ticket is revoked", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    await using alice = await open(a, { listen: false });
    await using bob = await open(b);
    const ticket = bob.createTicket();
    const connecting = assertRejects(() => alice.connect(ticket));
    const incoming = await nextOf(bob);
    bob.revokeTicket(ticket);
    await assertRejects(() => incoming.accept(), NetworkError);
    await connecting;
  }));

Deno.test("a ticket for one connection opens one, however often it is tried", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    await using alice = await open(a, { listen: false });
    await using carol = await open(a, { listen: false });
    await using bob = await open(b);
    const ticket = bob.createTicket({ once: true });
    await connectAndClose(alice, bob, ticket);
    for (const peer of [alice, carol]) {
      await assertRejects(() => peer.connect(ticket), RefusedError, "refused");
    }
    await connectAndClose(carol, bob, bob.ticket);
  }));

Deno.test("two who use a ticket for one connection at the same moment get one connection", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    await using alice = await open(a, { listen: false });
    await using carol = await open(a, { listen: false });
    await using bob = await open(b);
    const ticket = bob.createTicket({ once: true });
    const accepting = [nextOf(bob), nextOf(bob)]
      .map((incoming) => incoming.then((each) => each.accept()));
    const calls = [alice, carol].map((peer) => peer.connect(ticket));
    const accepted = await Promise.allSettled(accepting);
    assertEquals(accepted.filter(({ status }) => status === "fulfilled").length, 1);
    await delay(1000);
    for (const each of [...await Promise.allSettled(calls), ...accepted]) {
      if (each.status === "rejected") continue;
      each.value.reset();
      await each.value[Symbol.asyncDispose]();
    }
  }));

Deno.test("a connection that was made with a ticket for one survives the loss of its path", () =>
  inPeerScene({}, async ({ a, b, nats, open }) => {
    await using alice = await open(a, { listen: false });
    await using bob = await open(b);
    const ticket = bob.createTicket({ once: true, expiresMs: 5000 });
    const accepted = nextOf(bob).then((incoming) => incoming.accept());
    await using conn = await alice.connect(ticket);
    await using other = await accepted;
    await delay(6000); // the ticket has expired, too
    nats.a.flush();
    nats.b.flush();
    await conn.write(toBytes("still here"));
    assertEquals(await readText(other, 10), "still here");
    conn.reset();
  }));

Deno.test("a ticket expires by the clock of the side that issued it", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    await using alice = await open(a, { listen: false });
    await using bob = await open(b);
    const ticket = bob.createTicket({ expiresMs: 60_000 });
    await connectAndClose(alice, bob, ticket);
    await delay(61_000);
    await assertRejects(() => alice.connect(ticket), RefusedError, "refused");
  }));

Deno.test("a peer issues so many tickets and no more, and forgets those that are over", () =>
  inPeerScene({}, async ({ b, open }) => {
    await using bob = await open(b);
    for (let i = 0; i < 15; i++) bob.createTicket();
    const brief = bob.createTicket({ expiresMs: 1000 });
    const full = await assertRejects(() => Promise.resolve().then(() => bob.createTicket()));
    assertMatch(`${full}`, /there are 16; revoke one of them first/);
    await delay(2000);
    bob.createTicket();
    assertEquals(bob.revokeTicket(brief), false);
  }));

Deno.test("the peer's own ticket can be revoked, and there is another", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    await using alice = await open(a, { listen: false });
    await using bob = await open(b);
    const { ticket } = bob;
    assertEquals(bob.revokeTicket(ticket), true);
    assertNotEquals(bob.ticket, ticket);
    await assertRejects(() => alice.connect(ticket), NoResponseError);
    await connectAndClose(alice, bob, bob.ticket);
  }));

Deno.test("a running listen takes new tickets within two seconds, and no revoked ones", () =>
  withKey(async ({ key, files, servers }) => {
    const listener = start(
      ["listen", "--tcp", "9", "--key", key, ...servers.all],
      { permissions: files },
    );
    await listener.ticket();
    const run = (...args: string[]) =>
      start(["ticket", ...args, "--key", key], { permissions: files }).end();
    const { stdout: guest } = await run("new", "--name", "guest");
    const { stdout: other } = await run("new", "--expires", "1h");
    const { stdout: once } = await run("new", "--once");
    const { mode } = await Deno.stat(`${key}.tickets`);
    assertEquals(mode! & 0o777, 0o600);
    await delay(2000);
    assertEquals(await outcome(guest, servers), "connected");
    assertEquals(await outcome(other, servers), "connected");
    assertEquals(await outcome(once, servers), "connected");
    assertEquals(await outcome(once, servers), "refused");
    assertEquals((await run("revoke", "guest")).code, 0);
    assertEquals((await run("revoke", "guest")).code, 1);
    await delay(2000);
    assertEquals(await outcome(guest, servers), "no answer");
    assertEquals(await outcome(other, servers), "connected");
    const list = JSON.parse((await run("list", "--json")).stdout);
    assertEquals(
      list.tickets.map(({ number, status }: Record<string, unknown>) => [number, status]),
      [[0, "valid"], [2, "valid"], [3, "used"]],
    );
    await interrupt(listener);
  }));

Deno.test("a ticket that was used once stays used when listen is started again", () =>
  withKey(async ({ key, files, servers }) => {
    const args = ["listen", "--key", key, ...servers.all];
    const rendezvous = servers.all.slice(2);
    const made = await start(["ticket", "new", "--once", "--key", key, ...rendezvous], {
      permissions: files,
    }).end();
    const first = start(args, { permissions: files, input: "for the first" });
    await first.ticket();
    const connector = await start(["connect", made.stdout.trim(), ...servers.connecting]).end();
    assertEquals([connector.code, connector.stdout], [0, "for the first"], connector.stderr);
    assertEquals((await first.end()).code, 0);
    const again = start(args, { permissions: files, input: "for no one else" });
    await again.ticket();
    assertEquals(await outcome(made.stdout, servers), "refused");
    await interrupt(again);
  }));

Deno.test("the own ticket of a key that was revoked opens nothing, also after a restart", () =>
  withKey(async ({ key, files, servers }) => {
    const args = ["listen", "--key", key, ...servers.all];
    const listener = start(args, { permissions: files });
    const stolen = await listener.ticket();
    const revoked = await start(["ticket", "revoke", "0", "--key", key], { permissions: files })
      .end();
    assertEquals(revoked.code, 0);
    await listener.prints("the new one is");
    assertEquals(await outcome(stolen, servers), "no answer");
    await interrupt(listener);
    const again = start(args, { permissions: files });
    assertNotEquals(await again.ticket(), stolen);
    assertEquals(await outcome(stolen, servers), "no answer");
    await interrupt(again);
  }));

Deno.test("a damaged list of tickets lets no one in", () =>
  withKey(async ({ key, files, servers }) => {
    await start(["id", "--key", key], { permissions: files }).end();
    for (const text of ["", "{}", "[]", `{"version":1,"generation":-1}`, "\0".repeat(300_000)]) {
      await Deno.writeTextFile(`${key}.tickets`, text);
      const { code, stderr } = await start(["listen", "--key", key, ...servers.all], {
        permissions: files,
      }).end();
      assertEquals(code, 1, stderr);
      assertMatch(
        stderr,
        /^punchline: Cannot use .*key\.tickets: .*\nRestore it from a backup, or remove it/,
      );
      assertEquals(stderr.trim().split("\n").length, 2, stderr);
    }
    for (const args of [["new"], ["list"], ["revoke", "1"]]) {
      const { code, stderr } = await start(["ticket", ...args, "--key", key], {
        permissions: files,
      }).end();
      assertEquals(code, 1, stderr);
      assertMatch(stderr, /^punchline: Cannot use [^\n]*\nRestore it[^\n]*valid again\n$/);
    }
    await Deno.remove(`${key}.tickets`);
    if (Deno.build.os === "windows") return;
    await new Deno.Command("mkfifo", { args: [`${key}.tickets`] }).output();
    const { code } = await start(["ticket", "list", "--key", key], { permissions: files }).end();
    assertEquals(code, 1);
  }));

Deno.test("programs that change a list of tickets at once lose no ticket", () =>
  withKey(async ({ key, files }) => {
    await start(["id", "--key", key], { permissions: files }).end();
    const made = await Promise.all(
      Array.from(
        { length: 6 },
        () => start(["ticket", "new", "--key", key, "--json"], { permissions: files }).end(),
      ),
    );
    assertEquals(made.map(({ code }) => code), [0, 0, 0, 0, 0, 0]);
    const numbers = made.map(({ stdout }) => JSON.parse(stdout).number as number);
    assertEquals(numbers.sort(), [1, 2, 3, 4, 5, 6]);
    const names = [];
    for await (const { name } of Deno.readDir(key.slice(0, -"/key".length))) names.push(name);
    assertEquals(names.sort(), ["key", "key.tickets"]);
  }));

Deno.test("send takes a ticket for one transfer again until the transfer is finished", () =>
  withKey(async ({ folder, key, files, servers }) => {
    await Deno.mkdir(`${folder}/to`);
    await Deno.writeTextFile(`${folder}/file`, "whole");
    const rendezvous = servers.all.slice(2);
    const made = await start(["ticket", "new", "--once", "--key", key, ...rendezvous], {
      permissions: files,
    }).end();
    const ticket = made.stdout.trim();
    const sender = start(["send", `${folder}/file`, "--key", key, ...servers.all], {
      permissions: files,
    });
    await sender.ticket();
    await using peer = await Peer.open({
      listen: false,
      protocol: "punchline-files/1",
      servers: [servers.stun],
      signaling: [servers.url],
    });
    const interrupted = await peer.connect(ticket);
    await sender.prints("Connected");
    interrupted.reset();
    const receiver = await start(
      ["recv", ticket, "--yes", "--to", `${folder}/to`, ...servers.connecting],
      {
        permissions: files,
      },
    ).end();
    assertEquals(receiver.code, 0, receiver.stderr);
    assertEquals((await sender.end()).code, 0);
    assertEquals(await Deno.readTextFile(`${folder}/to/file`), "whole");
    const list = await start(["ticket", "list", "--json", "--key", key], { permissions: files })
      .end();
    assertEquals(JSON.parse(list.stdout).tickets[1].status, "used");
    await interrupted[Symbol.asyncDispose]();
  }));

async function connectAndClose(from: Peer, to: Peer, ticket: string): Promise<void> {
  const accepted = nextOf(to).then((incoming) => incoming.accept());
  await using conn = await from.connect(ticket);
  await using other = await accepted;
  await other.write(toBytes("hello"));
  assertEquals(await readText(conn, 5), "hello");
  conn.reset();
}

/** What `connect` says about a ticket, within a few seconds. */
async function outcome(ticket: string, { stun, url }: Servers): Promise<string> {
  await using peer = await Peer.open({
    listen: false,
    servers: [stun],
    signaling: [url],
    timings: { answerMs: 4000 },
  });
  try {
    const connection = await peer.connect(ticket);
    const buffer = new Uint8Array(1);
    await connection.read(buffer).catch(() => {}); // so that the other side has accepted it
    connection.reset();
    await connection[Symbol.asyncDispose]();
    return "connected";
  } catch (error) {
    if (error instanceof RefusedError) return "refused";
    if (error instanceof NoResponseError) return "no answer";
    throw error;
  }
}

async function interrupt(command: Command): Promise<void> {
  command.interrupt();
  const { code, stderr } = await command.end();
  assert(code === 130, stderr);
}

async function withKey(
  test: (place: {
    readonly folder: string;
    readonly key: string;
    readonly files: readonly string[];
    readonly servers: Parameters<Parameters<typeof withServers>[0]>[0];
  }) => Promise<void>,
): Promise<void> {
  await withScratch((folder) =>
    withServers((servers) =>
      test({
        folder,
        key: `${folder}/key`,
        files: [`--allow-read=${folder}`, `--allow-write=${folder}`],
        servers,
      })
    )
  );
}
