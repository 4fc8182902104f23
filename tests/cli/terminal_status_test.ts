/**
 * The status line in a pseudo-terminal.
 *
 * @module
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { start, withServers } from "./command.ts";
import { Terminal, terminalTest } from "./terminal.ts";

terminalTest(
  "on a terminal, listen says what it waits for, and nothing of that is between the data",
  () =>
    withServers(async (servers) => {
      await using listener = Terminal.start(["listen", ...servers.all]);
      await listener.prints(/Waiting for a peer, \d s: 127\.0\.0\.1:\d+ ok/);
      const [ticket] = /punchline:[\w-]{60,}/.exec(listener.screen)!;
      const connector = start(["connect", ticket, ...servers.connecting]);
      const { code } = await connector.end();
      assertEquals(code, 0);
      assertEquals(await listener.end(), 0); // with the other side
      const [, after] = listener.screen.split("Connected", 2);
      assert(after!.includes("Closed") && !after!.includes("Waiting"), after);
    }),
);

terminalTest(
  "on a dumb terminal nothing is redrawn",
  () =>
    withServers(async (servers) => {
      await using listener = Terminal.start(["listen", ...servers.all], {
        permissions: ["--allow-env=TERM"],
        shell: "export TERM=dumb; exec $COMMAND",
      });
      await listener.prints("Waiting for a peer\r\n");
      assertMatch(listener.screen, /Opening ways to meet\r\nOn the other machine:/);
      assert(!listener.screen.includes("\u001b"), JSON.stringify(listener.screen));
    }),
);

terminalTest(
  "what works is green, and NO_COLOR turns that off",
  () =>
    withServers(async (servers) => {
      for (const [before, hasColor] of [["unset NO_COLOR; ", true], ["", false]] as const) {
        await using listener = Terminal.start(["listen", ...servers.all], {
          shell: `${before}exec $COMMAND`,
        });
        await listener.prints(/Waiting for a peer[^]* ok/);
        assertEquals(listener.screen.includes("\u001b[32m127.0.0.1:"), hasColor, listener.screen);
      }
    }),
);

terminalTest(
  "with --json there is no status line, even on a terminal",
  () =>
    withServers(async (servers) => {
      await using listener = Terminal.start(["listen", "--json", ...servers.all]);
      await listener.prints('"event":"ticket"');
      await listener.prints('"event":"signaling"');
      const lines = listener.screen.replace(/^pid \d+\.\r\n/, "").trim().split("\r\n");
      for (const line of lines) assertEquals(typeof JSON.parse(line).event, "string", line);
    }),
);
