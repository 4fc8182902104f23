/**
 * Follows the pages of the documentation as a newcomer would: types what they say on machines in a LAN, and looks for
 * what they show. `docs/page.ts` beside this file describes how a page says so.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { labTest } from "../lab/lab_test_case.ts";
import { readSteps } from "./docs/page.ts";
import { Installation, Reader } from "./docs/reader.ts";

const ROOT = new URL("../../", import.meta.url);
const DOCS = new URL("docs/", ROOT);

/** How many blocks of a page are not followed; the page has the reason of each. */
const SKIPPED: Readonly<Record<string, number>> = { "zero-to-two-machines.md": 1 };

const PAGES = [
  "zero-to-two-machines.md",
  ...[...Deno.readDirSync(new URL("guide/", DOCS))].map(({ name }) => `guide/${name}`).sort(),
].filter((page) => Deno.args.length === 0 || Deno.args.some((part) => page.includes(part)));

labTest("each page can be followed by a newcomer", async (test) => {
  const readme = await Deno.readTextFile(new URL("README.md", ROOT));
  await using installation = await Installation.make(/^deno install .*$/m.exec(readme)![0]);
  for (const page of PAGES) {
    await test.step(`docs/${page}`, async () => {
      const steps = readSteps(await Deno.readTextFile(new URL(page, DOCS)));
      const skipped = steps.filter(({ kind }) => kind === "skip").length;
      assertEquals(skipped, SKIPPED[page] ?? 0, "blocks that are skipped");
      await using reader = await Reader.open(installation);
      for (const step of steps) {
        try {
          await reader.follow(step);
        } catch (error) {
          if (!(error instanceof Error)) throw error;
          throw new Error(`docs/${page}:${step.line}: ${error.message}`, { cause: error });
        }
      }
      await reader.finish();
    });
  }
}, { programs: ["ip", "tmux", "setpriv", "ssh", "sshd", "curl", "python3"] });
