/**
 * Runs a command line: finds the command, runs it, and turns errors into one line and an exit code.
 *
 * @module
 */

import config from "../../deno.json" with { type: "json" };
import { NetworkError, PunchlineError, UnreachableError } from "../base/errors.ts";
import { optionHelp } from "./arguments.ts";
import { connect, CONNECT_USAGE } from "./connect.ts";
import { type CliIo, EXIT, interruptedCode, UsageError, withoutSecrets } from "./io.ts";
import { lab, LAB_USAGE } from "./lab.ts";
import { uncopyable } from "./layout.ts";
import { listen, LISTEN_USAGE } from "./listen.ts";
import { map, MAP_USAGE } from "./map.ts";
import { NAT_TEST_USAGE, natTest } from "./nat.ts";
import { id, ID_USAGE } from "./peer_options.ts";
import { PUNCH_USAGE, punchCommand } from "./punch.ts";
import { recv, RECV_USAGE } from "./recv.ts";
import { waitOver, withScreen } from "./screen.ts";
import { send, SEND_USAGE } from "./send.ts";
import { serve, SERVE_USAGE } from "./serve.ts";
import { stun, STUN_USAGE } from "./stun.ts";
import { ticket, TICKET_USAGE } from "./ticket.ts";

/**
 * Runs a command line.
 *
 * @returns the exit code
 */
export async function main(args: readonly string[], outside: CliIo): Promise<number> {
  const asJson = args.includes("--json");
  using io = withScreen(withVisibleText(outside), { asJson });
  const [name, ...rest] = args;
  if (name === undefined || HELP.has(name)) {
    const print = name === undefined ? io.err : io.out;
    for (const line of overview()) print(line);
    return name === undefined ? EXIT.usage : EXIT.ok;
  }
  if (name === "--version" || name === "-V") {
    io.out(`punchline ${config.version}`);
    return EXIT.ok;
  }
  const command = COMMANDS.get(name);
  if (command === undefined) {
    const unknown = withoutSecrets(JSON.stringify(name));
    io.err(`punchline: unknown command ${unknown}; --help lists them`);
    return EXIT.usage;
  }
  if (rest.some((arg) => HELP_OPTIONS.has(arg))) {
    for (const line of helpOn(command)) io.out(line);
    return EXIT.ok;
  }
  const asEvents = command.printsEvents === true && asJson;
  return await run(command, rest, asEvents ? withJsonErrors(io) : io);
}

async function run(command: Command, args: readonly string[], io: CliIo): Promise<number> {
  try {
    const code = await command.run(args, io);
    return code === EXIT.interrupted ? interruptedCode(io) : code;
  } catch (error) {
    waitOver(io);
    if (io.signal.aborted) return interruptedCode(io);
    if (error instanceof Deno.errors.BrokenPipe) return EXIT.brokenPipe; // stdout was closed by its reader
    const code = exitCodeOf(error);
    if (code === undefined) throw error;
    io.err(`punchline: ${withoutSecrets((error as Error).message)}`);
    if (error instanceof UsageError) io.err(`Usage: punchline ${command.usage}`);
    return code;
  }
}

/**
 * Prints the names and reasons of others without letting them control the terminal: control characters, and those that
 * turn the direction of text, are written as `\\u` and their number, which means the same in JSON.
 */
function withVisibleText(io: CliIo): CliIo {
  const visible = (text: string) => text.replaceAll(INVISIBLE, escapeCharacter);
  return Object.create(io, {
    out: { value: (line: string) => io.out(visible(line)) },
    err: { value: (line: string) => io.err(visible(line)) },
  });
}

function escapeCharacter(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}

