import { assert, assertEquals } from "@std/assert";
import type { Network } from "../../lib/net/network.ts";
import { UnreachableError } from "../../lib/base/errors.ts";
import { NAT_BEHAVIORS, natBehavior } from "../../lab/model/nat_behavior.ts";
import { STUN_SERVERS } from "../scenes/homes.ts";
import { type StunFault, withStunAlone, withStunFault } from "../scenes/stun_faults.ts";
import { playUdp, type UdpScene, type UdpSide } from "../scenes/udp_scene.ts";
import { simulate } from "../simnet/simulate.ts";

const { portRestricted, symmetric } = NAT_BEHAVIORS;

/** No punch by TCP succeeds, which is not known before. */
const dropping = natBehavior({ crossedSyn: "drop" });

/** Symmetric for UDP alone. */
const halfSymmetric = natBehavior({
  crossedSyn: "drop",
  mapping: "address-and-port-dependent",
  allocation: { kind: "random" },
  tcp: { mapping: "endpoint-independent", allocation: { kind: "preserving" } },
});

/** Each with what it may cost, beyond a punch without it, in milliseconds. */
const FAULTS: readonly (readonly [string, StunFault, number])[] = [
  ["the first request is lost", { lostRequests: 1 }, 100],
  ["the first answer is lost", { lostAnswers: 1 }, 100],
  ["two requests and two answers are lost", { lostRequests: 2, lostAnswers: 2 }, 550],
  ...[300, 600, 1000].flatMap((lateMs): (readonly [string, StunFault, number])[] => [
    [`the first answer is ${lateMs} ms late`, { lateMs, lateAnswers: 1 }, 100],
    [`all answers are ${lateMs} ms late`, { lateMs }, lateMs],
    [
      `all answers are ${lateMs} ms late, for the punch port`,
      { lateMs, isPunchPort: true },
      lateMs,
    ],
  ]),
];

for (const [what, fault, costMs] of FAULTS) {
  for (const who of ["a", "b", "both"] as const) {
    Deno.test(`a punch by UDP is late, but not impossible, if ${what} at ${who}`, async () => {
      for (const servers of [STUN_SERVERS, STUN_SERVERS.slice(0, 1)]) {
        const scene = { a: portRestricted, b: portRestricted, servers };
        const usual = assertConnected(await playTo(scene));
        const late = assertConnected(await playTo({ ...scene, network: faulty(who, fault) }));
        // With one server, the second answer is late, too: it has to be asked for its other address.
        const mayCostMs = (servers.length === 1 ? 2 : 1) * costMs + SLACK_MS;
        assert(late - usual <= mayCostMs, `${servers.length}: ${usual} ms, then ${late} ms`);
      }
    });
  }
}

Deno.test("late answers cost no spray against random ports", async () => {
  let connected = 0;
  for (let seed = 1; seed <= 8; seed++) {
    const network = faulty("both", { lateMs: 600 });
    const { a, b } = await playTo({ a: portRestricted, b: symmetric, network }, seed);
    assertEquals([a.method ?? "birthday", b.method ?? "birthday"], ["birthday", "birthday"]);
    assert(a.packets > 0 && b.packets > 0);
    if (a.path !== undefined && b.path !== undefined) connected++;
  }
  assert(connected >= 6, `${connected} of 8`);
});

Deno.test("a spray by UDP that joins late waits for the relays, too", async () => {
  const waited = new Set<string>();
  const scene: UdpScene = {
    a: dropping,
    b: halfSymmetric,
    pathKinds: new Set(["punch-tcp", "punch-udp"] as const),
    network: faulty("both", { lateMs: 600 }),
    beforeSpray: (name) => {
      waited.add(name);
      return Promise.resolve();
    },
  };
  await playTo(scene);
  assertEquals([...waited].sort(), ["a", "b"]);
});

Deno.test("a base socket that was ready before the call, but for late answers, has them in the first offer", async () => {
  const network = faulty("both", { lateMs: 1000 });
  const scene = { a: portRestricted, b: portRestricted, network, warmMs: 2000 };
  const { a, b } = await playTo(scene);
  for (const side of [a, b]) assertEquals(side.path?.kind, "punch-udp");
  assert(a.foundAtMs! - a.knownAtMs! <= 200, `${a.foundAtMs! - a.knownAtMs!} ms`);
});

