/**
 * Tests that need the lab.
 *
 * @module
 */

import { labSupport } from "./privileges.ts";

/**
 * A test that runs where the lab can. Where it cannot, the test is skipped, with the reason beside its name; with
 * `CI=true` in the environment it fails instead.
 */
export function labTest(name: string, run: (context: Deno.TestContext) => Promise<void>): void {
  const support = labSupport();
  if (support.supported) return Deno.test(name, run);
  const reason = `this machine cannot run the NAT lab: ${support.reason}`;
  if (Deno.env.get("CI") !== "true") {
    return Deno.test({ name: `${name} (skipped: ${reason})`, ignore: true, fn: run });
  }
  Deno.test(name, () => {
    throw new Error(`Cannot run the test: ${reason}`);
  });
}
