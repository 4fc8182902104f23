import { assertEquals } from "@std/assert";
import { isNatPmpEpochConsistent, isPcpEpochConsistent } from "../../lib/portmap/epoch.ts";
import type { GatewayEpoch } from "../../lib/portmap/mapper.ts";

/** What the gateway's clock said at which second of ours. */
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
  ["goes on as ours", at(0, 1000), at(600, 1600), true, true],
  ["goes back by 1 s, as reordered packets do", at(0, 1000), at(0, 999), true, true],
  ["goes back by 2 s", at(0, 1000), at(0, 998), false, true],
  ["starts anew", at(0, 1000), at(600, 3), false, false],
  ["started anew long ago, and has passed where it was", at(0, 100), at(10_000, 200), false, false],
  ["is 2 s late", at(0, 1000), at(0, 1000), true, true],
  ["is slower by 1/16 and 2 s", at(0, 0), at(1600, 1498), true, true],
  ["is slower by more than 1/16 and 2 s", at(0, 0), at(1600, 1497), false, true],
  ["is slower by 1/8 and 2 s", at(0, 0), at(1600, 1398), false, true],
  ["is slower by more than 1/8 and 2 s", at(0, 0), at(1600, 1397), false, false],
  ["is faster by 1/16 and 2 s", at(0, 0), at(1498, 1600), true, true],
  ["is faster by more than 1/16 and 2 s", at(0, 0), at(1497, 1600), false, true],
  ["does not move in 2 s", at(0, 50), at(2, 50), true, true],
  ["does not move in 3 s", at(0, 50), at(3, 50), false, false],
];

for (const [what, previous, current, pcp, natPmp] of cases) {
  Deno.test(`by PCP's rule a clock that ${what} ${pcp ? "keeps" : "lost"} its mappings`, () => {
    assertEquals(isPcpEpochConsistent(previous, current), pcp);
  });
  Deno.test(`by NAT-PMP's rule a clock that ${what} ${natPmp ? "keeps" : "lost"} its mappings`, () => {
    assertEquals(isNatPmpEpochConsistent(previous, current), natPmp);
  });
}
