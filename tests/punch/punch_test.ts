import { assert, assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { NetworkError, UnreachableError } from "../../lib/base/errors.ts";
import { preparePunch, punch, type PunchedConn } from "../../lib/punch/punch.ts";
import { NAT_BEHAVIORS, type NatBehavior, natBehavior } from "../../lab/model/nat_behavior.ts";
import { memoryChannelPair } from "../signal/memory_channel.ts";
import { simulate } from "../simnet/simulate.ts";
import { play, type Scene, type SceneResult } from "../scenes/punch_scene.ts";

const resetting = natBehavior({ unsolicitedSyn: "reset" });
const sequential = (delta: number) =>
  natBehavior({ allocation: { kind: "sequential", delta } }, NAT_BEHAVIORS.symmetric);

const NATS: Record<string, NatBehavior> = {
  ...NAT_BEHAVIORS,
  resetting,
  resettingAndClosing: natBehavior({ resetEndsMapping: true }, resetting),
  block: natBehavior({ portRange: [20_000, 21_023] }, NAT_BEHAVIORS.symmetric),
  minusOne: sequential(-1),
  plusTwo: sequential(2),
  plusThree: sequential(3),
};
const SYMMETRIC = [
  "symmetricSequential",
  "symmetricPreserving",
  "minusOne",
  "plusTwo",
  "plusThree",
];
const RANDOM = ["symmetric", "block"];

for (const reusePort of [true, false]) {
  for (const a of Object.keys(NATS)) {
    Deno.test(`punch() connects every pair of NATs that can be punched, from ${a}, ${reusePort ? "with" : "without"} a shared port`, async () => {
      for (const b of Object.keys(NATS)) {
        const isHopeless = RANDOM.includes(a) && [...SYMMETRIC, ...RANDOM].includes(b) ||
          RANDOM.includes(b) && [...SYMMETRIC, ...RANDOM].includes(a);
        const result = await playTo({ a: NATS[a]!, b: NATS[b]!, reusePort });
        if (isHopeless) assertImpossible(result, `${a} x ${b}`);
        else assertSame(result, `${a} x ${b}`);
      }
    });
  }
}

for (const rttMs of [20, 80, 200]) {
  for (const skewMs of [0, 1000, 10_000]) {
    Deno.test(`punch() takes one round trip of ${rttMs} ms if both NATs drop, ${skewMs} ms apart`, async () => {
      for (const a of ["addressRestricted", "portRestricted", "firewall"]) {
        for (const b of ["fullCone", "portRestricted"]) {
          const result = await playTo({ a: NATS[a]!, b: NATS[b]!, rttMs, skewMs, isWarm: true });
          const [one, other] = assertSame(result, `${a} x ${b}`);
          const laterMs = Math.min(one.punch.connectMs, other.punch.connectMs);
          assert(laterMs <= rttMs + 20, `${a} x ${b}: ${laterMs} ms`);
        }
      }
    });

    Deno.test(`punch() takes at most two round trips of ${rttMs} ms if a NAT resets, ${skewMs} ms apart`, async () => {
      for (const [a, b] of RESETTING_PAIRS) {
        const result = await playTo({ a, b, rttMs, skewMs, isWarm: true });
        const [one, other] = assertSame(result, `${a.unsolicitedSyn} x ${b.unsolicitedSyn}`);
        const laterMs = Math.min(one.punch.connectMs, other.punch.connectMs);
        assert(laterMs <= 2 * rttMs + 50, `${laterMs} ms`);
      }
    });
  }
}

const RESETTING_PAIRS: readonly (readonly [NatBehavior, NatBehavior])[] = [
  [resetting, NATS.portRestricted!],
  [NATS.portRestricted!, resetting],
  [resetting, resetting],
  [NATS.resettingAndClosing!, NATS.resettingAndClosing!],
];

Deno.test("punch() takes 240 ms with a prepared base socket, 51 ms of signaling and 82 ms between the NATs", async () => {
  const { portRestricted: a } = NAT_BEHAVIORS;
  const { doneMs } = await playTo({ a, b: a, rttMs: 82, signalRttMs: 51, isWarm: true });
  assert(doneMs <= 240, `${doneMs} ms`);
});

Deno.test("punch() takes 360 ms without a prepared base socket", async () => {
  const { portRestricted: a } = NAT_BEHAVIORS;
  const { doneMs } = await playTo({ a, b: a, rttMs: 82, signalRttMs: 51 });
  assert(doneMs <= 360, `${doneMs} ms`);
});

for (const warmForMs of [20_000, 100_000, 1_000_000]) {
  Deno.test(`punch() needs one round with a base socket prepared ${warmForMs / 1000} s before`, async () => {
    const a = natBehavior({ allocation: { kind: "random" }, resetEndsMapping: true });
    const result = await playTo({ a, b: a, isWarm: true, warmForMs });
    for (const { punch: report } of assertSame(result, "")) assertEquals(report.rounds, 1);
  });
}

Deno.test("punch() succeeds although every link loses one packet in twenty", async () => {
  for (let seed = 1; seed <= 30; seed++) {
    const { portRestricted: a } = NAT_BEHAVIORS;
    const result = await playTo({ a, b: a, link: { loss: 0.05, jitterMs: 30 } }, seed);
    assertSame(result, `seed ${seed}`);
  }
});

Deno.test("punch() reports its plan, attempts and times", async () => {
  const { a } = await playTo({ a: NAT_BEHAVIORS.portRestricted, b: NAT_BEHAVIORS.portRestricted });
  const { punch: report, localAddr, remoteAddr } = a as PunchedConn;
  assertEquals([report.plan.method, report.rounds], ["simultaneous-open", 1]);
  const connected = report.attempts.filter(({ outcome }) => outcome === "connected");
  assertEquals(connected.map(({ local, remote }) => [local, remote]), [[
    `${localAddr.hostname}:${localAddr.port}`,
    `${remoteAddr.hostname}:${remoteAddr.port}`,
  ]]);
  assert(report.connectMs <= report.punchMs && report.punchMs <= report.elapsedMs);
  JSON.stringify(report);
});

Deno.test("punch() gives both ends the same channel binding, and each connection a different one", async () => {
  const bindings: string[] = [];
  for (const seed of [1, 2]) {
    const { portRestricted } = NAT_BEHAVIORS;
    const { a, b } = await playTo({ a: portRestricted, b: portRestricted }, seed);
    const [one, other] = [a as PunchedConn, b as PunchedConn];
    assertEquals(one.punch.channelBinding, other.punch.channelBinding);
    assertEquals(one.punch.channelBinding.length, 32);
    bindings.push(one.punch.channelBinding.join());
  }
  assertEquals(new Set(bindings).size, 2);
});

Deno.test("punch() records one connected attempt after a birthday attempt", async () => {
  const { a, b } = await playTo({ a: NAT_BEHAVIORS.portRestricted, b: NATS.block! });
  for (const { punch: report } of [a, b] as PunchedConn[]) {
    assertEquals(report.attempts.filter(({ outcome }) => outcome === "connected").length, 1);
  }
});

Deno.test("punch() says that the other side sent nothing", () =>
  simulate(async ({ internet, time }) => {
    const { network } = internet.host("a");
    const [channel] = memoryChannelPair();
    const error = await assertRejects(
      () => punch({ network, channel, role: "controlling", servers: [], timeoutMs: 5000 }),
      UnreachableError,
    );
    assertEquals(
      error.message,
      "Cannot punch: no connection within 5 s (the other side sent nothing)",
    );
    assertEquals(error.attempts, []);
    assertEquals(Math.round(time.nowMs), 5000);
    assertEquals(time.pendingTimers, 0);
  }));

Deno.test("punch() reports its plan and its attempts on a timeout", () =>
  simulate(async ({ internet }) => {
    const { portRestricted: a } = NAT_BEHAVIORS;
    // The peer vanishes right after its offer.
    const { a: error } = await play(internet, {
      a,
      b: a,
      isWarm: true,
      abortMs: { b: 30 },
      options: { timeoutMs: 5000 },
    });
    assert(error instanceof UnreachableError);
    assert(error.message.includes("within 5 s (port-restricted x"), error.message);
    const [dial] = error.attempts;
    assertEquals([dial!.kind, dial!.method], ["punch-tcp", "simultaneous-open"]);
    assert(dial!.tries > 0);
  }));

Deno.test("punch() fails if the channel breaks, before and after the offers", async () => {
  for (const atMs of [50, 300]) {
    await simulate(async ({ internet }) => {
      const { network } = internet.host("a");
      const [channel, other] = memoryChannelPair({ delayMs: 10 });
      setTimeout(() => channel.break(), atMs);
      const error = await assertRejects(
        () => punch({ network, channel, role: "controlling", servers: [] }),
        NetworkError,
      );
      assertEquals(error.reason, "reset");
      other.close();
    });
  }
});

Deno.test("punch() fails on both sides if they have the same role", () =>
  simulate(async ({ internet }) => {
    const channels = memoryChannelPair({ delayMs: 10 });
    const sides = channels.map((channel, index) =>
      punch({
        network: internet.host(`${index}`).network,
        channel,
        role: "controlling",
        servers: [],
      })
    );
    const errors = await Promise.allSettled(sides);
    for (const settled of errors) {
      assert(settled.status === "rejected");
      assert(settled.reason instanceof UnreachableError);
      assert(settled.reason.message.includes("both sides are controlling"));
    }
  }));

Deno.test("punch() rejects with the reason of its signal, and leaves nothing open, at every moment", async () => {
  const reason = new Error("enough");
  for (let atMs = 0; atMs < 400; atMs += 7) {
    await simulate(async ({ internet, time }) => {
      const { portRestricted: a } = NAT_BEHAVIORS;
      const controller = new AbortController();
      setTimeout(() => controller.abort(reason), atMs);
      const result = await play(internet, { a, b: a, options: { signal: controller.signal } });
      for (const side of [result.a, result.b]) {
        if (side instanceof Error) assertEquals(side, reason);
        else side.reset();
      }
      await delay(20_000); // half-open sockets time out
      assertEquals(time.pendingTimers, 0, `aborted at ${atMs} ms`);
    });
  }
});

Deno.test("punch() disposes of the base socket it is given, even if it is aborted before it starts", () =>
  simulate(async ({ internet }) => {
    const { network } = internet.host("a");
    const base = await preparePunch({ network, servers: [] });
    const [channel] = memoryChannelPair();
    const signal = AbortSignal.abort(new Error("never"));
    await assertRejects(
      () => punch({ network, channel, role: "controlling", base, signal }),
      Error,
      "never",
    );
  }));

Deno.test("a base socket does not wait for a name server that is silent", () =>
  simulate(async ({ internet, time }) => {
    const { network } = internet.host("a");
    await using base = await preparePunch({ network, servers: ["stun.example", "192.0.2.1"] });
    assertEquals(base.description.candidates.map(({ kind }) => kind), ["host"]);
    assert(time.nowMs < 10_000, `it took ${time.nowMs} ms of virtual time`);
  }, { resolveMs: 60_000 }));

Deno.test("a base socket waits a moment for the names that are left once two are resolved", () =>
  simulate(async ({ internet, time }) => {
    const { network } = internet.host("a");
    const prepareMs = async (servers: readonly string[]) => {
      const startMs = time.nowMs;
      await using _base = await preparePunch({ network, servers });
      return time.nowMs - startMs;
    };
    const silentMs = await prepareMs(["192.0.2.1", "stun.example"]);
    const enoughMs = await prepareMs(["192.0.2.1", "192.0.2.2", "stun.example"]);
    assertEquals(silentMs - enoughMs, 2000 - 250);
  }, { resolveMs: 60_000 }));

/** Plays a scene and closes its connections. */
async function playTo(scene: Scene, seed = 1): Promise<SceneResult> {
  return await simulate(async ({ internet }) => {
    const result = await play(internet, scene);
    for (const side of [result.a, result.b]) if (!(side instanceof Error)) side.close();
    return result;
  }, { seed });
}

function assertSame({ a, b }: SceneResult, what: string): [PunchedConn, PunchedConn] {
  for (const side of [a, b]) if (side instanceof Error) throw new Error(what, { cause: side });
  return [a as PunchedConn, b as PunchedConn];
}

function assertImpossible({ a, b }: SceneResult, what: string): void {
  for (const side of [a, b]) {
    assert(side instanceof UnreachableError && side.message.includes("impossible"), what);
    assertEquals(side.attempts, []);
  }
}
