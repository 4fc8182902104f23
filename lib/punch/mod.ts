/**
 * TCP hole punching: two programs behind two NATs get one TCP connection, over any channel that carries a few small
 * messages between them.
 *
 * ```ts ignore
 * import { punch } from "@punchline/punchline/punch";
 *
 * // The same on the other side, with the other end of the channel and `role: "controlled"`.
 * await using conn = await punch({ channel, role: "controlling" });
 * console.log(conn.punch.plan.reason, conn.punch.punchMs);
 * await conn.write(new TextEncoder().encode("hello"));
 * ```
 *
 * @module
 */

export { type Attempt, type ConnectionAttempt, UnreachableError } from "../base/errors.ts";
export type { DenoConn, NetAddress } from "../net/deno_conn.ts";
export { BaseSocket, type OpenBaseSocketOptions } from "./gathering.ts";
export type { NamedHost } from "../net/local_address.ts";
export type { CheckListEntry, PunchMethod, PunchPlan } from "./plan_types.ts";
export { type PlanOptions, planPunch } from "./check_list.ts";
export { PUNCH_LIMITS, type PunchLimits } from "./limits.ts";
export type { Candidate, NatProfile, PortPair, PunchDescription } from "./candidates.ts";
export {
  preparePunch,
  type PreparePunchOptions,
  punch,
  type PunchedConn,
  type PunchOptions,
  type PunchReport,
} from "./punch.ts";
export type { PunchRole } from "./offer.ts";
export { DIRECT_PATH_KINDS, type DirectPathKind } from "./plan_types.ts";
export type { PathKind, PunchMethodName } from "../base/path_kind.ts";
export { MAX_SIGNAL_BYTES, type SignalChannel } from "../signal/channel.ts";
