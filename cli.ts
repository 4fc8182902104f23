/**
 * The command line: `deno run --allow-net cli.ts COMMAND`, or `punchline COMMAND`.
 *
 * @module
 */

import { type CliIo, EXIT, type StatusLine } from "./lib/cli/io.ts";
import { main } from "./lib/cli/main.ts";

export { main };
export type { CliIo, StatusLine };

if (import.meta.main) {
  const interrupt = new AbortController();
  Deno.addSignalListener("SIGINT", () => {
    if (interrupt.signal.aborted) Deno.exit(EXIT.interrupted); // pressed twice: do not wait
    interrupt.abort();
  });
  const print = (stream: typeof Deno.stdout) => (line: string) =>
    writeSync(stream, new TextEncoder().encode(`${line}\n`));
  const code = await main(Deno.args, {
    out: print(Deno.stdout),
    err: print(Deno.stderr),
    status: Deno.stderr.isTerminal() ? statusLine() : undefined,
    isTerminal: Deno.stdout.isTerminal(),
    isInputTerminal: Deno.stdin.isTerminal(),
    get stdin() {
      return Deno.stdin.readable;
    },
    get stdout() {
      return Deno.stdout.writable;
    },
    signal: interrupt.signal,
  });
  Deno.exit(code);
}

function statusLine(): StatusLine {
  return {
    get columns() {
      return Deno.consoleSize().columns;
    },
    write: (text) => writeSync(Deno.stderr, new TextEncoder().encode(text)),
  };
}

/** Ends the program if it cannot print; quietly if the reader has gone, as in `| head -1`. */
function writeSync(stream: typeof Deno.stdout, bytes: Uint8Array): void {
  try {
    for (let written = 0; written < bytes.length;) {
      written += stream.writeSync(bytes.subarray(written));
    }
  } catch (error) {
    if (error instanceof Deno.errors.BrokenPipe || stream === Deno.stderr) {
      Deno.exit(EXIT.brokenPipe);
    }
    writeSync(
      Deno.stderr,
      new TextEncoder().encode(`punchline: Cannot print: ${(error as Error).message}\n`),
    );
    Deno.exit(EXIT.failure);
  }
}
