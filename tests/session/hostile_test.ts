/**
 * A peer that does not keep to the protocol ends its own session, and costs nothing else.
 *
 * @module
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import fc from "fast-check";
import { concat } from "../../lib/base/bytes.ts";
import { MalformedMessageError, NetworkError } from "../../lib/base/errors.ts";
import { encodeFrame, type Frame, writeDataHeader } from "../../lib/session/frame.ts";
import { Session, type SessionRole } from "../../lib/session/session.ts";
import { inVirtualTime, pattern } from "./fixtures.ts";
import { type TestPath, testPathPair } from "./test_path.ts";

const HELLO = frame({ kind: "hello", version: 1, generation: 1, received: 0, limit: 65_536 });
const START = frame({ kind: "start", offset: 0 });

for (
  const [what, ...parts] of [
    ["says no hello", START],
    ["says hello twice", HELLO, HELLO],
    ["says hello in another version", HELLO.with(1, 2)],
    ["sends data before it starts", HELLO, data(1)],
    ["starts twice", HELLO, START, START],
    ["leaves out the beginning", HELLO, frame({ kind: "start", offset: 1 })],
    ["acknowledges what was never sent", HELLO, frame({ kind: "ack", received: 1, limit: 0 })],
    ["has received before anything was sent", HELLO.with(13, 1)],
    ["sends more than it may", HELLO, START, data(65_000), data(537)],
    ["ends before its end", HELLO, START, data(2), frame({ kind: "fin", offset: 1 })],
    ["ends beyond its end", HELLO, START, data(2), frame({ kind: "fin", offset: 3 })],
    ["goes on after its end", HELLO, START, frame({ kind: "fin", offset: 0 }), data(1)],
    ["sends what is no frame", HELLO, Uint8Array.of(0xff)],
  ] as const
) {
  Deno.test(`a session ends with MalformedMessageError if the other side ${what}`, async () => {
    await inVirtualTime(async () => {
      const { session, other, attaching } = open("controlled", 65_536);
      await other.write(concat(...parts));
      await assertRejects(() => session.finished, MalformedMessageError);
      await assertRejects(() => session.write(Uint8Array.of(1)), MalformedMessageError);
      await attaching;
      other.close();
      await session[Symbol.asyncDispose]();
    });
  });
}

Deno.test("an end that was moved over another path is noticed", async () => {
  await inVirtualTime(async () => {
    const { session, other, attaching } = open("controlled");
    await other.write(concat(HELLO, START, data(5), frame({ kind: "fin", offset: 5 })));
    await attaching;
    const [path, next] = testPathPair();
    const again = session.attach(path).catch(() => {});
    await next.write(concat(HELLO.with(5, 2), START, frame({ kind: "fin", offset: 4 })));
    await assertRejects(() => session.finished, MalformedMessageError);
    await again;
    other.close();
    next.close();
    await session[Symbol.asyncDispose]();
  });
});

Deno.test("nothing that a peer sends makes a session fail otherwise, get stuck, or keep a timer", async () => {
  const number = fc.oneof(fc.nat(20), fc.nat(70_000), fc.maxSafeNat());
  const frames = fc.oneof(
    fc.record({ kind: fc.constant("hello" as const), ...helloFields() }),
    fc.record({ kind: fc.constantFrom("start" as const, "fin" as const), offset: number }),
    fc.record({ kind: fc.constant("ack" as const), received: number, limit: number }),
    fc.record({ kind: fc.constantFrom("ping" as const, "pong" as const), token: fc.nat() }),
    fc.record({ kind: fc.constant("message" as const), message: fc.uint8Array({ maxLength: 9 }) }),
    fc.record({ kind: fc.constantFrom("done" as const, "reset" as const) }),
  ).map((each) => frame(each as Exclude<Frame, { kind: "data" }>));
  const parts = fc.array(
    fc.oneof(
      { weight: 6, arbitrary: frames },
      { weight: 4, arbitrary: fc.integer({ min: 1, max: 9000 }).map(data) },
      { weight: 1, arbitrary: fc.uint8Array({ maxLength: 20 }) },
      { weight: 3, arbitrary: fc.constantFrom(START, frame({ kind: "fin", offset: 9 })) },
    ),
    { maxLength: 20 },
  );
  const role = fc.constantFrom<SessionRole>("controlling", "controlled");
  await fc.assert(
    fc.asyncProperty(role, parts, fc.boolean(), async (role, parts, hasHello) => {
      await inVirtualTime(async () => {
        const { session, other, attaching } = open(role);
        const outcome = session.finished.catch((error) => error);
        const reading = session.read(new Uint8Array(100)).catch(() => {});
        const writing = session.write(pattern(200_000)).catch(() => {});
        await other.write(concat(...hasHello ? [HELLO] : [], ...parts));
        await new Promise((resolve) => setTimeout(resolve, 100));
        session.reset();
        const error = await outcome;
        assert(error instanceof MalformedMessageError || error instanceof NetworkError, `${error}`);
        await Promise.all([reading, writing, attaching]);
        other.close();
        await session[Symbol.asyncDispose]();
      });
    }),
    { numRuns: 500 },
  );
});

Deno.test("pings, messages and windows without measure make nothing grow", async () => {
  await inVirtualTime(async () => {
    const { session, other, attaching } = open("controlled", 65_536);
    const ack = frame({ kind: "ack", received: 0, limit: Number.MAX_SAFE_INTEGER });
    await other.write(concat(HELLO, START, ack));
    await attaching;
    let taken = 0;
    const writing = (async () => {
      for (;;) taken += await session.write(pattern(1000));
    })().catch(() => {});
    const ping = frame({ kind: "ping", token: 1 });
    const message = frame({ kind: "message", message: pattern(4096) });
    for (let i = 0; i < 1000; i++) await other.write(concat(ping, ping, message));
    await new Promise((resolve) => setTimeout(resolve, 1000));
    assert(taken <= 65_536, `${taken} bytes were taken that nobody has acknowledged`);
    for (let i = 0; i < 16; i++) await session.channel.receive();
    const none = session.channel.receive().catch((error) => error);
    session.reset();
    assert(await none instanceof NetworkError);
    await writing;
    other.close();
    await session[Symbol.asyncDispose]();
  });
});

Deno.test("a path with a number that was used is not taken, and the one before stays", async () => {
  await inVirtualTime(async () => {
    const { session, other, attaching } = open("controlled");
    await other.write(concat(HELLO, START));
    await attaching;
    const [path, stale] = testPathPair();
    const refused = assertRejects(() => session.attach(path), NetworkError, "newer");
    await stale.write(HELLO);
    await refused;
    await other.write(data(3));
    assertEquals(await session.read(new Uint8Array(9)), 3);
    session.reset();
    other.close();
    await session[Symbol.asyncDispose]();
  });
});

interface Opened {
  readonly session: Session;
  /** The end of the path that a test speaks for. */
  readonly other: TestPath;
  readonly attaching: Promise<void>;
}

function open(role: SessionRole, windowBytes?: number): Opened {
  const [path, other] = testPathPair();
  const session = new Session({ role, ...windowBytes !== undefined && { windowBytes } });
  return { session, other, attaching: session.attach(path).catch(() => {}) };
}

function helloFields() {
  return {
    version: fc.constant(1),
    generation: fc.nat(3),
    received: fc.nat(2),
    limit: fc.maxSafeNat(),
  };
}

function frame(each: Exclude<Frame, { kind: "data" }>): Uint8Array<ArrayBuffer> {
  return encodeFrame(each);
}

function data(length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(3 + length);
  writeDataHeader(bytes, 0, length);
  return bytes;
}
