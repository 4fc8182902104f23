/**
 * `listen` and `connect` on terminals: the end of either side ends both, although a keyboard never ends by itself.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { start, withServers } from "./command.ts";
import { HAS_SCRIPT, Terminal } from "./terminal.ts";

Deno.test("a pseudo-terminal is there where tests must not be skipped", () => {
  assert(HAS_SCRIPT || Deno.env.get("CI") !== "true");
});

Deno.test({
  name: "listen on a terminal ends with the other side, whose stdin was a pipe",
  ignore: !HAS_SCRIPT,
  fn: () =>
    withServers(async (servers) => {
      await using listener = Terminal.start(["listen", ...servers.all]);
      const connector = start(["connect", await ticketOn(listener), ...servers.connecting], {
        input: [new TextEncoder().encode("hello\n")],
      });
      await listener.prints("hello");
      assertEquals([await listener.end(), (await connector.end()).code], [0, 0]);
    }),
});

for (const leaving of ["listen", "connect"]) {
  Deno.test({
    name: `Ctrl-D in ${leaving} ends both sides, both on terminals`,
    ignore: !HAS_SCRIPT,
    fn: () =>
      withServers(async (servers) => {
        await using listener = Terminal.start(["listen", ...servers.all]);
        await using connector = Terminal.start(
          ["connect", await ticketOn(listener), ...servers.connecting],
        );
        await Promise.all([listener.prints("Connected"), connector.prints("Connected")]);
        await (leaving === "listen" ? listener : connector).type("\x04");
        assertEquals([await listener.end(), await connector.end()], [0, 0]);
      }),
  });
}

async function ticketOn(terminal: Terminal): Promise<string> {
  const screen = await terminal.prints(/punchline:[\w-]{60,}\s/);
  return /punchline:[\w-]{60,}/.exec(screen)![0];
}
