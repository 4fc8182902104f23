/**
 * Several jobs at once, none of which outlives the call.
 *
 * @module
 */

/** What each job returns, in the order of the jobs. */
export type Results<Jobs extends readonly ((signal: AbortSignal) => Promise<unknown>)[]> = {
  -readonly [Index in keyof Jobs]: Awaited<ReturnType<Jobs[Index]>>;
};

/**
 * Runs jobs concurrently. If one fails the others are aborted and awaited, so that what they hold is released,
 * and the first failure is thrown.
 *
 * @param signal aborts them all
 */
export async function runAll<
  const Jobs extends readonly ((signal: AbortSignal) => Promise<unknown>)[],
>(jobs: Jobs, signal?: AbortSignal): Promise<Results<Jobs>> {
  const controller = new AbortController();
  const either = signal === undefined
    ? controller.signal
    : AbortSignal.any([controller.signal, signal]);
  const running = jobs.map((job) => job(either));
  try {
    return await Promise.all(running) as Results<Jobs>;
  } catch (error) {
    controller.abort(error);
    await Promise.allSettled(running);
    throw error;
  }
}
