/**
 * What a person types into a real terminal before the peer is there: it stays readable, and is sent.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { systemNetwork } from "../../lib/net/system.ts";
import { serveRendezvous } from "../../lib/signal/rendezvous/server.ts";
import { CLI, start, withScratch } from "../cli/command.ts";
import { Terminal } from "./tmux.ts";
import { toolTest } from "./tool_test_case.ts";

/** Of the terminal. */
const COLUMNS = 100;

toolTest(
  "what is typed while listen waits stays below the status line",
  { tmux: "tmux" },
  () =>
    withScratch(async (folder) => {
      await using rendezvous = await serveRendezvous({
        network: systemNetwork,
        local: { ip: "127.0.0.1", port: 0 },
      });
      const where = ["--rendezvous", rendezvous.url, "--strategy", "host"];
      const listen = [Deno.execPath(), "run", "-A", CLI, "listen", "--no-code", ...where].join(" ");
      const env = { TERM: "screen", DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1", HOME: folder };
      await using terminal = await Terminal.open(listen, { folder, env });
      await terminal.shows("Waiting for a peer, 2 s");
      await terminal.type("hello\n");
      await terminal.shows("Waiting for a peer, 4 s");
      await terminal.type("half a li");
      await terminal.shows("Waiting for a peer, 6 s");
      const lines = (await terminal.screen()).trimEnd().split("\n");
      assertEquals(lines.at(-3), "hello");
      assert(lines.at(-2)!.startsWith("Waiting for a peer, "), lines.join("\n"));
      assertEquals(lines.at(-1), "half a li");
      assertEquals(lines.filter((line) => line.startsWith("Waiting for")).length, 1);
      await terminal.type("ne\n");
      const text = lines.map((line) => line.length === COLUMNS ? line : `${line}\n`).join("");
      const [ticket] = /punchline:[\w-]{60,}/.exec(text)!;
      const { code, stdout } = await start(["connect", ticket, ...where]).end();
      assertEquals([code, stdout], [0, "hello\nhalf a line\n"]);
    }),
);
