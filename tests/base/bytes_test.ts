import { assert, assertEquals, assertFalse, assertThrows } from "@std/assert";
import fc from "fast-check";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { ByteQueue, ByteReader, concat, equalBytes, partOf, toHex } from "../../lib/base/bytes.ts";
import { MalformedMessageError } from "../../lib/base/errors.ts";

Deno.test("ByteReader reads big-endian fields one after another", () => {
  const reader = new ByteReader(
    Uint8Array.of(0xff, 0x21, 0x12, 0xa4, 0x42, 0xfe, 0xdc, 1, 2),
    "test",
  );
  assertEquals(reader.remaining, 9);
  assertEquals(reader.uint8("a"), 0xff);
  assertEquals(reader.uint16("b"), 0x2112);
  assertEquals(reader.uint32("c"), 0xa442fedc);
  assertEquals(reader.bytes(2, "d"), Uint8Array.of(1, 2));
  assertEquals(reader.remaining, 0);
  reader.end();
});

Deno.test("ByteReader reads a view into a larger buffer", () => {
  const buffer = Uint8Array.of(9, 9, 1, 2, 3, 9, 9);
  const reader = new ByteReader(buffer.subarray(2, 5), "test");
  assertEquals(reader.uint16("a"), 0x0102);
  assertEquals(reader.bytes(1, "b"), Uint8Array.of(3));
  reader.end();
});

Deno.test("ByteReader names a field that does not fit, and consumes nothing", () => {
  const reader = new ByteReader(Uint8Array.of(1, 2, 3), "MAPPED-ADDRESS");
  const message = "Cannot read MAPPED-ADDRESS: port needs 4 bytes, 3 are left";
  assertThrows(() => reader.uint32("port"), MalformedMessageError, message);
  assertThrows(() => reader.bytes(4, "port"), MalformedMessageError, message);
  assertEquals(reader.uint16("port"), 0x0102);
  assertThrows(
    () => reader.uint16("family"),
    MalformedMessageError,
    "family needs 2 bytes, 1 are left",
  );
  reader.uint8("family");
  assertThrows(
    () => reader.uint8("more"),
    MalformedMessageError,
    "more needs 1 bytes, 0 are left",
  );
});

Deno.test("end() rejects trailing bytes", () => {
  const reader = new ByteReader(new Uint8Array(2), "NONCE");
  assertThrows(() => reader.end(), MalformedMessageError, "Cannot read NONCE: 2 bytes too many");
});

Deno.test("bytes() returns a copy that owns its memory", () => {
  const message = Uint8Array.of(1, 2, 3, 4);
  const copy = new ByteReader(message, "test").bytes(2, "a");
  message.fill(0);
  assertEquals(copy, Uint8Array.of(1, 2));
  assertEquals(copy.buffer.byteLength, 2);
  assertEquals(new ByteReader(message, "test").bytes(0, "nothing"), new Uint8Array());
});

Deno.test("ByteReader reads any fields, and throws nothing but MalformedMessageError", () => {
  const widths = fc.array(fc.constantFrom(1, 2, 4, 7), { maxLength: 20 });
  fc.assert(fc.property(fc.uint8Array({ maxLength: 40 }), widths, (message, widths) => {
    const reader = new ByteReader(message, "test");
    let offset = 0;
    try {
      for (const width of widths) {
        const hex = toHex(message.subarray(offset, offset + width));
        assertEquals(readHex(reader, width), hex);
        offset += width;
      }
      reader.end();
      assertEquals(offset, message.length);
    } catch (error) {
      assert(error instanceof MalformedMessageError, `${error}`);
      assertEquals(reader.remaining, message.length - offset);
    }
  }));
});

Deno.test("concat() joins arrays and views in a new array", () => {
  assertEquals(concat(), new Uint8Array());
  const first = Uint8Array.of(1, 2);
  const joined = concat(first, new Uint8Array(), Uint8Array.of(8, 3, 4, 8).subarray(1, 3));
  assertEquals(joined, Uint8Array.of(1, 2, 3, 4));
  first[0] = 9;
  assertEquals(joined[0], 1);
});

