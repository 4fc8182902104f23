/**
 * Puts what is published into a folder of its own, and publishes it from there: `deno run -A deps/publish.ts` checks
 * that it could be published on JSR, `--real` does it. `--npm FOLDER` makes the package for npm in a new folder, for
 * `npm publish`.
 *
 * The package holds the library and the command line, nothing else. The stand-ins for `jsr:@std/*` in `deps/std` are for
 * machines that cannot reach JSR; they lie beside the folder for the check, and are left out of a real release.
 *
 * @module
 */

import { path } from "./installed_command.ts";
import { copy, stageJsrPackage, stageNpmPackage } from "./staging.ts";

const isReal = Deno.args.includes("--real");
const [option, npmFolder] = Deno.args;
if (option === "--npm" && npmFolder !== undefined) {
  await Deno.mkdir(npmFolder);
  await stageNpmPackage(npmFolder);
} else {
  await publishOnJsr();
}

async function publishOnJsr(): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "punchline-publish-" });
  try {
    await Deno.mkdir(`${folder}/package`);
    await stageJsrPackage(`${folder}/package`, {
      links: isReal ? undefined : ["../std/async", "../std/cli"],
    });
    if (!isReal) await copy(path("deps/std"), `${folder}/std`);
    const { success, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["publish", "--no-check=remote", ...isReal ? [] : ["--dry-run", "--allow-dirty"]],
      cwd: `${folder}/package`,
      stdout: "inherit",
      stderr: isReal ? "inherit" : "piped",
      stdin: isReal ? "inherit" : "null",
    }).output();
    if (!success && !isReal) await Deno.stderr.write(stderr);
    Deno.exitCode = success ? 0 : 1;
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
