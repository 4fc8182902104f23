// deno-lint-ignore-file no-console -- it talks to people
/**
 * Two programs behind two NATs find each other, step by step, in about ten seconds: `deno task demo`. On machines
 * that cannot run the lab, over loopback.
 *
 * @module
 */

import { delay } from "@std/async/delay";
import { playInLab } from "./demo/in_lab.ts";
import { playOnLoopback } from "./demo/on_loopback.ts";
import type { Teller } from "./demo/teller.ts";
import { labSupport } from "../kernel/privileges.ts";

async function main(): Promise<void> {
  const support = labSupport();
  const teller: Teller = {
    async chapter(title) {
      await delay(CHAPTER_MS);
      const line = `── ${title} `;
      console.log(`\n${bold(line)}${"─".repeat(Math.max(0, WIDTH - line.length))}`);
    },
    async say(...lines) {
      for (const line of lines) {
        console.log(`  ${line}`);
        await delay(LINE_MS);
      }
    },
  };
  if (support.supported) {
    await playInLab(teller);
  } else {
    await teller.say(
      `This machine cannot run the NAT lab (${support.reason}),`,
      "so there are no NATs here: both sides are on this machine, and do the same as if there were.",
    );
    await playOnLoopback(teller);
  }
}

function bold(text: string): string {
  return Deno.stdout.isTerminal() && !Deno.noColor ? `\x1b[1m${text}\x1b[0m` : text;
}

/** For reading. */
const CHAPTER_MS = 500;
const LINE_MS = 110;
const WIDTH = 78;

if (import.meta.main) await main();
