import { assert, assertEquals, assertRejects } from "@std/assert";
import { NetworkError } from "../../lib/base/errors.ts";
import { MAX_SIGNAL_BYTES } from "../../lib/signal/channel.ts";
import { SeededRandomness } from "../simnet/random.ts";
import { VirtualTime } from "../simnet/virtual_time.ts";
import { type MemoryChannel, memoryChannelPair } from "./memory_channel.ts";

Deno.test("memoryChannelPair() carries copies of messages both ways, in order", async () => {
  const [a, b] = memoryChannelPair();
  const message = new Uint8Array([1, 2]);
  await a.send(message);
  message.fill(9);
  await a.send(new Uint8Array([3]));
  await b.send(new Uint8Array([4]));
  assertEquals([...await b.receive()], [1, 2]);
  assertEquals([...await b.receive()], [3]);
  assertEquals([...await a.receive()], [4]);
});

Deno.test("memoryChannelPair() delays messages and keeps their order under jitter", async () => {
  using time = new VirtualTime();
  const [a, b] = memoryChannelPair({ delayMs: 40, jitterMs: 30 });
  assertEquals(a.rttMs, 80);
  await time.run(async () => {
    await sendNumbers(a, 50);
    assertEquals(await receiveNumbers(b, 50), Array.from({ length: 50 }, (_, i) => i));
  });
  assert(time.nowMs > 40 && time.nowMs <= 70, `${time.nowMs}`);
});

Deno.test("memoryChannelPair() loses, duplicates and reorders, the same way for the same seed", async () => {
  const run = async (seed: number): Promise<number[]> => {
    using time = new VirtualTime();
    using _randomness = new SeededRandomness(7);
    const [a, b] = memoryChannelPair({
      delayMs: 20,
      loss: 0.2,
      duplication: 0.2,
      reordering: 0.2,
      seed,
    });
    return await time.run(async () => {
      await sendNumbers(a, 200);
      return await receiveUntilSilence(b);
    });
  };
  const first = await run(1);
  assertEquals(await run(1), first);
  assert((await run(2)).join() !== first.join(), "two seeds, one outcome");
  const distinct = new Set(first);
  assert(distinct.size < 190 && distinct.size > 130, `${distinct.size} of 200 arrived`);
  assert(first.length > distinct.size + 10, "too few duplicates");
  assert(first.some((number, i) => number < (first[i - 1] ?? 0)), "no message was reordered");
});

Deno.test("a closed end rejects, and what it sent before still arrives", async () => {
  using time = new VirtualTime();
  await time.run(async () => {
    const [a, b] = memoryChannelPair({ delayMs: 5 });
    const waiting = a.receive();
    await a.send(new Uint8Array([1]));
    a.close();
    a.close();
    for (const attempt of [waiting, a.receive(), a.send(new Uint8Array(1))]) {
      assertEquals((await assertRejects(() => attempt, NetworkError)).reason, "closed");
    }
    assertEquals([...await b.receive()], [1]);
  });
  assertEquals(time.pendingTimers, 0);
});

Deno.test("a broken end loses its messages on their way", async () => {
  using time = new VirtualTime();
  await time.run(async () => {
    const [a, b] = memoryChannelPair({ delayMs: 5 });
    await a.send(new Uint8Array([1]));
    a.break();
    assertEquals((await assertRejects(() => a.receive(), NetworkError)).reason, "reset");
    assertEquals(await receiveUntilSilence(b), []);
  });
});

Deno.test("send() rejects a message that is too long", async () => {
  const [a] = memoryChannelPair();
  await a.send(new Uint8Array(MAX_SIGNAL_BYTES));
  await assertRejects(() => a.send(new Uint8Array(MAX_SIGNAL_BYTES + 1)), RangeError, "4097");
});

async function sendNumbers(channel: MemoryChannel, count: number): Promise<void> {
  for (let i = 0; i < count; i++) await channel.send(new Uint8Array([i]));
}

async function receiveNumbers(channel: MemoryChannel, count: number): Promise<number[]> {
  const numbers: number[] = [];
  while (numbers.length < count) numbers.push((await channel.receive())[0]!);
  return numbers;
}

async function receiveUntilSilence(channel: MemoryChannel): Promise<number[]> {
  const numbers: number[] = [];
  const signal = AbortSignal.timeout(1000);
  try {
    while (true) numbers.push((await channel.receive({ signal }))[0]!);
  } catch (error) {
    if (error !== signal.reason) throw error;
  }
  return numbers;
}
