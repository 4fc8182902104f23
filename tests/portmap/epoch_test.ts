import { assertEquals } from "@std/assert";
import { isNatPmpEpochConsistent, isPcpEpochConsistent } from "../../lib/portmap/epoch.ts";
import type { GatewayEpoch } from "../../lib/portmap/mapper.ts";

/** The gateway's clock at a second of ours. */
const at = (ourSeconds: number, seconds: number): GatewayEpoch => ({
  seconds,
  receivedAtMs: ourSeconds * 1000,
});

const cases: readonly (readonly [
  what: string,
  previous: GatewayEpoch,
  current: GatewayEpoch,
  pcp: boolean,
  natPmp: boolean,
])[] = [
  ["runs as ours", at(0, 1000), at(600, 1600), true, true],
  ["goes back by 1 s, as reordered packets do", at(0, 1000), at(0, 999), true, true],
  ["goes back by 2 s", at(0, 1000), at(0, 998), false, true],
  ["restarts", at(0, 1000), at(600, 3), false, false],
  [
    "restarted long ago, and is ahead of the previous value",
    at(0, 100),
    at(10_000, 200),
    false,
    false,
  ],
  ["is 2 s late", at(0, 1000), at(0, 1000), true, true],
  ["is slower by 1/16 and 2 s", at(0, 0), at(1600, 1498), true, true],
  ["is slower by more than 1/16 and 2 s", at(0, 0), at(1600, 1497), false, true],
  ["is slower by 1/8 and 2 s", at(0, 0), at(1600, 1398), false, true],
  ["is slower by more than 1/8 and 2 s", at(0, 0), at(1600, 1397), false, false],
  ["is faster by 1/16 and 2 s", at(0, 0), at(1498, 1600), true, true],
  ["is faster by more than 1/16 and 2 s", at(0, 0), at(1497, 1600), false, true],
  ["stands still for 2 s", at(0, 50), at(2, 50), true, true],
  ["stands still for 3 s", at(0, 50), at(3, 50), false, false],
];

for (const [what, previous, current, pcp, natPmp] of cases) {
  Deno.test(`isPcpEpochConsistent() ${pcp ? "accepts" : "rejects"} a clock that ${what}`, () => {
    assertEquals(isPcpEpochConsistent(previous, current), pcp);
  });
  Deno.test(`isNatPmpEpochConsistent() ${natPmp ? "accepts" : "rejects"} a clock that ${what}`, () => {
    assertEquals(isNatPmpEpochConsistent(previous, current), natPmp);
  });
}
