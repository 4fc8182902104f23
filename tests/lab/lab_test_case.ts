/**
 * Test cases that need the lab.
 *
 * @module
 */

import { labSupport } from "../../lab/kernel/privileges.ts";

/** What a test needs in addition to the lab. */
export interface LabTestOptions {
  /** Programs that must be installed. */
  readonly programs?: readonly string[];
}

/**
 * Registers a test that needs the lab. On a machine that cannot run the lab, the test is skipped, with the reason in
 * its name. With `CI=true` in the environment it fails instead.
 */
export function labTest(
  name: string,
  run: (context: Deno.TestContext) => Promise<void>,
  options: LabTestOptions = {},
): void {
  const support = labSupport(options.programs);
  if (support.supported) return Deno.test(name, run);
  const reason = `this machine cannot run it: ${support.reason}`;
  if (Deno.env.get("CI") !== "true") {
    return Deno.test({ name: `${name} (skipped: ${reason})`, ignore: true, fn: run });
  }
  Deno.test(name, () => {
    throw new Error(`Cannot run the test: ${reason}`);
  });
}
