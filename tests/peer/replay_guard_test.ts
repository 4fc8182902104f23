import { assertEquals } from "@std/assert";
import { REPLAY_LIMITS, ReplayGuard } from "../../lib/peer/replay_guard.ts";
import type { Clocks } from "../../lib/base/timers.ts";

Deno.test("ReplayGuard accepts a request once", () => {
  const guard = new ReplayGuard();
  const request = requestOf(1);
  assertEquals(guard.isReplay(request.ephemeralKey, NOW_MS), false);
  assertEquals(guard.judge(request, at(NOW_MS)), "fresh");
  assertEquals(guard.isReplay(request.ephemeralKey, NOW_MS), true);
});

Deno.test("ReplayGuard remembers a request for longer than it is fresh", () => {
  const guard = new ReplayGuard();
  const { maxClockDifferenceMs } = REPLAY_LIMITS;
  const early = { ...requestOf(1), sentAtMs: NOW_MS + maxClockDifferenceMs };
  assertEquals(guard.judge(early, at(NOW_MS)), "fresh");
  const lastMs = NOW_MS + 2 * maxClockDifferenceMs;
  assertEquals(guard.isReplay(early.ephemeralKey, lastMs - 1), true);
  assertEquals(guard.isReplay(early.ephemeralKey, lastMs), false);
  assertEquals(guard.judge(early, at(lastMs + 1)), "wrong-clock");
});

Deno.test("ReplayGuard rejects requests from the past and from the future", () => {
  const guard = new ReplayGuard();
  for (const difference of [-1, 1]) {
    const sentAtMs = NOW_MS + difference * (REPLAY_LIMITS.maxClockDifferenceMs + 1);
    assertEquals(
      guard.judge({ ...requestOf(difference + 5), sentAtMs }, at(NOW_MS)),
      "wrong-clock",
    );
  }
});

Deno.test("ReplayGuard limits the requests of one key, and lets others through", () => {
  const guard = new ReplayGuard({ ...REPLAY_LIMITS, burstPerKey: 3, perKeyPerSecond: 1 });
  const verdicts = Array.from({ length: 5 }, (_, i) => guard.judge(requestOf(i), at(NOW_MS)));
  assertEquals(verdicts, ["fresh", "fresh", "fresh", "too-many", "too-many"]);
  const other = { ...requestOf(9), remoteKey: Uint8Array.of(2) };
  assertEquals(guard.judge(other, at(NOW_MS)), "fresh");
  assertEquals(guard.judge(requestOf(10), at(NOW_MS + 1000)), "fresh");
});

Deno.test("ReplayGuard forgets the oldest request rather than turn a new one away", () => {
  const guard = new ReplayGuard({ ...REPLAY_LIMITS, maxRemembered: 2 });
  const requests = [0, 1, 2].map((i) => ({ ...requestOf(i), remoteKey: Uint8Array.of(i) }));
  assertEquals(requests.map((each) => guard.judge(each, at(NOW_MS))), ["fresh", "fresh", "fresh"]);
  const known = requests.map(({ ephemeralKey }) => guard.isReplay(ephemeralKey, NOW_MS));
  assertEquals(known, [false, true, true]);
});

Deno.test("a key with too many requests makes ReplayGuard forget its own alone", () => {
  const guard = new ReplayGuard({ ...REPLAY_LIMITS, maxRememberedPerKey: 2 });
  const other = { ...requestOf(9), remoteKey: Uint8Array.of(9) };
  for (const each of [other, requestOf(0), requestOf(1), requestOf(2)]) {
    assertEquals(guard.judge(each, at(NOW_MS)), "fresh");
  }
  const known = [9, 0, 1, 2].map((i) => guard.isReplay(Uint8Array.of(i), NOW_MS));
  assertEquals(known, [true, false, true, true]);
});

Deno.test("ReplayGuard forgets in time whatever the wall clock does", () => {
  const guard = new ReplayGuard({ ...REPLAY_LIMITS, maxRemembered: 4 });
  const yearMs = 365 * 24 * 3_600_000;
  const early = { ...requestOf(1), sentAtMs: NOW_MS + yearMs };
  assertEquals(guard.judge(early, { nowMs: 0, wallMs: NOW_MS + yearMs }), "fresh");
  assertEquals(guard.judge(requestOf(2), { nowMs: 1, wallMs: NOW_MS }), "fresh"); // the clock was set
  const laterMs = 2 * REPLAY_LIMITS.maxClockDifferenceMs + 1;
  assertEquals([1, 2].map((i) => guard.isReplay(Uint8Array.of(i), laterMs)), [false, false]);
});

Deno.test("ReplayGuard remembers nothing about a request with a wrong clock", () => {
  const guard = new ReplayGuard({ ...REPLAY_LIMITS, burstPerKey: 1, perKeyPerSecond: 1 });
  const stale = { ...requestOf(1), sentAtMs: 0 };
  assertEquals(guard.judge(stale, at(NOW_MS)), "wrong-clock");
  assertEquals(guard.isReplay(stale.ephemeralKey, NOW_MS), false);
  assertEquals(guard.judge(requestOf(2), at(NOW_MS)), "fresh");
});

const HOUR_MS = 3_600_000;
const YEAR_MS = 365 * 24 * HOUR_MS;

for (
  const [what, { sentAtMs, ageMs, nowMs, wallMs }, verdict] of [
    ["clocks that go right", {}, "fresh"],
    ["a wall clock here that was set ahead", { wallMs: YEAR_MS }, "fresh"],
    ["a wall clock there that was set back", { sentAtMs: -YEAR_MS }, "fresh"],
    ["both, in opposite directions", { wallMs: YEAR_MS, sentAtMs: -YEAR_MS }, "fresh"],
    ["a host here that slept", { nowMs: -HOUR_MS }, "fresh"],
    ["a host there that slept", { ageMs: -HOUR_MS }, "fresh"],
    [
      "a host here that slept, and a wall clock there",
      { nowMs: -HOUR_MS, sentAtMs: YEAR_MS },
      "fresh",
    ],
    [
      "a host there that slept, and a wall clock here",
      { ageMs: -HOUR_MS, wallMs: YEAR_MS },
      "fresh",
    ],
    [
      "a request that was held up for an hour",
      { ageMs: -HOUR_MS, sentAtMs: -HOUR_MS },
      "wrong-clock",
    ],
    ["a request that names an age before that of the last", { ageMs: -2 * HOUR_MS }, "replay"],
  ] as [string, Partial<Record<"sentAtMs" | "ageMs" | "nowMs" | "wallMs", number>>, string][]
) {
  Deno.test(`ReplayGuard judges a request for a connection: ${what}`, () => {
    const ageNowMs = 3 * HOUR_MS;
    const resumed = {
      madeAt: at(NOW_MS - ageNowMs),
      ageMs: ageNowMs + (ageMs ?? 0),
      lastAgeMs: HOUR_MS,
    };
    const request = { ...requestOf(1), sentAtMs: NOW_MS + (sentAtMs ?? 0), resumed };
    const clocks = { nowMs: NOW_MS + (nowMs ?? 0), wallMs: NOW_MS + (wallMs ?? 0) };
    assertEquals(new ReplayGuard().judge(request, clocks), verdict);
  });
}

/** Both clocks show the same. */
function at(ms: number): Clocks {
  return { nowMs: ms, wallMs: ms };
}

function requestOf(index: number) {
  return {
    ephemeralKey: Uint8Array.of(index),
    remoteKey: Uint8Array.of(1),
    sentAtMs: NOW_MS,
    resumed: null,
  };
}

const NOW_MS = 1_790_000_000_000;
