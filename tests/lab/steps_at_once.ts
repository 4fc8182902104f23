/**
 * Steps of a test that mostly wait, several at once, each in network namespaces of its own.
 *
 * @module
 */

import { Semaphore } from "../../lib/base/tasks.ts";

/** What a step does, by its name. */
export type Steps = readonly (readonly [name: string, run: () => Promise<void>])[];

/** Runs the steps, a few at a time. What they leave open is found when the test ends: meanwhile others are running. */
export async function stepsAtOnce(context: Deno.TestContext, steps: Steps): Promise<void> {
  const turns = new Semaphore(AT_ONCE);
  await Promise.all(steps.map(([name, fn]) =>
    turns.through(async () => {
      const sanitizes = { sanitizeOps: false, sanitizeResources: false, sanitizeExit: false };
      await context.step({ name, fn, ...sanitizes });
    })
  ));
}

/** Chosen by us: for two cores, and programs that wait for most of their time. */
const AT_ONCE = 5;
