/**
 * A peer that breaks the protocol of streams ends its own session, or loses a stream, and does no other harm.
 *
 * @module
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import fc from "fast-check";
import { concat } from "../../lib/base/bytes.ts";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import { writeAll } from "../../lib/base/reader.ts";
import { encodeSessionFrame, writeDataHeader } from "../../lib/session/frame.ts";
import { TOO_MANY_STREAMS } from "../../lib/session/streams.ts";
import { decodeStreamFrame, encodeStreamFrame, type StreamFrame } from "../../lib/session/frame.ts";
import { StreamSession } from "../../lib/session/streams.ts";
import { inVirtualTime } from "./fixtures.ts";
import { type TestPath, testPathPair } from "./test_path.ts";

for (
  const [what, ...frames] of [
    ["writes to a stream that was not opened", data(1, 1)],
    ["ends a stream that was not opened", encode({ kind: "end", id: 1 })],
    ["resets a stream that this side has not opened", encode({ kind: "reset", id: 2, code: 0 })],
    ["opens the first stream", encode({ kind: "open", id: 0 })],
    ["opens a stream of this side", encode({ kind: "open", id: 2 })],
    ["opens a stream twice", open(1), open(1)],
    ["leaves out a number", open(3)],
    ["exceeds the limit of the first stream", data(0, 65_000), data(0, 537)],
    ["exceeds the limit of a stream", open(1), data(1, 16_385)],
    ["writes after its end", open(1), encode({ kind: "end", id: 1 }), data(1, 1)],
    ["ends a stream twice", encode({ kind: "end", id: 0 }), encode({ kind: "end", id: 0 })],
    ["sends an unknown frame", Uint8Array.of(9)],
  ] as const
) {
  Deno.test(`a session ends with MalformedMessageError if the other side ${what}`, async () => {
    await inVirtualTime(async () => {
      const { session, other } = await start({ windowBytes: 65_536 });
      await send(other, ...frames);
      await assertRejects(() => session.finished, MalformedMessageError);
      await assertRejects(() => session.openStream());
      other.close();
    });
  });
}

Deno.test("a stream that is one too many is reset with a code, and the others go on", async () => {
  await inVirtualTime(async () => {
    const { session, other } = await start();
    await send(other, ...Array.from({ length: 1025 }, (_, i) => open(2 * i + 1)));
    await send(other, data(2049, 5), data(1, 5));
    await new Promise((resolve) => setTimeout(resolve, 1));
    assertEquals(session.openStreams, 1025);
    const resets = sentFrames(other).filter(({ kind }) => kind === "reset");
    assertEquals(resets, [{ kind: "reset", id: 2049, code: TOO_MANY_STREAMS }]);
    for await (const stream of session.streams) {
      assertEquals(await stream.read(new Uint8Array(9)), 5);
      break;
    }
    session.reset();
    other.close();
  });
});

Deno.test("a peer that opens streams and reads nothing ends its session", async () => {
  await inVirtualTime(async () => {
    const { session, other } = await start({ capacity: 10 });
    for (let i = 0; i < 300; i++) {
      await send(other, ...Array.from({ length: 100 }, (_, j) => open(2 * (100 * i + j) + 1)));
    }
    await assertRejects(() => session.finished, MalformedMessageError, "too many streams");
    other.close();
  });
});

Deno.test("a peer that makes this side reset streams, and reads nothing, ends its session", async () => {
  await inVirtualTime(async () => {
    const { session, other } = await start({ capacity: 10 });
    const resetting = (async () => {
      for await (const stream of session.streams) stream.reset();
    })();
    for (let i = 0; i < 300; i++) {
      await send(other, ...Array.from({ length: 100 }, (_, j) => open(2 * (100 * i + j) + 1)));
      await new Promise((resolve) => setTimeout(resolve, 1)); // they are accepted and reset
    }
    await assertRejects(() => session.finished, MalformedMessageError, "too many streams");
    await resetting;
    other.close();
  });
});

Deno.test("streams that are opened and reset again and again take no memory", async () => {
  await inVirtualTime(async () => {
    const { session, other } = await start();
    for (let i = 0; i < 5000; i++) {
      const id = 2 * i + 1;
      await send(other, open(id), data(id, 1000), encode({ kind: "reset", id, code: 1 }));
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
    assertEquals(session.openStreams, 1);
    session.reset();
    other.close();
  });
});

Deno.test("a thousand streams that are not read keep 16 KiB each at most", async () => {
  await inVirtualTime(async () => {
    const { session, other } = await start();
    const before = Deno.memoryUsage().external;
    for (let i = 0; i < 1000; i++) await send(other, open(2 * i + 1), data(2 * i + 1, 16_000));
    await new Promise((resolve) => setTimeout(resolve, 1));
    const grown = Deno.memoryUsage().external - before;
    assert(grown < 120_000_000, `${grown} bytes`); // with what the test itself has sent
    session.reset();
    other.close();
  });
});

Deno.test("frames for streams that are over are ignored", async () => {
  await inVirtualTime(async () => {
    const { session, other } = await start();
    await send(other, open(1), encode({ kind: "reset", id: 1, code: 3 }));
    await send(other, data(1, 100), encode({ kind: "end", id: 1 }));
    await send(other, encode({ kind: "window", id: 1, limit: 2 ** 50 }), data(0, 3));
    assertEquals(await session.read(new Uint8Array(9)), 3);
    session.reset();
    other.close();
  });
});

Deno.test("a session survives whatever frames a peer sends, or ends with MalformedMessageError", async () => {
  const id = fc.nat({ max: 6 });
  const frame = fc.oneof(
    fc.record({ kind: fc.constant("open" as const), id }).map(encode),
    fc.record({ kind: fc.constant("end" as const), id }).map(encode),
    fc.record({ kind: fc.constant("reset" as const), id, code: fc.nat({ max: 9 }) }).map(encode),
    fc.record({ kind: fc.constant("window" as const), id, limit: fc.maxSafeNat() }).map(encode),
    fc.tuple(id, fc.integer({ min: 1, max: 20_000 })).map(([id, length]) => data(id, length)),
    fc.uint8Array({ maxLength: 20 }),
  );
  const valid = fc.constantFrom(open(1), data(1, 10), encode({ kind: "end", id: 1 }), data(0, 9));
  const frames = fc.array(fc.oneof(frame, valid), { maxLength: 30 });
  await fc.assert(
    fc.asyncProperty(frames, fc.boolean(), async (frames, hasUser) => {
      await inVirtualTime(async () => {
        const { session, other } = await start();
        if (hasUser) use(session);
        let [hasEnded, isOver] = [false, false];
        session.finished.catch((error) => {
          hasEnded = true;
          assert(isOver || error instanceof MalformedMessageError);
        });
        await send(other, ...frames).catch(() => {}); // it may be closed already
        await new Promise((resolve) => setTimeout(resolve, 10));
        if (hasEnded) {
          assertEquals(session.openStreams, 0);
          await assertRejects(() => session.openStream());
        }
        isOver = true;
        session.reset();
        await session[Symbol.asyncDispose]();
        other.close();
      });
    }),
    { numRuns: 300 },
  );
});

/** Reads, answers and closes everything. */
async function use(session: StreamSession): Promise<void> {
  for await (const stream of session.streams) {
    stream.readable.pipeTo(stream.writable).catch(() => {});
  }
}

