/**
 * Lays text out to the width of a terminal. A word is never broken, so an address, a ticket or a URL can be copied
 * whatever the width; what has to stay together with its spaces is joined by {@linkcode copyable}.
 *
 * @module
 */

/** How to wrap. */
export interface WrapOptions {
  /** How many columns there are. */
  readonly columns: number;
  /** How much further the lines after the first are indented. Default: 2. */
  readonly hang?: number;
}

/**
 * Breaks a text at its spaces into lines that fit. The lines keep the indentation of the first one. A word that is longer
 * than a line has a line of its own, which the terminal wraps.
 *
 * @example
 * ```ts
 * import { wrap } from "./layout.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const lines = wrap("  the quick brown fox jumps", { columns: 20 });
 * assertEquals(lines, ["  the quick brown", "    fox jumps"]);
 * ```
 */
export function wrap(text: string, options: WrapOptions): string[] {
  return text.split("\n").flatMap((line) => wrapLine(line, options));
}

/**
 * Joins the words of a command, so that {@linkcode wrap} does not break it; on the screen it has plain spaces, see
 * {@linkcode uncopyable}.
 */
export function copyable(command: string): string {
  return command.replaceAll(" ", JOINT);
}

/** Turns what {@linkcode copyable} has joined back into plain text. */
export function uncopyable(text: string): string {
  return text.replaceAll(JOINT, " ");
}

/** How to lay out a table. */
export interface TableOptions {
  /** How many columns the terminal has; `undefined` for as many as the table needs. */
  readonly columns: number | undefined;
  /** How many spaces are before each line. Default: 2. */
  readonly indent?: number;
  /** How many spaces are between two cells. Default: 2. */
  readonly gap?: number;
}

/**
 * Aligns the cells of some rows. The last cell of a row is wrapped in the space that is left for it. If that is too
 * narrow to read, the cells after the first go below it, further in.
 *
 * @example
 * ```ts
 * import { table } from "./layout.ts";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(table([["--tcp", "over TCP"], ["--timeout", "how long"]], { columns: 80 }), [
 *   "  --tcp      over TCP",
 *   "  --timeout  how long",
 * ]);
 * ```
 */
export function table(rows: readonly (readonly string[])[], options: TableOptions): string[] {
  const { columns = Infinity, indent = 2, gap = 2 } = options;
  const count = Math.max(0, ...rows.map((row) => row.length));
  const widths = Array.from(
    { length: count },
    (_, column) => Math.max(...rows.map((row) => textWidth(row[column] ?? ""))),
  );
  const before = widths.slice(0, -1).reduce((sum, width) => sum + width + gap, indent);
  const room = columns - before;
  const last = widths.at(-1) ?? 0;
  if (room < Math.min(last, MIN_CELL)) return stacked(rows, columns, indent);
  return rows.flatMap((row) => {
    const cells = row.slice(0, count - 1).map((cell, column) => pad(cell, widths[column]!));
    const head = " ".repeat(indent) + cells.map((cell) => cell + " ".repeat(gap)).join("");
    if (row.length < count) return [head.trimEnd()];
    const [first = "", ...rest] = wrapLine(row.at(-1)!, { columns: room });
    return [head + first, ...rest.map((line) => " ".repeat(before) + line)]
      .map((line) => line.trimEnd());
  });
}

/** Pads a text with spaces to a number of columns. */
export function pad(text: string, columns: number): string {
  return text + " ".repeat(Math.max(0, columns - textWidth(text)));
}

/** Cuts a text that is too long, and says so with an ellipsis: for lines that are redrawn, and must not wrap. */
export function cut(text: string, columns: number): string {
  if (textWidth(text) <= columns) return text;
  return columns < 1 ? "" : `${takeColumns([...text], columns - 1)}…`;
}

/** As {@linkcode cut}, but keeps the end, which of a file's name says more. */
export function cutStart(text: string, columns: number): string {
  if (textWidth(text) <= columns) return text;
  if (columns < 1) return "";
  const backwards = takeColumns([...text].reverse(), columns - 1);
  return `…${[...backwards].reverse().join("")}`;
}

/** How many columns a text takes on a terminal. */
export function textWidth(text: string): number {
  let width = 0;
  for (const character of text.replaceAll(STYLE, "")) width += characterWidth(character);
  return width;
}