Deno.test("a side without UDP holds up the other one for 1.3 s at most, and not if TCP has a way without a spray", async () => {
  const scene = { a: portRestricted, b: portRestricted };
  const network = faulty("a", { lostRequests: Infinity });
  const { a, b } = await playTo({ ...scene, network });
  for (const { path, tcp, knownAtMs } of [a, b]) {
    assertEquals(path, undefined);
    assert(tcp instanceof UnreachableError);
    assert(tcp.message.includes("an external address is not known"), tcp.message);
    assert(knownAtMs! <= 1300, `${knownAtMs} ms`);
  }
  const pathKinds = new Set(["punch-tcp", "punch-udp"] as const);
  const beside = await playTo({ ...scene, network, pathKinds });
  for (const { tcp, knownAtMs } of [beside.a, beside.b]) {
    assert(!(tcp instanceof Error));
    assert(knownAtMs! <= 600, `${knownAtMs} ms`);
  }
});

Deno.test("where a port cannot be known, a side without UDP holds up a spray by TCP for 1.3 s at most", async () => {
  const pathKinds = new Set(["punch-tcp", "punch-udp"] as const);
  const scene = { a: portRestricted, b: symmetric, pathKinds };
  for (const who of ["a", "b", "both"] as const) {
    const { a, b } = await playTo({ ...scene, network: faulty(who, { lostRequests: Infinity }) });
    for (const { tcp, knownAtMs } of [a, b]) {
      assert(!(tcp instanceof Error), `${tcp}`);
      assert(knownAtMs! <= 1300, `${who}: ${knownAtMs} ms`);
    }
  }
});

Deno.test("where TCP connects, late answers over UDP change nothing: there is one path, by TCP", async () => {
  const pathKinds = new Set(["punch-tcp", "punch-udp"] as const);
  const scene = { a: portRestricted, b: portRestricted, pathKinds };
  for (const who of ["a", "b", "both"] as const) {
    for (const lateMs of [150, 250, 350, 1000]) {
      const { a, b } = await playTo({ ...scene, network: faulty(who, { lateMs }) });
      for (const { tcp, path } of [a, b]) {
        assert(!(tcp instanceof Error), `${who}, ${lateMs} ms: ${tcp}`);
        assertEquals(path, undefined);
      }
    }
  }
});

Deno.test("a spray by UDP that does not hit is not called impossible", async () => {
  const network = (inner: Network, name: "a" | "b") => name === "b" ? withStunAlone(inner) : inner;
  const { a } = await playTo({ a: portRestricted, b: symmetric, network });
  assert(a.tcp instanceof UnreachableError);
  assertEquals(
    a.tcp.message.replace(/\d+ sockets and \d+/, "N sockets and N"),
    "Cannot punch: all attempts by UDP failed (cone of unknown filtering x symmetric, random: " +
      "birthday, N sockets and N of 64512 ports)",
  );
});

/** Plays a scene. Times are since its start. */
async function playTo(scene: UdpScene, seed = 1): Promise<Readonly<Record<"a" | "b", UdpSide>>> {
  return await simulate(async ({ internet }) => {
    const { a, b, end } = await playUdp(internet, scene);
    await end();
    return { a, b };
  }, { seed, limitMs: 3_600_000 });
}

/** When both sides had the path. */
function assertConnected({ a, b }: Readonly<Record<"a" | "b", UdpSide>>): number {
  assertEquals([a.path?.kind, b.path?.kind], ["punch-udp", "punch-udp"]);
  return Math.max(a.foundAtMs!, b.foundAtMs!);
}

/** Does this to the STUN messages of one side, or both. */
function faulty(who: "a" | "b" | "both", fault: StunFault): NonNullable<UdpScene["network"]> {
  return (inner, name) => who === "both" || who === name ? withStunFault(inner, fault) : inner;
}

/** A repetition of an offer. */
const SLACK_MS = 150;
