import { assert, assertEquals, assertRejects } from "@std/assert";
import { TransferError } from "../../lib/transfer/files.ts";
import { OfferRace, turnAway } from "../../lib/transfer/offer_race.ts";
import { receiveFiles } from "../../lib/transfer/receiver.ts";
import { MemoryFiles } from "./memory_files.ts";
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

Deno.test("a refused receiver resets the connection: it would wait for a lost path to deliver what no longer matters", async () => {
  const [sender, receiver] = memoryPair();
  let isReset = false;
  const reset = receiver.reset.bind(receiver);
  receiver.reset = () => {
    isReset = true;
    reset();
  };
  const receiving = receiveFiles(() => Promise.resolve(receiver), "/in", {
    files: new MemoryFiles().folder("/in"),
    onOffer: () => ({ accept: true }),
  });
  await Promise.all([
    turnAway(sender),
    assertRejects(() => receiving, TransferError, "another receiver accepted the offer first"),
  ]);
  assert(isReset);
});
