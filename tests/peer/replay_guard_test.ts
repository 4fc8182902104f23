import { assertEquals } from "@std/assert";
import { REPLAY_LIMITS, ReplayGuard } from "../../lib/peer/replay_guard.ts";

Deno.test("ReplayGuard accepts a request once", () => {
  const guard = new ReplayGuard();
  const request = requestOf(1);
  assertEquals(guard.isReplay(request.ephemeralKey, NOW_MS), false);
  assertEquals(guard.judge(request, NOW_MS), "fresh");
  assertEquals(guard.isReplay(request.ephemeralKey, NOW_MS), true);
});

Deno.test("ReplayGuard remembers a request for longer than it is fresh", () => {
  const guard = new ReplayGuard();
  const { maxClockDifferenceMs } = REPLAY_LIMITS;
  const early = { ...requestOf(1), sentAtMs: NOW_MS + maxClockDifferenceMs };
  assertEquals(guard.judge(early, NOW_MS), "fresh");
  const lastMs = NOW_MS + 2 * maxClockDifferenceMs;
  assertEquals(guard.isReplay(early.ephemeralKey, lastMs - 1), true);
  assertEquals(guard.isReplay(early.ephemeralKey, lastMs), false);
  assertEquals(guard.judge(early, lastMs + 1), "wrong-clock");
});

Deno.test("ReplayGuard rejects requests from the past and from the future", () => {
  const guard = new ReplayGuard();
  for (const difference of [-1, 1]) {
    const sentAtMs = NOW_MS + difference * (REPLAY_LIMITS.maxClockDifferenceMs + 1);
    assertEquals(guard.judge({ ...requestOf(difference + 5), sentAtMs }, NOW_MS), "wrong-clock");
  }
});

Deno.test("ReplayGuard limits the requests of one key, and lets others through", () => {
  const guard = new ReplayGuard({ ...REPLAY_LIMITS, burstPerKey: 3, perKeyPerSecond: 1 });
  const verdicts = Array.from({ length: 5 }, (_, i) => guard.judge(requestOf(i), NOW_MS));
  assertEquals(verdicts, ["fresh", "fresh", "fresh", "too-many", "too-many"]);
  const other = { ...requestOf(9), remoteKey: Uint8Array.of(2) };
  assertEquals(guard.judge(other, NOW_MS), "fresh");
  assertEquals(guard.judge(requestOf(10), NOW_MS + 1000), "fresh");
});

Deno.test("ReplayGuard remembers no more requests than its limit", () => {
  const guard = new ReplayGuard({ ...REPLAY_LIMITS, maxRemembered: 2, burstPerKey: 100 });
  const verdicts = Array.from({ length: 3 }, (_, i) => guard.judge(requestOf(i), NOW_MS));
  assertEquals(verdicts, ["fresh", "fresh", "too-many"]);
});

function requestOf(index: number) {
  return {
    ephemeralKey: Uint8Array.of(index),
    remoteKey: Uint8Array.of(1),
    sentAtMs: NOW_MS,
  };
}

const NOW_MS = 1_790_000_000_000;
