import { assert, assertEquals, assertRejects } from "@std/assert";
import { WakeableDelay } from "../../lib/base/timers.ts";
import { VirtualTime } from "../simnet/virtual_time.ts";

Deno.test("WakeableDelay waits for the given time", async () => {
  using time = new VirtualTime();
  const started = performance.now();
  const waited = new WakeableDelay().wait(500).then(() => performance.now() - started);
  await time.run(waited);
  assertEquals(await waited, 500);
});

Deno.test("wake() ends the pending wait", async () => {
  const delay = new WakeableDelay();
  const waited = delay.wait(Infinity);
  delay.wake();
  await waited;
});

Deno.test("wake() before a wait ends the next one at once, and only that", async () => {
  using time = new VirtualTime();
  const delay = new WakeableDelay();
  delay.wake();
  await delay.wait(Infinity);
  const started = performance.now();
  await time.run(delay.wait(100));
  assertEquals(performance.now() - started, 100);
});

Deno.test("WakeableDelay rejects with the reason of an abort, and leaves no timer", async () => {
  const aborting = new AbortController();
  const waited = new WakeableDelay().wait(60_000, aborting.signal);
  aborting.abort(new Error("enough"));
  await assertRejects(() => waited, Error, "enough");
  await assertRejects(() => new WakeableDelay().wait(1, aborting.signal), Error, "enough");
});

Deno.test("WakeableDelay waits longer than the platform's timers can at once", async () => {
  const delay = new WakeableDelay();
  let isOver = false;
  const waited = delay.wait(2 ** 40).then(() => isOver = true);
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert(!isOver);
  delay.wake();
  await waited;
});
