import { assertEquals } from "@std/assert";
import { backoff } from "../../lib/base/backoff.ts";

Deno.test("backoff() doubles the wait with each failure, up to the maximum", () => {
  const waits = [1, 2, 3, 4, 5, 60].map((failures) =>
    backoff({ firstMs: 500, maximumMs: 6000 }, failures)
  );
  assertEquals(waits, [500, 1000, 2000, 4000, 6000, 6000]);
});

Deno.test("backoff() uses the given factor", () => {
  const policy = { firstMs: 100, maximumMs: 1000, factor: 1.5 };
  assertEquals([1, 2, 3].map((failures) => backoff(policy, failures)), [100, 150, 225]);
});

Deno.test("backoff() stays at the maximum, however many failures there are", () => {
  assertEquals(backoff({ firstMs: 1, maximumMs: 300 }, 1e6), 300);
});
