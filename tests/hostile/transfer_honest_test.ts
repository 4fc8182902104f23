/**
 * Files that cannot be sent as they were found: both sides say so.
 *
 * @module
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { endOf, haltedTransfer, namesIn, scratch, transfer } from "./transfer_scene.ts";

const ON_LINUX = Deno.build.os === "linux";

Deno.test({
  name: "a name that is not UTF-8 and a link out of the folder do not vanish without a word",
  ignore: !ON_LINUX,
  fn: async () => {
    await using folder = await scratch();
    const script =
      "mkdir data && cd data && printf x > \"$(printf 'bad\\377')\" && ln -s / root && echo y > ok";
    const { success } = new Deno.Command("sh", { args: ["-c", script], cwd: folder.path })
      .outputSync();
    assert(success);
    const { sent, received } = await transfer([`${folder.path}/data`], folder.inbox);
    for (const side of [sent, received]) {
      assert(side.status === "fulfilled", endOf(side));
      assertEquals(side.value.files, 1);
      assertEquals(side.value.skipped.map(({ reason }) => reason).sort(), ["link", "missing"]);
    }
    assertEquals(await namesIn(`${folder.inbox}/data`), ["ok"]);
  },
});

Deno.test("a file that shrinks while it is sent does not arrive, and both sides say so", async () => {
  await using folder = await scratch();
  await Deno.mkdir(`${folder.path}/data`);
  await Deno.writeFile(`${folder.path}/data/x`, new Uint8Array(64 * 1024 * 1024));
  await Deno.writeTextFile(`${folder.path}/data/y`, "y");
  await using running = await haltedTransfer([`${folder.path}/data`], folder.inbox, 1024 * 1024);
  await running.halted;
  await Deno.truncate(`${folder.path}/data/x`, 1000);
  running.resume();
  for (const side of [await running.sent, await running.received]) {
    assert(side.status === "fulfilled", endOf(side));
    assertEquals([side.value.files, side.value.bytes], [1, 1]);
    assertMatch(side.value.refused[0]!.reason, /changed/);
  }
  assertEquals(await namesIn(`${folder.inbox}/data`), ["y"]);
});

Deno.test({
  name: "names that only a POSIX system can hold arrive as they are",
  ignore: !ON_LINUX,
  fn: async () => {
    await using folder = await scratch();
    await Deno.mkdir(`${folder.path}/data`);
    const names = ["CON", "T.h", "Vol.", "a:b", "aux.c", "back\\slash", "t.h", "x".repeat(255)];
    for (const name of names) await Deno.writeTextFile(`${folder.path}/data/${name}`, name);
    const { received } = await transfer([`${folder.path}/data`], folder.inbox);
    assertEquals(endOf(received), "ok");
    assertEquals(await namesIn(`${folder.inbox}/data`), names);
  },
});
