import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { RateLimiter } from "../../lib/base/rate_limiter.ts";

Deno.test("take() allows the burst, then what the rate adds", () => {
  const limiter = new RateLimiter({ burst: 3, perSecond: 2 }, 1);
  const take = (nowMs: number) => limiter.take("192.0.2.1", 1, nowMs);
  assertEquals([take(0), take(0), take(0), take(0)], [true, true, true, false]);
  assertEquals([take(499), take(500), take(500)], [false, true, false]);
});

Deno.test("take() takes nothing if there are too few tokens", () => {
  const limiter = new RateLimiter({ burst: 10, perSecond: 0 }, 1);
  assertEquals(limiter.take("192.0.2.1", 11, 0), false);
  assertEquals(limiter.take("192.0.2.1", 10, 0), true);
});

Deno.test("take() remembers what a source has used through a flood of others", () => {
  const limiter = new RateLimiter({ burst: 1, perSecond: 0 }, 7);
  limiter.take("192.0.2.1", 1, 0);
  for (let i = 0; i < 100_000; i++) {
    limiter.take(`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`, 1, 1);
  }
  assertEquals(limiter.take("192.0.2.1", 1, 2), false);
});

Deno.test("take() spreads neighbouring sources over the buckets", () => {
  const limiter = new RateLimiter({ burst: 1, perSecond: 0 }, 0x1234_5678);
  let allowed = 0;
  for (let i = 0; i < 1000; i++) {
    if (limiter.take(`192.0.${i >> 8}.${i & 255}`, 1, 0)) allowed++;
  }
  assert(allowed > 900, `${allowed} of 1000 sources had a bucket of their own`);
});

Deno.test("take() never allows more than the burst and the rate, whatever the sequence of calls", () => {
  const asked = fc.array(fc.record({ amount: fc.nat(50), laterMs: fc.nat(2000) }));
  fc.assert(fc.property(asked, (asks) => {
    const limiter = new RateLimiter({ burst: 100, perSecond: 10 }, 3);
    let nowMs = 0;
    let taken = 0;
    for (const { amount, laterMs } of asks) {
      nowMs += laterMs;
      if (limiter.take("192.0.2.1", amount, nowMs)) taken += amount;
    }
    assert(taken <= 100 + nowMs / 1000 * 10 + 1e-6);
  }));
});
