/**
 * Finds out which kind of NAT this host is behind and what that means for connections.
 *
 * ```ts ignore
 * import { testNat } from "@punchline/punchline/nat";
 *
 * const { udp, verdict } = await testNat({ servers: ["stun.example.net"] });
 * console.log(verdict.summary);
 * console.log(udp.ipv4?.mapping.behavior, udp.ipv4?.mapping.evidence);
 * ```
 *
 * Reports use the terms of RFC 4787 and RFC 5382. Each verdict comes with its evidence and its confidence, and
 * `"unknown"` is a possible value everywhere.
 *
 * @module
 */

export type { Logger } from "../base/logger.ts";
export type { IpFamily, TransportAddress } from "../net/address.ts";
export type * from "../net/network.ts";
export type {
  Behavior,
  BehaviorVerdict,
  Difficulty,
  FamilyDetails,
  FamilyReport,
  Finding,
  FindingKind,
  NatReport,
  PortAllocation,
  PortAllocationDetails,
  UnsolicitedSyn,
  VerdictScope,
} from "./behavior.ts";
export { testNat, type TestNatOptions, type UdpProgress } from "./report.ts";
export { ONE_ADDRESS_SERVERS, TWO_ADDRESS_SERVERS } from "./servers.ts";
export { allocationText, difficultyOf, explainFamily } from "./verdict.ts";
