/**
 * What people copy is never broken by us, however narrow the terminal: tickets, codes, URLs, and commands.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import type { CodeEvent } from "../../lib/code/offer.ts";
import { COMMANDS } from "../../lib/cli/command_table.ts";
import type { CliIo } from "../../lib/cli/io.ts";
import { main } from "../../lib/cli/main.ts";
import { ConnectionEvents, showTicket } from "../../lib/cli/peer_events.ts";
import { withScreen } from "../../lib/cli/screen.ts";
import { ShownCode, type ShownCodeOptions } from "../../lib/cli/shown_code.ts";
import type { StartedAs } from "../../lib/cli/started_as.ts";
import type { Peer } from "../../lib/peer/peer.ts";
import { encodeTicket } from "../../lib/peer/ticket.ts";
import { noTerminal } from "./no_terminal.ts";
import { serveLocally } from "./run_main.ts";
import { withServers } from "./command.ts";

const WIDTHS = Array.from({ length: 161 }, (_, index) => 40 + index);
const CODE = "7-amber-walrus-otter";
const PLACES = ["wss://meet.example.net/a/long/path", "mqtts://broker.example.net", "lan:"];
const TICKET = encodeTicket({
  ...{ publicKey: new Uint8Array(32).fill(7), secret: new Uint8Array(16).fill(7) },
  signaling: PLACES,
});
const WHERE = `--rendezvous ${PLACES[0]} --mqtt ${PLACES[1]} --lan`;

/** As it is called in a clone, where commands are longest. */
const IN_A_CLONE: StartedAs = { kind: "deno", module: "cli.ts" };

for (const command of ["recv", "connect", "punch"] as const) {
  Deno.test(`the command with a code for ${command} stays in one piece, with the options that say where`, async () => {
    for (const columns of WIDTHS) {
      for (const [startedAs, start] of STARTS(command)) {
        const { io, lines } = terminal(columns, startedAs);
        using screen = withScreen(io, { asJson: false });
        await showCode(command, screen);
        assertHas(lines, `${start} ${WHERE} ${CODE}`, columns);
      }
    }
  });
}

Deno.test("the command with a ticket stays in one piece", async () => {
  for (const columns of WIDTHS) {
    for (const [startedAs, start] of STARTS("recv")) {
      const { io, lines } = terminal(columns, startedAs);
      using screen = withScreen(io, { asJson: false });
      const events = new ConnectionEvents(screen, { asJson: false });
      const peer = { ticket: TICKET } as Peer;
      await showTicket(peer, events, screen, { command: "recv", asQr: false });
      assertHas(lines, `${start} ${TICKET}`, columns);
    }
  }
});

Deno.test("the examples of help and the overview stay in one piece", async () => {
  const all = COMMANDS.flatMap((each) => [each, ...each.subcommands ?? []]);
  for (const columns of WIDTHS.filter((each) => each % 10 === 0 || each < 50)) {
    for (const { name, examples } of all) {
      const { io, lines } = terminal(columns);
      await main(["help", ...name.split(" ")], io);
      for (const { args } of examples) {
        assertHas(lines, `punchline ${name} ${args}`.trimEnd(), columns);
      }
    }
    const { io, lines } = terminal(columns);
    await main(["--help"], io);
    for (const each of ["punchline send photos/", "punchline recv CODE"]) {
      assertHas(lines, each, columns);
    }
  }
});

Deno.test("commands in errors and remedies stay in one piece", async () => {
  for (const columns of WIDTHS) {
    for (
      const [args, ...whole] of [
        [["connect", "laptop"], "`punchline peers list`", "`punchline peers add laptop TICKET`"],
        [["listen", "extra"], "`punchline help listen`"],
        [["ticket", "revoke", "--key", "x"], "`punchline ticket list`"],
        [[TICKET], "`punchline connect`", "`punchline recv`"],
      ] as [string[], ...string[]][]
    ) {
      const { io, lines } = terminal(columns);
      assertEquals(await main(args, io), 2);
      for (const each of whole) assertHas(lines, each, columns);
    }
  }
});

