import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { hitProbability, planBirthday, splitForChance } from "../../lib/punch/birthday.ts";
import { PUNCH_LIMITS } from "../../lib/punch/limits.ts";
import { punchSide, symmetric } from "./fixtures.ts";

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

const KNOWN = punchSide("192.0.2.1").profile;
const RANDOM = punchSide(
  "192.0.2.2",
  symmetric({ allocation: { kind: "random", delta: null, range: [2000, 62_000] } }),
).profile;
const OPTIONS = { limits: PUNCH_LIMITS, rttMs: 50 };

Deno.test("planBirthday() takes half of what a NAT was seen to give, on each side by itself", () => {
  const few = { sessionLimit: 64 };
  assertEquals(planBirthday(KNOWN, { ...RANDOM, ...few }, OPTIONS).split.sockets, 32);
  assertEquals(planBirthday({ ...KNOWN, ...few }, RANDOM, OPTIONS).split.ports, 32);
  const many = { sessionLimit: 10_000 };
  const unlimited = planBirthday(KNOWN, RANDOM, OPTIONS).split;
  assertEquals(
    planBirthday({ ...KNOWN, ...many }, { ...RANDOM, ...many }, OPTIONS).split,
    unlimited,
  );
});

Deno.test("planBirthday() expects a socket in four at the address that is dialled, of a pool of four", () => {
  const pool = { externalIps: ["192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5"] };
  const { chance, split } = planBirthday(KNOWN, { ...RANDOM, ...pool }, OPTIONS);
  const hit = hitProbability({ sockets: split.sockets / 4, ports: split.ports }, ALL_PORTS);
  assert(Math.abs(chance - hit) < 0.02, `${chance} instead of ${hit}`);
});

Deno.test("planBirthday() lets no side go first past a NAT that resets early SYNs and keeps out crossing ones", () => {
  const first = (profile: Partial<typeof KNOWN>) =>
    planBirthday({ ...KNOWN, ...profile }, RANDOM, OPTIONS).first;
  assertEquals(first({}), "random");
  assertEquals(first({ crossingSyn: "dropped" }), "random");
  assertEquals(first({ unsolicitedSyn: "reset" }), "known");
  assertEquals(first({ unsolicitedSyn: "reset", crossingSyn: "dropped" }), "both");
});

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
