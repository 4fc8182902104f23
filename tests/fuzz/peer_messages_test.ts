import { assertGreater } from "@std/assert";
import { labelledRandom } from "../simnet/random.ts";
import { isAccepted, TARGETS } from "./peer_messages.ts";

for (const target of TARGETS) {
  Deno.test(`${target.name}: the decoder rejects broken messages and accepts others, and throws nothing else`, () => {
    const random = labelledRandom(6, target.name);
    const results = Array.from({ length: 2000 }, () => isAccepted(target, target.next(random)));
    assertGreater(results.filter((taken) => taken).length, 100);
  });
}
