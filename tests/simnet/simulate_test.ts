import { assert, assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { simulate } from "./simulate.ts";

Deno.test("simulate() returns the job's result, in virtual time", async () => {
  const result = await simulate(async ({ internet, time }) => {
    using _socket = await internet.host("a").network.bindUdp({ ip: "0.0.0.0", port: 0 });
    await delay(1000);
    return time.nowMs;
  });
  assertEquals(result, 1000);
});

Deno.test("simulate() rejects a job that leaves a socket open, and names the socket", async () => {
  const error = await assertRejects(() =>
    simulate(({ internet }) => internet.host("a").network.bindUdp({ ip: "0.0.0.0", port: 5 }))
  );
  assert(error.message.includes("a: UDP 0.0.0.0:5"), error.message);
});

Deno.test("simulate() produces the same randomness for the same seed, and different for another", async () => {
  const draw = (seed: number) =>
    simulate(async ({ internet }) => {
      const { network } = internet.host("a");
      using socket = await network.bindUdp({ ip: "0.0.0.0", port: 0 });
      return [Math.random(), socket.local.port, crypto.getRandomValues(new Uint8Array(2)).join()];
    }, { seed });
  const first = await draw(1);
  assertEquals(await draw(1), first);
  const second = await draw(2);
  assert(second.every((value, index) => value !== first[index]), `${first} ${second}`);
});

Deno.test("simulate() gives up on a job that takes too long", async () => {
  await assertRejects(
    () => simulate(() => delay(5000), { limitMs: 1000 }),
    Error,
    "more than 1000 ms",
  );
});
