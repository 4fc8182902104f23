import { assert, assertEquals, assertMatch } from "@std/assert";
import { delay } from "@std/async/delay";
import {
  initialPathCheckState,
  PADDING_BYTES,
  pathCheckEndsAtMs,
  type PathCheckEvent,
  stepPathCheck,
} from "../../lib/peer/path_check_engine.ts";
import { PathCheck } from "../../lib/peer/path_check.ts";
import type { TcpConnection } from "../../lib/net/network.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import type { PeerProgress } from "../../lib/peer/options.ts";
import { serveRendezvous } from "../../lib/signal/rendezvous/server.ts";
import { NAT_BEHAVIORS } from "../../lab/model/nat_behavior.ts";
import { linkOfRoundTrip } from "../scenes/homes.ts";
import { type Ends, inPeerScene, nextOf, type PeerScene } from "../scenes/peer_scene.ts";
import { readText, toBytes } from "../simnet/fixtures.ts";
import { lengthOf, type Packet } from "../simnet/packet.ts";
import { VirtualTime } from "../simnet/virtual_time.ts";

const { portRestricted, fullCone } = NAT_BEHAVIORS;

const received = (bytes: number): PathCheckEvent => ({ kind: "received", bytes });
const ANSWERED: PathCheckEvent = { kind: "answered" };
const HEARD: PathCheckEvent = { kind: "heard" };
const CLOSED: PathCheckEvent = { kind: "closed" };
const ENDED: PathCheckEvent = { kind: "ended" };
const TIME: PathCheckEvent = { kind: "time" };

/** Something each second. */
function trickle(untilMs: number): [number, PathCheckEvent][] {
  return Array.from({ length: untilMs / 1000 }, (_, index) => [1000 * (index + 1), HEARD]);
}

for (
  const [what, events, verdict] of [
    ["all padding and an answer", [[80, received(PADDING_BYTES)], [81, ANSWERED]], "carries"],
    ["an answer before the padding", [[80, ANSWERED], [90, received(PADDING_BYTES)]], "carries"],
    [
      "the padding in parts",
      [[80, received(8000)], [90, ANSWERED], [99, received(192)]],
      "carries",
    ],
    ["nothing for a while", [[1000, TIME]], "open"],
    ["nothing in time", [[1250, TIME]], "hole"],
    ["nothing, but was held up when it should have looked", [[3000, TIME]], "open"],
    ["nothing after it was held up either", [[3000, TIME], [3249, TIME], [3250, TIME]], "hole"],
    [
      "the padding after it was held up",
      [[3000, TIME], [3010, received(PADDING_BYTES)], [3011, ANSWERED]],
      "carries",
    ],
    ["only this side's padding", [[80, ANSWERED], [1329, TIME]], "open"],
    ["only this side's padding in time", [[80, ANSWERED], [1330, TIME]], "hole"],
    ["only the other side's padding", [[80, received(PADDING_BYTES)], [1330, TIME]], "hole"],
    ["a slow line", [[1000, received(1448)], [2000, received(1448)], [2250, TIME]], "open"],
    [
      "an answer that waits behind data",
      [[80, received(PADDING_BYTES)], [1300, HEARD], [2500, HEARD], [3700, TIME]],
      "open",
    ],
    [
      "silence after data",
      [[80, received(PADDING_BYTES)], [1300, HEARD], [2550, TIME]],
      "hole",
    ],
    [
      "that the other side gives up, after data",
      [[80, received(PADDING_BYTES)], [700, HEARD], [1200, ENDED]],
      "hole",
    ],
    ["data, but no answer", [[80, received(PADDING_BYTES)], ...trickle(29_000)], "open"],
    [
      "data, but no answer for half a minute",
      [[80, received(PADDING_BYTES)], ...trickle(29_000), [30_000, TIME]],
      "carries",
    ],
    [
      "that it was held up for a minute, and no padding",
      [[60_000, TIME], [60_249, TIME], [60_250, TIME]],
      "hole",
    ],
    ["that this side needs it no more", [[80, received(PADDING_BYTES)], [1200, CLOSED]], "lost"],
    ["a break at once", [[80, ENDED]], "lost"],
    ["a break after the other side's patience", [[1200, ENDED]], "hole"],
    ["a break later", [[80, received(PADDING_BYTES)], [81, ANSWERED], [2000, ENDED]], "carries"],
    ["time after that", [[80, received(PADDING_BYTES)], [81, ANSWERED], [9000, TIME]], "carries"],
  ] as const
) {
  Deno.test(`a path check that sees ${what} says: ${verdict}`, () => {
    let state = initialPathCheckState(80, 0);
    for (const [atMs, event] of events) state = stepPathCheck(state, event, atMs);
    assertEquals(state.verdict, verdict);
  });
}

