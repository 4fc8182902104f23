import { assert, assertEquals, assertRejects } from "@std/assert";
import { BufferedReader, copyStream, writeAll } from "../../lib/base/reader.ts";

/** A stream that delivers its data in pieces of the given lengths, then ends. */
function source(data: Uint8Array, lengths: readonly number[]) {
  let offset = 0;
  let reads = 0;
  return {
    read(buffer: Uint8Array): Promise<number | null> {
      assert(buffer.length > 0, "a read into an empty buffer would never end");
      if (offset === data.length) return Promise.resolve(null);
      const length = Math.min(lengths[reads++] ?? data.length, buffer.length, data.length - offset);
      buffer.set(data.subarray(offset, offset + length));
      offset += length;
      return Promise.resolve(length);
    },
  };
}

const COUNTING = Uint8Array.from({ length: 200 }, (_, index) => index);

Deno.test("BufferedReader returns its data in pieces of any length", async () => {
  const reader = new BufferedReader(source(COUNTING, [3, 4, 100]), { initialLength: 64 });
  const taken: number[] = [];
  while (await reader.fill()) while (reader.buffered > 0) taken.push(...reader.take(5));
  assertEquals(taken, [...COUNTING]);
});

Deno.test("BufferedReader keeps bytes that were not taken in front of those it reads next", async () => {
  const reader = new BufferedReader(source(COUNTING, [10, 10]), { initialLength: 16 });
  await reader.fill();
  assertEquals([...reader.take(8)], [0, 1, 2, 3, 4, 5, 6, 7]);
  await reader.fill();
  assertEquals([...reader.unread], [8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
});

Deno.test("BufferedReader grows to hold what its caller needs", async () => {
  const reader = new BufferedReader(source(COUNTING, []), { initialLength: 8 });
  while (reader.buffered < 150) await reader.fill(150);
  assertEquals([...reader.take(150)], [...COUNTING.subarray(0, 150)]);
});

Deno.test("BufferedReader grows to its full length once a read has filled it", async () => {
  const reader = new BufferedReader(source(COUNTING, []), { initialLength: 8, fullLength: 128 });
  await reader.fill();
  assertEquals(reader.buffered, 8);
  await reader.fill();
  assertEquals(reader.buffered, 128);
});

Deno.test("BufferedReader is small again after a few small reads", async () => {
  const sizes: number[] = [];
  const lengths = [8, 100, 3, 3, 3, 3, 3, 8, 100];
  const read = (buffer: Uint8Array) => {
    sizes.push(buffer.buffer.byteLength);
    return Promise.resolve(Math.min(lengths.shift()!, buffer.length));
  };
  const reader = new BufferedReader({ read }, { initialLength: 8, fullLength: 128 });
  while (lengths.length > 0) {
    await reader.fill();
    reader.take(100);
  }
  assertEquals(sizes, [8, 128, 128, 128, 128, 128, 8, 8, 128]);
});

Deno.test("BufferedReader keeps what it holds as it becomes small", async () => {
  const lengths = [8, 100, 1, 1, 1, 1, 1];
  let next = 0;
  const read = (buffer: Uint8Array) => {
    const length = Math.min(lengths.shift()!, buffer.length);
    for (let i = 0; i < length; i++) buffer[i] = next++;
    return Promise.resolve(length);
  };
  const reader = new BufferedReader({ read }, { initialLength: 8, fullLength: 128 });
  for (let i = 0; i < 2; i++) await reader.fill();
  reader.take(1000);
  while (lengths.length > 0) await reader.fill();
  assertEquals([...reader.unread], [108, 109, 110, 111, 112]);
});

Deno.test("BufferedReader keeps reading when it is full and its caller takes nothing", async () => {
  const reader = new BufferedReader(source(COUNTING, []), { initialLength: 8 });
  while (await reader.fill());
  assertEquals([...reader.unread], [...COUNTING]);
});

Deno.test("BufferedReader returns no more than it has, and discards everything on clear()", async () => {
  const reader = new BufferedReader(source(COUNTING, [5]), { initialLength: 8 });
  await reader.fill();
  assertEquals(reader.take(100).length, 5);
  await reader.fill();
  reader.clear();
  assertEquals([reader.buffered, reader.take(1).length], [0, 0]);
});

Deno.test("BufferedReader rejects with the error of the stream", async () => {
  const error = new Error("reset");
  const reader = new BufferedReader({ read: () => Promise.reject(error) }, { initialLength: 8 });
  assertEquals(await assertRejects(() => reader.fill()), error);
});

Deno.test("writeAll() writes until the stream has accepted everything", async () => {
  const written: number[] = [];
  await writeAll({
    write: (data) => {
      const part = data.subarray(0, 7);
      written.push(...part);
      return Promise.resolve(part.length);
    },
  }, COUNTING);
  assertEquals(written, [...COUNTING]);
});

Deno.test("copyStream() copies everything, in one buffer, and ends the other stream", async () => {
  const parts = [COUNTING.subarray(0, 3), COUNTING.subarray(3)];
  const buffers = new Set<ArrayBufferLike>();
  const written: (number | "end")[] = [];
  await copyStream({
    read: (buffer) => {
      buffers.add(buffer.buffer);
      const part = parts.shift();
      if (part === undefined) return Promise.resolve(null);
      buffer.set(part);
      return Promise.resolve(part.length);
    },
  }, {
    write: (data) => {
      written.push(data[0]!); // takes one byte at a time
      return Promise.resolve(1);
    },
    closeWrite: () => {
      written.push("end");
      return Promise.resolve();
    },
  });
  assertEquals([written, buffers.size], [[...COUNTING, "end"], 1]);
});

Deno.test("copyStream() rejects with the error of the stream that breaks, and ends nothing", async () => {
  const error = new Error("reset");
  let isEnded = false;
  const closeWrite = () => Promise.resolve(void (isEnded = true));
  const target = { write: () => Promise.reject(error), closeWrite };
  const copying = () => copyStream({ read: () => Promise.resolve(1) }, target);
  assertEquals([await assertRejects(copying), isEnded], [error, false]);
});
