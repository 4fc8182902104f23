/**
 * Test cases that need the lab.
 *
 * @module
 */

import { labSupport } from "../../lab/kernel/privileges.ts";
import { testUnless } from "../interop/tool_test_case.ts";

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
  const reason = support.supported ? undefined : `this machine cannot run it: ${support.reason}`;
  testUnless(reason, name, run, { failsInCi: true });
}
