/**
 * The walks through the code in CONTRIBUTING.md: every file that they name exists, and none is long.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";

const ROOT = new URL("../", import.meta.url);
const WALKS = readWalks(Deno.readTextFileSync(new URL("CONTRIBUTING.md", ROOT)));

Deno.test("CONTRIBUTING.md has three walks", () => {
  assertEquals(WALKS.map(({ title }) => title), [
    "From a STUN answer to the verdict",
    "From a ticket to a connection",
    "From `mapPort` to a lease",
  ]);
});

for (const { title, text } of WALKS) {
  Deno.test(`the walk ${JSON.stringify(title)} names at most eight files, and all of them exist`, async () => {
    const links = [...text.matchAll(/\[([^\]]+)\]\(([^)]+)\)/g)];
    assert(links.length >= 2 && links.length <= 8, `${links.length} files`);
    const missing: string[] = [];
    for (const [, name, path] of links) {
      assertEquals(name, path);
      if (!await isFile(path!)) missing.push(path!);
    }
    assertEquals(missing, []);
  });
}

/** The sections of "Three walks through the code". */
function readWalks(text: string): { title: string; text: string }[] {
  const [, chapter = ""] = /^## Three walks[^\n]*\n([^]*?)^## /m.exec(text) ?? [];
  return chapter.split(/^### /m).slice(1).map((section) => {
    const [title = "", ...rest] = section.split("\n");
    return { title, text: rest.join("\n") };
  });
}

async function isFile(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(new URL(path, ROOT))).isFile;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    return false;
  }
}
