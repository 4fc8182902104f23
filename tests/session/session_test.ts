/**
 * Sessions as their users see them.
 *
 * @module
 */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { NetworkError } from "../../lib/base/errors.ts";
import type { TcpConnection } from "../../lib/net/network.ts";
import type { SessionEvent } from "../../lib/session/options.ts";
import { Session } from "../../lib/session/session.ts";
import { assertNetworkError, toBytes, toText } from "../simnet/fixtures.ts";
import { connect, inVirtualTime, pattern, readAll, readSome, sessionPair } from "./fixtures.ts";
import { testPathPair } from "./test_path.ts";

Deno.test("a session carries bytes in both directions, in order", async () => {
  await inVirtualTime(async () => {
    await using pair = sessionPair();
    await connect(pair);
    const data = pattern(300_000);
    const [there, back] = await Promise.all([
      readAll(pair.b),
      readAll(pair.a),
      pair.a.write(data).then(() => pair.a.closeWrite()),
      pair.b.write(data.subarray(1)).then(() => pair.b.closeWrite()),
    ]);
    assertEquals(there, data);
    assertEquals(back, data.subarray(1));
    await Promise.all([pair.a.finished, pair.b.finished]);
  });
});

Deno.test("a session is a Deno.Conn and a TcpConnection", async () => {
  await inVirtualTime(async () => {
    await using pair = sessionPair();
    await connect(pair, { port: 7 });
    const conn: Deno.Conn = pair.a;
    const connection: TcpConnection = pair.b;
    assertEquals(conn.localAddr, { transport: "tcp", hostname: "192.0.2.1", port: 7 });
    assertEquals(conn.remoteAddr, { transport: "tcp", hostname: "192.0.2.2", port: 7 });
    assertEquals(connection.local, { ip: "192.0.2.2", port: 7 });
    conn.unref();
    conn.ref();
  });
});

Deno.test("data written before the first path goes out with it", async () => {
  await inVirtualTime(async () => {
    await using pair = sessionPair();
    await pair.a.write(toBytes("early"));
    await connect(pair);
    assertEquals(toText(await readSome(pair.b, 5)), "early");
  });
});

Deno.test("a session moves to another path, and closes the previous one", async () => {
  await inVirtualTime(async () => {
    await using pair = sessionPair();
    const [first] = await connect(pair, { delayMs: 50 });
    await pair.a.write(pattern(500_000));
    await connect(pair, { delayMs: 10, port: 2 });
    await pair.a.closeWrite();
    assertEquals(await readAll(pair.b), pattern(500_000));
    assertEquals(pair.a.local.port, 2);
    await pair.b.closeWrite();
    await pair.a.finished;
    await wait(100); // the last frames
    assertEquals(first.closed, "closed");
  });
});

Deno.test("a session that has lost its path continues over the next", async () => {
  await inVirtualTime(async () => {
    await using pair = sessionPair({ timeoutMs: 60_000 });
    const [first] = await connect(pair, { delayMs: 10 });
    const received = readAll(pair.b);
    const written = pair.a.write(pattern(1_000_000)).then(() => pair.a.closeWrite());
    await wait(15);
    first.cut("reset");
    await wait(1000);
    await connect(pair, { delayMs: 10 });
    await written;
    assertEquals(await received, pattern(1_000_000));
    const kinds = (events: SessionEvent[]) => events.map(({ event }) => event);
    assertEquals(kinds(pair.aEvents), ["attached", "lost", "attached"]);
    assertEquals(kinds(pair.bEvents), ["attached", "lost", "attached"]);
  });
});

Deno.test("a session without a timeout fails with its path", async () => {
  await inVirtualTime(async () => {
    await using pair = sessionPair();
    const [first] = await connect(pair);
    const reading = assertNetworkError("reset", () => pair.b.read(new Uint8Array(1)));
    first.cut("reset");
    await reading;
    await assertNetworkError("reset", () => pair.a.finished);
    await assertNetworkError("reset", () => pair.a.write(new Uint8Array(1)));
    await assertNetworkError("reset", () => pair.a.attach(testPathPair()[0]));
  });
});

Deno.test("a silent path is detected as dead within seconds", async () => {
  await inVirtualTime(async (time) => {
    await using pair = sessionPair();
    const [first] = await connect(pair, { delayMs: 20 });
    await wait(7000);
    const cutAtMs = time.nowMs;
    first.cut("silent");
    await assertNetworkError("timed-out", () => pair.a.finished);
    assert(time.nowMs - cutAtMs <= 10_100, `${time.nowMs - cutAtMs} ms`);
  });
});

