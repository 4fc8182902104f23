/**
 * The command line: `deno run --allow-net cli.ts COMMAND`, or `punchline COMMAND`.
 *
 * @module
 */

import type { ByteSink, ByteSource } from "./lib/base/reader.ts";
import type { CliIo, Failure, StatusLine } from "./lib/cli/io.ts";
import { main } from "./lib/cli/main.ts";
import { runProgram } from "./lib/cli/program.ts";
import type { StartedAs } from "./lib/cli/started_as.ts";

export { main };
export type { ByteSink, ByteSource, CliIo, Failure, StartedAs, StatusLine };

if (import.meta.main) await runProgram(import.meta.url);
