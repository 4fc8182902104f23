import { assert, assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { UnreachableError } from "../../lib/base/errors.ts";
import type { PeerConnection } from "../../lib/peer/connection.ts";
import { isBetter } from "../../lib/peer/path_search_engine.ts";
import type { PeerOptions } from "../../lib/peer/options.ts";
import { NAT_BEHAVIORS, type NatBehavior, natBehavior } from "../../lab/model/nat_behavior.ts";
import { readText, toBytes } from "../simnet/fixtures.ts";
import { type Ends, inPeerScene, nextOf } from "../scenes/peer_scene.ts";

const { portRestricted, symmetric } = NAT_BEHAVIORS;
const random = natBehavior({ allocation: { kind: "random" } }, portRestricted);
const open = natBehavior({ filtering: "endpoint-independent" }, random);
const dropping = natBehavior({ crossedSyn: "drop" });
const tcpSymmetric = natBehavior({
  tcp: { mapping: "address-and-port-dependent", allocation: { kind: "random" } },
});

for (
  const [what, a, b] of [
    ["drop crossing SYNs", dropping, dropping],
    ["are symmetric for TCP only", tcpSymmetric, tcpSymmetric],
    ["drop crossing SYNs, and chooses ports at random on one side", dropping, symmetric],
  ] as readonly [string, NatBehavior, NatBehavior][]
) {
  Deno.test(`peers connect over UDP if their NATs ${what}`, () =>
    inPeerScene({ a, b }, async ({ connect }) => {
      await using ends = await connect();
      for (const { path, found } of [ends.conn, ends.other]) {
        assertEquals([path.kind, path.transport, path.relayed], ["punch-udp", "udp", false]);
        const connected = found.attempts.filter(({ outcome }) => outcome === "connected");
        assertEquals(connected.map(({ transport }) => transport), ["udp"]);
      }
      await talk(ends);
    }));
}

Deno.test("peers whose NATs let TCP through use TCP, and no UDP path is ever seen", () =>
  inPeerScene({ a: portRestricted, b: portRestricted }, async ({ connect }) => {
    await using ends = await connect();
    await talk(ends);
    await delay(5000);
    assertEquals(ends.conn.path.transport, "tcp");
    assertEquals(ends.other.path.transport, "tcp");
  }));

Deno.test("a direct path that is worse is left for the one by the other transport, and back, without losing a byte", () =>
  inPeerScene({ a: portRestricted, b: portRestricted }, async ({ connect }) => {
    await using ends = await connect();
    const { conn, other } = ends;
    await talk(ends);
    for (const transport of ["udp", "tcp"] as const) {
      await delay(5000); // the search before it is over
      conn.slow(transport); // as the choice of paths decides
      await delay(5000);
      assertEquals([conn.path.transport, other.path.transport], [transport, transport]);
      assertEquals([conn.path.relayed, other.path.relayed], [false, false]);
      await talk(ends);
    }
  }));

Deno.test("what UDP did not finish before TCP connected is abandoned, and blames no firewall", () =>
  inPeerScene({ a: portRestricted, b: portRestricted }, async ({ connect }) => {
    await using ends = await connect();
    await talk(ends);
    for (const { found } of [ends.conn, ends.other]) {
      const byUdp = found.attempts.filter(({ transport }) => transport === "udp");
      assert(byUdp.length > 0);
      assertEquals(new Set(byUdp.map(({ outcome }) => outcome)), new Set(["abandoned"]));
      assertEquals(byUdp.flatMap(({ remedy }) => remedy ?? []), []);
    }
  }));

Deno.test("UDP carries the connection until TCP is there, and no byte is lost on the way", () =>
  inPeerScene({ a: dropping, b: dropping, rttMs: 200 }, async ({ connect, nats }) => {
    await using ends = await connect();
    const first = ends.conn.path.transport;
    nats.a.behavior = nats.b.behavior = portRestricted; // the SYNs that are repeated get through
    const sent = "x".repeat(100_000);
    const written = ends.conn.write(toBytes(sent));
    assertEquals(await readText(ends.other, sent.length), sent);
    await written;
    await delay(5000);
    assertEquals([first, ends.conn.path.transport, ends.other.path.transport], [
      "udp",
      "tcp",
      "tcp",
    ]);
    await talk(ends);
  }));

for (const [name, kind] of [["punch-udp", "punch-udp"], ["punch-tcp", "punch-tcp"]] as const) {
  Deno.test(`strategies: ["${name}"] uses nothing else`, () =>
    inPeerScene({ a: portRestricted, b: portRestricted }, async ({ connect }) => {
      await using ends = await connect({ strategies: [name] });
      assertEquals([ends.conn.path.kind, ends.other.path.kind], [kind, kind]);
      const tried = new Set(ends.conn.found.attempts.map((each) => each.kind));
      assertEquals([...tried], [kind]);
      await talk(ends);
    }));
}

for (const side of ["alice", "bob"] as const) {
  Deno.test(`a peer without UDP is connected to over TCP, if it is ${side}`, () =>
    inPeerScene({ a: portRestricted, b: portRestricted }, async ({ a, b, open }) => {
      const options: PeerOptions = { strategies: ["punch-tcp"] };
      await using alice = await open(a, { listen: false, ...side === "alice" ? options : {} });
      await using bob = await open(b, side === "bob" ? options : {});
      const accepted = nextOf(bob).then((incoming) => incoming.accept());
      await using conn = await alice.connect(bob.ticket);
      await using other = await accepted;
      assertEquals([conn.path.transport, other.path.transport], ["tcp", "tcp"]);
    }));
}

Deno.test("a connection over UDP moves to another path when its NAT loses the mapping", () => {
  const nat = natBehavior({ allocation: { kind: "random" } }, dropping);
  return inPeerScene({ a: nat, b: nat }, async ({ connect, nats, time }) => {
    await using ends = await connect();
    await talk(ends);
    const flushedAtMs = time.nowMs;
    nats.a.flush();
    await talk(ends);
    assert(time.nowMs - flushedAtMs < 20_000, `${time.nowMs - flushedAtMs} ms`);
    assertEquals(ends.conn.path.transport, "udp");
  });
});

Deno.test("a path over UDP goes on from another address, without a search, if the other side's NAT lets it in", () =>
  inPeerScene({ a: random, b: open }, async ({ connect, nats, time }) => {
    await using ends = await connect({ strategies: ["punch-udp", "direct"] });
    const { conn, other } = ends;
    await talk(ends);
    await delay(6000);
    const { remote } = other.path;
    nats.a.flush();
    const changedAtMs = time.nowMs;
    conn.probe({ hasChanged: true });
    const events = conn.events[Symbol.asyncIterator]();
    assertEquals((await events.next()).value.event, "stalled");
    assertEquals((await events.next()).value.event, "resumed");
    assert(time.nowMs - changedAtMs <= 100, `${time.nowMs - changedAtMs} ms`);
    assert(other.path.remote !== remote);
    await talk(ends);
  }));

Deno.test("an idle path over UDP lives for hours, because a datagram each 25 s keeps its mapping", () =>
  inPeerScene({ a: dropping, b: dropping, limitMs: 4 * 3_600_000 }, async ({ connect }) => {
    await using ends = await connect();
    const events: string[] = [];
    (async () => {
      for await (const { event } of ends.conn.events) events.push(event);
    })();
    await delay(2 * 3_600_000);
    await talk(ends);
    assertEquals(events, []);
  }));

Deno.test("if neither transport works, the error names the attempts by both", () =>
  inPeerScene({ a: portRestricted, b: portRestricted }, async ({ a, b, open, nats }) => {
    await using alice = await open(a, { listen: false, timings: { connectMs: 3000 } });
    await using bob = await open(b, { timings: { connectMs: 3000 } });
    await delay(2000);
    nats.a.behavior = nats.b.behavior = symmetric; // the mappings that both sides know are of no use
    nats.a.flush();
    nats.b.flush();
    const accepted = nextOf(bob).then((incoming) => incoming.accept());
    accepted.catch(() => {});
    const error = await assertRejects(() => alice.connect(bob.ticket), UnreachableError);
    const transports = new Set(error.attempts.map(({ transport }) => transport));
    assertEquals([...transports].sort(), ["tcp", "udp"]);
    const tried = error.attempts.filter(({ tries }) => tries > 0);
    assert(tried.length >= 2);
    for (const { candidates, remote, transport } of tried) {
      const [pair] = candidates;
      assertEquals([candidates.length, pair!.remote, pair!.transport], [1, remote, transport]);
      assertEquals(pair!.local?.split(":")[0], "192.168.1.2"); // from the punch port
    }
    await accepted.catch(() => {});
  }));

for (
  const [found, other, expected] of [
    [path("punch-tcp", "tcp"), path("punch-udp", "udp"), true],
    [path("punch-udp", "udp"), path("punch-tcp", "tcp"), false],
    [path("punch-tcp", "tcp"), path("lan", "udp"), false],
    [path("lan", "udp"), path("punch-tcp", "tcp"), true],
    [path("host", "tcp"), path("lan", "tcp"), true],
    [path("relay", "tcp", true), path("punch-udp", "udp"), false],
    [path("punch-udp", "udp"), path("relay", "tcp", true), true],
    [path("punch-tcp", "tcp"), path("punch-tcp", "tcp"), false],
  ] as const
) {
  Deno.test(`${found.kind} is ${expected ? "" : "not "}better than ${other.kind} by ${other.transport}`, () => {
    assertEquals(isBetter(found, other), expected);
  });
}

function path(
  kind: PeerConnection["path"]["kind"],
  transport: "tcp" | "udp",
  isRelayed = false,
) {
  return { kind, transport, isRelayed };
}

/** A few bytes each way. */
async function talk({ conn, other }: Ends): Promise<void> {
  await conn.write(toBytes("hello"));
  assertEquals(await readText(other, 5), "hello");
  await other.write(toBytes("world"));
  assertEquals(await readText(conn, 5), "world");
}
