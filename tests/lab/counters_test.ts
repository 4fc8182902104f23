import { assertEquals } from "@std/assert";
import { percentiles } from "../../lab/kernel/counters.ts";

Deno.test("percentiles() computes the median, the 99th percentile and the maximum", () => {
  const values = Array.from({ length: 200 }, (_, index) => 200 - index);
  assertEquals(percentiles(values), { samples: 200, p50Ms: 101, p99Ms: 199, maxMs: 200 });
});

Deno.test("percentiles() returns zeros for no values", () => {
  assertEquals(percentiles([]), { samples: 0, p50Ms: 0, p99Ms: 0, maxMs: 0 });
});
