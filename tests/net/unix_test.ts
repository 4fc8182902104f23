import { assert, assertMatch } from "@std/assert";

Deno.test("Unix sockets carry bytes, are private, and replace only a dead one of their own", async () => {
  const scratch = new URL("../transfer/scratch/", import.meta.url).pathname;
  const tests = new URL("unix_sockets.ts", import.meta.url).pathname;
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      ...["test", "--no-prompt", "--quiet", "--allow-net", "--allow-read"],
      ...[`--allow-write=${scratch}`, tests],
    ],
    env: { DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1" },
  }).output();
  const said = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  assert(success, said);
  assertMatch(said, /8 passed/);
});
