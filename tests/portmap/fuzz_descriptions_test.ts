import { assert } from "@std/assert";
import { labelledRandom } from "../simnet/random.ts";
import { checkDamaged, readRecordings } from "./fuzz_descriptions_check.ts";

Deno.test("5000 damaged descriptions are the right service, or a clear error", () => {
  const random = labelledRandom(18, "descriptions");
  const recordings = readRecordings();
  const results = Array.from(
    { length: 5000 },
    (_, index) => checkDamaged(recordings[index % recordings.length]!, random),
  );
  for (const kind of ["right", "none", "error"] as const) assert(results.includes(kind), kind);
});
