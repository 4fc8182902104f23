import { assert, assertEquals, assertFalse, assertThrows } from "@std/assert";
import fc from "fast-check";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import { completeCode, formatCode, newCode, parseCode } from "../../lib/code/code.ts";
import { looksLikeCode } from "../../lib/peer/ticket.ts";
import { WORDS } from "../../lib/code/words.ts";
import { answerTopic, meetingTopic } from "../../lib/signal/transport.ts";

const CODE = { number: 7, words: ["amber", "walrus", "otter"] };

Deno.test("the words of the documentation are words", () => {
  for (const word of ["abacus", "amber", "otter", "walrus", "zodiac"]) assert(WORDS.includes(word));
});

Deno.test("parseCode() reads what formatCode() writes", () => {
  const word = fc.constantFrom(...WORDS);
  fc.assert(
    fc.property(fc.nat(9999), fc.tuple(word, word, word), (number, words) => {
      assertEquals(parseCode(formatCode({ number, words })), { number, words });
    }),
  );
});

Deno.test("parseCode() tolerates case, spaces, dots, dashes, leading zeros and beginnings of words", () => {
  const words = ["abacus", "walrus", "zodiac"];
  for (
    const text of [
      "7-abacus-walrus-zodiac",
      "  7 Abacus WALRUS zodiac\n",
      "7.abacus.walrus.zodiac",
      "7_abacus_walrus_zodiac",
      "7 – abacus – walrus – zodiac",
      "0007-abac-walr-zodi",
      "7-abacu-walru-zodia",
    ]
  ) assertEquals(parseCode(text), { number: 7, words }, text);
});

Deno.test("parseCode() corrects one typing error in any word, if one word is meant", () => {
  for (const typed of ["wlarus", "walrsu", "walru", "wallrus", "wabrus", "alrus", "walrusx"]) {
    assertEquals(parseCode(`7 abacus ${typed} zodiac`).words[1], "walrus", typed);
  }
});

Deno.test("parseCode() never reads a typing error as another word", () => {
  for (const word of WORDS) {
    for (let i = 0; i < word.length; i++) {
      for (const letter of ["", "q", "e", word[i]! + word[i]!]) {
        const typed = word.slice(0, i) + letter + word.slice(i + 1);
        try {
          assertEquals(parseCode(`7 ${typed} abacus abacus`).words[0], word);
        } catch (error) {
          if (!(error instanceof MalformedMessageError)) throw error; // two words may be meant
        }
      }
    }
  }
});

Deno.test("parseCode() names what is wrong", () => {
  const cases: [string, string][] = [
    ["", "number from 0 to 9999"],
    ["amber", "number from 0 to 9999"],
    ["12345-abacus-walrus-zodiac", "number from 0 to 9999"],
    ["7", "3 words follow the number, not 0"],
    ["7-abacus-walrus", "3 words follow the number, not 2"],
    ["7-abacus-walrus-zodiac-abacus", "not 4"],
    ["7-abacus-xyzzyx-zodiac", '"xyzzyx" is not one of its words'],
    ["7-abacus--zodiac-walrusss", '"walrusss" is not'],
    [`7-${"a".repeat(10_000)}`, "number"],
  ];
  for (const [text, message] of cases) {
    assertThrows(() => parseCode(text), MalformedMessageError, message);
  }
});

Deno.test("parseCode() throws nothing else, whatever it gets", () => {
  fc.assert(fc.property(fc.string(), (text) => {
    try {
      parseCode(text);
    } catch (error) {
      assert(error instanceof MalformedMessageError);
    }
  }));
});

Deno.test("looksLikeCode() tells codes from tickets and names", () => {
  for (const text of ["7-abacus-walrus-zodiac", "12 wrong", "99999-abacus"]) {
    assert(looksLikeCode(text), text);
  }
  for (const text of ["punchline:AAAA", "laptop", "7", "laptop-7", "-", "@file", ""]) {
    assertFalse(looksLikeCode(text), text);
  }
});

Deno.test("completeCode() completes the word that is being typed", () => {
  assertEquals(completeCode("7-walr"), ["7-walrus-"]);
  assertEquals(completeCode("7-abacus-WALR"), ["7-abacus-walrus-"]);
  assertEquals(completeCode("7-abacus-walrus-zodi"), ["7-abacus-walrus-zodiac"]);
  assertEquals(completeCode("7-").length, WORDS.length);
  for (const none of ["", "7", "walr", "7-abacus-walrus-zodiac-", "7-xq", "77777-a"]) {
    assertEquals(completeCode(none), [], none);
  }
});

Deno.test("newCode() takes every word", () => {
  const seen = new Set<string>();
  for (let i = 0; i < 1024; i++) {
    const random = Uint8Array.of(i >> 8, i & 255, 255, 255, 0, 0);
    const { words } = newCode(7, random);
    assertEquals(words.slice(1), [WORDS.at(-1), WORDS[0]]);
    seen.add(words[0]!);
  }
  assertEquals(seen.size, 1024);
});

Deno.test("the topics of a number and an ID are part of the protocol", () => {
  assertEquals(meetingTopic(7), "zqvNWE8BS0y4s6iAGlrOfA");
  assertEquals(answerTopic(new Uint8Array(16)), "xm5gB5mE3wM1v0XK1rVAPg");
  assertEquals(formatCode(CODE), "7-amber-walrus-otter");
});
