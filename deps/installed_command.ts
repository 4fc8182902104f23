/**
 * The command as it is installed: its permissions, and its bundle.
 *
 * @module
 */

import { VARIABLES } from "../lib/cli/environment.ts";

/** The permissions of the installed command: all that any command can use, and no prompt for anything else. */
export const INSTALLED_FLAGS: readonly string[] = flagsWith(
  VARIABLES.filter(({ isForLaunchers }) => !isForLaunchers),
);

/** The same for a program that starts the command under another name. */
export const LAUNCHER_FLAGS: readonly string[] = flagsWith(VARIABLES);

function flagsWith(variables: typeof VARIABLES): string[] {
  return [
    "--no-prompt",
    "--unstable-net",
    "--allow-net",
    "--allow-read",
    "--allow-write",
    "--allow-sys=networkInterfaces",
    `--allow-env=${variables.map(({ name }) => name).join(",")}`,
  ];
}

/** The file of a bundle that is run. */
export const BUNDLE_ENTRY = "punchline.js";

/**
 * Bundles the command into a folder: one file that starts, one that starts the threads of `serve`, and one for each command
 * and what they share, because in a single file every command would load what any of them needs.
 *
 * @throws {Error} if it cannot be bundled, such as without a way to the bundler, which is on npm
 */
export async function bundleCommand(folder: string): Promise<void> {
  await runDeno([
    ...["bundle", "--quiet", "--code-splitting", "--outdir", folder],
    ...["--config", path("deno.json"), path("punchline.ts"), path("lib/cli/serve_thread.ts")],
  ]);
}

/** Runs Deno, and throws what it says if it fails. */
export async function runDeno(
  args: readonly string[],
  env?: Record<string, string>,
): Promise<void> {
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [...args],
    env,
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).output();
  if (success) return;
  throw new Error(`Cannot run deno ${args[0]}: ${new TextDecoder().decode(stderr).trim()}`);
}

/** The path of a file of this repository. */
export function path(name: string): string {
  const { pathname } = new URL(`../${name}`, import.meta.url);
  return decodeURIComponent(Deno.build.os === "windows" ? pathname.slice(1) : pathname);
}
