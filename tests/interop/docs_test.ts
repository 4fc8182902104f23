/**
 * Follows the pages of the documentation as a newcomer would: types what they say on machines in a LAN, and looks for
 * what they show. `docs/page.ts` beside this file describes how a page says so.
 *
 * @module
 */

import { assertEquals, assertThrows } from "@std/assert";
import { labTest } from "../lab/lab_test_case.ts";
import { readSteps } from "./docs/page.ts";
import { Installation, Reader } from "./docs/reader.ts";
import { ShownText } from "./docs/shown_text.ts";

Deno.test("a block or a comment that says nothing known is an error", () => {
  const wrong = [
    "```sh\nls\n```\n",
    "```sh machine=a stay\nls\n```\n",
    "```sh machine=a types\nls\n```\n",
    "```python machine=a\n1\n```\n",
    "```\nls\n```\n",
    "<!-- test: pres C-c machine=a -->\n",
    "<!-- test: press C-c -->\n",
    "<!-- test: skip -->\n```sh\nls\n```\n",
    "<!-- test: skip it is slow -->\n",
    "<!-- test: skip it is slow -->\n<!-- test: press C-c machine=a -->\n",
  ];
  for (const text of wrong) assertThrows(() => readSteps(text), Error, "Cannot follow", text);
  const [step, ...others] = readSteps("<!-- test: skip it\nis slow -->\n\n```sh\nls\n```\n");
  assertEquals(step, { kind: "skip", reason: "it is slow", line: 4 });
  assertEquals(others, []);
});

Deno.test("what a page shows has to be on the screen, apart from times, codes and tickets", () => {
  const text = new ShownText();
  const [code, ticket] = ["7-amber-walrus-otter", "punchline:AQAB..."];
  const screen = ["[0]$", "punchline recv 88-one-two-three", "or punchline:XYZ", "in 2.5 s"];
  assertEquals(text.missing([`punchline recv ${code}`, "in 0.4 s"], screen), undefined);
  assertEquals(text.actual(`recv ${code}`), "recv 88-one-two-three");
  assertEquals(text.missing([`or ${ticket}`], screen), undefined);
  assertEquals(text.actual(`connect ${ticket} --x`), "connect punchline:XYZ --x");
  assertEquals(text.missing(["in 0.4 s", `or ${ticket}`], screen), `or ${ticket}`);
  assertEquals(
    text.missing([`punchline recv ${code}`], ["punchline recv 9-a-b-c"]),
    `punchline recv ${code}`,
  );
  assertEquals(text.missing(["in 4 files"], ["in 3 files"]), "in 4 files");
  assertEquals(text.missing(["a ... z"], ["a b c z"]), undefined);
});

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
