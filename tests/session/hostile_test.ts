/**
 * A peer that breaks the protocol ends its own session, and does no other harm.
 *
 * @module
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import fc from "fast-check";
import { concat } from "../../lib/base/bytes.ts";
import { MalformedMessageError, NetworkError } from "../../lib/base/errors.ts";
import { type ControlFrame, encodeSessionFrame, writeDataHeader } from "../../lib/session/frame.ts";
import type { SessionRole } from "../../lib/session/migration_engine.ts";
import { Session } from "../../lib/session/session.ts";
import { inVirtualTime, pattern } from "./fixtures.ts";
import { type TestPath, testPathPair } from "./test_path.ts";

const HELLO = frame({ kind: "hello", version: 2, pathNumber: 1, received: 0, limit: 65_536 });
const START = frame({ kind: "start", offset: 0 });

for (
  const [what, ...parts] of [
    ["sends no HELLO", START],
    ["sends HELLO twice", HELLO, HELLO],
    ["sends HELLO with another version", HELLO.with(1, 1)],
    ["sends DATA before START", HELLO, data(1)],
    ["sends START twice", HELLO, START, START],
    ["skips the beginning", HELLO, frame({ kind: "start", offset: 1 })],
    [
      "acknowledges bytes that were never sent",
      HELLO,
      frame({ kind: "ack", received: 1, limit: 0 }),
    ],
    ["acknowledges bytes in HELLO that were never sent", HELLO.with(13, 1)],
    ["exceeds the limit", HELLO, START, data(65_000), data(537)],
    [
      "sends FIN before the end of its DATA",
      HELLO,
      START,
      data(2),
      frame({ kind: "fin", offset: 1 }),
    ],
    [
      "sends FIN beyond the end of its DATA",
      HELLO,
      START,
      data(2),
      frame({ kind: "fin", offset: 3 }),
    ],
    ["sends DATA after FIN", HELLO, START, frame({ kind: "fin", offset: 0 }), data(1)],
    ["sends an unknown frame", HELLO, Uint8Array.of(0xff)],
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

Deno.test("a FIN at another offset on another path ends the session", async () => {
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

Deno.test("no input makes a session fail in another way, hang or leave a timer", async () => {
  const number = fc.oneof(fc.nat(20), fc.nat(70_000), fc.maxSafeNat());
  const frames = fc.oneof(
    fc.record({ kind: fc.constant("hello" as const), ...helloFields() }),
    fc.record({ kind: fc.constantFrom("start" as const, "fin" as const), offset: number }),
    fc.record({ kind: fc.constant("ack" as const), received: number, limit: number }),
    fc.record({ kind: fc.constantFrom("ping" as const, "pong" as const), token: fc.nat() }),
    fc.record({ kind: fc.constant("message" as const), message: fc.uint8Array({ maxLength: 9 }) }),
    fc.record({ kind: fc.constantFrom("done" as const, "reset" as const) }),
    fc.record({ kind: fc.constant("abort" as const), code: fc.nat(65_535) }),
  ).map((each) => frame(each as ControlFrame));
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

Deno.test("floods of pings and messages and an unlimited window do not make memory grow", async () => {
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
    assert(taken <= 65_536, `${taken} unacknowledged bytes were accepted`);
    for (let i = 0; i < 16; i++) await session.channel.receive();
    const none = session.channel.receive().catch((error) => error);
    session.reset();
    assert(await none instanceof NetworkError);
    await writing;
    other.close();
    await session[Symbol.asyncDispose]();
  });
});

Deno.test("a path with a used number is rejected, and the current path stays", async () => {
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

Deno.test("a session of another version is told ours, so that both sides know which of them to update", async () => {
  await inVirtualTime(async () => {
    const { session, other, attaching } = open("controlled");
    await other.write(HELLO.with(1, 1));
    const error = await assertRejects(() => session.finished, MalformedMessageError, "version 1");
    assertEquals(error.remedy, "Update Punchline on the other side");
    const told = new Uint8Array(100);
    assertEquals(await other.read(told), HELLO.length);
    assertEquals([told[0], told[1]], [HELLO[0], 2]);
    assertEquals(await other.read(told), null);
    await attaching;
    other.close();
  });
});

interface Opened {
  readonly session: Session;
  /** The other end of the path, which the test controls. */
  readonly other: TestPath;
  readonly attaching: Promise<void>;
}

function open(role: SessionRole, windowBytes?: number): Opened {
  const [path, other] = testPathPair();
  const session = new Session({ role, windowBytes });
  return { session, other, attaching: session.attach(path).catch(() => {}) };
}

function helloFields() {
  return {
    version: fc.constant(2),
    pathNumber: fc.nat(3),
    received: fc.nat(2),
    limit: fc.maxSafeNat(),
  };
}

function frame(each: ControlFrame): Uint8Array<ArrayBuffer> {
  return encodeSessionFrame(each);
}

function data(length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(3 + length);
  writeDataHeader(bytes, 0, length);
  return bytes;
}
