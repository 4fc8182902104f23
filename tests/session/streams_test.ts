/**
 * Several streams over one session, in virtual time.
 *
 * @module
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { NetworkError } from "../../lib/base/errors.ts";
import { WindowBudget } from "../../lib/session/receive_stream.ts";
import type { SessionStream } from "../../lib/session/stream.ts";
import type { StreamSessionOptions } from "../../lib/session/options.ts";
import type { StreamSession } from "../../lib/session/streams.ts";
import {
  connect,
  inVirtualTime,
  pattern,
  readAll,
  readSome,
  streamSessionPair,
} from "./fixtures.ts";

const HELLO = new TextEncoder().encode("hello");

Deno.test("a stream carries bytes in both directions, beside the first stream", async () => {
  await withPair({}, async ({ a, b }) => {
    const [one, other] = await openBetween(a, b);
    await one.write(HELLO);
    await other.write(pattern(1000));
    await a.write(Uint8Array.of(1));
    assertEquals(await readSome(other, 5), HELLO);
    assertEquals(await readSome(one, 1000), pattern(1000));
    assertEquals(await readSome(b, 1), Uint8Array.of(1));
    assertEquals([one.receivedBytes, other.receivedBytes, b.receivedBytes], [1000, 5, 1]);
  });
});

Deno.test("either side opens streams, and both number them apart", async () => {
  await withPair({}, async ({ a, b }) => {
    const ids: number[] = [];
    for (const [from, to] of [[a, b], [b, a], [a, b], [b, a]] as const) {
      ids.push((await openBetween(from, to))[1].id);
    }
    assertEquals(ids, [1, 2, 3, 4]);
  });
});

Deno.test("a stream without data is seen by the other side, which may speak first", async () => {
  await withPair({}, async ({ a, b }) => {
    const [one, other] = await openBetween(a, b);
    await other.write(HELLO);
    assertEquals(await readSome(one, 5), HELLO);
  });
});

Deno.test("opening a stream costs no round trip: its data arrives with it", async () => {
  await inVirtualTime(async (time) => {
    await using pair = streamSessionPair();
    await connect(pair, { delayMs: 40 });
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const startMs = time.nowMs;
    const stream = await pair.a.openStream();
    await stream.write(HELLO);
    const incoming = await next(pair.b);
    assertEquals(await readSome(incoming, 5), HELLO);
    assertEquals(time.nowMs - startMs, 40);
  });
});

Deno.test("closeWrite() finishes one direction of a stream, and leaves the others alone", async () => {
  await withPair({}, async ({ a, b }) => {
    const [one, other] = await openBetween(a, b);
    await one.write(HELLO);
    await one.closeWrite();
    assertEquals(await readAll(other), HELLO);
    await other.write(pattern(50));
    await other.closeWrite();
    assertEquals(await readAll(one), pattern(50));
    await assertRejects(() => one.write(HELLO), TypeError);
    await a.write(HELLO);
    assertEquals(await readSome(b, 5), HELLO);
    assertEquals([a.openStreams, b.openStreams], [1, 1]);
  });
});

Deno.test("the first stream ends and the others go on", async () => {
  await withPair({}, async ({ a, b }) => {
    const [one, other] = await openBetween(a, b);
    await a.closeWrite();
    await b.closeWrite();
    assertEquals([await readAll(a), await readAll(b)], [new Uint8Array(), new Uint8Array()]);
    await one.write(HELLO);
    assertEquals(await readSome(other, 5), HELLO);
  });
});

Deno.test("the first stream is reset and the others go on", async () => {
  await withPair({}, async ({ a, b }) => {
    const [one, other] = await openBetween(a, b);
    await a.writable.abort();
    const error = await assertRejects(() => b.read(new Uint8Array(1)), NetworkError);
    assertEquals(error.reason, "reset");
    await one.write(HELLO);
    assertEquals(await readSome(other, 5), HELLO);
  });
});

Deno.test("reset() tells the other side its code, and concerns that stream alone", async () => {
  await withPair({}, async ({ a, b }) => {
    const [one, other] = await openBetween(a, b);
    const [three, four] = await openBetween(a, b);
    one.reset(77);
    const error = await assertRejects(() => other.read(new Uint8Array(1)), NetworkError);
    assertEquals([error.reason, other.resetCode], ["reset", 77]);
    await assertRejects(() => other.write(HELLO), NetworkError, "code 77");
    await assertRejects(() => one.read(new Uint8Array(1)), NetworkError, "closed");
    await three.write(HELLO);
    assertEquals(await readSome(four, 5), HELLO);
    assertEquals([a.openStreams, b.openStreams], [2, 2]);
  });
});

Deno.test("close() of a stream delivers what was written, and resets it if the other side goes on", async () => {
  await withPair({}, async ({ a, b }) => {
    const [one, other] = await openBetween(a, b);
    await one.write(HELLO);
    one.close();
    assertEquals(await readAll(other), HELLO);
    await other.write(HELLO);
    await new Promise((resolve) => setTimeout(resolve, 10));
    const error = await assertRejects(() => other.write(HELLO), NetworkError);
    assertEquals(error.reason, "reset");
    assertEquals([a.openStreams, b.openStreams], [1, 1]);
  });
});

Deno.test("a stream whose other side never ends it is given up after 30 s", async () => {
  await withPair({}, async ({ a, b }) => {
    const [one, other] = await openBetween(a, b);
    one.close();
    assertEquals(await readAll(other), new Uint8Array());
    await new Promise((resolve) => setTimeout(resolve, 29_000));
    assertEquals([a.openStreams, b.openStreams], [2, 2]);
    await new Promise((resolve) => setTimeout(resolve, 2000));
    assertEquals([a.openStreams, b.openStreams], [1, 1]);
    await assertRejects(() => other.write(HELLO), NetworkError, "reset");
  });
});

Deno.test("an AbortSignal resets the stream, and its reason is what reads reject with", async () => {
  await withPair({}, async ({ a, b }) => {
    const aborting = new AbortController();
    const one = await a.openStream({ signal: aborting.signal });
    const other = await next(b);
    const reading = one.read(new Uint8Array(1));
    const reason = new Error("enough");
    aborting.abort(reason);
    assertEquals(await reading.catch((error) => error), reason);
    await assertRejects(() => other.read(new Uint8Array(1)), NetworkError, "reset");
    assertEquals(await a.openStream({ signal: aborting.signal }).catch((error) => error), reason);
  });
});

Deno.test("a stream is disposable, and its readable and writable are those of a Deno.Conn", async () => {
  await withPair({}, async ({ a, b }) => {
    let other: SessionStream;
    {
      using one = await a.openStream();
      other = await next(b);
      const conn: Pick<Deno.Conn, "readable" | "writable" | "localAddr"> = one;
      const writer = conn.writable.getWriter();
      await writer.write(HELLO);
      await writer.close();
    }
    assertEquals(new Uint8Array(await new Response(other.readable).arrayBuffer()), HELLO);
    await other.closeWrite();
  });
});

Deno.test("a slow reader stops its own stream only", async () => {
  await withPair({ windowBytes: 65_536 }, async ({ a, b }) => {
    const [slow, slowEnd] = await openBetween(a, b);
    const [fast, fastEnd] = await openBetween(a, b);
    let isWritten = false;
    const writing = slow.write(pattern(1_000_000)).then(() => isWritten = true);
    const whole = readSome(fastEnd, 3_000_000);
    await fast.write(pattern(3_000_000));
    assertEquals(await whole, pattern(3_000_000));
    assertEquals(isWritten, false);
    assert(slowEnd.receivedBytes <= 65_536, `${slowEnd.receivedBytes} bytes are kept`);
    assertEquals(await readSome(slowEnd, 1_000_000), pattern(1_000_000));
    await writing;
  });
});

Deno.test("a message is not behind the megabytes of other streams", async () => {
  await inVirtualTime(async () => {
    await using pair = streamSessionPair();
    const { a, b } = pair;
    await connect(pair, { delayMs: 1, capacity: 65_536 });
    const bulk: Promise<unknown>[] = [];
    for (let i = 0; i < 4; i++) {
      const [one, other] = await openBetween(a, b);
      bulk.push(one.write(pattern(2_000_000)), readSome(other, 2_000_000));
    }
    const [one, other] = await openBetween(a, b);
    const before = countOf(b);
    await one.write(HELLO);
    await readSome(other, 5);
    assert(countOf(b) - before < 700_000, `${countOf(b) - before} bytes came first`);
    await Promise.all(bulk);
    function countOf(session: StreamSession): number {
      return streamsOf.get(session)!.reduce((sum, stream) => sum + stream.receivedBytes, 0);
    }
  });
});

Deno.test("streams share the path fairly", async () => {
  await inVirtualTime(async () => {
    await using pair = streamSessionPair();
    await connect(pair, { delayMs: 1, capacity: 32_768 });
    const streams: [SessionStream, SessionStream][] = [];
    for (let i = 0; i < 5; i++) streams.push(await openBetween(pair.a, pair.b));
    for (const [one, other] of streams) {
      one.write(pattern(4_000_000)).catch(() => {});
      readAll(other).catch(() => {});
    }
    const ends = streams.map(([, other]) => other);
    while (ends[0]!.receivedBytes < 1_000_000) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    const counts = ends.map(({ receivedBytes }) => receivedBytes);
    assert(Math.min(...counts) > 0.7 * Math.max(...counts), `not fair: ${counts}`);
  });
});

Deno.test("streams survive a lost path and moves to other paths", async () => {
  await withPair({ timeoutMs: 60_000 }, async (pair) => {
    const streams = [];
    for (let i = 0; i < 10; i++) streams.push(await openBetween(pair.a, pair.b));
    const copies = streams.map(async ([one, other], index) => {
      const bytes = pattern(300_000 + index);
      const [read] = await Promise.all([
        readAll(other),
        one.write(bytes).then(() => one.closeWrite()),
      ]);
      assertEquals(read, bytes);
    });
    const moving = (async () => {
      for (let i = 0; i < 10; i++) {
        const [path] = await connect(pair, { delayMs: 1, capacity: 20_000 });
        await new Promise((resolve) => setTimeout(resolve, 7));
        if (i % 2 === 0) path.cut("reset");
      }
      await connect(pair);
    })();
    await Promise.all([...copies, moving]);
  });
});

Deno.test("close() delivers what was written to any stream, then resets those that are open", async () => {
  await withPair({}, async ({ a, b }) => {
    const [one, other] = await openBetween(a, b);
    const [three, four] = await openBetween(a, b);
    await one.write(pattern(10_000));
    await three.write(HELLO);
    three.close();
    await a.write(HELLO);
    a.close();
    assertEquals(await readSome(other, 10_000), pattern(10_000));
    const error = await assertRejects(() => other.read(new Uint8Array(1)), NetworkError);
    assertEquals(error.reason, "reset");
    await assertRejects(() => other.write(HELLO), NetworkError);
    assertEquals(await readAll(four), HELLO);
    assertEquals(await readAll(b), HELLO);
    await assertRejects(() => one.write(HELLO), NetworkError, "closed");
    await assertRejects(() => a.openStream(), NetworkError, "closed");
    b.close();
    await Promise.all([a.finished, b.finished]);
  });
});

Deno.test("reset() of the session ends all streams at once", async () => {
  await withPair({}, async ({ a, b }) => {
    const [one, other] = await openBetween(a, b);
    a.reset(5);
    const error = await assertRejects(() => other.read(new Uint8Array(1)), NetworkError);
    assertEquals([error.reason, b.resetCode], ["reset", 5]);
    await assertRejects(() => one.read(new Uint8Array(1)), NetworkError);
    await assertRejects(() => b.openStream(), NetworkError);
  });
});

Deno.test("the streams of the other side end with the connection", async () => {
  await withPair({}, async ({ a, b }) => {
    const ids: number[] = [];
    const accepting = (async () => {
      for await (const stream of b.streams) {
        ids.push(stream.id);
        stream.close();
      }
    })();
    await (await a.openStream()).closeWrite();
    await (await a.openStream()).closeWrite();
    await new Promise((resolve) => setTimeout(resolve, 10));
    a.close();
    await accepting;
    assertEquals(ids, [1, 3]);
  });
});

Deno.test("a stream that is reset before it was accepted is not shown", async () => {
  await withPair({}, async ({ a, b }) => {
    const gone = await a.openStream();
    await gone.write(HELLO);
    gone.reset();
    await new Promise((resolve) => setTimeout(resolve, 10));
    const stays = await a.openStream();
    assertEquals((await next(b)).id, stays.id);
  });
});

Deno.test("a session that was used for streams ends when it is idle, and not before", async () => {
  await withPair({ idleMs: 5000 }, async ({ a, b }) => {
    const [one, other] = await openBetween(a, b);
    await Promise.all([a.closeWrite(), b.closeWrite()]);
    await Promise.all([readAll(a), readAll(b)]);
    await new Promise((resolve) => setTimeout(resolve, 20_000));
    await Promise.all([one.closeWrite(), other.closeWrite()]);
    await new Promise((resolve) => setTimeout(resolve, 4000));
    const [third, fourth] = await openBetween(a, b);
    third.reset();
    await assertRejects(() => fourth.read(new Uint8Array(1)), NetworkError, "reset");
    let isOver = false;
    a.finished.then(() => isOver = true);
    await new Promise((resolve) => setTimeout(resolve, 4500));
    assertEquals(isOver, false);
    await Promise.all([a.finished, b.finished]);
    assertEquals([a.openStreams, b.openStreams], [0, 0]);
  });
});

Deno.test("a session stays open while somebody waits for streams, or holds it", async () => {
  await withPair({ idleMs: 1000 }, async ({ a, b }) => {
    const waiting = next(b);
    using _hold = a.hold();
    await Promise.all([a.closeWrite(), b.closeWrite()]);
    await new Promise((resolve) => setTimeout(resolve, 60_000));
    const stream = await a.openStream();
    assertEquals((await waiting).id, stream.id);
  });
});

Deno.test("a side opens no more than 1,024 streams at once", async () => {
  await withPair({}, async ({ a }) => {
    const streams: SessionStream[] = [];
    for (let i = 0; i < 1024; i++) streams.push(await a.openStream());
    await assertRejects(() => a.openStream(), NetworkError, "1024 are open already");
    streams[0]!.reset();
    await a.openStream();
  });
});

Deno.test("all streams take their memory from one budget, and give it back", async () => {
  const budget = new WindowBudget({ totalBytes: 8_000_000, perOwnerBytes: 4_000_000 });
  await withPair({ windows: budget.of("peer") }, async ({ a, b }) => {
    const pairs = [];
    for (let i = 0; i < 50; i++) pairs.push(await openBetween(a, b));
    for (const [one] of pairs) one.write(pattern(2_000_000)).catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const kept = pairs.reduce((sum, [, other]) => sum + other.receivedBytes, 0);
    assert(kept > 50 * 16_384, `only ${kept} bytes are kept`);
    assert(kept <= 4_000_000 + 50 * 16_384, `${kept} bytes are kept`);
    a.reset();
    await b.finished.catch(() => {});
    for (const [, other] of pairs) other.close();
    await new Promise((resolve) => setTimeout(resolve, 10));
  });
  assertEquals(budget.heldBytes, 0);
});

Deno.test("streams that are not read hold no more than there is for their peer: further ones are reset", async () => {
  const budget = new WindowBudget({ totalBytes: 2_000_000, perOwnerBytes: 1_000_000 });
  await withPair({ windows: budget.of("peer") }, async ({ a, b }) => {
    const pairs = [];
    for (let i = 0; i < 100; i++) pairs.push(await openBetween(a, b));
    for (const [one] of pairs) one.write(pattern(16_384)).catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const reset = pairs.filter(([one]) => one.resetCode === 0xff07);
    assertEquals([reset.length, budget.unreadBytes], [39, 61 * 16_384]); // 61 fit into a million
    const [, atOther] = pairs.at(-1)!;
    const why = "too much data of this peer is unread";
    await assertRejects(() => atOther.read(new Uint8Array(1)), NetworkError, why);
    const [one, other] = pairs[0]!;
    assertEquals(await readSome(other, 16_384), pattern(16_384));
    await one.write(pattern(100));
    assertEquals(await readSome(other, 100), pattern(100));
    const [late, lateAtOther] = await openBetween(a, b);
    await late.write(pattern(100));
    assertEquals(await readSome(lateAtOther, 100), pattern(100));
    a.reset();
    await b.finished.catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 10));
  });
  assertEquals([budget.heldBytes, budget.unreadBytes], [0, 0]);
});

/** The streams that each session has accepted. */
const streamsOf = new WeakMap<StreamSession, SessionStream[]>();

/** The next stream that the other side opens. */
async function next(session: StreamSession): Promise<SessionStream> {
  for await (const stream of session.streams) {
    streamsOf.set(session, [...streamsOf.get(session) ?? [], stream]);
    return stream;
  }
  throw new Error("the session has ended");
}

async function openBetween(
  from: StreamSession,
  to: StreamSession,
): Promise<[SessionStream, SessionStream]> {
  return [await from.openStream(), await next(to)];
}

async function withPair(
  options: Partial<StreamSessionOptions>,
  job: (pair: ReturnType<typeof streamSessionPair>) => Promise<void>,
): Promise<void> {
  await inVirtualTime(async () => {
    await using pair = streamSessionPair(options);
    await connect(pair);
    await job(pair);
  });
}
