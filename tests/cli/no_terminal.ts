import type { CliIo } from "../../lib/cli/io.ts";

/** What of a terminal a command finds that runs without one: nothing to read, and nobody who sees its bytes. */
export function noTerminal(): Pick<CliIo, "isTerminal" | "isInputTerminal" | "stdin" | "stdout"> {
  return {
    isTerminal: false,
    isInputTerminal: false,
    stdin: new ReadableStream({ start: (controller) => controller.close() }),
    stdout: new WritableStream(),
  };
}
