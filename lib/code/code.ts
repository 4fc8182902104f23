/**
 * Codes: a number and three words, such as `7-amber-walrus-otter`, that people read out to each other in place of a ticket.
 * The number says where the two sides meet, the words are the password with which they find each other there.
 *
 * @module
 */

import { malformed } from "../base/errors.ts";
import { WORDS } from "./words.ts";

/** A code. */
export interface Code {
  /** Where the two sides meet: 0 to 9999. Not secret. */
  readonly number: number;
  /** Three words of the list; secret. */
  readonly words: readonly string[];
}

/** The code as text, in lower case with hyphens. */
export function formatCode({ number, words }: Code): string {
  return [number, ...words].join("-");
}

/**
 * Reads what a person typed: in any case, with spaces, dots or hyphens between the words. The first four letters of a word
 * are enough. One typing error in a word is corrected if only one word of the list is meant.
 *
 * @throws {MalformedMessageError} if it is not a code; the message names the part that is wrong
 *
 * @example
 * ```ts
 * import { formatCode, parseCode } from "./code.ts";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(formatCode(parseCode(" 7 Amber walrsu OTTE")), "7-amber-walrus-otter");
 * ```
 */
export function parseCode(text: string): Code {
  const [number = "", ...words] = text.length > MAX_TEXT_LENGTH ? [] : partsOf(text.trim());
  if (!/^\d{1,4}$/.test(number)) throw malformed("code", "it starts with a number from 0 to 9999");
  if (words.length !== WORD_COUNT) {
    throw malformed("code", `${WORD_COUNT} words follow the number, not ${words.length}`);
  }
  return { number: Number(number), words: words.map(readWord) };
}

/**
 * The ways to go on with a code that is being typed, for completion in a shell: each is the whole text up to the end of
 * the current word, and a hyphen if another word follows.
 */
export function completeCode(text: string): string[] {
  const [, before, start] = /^(\d{1,4}-(?:[a-z]+-){0,2})([a-z]*)$/i.exec(text) ?? [];
  if (before === undefined || start === undefined) return [];
  const isLast = before.split("-").length - 1 === WORD_COUNT;
  return WORDS.filter((word) => word.startsWith(start.toLowerCase()))
    .map((word) => `${before.toLowerCase()}${word}${isLast ? "" : "-"}`);
}

/**
 * Makes a code.
 *
 * @param random at least 6 bytes that others cannot guess
 */
export function newCode(number: number, random: Uint8Array): Code {
  // 1,024 is a power of two: every word is equally likely.
  const words = Array.from({ length: WORD_COUNT }, (_, index) => {
    return WORDS[(random[2 * index]! << 8 | random[2 * index + 1]!) % WORDS.length]!;
  });
  return { number, words };
}

function partsOf(text: string): string[] {
  return text.split(/[\s._,\u2010-\u2015-]+/u);
}

function readWord(typed: string): string {
  const word = typed.toLowerCase();
  if (WORDS.includes(word)) return word;
  const started = word.length < MIN_START ? [] : WORDS.filter((each) => each.startsWith(word));
  const meant = started.length > 0 ? started : WORDS.filter((each) => isOneErrorAway(each, word));
  if (meant.length === 1) return meant[0]!;
  const shown = JSON.stringify(typed);
  if (meant.length === 0) throw malformed("code", `${shown} is not one of its words`);
  throw malformed("code", `${shown} may be ${meant.join(" or ")}`);
}

/** Whether two texts differ by one letter that is wrong, missing, added or swapped with its neighbour. */
export function isOneErrorAway(a: string, b: string): boolean {
  if (Math.abs(a.length - b.length) > 1) return false;
  let start = 0;
  while (start < a.length && a[start] === b[start]) start++;
  const [restA, restB] = [a.slice(start), b.slice(start)];
  return restA.slice(1) === restB.slice(1) || restA.slice(1) === restB ||
    restA === restB.slice(1) ||
    restA[0] === restB[1] && restA[1] === restB[0] && restA.slice(2) === restB.slice(2);
}

const WORD_COUNT = 3;

/** No two words share so many letters at the start. */
const MIN_START = 4;

/** Longer than any code, with room for spaces. */
const MAX_TEXT_LENGTH = 100;
