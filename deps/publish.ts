/**
 * Puts what is published into a folder of its own, and publishes it from there: `deno run -A deps/publish.ts` checks
 * that it could be published, `--real` does it.
 *
 * The package holds the library and the command line, nothing else. The stand-ins for `jsr:@std/*` in `deps/std` are for
 * machines that cannot reach JSR; they lie beside the folder for the check, and are left out of a real release.
 *
 * @module
 */

/** What the package consists of. */
const PUBLISHED = [
  "mod.ts",
  "cli.ts",
  "punchline.ts",
  "lib",
  "README.md",
  "LICENSE",
  "CHANGELOG.md",
  "SECURITY.md",
];

/** What of `deno.json` is of use to those who import the package; the rest is for this repository. */
const CONFIGURED = ["name", "version", "license", "exports", "compilerOptions", "unstable"];

/** Dependencies of the tests. */
const TEST_ONLY = ["@std/assert", "fast-check"];

const root = new URL("../", import.meta.url);
const isReal = Deno.args.includes("--real");
const folder = await Deno.makeTempDir({ prefix: "punchline-publish-" });
try {
  await stage(`${folder}/package`);
  if (!isReal) await copy(new URL("deps/std", root).pathname, `${folder}/std`);
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

async function stage(target: string): Promise<void> {
  await Deno.mkdir(target);
  for (const name of PUBLISHED) await copy(new URL(name, root).pathname, `${target}/${name}`);
  const config = JSON.parse(await Deno.readTextFile(new URL("deno.json", root)));
  const imports = Object.entries(config.imports).filter(([name]) => !TEST_ONLY.includes(name));
  const published = {
    ...Object.fromEntries(CONFIGURED.map((name) => [name, config[name]])),
    imports: Object.fromEntries(imports),
    links: isReal ? undefined : ["../std/async", "../std/cli"],
  };
  await Deno.writeTextFile(`${target}/deno.json`, `${JSON.stringify(published, undefined, 2)}\n`);
}

async function copy(from: string, to: string): Promise<void> {
  const { isDirectory } = await Deno.stat(from);
  if (!isDirectory) return await Deno.copyFile(from, to);
  await Deno.mkdir(to);
  for await (const { name } of Deno.readDir(from)) await copy(`${from}/${name}`, `${to}/${name}`);
}
