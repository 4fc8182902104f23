import { assert, assertEquals } from "@std/assert";
import * as fc from "fast-check";
import { renewalMs, repairDelayMs, restartDelayMs } from "../../lib/portmap/lease_engine.ts";

const HOUR = { lifetimeSeconds: 3600, grantedAtMs: 1000 };

Deno.test("renewalMs() is between 1/2 and 5/8, then 3/4 and 13/16, and so on, as RFC 6887 §11.2.1", () => {
  const shares = [0, 1, 2].map((attempt) =>
    [0, 1].map((random) => (renewalMs(HOUR, attempt, random) - 1000) / 3_600_000)
  );
  assertEquals(shares, [[1 / 2, 5 / 8], [3 / 4, 13 / 16], [7 / 8, 29 / 32]]);
});

Deno.test("renewalMs() tries no more often than every 4 s, and never after the lease is over", () => {
  fc.assert(fc.property(
    fc.integer({ min: 1, max: 0xffff_ffff }),
    fc.integer({ min: 0, max: 40 }),
    fc.double({ min: 0, max: 1, noNaN: true }),
    (lifetimeSeconds, attempt, random) => {
      const lease = { lifetimeSeconds, grantedAtMs: 0 };
      const atMs = renewalMs(lease, attempt, random);
      assert(atMs === Infinity || atMs < lifetimeSeconds * 1000);
      if (attempt === 0 || atMs === Infinity) return;
      assert(lifetimeSeconds * 2 ** -(attempt + 1) >= 4);
    },
  ));
});

Deno.test("renewalMs() leaves what never expires alone", () => {
  assertEquals(renewalMs({ lifetimeSeconds: Infinity, grantedAtMs: 0 }, 0, 0), Infinity);
});

Deno.test("repairDelayMs() doubles from 4 s to 5 min", () => {
  assertEquals([1, 2, 3, 7, 8, 100].map(repairDelayMs), [
    ...[4000, 8000, 16_000, 256_000, 300_000, 300_000],
  ]);
});

Deno.test("restartDelayMs() is 0 to 5 s, as RFC 6887 §8.5", () => {
  assertEquals([restartDelayMs(0), restartDelayMs(1)], [0, 5000]);
});
