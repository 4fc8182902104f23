import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { EventQueue } from "../../lab/model/event_queue.ts";

Deno.test("popDue() returns events by time, in order at the same time, and none early", () => {
  const times = fc.array(fc.integer({ min: 0, max: 5 }));
  fc.assert(fc.property(times, (times) => {
    const queue = new EventQueue<number>();
    times.forEach((dueMs, index) => queue.push(dueMs, index));
    const popped: number[] = [];
    for (let nowMs = 0; nowMs <= 5; nowMs++) {
      let due = queue.popDue(nowMs);
      while (due !== undefined) {
        assertEquals(due.dueMs, nowMs);
        popped.push(due.event);
        due = queue.popDue(nowMs);
      }
    }
    const stable = times.map((_, index) => index).sort((a, b) => times[a]! - times[b]! || a - b);
    assertEquals(popped, stable);
    assertEquals([queue.size, queue.nextDueMs], [0, undefined]);
  }));
});

Deno.test("nextDueMs is the time of the next event, whenever it was pushed", () => {
  const queue = new EventQueue<string>();
  for (const dueMs of [5, 3, 9]) queue.push(dueMs, "");
  assertEquals(queue.nextDueMs, 3);
});
