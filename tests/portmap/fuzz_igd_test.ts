import { labelledRandom } from "../simnet/random.ts";
import { checkInput } from "./fuzz_igd_check.ts";
import { fuzzInput } from "./fuzz_igd_inputs.ts";

Deno.test("the UPnP decoders survive 10,000 mutated inputs", () => {
  const random = labelledRandom(1900, "igd");
  for (let i = 0; i < 10_000; i++) checkInput(fuzzInput(random));
});
