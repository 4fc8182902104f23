import { assert, assertEquals } from "@std/assert";
import { CHANGES, runRoaming } from "../../lab/scenarios/peers/roaming.ts";
import { labTest } from "./lab_test_case.ts";

/** `deno task lab roaming` runs all changes, and measures them. */
for (
  const [name, transport, traffic] of [
    ["listen-address", "tcp", "idle"],
    ["connect-renumbered", "udp", "connect"],
  ] as const
) {
  const change = CHANGES[name]!;
  labTest(
    `${change.setting}: the connection goes on over ${transport}, and no byte is lost`,
    async () => {
      const result = await runRoaming(change, transport, traffic);
      assert(result.isWhole, "the bytes that arrived are others");
      assertEquals(result.events[0]?.split(" ")[0], "stalled");
      assert(result.goesOnMs < 15_000, `${result.goesOnMs} ms`); // a machine may be busy with other tests
    },
  );
}
