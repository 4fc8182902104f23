/**
 * Files between two processes, with random kills and whole trees, compared with the tools of the system.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { runCliKills, runKills } from "../hostile/kills.ts";
import { endOf, namesIn, scratch, transfer } from "../hostile/transfer_scene.ts";
import { makeTree, runTree } from "../hostile/trees.ts";
import { outputOf, toolTest } from "./tool_test_case.ts";

const COMPARING = { diff: "diffutils", find: "findutils" };

for (const [what, run] of [["a transfer", runKills], ["send and recv", runCliKills]] as const) {
  Deno.test(`random kills of both sides of ${what}: every rerun adds bytes, within seconds`, () =>
    withFolder(async (folder) => {
      const seed = Date.now() % 2 ** 31;
      const report = await run(folder, { kills: 8, megabytes: 60, seed });
      const { isWhole, fruitless, names } = report;
      assertEquals([isWhole, fruitless, names], [true, 0, ["file"]], JSON.stringify(report));
      assert(report.resumedMs.longest < 10_000, JSON.stringify(report));
    }));
}

toolTest(
  "a tree with every kind of name, link and mode arrives as it is",
  COMPARING,
  () =>
    withFolder(async (folder) => {
      await makeTree(`${folder}/tree`, 5000);
      await Deno.mkdir(`${folder}/in`);
      const report = await runTree(`${folder}/tree`, `${folder}/in`);
      assertArrived(report);
    }),
);

Deno.test({
  name: "a file of /proc, which has no size, does not pass for an empty one",
  ignore: Deno.build.os !== "linux",
  fn: async () => {
    // Deno demands all permissions for it, which the unit tests do not have.
    await using folder = await scratch();
    const { sent, received } = await transfer(["/proc/version"], folder.inbox);
    for (const side of [sent, received]) {
      assert(side.status === "fulfilled", endOf(side));
      assertEquals(side.value.files, 0);
      assertEquals(side.value.refused.map(({ path, by }) => [path, by]), [["version", "sender"]]);
    }
    assertEquals(await namesIn(folder.inbox), []);
  },
});

const SOURCES = kernelSources();
Deno.test({
  name: `Debian's kernel sources arrive as they are${
    SOURCES === undefined ? " (skipped: the Debian package linux-source is not installed)" : ""
  }`,
  ignore: SOURCES === undefined && Deno.env.get("CI") !== "true",
  fn: () =>
    withFolder(async (folder) => {
      assert(SOURCES !== undefined, "the Debian package linux-source is not installed");
      await outputOf("tar", ["-xf", SOURCES, "-C", folder], 300_000);
      const [name] = await Array.fromAsync(Deno.readDir(folder), ({ name }) => name);
      await Deno.mkdir(`${folder}/in`);
      const report = await runTree(`${folder}/${name}`, `${folder}/in`);
      assertArrived(report);
      assert(report.files > 50_000, `${report.files} files`);
    }),
});

/** The archive of the package, whatever its version. */
function kernelSources(): string | undefined {
  try {
    const names = [...Deno.readDirSync("/usr/src")].map(({ name }) => name);
    const name = names.find((name) => /^linux-source-.*\.tar\.xz$/.test(name));
    return name === undefined ? undefined : `/usr/src/${name}`;
  } catch {
    return undefined;
  }
}

function assertArrived(report: Awaited<ReturnType<typeof runTree>>): void {
  const { differences, isEqual, refused, skipped, renamed } = report;
  assertEquals([differences, isEqual, refused, skipped, renamed], ["", true, [], [], []]);
}

async function withFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "transfer-" });
  try {
    await run(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
