import { assertGreater } from "@std/assert";
import { labelledRandom } from "../simnet/random.ts";
import { UDP_TARGETS } from "./fuzz_check.ts";
import { PUNCH_TARGETS } from "./fuzz_punch.ts";

for (const { name, start } of [...UDP_TARGETS, ...PUNCH_TARGETS]) {
  Deno.test(`${name}: random inputs break no invariant, and some are accepted`, () => {
    const random = labelledRandom(15, name);
    let accepted = 0;
    for (let instance = 0; instance < 10; instance++) {
      const next = start(random);
      for (let i = 0; i < 500; i++) if (next()) accepted++;
    }
    assertGreater(accepted, 100);
  });
}
