import { assert, assertEquals, assertNotEquals, assertStrictEquals } from "@std/assert";
import { labelledRandom, randomInteger, SeededRandomness } from "./random.ts";

Deno.test("labelledRandom() is repeatable, and differs by seed and by label", () => {
  const draw = (seed: number, label: string) => {
    const random = labelledRandom(seed, label);
    return Array.from({ length: 8 }, random);
  };
  assertEquals(draw(1, "a"), draw(1, "a"));
  const streams = [draw(1, "a"), draw(2, "a"), draw(1, "b"), draw(12, "")];
  assertEquals(new Set(streams.flat()).size, 32);
});

Deno.test("labelledRandom() is uniform enough to decide on packet loss", () => {
  const random = labelledRandom(3, "even");
  const counts = Array<number>(10).fill(0);
  for (let i = 0; i < 100_000; i++) counts[randomInteger(random, 0, 9)]!++;
  for (const count of counts) assert(Math.abs(count - 10_000) < 400, `${counts}`);
});

Deno.test("SeededRandomness makes the platform's randomness repeatable, and restores it", () => {
  const { random } = Math;
  const { getRandomValues } = crypto;
  const draw = (seed: number) => {
    using _randomness = new SeededRandomness(seed);
    return [Math.random(), ...crypto.getRandomValues(new Uint32Array(4).subarray(1, 3))];
  };
  assertEquals(draw(1), draw(1));
  assertNotEquals(draw(1), draw(2));
  assert(draw(1).slice(1).every((value) => value > 0xffff), "all bytes are drawn");
  assertStrictEquals(Math.random, random);
  assertStrictEquals(crypto.getRandomValues, getRandomValues);
});
