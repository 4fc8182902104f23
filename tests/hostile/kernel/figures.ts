/**
 * The figures of hostile tests, for docs/security.md: printed if `PUNCHLINE_FIGURES` names a file to append them to.
 *
 * @module
 */

import type { Outcome } from "./place.ts";

/** Writes down one line: what was tried, how long it took, how much memory, how many packets. */
export function reportFigures(what: string, outcome: Outcome): void {
  const path = Deno.env.get("PUNCHLINE_FIGURES");
  if (path === undefined) return;
  const { elapsedMs, peakRssBytes, sent, code } = outcome;
  const packets = [...sent.values()].reduce((sum, each) => sum + each, 0);
  const figures = {
    what,
    code,
    seconds: Math.round(elapsedMs / 100) / 10,
    peakMegabytes: Math.round(peakRssBytes / 1e6),
    packets,
  };
  Deno.writeTextFileSync(path, `${JSON.stringify(figures)}\n`, { append: true });
}
