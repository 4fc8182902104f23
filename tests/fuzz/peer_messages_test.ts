import { assertGreater } from "@std/assert";
import { labelledRandom } from "../simnet/random.ts";
import { isTaken, TARGETS } from "./peer_messages.ts";

for (const target of TARGETS) {
  Deno.test(`${target.name}: broken messages are refused, others taken, and nothing else happens`, () => {
    const random = labelledRandom(6, target.name);
    const results = Array.from({ length: 2000 }, () => isTaken(target, target.next(random)));
    assertGreater(results.filter((taken) => taken).length, 100);
  });
}
