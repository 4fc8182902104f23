/**
 * A program for a host of the lab: tests its NAT once for each line of its input. Reads one JSON object of
 * {@linkcode TestNatOptions} a line and prints one line of JSON for each: a report, or what was thrown.
 *
 * @module
 */

import { TextLineStream } from "../../kernel/lines.ts";
import { testNat, type TestNatOptions } from "../../../lib/nat/report.ts";
import type { NatReport } from "../../../lib/nat/behavior.ts";

/** What the program prints for each line of input. */
export type RunnerAnswer =
  | { readonly report: NatReport; readonly wallMs: number }
  | { readonly error: string; readonly wallMs: number };

if (import.meta.main) {
  const lines = Deno.stdin.readable.pipeThrough(new TextDecoderStream()).pipeThrough(
    new TextLineStream(),
  );
  for await (const line of lines) {
    const startedAt = performance.now();
    const answer = await run(JSON.parse(line));
    const wallMs = performance.now() - startedAt;
    await Deno.stdout.write(new TextEncoder().encode(`${JSON.stringify({ ...answer, wallMs })}\n`));
  }
}

async function run(options: TestNatOptions): Promise<{ report: NatReport } | { error: string }> {
  try {
    return { report: await testNat(options) };
  } catch (error) {
    return { error: `${(error as Error).name}: ${(error as Error).message}` };
  }
}
