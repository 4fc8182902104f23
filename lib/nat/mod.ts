/**
 * Tests which NAT this host is behind and what that means for connections.
 *
 * ```ts ignore
 * import { testNat } from "@punchline/punchline/nat";
 *
 * const { udp, verdict } = await testNat({ servers: ["stun.example.net"] });
 * console.log(verdict.summary);
 * console.log(udp.ipv4?.mapping.behavior, udp.ipv4?.mapping.evidence);
 * ```
 *
 * The vocabulary is that of RFC 4787 and RFC 5382; a verdict comes with its evidence and its confidence, and
 * `"unknown"` is one of its values.
 *
 * @module
 */

export * from "./behavior.ts";
export { testNat, type TestNatOptions } from "./report.ts";
export { allocationText, difficultyOf, explainFamily } from "./verdict.ts";
export { ONE_ADDRESS_SERVERS, TWO_ADDRESS_SERVERS } from "./servers.ts";
