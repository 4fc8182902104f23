import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { hitProbability, splitForChance } from "../../lib/punch/birthday.ts";

/** A NAT with all ports from 1024 to 65535. */
const ALL_PORTS = 64_512;

for (
  const [sockets, ports, space, percent] of [
    [64, 64, 1024, 98.6],
    [64, 64, 2016, 87.7],
    [256, 512, ALL_PORTS, 87.0],
    [256, 1024, ALL_PORTS, 98.3],
    [256, 174, 65_535, 49.4], // Tailscale's blog says 50 %
    [256, 2048, 65_535, 100], // and 99.9 %
    [1, 174, 174, 100],
    [0, 100, ALL_PORTS, 0],
    [100, 0, ALL_PORTS, 0],
  ] as const
) {
  Deno.test(`hitProbability() of ${sockets} sockets and ${ports} of ${space} ports is ${percent} %`, () => {
    const actual = 100 * hitProbability({ sockets, ports }, space);
    assert(Math.abs(actual - percent) <= 0.1, `${actual}`);
  });
}

Deno.test("splitForChance() takes as many sockets as ports if neither is capped", () => {
  const split = splitForChance(0.98, 1024, CAPS);
  assertEquals(split.sockets, split.ports);
  assert(hitProbability(split, 1024) >= 0.98);
  const cheaper = { sockets: split.sockets - 1, ports: split.ports - 1 };
  assert(hitProbability(cheaper, 1024) < 0.98);
});

Deno.test("splitForChance() adds ports once the sockets are at their cap", () => {
  assertEquals(splitForChance(0.98, ALL_PORTS, CAPS), { sockets: 256, ports: 977 });
  assert(hitProbability({ sockets: 256, ports: 977 }, ALL_PORTS) >= 0.98);
  assert(hitProbability({ sockets: 256, ports: 976 }, ALL_PORTS) < 0.98);
});

Deno.test("splitForChance() returns what the caps allow if the chance is out of reach", () => {
  assertEquals(splitForChance(0.9999, ALL_PORTS, CAPS), { sockets: 256, ports: 1024 });
});

Deno.test("splitForChance() stays within the caps and the port space, and reaches the chance if they allow it", () => {
  fc.assert(fc.property(
    fc.double({ min: 0, max: 0.999, noNaN: true }),
    fc.integer({ min: 1, max: ALL_PORTS }),
    fc.record({
      sockets: fc.integer({ min: 1, max: 300 }),
      ports: fc.integer({ min: 1, max: 1500 }),
      sum: fc.integer({ min: 2, max: 2000 }),
    }),
    (chance, space, caps) => {
      const { sockets, ports } = splitForChance(chance, space, caps);
      assert(sockets <= Math.min(caps.sockets, space) && ports <= Math.min(caps.ports, space));
      assert(sockets + ports <= caps.sum);
      const most = { sockets, ports: Math.min(caps.ports, caps.sum - sockets, space) };
      assert(
        hitProbability({ sockets, ports }, space) >= chance ||
          hitProbability(most, space) <= hitProbability({ sockets, ports }, space) + 1e-9,
      );
    },
  ));
});

const CAPS = { sockets: 256, ports: 1024, sum: 1300 };
