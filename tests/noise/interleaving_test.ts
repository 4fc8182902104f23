/**
 * Reads, writes and ends in every order, over streams that accept partial writes.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { concat, equalBytes } from "../../lib/base/bytes.ts";
import { assertNetworkError } from "../simnet/fixtures.ts";
import { type MemoryConnection, pattern, readBytes, securedPair } from "./pair.ts";

Deno.test("writes of any size and timing arrive complete, in order and with their end", async () => {
  const size = fc.constantFrom(0, 1, 16, 2030, 2031, 65_518, 65_519, 65_520, 131_038, 400_000);
  const step = fc.record({ size, isAwaited: fc.boolean(), pause: fc.nat(24) });
  const slowness = fc.array(fc.record({ part: fc.constantFrom(1, 0.3, 1), pause: fc.nat(12) }), {
    minLength: 1,
    maxLength: 6,
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 10 }), slowness, async (steps, slow) => {
      using pair = await securedPair();
      makeSlow(pair.clientStream, slow);
      const received = Array.fromAsync(pair.server.readable);
      const sent = pattern(steps.reduce((sum, { size }) => sum + size, 0));
      const writes: Promise<number>[] = [];
      let offset = 0;
      for (const { size, isAwaited, pause } of steps) {
        const write = pair.client.write(sent.subarray(offset, offset += size));
        writes.push(write);
        if (isAwaited) await write;
        await microtasks(pause);
      }
      await pair.client.closeWrite();
      await Promise.all(writes);
      assert(equalBytes(concat(...await received), sent));
    }),
    { numRuns: 100 },
  );
});

Deno.test("the rest of a partial write follows it", async () => {
  using pair = await securedPair();
  makeSlow(pair.clientStream, [{ part: 0.3, pause: 0 }]);
  const received = readBytes(pair.server);
  await pair.client.write(pattern(300_000));
  await pair.client.closeWrite();
  assertEquals(await received, pattern(300_000));
});

Deno.test("a long record can be read in parts, by read() and then by readable", async () => {
  using pair = await securedPair();
  await pair.client.write(pattern(60_000));
  await pair.client.closeWrite();
  const parts = [await readBytes(pair.server, 1000), await readBytes(pair.server, 1000)];
  const [rest] = await Array.fromAsync(pair.server.readable);
  assertEquals(concat(...parts, rest!), pattern(60_000));
  assertEquals(rest!.buffer.byteLength, 58_000); // memory of its own
});

Deno.test("close() discards data that has arrived but was not read", async () => {
  using pair = await securedPair();
  await pair.client.write(Uint8Array.of(1, 2, 3));
  await pair.server.read(new Uint8Array(1));
  pair.server.close();
  await assertNetworkError("closed", () => pair.server.read(new Uint8Array(1)));
});

Deno.test("close() discards a record that is just being delivered to a read", async () => {
  for (let count = 0; count < 8; count++) {
    using pair = await securedPair();
    await pair.client.write(Uint8Array.of(1, 2, 3));
    const reading = pair.server.read(new Uint8Array(1)).catch(() => {});
    await microtasks(count);
    pair.server.close();
    await reading;
    await assertNetworkError("closed", () => pair.server.read(new Uint8Array(1)));
  }
});

Deno.test("a concurrent second read loses no bytes of the first one's record", async () => {
  for (let count = 0; count < 8; count++) {
    using pair = await securedPair();
    await pair.client.write(Uint8Array.of(1, 2, 3));
    await new Promise((resolve) => setTimeout(resolve, 0)); // so that these become two records
    await pair.client.write(Uint8Array.of(4, 5, 6));
    await pair.client.closeWrite();
    const [one, other] = [new Uint8Array(1), new Uint8Array(1)];
    const first = pair.server.read(one);
    await microtasks(count);
    const second = await pair.server.read(other).catch(() => 0); // "another read is waiting"
    await first;
    const rest = await readBytes(pair.server);
    assertEquals([...one, ...other.subarray(0, second!), ...rest], [1, 2, 3, 4, 5, 6]);
  }
});

Deno.test("a stream whose write() closes the connection leaves no write pending", async () => {
  using pair = await securedPair();
  const { clientStream } = pair;
  const write = clientStream.write.bind(clientStream);
  clientStream.write = (data) => {
    const written = write(data);
    pair.client.close();
    return written;
  };
  await assertNetworkError("closed", () => pair.client.write(pattern(400_000)));
});

/** Accepts a part of each write after a while. Checks that writes do not overlap and that their data does not change. */
function makeSlow(
  stream: MemoryConnection,
  slow: readonly { readonly part: number; readonly pause: number }[],
): void {
  const write = stream.write.bind(stream);
  let count = 0, isWriting = false;
  stream.write = async (data) => {
    assert(!isWriting && data.length > 0 && data.length <= 4 * 65_537);
    isWriting = true;
    const { part, pause } = slow[count++ % slow.length]!;
    const taken = data.subarray(0, Math.ceil(data.length * part));
    const before = taken.slice();
    await microtasks(pause);
    assert(equalBytes(taken, before));
    isWriting = false;
    return await write(taken);
  };
}

async function microtasks(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await undefined;
}