Deno.test("a path that dies while data is flowing is detected sooner, also by a side that only receives", async () => {
  await inVirtualTime(async (time) => {
    await using pair = sessionPair();
    const [first] = await connect(pair, { delayMs: 20 });
    for (let i = 0; i < 20; i++) {
      await pair.a.write(new Uint8Array(100));
      await readSome(pair.b, 100);
      await wait(100);
    }
    const cutAtMs = time.nowMs;
    first.cut("silent");
    await assertNetworkError("timed-out", () => pair.b.finished);
    assert(time.nowMs - cutAtMs <= 6100, `${time.nowMs - cutAtMs} ms`);
  });
});

Deno.test("a missing acknowledgement is detected although other data has arrived", async () => {
  await inVirtualTime(async (time) => {
    await using pair = sessionPair();
    const [first] = await connect(pair, { delayMs: 20 });
    await wait(1000);
    const startedAtMs = time.nowMs;
    await Promise.all([pair.a.write(new Uint8Array(1)), pair.b.write(new Uint8Array(1))]);
    await readSome(pair.a, 1);
    first.cut("silent"); // before the acknowledgement
    await assertNetworkError("timed-out", () => pair.a.finished);
    assert(time.nowMs - startedAtMs <= 5100, `${time.nowMs - startedAtMs} ms`);
  });
});

Deno.test("a path that owes an answer for a second has stalled, long before it is dead", async () => {
  await inVirtualTime(async (time) => {
    await using pair = sessionPair({ timeoutMs: 60_000 });
    const [first] = await connect(pair, { delayMs: 20 });
    await wait(7000);
    first.cut("silent");
    const writtenAtMs = time.nowMs;
    await pair.a.write(new Uint8Array(1));
    while (pair.aEvents.length < 2) await wait(10);
    assertEquals(pair.aEvents.at(-1)?.event, "stalled");
    assert(time.nowMs - writtenAtMs <= 1100, `${time.nowMs - writtenAtMs} ms`);
    await wait(5000);
    assertEquals(pair.aEvents.at(-1)?.event, "lost");
    pair.a.reset();
    pair.b.reset();
  });
});

for (
  const [what, delayMs, stalledAfterMs] of [
    ["half a second", 20, 500],
    ["four round trips, if those take longer", 100, 800],
    ["a second at most, as for data", 200, 1000],
  ] as const
) {
  Deno.test(`an idle path whose ping is not answered has stalled after ${what}`, async () => {
    await inVirtualTime(async (time) => {
      await using pair = sessionPair({ timeoutMs: 60_000 });
      const [first, second] = await connect(pair, { delayMs });
      await wait(12_000);
      let written = first.writtenBytes + second.writtenBytes;
      while (first.writtenBytes + second.writtenBytes === written) await wait(1);
      await wait(3 * delayMs); // the answer is there
      first.cut("silent");
      written = first.writtenBytes + second.writtenBytes;
      while (first.writtenBytes + second.writtenBytes === written) await wait(1);
      const pingedAtMs = time.nowMs;
      while (![...pair.aEvents, ...pair.bEvents].some(({ event }) => event === "stalled")) {
        await wait(1);
      }
      const afterMs = time.nowMs - pingedAtMs;
      assert(Math.abs(afterMs - stalledAfterMs) <= 5, `${afterMs} ms`);
      pair.a.reset();
      pair.b.reset();
    });
  });
}

Deno.test("a path whose answers take more than half a second does not stall", async () => {
  await inVirtualTime(async () => {
    await using pair = sessionPair({ timeoutMs: 60_000 });
    await connect(pair, { delayMs: 300 });
    await wait(60_000);
    const events = [...pair.aEvents, ...pair.bEvents].map(({ event }) => event);
    assertEquals(events, ["attached", "attached"]);
    pair.a.reset();
    await wait(1000);
  });
});

Deno.test("probe() after a change has the path stalled until it answers", async () => {
  await inVirtualTime(async () => {
    await using pair = sessionPair();
    await connect(pair, { delayMs: 20 });
    await wait(1000);
    pair.a.probe({ hasChanged: true });
    assertEquals(pair.aEvents.at(-1)?.event, "stalled");
    await wait(100);
    assertEquals(pair.aEvents.at(-1)?.event, "resumed");
  });
});

Deno.test("probe() detects a dead path sooner", async () => {
  await inVirtualTime(async (time) => {
    await using pair = sessionPair();
    const [first] = await connect(pair, { delayMs: 20 });
    first.cut("silent");
    const probedAtMs = time.nowMs;
    pair.a.probe();
    await assertNetworkError("timed-out", () => pair.a.finished);
    assertEquals(Math.round(time.nowMs - probedAtMs), 2000);
  });
});

