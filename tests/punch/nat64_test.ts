import { assert, assertEquals } from "@std/assert";
import { NAT_BEHAVIORS } from "../../lab/model/nat_behavior.ts";
import { UnreachableError } from "../../lib/base/errors.ts";
import { addHome, linkOfRoundTrip } from "../scenes/homes.ts";
import { behindNat64, NAT64_PAIRS } from "../scenes/nat64_scene.ts";
import { playBetween } from "../scenes/punch_scene.ts";
import { simulate } from "../simnet/simulate.ts";

const { portRestricted, symmetric, fullCone } = NAT_BEHAVIORS;
const BEHAVIORS = { portRestricted, symmetric, fullCone };

for (const [nat64, other, isPossible] of NAT64_PAIRS) {
  for (const controlling of ["IPv6", "IPv4"] as const) {
    Deno.test(`punch() ${isPossible ? "connects" : "cannot connect"} a host with IPv6 alone behind a ${nat64} NAT64 and one with IPv4 alone behind a ${other} NAT, as two with IPv4, ${controlling} controlling`, async () => {
      const found = await outcomeOf(nat64, other, controlling, true);
      assertEquals(found, await outcomeOf(nat64, other, controlling, false));
      assertEquals(found, isPossible ? ["connected", "connected"] : ["impossible", "impossible"]);
    });
  }
}

async function outcomeOf(
  nat64: keyof typeof BEHAVIORS,
  other: keyof typeof BEHAVIORS,
  controlling: "IPv6" | "IPv4",
  isIpv6Alone: boolean,
): Promise<string[]> {
  return await simulate(async ({ internet }) => {
    const link = linkOfRoundTrip(80);
    const { host: one } = addHome(internet, "one", { behavior: BEHAVIORS[nat64], link });
    const { host: two } = addHome(internet, "two", { behavior: BEHAVIORS[other], link });
    const first = { network: isIpv6Alone ? behindNat64(one.network) : one.network };
    const isFirst = controlling === "IPv6";
    const [a, b] = isFirst ? [first, two] : [two, first];
    const [natA, natB] = isFirst ? [nat64, other] : [other, nat64];
    const scene = { a: BEHAVIORS[natA], b: BEHAVIORS[natB], isReported: false };
    const ends = await playBetween(internet, { a, b }, scene);
    return [ends.a, ends.b].map((end) => {
      if (!(end instanceof Error)) {
        end.close();
        return "connected";
      }
      assert(end instanceof UnreachableError && end.message.includes("impossible"), `${end}`);
      return "impossible";
    });
  });
}
