import { assertEquals } from "@std/assert";
import {
  afterAcknowledgement,
  afterChange,
  afterRepeating,
  afterSending,
  backoff,
  mayAnswer,
  type Repetition,
  startRepetition,
} from "../../lib/base/backoff.ts";

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

const START = startRepetition(OPTIONS);

/** The times up to `endMs` at which a message is sent that is sent whenever it is due. */
function sendTimes(start: Repetition, fromMs: number, endMs: number): number[] {
  const times: number[] = [];
  let repetition = start;
  for (let nowMs = fromMs; nowMs <= endMs; nowMs += 50) {
    if (nowMs < repetition.dueMs) continue;
    repetition = afterRepeating(repetition, nowMs);
    times.push(nowMs);
  }
  return times;
}

Deno.test("a message is due at once, then after waits that double up to the maximum", () => {
  assertEquals(sendTimes(START, 0, 4000), [0, 300, 900, 1900, 2900, 3900]);
});

Deno.test("a message is not due once the other side has acknowledged", () => {
  const repetition = afterRepeating(START, 0);
  assertEquals(afterAcknowledgement(repetition).dueMs, Infinity);
});

Deno.test("the waits start over with a new version", () => {
  const repetition = afterAcknowledgement(afterRepeating(START, 0));
  assertEquals(sendTimes(afterChange(repetition), 2050, 2500), [2050, 2350]);
});

Deno.test("answers are sent no more often than the gap allows", () => {
  assertEquals(mayAnswer(START, 0), true);
  const repetition = afterSending(START, 0);
  assertEquals([50, 99, 100].map((nowMs) => mayAnswer(repetition, nowMs)), [false, false, true]);
});

Deno.test("an answer does not delay the next repetition", () => {
  const repetition = afterSending(afterRepeating(START, 0), 250);
  assertEquals(repetition.dueMs, 300);
});

Deno.test("the first version of a message may be due later", () => {
  const repetition = startRepetition(OPTIONS, 500);
  assertEquals(sendTimes(repetition, 0, 1500), [500, 800, 1400]);
});
