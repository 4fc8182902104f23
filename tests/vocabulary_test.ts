/**
 * One word per thing, and that the field's: words that the glossary has replaced do not come back.
 *
 * @module
 */

import { assertEquals } from "@std/assert";

/** Each as it would stand in an identifier, a file name or a sentence. */
const REPLACED = [
  ...["kno" + "ck", "KeptBu" + "s", "AnsweringLin" + "e", "HandDes" + "k", "AnchorPoo" + "l"],
  ...["GiveU" + "p", "turnstil" + "e", "SoapPac" + "e", "contende" + "r", "favourit" + "e"],
  ...["LeaseKeepe" + "r", "KeptMappin" + "g", "PathSwitc" + "h", "DialGrou" + "p"],
  ...["DialTrac" + "e", "diallabl" + "e", "unless give" + "n", "unless tol" + "d"],
];

Deno.test("no identifier, file name or sentence has a word that was replaced", async () => {
  const found: string[] = [];
  for (const path of await listFiles()) {
    for (const word of wordsIn(path)) found.push(`${path} is named after ${word}`);
    const text = await Deno.readTextFile(new URL(path, ROOT));
    for (const [index, line] of text.split("\n").entries()) {
      for (const word of wordsIn(line.replace(WIRE_LABEL, ""))) {
        found.push(`${path}:${index + 1}: ${word}`);
      }
    }
  }
  assertEquals(found, []);
});

function wordsIn(text: string): string[] {
  const simple = text.toLowerCase().replaceAll("_", "");
  return REPLACED.filter((word) => simple.includes(word.toLowerCase()));
}

async function listFiles(): Promise<string[]> {
  const { stdout } = await new Deno.Command("git", {
    args: ["ls-files", "--cached", "--others", "--exclude-standard"],
    cwd: ROOT,
  }).output();
  const paths = new TextDecoder().decode(stdout).trim().split("\n");
  return paths.filter((path) =>
    /\.(?:ts|md|json)$/.test(path) && !/results\/|vectors\//.test(path)
  );
}

/** Hashed into the keys of MACs, so these bytes of the protocol stay: see lib/peer/keys.ts. */
const WIRE_LABEL = `request: "${"kno" + "ck"}"`;

const ROOT = new URL("../", import.meta.url);
