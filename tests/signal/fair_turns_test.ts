import { assert, assertEquals } from "@std/assert";
import { FairTurns } from "../../lib/signal/rendezvous/fair_turns.ts";
import { VirtualTime } from "../simnet/virtual_time.ts";

const LIMITS = { sourceBurst: 2048, sourcePerSecond: 256 };
const HONEST = "198.51.100.1";
const OTHER_48 = "2001:db8:2::1";

Deno.test("a source that has cost little is served at once while a hundred others wait", async () => {
  using time = new VirtualTime();
  const turns = new FairTurns(LIMITS);
  for (let i = 0; i < 100; i++) useUp(turns, source(i));
  let served = 0;
  for (let i = 0; i < 100; i++) turns.run(source(i), () => ++served);
  let isServed = false;
  const honest = turns.run(HONEST, () => (isServed = true, 1));
  assertEquals([isServed, served], [true, 0]);
  await honest;
  await time.run(new Promise((resolve) => setTimeout(resolve, 60_000)));
  assertEquals(served, 100);
  turns.close();
});

Deno.test("sources with high debts share what sixteen may cost, and one alone has its full rate", async () => {
  for (const [count, perSecond] of [[1, 256], [16, 256], [64, 64], [256, 16]] as const) {
    using time = new VirtualTime();
    const turns = new FairTurns(LIMITS);
    const costs = Array.from({ length: count }, (_, i) => {
      useUp(turns, source(i));
      return 0;
    });
    const flood = async (i: number) => {
      while (time.nowMs < 20_000) await turns.run(source(i), () => (costs[i]! += 1, 1));
    };
    await time.run(Promise.all(costs.map((_, i) => flood(i))));
    for (const cost of costs) {
      assert(Math.abs(cost / 20 - perSecond) <= 0.05 * perSecond + 2, `${count}: ${cost / 20}`);
    }
    turns.close();
  }
});

Deno.test("a source that stops is served at once again when it has paid off its debt", async () => {
  using time = new VirtualTime();
  const turns = new FairTurns(LIMITS);
  useUp(turns, source(0));
  assert(!turns.admits(source(0)));
  await time.run(new Promise((resolve) => setTimeout(resolve, 10_000)));
  let isServed = false;
  turns.run(source(0), () => (isServed = true, 1));
  assert(isServed);
});

Deno.test("a source that may be served does not wait for the end of a pause that others have to make", async () => {
  using time = new VirtualTime();
  const turns = new FairTurns(LIMITS);
  turns.charge(HONEST, LIMITS.sourceBurst / 4); // so that it may have to wait
  for (let i = 0; i < 100; i++) {
    useUp(turns, source(i));
    turns.run(source(i), () => 1);
  }
  await time.run(new Promise((resolve) => setTimeout(resolve, 1)));
  const startMs = time.nowMs;
  await time.run(turns.run(HONEST, () => 1));
  assert(time.nowMs - startMs < 2, `${time.nowMs - startMs} ms`);
  turns.close();
});

Deno.test("while many sources share what sixteen may cost, one with a low debt pays it off at its full rate", async () => {
  using time = new VirtualTime();
  const turns = new FairTurns(LIMITS);
  turns.charge(HONEST, 768);
  for (let i = 0; i < 128; i++) useUp(turns, source(i));
  const flood = async (i: number) => {
    while (time.nowMs < 4000) await turns.run(source(i), () => 1);
  };
  const flooding = Array.from({ length: 128 }, (_, i) => flood(i));
  await time.run(new Promise((resolve) => setTimeout(resolve, 3000)));
  let isServed = false;
  turns.run(HONEST, () => (isServed = true, 1));
  assert(isServed);
  await time.run(Promise.all(flooding));
  turns.close();
});

Deno.test("a job that would wait longer than it may does not run", async () => {
  using time = new VirtualTime();
  const turns = new FairTurns(LIMITS);
  useUp(turns, source(0));
  turns.charge(source(0), 1);
  let runs = 0;
  const first = turns.run(source(0), () => (runs++, 2560), 1000); // ten seconds' worth
  const late = turns.run(source(0), () => (runs++, 1), 1000);
  assertEquals(await time.run(Promise.all([first, late])), [true, false]);
  assertEquals(runs, 1);
  assert(time.nowMs >= 1000 && time.nowMs < 1100, `${time.nowMs} ms`);
  turns.close();
});

