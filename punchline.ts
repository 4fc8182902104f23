/**
 * The command line as an installed command: `punchline COMMAND`. What it tells people to type starts with `punchline`.
 *
 * @module
 */

import { runProgram } from "./lib/cli/program.ts";

if (import.meta.main) await runProgram({ kind: "command", words: "punchline" });