/** All control characters but newline and tab, separators of lines, and marks of direction (UAX #9). */
const INVISIBLE =
  // deno-lint-ignore no-control-regex
  /[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/** Turns the failures that a command prints on stderr into JSON events. */
function withJsonErrors(io: CliIo): CliIo {
  const err = (line: string) => {
    const isEvent = line.startsWith("{");
    io.err(
      isEvent
        ? line
        : JSON.stringify({ event: "error", message: uncopyable(line.replace(/^punchline: /, "")) }),
    );
  };
  return Object.create(io, { err: { value: err } }); // a copy would open stdin and stdout, which are opened on first use
}

/** `undefined` for a fault of this program, which deserves its stack trace. */
function exitCodeOf(error: unknown): number | undefined {
  if (error instanceof UsageError) return EXIT.usage;
  if (error instanceof DOMException && error.name === "TimeoutError") return EXIT.timeout;
  if (error instanceof NetworkError && error.reason === "unreachable") return EXIT.offlineOrBlocked;
  if (error instanceof NetworkError && error.reason === "not-allowed") return EXIT.peerNotFound;
  if (error instanceof UnreachableError && error.attempts.length === 0) {
    return EXIT.offlineOrBlocked;
  }
  const isExpected = error instanceof PunchlineError || isSystemError(error);
  return isExpected ? EXIT.failure : undefined;
}

/** Whether the system reported it, such as a full disk. */
function isSystemError(error: unknown): boolean {
  return error instanceof Error && "code" in error && /^E[A-Z0-9]+$/.test(`${error.code}`);
}

function overview(): string[] {
  return [
    "Punchline connects two machines, through NATs and firewalls.",
    "",
    "Usage: punchline COMMAND [OPTION]...",
    "",
    ...[...COMMANDS].flatMap(([name, { does }]) => [`  ${name.padEnd(NAME_WIDTH)}  ${does}`]),
    "",
    "Run punchline COMMAND --help for the options of a command.",
  ];
}

function helpOn({ usage, does }: Command): string[] {
  const sentence = `${does[0]!.toUpperCase()}${does.slice(1)}.`;
  return [`Usage: punchline ${usage}`, "", sentence, "", ...optionHelp(usage)];
}

interface Command {
  readonly usage: string;
  readonly does: string;
  /** Whether `--json` prints events on stderr, because stdout is the connection. */
  readonly printsEvents?: boolean;
  run(args: readonly string[], io: CliIo): Promise<number>;
}

const COMMANDS: ReadonlyMap<string, Command> = new Map([
  ["nat-test", {
    usage: NAT_TEST_USAGE,
    does: "find out which NAT this machine is behind, and what that means",
    run: natTest,
  }],
  ["stun", { usage: STUN_USAGE, does: "send one STUN binding request", run: stun }],
  ["map", {
    usage: MAP_USAGE,
    does: "open a port on the router, list or close open ports, or show what the router supports",
    run: map,
  }],
  ["serve", {
    usage: SERVE_USAGE,
    does: "run your own STUN and rendezvous server",
    run: serve,
  }],
  ["punch", {
    usage: PUNCH_USAGE,
    does: "connect over TCP through two NATs; stdin and stdout are the connection",
    printsEvents: true,
    run: punchCommand,
  }],
  ["listen", {
    usage: LISTEN_USAGE,
    does: "print a ticket and wait for a peer; stdin and stdout are the connection",
    printsEvents: true,
    run: listen,
  }],
  ["connect", {
    usage: CONNECT_USAGE,
    does: "connect to the peer that printed a ticket; stdin and stdout are the connection",
    printsEvents: true,
    run: connect,
  }],
  ["send", {
    usage: SEND_USAGE,
    does: "print a ticket and send files and folders to the peer that uses it",
    run: send,
  }],
  ["recv", { usage: RECV_USAGE, does: "receive the files that a ticket offers", run: recv }],
  ["ticket", {
    usage: TICKET_USAGE,
    does: "issue further tickets for this peer, list them, or take one back",
    run: ticket,
  }],
  ["id", { usage: ID_USAGE, does: "print this peer's ID, for --allow", run: id }],
  ["lab", {
    usage: LAB_USAGE,
    does: "run the NAT lab: simulated NATs between real programs (Linux)",
    run: lab,
  }],
]);

const NAME_WIDTH = 8;

const HELP_OPTIONS: ReadonlySet<string> = new Set(["--help", "-h"]);
const HELP: ReadonlySet<string> = new Set([...HELP_OPTIONS, "help"]);
