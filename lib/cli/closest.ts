/**
 * What a person may have meant by a word that is not known.
 *
 * @module
 */

/**
 * The known word that differs least, if it differs little; `undefined` if no word or more than one is close. A word that
 * only one known word starts with, or that has only its dashes wrong, is close too.
 *
 * @example
 * ```ts
 * import { closest } from "./closest.ts";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(closest("lsiten", ["listen", "list"]), "listen");
 * assertEquals(closest("frobnicate", ["listen", "list"]), undefined);
 * ```
 */
export function closest(word: string, known: readonly string[]): string | undefined {
  const [wanted, ...others] = [word.slice(0, MAX_LENGTH), ...known].map(withoutDashes);
  if (wanted === "") return undefined;
  const found = others.map((each, index) => ({
    name: known[index]!,
    distance: editDistance(wanted!, each),
  }));
  const least = Math.min(...found.map(({ distance }) => distance));
  const near = found.filter(({ distance }) => distance === least);
  if (near.length === 1 && least <= maxDistance(wanted!)) return near[0]!.name;
  const longer = known.filter((_, index) => others[index]!.startsWith(wanted!));
  return longer.length === 1 && wanted!.length >= MIN_START ? longer[0] : undefined;
}

function withoutDashes(word: string): string {
  return word.toLowerCase().replaceAll(/[-_]/g, "");
}

/** How many letters may be wrong, missing, added or swapped. Chosen by us: one in three, and three at most. */
function maxDistance(word: string): number {
  return Math.min(3, Math.ceil(word.length / 3));
}

/** Optimal string alignment distance: insertions, deletions, substitutions, and swaps of neighbours. */
function editDistance(one: string, other: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: other.length + 1 }, (_, index) => index);
  for (let row = 1; row <= one.length; row++) {
    const current = [row];
    for (let column = 1; column <= other.length; column++) {
      const isSame = one[row - 1] === other[column - 1];
      let least = Math.min(
        last[column]! + 1,
        current[column - 1]! + 1,
        last[column - 1]! + (isSame ? 0 : 1),
      );
      const isSwapped = row > 1 && column > 1 && one[row - 1] === other[column - 2] &&
        one[row - 2] === other[column - 1];
      if (isSwapped) least = Math.min(least, beforeLast[column - 2]! + 1);
      current.push(least);
    }
    [beforeLast, last] = [last, current];
  }
  return last[other.length]!;
}

/** Chosen by us: no command or option is longer. */
const MAX_LENGTH = 40;

/** Chosen by us: fewer letters are no start of a word. */
const MIN_START = 3;
