import { assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { Turns } from "../../lib/portmap/race.ts";
import { VirtualTime } from "../simnet/virtual_time.ts";

Deno.test("Turns run one job at a time, in the order of their callers", async () => {
  using time = new VirtualTime();
  const turns = new Turns();
  const ends: [number, number][] = [];
  await time.run(() =>
    Promise.all([0, 1, 2].map((index) =>
      turns.take(async () => {
        await delay(100);
        ends.push([index, performance.now()]);
      })
    ))
  );
  assertEquals(ends, [[0, 100], [1, 200], [2, 300]]);
});

Deno.test("Turns let everybody go once a job has failed", async () => {
  using time = new VirtualTime();
  const turns = new Turns();
  const fail = () =>
    turns.take(async () => {
      await delay(2000);
      throw new RangeError("silent");
    });
  await time.run(() => Promise.all(Array.from({ length: 5 }, () => assertRejects(fail))));
  assertEquals(time.nowMs, 4000);
});
