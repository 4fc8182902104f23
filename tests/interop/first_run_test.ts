/**
 * The first run from a fresh clone: it downloads what the product uses, and no package of a benchmark or of the lab.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";

/** The packages of the product, and the stand-in for `jsr:@std`. */
const KNOWN = ["@noble", "@noble%2fcurves", "deno-std", "sax", "uqr"];

Deno.test("the first nat-test from a fresh clone makes at most ten downloads", async () => {
  const folder = await Deno.makeTempDir({ prefix: "punchline-first-run-" });
  try {
    await run("git", ["clone", "--quiet", "--depth=1", ROOT.href, `${folder}/clone`]);
    const { stderr } = await run(Deno.execPath(), [
      "run",
      "--allow-net=127.0.0.1",
      "cli.ts",
      "help",
    ], {
      cwd: `${folder}/clone`,
      env: { DENO_DIR: `${folder}/cache`, NO_COLOR: "1" },
    });
    const downloads = stderr.split("\n").filter((line) => line.startsWith("Download "));
    assert(downloads.length > 0, "an empty cache has to be filled");
    assert(downloads.length <= 10, downloads.join("\n")); // five packages, and four descriptions of them
    const packages = downloads.map((line) => new URL(line.split(" ")[1]!).pathname.split("/")[1]!);
    assertEquals(packages.filter((name) => !KNOWN.includes(name)), []);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

async function run(
  command: string,
  args: string[],
  options: Pick<Deno.CommandOptions, "cwd" | "env"> = {},
): Promise<{ stderr: string }> {
  const output = await new Deno.Command(command, { args, ...options, stdin: "null" }).output();
  const stderr = new TextDecoder().decode(output.stderr);
  assert(output.success, `${command} ${args.join(" ")}: ${stderr}`);
  return { stderr };
}

const ROOT = new URL("../../", import.meta.url);
