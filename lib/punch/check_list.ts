/**
 * Turns what two sides say of themselves into what each of them does. Both sides plan, each for itself, and the
 * two plans fit: all that both have to agree on is decided about the same ordered pair, controlling side first.
 *
 * @module
 */

import { ipFamily, type TransportAddress } from "../net/address.ts";
import type { PunchSide } from "./candidates.ts";
import {
  type DialContext,
  dialContext,
  diallable,
  diallableHosts,
  isDiallable,
} from "./diallable.ts";
import { type PunchLimits, punchLimits, triesFor } from "./limits.ts";
import type { DialGroup, PunchPlan } from "./plan_types.ts";
import { chooseMeeting, type Meeting, other, type Party, type PartyView } from "./strategy.ts";
import { techniqueDials } from "./technique_dials.ts";

/** What a plan depends on besides the two sides. */
export interface PlanOptions {
  /** Ours; the two sides differ in it. */
  readonly role: "controlling" | "controlled";
  /**
   * Whether this side knew both descriptions first, a one-way signalling delay before the other: then it is the
   * one that waits where both should start together. Unless given, the controlled side is taken for it.
   */
  readonly isSecond?: boolean;
  /** A round trip between the sides; 50 unless known. */
  readonly rttMs?: number;
  /** A round trip of the signalling channel; 0 unless known. */
  readonly signalRttMs?: number;
  /** Differences from {@linkcode PUNCH_LIMITS}; the same on both sides. */
  readonly limits?: Partial<PunchLimits>;
}

/**
 * Our plan to meet `peer`.
 *
 * @throws {RangeError} if a limit is none
 */
export function planPunch(me: PunchSide, peer: PunchSide, options: PlanOptions): PunchPlan {
  const { role, isSecond = role === "controlled", rttMs, signalRttMs = 0 } = options;
  const limits = punchLimits(options.limits);
  const party: Party = role === "controlling" ? 0 : 1;
  const sides = party === 0 ? [me, peer] as const : [peer, me] as const;
  const meeting = meet(sides, limits, rttMs);
  const { technique, success: successEstimate, roundTrips: roundTripsEstimate, reason } = meeting;
  const isNear = dialContext(me, peer).sharesExternalIp;
  const dials = technique === "impossible" ? [] : [
    ...interfaceDials(me, peer, limits),
    ...techniqueDials({
      meeting,
      party,
      me,
      peer,
      peerAddress: publicAddress(me, peer),
      headStartMs: isSecond ? signalRttMs / 2 : 0,
      rttMs,
      limits,
    }).map((group) => isNear ? { ...group, startMs: group.startMs + LAN_FIRST_MS } : group),
  ];
  return {
    technique,
    reachable: meeting.technique === "direct" ? meeting.reachable.map((each) => ROLES[each]) : [],
    dials: dials.map((group) => withoutForbidden(group, dialContext(me, peer)))
      .filter(({ targets }) => targets.length > 0),
    listens: listens(meeting, party, me),
    sprayedSyns: meeting.technique === "spraying"
      ? meeting.spray.split.sockets + meeting.spray.split.ports
      : 0,
    successEstimate,
    roundTripsEstimate,
    reason,
  };
}

/** Whatever way a target came into a plan, here is the door. */
function withoutForbidden(group: DialGroup, context: DialContext): DialGroup {
  return { ...group, targets: group.targets.filter((target) => isDiallable(target, context)) };
}

/** What theory says of the NATs, and what the interfaces allow besides. */
function meet(
  sides: readonly [PunchSide, PunchSide],
  limits: PunchLimits,
  rttMs: number | undefined,
): Meeting {
  const [a, b] = sides;
  const meeting = chooseMeeting([view(b, a), view(a, b)], { limits, ...rttMs && { rttMs } });
  const haveInterfaces = [diallableHosts(a, b, limits.maxHostTargets)]
    .concat([diallableHosts(b, a, limits.maxHostTargets)]).some((hosts) => hosts.length > 0);
  if (!haveInterfaces) return meeting;
  const isSameNat = dialContext(a, b).sharesExternalIp || dialContext(a, b).isSameHost;
  if (!isSameNat && meeting.technique !== "impossible") return meeting;
  const success = Math.max(meeting.success, CHANCE_OF_INTERFACES);
  const where = isSameNat ? "the same NAT" : "addresses of interfaces";
  const reason = `${meeting.reason}; direct by ${where}`;
  return meeting.technique === "impossible"
    ? { technique: "direct", reachable: [], success, roundTrips: 1, reason }
    : { ...meeting, success, reason };
}

/** What `observer` may make of a side. */
function view(observer: PunchSide, side: PunchSide): PartyView {
  return {
    profile: side.profile,
    hasPublicIp: publicIp(observer, side) !== undefined,
    hasPublicAddress: publicAddress(observer, side) !== undefined,
    isMapped: diallable(side, "mapped", dialContext(observer, side)).length > 0,
    canListenBeside: side.canListenBeside,
  };
}

/** Where the punch port of a side is seen from outside, if that is known and may be dialled. */
function publicAddress(observer: PunchSide, side: PunchSide): TransportAddress | undefined {
  const externalIp = publicIp(observer, side);
  if (externalIp === undefined) return undefined;
  const context = dialContext(observer, side);
  const seen = diallable(side, "reflexive", context).find(({ ip }) => ip === externalIp);
  if (seen !== undefined || side.profile.mapping !== "none") return seen;
  return diallable(side, "host", context).find(({ ip }) => ip === externalIp);
}

/** The external address of a side, if it may be dialled, and from where the observer is. */
function publicIp(observer: PunchSide, side: PunchSide): string | undefined {
  const [from, ip] = [observer.profile.externalIp, side.profile.externalIp];
  if (from === null || ip === null || ipFamily(from) !== ipFamily(ip)) return undefined;
  return isDiallable({ ip, port: side.punchPort }, dialContext(observer, side)) ? ip : undefined;
}

/** Beside every technique: whatever the peer's interfaces and router offer. */
function interfaceDials(me: PunchSide, peer: PunchSide, limits: PunchLimits): DialGroup[] {
  const context = dialContext(me, peer);
  const known = publicAddress(me, peer);
  const targets = [
    ...diallableHosts(me, peer, limits.maxHostTargets),
    ...diallable(peer, "mapped", context).slice(0, MAX_MAPPED),
  ].filter((address) => address.ip !== known?.ip || address.port !== known.port);
  return [{
    from: "punch",
    targets,
    perTarget: 1,
    startMs: 0,
    spacingMs: 0,
    maxTries: triesFor(limits, targets.length),
    giveUpMs: limits.patienceMs,
  }];
}

/** A listener that can only come after the dials ends all redialling: it is worth that only where it is needed. */
function listens(meeting: Meeting, party: Party, me: PunchSide): boolean {
  if (meeting.technique === "impossible") return false;
  if (me.canListenBeside) return true;
  switch (meeting.technique) {
    case "direct":
      return meeting.reachable.includes(party) || !meeting.reachable.includes(other(party));
    case "opening":
      return meeting.opener === party;
    default:
      return false;
  }
}

/** By party. */
const ROLES = ["controlling", "controlled"] as const;

/** Ours: two hosts that name the same external address, or that have nothing else, are mostly near each other. */
const CHANCE_OF_INTERFACES = 0.9;

/**
 * By how much behind the same NAT the addresses of interfaces come before the way through that NAT and back, which
 * would win as often as not, and would burden the router for good. Ours: several round trips of a LAN.
 */
const LAN_FIRST_MS = 20;

/** IPv4 and IPv6. */
const MAX_MAPPED = 2;
