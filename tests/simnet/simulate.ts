/**
 * Runs a whole simulation in one call.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { loadLateModules } from "../../lib/peer/late_modules.ts";
import { Internet, type InternetOptions } from "./internet.ts";
import { SeededRandomness } from "./random.ts";
import { VirtualTime } from "./virtual_time.ts";

/**
 * Runs a job in a simulated internet, in virtual time and with seeded randomness, and
 * checks that the job closes all sockets it opens.
 *
 * ```ts
 * await simulate(async ({ internet, time }) => {
 *   const home = internet.router("home", { behavior: NAT_BEHAVIORS.symmetric, link: { delayMs: 10 } });
 *   const { network } = internet.host("laptop", { behind: home });
 *   const report = await testNat({ network, servers });
 *   assertEquals(time.nowMs, 100);
 * });
 * ```
 */
export async function simulate<T>(
  job: (simulation: { internet: Internet; time: VirtualTime }) => Promise<T>,
  options: InternetOptions & { limitMs?: number } = {},
): Promise<T> {
  const { seed = 1, limitMs } = options;
  await loadLateModules(); // virtual time does not wait for files
  using time = new VirtualTime();
  using _randomness = new SeededRandomness(seed);
  const internet = new Internet({ ...options, seed });
  const result = await time.run(() => job({ internet, time }), { limitMs });
  assertEquals(internet.openSockets(), [], "sockets were left open");
  return result;
}
