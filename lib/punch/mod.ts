/**
 * TCP hole punching: two programs behind two NATs get one TCP connection, over any channel that carries a few small
 * messages between them.
 *
 * ```ts ignore
 * import { punch } from "@punchline/punchline/punch";
 *
 * // The other side does the same with the other end of the channel and `role: "controlled"`.
 * await using conn = await punch({ channel, role: "controlling" });
 * console.log(conn.punch.plan.reason, conn.punch.punchMs);
 * await conn.write(new TextEncoder().encode("hello"));
 * ```
 *
 * What to expect of two kinds of NAT, without a network:
 *
 * ```ts ignore
 * import { explainPair, NAT_KINDS } from "@punchline/punchline/punch";
 *
 * console.log(explainPair(NAT_KINDS[3], NAT_KINDS[8]).text);
 * // port-restricted x symmetric, sequential: predicted, about 95 %
 * ```
 *
 * @module
 */

export {
  type Attempt,
  type CandidatePair,
  type ConnectionAttempt,
  PunchlineError,
  type PunchlineErrorOptions,
  UnreachableError,
} from "../base/errors.ts";
export type { Logger } from "../base/logger.ts";
export {
  PATH_KINDS,
  type PathKind,
  PUNCH_METHODS,
  type PunchMethodName,
} from "../base/path_kind.ts";
export type {
  Behavior,
  BehaviorVerdict,
  FamilyDetails,
  FamilyReport,
  PortAllocation,
  PortAllocationDetails,
  UnsolicitedSyn,
} from "../nat/behavior.ts";
export type { IpFamily, Nat64Prefix, TransportAddress } from "../net/address.ts";
export type { DenoConn, NetAddress } from "../net/deno_conn.ts";
export type { NamedHost } from "../net/local_address.ts";
export type * from "../net/network.ts";
export { MAX_SIGNAL_BYTES, type SignalChannel } from "../signal/channel.ts";
export type { Candidate, PunchDescription } from "./candidates.ts";
export { explainMatrix, explainPair, type PairExpectation } from "./explain.ts";
export type { BaseSocket, OpenBaseSocketOptions } from "./base_socket.ts";
export type { GatherOptions } from "./gathering.ts";
export { PUNCH_LIMITS, type PunchLimits } from "./limits.ts";
export { nameNat, NAT_KINDS, type NatProfile, type PortPair } from "./nat_profile.ts";
export type { PunchRole } from "./offer.ts";
export { DIRECT_PATH_KINDS, type DirectPathKind } from "./path_kinds.ts";
export type { CheckListEntry, PunchMethod, PunchPlan } from "./plan_types.ts";
export {
  preparePunch,
  type PreparePunchOptions,
  punch,
  type PunchedConn,
  type PunchOptions,
  type PunchReport,
} from "./punch.ts";
