import { assert, assertEquals } from "@std/assert";
import { ReceiveBuffer } from "../../lib/udp/receive_buffer.ts";
import { type Segment, SendBuffer } from "../../lib/udp/send_buffer.ts";
import { pattern } from "../session/fixtures.ts";
import { labelledRandom, randomInteger } from "../simnet/random.ts";

Deno.test("SendBuffer sends in order, up to the other side's limit", () => {
  const buffer = new SendBuffer(1000);
  assertEquals(buffer.write(new Uint8Array(1500)), 1000);
  assertEquals(buffer.write(new Uint8Array(1)), 0);
  assertEquals(buffer.take(400, 700), segment(0, 400));
  assertEquals(buffer.take(400, 700), segment(400, 300));
  assertEquals(buffer.take(400, 700), undefined);
  assertEquals(buffer.canSend(700), false);
  assertEquals(buffer.canSend(701), true);
});

Deno.test("SendBuffer sends first what was lost, but not what has arrived otherwise", () => {
  const buffer = new SendBuffer(1000);
  buffer.write(new Uint8Array(1000));
  for (let i = 0; i < 5; i++) buffer.take(100, 1000);
  buffer.lose(segment(100, 100));
  buffer.lose(segment(200, 100));
  buffer.acknowledge(segment(250, 100));
  assertEquals(buffer.take(80, 1000), segment(100, 80));
  assertEquals(buffer.take(200, 1000), segment(180, 70));
  assertEquals(buffer.take(100, 1000), segment(500, 100));
  buffer.acknowledge(segment(0, 500));
  assertEquals(buffer.room, 500);
  buffer.lose(segment(100, 100));
  assertEquals(buffer.take(100, 1000), segment(600, 100));
});

Deno.test("SendBuffer sends the end with the last bytes, alone if need be, and again if it is lost", () => {
  const buffer = new SendBuffer(1000);
  buffer.write(new Uint8Array(10));
  assertEquals(buffer.take(100, 1000), segment(0, 10));
  buffer.finish();
  assertEquals(buffer.room, 0);
  assertEquals(buffer.take(100, 1000), segment(10, 0, true));
  assertEquals(buffer.take(100, 1000), undefined);
  buffer.lose(segment(10, 0, true));
  assertEquals(buffer.take(100, 1000), segment(10, 0, true));
  buffer.acknowledge(segment(10, 0, true));
  assertEquals(buffer.isDone, false);
  buffer.lose(segment(0, 10));
  assertEquals(buffer.take(100, 1000), segment(0, 10, true));
  buffer.acknowledge(segment(0, 10));
  assertEquals(buffer.isDone, true);
});

Deno.test("ReceiveBuffer accepts nothing beyond its window", () => {
  const buffer = new ReceiveBuffer(1000);
  assertEquals(buffer.add(1, new Uint8Array(1000), false), false);
  assertEquals(buffer.add(0, new Uint8Array(1000), false), true);
  assertEquals(buffer.limit, 1000);
  assertEquals(buffer.read(new Uint8Array(300)), 300);
  assertEquals(buffer.limit, 1300);
  assertEquals(buffer.add(1200, new Uint8Array(100), false), true);
});

Deno.test("ReceiveBuffer accepts no contradictions about the end", () => {
  const buffer = new ReceiveBuffer(1000);
  buffer.add(100, new Uint8Array(100), false);
  assertEquals(buffer.add(150, new Uint8Array(10), true), false);
  assertEquals(buffer.add(200, new Uint8Array(0), true), true);
  assertEquals(buffer.add(200, new Uint8Array(1), false), false);
  assertEquals(buffer.add(150, new Uint8Array(40), true), false);
  assertEquals(buffer.isComplete, false);
  assertEquals(buffer.add(0, new Uint8Array(100), false), true);
  assertEquals([buffer.isComplete, buffer.isAtEnd], [true, false]);
  buffer.read(new Uint8Array(1000));
  assertEquals(buffer.isAtEnd, true);
});

Deno.test("ReceiveBuffer accepts no more than 512 gaps", () => {
  const buffer = new ReceiveBuffer(1_000_000);
  let accepted = 0;
  for (let i = 0; i < 2000; i++) if (buffer.add(2 * i + 1, Uint8Array.of(1), false)) accepted++;
  assertEquals(accepted, 512);
  assertEquals(buffer.add(0, Uint8Array.of(1), false), true);
});

Deno.test("ReceiveBuffer keeps the first of two versions of a byte", () => {
  const buffer = new ReceiveBuffer(1000);
  buffer.add(2, Uint8Array.of(1, 1), false);
  buffer.add(0, Uint8Array.of(2, 2, 2, 2, 2), false);
  const bytes = new Uint8Array(5);
  buffer.read(bytes);
  assertEquals(bytes, Uint8Array.of(2, 2, 1, 1, 2));
});

Deno.test("both buffers carry a stream through losses, duplicates and reordering", () => {
  for (let seed = 0; seed < 50; seed++) {
    const random = labelledRandom(seed, "buffers");
    const data = pattern(300_000);
    const [out, incoming] = [new SendBuffer(100_000), new ReceiveBuffer(150_000)];
    const received = new Uint8Array(data.length);
    const flying: Segment[] = [];
    let [written, read] = [0, 0];
    for (let steps = 0; !incoming.isAtEnd; steps++) {
      assert(steps < 100_000, "no progress");
      written += out.write(data.subarray(written, written + randomInteger(random, 0, 5000)));
      if (written === data.length) out.finish();
      const next = out.take(randomInteger(random, 1, 1500), incoming.limit);
      if (next !== undefined) flying.push(next);
      const [one] = flying.splice(randomInteger(random, 0, flying.length), 1);
      read += incoming.read(received.subarray(read, read + randomInteger(random, 0, 20_000)));
      if (one === undefined) continue;
      if (random() < 0.2) {
        out.lose(one);
        continue;
      }
      const bytes = new Uint8Array(one.length);
      if (!out.isDone && one.length > 0) out.copy(one, bytes, 0);
      assertEquals(incoming.add(one.offset, bytes, one.isFinal), true);
      if (random() < 0.1) out.lose(one); // spuriously
      else out.acknowledge(one);
    }
    assertEquals(received, data);
  }
});

function segment(offset: number, length: number, isFinal = false): Segment {
  return { offset, length, isFinal };
}
