/**
 * `listen` and `connect` on terminals: the end of either side ends both, although a keyboard never ends by itself.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { start, withServers } from "./command.ts";
import { Terminal, terminalTest } from "./terminal.ts";

terminalTest(
  "listen on a terminal ends with the other side, whose stdin was a pipe",
  () =>
    withServers(async (servers) => {
      await using listener = Terminal.start(["listen", ...servers.all]);
      const connector = start(["connect", await ticketOn(listener), ...servers.connecting], {
        input: [new TextEncoder().encode("hello\n")],
      });
      await listener.prints("hello");
      assertEquals([await listener.end(), (await connector.end()).code], [0, 0]);
    }),
);

for (const leaving of ["listen", "connect"]) {
  terminalTest(
    `Ctrl-D in ${leaving} ends both sides, both on terminals`,
    () =>
      withServers(async (servers) => {
        await using listener = Terminal.start(["listen", ...servers.all]);
        await using connector = Terminal.start(
          ["connect", await ticketOn(listener), ...servers.connecting],
        );
        await Promise.all([listener.prints("Connected"), connector.prints("Connected")]);
        await (leaving === "listen" ? listener : connector).type("\x04");
        assertEquals([await listener.end(), await connector.end()], [0, 0]);
      }),
  );
}

async function ticketOn(terminal: Terminal): Promise<string> {
  const screen = await terminal.prints(/punchline:[\w-]{60,}\s/);
  return /punchline:[\w-]{60,}/.exec(screen)![0];
}
