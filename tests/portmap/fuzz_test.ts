import { labelledRandom } from "../simnet/random.ts";
import { checkDecoders } from "./fuzz_check.ts";
import { fuzzMessage } from "./fuzz_messages.ts";

Deno.test("the decoders of PCP and NAT-PMP survive 20,000 random and mutated messages", () => {
  const random = labelledRandom(5351, "portmap");
  for (let i = 0; i < 20_000; i++) checkDecoders(fuzzMessage(random));
});
