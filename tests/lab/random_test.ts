import { assert, assertEquals } from "@std/assert";
import { seededRandom } from "../../lab/model/random.ts";

Deno.test("seededRandom() repeats for the same seed and differs for another", () => {
  const first = (seed: number) => Array.from({ length: 5 }, seededRandom(seed));
  assertEquals(first(1), first(1));
  assert(first(1).every((value, index) => value !== first(2)[index]));
});

Deno.test("seededRandom() is uniform from 0 to 1", () => {
  const counts = new Array<number>(10).fill(0);
  const random = seededRandom(7);
  for (let i = 0; i < 10_000; i++) counts[Math.floor(random() * 10)]!++;
  // 1000 each, with a standard deviation of 30.
  assert(counts.every((count) => count > 850 && count < 1150), String(counts));
});
