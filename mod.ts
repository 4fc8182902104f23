/**
 * Punchline gets two machines connected to each other, whatever stands between them, and says why where it cannot.
 *
 * This version tells which NAT a host is behind:
 *
 * ```ts ignore
 * import { testNat } from "@punchline/punchline";
 *
 * const report = await testNat();
 * console.log(report.verdict.summary);
 * ```
 *
 * @module
 */

export * from "./lib/errors.ts";
export type { Logger } from "./lib/logger.ts";
export * from "./lib/nat/mod.ts";