Deno.test("equalBytes() compares contents, not identity or memory", () => {
  assert(equalBytes(new Uint8Array(), new Uint8Array()));
  assert(equalBytes(Uint8Array.of(1, 2), Uint8Array.of(0, 1, 2).subarray(1)));
  assertFalse(equalBytes(Uint8Array.of(1, 2), Uint8Array.of(1, 3)));
  assertFalse(equalBytes(Uint8Array.of(1, 2), Uint8Array.of(1, 2, 0)));
  assertFalse(equalBytes(Uint8Array.of(1, 2, 0), Uint8Array.of(1, 2)));
});

Deno.test("toHex() writes two lower-case digits per byte", () => {
  assertEquals(toHex(Uint8Array.of(0x00, 0x0a, 0xb0, 0xff)), "000ab0ff");
  assertEquals(toHex(new Uint8Array()), "");
});

function readHex(reader: ByteReader, width: number): string {
  const hex = (value: number) => value.toString(16).padStart(2 * width, "0");
  switch (width) {
    case 1:
      return hex(reader.uint8("field"));
    case 2:
      return hex(reader.uint16("field"));
    case 4:
      return hex(reader.uint32("field"));
    default:
      return toHex(reader.bytes(width, "field"));
  }
}

Deno.test("partOf() has the bytes of subarray(), and makes no view of the whole array", () => {
  const bytes = Uint8Array.of(1, 2, 3, 4).subarray(1);
  for (let start = 0; start < 5; start++) {
    assertEquals([...partOf(bytes, start)], [...bytes.subarray(start)]);
    for (let end = 0; end < 5; end++) {
      assertEquals([...partOf(bytes, start, end)], [...bytes.subarray(start, end)]);
    }
  }
  assert(partOf(bytes, 0) === bytes && partOf(bytes, 0, 9) === bytes);
  assert(partOf(bytes, 1).buffer === bytes.buffer);
});

Deno.test("ByteQueue returns the bytes of several queues in order, in pieces of any length", () => {
  const step = fc.record({
    queue: fc.nat(2),
    kind: fc.constantFrom("push", "take", "rest", "clear"),
    length: fc.oneof(fc.nat(5000), fc.integer({ min: 60_000, max: 300_000 })),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const queues = [0, 1, 2].map(() => ({ queue: new ByteQueue(), pushed: 0, taken: 0 }));
      for (const { queue: index, kind, length } of steps) {
        const each = queues[index]!;
        if (kind === "push") {
          each.queue.push(numbered(index, each.pushed, length));
          each.pushed += length;
        } else if (kind === "take") {
          const buffer = new Uint8Array(length);
          const filled = each.queue.take(buffer);
          assertEquals(filled, Math.min(length, each.pushed - each.taken));
          assert(equalBytes(buffer.subarray(0, filled), numbered(index, each.taken, filled)));
          each.taken += filled;
        } else if (kind === "rest") each.queue.rest();
        else {
          each.queue.clear();
          each.taken = each.pushed;
        }
        assertEquals(each.queue.length, each.pushed - each.taken);
      }
    }),
    { numRuns: 50 },
  );
});

Deno.test("many queues that were read keep little memory", () => {
  setFlagsFromString("--expose-gc");
  const collectGarbage: () => void = runInNewContext("gc");
  const queues = Array.from({ length: 200 }, () => new ByteQueue());
  const [record, buffer] = [new Uint8Array(65_536), new Uint8Array(262_144)];
  collectGarbage();
  const before = Deno.memoryUsage().external;
  for (const queue of queues) {
    for (let i = 0; i < 4; i++) queue.push(record);
    assertEquals(queue.take(buffer), buffer.length);
  }
  collectGarbage();
  const keptBytes = Deno.memoryUsage().external - before;
  assert(keptBytes < 4_194_304, `${queues.length} queues keep ${keptBytes} bytes`);
});

/** Bytes that tell the queue, and where they are in it. */
function numbered(queue: number, from: number, length: number): Uint8Array {
  return Uint8Array.from(
    { length },
    (_, index) => (from + index) * 7 + (from + index >> 8) + queue,
  );
}