Deno.test("an idle path is kept alive, and its round trip is measured", async () => {
  await inVirtualTime(async () => {
    await using pair = sessionPair();
    const [first, second] = await connect(pair, { delayMs: 20 });
    await wait(600_000);
    assertEquals(Math.round(pair.a.rttMs!), 40);
    assertEquals(Math.round(pair.b.rttMs!), 40);
    const bytes = first.writtenBytes + second.writtenBytes;
    assert(bytes < 3000, `${bytes} bytes in ten minutes`);
    assertEquals(pair.aEvents.length, 1);
  });
});

Deno.test("closeWrite() finishes one direction, and the other goes on", async () => {
  await inVirtualTime(async () => {
    await using pair = sessionPair();
    await connect(pair);
    await pair.a.closeWrite();
    assertEquals(await pair.b.read(new Uint8Array(8)), null);
    assertEquals(await pair.b.read(new Uint8Array(8)), null);
    await pair.b.write(Uint8Array.of(1));
    assertEquals(await pair.a.read(new Uint8Array(8)), 1);
    await assertRejects(() => pair.a.write(Uint8Array.of(1)), TypeError, "was ended");
  });
});

Deno.test("close() delivers what was written, then the end", async () => {
  await inVirtualTime(async () => {
    await using pair = sessionPair();
    await connect(pair, { delayMs: 30, capacity: 1000 });
    const data = pattern(50_000);
    await pair.a.write(data);
    pair.a.close();
    await assertNetworkError("closed", () => pair.a.write(data));
    await assertNetworkError("closed", () => pair.a.read(new Uint8Array(1)));
    assertEquals(await readAll(pair.b), data);
    await pair.b.closeWrite();
    await Promise.all([pair.a.finished, pair.b.finished]);
  });
});

Deno.test("close() delivers what was written over a first path that is not attached yet", async () => {
  await inVirtualTime(async () => {
    await using pair = sessionPair();
    const [one, other] = testPathPair({ delayMs: 20 });
    const attaching = pair.a.attach(one);
    await pair.a.write(toBytes("hello"));
    pair.a.close();
    await Promise.all([attaching, pair.b.attach(other)]);
    assertEquals(toText(await readAll(pair.b)), "hello");
    await pair.b.closeWrite();
    await Promise.all([pair.a.finished, pair.b.finished]);
  });
});

Deno.test("close() gives up on a first path that the other side never attaches", async () => {
  await inVirtualTime(async (time) => {
    await using pair = sessionPair();
    const [one] = testPathPair();
    const attaching = assertNetworkError("timed-out", () => pair.a.attach(one));
    pair.a.close();
    await assertNetworkError("closed", () => pair.a.finished);
    assert(time.nowMs <= 30_000, `${time.nowMs} ms`);
    await attaching;
    assertEquals(one.closed, "reset");
  });
});

Deno.test("writes to a side that has closed fail", async () => {
  await inVirtualTime(async () => {
    await using pair = sessionPair();
    await connect(pair, { delayMs: 30 });
    await pair.a.write(toBytes("bye"));
    pair.a.close();
    await pair.b.write(toBytes("are you there?"));
    assertEquals(toText(await readAll(pair.b)), "bye");
    await assertNetworkError("reset", () => pair.b.finished);
    await assertNetworkError("reset", () => pair.b.write(toBytes("hello?")));
  });
});

Deno.test("reset() ends both sides at once", async () => {
  await inVirtualTime(async () => {
    await using pair = sessionPair({ timeoutMs: 60_000 });
    await connect(pair, { delayMs: 30 });
    const reading = assertNetworkError("reset", () => pair.b.read(new Uint8Array(1)));
    pair.a.reset();
    await assertNetworkError("closed", () => pair.a.read(new Uint8Array(1)));
    await reading;
    await assertNetworkError("reset", () => pair.b.finished);
    await assertNetworkError("closed", () => pair.a.finished);
  });
});

Deno.test("reset() tells the other side its code, and refuses one that does not fit", async () => {
  await inVirtualTime(async () => {
    await using pair = sessionPair({ timeoutMs: 60_000 });
    await connect(pair, { delayMs: 30 });
    for (const code of [0, -1, 1.5, 65_536, NaN]) {
      assertThrows(() => pair.a.reset(code), RangeError, "not from 1 to 65535");
    }
    await pair.a.write(toBytes("still open"));
    assertEquals(toText(await readSome(pair.b, 10)), "still open");
    pair.a.reset(65_535);
    await assertNetworkError("reset", () => pair.b.finished);
    assertEquals([pair.a.resetCode, pair.b.resetCode], [undefined, 65_535]);
  });
});

