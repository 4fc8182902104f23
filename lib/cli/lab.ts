/**
 * `lab`: the NAT lab, on Linux. What it is made of is loaded only when it is asked for: it needs permissions
 * that nothing else here does.
 *
 * @module
 */

import type { CliIo } from "./io.ts";

/** One line of help. */
export const LAB_USAGE =
  "lab [verdicts] [loss] [times] [adverse] [punch] [figures] [peers] [transfer] [outages] [--runs N] [--server NAME]... [--svg FILE] [--json]";

/** Runs the command; its exit code. */
export async function lab(args: readonly string[], io: CliIo): Promise<number> {
  const { lab }: { lab: typeof runLab } = await import(LAB);
  return await lab(args, io);
}

declare function runLab(args: readonly string[], io: CliIo): Promise<number>;

/** A computed name keeps the lab, which is not published, out of the package's module graph. */
const LAB = new URL("../../lab/cli.ts", import.meta.url).href;
