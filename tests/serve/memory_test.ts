import { delay } from "@std/async/delay";
import { assertEquals } from "@std/assert";
import { watchMemory } from "../../lib/serve/memory.ts";
import { VirtualTime } from "../simnet/virtual_time.ts";

Deno.test("watchMemory() collects during a flood, once after it, and never after it is disposed", async () => {
  using time = new VirtualTime();
  let connections = 0;
  const collected: string[] = [];
  const watch = watchMemory({
    connections: () => connections,
    collect: (what) => collected.push(what),
  });
  const flood = async () => {
    for (let i = 0; i < 10; i++) {
      connections += 5000;
      await delay(1000);
    }
  };
  await time.run(flood());
  const during = collected.length;
  assertEquals(collected, Array.from({ length: during }, () => "garbage"));
  assertEquals(during >= 4 && during <= 10, true);
  await time.run(delay(60_000));
  assertEquals(collected.slice(during), ["everything"]);
  watch[Symbol.dispose]();
  await time.run(flood());
  assertEquals(collected.length, during + 1);
});
