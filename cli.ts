/**
 * The command line: `deno run --allow-net cli.ts COMMAND`, or `punchline COMMAND`.
 *
 * @module
 */

import type { CliIo } from "./lib/cli/io.ts";
import { main } from "./lib/cli/main.ts";

export { main };
export type { CliIo };

if (import.meta.main) {
  const interrupt = new AbortController();
  Deno.addSignalListener("SIGINT", () => interrupt.abort());
  const print = (stream: typeof Deno.stdout) => (line: string) =>
    writeAll(stream, new TextEncoder().encode(`${line}\n`));
  const code = await main(Deno.args, {
    out: print(Deno.stdout),
    err: print(Deno.stderr),
    isTerminal: Deno.stdout.isTerminal(),
    signal: interrupt.signal,
  });
  Deno.exit(code);
}

function writeAll(stream: typeof Deno.stdout, bytes: Uint8Array): void {
  for (let written = 0; written < bytes.length;) {
    written += stream.writeSync(bytes.subarray(written));
  }
}
