import { assertEquals } from "@std/assert";
import { OfferRace } from "../../lib/transfer/offer_race.ts";
import { memoryPair } from "../noise/pair.ts";

Deno.test("a newcomer that fails does not end the offer for a receiver that is still deciding", async () => {
  const decided = Promise.withResolvers<string>();
  const left: unknown[] = [];
  const failed = new Error("the newcomer did not get through");
  const others = {
    next: () => Promise.reject(failed),
    chosen: () => {},
    left: (error: unknown) => {
      left.push(error);
      decided.resolve("yes");
    },
  };
  const steps = { offer: () => Promise.resolve(), readAnswer: () => decided.promise };
  await using race = new OfferRace<string>(steps, { others, signal: undefined });
  const [connection] = memoryPair();
  assertEquals((await race.run(connection)).answer, "yes");
  assertEquals(left, [failed]);
});
