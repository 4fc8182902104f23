import { assertEquals } from "@std/assert";
import { IoPause } from "../../lib/signal/rendezvous/io_pause.ts";
import { VirtualTime } from "../simnet/virtual_time.ts";

Deno.test("IoPause: all pause together once they have been busy for long enough, and then again as late", async () => {
  using time = new VirtualTime();
  const pause = new IoPause();
  const wait = (ms: number) => time.run(new Promise((resolve) => setTimeout(resolve, ms)));
  assertEquals(pause.ifDue(), undefined);
  await wait(49);
  assertEquals(pause.ifDue(), undefined);
  await wait(1);
  const first = pause.ifDue();
  assertEquals(first instanceof Promise, true);
  assertEquals(pause.ifDue(), first);
  await time.run(first!);
  assertEquals(pause.ifDue(), undefined);
  await wait(50);
  assertEquals(pause.ifDue() instanceof Promise, true);
  await time.run(pause.ifDue()!);
});