Deno.test("a writer waits for the reader once the window is full", async () => {
  await inVirtualTime(async () => {
    await using pair = sessionPair({ windowBytes: 65_536 });
    await connect(pair);
    let isWritten = false;
    const writing = pair.a.write(pattern(400_000)).then(() => isWritten = true);
    await wait(10_000);
    assert(!isWritten);
    assertEquals(await readSome(pair.b, 400_000), pattern(400_000));
    await writing;
  });
});

Deno.test("a newer path replaces one that is not attached yet", async () => {
  await inVirtualTime(async () => {
    await using pair = sessionPair();
    const [a1] = testPathPair();
    const [a2, b2] = testPathPair();
    const superseded = assertRejects(() => pair.a.attach(a1), NetworkError, "newer");
    await Promise.all([pair.a.attach(a2), pair.b.attach(b2)]);
    await superseded;
  });
});

Deno.test("a path that the other side never attaches is given up, and the current one stays", async () => {
  await inVirtualTime(async () => {
    await using pair = sessionPair();
    await connect(pair);
    await assertNetworkError("timed-out", () => pair.a.attach(testPathPair()[0]));
    await pair.a.write(toBytes("still here"));
    assertEquals(toText(await readSome(pair.b, 10)), "still here");
  });
});

Deno.test("attach() rejects with the reason of the signal on abort", async () => {
  await inVirtualTime(async () => {
    await using pair = sessionPair();
    const controller = new AbortController();
    const [path] = testPathPair();
    const attaching = pair.a.attach(path, controller.signal);
    controller.abort(new Error("enough"));
    await assertRejects(() => attaching, Error, "enough");
    assertEquals(path.closed, "reset");
  });
});

Deno.test("an abort while attach() resolves loses the path with a NetworkError", async () => {
  await inVirtualTime(async () => {
    const events: SessionEvent[] = [];
    const controller = new AbortController();
    const onEvent = (event: SessionEvent) => {
      events.push(event);
      if (event.event === "attached") controller.abort("enough");
    };
    await using a = new Session({ role: "controlling", timeoutMs: 60_000, onEvent });
    await using b = new Session({ role: "controlled" });
    const [path, other] = testPathPair();
    await Promise.all([a.attach(path, controller.signal), b.attach(other)]);
    const lost = events.find(({ event }) => event === "lost");
    assert(lost?.event === "lost" && lost.error instanceof NetworkError);
    a.reset();
    b.reset();
  });
});

Deno.test("messages are not blocked by a full stream", async () => {
  await inVirtualTime(async () => {
    await using pair = sessionPair({ windowBytes: 65_536 });
    await connect(pair);
    const writing = pair.a.write(pattern(1_000_000)).catch(() => {});
    await pair.a.channel.send(toBytes("beside"));
    assertEquals(toText(await pair.b.channel.receive()), "beside");
    pair.a.reset();
    await writing;
    await assertNetworkError("closed", () => pair.a.channel.send(toBytes("late")));
    await assertNetworkError("reset", () => pair.b.channel.receive());
  });
});

function wait(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

Deno.test("answersWithin() is true while the other side answers, false once it is silent or has no path", async () => {
  await inVirtualTime(async () => {
    await using pair = sessionPair({ timeoutMs: 60_000 });
    assertEquals(await pair.a.answersWithin(1000), false, "before the first path");
    const [one, other] = await connect(pair, { delayMs: 20 });
    const asked = performance.now();
    assertEquals(await pair.a.answersWithin(1000), true);
    assert(performance.now() - asked <= 40, "a round trip at most");
    for (const end of [one, other]) {
      end.cutKind = "silent";
      end.cutAfter = 0;
    }
    const silent = performance.now();
    assertEquals(await pair.a.answersWithin(1000), false);
    assertEquals(performance.now() - silent, 1000);
    await connect(pair, { port: 2 });
    assertEquals(await pair.a.answersWithin(1000), true, "over another path");
    pair.a.reset();
    assertEquals(await pair.a.answersWithin(1000), false, "after the end");
  });
});

Deno.test("wasReset tells a reset by the other side from a lost path", async () => {
  await inVirtualTime(async () => {
    await using pair = sessionPair();
    await connect(pair);
    pair.b.reset();
    await assertRejects(() => pair.a.finished, NetworkError);
    assertEquals([pair.a.wasReset, pair.b.wasReset], [true, false]);
    await using lost = sessionPair();
    const [one] = await connect(lost);
    one.reset();
    await assertRejects(() => lost.b.finished, NetworkError);
    assertEquals(lost.b.wasReset, false);
  });
});
