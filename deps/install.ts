// deno-lint-ignore-file no-console -- what it prints is its result
/**
 * Installs the command `punchline` from this clone: `deno task install`. The command is bundled and does not need the
 * clone any more; run it again after an update. `deno uninstall --global punchline` removes it.
 *
 * Everything goes below Deno's own folder for commands (`$DENO_INSTALL_ROOT`, or `~/.deno`): the command into `bin`, its
 * bundle into `share/punchline`, and the man page into `share/man`, where `man` looks if `bin` is on the path.
 *
 * @module
 */

import { manPage } from "../lib/cli/man_page.ts";
import { BUNDLE_ENTRY, bundleCommand, INSTALLED_FLAGS, runDeno } from "./installed_command.ts";

const root = installRoot();
const share = `${root}/share/punchline`;
const staged = `${share}.new`;
await remove(staged);
await bundleCommand(staged); // an older version stays if that fails
await remove(share);
await Deno.rename(staged, share);
await runDeno([
  ...["install", "--global", "--force", "--quiet", "--no-config", "--root", root],
  ...["--name", "punchline", ...INSTALLED_FLAGS, `${share}/${BUNDLE_ENTRY}`],
]);
if (Deno.build.os !== "windows") {
  await Deno.mkdir(`${root}/share/man/man1`, { recursive: true });
  await Deno.writeTextFile(`${root}/share/man/man1/punchline.1`, manPage());
}
const bin = `${root}/bin`;
console.log(`Installed ${bin}/punchline`);
const folders = (Deno.env.get("PATH") ?? "").split(Deno.build.os === "windows" ? ";" : ":");
if (!folders.includes(bin)) console.log(`Add it to your path: export PATH="${bin}:$PATH"`);
console.log("For completion by Tab: punchline help completion");

function installRoot(): string {
  const home = Deno.env.get("HOME") ?? Deno.env.get("USERPROFILE");
  const root = Deno.env.get("DENO_INSTALL_ROOT") ?? (home && `${home}/.deno`);
  if (root === undefined) throw new Error("Cannot install: neither HOME nor USERPROFILE is set");
  return root;
}

async function remove(folder: string): Promise<void> {
  try {
    await Deno.remove(folder, { recursive: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
