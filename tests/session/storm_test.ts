import { assert } from "@std/assert";
import { storm } from "./storm.ts";

for (let batch = 0; batch < 4; batch++) {
  Deno.test(`a session loses and repeats nothing, storms ${batch * 50 + 1} and on`, async () => {
    for (let seed = batch * 50 + 1; seed <= batch * 50 + 50; seed++) {
      const { isPatient, a, b } = await storm(seed).catch((error) => {
        throw new Error(`seed ${seed}: ${error.message}`, { cause: error });
      });
      const said = `seed ${seed}: ${a.error} / ${b.error}`;
      if (isPatient) assert(a.error === undefined && b.error === undefined, said);
      // Who is the last to hear that all has arrived may hear it no more; all has arrived nevertheless.
      for (const side of [a, b]) assert(side.error !== undefined || a.isWhole && b.isWhole, said);
    }
  });
}