Deno.test("a path check that ends because the path was silent for long says: hole", () => {
  const state = initialPathCheckState(60_000, 0); // the longest patience
  assertEquals(stepPathCheck(state, CLOSED, 3999).verdict, "lost");
  assertEquals(stepPathCheck(state, CLOSED, 5000).verdict, "hole");
  const heard = stepPathCheck(state, HEARD, 3000);
  assertEquals(stepPathCheck(heard, CLOSED, 5000).verdict, "lost");
});

Deno.test("the patience of a path check grows with the path, and is less than the session's", () => {
  const of = (punchMs: number) => pathCheckEndsAtMs(initialPathCheckState(punchMs, 0));
  assertEquals([of(0), of(80), of(1500), of(60_000)], [1250, 1250, 4000, 8000]);
});

/** Swallows what is too long on the direct path between the two. */
function dig(place: PeerScene, mtu: number, towards?: "a" | "b"): void {
  const outer = (side: "a" | "b") => place.nats[side].externalIps[0]!;
  const isBetween = (packet: Packet) => {
    if (packet.protocol === "icmp-error") return false;
    const ips = [packet.source.ip, packet.destination.ip];
    const [a, b] = (["a", "b"] as const).map((side) => [outer(side), place[side].addresses[0]!]);
    return ips.some((ip) => a!.includes(ip)) && ips.some((ip) => b!.includes(ip));
  };
  // A router sees packets from inside before it translates them, and those from outside as well.
  const swallows = (side: "a" | "b") => (packet: Packet) => {
    if (!isBetween(packet) || lengthOf(packet) <= mtu || packet.protocol === "icmp-error") {
      return false;
    }
    const isInbound = packet.destination.ip === outer(side);
    return towards === undefined || isInbound === (side === towards);
  };
  place.routers.a.swallows = swallows("a");
  place.routers.b.swallows = swallows("b");
}

async function talkMuch({ conn, other }: Pick<Ends, "conn" | "other">): Promise<void> {
  const text = "x".repeat(100_000);
  for (const [from, to] of [[conn, other], [other, conn]] as const) {
    const written = from.write(toBytes(text));
    assertEquals(await readText(to, text.length), text);
    await written;
  }
}

for (const mtu of [1280, 1420]) {
  for (const towards of [undefined, "a", "b"] as const) {
    const where = towards === undefined ? "both ways" : `towards ${towards}`;
    Deno.test(`an MTU hole of ${mtu} bytes, ${where}: UDP carries the connection, and both sides are told`, () =>
      inPeerScene({ a: portRestricted, b: fullCone, rttMs: 50 }, async (place) => {
        dig(place, mtu, towards);
        const told: PeerProgress[] = [];
        const startedAtMs = place.time.nowMs;
        await using ends = await place.connect({ onProgress: (each) => told.push(each) });
        await talkMuch(ends);
        assert(place.time.nowMs - startedAtMs < 8000, `${place.time.nowMs - startedAtMs} ms`);
        assertEquals([ends.conn.path.transport, ends.conn.path.relayed], ["udp", false]);
        assertEquals(ends.other.path.transport, "udp");
        const findings = told.flatMap((each) =>
          each.event === "finding" ? [each.finding.kind] : []
        );
        assertEquals(findings, ["mtu", "mtu"]);
        const holes = ends.conn.found.attempts.filter(({ reason }) => reason?.includes("MTU hole"));
        assert(
          holes.length >= 1 && holes.every(({ outcome, remedy }) => outcome === "failed" && remedy),
        );
        await delay(150_000); // searches for a better path do not go back
        assertEquals(ends.conn.path.transport, "udp");
      }));
  }
}

