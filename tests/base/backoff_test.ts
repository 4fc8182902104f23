import { assertEquals } from "@std/assert";
import { backoff, Repetition } from "../../lib/base/backoff.ts";

Deno.test("backoff() doubles the wait with each failure, up to the maximum", () => {
  const waits = [1, 2, 3, 4, 5, 60].map((failures) =>
    backoff({ firstMs: 500, maximumMs: 6000 }, failures)
  );
  assertEquals(waits, [500, 1000, 2000, 4000, 6000, 6000]);
});

Deno.test("backoff() uses the given factor", () => {
  const policy = { firstMs: 100, maximumMs: 1000, factor: 1.5 };
  assertEquals([1, 2, 3].map((failures) => backoff(policy, failures)), [100, 150, 225]);
});

Deno.test("backoff() stays at the maximum, however many failures there are", () => {
  assertEquals(backoff({ firstMs: 1, maximumMs: 300 }, 1e6), 300);
});

const OPTIONS = { firstWaitMs: 300, maximumWaitMs: 1000, minimumGapMs: 100 };

/** The times up to `endMs` at which a message is sent that is sent whenever it is due. */
function sendTimes(repetition: Repetition, fromMs: number, endMs: number): number[] {
  const times: number[] = [];
  for (let nowMs = fromMs; nowMs <= endMs; nowMs += 50) {
    if (nowMs < repetition.dueMs) continue;
    repetition.repeated(nowMs);
    times.push(nowMs);
  }
  return times;
}

Deno.test("Repetition is due at once, then after waits that double up to the maximum", () => {
  assertEquals(sendTimes(new Repetition(OPTIONS), 0, 4000), [0, 300, 900, 1900, 2900, 3900]);
});

Deno.test("Repetition is not due once the other side has acknowledged", () => {
  const repetition = new Repetition(OPTIONS);
  repetition.repeated(0);
  repetition.acknowledge();
  assertEquals(repetition.dueMs, Infinity);
});

Deno.test("Repetition starts over with a new version", () => {
  const repetition = new Repetition(OPTIONS);
  sendTimes(repetition, 0, 2000);
  repetition.acknowledge();
  repetition.renew();
  assertEquals(sendTimes(repetition, 2050, 2500), [2050, 2350]);
});

Deno.test("Repetition answers no more often than the gap allows", () => {
  const repetition = new Repetition(OPTIONS);
  assertEquals(repetition.mayAnswer(0), true);
  repetition.sent(0);
  assertEquals([50, 99, 100].map((nowMs) => repetition.mayAnswer(nowMs)), [false, false, true]);
});

Deno.test("an answer does not delay the next repetition", () => {
  const repetition = new Repetition(OPTIONS);
  repetition.repeated(0);
  repetition.sent(250);
  assertEquals(repetition.dueMs, 300);
});
