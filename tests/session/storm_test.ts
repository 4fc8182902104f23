import { assert } from "@std/assert";
import { storm } from "./storm.ts";

for (let batch = 0; batch < 4; batch++) {
  Deno.test(`a session neither loses nor repeats data in storms ${batch * 50 + 1} to ${batch * 50 + 50}`, async () => {
    for (let seed = batch * 50 + 1; seed <= batch * 50 + 50; seed++) {
      const { isPatient, a, b } = await storm(seed).catch((error) => {
        throw new Error(`seed ${seed}: ${error.message}`, { cause: error });
      });
      const errors = `seed ${seed}: ${a.error} / ${b.error}`;
      if (isPatient) assert(a.error === undefined && b.error === undefined, errors);
      // The last acknowledgement may be lost with the last path; everything has arrived all the same.
      for (const side of [a, b]) assert(side.error !== undefined || a.isWhole && b.isWhole, errors);
    }
  });
}
