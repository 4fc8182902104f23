import { assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { RouterMutex } from "../../lib/portmap/race.ts";
import { VirtualTime } from "../simnet/virtual_time.ts";

Deno.test("RouterMutex runs one job at a time, in the order of the callers", async () => {
  using time = new VirtualTime();
  const mutex = new RouterMutex();
  const ends: [number, number][] = [];
  await time.run(() =>
    Promise.all([0, 1, 2].map((index) =>
      mutex.through(async () => {
        await delay(100);
        ends.push([index, performance.now()]);
      })
    ))
  );
  assertEquals(ends, [[0, 100], [1, 200], [2, 300]]);
});

Deno.test("RouterMutex lets all waiting jobs run once one has failed", async () => {
  using time = new VirtualTime();
  const mutex = new RouterMutex();
  const fail = () =>
    mutex.through(async () => {
      await delay(2000);
      throw new RangeError("silent");
    });
  await time.run(() => Promise.all(Array.from({ length: 5 }, () => assertRejects(fail))));
  assertEquals(time.nowMs, 4000);
});