Deno.test("what a server and a listener print stays in one piece", () =>
  withServers(async ({ url, stun }) => {
    for (const columns of [40, 41, 63, 80, 120, 200]) {
      const listen = ["listen", "--rendezvous", url, "--server", stun];
      const listened = await until(listen, columns, /within\s+an\s+hour:[^]*-[a-z]+-[a-z]+-[a-z]+/);
      assert(
        new RegExp(`punchline connect --rendezvous ${url} \\d+(-[a-z]+){3}$`, "m").test(listened),
      );
      assert(/punchline connect punchline:[\w-]{60,}$/m.test(listened), listened);
      const serve = ["serve", "--address", "127.0.0.1", "--port", "0", "--alternate-port", "0"];
      const served = await until([...serve, "--rendezvous-port", "0"], columns, /Try it[^]*\d\n/);
      assert(/punchline nat-test --server 127\.0\.0\.1:\d+$/m.test(served), served);
      assert(/ws:\/\/127\.0\.0\.1:\d+$/m.test(served), served);
    }
  }));

Deno.test("a server that a ticket names is shown with the option for it in one piece", async () => {
  await using _stun = await serveLocally();
  const ticket = encodeTicket({
    ...{ publicKey: new Uint8Array(32), secret: new Uint8Array(16) },
    signaling: ["ws://127.0.0.1:9"],
  });
  for (const columns of [40, 50, 60, 80, 120, 200]) {
    const { io, lines } = terminal(columns);
    await main(["connect", ticket, "--timeout", "300ms", "--server", "127.0.0.1:9"], io);
    assertHas(lines, "--rendezvous ws://127.0.0.1:9", columns);
  }
});

Deno.test("every command line that is printed is joined by copyable()", async () => {
  const folder = new URL("../../lib/cli/", import.meta.url);
  const loose: string[] = [];
  for await (const { name } of Deno.readDir(folder)) {
    if (name === "started_as.ts") continue; // makes it
    const text = await Deno.readTextFile(new URL(name, folder));
    for (const [line] of text.matchAll(/^.*\bcommandLine\(.*$/gm)) {
      const isKept = /const (\w+) = commandLine\(/.exec(line)?.[1];
      const isJoined = isKept === undefined
        ? /copyable\(commandLine\(/.test(line)
        : new RegExp(`copyable\\((?:\\[)?${isKept}\\b`).test(text);
      if (!isJoined) loose.push(`${name}: ${line.trim()}`);
    }
  }
  assertEquals(loose, []);
});

function STARTS(command: string): [StartedAs | undefined, string][] {
  const flags = { recv: "--allow-net --allow-read --allow-write" }[command] ?? "--allow-net";
  return [
    [undefined, `punchline ${command}`],
    [IN_A_CLONE, `deno run ${flags} cli.ts ${command}`],
  ];
}

/** Shows a code without a network. */
async function showCode(command: ShownCodeOptions["command"], io: CliIo): Promise<void> {
  const events = new ConnectionEvents(io, { asJson: false });
  const peer = {
    ticket: TICKET,
    offerCode: ({ onEvent }: { onEvent?: (event: CodeEvent) => void }) => {
      onEvent!({ kind: "offered", code: CODE });
      return Promise.resolve({ [Symbol.asyncDispose]: () => Promise.resolve() });
    },
  };
  const given = { flags: new Set<string>(), values: new Map(), lists: new Map(), operands: [] };
  await using _code = ShownCode.start(given, { peer, events, io, command, signaling: PLACES });
  await Promise.resolve();
}

/** Runs a command until it has printed this, and interrupts it. */
async function until(args: readonly string[], columns: number, text: RegExp): Promise<string> {
  const stop = new AbortController();
  const { io, lines } = terminal(
    columns,
    undefined,
    (all) => text.test(all) && stop.abort(),
    stop.signal,
  );
  await main(args, io);
  return lines.join("\n");
}

function terminal(
  columns: number,
  startedAs?: StartedAs,
  onLine: (all: string) => void = () => {},
  signal: AbortSignal = new AbortController().signal,
): { io: CliIo; lines: string[] } {
  const lines: string[] = [];
  const print = (line: string) => {
    lines.push(line);
    onLine(`${lines.join("\n")}\n`);
  };
  const status = { columns, write: () => {} };
  const io = {
    ...noTerminal(),
    out: print,
    err: print,
    isTerminal: true,
    status,
    signal,
    startedAs,
  };
  return { io, lines };
}

function assertHas(lines: readonly string[], whole: string, columns: number): void {
  assert(lines.some((line) => line.includes(whole)), `${columns}: ${whole}\n${lines.join("\n")}`);
}
