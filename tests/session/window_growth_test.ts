/**
 * Windows that grow with bandwidth x delay, and the memory that they may take.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import {
  FIRST_WINDOW_BYTES,
  MAX_WINDOW_BYTES,
  type Window,
  WindowBudget,
  WindowGrowth,
} from "../../lib/session/receive_stream.ts";
import type { StreamSessionOptions } from "../../lib/session/options.ts";
import { connect, inVirtualTime, streamSessionPair } from "./fixtures.ts";

const MIB = 1024 * 1024;
const LIMITS = { totalBytes: 64 * MIB, perOwnerBytes: 32 * MIB };
const RTT_MS = 80;
const FACTOR = MAX_WINDOW_BYTES / FIRST_WINDOW_BYTES;

/** How the factor grows if each window is used up in this time. */
const GROWTH: readonly (readonly [
  what: string,
  windowMs: number,
  rttMs: number | undefined,
  factors: number[],
])[] = [
  ["a window that is used up within a round trip doubles, up to the largest", 80, 80, [
    2,
    4,
    8,
    8,
  ]],
  ["a window that lasts for two round trips is large enough", 160, 80, [1, 1, 1, 1]],
  ["a window stays as it is while the round trip is not known", 1, undefined, [1, 1, 1, 1]],
];

for (const [what, windowMs, rttMs, factors] of GROWTH) {
  Deno.test(what, () => {
    const growth = new WindowGrowth(() => rttMs);
    let [offset, nowMs] = [0, 1000];
    growth.note(offset, FIRST_WINDOW_BYTES, nowMs);
    const seen = factors.map(() => {
      const windowBytes = growth.factor * FIRST_WINDOW_BYTES;
      growth.note(offset + windowBytes / 4, windowBytes, nowMs + windowMs / 4); // too early to tell
      growth.note(offset += windowBytes, windowBytes, nowMs += windowMs);
      return growth.factor;
    });
    assertEquals(seen, factors);
  });
}

Deno.test("a window for which there is no memory does not ask for more", () => {
  const growth = new WindowGrowth(() => RTT_MS);
  for (let i = 0; i < 10; i++) growth.note(i * MIB, MIB, i);
  assertEquals(growth.factor, 1);
});

Deno.test("what a window has grown by is not taken from others", () => {
  const budget = new WindowBudget(LIMITS);
  const sizes = Array.from({ length: 1000 }, () => {
    const window = budget.of("one").open();
    for (let i = 0; i < 10; i++) window.hold(Math.min(MAX_WINDOW_BYTES, window.mayHold(true)));
    return budget.heldBytes;
  });
  assert(sizes[0]! >= 16 * MIB, `the first one holds ${sizes[0]}`);
  assert(sizes[999]! <= 2 * LIMITS.perOwnerBytes, `all hold ${sizes[999]}`);
  assert(budget.of("two").open().mayHold() >= FIRST_WINDOW_BYTES);
});

Deno.test("a grown window leaves as much to the next as one that has not grown", () => {
  const [left, leftByGrown] = [1, FACTOR].map((factor) => {
    const budget = new WindowBudget(LIMITS);
    const window = budget.of("one").open();
    for (let i = 0; i < 10; i++) {
      window.hold(Math.min(factor * FIRST_WINDOW_BYTES, window.mayHold(factor > 1)));
    }
    return budget.of("one").open().mayHold();
  });
  assertEquals(leftByGrown, left);
});

Deno.test("one stream carries more than 200 MB/s over a round trip of 80 ms", () =>
  assertRate({ windows: { open: openWindow } }, (rate) => rate >= 200));

Deno.test("a window that the application limits does not grow", () =>
  assertRate({ windowBytes: FIRST_WINDOW_BYTES }, (rate) => rate <= 53));

/** The two sides are different processes, each with its own budget. */
function openWindow(): Window {
  return new WindowBudget().of("peer").open();
}

/** Checks how many MB/s one stream carries once its windows have grown. */
async function assertRate(
  options: Partial<StreamSessionOptions>,
  isRight: (rate: number) => boolean,
): Promise<void> {
  await inVirtualTime(async (time) => {
    await using pair = streamSessionPair(options);
    const [path] = await connect(pair, { delayMs: RTT_MS / 2 });
    const data = new Uint8Array(MIB);
    const buffer = new Uint8Array(65_536);
    const carry = async (mebibytes: number) => {
      const startMs = time.nowMs;
      const writing = (async () => {
        for (let i = 0; i < mebibytes; i++) {
          await pair.a.write(data);
          path.written.length = 0;
        }
      })();
      for (let left = mebibytes * MIB; left > 0;) left -= (await pair.b.read(buffer))!;
      await writing;
      return mebibytes * MIB / 1000 / (time.nowMs - startMs);
    };
    await carry(64);
    const rate = await carry(128);
    assert(isRight(rate), `${rate} MB/s`);
  });
}