/** A controlled session, and the other end of its path, which the test controls. */
async function start(options: { readonly capacity?: number; readonly windowBytes?: number } = {}) {
  const [path, other] = testPathPair(options);
  const session = new StreamSession({ role: "controlled", windowBytes: options.windowBytes });
  session.finished.catch(() => {}); // each test says what it expects
  const attaching = session.attach(path);
  await writeAll(
    other,
    concat(
      encodeSessionFrame({ kind: "hello", version: 2, pathNumber: 1, received: 0, limit: 2 ** 40 }),
      encodeSessionFrame({ kind: "start", offset: 0 }),
    ),
  );
  if (options.capacity === undefined) await attaching;
  else attaching.catch(() => {});
  return { session, other };
}

async function send(other: TestPath, ...frames: readonly Uint8Array[]): Promise<void> {
  const bytes = concat(...frames);
  for (let at = 0; at < bytes.length;) {
    const part = bytes.subarray(at, at + 60_000);
    const frame = new Uint8Array(3 + part.length);
    writeDataHeader(frame, 0, part.length);
    frame.set(part, 3);
    await writeAll(other, frame);
    at += part.length;
  }
}

/** The frames of streams that the session has written. */
function sentFrames(other: TestPath): StreamFrame[] {
  const frames: StreamFrame[] = [];
  for (const bytes of other.received) {
    for (let at = 0; at < bytes.length;) {
      if (bytes[at] !== 4) break; // the frames of the session come first in each write
      const length = bytes[at + 1]! << 8 | bytes[at + 2]!;
      let rest = bytes.subarray(at + 3, at + 3 + length);
      while (rest.length > 0) {
        const decoded = decodeStreamFrame(rest)!;
        frames.push(decoded.frame);
        rest = rest.subarray(decoded.length);
      }
      at += 3 + length;
    }
  }
  return frames;
}

function open(id: number): Uint8Array {
  return encode({ kind: "open", id });
}

function encode(frame: StreamFrame): Uint8Array {
  return encodeStreamFrame(frame);
}

function data(id: number, length: number): Uint8Array {
  return concat(encode({ kind: "data", id, length }), new Uint8Array(length));
}
