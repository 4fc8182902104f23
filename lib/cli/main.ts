/**
 * Finds the command, runs it, and turns errors into one line and an exit code.
 *
 * @module
 */

import config from "../../deno.json" with { type: "json" };
import {
  MalformedMessageError,
  NetworkError,
  NoResponseError,
  RefusedError,
  UnreachableError,
} from "../base/errors.ts";
import { optionHelp } from "./arguments.ts";
import { connect, CONNECT_USAGE } from "./connect.ts";
import { type CliIo, EXIT, UsageError } from "./io.ts";
import { lab, LAB_USAGE } from "./lab.ts";
import { listen, LISTEN_USAGE } from "./listen.ts";
import { map, MAP_USAGE } from "./map.ts";
import { NAT_TEST_USAGE, natTest } from "./nat.ts";
import { id, ID_USAGE } from "./peer_options.ts";
import { punch, PUNCH_USAGE } from "./punch.ts";
import { recv, RECV_USAGE } from "./recv.ts";
import { send, SEND_USAGE } from "./send.ts";
import { serve, SERVE_USAGE } from "./serve.ts";
import { stun, STUN_USAGE } from "./stun.ts";

/**
 * Runs a command line.
 *
 * @returns the exit code
 */
export async function main(args: readonly string[], io: CliIo): Promise<number> {
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
    io.err(`punchline: unknown command ${JSON.stringify(name)}; --help lists them`);
    return EXIT.usage;
  }
  if (rest.some((arg) => HELP_OPTIONS.has(arg))) {
    for (const line of helpOn(command)) io.out(line);
    return EXIT.ok;
  }
  const asEvents = command.printsEvents === true && rest.includes("--json");
  return await run(command, rest, asEvents ? tellingInJson(io) : io);
}

async function run(command: Command, args: readonly string[], io: CliIo): Promise<number> {
  try {
    return await command.run(args, io);
  } catch (error) {
    if (io.signal.aborted) return EXIT.interrupted;
    if (error instanceof Deno.errors.BrokenPipe) return EXIT.brokenPipe; // nobody reads what it prints
    const code = exitCodeOf(error);
    if (code === undefined) throw error;
    io.err(`punchline: ${(error as Error).message}`);
    if (error instanceof UsageError) io.err(`Usage: punchline ${command.usage}`);
    return code;
  }
}

/** What is printed on stderr is an event for programs, failures too. */
function tellingInJson(io: CliIo): CliIo {
  const err = (line: string) => {
    const isEvent = line.startsWith("{");
    io.err(
      isEvent
        ? line
        : JSON.stringify({ event: "error", message: line.replace(/^punchline: /, "") }),
    );
  };
  return Object.create(io, { err: { value: err } }); // its streams are opened when they are asked for
}

/** `undefined` for what is a fault of ours and deserves its stack trace. */
function exitCodeOf(error: unknown): number | undefined {
  if (error instanceof UsageError) return EXIT.usage;
  if (error instanceof DOMException && error.name === "TimeoutError") return EXIT.timeout;
  if (error instanceof NetworkError && error.reason === "unreachable") return EXIT.offlineOrBlocked;
  if (error instanceof UnreachableError && error.attempts.length === 0) {
    return EXIT.offlineOrBlocked;
  }
  const isExpected = error instanceof NetworkError || error instanceof NoResponseError ||
    error instanceof RefusedError || error instanceof MalformedMessageError ||
    error instanceof UnreachableError || isOfSystem(error);
  return isExpected ? EXIT.failure : undefined;
}

/** What the system says of files and pipes, such as that the disk is full. */
function isOfSystem(error: unknown): boolean {
  return error instanceof Error && "code" in error && /^E[A-Z0-9]+$/.test(`${error.code}`);
}

function overview(): string[] {
  return [
    "Punchline: gets two machines connected, whatever stands between them.",
    "",
    "Usage: punchline COMMAND [OPTION]...",
    "",
    ...[...COMMANDS].flatMap(([name, { does }]) => [`  ${name.padEnd(NAME_WIDTH)}  ${does}`]),
    "",
    "punchline COMMAND --help tells its options.",
  ];
}

function helpOn({ usage, does }: Command): string[] {
  return [`Usage: punchline ${usage}`, "", does, "", ...optionHelp(usage)];
}

const NAME_WIDTH = 8;

interface Command {
  readonly usage: string;
  readonly does: string;
  /** Whether `--json` means events on stderr, as stdout is the connection. */
  readonly printsEvents?: boolean;
  run(args: readonly string[], io: CliIo): Promise<number>;
}

const COMMANDS: ReadonlyMap<string, Command> = new Map([
  ["nat-test", {
    usage: NAT_TEST_USAGE,
    does: "which NAT am I behind; what does it mean",
    run: natTest,
  }],
  ["stun", { usage: STUN_USAGE, does: "one binding request", run: stun }],
  ["map", {
    usage: MAP_USAGE,
    does: "open a port on the router, list and close what is open, tell what the router can",
    run: map,
  }],
  ["serve", { usage: SERVE_USAGE, does: "an own STUN server and rendezvous", run: serve }],
  ["punch", {
    usage: PUNCH_USAGE,
    does: "TCP through two NATs; then stdin and stdout are the connection",
    printsEvents: true,
    run: punch,
  }],
  ["listen", {
    usage: LISTEN_USAGE,
    does: "waits for a peer, whatever stands between; then stdin and stdout are the connection",
    printsEvents: true,
    run: listen,
  }],
  ["connect", {
    usage: CONNECT_USAGE,
    does: "connects to a peer that listens, by its ticket",
    printsEvents: true,
    run: connect,
  }],
  ["send", {
    usage: SEND_USAGE,
    does: "files and folders to whoever comes with the ticket, resumed after a break, and checked",
    run: send,
  }],
  ["recv", { usage: RECV_USAGE, does: "receives what is sent under a ticket", run: recv }],
  ["id", { usage: ID_USAGE, does: "who this is to others: for --allow", run: id }],
  ["lab", {
    usage: LAB_USAGE,
    does: "the NAT lab: how right nat-test is, which NATs punches pass, and how fast (Linux)",
    run: lab,
  }],
]);

const HELP_OPTIONS: ReadonlySet<string> = new Set(["--help", "-h"]);
const HELP: ReadonlySet<string> = new Set([...HELP_OPTIONS, "help"]);
