/**
 * What a person types into a real terminal before the peer is there: it stays readable, and is sent.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import { systemNetwork } from "../../lib/net/system.ts";
import { serveRendezvous } from "../../lib/signal/rendezvous/server.ts";
import { CLI, start, withScratch } from "../cli/command.ts";
import { Terminal } from "./tmux.ts";
import { toolTest } from "./tool_test_case.ts";

/** Of the terminal. */
const COLUMNS = 100;

toolTest(
  "what is typed while listen waits stays below the status line, and is sent",
  { tmux: "tmux", bash: "bash" },
  () =>
    withScratch(async (folder) => {
      await using rendezvous = await serveRendezvous({
        network: systemNetwork,
        local: { ip: "127.0.0.1", port: 0 },
      });
      const where = ["--rendezvous", rendezvous.url, "--strategy", "host"];
      const listen = [Deno.execPath(), "run", "-A", CLI, "listen", "--no-code", ...where];
      const env = { TERM: "screen", DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1", HOME: folder };
      const shell = { folder, env: { ...env, PS1: "READY> " } };
      await using terminal = await Terminal.open("bash --norc --noprofile", shell);
      await terminal.type(`clear; ${listen.join(" ")}\n`);
      await terminal.shows("Waiting for a peer, ");
      await terminal.type("hello\nhalf a li");
      const [, seconds] = await screenWith(
        terminal,
        /\nhello\nWaiting for a peer, (\d+) s.*\nhalf a li$/,
      );
      const later = `(?!${seconds} s)\\d+ s`; // it was redrawn
      const [screen] = await screenWith(
        terminal,
        new RegExp(`^[^]*\\nhello\\nWaiting for a peer, ${later}.*\\nhalf a li$`),
      );
      assertEquals(screen.match(/Waiting for/g)?.length, 1, screen);
      await terminal.type("ne\n");
      const rows = screen.split("\n");
      const text = rows.map((row) => row.length === COLUMNS ? row : `${row}\n`).join("");
      const [ticket] = /punchline:[\w-]{60,}/.exec(text)!;
      const { code, stdout } = await start(["connect", ticket, ...where]).end();
      assertEquals([code, stdout], [0, "hello\nhalf a line\n"]);
    }),
);

/** The screen, once it looks like this. */
async function screenWith(terminal: Terminal, expected: RegExp): Promise<RegExpExecArray> {
  const deadline = AbortSignal.timeout(30_000);
  for (;;) {
    const screen = (await terminal.screen()).trimEnd();
    const found = expected.exec(screen);
    if (found !== null) return found;
    if (deadline.aborted) throw new Error(`Cannot find ${expected} in ${screen}`);
    await delay(200);
  }
}
