/**
 * Files that keep a program waiting: pipes without a writer.
 *
 * @module
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { delay } from "@std/async/delay";
import { start, withScratch } from "../cli/command.ts";

const IS_WINDOWS = Deno.build.os === "windows"; // it has no signals to send to another process, and no named pipes

Deno.test({
  name: "a key file that is a pipe or a folder is refused at once",
  ignore: IS_WINDOWS,
  fn: () =>
    withScratch(async (folder) => {
      const pipe = await makePipe(folder);
      for (const path of [pipe, folder]) {
        for (const command of [["id"], ["ticket", "new"], ["listen", "--lan"]]) {
          const { code, stderr } = await start([...command, "--key", path], {
            permissions: permissionsFor(folder),
          }).end();
          assertEquals(code, 2, stderr);
          assertEquals(stderr.split("\n")[0], `punchline: --key ${path}: it is not a file`);
        }
      }
    }),
});

for (const [signal, expected] of [["SIGTERM", 143], ["SIGINT", 130]] as const) {
  Deno.test({
    name: `${signal} ends a command that waits for the writer of a pipe`,
    ignore: IS_WINDOWS,
    fn: () =>
      withScratch(async (folder) => {
        const pipe = await makePipe(folder);
        for (const args of [["connect", `@${pipe}`], ["listen", "--turn", `@${pipe}`]]) {
          const waiting = start(args, { permissions: permissionsFor(folder) });
          await delay(2000);
          waiting.signal(signal);
          assertEquals((await waiting.end()).code, expected);
        }
      }),
  });
}

Deno.test({
  name: "a ticket may come through a pipe whose writer is late",
  ignore: IS_WINDOWS,
  fn: () =>
    withScratch(async (folder) => {
      const pipe = await makePipe(folder);
      const command = start(["recv", `@${pipe}`, "--yes"], { permissions: permissionsFor(folder) });
      await delay(1000);
      await Deno.writeTextFile(pipe, "punchline:nonsense\n");
      const { code, stderr } = await command.end();
      assertEquals(code, 2, stderr);
      assertMatch(stderr, /ticket/);
      assert(!stderr.includes("nonsense"), stderr);
    }),
});

async function makePipe(folder: string): Promise<string> {
  const path = `${folder}/pipe`;
  const { success } = await new Deno.Command("mkfifo", { args: [path] }).output();
  assert(success);
  return path;
}

function permissionsFor(folder: string): readonly string[] {
  return [`--allow-read=${folder}`, `--allow-write=${folder}`];
}
