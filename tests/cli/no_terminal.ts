import type { CliIo } from "../../lib/cli/io.ts";

/** The streams of a command without a terminal: stdin is empty, and stdout is dropped. */
export function noTerminal(): Pick<CliIo, "isTerminal" | "isInputTerminal" | "stdin" | "stdout"> {
  return {
    isTerminal: false,
    isInputTerminal: false,
    stdin: { read: () => Promise.resolve(null) },
    stdout: { write: ({ length }) => Promise.resolve(length) },
  };
}