Deno.test("within a host, the patience of a path check is the longest", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr as Deno.NetAddr;
  const [raw, other] = await Promise.all([
    systemNetwork.connectTcp({ ip: "127.0.0.1", port }),
    listener.accept(),
  ]);
  using _other = other;
  const check = new PathCheck(raw, 1, { rttMs: undefined });
  const passed = check.passed(new Promise(() => {}), "controlling", { rttMs: undefined });
  assertEquals(await Promise.race([passed.catch(() => "judged"), delay(1500)]), undefined);
  check.connection.reset();
  assertEquals(await passed.catch(({ message }) => /MTU hole/.test(message)), false);
});

Deno.test("a peer that sends a little again and again, but answers nothing, does not keep a path check going", async () => {
  using time = new VirtualTime();
  await time.run(async () => {
    let bytes = PADDING_BYTES;
    const raw: TcpConnection = {
      local: { ip: "192.0.2.1", port: 1 },
      remote: { ip: "192.0.2.2", port: 2 },
      read: async (buffer) => {
        if (bytes === 0) await delay(1000);
        const count = Math.min(buffer.length, bytes || 1);
        bytes = Math.max(0, bytes - count);
        return count;
      },
      write: (data) => Promise.resolve(data.length),
      closeWrite: () => Promise.resolve(),
      close: () => {},
      reset: () => {},
      [Symbol.dispose]: () => {},
    };
    const check = new PathCheck(raw, 80, { rttMs: undefined });
    let isOver = false;
    const reading = (async () => {
      while (!isOver) await check.connection.read(new Uint8Array(100));
    })();
    await check.passed(Promise.resolve(), "controlled", { rttMs: undefined });
    assertEquals(Math.round(performance.now() / 1000), 30);
    isOver = true;
    await reading;
  });
  assertEquals(time.pendingTimers, 0);
});

Deno.test("an MTU hole where UDP is blocked: the relay carries the connection", () =>
  inPeerScene(
    { a: portRestricted, b: portRestricted, rttMs: 50, limitMs: 600_000 },
    async (place) => {
      const { internet, a, b, open, routers, time } = place;
      const host = internet.host("rendezvous", { link: linkOfRoundTrip(50) });
      const local = { ip: host.addresses[0]!, port: 3480 };
      await using server = await serveRendezvous({ network: host.network, local });
      dig(place, 1280);
      routers.a.blocks = ["udp"];
      const told: PeerProgress[] = [];
      const onProgress = (each: PeerProgress) => told.push(each);
      await using alice = await open(a, { signaling: [server.url], listen: false, onProgress });
      await using bob = await open(b, { signaling: [server.url] });
      const accepting = nextOf(bob).then((incoming) => incoming.accept());
      const startedAtMs = time.nowMs;
      await using conn = await alice.connect(bob.ticket);
      await using other = await accepting;
      await talkMuch({ conn, other });
      assert(time.nowMs - startedAtMs < 10_000, `${time.nowMs - startedAtMs} ms`);
      assertEquals([conn.path.relayed, other.path.relayed], [true, true]);
      assert(told.some((each) => each.event === "finding" && each.finding.kind === "mtu"));
    },
  ));

Deno.test("a path without a hole is used at once, and no hole is reported", () =>
  inPeerScene({ a: portRestricted, b: portRestricted, rttMs: 50 }, async (place) => {
    const told: PeerProgress[] = [];
    await using ends = await place.connect({ onProgress: (each) => told.push(each) });
    await talkMuch(ends);
    await delay(5000);
    assertEquals([ends.conn.path.transport, ends.other.path.transport], ["tcp", "tcp"]);
    assertEquals(told.filter(({ event }) => event === "finding"), []);
    assertMatch(ends.conn.path.kind, /^punch-tcp|direct$/);
  }));
