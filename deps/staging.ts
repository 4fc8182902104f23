/**
 * Puts what is published into folders: the package for JSR, and the one for npm.
 *
 * @module
 */

import { bundleCommand, LAUNCHER_FLAGS, path } from "./installed_command.ts";

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

/** The configuration of the package for JSR. */
export interface JsrConfig {
  readonly name: string;
  readonly version: string;
  readonly exports: Readonly<Record<string, string>>;
  readonly imports: Readonly<Record<string, string>>;
}

/**
 * Puts the package for JSR into an empty folder.
 *
 * @param options.links stand-ins for `jsr:@std/*`. Default: none
 */
export async function stageJsrPackage(
  target: string,
  options: { links?: readonly string[] } = {},
): Promise<JsrConfig> {
  for (const name of PUBLISHED) await copy(path(name), `${target}/${name}`);
  const config = await readConfig();
  const imports = Object.entries<string>(config.imports)
    .filter(([name]) => !TEST_ONLY.includes(name));
  const published = {
    ...Object.fromEntries(CONFIGURED.map((name) => [name, config[name]])),
    imports: Object.fromEntries(imports),
    links: options.links,
  };
  await writeJson(`${target}/deno.json`, published);
  return published as typeof published & JsrConfig;
}

/**
 * Puts the package for npm into an empty folder: the bundled command, and a program for Node.js that runs it with Deno,
 * which comes as a dependency. `npm publish` publishes the folder.
 */
export async function stageNpmPackage(target: string): Promise<void> {
  const { version, license } = await readConfig();
  await bundleCommand(`${target}/lib`);
  const starter = await Deno.readTextFile(path("deps/npm_starter.cjs"));
  const flags = JSON.stringify([...LAUNCHER_FLAGS, "--quiet", "--no-config"]);
  await Deno.writeTextFile(`${target}/punchline.cjs`, starter.replace('["FLAGS"]', flags));
  for (const name of ["README.md", "LICENSE"]) await copy(path(name), `${target}/${name}`);
  await writeJson(`${target}/package.json`, {
    name: "punchline",
    version,
    license,
    description: "Connects two machines directly, through NATs and firewalls",
    bin: { punchline: "punchline.cjs" },
    files: ["punchline.cjs", "lib"],
    engines: { node: ">=18" },
    dependencies: { deno: DENO_VERSION },
  });
}

async function readConfig() {
  return JSON.parse(await Deno.readTextFile(path("deno.json")));
}

async function writeJson(file: string, value: unknown): Promise<void> {
  await Deno.writeTextFile(file, `${JSON.stringify(value, undefined, 2)}\n`);
}

/** Copies a file, or a folder with everything in it. */
export async function copy(from: string, to: string): Promise<void> {
  const { isDirectory } = await Deno.stat(from);
  if (!isDirectory) return await Deno.copyFile(from, to);
  await Deno.mkdir(to);
  for await (const { name } of Deno.readDir(from)) await copy(`${from}/${name}`, `${to}/${name}`);
}

/** The version that the tests run with, and later ones that are compatible. */
const DENO_VERSION = "^2.9.6";
