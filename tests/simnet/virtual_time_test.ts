import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertLess,
  assertLessOrEqual,
  assertRejects,
  assertStrictEquals,
} from "@std/assert";
import { delay } from "@std/async/delay";
import { labelledRandom, randomInteger } from "./random.ts";
import { TimerQueue } from "./timer_queue.ts";
import { VirtualTime } from "./virtual_time.ts";

Deno.test("VirtualTime lets an hour pass without waiting for it", async () => {
  const realStart = performance.now();
  using time = new VirtualTime();
  await time.run(() => delay(3_600_000));
  assertEquals(time.nowMs, 3_600_000);
  time[Symbol.dispose]();
  assertLess(performance.now() - realStart, 60_000);
});

Deno.test("VirtualTime fires timers by due time, then in the order they were set", async () => {
  using time = new VirtualTime();
  const fired: string[] = [];
  setTimeout(() => fired.push("c"), 20);
  setTimeout(() => fired.push("a"), 10);
  setTimeout((name: string) => fired.push(name), 10, "b");
  await time.run(() => delay(30));
  assertEquals(fired, ["a", "b", "c"]);
});

Deno.test("VirtualTime stands still while promises settle", async () => {
  using time = new VirtualTime();
  await time.run(async () => {
    setTimeout(() => {}, 1);
    for (let i = 0; i < 1000; i++) await Promise.resolve();
    assertEquals(performance.now(), 0);
  });
});

Deno.test("VirtualTime runs everything that one timer wakes before the next timer", async () => {
  using time = new VirtualTime();
  const seen: string[] = [];
  const wait = async (name: string) => {
    await delay(5);
    for (let i = 0; i < 10; i++) await Promise.resolve();
    seen.push(name);
  };
  setTimeout(() => seen.push("third"), 5);
  await time.run(() => Promise.all([wait("first"), wait("second")]).then(() => delay(1)));
  assertEquals(seen, ["third", "first", "second"]);
});

Deno.test("VirtualTime does not fire cleared timers", async () => {
  using time = new VirtualTime();
  const fired: string[] = [];
  const cleared = setTimeout(() => fired.push("cleared"), 10);
  setTimeout(() => clearTimeout(cleared), 5);
  await time.run(() => delay(20));
  assertEquals(fired, []);
  assertEquals(time.pendingTimers, 0);
});

Deno.test("VirtualTime repeats an interval until it is cleared, even by its own callback", async () => {
  using time = new VirtualTime();
  const at: number[] = [];
  const interval = setInterval(() => {
    at.push(performance.now());
    if (at.length === 3) clearInterval(interval);
  }, 7);
  await time.run(() => delay(100));
  assertEquals(at, [7, 14, 21]);
});

Deno.test("VirtualTime waits a millisecond for a timer without delay", async () => {
  using time = new VirtualTime();
  await time.run(() => new Promise<void>((resolve) => setTimeout(resolve)));
  assertEquals(time.nowMs, 1);
});

Deno.test("AbortSignal.timeout() aborts in virtual time, with the platform's reason", async () => {
  using time = new VirtualTime();
  const signal = AbortSignal.any([AbortSignal.timeout(500)]);
  const error = await time.run(() => assertRejects(() => delay(1000, { signal }), DOMException));
  assertStrictEquals(error, signal.reason);
  assertEquals(error.name, "TimeoutError");
  assertEquals(time.nowMs, 500);
});

Deno.test("Date shows virtual time, and otherwise works as usual", async () => {
  using time = new VirtualTime();
  const start = Date.now();
  await time.run(() => delay(1500));
  assertEquals(Date.now() - start, 1500);
  assertEquals(new Date().getTime(), Date.now());
  assertInstanceOf(new Date(), Date);
  assertEquals(new Date(2001, 1, 3).getFullYear(), 2001);
  assertEquals(new Date("2001-02-03T00:00:00Z").toISOString(), "2001-02-03T00:00:00.000Z");
});

Deno.test("VirtualTime restores the platform's clock", () => {
  const platform = () => [
    setTimeout,
    clearTimeout,
    setInterval,
    clearInterval,
    Date,
    performance.now,
    AbortSignal.timeout,
  ];
  const before = platform();
  const time = new VirtualTime();
  assert(platform().every((value, index) => value !== before[index]));
  time[Symbol.dispose]();
  time[Symbol.dispose]();
  platform().forEach((value, index) => assertStrictEquals(value, before[index]));
});

Deno.test("run() rejects if the job waits and no timer is left", async () => {
  using time = new VirtualTime();
  setTimeout(() => {}, 25);
  await assertRejects(
    () => time.run(new Promise(() => {})),
    Error,
    "Cannot continue at 25 ms: the job waits and no timer is left",
  );
});

Deno.test("run() rejects if the job takes more virtual time than allowed", async () => {
  using time = new VirtualTime();
  setInterval(() => {}, 1000);
  await assertRejects(
    () => time.run(new Promise(() => {}), { limitMs: 5500 }),
    Error,
    "Cannot continue at 5000 ms: the job takes more than 5500 ms",
  );
});

Deno.test("run() settles like the job", async () => {
  using time = new VirtualTime();
  assertEquals(await time.run(delay(5).then(() => "done")), "done");
  const failure = new Error("failed");
  const error = await assertRejects(() => time.run(() => Promise.reject(failure)));
  assertStrictEquals(error, failure);
});

Deno.test("run() rejects with the error that a timer throws", async () => {
  using time = new VirtualTime();
  setTimeout(() => {
    throw new RangeError("thrown by a timer");
  }, 5);
  await assertRejects(() => time.run(delay(10)), RangeError, "thrown by a timer");
});

Deno.test("TimerQueue keeps ten thousand timers in order", () => {
  const random = labelledRandom(7, "timers");
  const queue = new TimerQueue();
  const due = Array.from({ length: 10_000 }, () => randomInteger(random, 0, 500));
  const ids = due.map((dueMs) => queue.add({ dueMs, run: () => {} }));
  for (const id of ids.filter((_, index) => index % 3 === 0)) queue.delete(id);
  const fired: [number, number][] = [];
  for (let untilMs = 0; untilMs <= 500; untilMs += 50) {
    for (let next = queue.takeDue(untilMs); next; next = queue.takeDue(untilMs)) {
      assertLessOrEqual(next.dueMs, untilMs);
      fired.push([next.dueMs, next.id]);
    }
  }
  const expected = ids.map((id, index): [number, number] => [due[index]!, id])
    .filter((_, index) => index % 3 !== 0)
    .sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  assertEquals(fired, expected);
});
