/**
 * Waiting that keeps no program running.
 *
 * @module
 */

import { Alarm } from "./alarm.ts";

/** Resolves after a while, or on abort. A program that has nothing else to do ends before. */
export function idleDelay(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      alarm.clear();
      signal.removeEventListener("abort", end);
      resolve();
    };
    const alarm = new Alarm(end);
    alarm.isReferenced = false;
    alarm.set(ms);
    signal.addEventListener("abort", end, { once: true });
    if (signal.aborted) end();
  });
}
