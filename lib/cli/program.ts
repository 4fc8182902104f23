/**
 * The program around the command line: its streams, its terminal, the signals that end it, and its exit code.
 *
 * @module
 */

import { readVariable } from "../net/system/private_input.ts";
import {
  type EndSignal,
  initialInterruptionState,
  stepInterruption,
} from "./interruption_engine.ts";
import { EXIT, Interruption, type StatusLine } from "./io.ts";
import { main } from "./main.ts";
import { type StartedAs, startedAsFrom } from "./started_as.ts";

/**
 * Runs the command line that this process was started with, and ends the process.
 *
 * @param startedAs what people type to start this program, or the URL of the module that was run, to conclude it from
 */
export async function runProgram(startedAs: StartedAs | string): Promise<never> {
  const interrupt = new AbortController();
  listenForSignals(interrupt);
  const print = (stream: typeof Deno.stdout) => (line: string) =>
    writeSync(stream, new TextEncoder().encode(`${line}\n`), interrupt);
  // on Windows a read that is under way keeps the mode in which it began
  const canBeRaw = Deno.stdin.isTerminal() && Deno.build.os !== "windows";
  const code = await main(Deno.args, {
    out: print(Deno.stdout),
    err: print(Deno.stderr),
    status: Deno.stderr.isTerminal() ? await statusLine(interrupt) : undefined,
    isTerminal: Deno.stdout.isTerminal(),
    get outColumns() {
      return consoleSize().columns;
    },
    isInputTerminal: Deno.stdin.isTerminal(),
    stdin: Deno.stdin,
    keepsTyped: Deno.build.os === "windows",
    setRaw: canBeRaw ? (isRaw) => Deno.stdin.setRaw(isRaw, { cbreak: isRaw }) : undefined,
    stdout: Deno.stdout,
    startedAs: await howStarted(startedAs),
    signal: interrupt.signal,
  });
  const { reason } = interrupt.signal;
  Deno.exit(reason instanceof PrintFailure ? reason.exitCode : code);
}

/** A launcher knows best; a file that was compiled is called by its name. */
async function howStarted(startedAs: StartedAs | string): Promise<StartedAs> {
  const launcher = await readVariable(LAUNCHER_VARIABLE);
  const compiledInto = Deno.build.standalone ? Deno.execPath() : undefined;
  if (typeof startedAs !== "string" && launcher === undefined && compiledInto === undefined) {
    return startedAs;
  }
  const url = typeof startedAs === "string" ? startedAs : import.meta.url;
  return startedAsFrom({ url, folder: currentFolder(), compiledInto, launcher });
}

function currentFolder(): string | undefined {
  try {
    return Deno.cwd();
  } catch {
    return undefined; // it was removed, or may not be known
  }
}

/** What is printed gets lost, so the command has failed whatever it returns. */
class PrintFailure extends Interruption {}

/** The first signal interrupts the command, and the second ends the program at once. */
function listenForSignals(interrupt: AbortController): void {
  const streams = [Deno.stdin, Deno.stdout, Deno.stderr];
  let state = initialInterruptionState(streams.some((stream) => stream.isTerminal()));
  for (const [signal, exitCode] of Object.entries(EXIT_CODES) as [EndSignal, number][]) {
    const onSignal = () => {
      const step = stepInterruption(state, signal, performance.now());
      state = step.state;
      if (step.action === "exit") Deno.exit(exitCode);
      if (step.action === "interrupt") interrupt.abort(new Interruption(exitCode));
    };
    try {
      Deno.addSignalListener(signal, onSignal);
    } catch { /* Windows does not have all of them */ }
  }
}

/** Without the permission to read `TERM`, a terminal counts as one whose cursor can move, as nearly all can. */
async function statusLine(interrupt: AbortController): Promise<StatusLine> {
  const isDumb = await readVariable("TERM") === "dumb";
  return {
    get columns() {
      return consoleSize().columns;
    },
    get rows() {
      return consoleSize().rows;
    },
    hasStyles: !isDumb && !Deno.noColor,
    isDumb,
    write: (text) => writeSync(Deno.stderr, new TextEncoder().encode(text), interrupt),
  };
}

function consoleSize(): { columns: number; rows: number } {
  try {
    const { columns, rows } = Deno.consoleSize();
    return columns > 0 ? { columns, rows } : DEFAULT_SIZE; // some report no size at all
  } catch {
    return DEFAULT_SIZE; // the terminal has gone
  }
}

/**
 * If it cannot print, the command is interrupted and may finish in good order; quietly if the reader has gone, as in
 * `| head -1`, or the terminal.
 */
function writeSync(
  stream: typeof Deno.stdout,
  bytes: Uint8Array,
  interrupt: AbortController,
): void {
  try {
    for (let written = 0; written < bytes.length;) {
      written += stream.writeSync(bytes.subarray(written));
    }
  } catch (error) {
    if (interrupt.signal.aborted) return;
    const isGone = error instanceof Deno.errors.BrokenPipe || stream === Deno.stderr;
    interrupt.abort(new PrintFailure(isGone ? EXIT.brokenPipe : EXIT.failure));
    if (isGone) return;
    const message = `punchline: Cannot print: ${(error as Error).message}\n`;
    writeSync(Deno.stderr, new TextEncoder().encode(message), interrupt);
  }
}

const EXIT_CODES: Readonly<Record<EndSignal, number>> = {
  SIGINT: EXIT.interrupted,
  SIGTERM: EXIT.terminated,
  SIGHUP: EXIT.hungUp,
};

/** Of most terminals. */
const DEFAULT_SIZE = { columns: 80, rows: 24 };

/** Set by whatever starts this program under another name, such as the npm package. */
const LAUNCHER_VARIABLE = "PUNCHLINE_STARTED_AS";
