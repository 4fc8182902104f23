/**
 * Comparing what a page shows with what a terminal shows: codes, tickets, times and rates are others each time.
 *
 * @module
 */

/** What stands in the page, and what was found in its place: codes, tickets and IDs. */
export class ShownText {
  readonly #found = new Map<string, string>();

  /** The text with what was found in its place. */
  actual(text: string): string {
    return text.replaceAll(NAMES, (name) => this.#found.get(name) ?? name);
  }

  /**
   * Looks for the lines of a page in this order, with others between them.
   *
   * @returns the first line that is missing, or `undefined` if all are there; then what they name is known
   */
  missing(lines: readonly string[], screen: readonly string[]): string | undefined {
    let at = 0;
    const found = new Map<string, string>();
    for (const line of lines) {
      const { pattern, names } = this.#patternOf(line);
      const index = screen.findIndex((each, index) => index >= at && pattern.test(each));
      if (index < 0) return line;
      const values = pattern.exec(screen[index]!)!.slice(1);
      names.forEach((name, index) => found.set(name, values[index]!));
      at = index + 1;
    }
    for (const [name, value] of found) this.#found.set(name, value);
    return undefined;
  }

  #patternOf(line: string): { pattern: RegExp; names: string[] } {
    const names: string[] = [];
    const pattern = line.trimEnd().split(PARTS).map((part) => {
      const known = this.#found.get(part);
      if (known !== undefined) return RegExp.escape(known);
      const kind = [CODE, TICKET, ID].find((each) => new RegExp(`^${each}$`).test(part));
      if (kind !== undefined) {
        names.push(part);
        return kind === TICKET ? "(punchline:[\\w-]+)" : `(${kind})`;
      }
      if (part === "...") return ".*";
      if (EPHEMERAL.test(part)) return ":\\d+";
      if (new RegExp(`^${MEASURED}$`).test(part)) return part.replace(/[\d.]+ \S+/, "[\\d.]+ \\S+");
      return RegExp.escape(part);
    }).join("");
    return { pattern: new RegExp(`^${pattern}$`), names };
  }
}

const CODE = String.raw`\d+-[a-z]+-[a-z]+-[a-z]+`;
const TICKET = String.raw`punchline:[\w-]+(?:\.\.\.)?`;
const ID = String.raw`\b[\w-]{43}\b`;
/** A port that the system chose. */
const EPHEMERAL = /^:\d{5}$/;
/** A time or a rate. */
const MEASURED = String.raw`[\d.]+ (?:ms|s|[kMG]?i?B/s)\b`;
const NAMES = new RegExp(`${TICKET}|${CODE}|${ID}`, "g");
const PARTS = new RegExp(String.raw`(${TICKET}|${CODE}|${ID}|\.\.\.|:\d{5}\b|${MEASURED})`);
