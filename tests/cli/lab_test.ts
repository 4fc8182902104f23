/**
 * `lab` in the published package, which does not contain the lab, and without permissions.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { CLI, WITH_UNSTABLE, withScratch } from "./command.ts";

Deno.test("lab in the package says where to get the lab, and exits with 1", () =>
  withScratch(async (folder) => {
    await copyPackage(folder);
    const { code, stderr } = await runLab(`${folder}/cli.ts`, ["--allow-all"]);
    assertEquals(
      stderr,
      "punchline: Cannot run the lab: it is part of the repository, not of the package; " +
        "clone the repository and run `deno task lab` there\n",
    );
    assertEquals(code, 1);
  }));

Deno.test("lab without permissions says how to run it, and exits with 1", async () => {
  const { code, stderr } = await runLab(CLI, ["--allow-net"]);
  assertEquals(
    stderr,
    "punchline: Cannot run the lab: it takes all permissions; " +
      "run `deno run -A cli.ts lab` in a clone of the repository\n",
  );
  assertEquals(code, 1);
});

async function runLab(cli: string, permissions: readonly string[]) {
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--quiet", "--no-prompt", "--no-check", "--no-lock", "--config", WITH_UNSTABLE],
      ...permissions,
      cli,
      "lab",
    ],
    env: { DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1" },
    stdin: "null",
  }).output();
  return { code, stderr: new TextDecoder().decode(stderr) };
}

/** Copies what is published and the command needs. */
async function copyPackage(folder: string): Promise<void> {
  for (const name of ["deno.json", "cli.ts"]) {
    await Deno.copyFile(new URL(name, ROOT), `${folder}/${name}`);
  }
  await copyFolder(new URL("lib/", ROOT), `${folder}/lib`);
}

async function copyFolder(from: URL, to: string): Promise<void> {
  await Deno.mkdir(to);
  for await (const { name, isDirectory } of Deno.readDir(from)) {
    if (isDirectory) await copyFolder(new URL(`${name}/`, from), `${to}/${name}`);
    else await Deno.copyFile(new URL(name, from), `${to}/${name}`);
  }
}

const ROOT = new URL("../../", import.meta.url);
