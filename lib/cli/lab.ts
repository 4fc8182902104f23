/**
 * `lab`: the NAT lab, on Linux. Its code is loaded only when the command is run: it needs permissions that no other
 * command needs, and the published package does not contain it.
 *
 * @module
 */

import { type CliIo, EXIT } from "./io.ts";

/** Runs the command; returns its exit code. */
export async function lab(args: readonly string[], io: CliIo): Promise<number> {
  const run = await loadLab(io);
  return run === undefined ? EXIT.failure : await run(args, io);
}

type LabCommand = (args: readonly string[], io: CliIo) => Promise<number>;

/** Loads the lab; if that is not possible, prints why and returns `undefined`. */
async function loadLab(io: CliIo): Promise<LabCommand | undefined> {
  try {
    const { lab }: { lab: LabCommand } = await import(LAB);
    return lab;
  } catch (error) {
    const reason = whyMissing(error);
    if (reason === undefined) throw error;
    io.err(`punchline: Cannot run the lab: ${reason}`);
    return undefined;
  }
}

/** `undefined` for a fault inside the lab. */
function whyMissing(error: unknown): string | undefined {
  if (!(error instanceof TypeError)) return undefined;
  if (/^Requires \w+ access/.test(error.message)) {
    return "it takes all permissions; run `deno run -A cli.ts lab` in a clone of the repository";
  }
  return error.message.includes(`"${LAB}"`)
    ? "it is part of the repository, not of the package; clone the repository and run `deno task lab` there"
    : undefined;
}

/** A computed name keeps the lab, which is not published, out of the package's module graph. */
const LAB = new URL("../../lab/cli.ts", import.meta.url).href;