Deno.test("a storm from many /64s of one /48 slows down that /48, and others are served at once", async () => {
  using time = new VirtualTime();
  const turns = new FairTurns(LIMITS);
  let admitted = 0;
  for (let i = 0; i < 20_000; i++) if (turns.charge(networkOf48(i), 16)) admitted++;
  assert(admitted * 16 <= 4 * LIMITS.sourceBurst + 64, `${admitted} connections`);
  assert(!turns.admits(networkOf48(30_000)));

  let stormed = 0;
  for (let i = 0; i < 1000; i++) turns.run(networkOf48(30_000 + i), () => (stormed++, 1));
  const served: string[] = [];
  for (const ip of [HONEST, OTHER_48]) {
    assert(turns.charge(ip, 16));
    turns.run(ip, () => (served.push(ip), 1));
  }
  assertEquals([served, stormed], [[HONEST, OTHER_48], 0]);

  await time.run(new Promise((resolve) => setTimeout(resolve, 20_000)));
  assertEquals(stormed, 1000);
  assert(turns.admits(networkOf48(30_000)));
  turns.close();
});

Deno.test("a waiting client of another /48 is served before the rest of a storm", async () => {
  using time = new VirtualTime();
  const turns = new FairTurns(LIMITS);
  turns.charge(OTHER_48, LIMITS.sourceBurst / 4); // so that it has to wait
  for (let i = 0; i < 300; i++) turns.charge(networkOf48(i), 16);
  useUp(turns, source(0));
  turns.run(source(0), () => 1); // so that all have to wait
  const order: string[] = [];
  const storm = Array.from(
    { length: 10 },
    (_, i) => turns.run(networkOf48(1000 + i), () => (order.push("storm"), 1)),
  );
  const other = turns.run(OTHER_48, () => (order.push("other"), 1));
  await time.run(Promise.all([...storm, other]));
  assertEquals(order, ["other", ...storm.map(() => "storm")]);
  turns.close();
});

Deno.test("an IPv6 /56 may cost twice as much as a /64, and a /48 four times", () => {
  using _time = new VirtualTime();
  for (const [networks, share] of [[1, 1], [256, 2], [65_536, 4]] as const) {
    const turns = new FairTurns(LIMITS);
    let cost = 0;
    for (let i = 0; i < 2000; i++) {
      if (turns.charge(networkOf48(i * 257 % networks), 16)) cost += 16;
    }
    const most = share * LIMITS.sourceBurst;
    assert(cost > most && cost <= most + 64, `${networks} networks: ${cost}`);
  }
});

Deno.test("each job ends when it has waited too long, also behind one that may wait longer", async () => {
  using time = new VirtualTime();
  const turns = new FairTurns(LIMITS);
  turns.charge(source(0), LIMITS.sourceBurst);
  turns.charge(source(0), 2560); // ten seconds' worth
  const patient = turns.run(source(0), () => 1, 60_000);
  const hasty = turns.run(source(0), () => 1, 1000);
  assertEquals(await time.run(hasty), false);
  assert(time.nowMs >= 1000 && time.nowMs < 1100, `${time.nowMs} ms`);
  assertEquals(await time.run(patient), true);
  turns.close();
});

Deno.test("the memory for debts is bounded: beyond 32,768, the oldest is forgotten", () => {
  using _time = new VirtualTime();
  const turns = new FairTurns(LIMITS);
  useUp(turns, source(0));
  const charge = (from: number, to: number) => {
    for (let i = from; i < to; i++) turns.charge(`10.1.${i >> 8}.${i & 255}`, 16);
  };
  charge(0, 32_767);
  assert(!turns.admits(source(0)));
  charge(32_767, 32_768);
  assert(turns.admits(source(0)));
});

/** Leaves the source with a debt of its burst and a bit more. */
function useUp(turns: FairTurns, ip: string): void {
  while (turns.charge(ip, 16));
}

function source(i: number): string {
  return `192.0.2.${1 + i % 250}`.replace("192.0", `192.${Math.floor(i / 250)}`);
}

/** An address in one of the 65,536 /64s of a /48. */
function networkOf48(i: number): string {
  return `2001:db8:1:${i.toString(16)}::1`;
}
