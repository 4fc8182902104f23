import { isOneErrorAway } from "../../lib/code/code.ts";
import { WORDS } from "../../lib/code/words.ts";
import { assertEquals, assertMatch } from "@std/assert";

Deno.test("the list has 1,024 words of 4 to 6 letters, in order", () => {
  assertEquals(WORDS.length, 1024);
  assertEquals([...WORDS], [...new Set(WORDS)].sort());
  for (const word of WORDS) assertMatch(word, /^[a-z]{4,6}$/);
});

Deno.test("no two words start with the same four letters", () => {
  assertEquals(duplicates(WORDS.map((word) => [word.slice(0, 4), word])), []);
});

Deno.test("no two words differ by one typing error", () => {
  const variants = new Map<string, Set<string>>();
  for (const word of WORDS) {
    for (const each of withOneLetterLess(word)) {
      variants.set(each, (variants.get(each) ?? new Set()).add(word));
    }
  }
  // Two words with one error between them share a text with one letter less, unless two letters are swapped.
  const close = [...variants.values()].flatMap((words) => pairs([...words]))
    .filter(([a, b]) => differsByOne(a, b));
  const swapped = WORDS.flatMap((word) => swaps(word).filter((each) => WORDS.includes(each)));
  assertEquals([close, swapped], [[], []]);
});

Deno.test("no word that is cut off after four letters or more differs by one error from another", () => {
  const close = WORDS.flatMap((word) =>
    Array.from({ length: word.length - 4 }, (_, index) => word.slice(0, 4 + index))
      .flatMap((start) => {
        const alike = WORDS.filter((other) => other !== word && isOneErrorAway(other, start));
        return alike.map((other) => [start, word, other]);
      })
  );
  assertEquals(close, []);
});

Deno.test("no two words sound alike", () => {
  assertEquals(duplicates(WORDS.map((word) => [soundOf(word), word])), []);
});

Deno.test("no word is a number or has a common homophone", () => {
  assertEquals(WORDS.filter((word) => AMBIGUOUS.has(word)), []);
});

/** A rough key of how an English word sounds: vowels are one, voiced and voiceless consonants too. */
function soundOf(word: string): string {
  const rules: [RegExp, string][] = [
    ...[[/^kn/, "n"], [/^wr/, "r"], [/^ps/, "s"], [/^x/, "z"], [/ph/g, "f"], [/ght/g, "t"]],
    ...[[/gh/g, ""], [/tch/g, "J"], [/dg/g, "J"], [/sch/g, "sk"], [/[cs]h/g, "X"], [/th/g, "0"]],
    ...[[/ck/g, "k"], [/c(?=[eiy])/g, "s"], [/[cq]/g, "k"], [/x/g, "ks"], [/g(?=[eiy])/g, "J"]],
    ...[[/mb$/, "m"], [/wh/g, "w"], [/j/g, "J"], [/h(?![aeiouy])/g, ""], [/ti(?=[aeo])/g, "X"]],
    ...[[/b/g, "p"], [/d/g, "t"], [/g/g, "k"], [/v/g, "f"], [/n/g, "m"], [/z/g, "s"]],
    ...[[/(.)\1+/g, "$1"], [/[aeiouyw]+$/, "A"], [/[aeiouy]+/g, "a"]],
  ] as [RegExp, string][];
  return rules.reduce((text, [pattern, sound]) => text.replaceAll(globally(pattern), sound), word);
}

function globally(pattern: RegExp): RegExp {
  return new RegExp(pattern.source, "g");
}

function withOneLetterLess(word: string): string[] {
  return [word, ...Array.from(word, (_, index) => word.slice(0, index) + word.slice(index + 1))];
}

function swaps(word: string): string[] {
  return Array.from(word.slice(1), (_, index) => {
    const [a, b] = [word[index]!, word[index + 1]!];
    return a === b ? "" : word.slice(0, index) + b + a + word.slice(index + 2);
  });
}

function differsByOne(a: string, b: string): boolean {
  if (a.length !== b.length) return true; // one of them with one letter less is the other
  return Array.from(a).filter((letter, index) => letter !== b[index]).length === 1;
}

function pairs<T>(items: readonly T[]): [T, T][] {
  return items.flatMap((a, index) => items.slice(index + 1).map((b): [T, T] => [a, b]));
}

function duplicates(entries: readonly (readonly [string, string])[]): string[][] {
  const groups = Object.values(Object.groupBy(entries, ([key]) => key));
  return groups.filter((group) => group!.length > 1).map((group) => group!.map(([, word]) => word));
}

const AMBIGUOUS: ReadonlySet<string> = new Set([
  ..."three four five seven eight nine twelve twenty thirty forty fifty sixty eighty ninety".split(
    " ",
  ),
  ..."aisle altar auger beet berry boulder bread canvas carrot cellar cereal council cruise".split(
    " ",
  ),
  ..."cymbal desert ferry flour gorilla horse hymn idle kernel knight ladder links lynx manor"
    .split(" "),
  ..."medal metal muscle mussel night pedal pearl plum prince profit rain reed ring sail sauce"
    .split(" "),
  ..."seller serial sleigh steel sunday symbol tail thyme throne troop wander weather whale".split(
    " ",
  ),
]);
