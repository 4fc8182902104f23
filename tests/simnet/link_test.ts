import { assert, assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import { Link, type LinkBehavior } from "./link.ts";
import { labelledRandom } from "./random.ts";
import { VirtualTime } from "./virtual_time.ts";

Deno.test("each direction of a link has its own delay", async () => {
  using time = new VirtualTime();
  const link = makeLink({ delayMs: 10, up: { delayMs: 40 } });
  const arrivedMs: number[] = [];
  link.up.carry(() => arrivedMs.push(time.nowMs));
  link.down.carry(() => arrivedMs.push(time.nowMs));
  await time.run(() => delay(100));
  assertEquals(arrivedMs, [10, 40]);
});

Deno.test("a link without delay delivers at once", () => {
  let arrived = 0;
  assert(makeLink({}).up.carry(() => arrived++));
  assertEquals(arrived, 1);
});

Deno.test("jitter delays by up to its limit and keeps the order", async () => {
  const arrivals = await send(1000, { delayMs: 10, jitterMs: 20 });
  assertEquals(arrivals.map(({ index }) => index), [...Array(1000).keys()]);
  const late = arrivals.map(({ index, atMs }) => atMs - index);
  assert(late.every((ms) => ms >= 10 && ms < 30));
  assert(Math.max(...late) > 29 && Math.min(...late) < 20);
});

Deno.test("loss and duplication happen as often as configured", async () => {
  const lost = await send(10_000, { loss: 0.05 });
  assert(Math.abs(lost.length - 9500) < 100, `${lost.length} arrived`);
  const doubled = await send(10_000, { duplication: 0.1 });
  assert(Math.abs(doubled.length - 11_000) < 150, `${doubled.length} arrived`);
  assertEquals(await send(100, { loss: 1 }), []);
});

Deno.test("reordering holds a packet back while later ones pass", async () => {
  const arrivals = await send(1000, { delayMs: 5, reordering: 0.1, reorderingMs: 3.5 });
  assertEquals(arrivals.length, 1000);
  const heldBack = arrivals.filter(({ index, atMs }) => atMs - index > 5);
  assert(heldBack.every(({ index, atMs }) => atMs - index === 8.5));
  assert(Math.abs(heldBack.length - 100) < 40, `${heldBack.length} held back`);
});

Deno.test("packets sent during an outage are lost", async () => {
  const arrivals = await send(100, { delayMs: 5, outages: [[10, 19], [50, Infinity]] });
  const expected = [...Array(50).keys()].filter((index) => index < 10 || index > 19);
  assertEquals(arrivals.map(({ index }) => index), expected);
});

Deno.test("the same seed loses the same packets, and another seed loses others", async () => {
  const behavior = { delayMs: 5, jitterMs: 5, loss: 0.3, duplication: 0.1, reordering: 0.1 };
  const first = await send(200, behavior, 1);
  assertEquals(await send(200, behavior, 1), first);
  assert(JSON.stringify(await send(200, behavior, 2)) !== JSON.stringify(first));
});

/** Sends a packet each millisecond, and returns which arrived when. */
async function send(
  count: number,
  behavior: LinkBehavior,
  seed = 1,
): Promise<{ index: number; atMs: number }[]> {
  using time = new VirtualTime();
  const { up } = makeLink(behavior, seed);
  const arrivals: { index: number; atMs: number }[] = [];
  await time.run(async () => {
    for (let index = 0; index < count; index++) {
      up.carry(() => arrivals.push({ index, atMs: time.nowMs }));
      await delay(1);
    }
    await delay(100);
  });
  return arrivals;
}

function makeLink(behavior: LinkBehavior, seed = 1): Link {
  return new Link(behavior, (direction) => labelledRandom(seed, direction));
}
