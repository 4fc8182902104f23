// deno-lint-ignore-file no-console -- it prints for people
/**
 * The demonstration: two programs behind two NATs connect, step by step, in about ten seconds: `deno task demo`. On
 * machines that cannot run the lab it uses loopback.
 *
 * @module
 */

import { delay } from "@std/async/delay";
import { playInLab } from "./demo/in_lab.ts";
import { playOnLoopback } from "./demo/on_loopback.ts";
import type { Narrator } from "./demo/story.ts";
import { labSupport } from "../kernel/privileges.ts";

async function main(): Promise<void> {
  const support = labSupport();
  const narrator: Narrator = {
    async heading(title) {
      await delay(CHAPTER_MS);
      const line = `── ${title} `;
      console.log(`\n${bold(line)}${"─".repeat(Math.max(0, WIDTH - line.length))}`);
    },
    async print(...lines) {
      for (const line of lines) {
        console.log(`  ${line}`);
        await delay(LINE_MS);
      }
    },
  };
  if (support.supported) {
    await playInLab(narrator);
  } else {
    await narrator.print(
      `This machine cannot run the NAT lab (${support.reason}),`,
      "so there are no NATs here: both sides are on this machine, but do the same as behind NATs.",
    );
    await playOnLoopback(narrator);
  }
}

function bold(text: string): string {
  return Deno.stdout.isTerminal() && !Deno.noColor ? `\x1b[1m${text}\x1b[0m` : text;
}

/** Slow enough to read along. */
const CHAPTER_MS = 500;
const LINE_MS = 110;
const WIDTH = 78;

if (import.meta.main) await main();
