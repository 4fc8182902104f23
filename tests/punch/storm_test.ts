import { assert, assertEquals } from "@std/assert";
import { storm } from "./storm.ts";

for (let batch = 0; batch < 4; batch++) {
  Deno.test(`punch() gives both sides the same connection or none, under bad conditions, seeds from ${batch * 50 + 1}`, async () => {
    for (let seed = batch * 50 + 1; seed <= batch * 50 + 50; seed++) {
      const { outcome, isAborted, isCertain, errors } = await storm(seed);
      assert(outcome !== "divided", `seed ${seed}: ${errors}`);
      if (isCertain && !isAborted) assertEquals(outcome, "same connection", `seed ${seed}`);
    }
  });
}
