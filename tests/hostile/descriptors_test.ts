// A peer whose process may open no more files.

import { assert, assertEquals } from "@std/assert";
import { REJECTION_CODES } from "../../lib/peer/rejection.ts";

Deno.test({
  name:
    "a peer at its limit of open files says that it is busy, keeps its connections, and accepts again later",
  ignore: Deno.build.os === "windows",
  fn: async () => {
    const program = new URL("programs/few_files.ts", import.meta.url).pathname;
    const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", "-A", program, "80"],
      env: { DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1" },
    }).output();
    const decoder = new TextDecoder();
    assertEquals(decoder.decode(stderr), "");
    const { connections, ...result } = JSON.parse(decoder.decode(stdout));
    assert(connections >= 16, `only ${connections} connections`);
    assertEquals(result, { code: REJECTION_CODES.busy, live: connections, again: "host" });
  },
});
