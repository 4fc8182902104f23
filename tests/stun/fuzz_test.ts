import { labelledRandom } from "../simnet/random.ts";
import { STUN_CORPUS } from "../vectors/stun_corpus.ts";
import { checkDecoded, tryDecode } from "./fuzz_check.ts";
import { fuzzMessage } from "./fuzz_messages.ts";

Deno.test("decodeMessage() survives 20,000 random and mutated messages", () => {
  const random = labelledRandom(3478, "stun");
  for (let i = 0; i < 20_000; i++) check(fuzzMessage(random));
});

Deno.test("decodeMessage() survives what once broke a decoder", () => {
  for (const { bytes } of STUN_CORPUS) check(bytes);
});

function check(bytes: Uint8Array): void {
  const message = tryDecode(bytes);
  if (message !== undefined) checkDecoded(bytes, message);
}