/** The width to lay out to: a terminal that is narrower or wider than anyone reads counts as if it were not. */
export function layoutColumns(columns: number): number {
  return Math.min(Math.max(columns, MIN_COLUMNS), MAX_COLUMNS);
}

function wrapLine(line: string, { columns, hang = 2 }: WrapOptions): string[] {
  if (textWidth(line) <= columns) return [line];
  const [margin] = /^ */.exec(line)!;
  const hanging = " ".repeat(Math.min(margin.length + hang, Math.floor(columns / 2)));
  const lines: string[] = [];
  let current = margin;
  let isEmpty = true;
  for (const [gap, word] of wordsOf(line.slice(margin.length))) {
    const isFitting = textWidth(current) + (isEmpty ? 0 : gap) + textWidth(word) <= columns;
    if (isEmpty || isFitting) current += (isEmpty ? "" : " ".repeat(gap)) + word;
    else {
      lines.push(current);
      current = hanging + word;
    }
    isEmpty = false;
  }
  return [...lines, current];
}

/** The words of a line, and how many spaces are before each. */
function wordsOf(line: string): [number, string][] {
  return [...line.matchAll(/( *)([^ ]+)/g)].map(([, gap, word]) => [gap!.length, word!]);
}

function stacked(
  rows: readonly (readonly string[])[],
  columns: number,
  indent: number,
): string[] {
  const [first, others] = [" ".repeat(indent), " ".repeat(indent + 4)];
  return rows.flatMap((row) => {
    const filled = row.filter((cell) => cell !== "");
    return filled.flatMap((cell, index) =>
      wrapLine((index === 0 && row[0] !== "" ? first : others) + cell, { columns, hang: 2 })
    );
  });
}

function takeColumns(characters: readonly string[], columns: number): string {
  let taken = "";
  let width = 0;
  for (const character of characters) {
    width += characterWidth(character);
    if (width > columns) break;
    taken += character;
  }
  return taken;
}

function characterWidth(character: string): number {
  if (character < "\u0300") return 1; // most text
  if (NO_WIDTH.test(character)) return 0;
  const code = character.codePointAt(0)!;
  return WIDE.some(([first, last]) => code >= first && code <= last) ? 2 : 1;
}

/** A space that does not separate words. */
const JOINT = "\u00a0";

/** Select graphic rendition (ECMA-48 SGR): colours take no columns. */
// deno-lint-ignore no-control-regex
const STYLE = /\u001b\[[\d;]*m/g;

/** What is drawn over the character before, or not at all. */
const NO_WIDTH = /^[\p{Mn}\p{Me}\p{Cf}]$/u;

/** East Asian Wide and Fullwidth (UAX #11), and the pictures that terminals draw as wide. */
const WIDE: readonly (readonly [number, number])[] = [
  [0x1100, 0x115f],
  [0x231a, 0x231b],
  [0x23e9, 0x23ec],
  [0x2614, 0x2615],
  [0x26a1, 0x26a1],
  [0x2705, 0x2705],
  [0x274c, 0x274c],
  [0x2753, 0x2755],
  [0x2757, 0x2757],
  [0x2795, 0x2797],
  [0x2b1b, 0x2b1c],
  [0x2b50, 0x2b50],
  [0x2e80, 0x303e],
  [0x3041, 0xa4cf],
  [0xa960, 0xa97f],
  [0xac00, 0xd7a3],
  [0xf900, 0xfaff],
  [0xfe10, 0xfe19],
  [0xfe30, 0xfe6f],
  [0xff00, 0xff60],
  [0xffe0, 0xffe6],
  [0x1f1e6, 0x1f1ff],
  [0x1f300, 0x1f64f],
  [0x1f680, 0x1f6ff],
  [0x1f7e0, 0x1f7eb],
  [0x1f900, 0x1f9ff],
  [0x1fa70, 0x1faff],
  [0x20000, 0x3fffd],
];

/** Chosen by us: a narrower cell breaks after every other word. */
const MIN_CELL = 24;

/** Chosen by us: half of the usual 80 columns, and more than a line that the eye follows. */
const MIN_COLUMNS = 40;
const MAX_COLUMNS = 200;
