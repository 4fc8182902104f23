/**
 * Turns what two sides say of themselves into what each of them does. Both sides plan, each for itself, and the
 * two plans fit: all that both have to agree on is decided about the same ordered pair, controlling side first.
 *
 * @module
 */

import { predictPorts } from "../nat/allocation.ts";
import { ipFamily, type TransportAddress } from "../net/address.ts";
import {
  allowedHosts,
  allowedTargets,
  type DialContext,
  dialContext,
  isAllowedTarget,
  type PunchDescription,
} from "./candidates.ts";
import { type PunchLimits, punchLimits, triesFor } from "./limits.ts";
import { followsLocalPort } from "./nat_profile.ts";
import type { CheckListEntry, PunchPlan } from "./plan_types.ts";
import {
  chooseMeeting,
  type Meeting,
  other,
  type Party,
  type PartyView,
  USUAL_RTT_MS,
} from "./strategy.ts";

/** What one side's dials depend on. */
export interface PunchMethodContext {
  /** How the two meet. */
  readonly nomination: Meeting;
  /** Which of the two we are. */
  readonly party: Party;
  /** What we say of ourselves. */
  readonly me: PunchDescription;
  /** What the peer says of itself. */
  readonly peer: PunchDescription;
  /** Where the peer's punch port is seen from outside, if that is known. */
  readonly peerAddress: TransportAddress | undefined;
  /** How long before the peer we know what to do. */
  readonly headStartMs: number;
  /** Between the sides. */
  readonly rttMs: number | undefined;
  /** What the dials may cost. */
  readonly limits: PunchLimits;
}

/** What this side dials for the technique that was chosen. */
export function methodChecks(context: PunchMethodContext): CheckListEntry[] {
  const { nomination, party } = context;
  switch (nomination.method) {
    case "direct":
    case "simultaneous-open":
      return [dialPeer(context)];
    case "one-sided-open":
      return nomination.opener === party ? [open(context)] : enter(context);
    case "port-prediction":
      if (nomination.predicted.length === 2) return dialPairs(context);
      return nomination.predicted.includes(party) ? dialOut(context) : [dialPredicted(context)];
    case "birthday":
      return [spray(context, nomination)];
    case "impossible":
      return [];
  }
}

function dialPeer(context: PunchMethodContext): CheckListEntry {
  const { peerAddress } = context;
  return punchGroup(context, peerAddress === undefined ? [] : [peerAddress]);
}

/** One SYN to the address; the port, if it is not known, does not matter to a filter that goes by addresses. */
function open(context: PunchMethodContext): CheckListEntry {
  const { peer, peerAddress } = context;
  const target = peerAddress ?? externalAddress(peer, peer.punchPort);
  return { ...punchGroup(context, [target]), startMs: 0 };
}

/** Comes a little later than the SYN that opens, and again, since what comes too early would be sent again after 1 s. */
function enter(context: PunchMethodContext): CheckListEntry[] {
  const { peer, peerAddress, headStartMs, limits } = context;
  const targets = peerAddress === undefined
    ? predicted(peer, [peer.punchPort], limits.maxPredictedPorts)
    : [peerAddress];
  const group = { ...punchGroup(context, targets), startMs: headStartMs };
  if (peerAddress === undefined) return [group];
  return [group, {
    ...group,
    from: "fresh",
    perTarget: SECOND_TRIES,
    startMs: headStartMs + SECOND_TRY_MS,
    spacingMs: SECOND_TRY_MS,
  }];
}

/** The side whose port is predicted; more dials than one, as a lost SYN is sent again only after 1 s. */
function dialOut(context: PunchMethodContext): CheckListEntry[] {
  const { me, peerAddress } = context;
  const targets = peerAddress === undefined ? [] : [peerAddress];
  const [first, ...rest] = localPorts(me, SPARE_DIALS);
  const group = punchGroup(context, targets);
  const fresh: CheckListEntry = { ...group, from: "fresh", perTarget: SPARE_DIALS };
  if (me.profile.onlyForNeighbours) return [{ ...fresh, localPorts: [first!, ...rest] }];
  return followsLocalPort(me.profile) ? [group] : [group, fresh];
}

function dialPredicted(context: PunchMethodContext): CheckListEntry {
  const { peer, limits } = context;
  const { onlyForNeighbours } = peer.profile;
  const [ports, count] = onlyForNeighbours
    ? [localPorts(peer, SPARE_DIALS), SPARE_DIALS]
    : followsLocalPort(peer.profile)
    ? [[peer.punchPort], NEXT_FREE_PORTS]
    : [[], limits.maxPredictedPorts];
  return punchGroup(context, predicted(peer, ports, Math.min(count, limits.maxPredictedPorts)));
}

/**
 * Both sides' ports are predicted, so a dial arrives only if each side dials the very port from which the other's
 * dial to it comes. Where others' mappings have moved the two rows by a and b, the i-th dial of the one and the
 * j-th of the other meet if i = b + f(j) and so on: with both aiming at the next port each time they meet only for
 * a + b = 0. If one of them aims at every second port, the dials j = a + b and i = a + 2b meet, whatever a and b are.
 */
function dialPairs(context: PunchMethodContext): CheckListEntry[] {
  const { me, peer, party, limits } = context;
  const isExact = followsLocalPort(me.profile) && followsLocalPort(peer.profile);
  const pairs = isExact ? EXACT_PAIRS : limits.maxPredictedPorts;
  const stride = isExact || party === 0 ? 1 : 2;
  const targets = predicted(peer, localPorts(peer, pairs), stride * pairs)
    .filter((_, index) => index % stride === 0);
  const group: CheckListEntry = {
    ...punchGroup(context, targets),
    from: "fresh",
    spacingMs: PAIR_SPACING_MS,
  };
  return [
    me.profile.allocation.kind === "sequential" && !me.profile.onlyForNeighbours
      ? group
      : { ...group, localPorts: localPorts(me, pairs) },
  ];
}

function spray(
  context: PunchMethodContext,
  nomination: Meeting & { method: "birthday" },
): CheckListEntry {
  const { party, peer, peerAddress, headStartMs, limits, rttMs = USUAL_RTT_MS } = context;
  const { split, block, first, spacingMs } = nomination.spray;
  const isRandom = party === nomination.random;
  const [mine, theirDialsMs] = isRandom
    ? ["random", spacingMs.known * split.ports] as const
    : ["known", spacingMs.random * split.sockets] as const;
  const afterMs = first === "both" || first === mine
    ? 0
    : theirDialsMs + Math.min(rttMs / 2, MAX_MARGIN_MS);
  const allocation = { kind: "random", delta: null, range: null } as const;
  const ports = predictPorts([], allocation, { count: split.ports, portRange: block });
  return {
    from: isRandom ? "fresh" : "punch",
    targets: isRandom
      ? peerAddress === undefined ? [] : [peerAddress]
      : ports.map((port) => externalAddress(peer, port)),
    perTarget: isRandom ? split.sockets : 1,
    startMs: headStartMs + afterMs,
    spacingMs: spacingMs[mine],
    maxTries: 1,
    timeoutMs: limits.sprayMs,
  };
}

function punchGroup(
  context: PunchMethodContext,
  targets: readonly TransportAddress[],
): CheckListEntry {
  const { limits } = context;
  return {
    from: "punch",
    targets,
    perTarget: 1,
    startMs: startMs(context),
    spacingMs: 0,
    maxTries: triesFor(limits, targets.length),
    timeoutMs: limits.timeoutMs,
  };
}

/**
 * A NAT that resets has to see the SYN from inside first: -d1 < tA - tB < d2, with the one-way delays d1 and d2. So
 * whoever knows first lets the other catch up, if the other's NAT resets; a NAT that drops can be reached early.
 */
function startMs({ peer, headStartMs }: PunchMethodContext): number {
  return peer.profile.unsolicitedSyn === "reset" ? headStartMs : 0;
}

function predicted(
  peer: PunchDescription,
  localPorts: readonly number[],
  count: number,
): TransportAddress[] {
  const { samples, allocation, onlyForNeighbours } = peer.profile;
  return predictPorts(samples, allocation, { localPorts, onlyForNeighbours, count })
    .map((port) => externalAddress(peer, port));
}

/** The local ports that a side dials from where the other counts on them: those after the last that it used. */
function localPorts({ profile, punchPort }: PunchDescription, count: number): number[] {
  const last = profile.onlyForNeighbours ? profile.samples.at(-1)?.localPort : undefined;
  const used = new Set([punchPort, ...profile.samples.map(({ localPort }) => localPort)]);
  const ports: number[] = [];
  for (let port = (last ?? punchPort) + 1; ports.length < count; port++) {
    const wrapped = port > 65_535 ? port - 64_512 : port;
    if (!used.has(wrapped)) ports.push(wrapped);
  }
  return ports;
}

function externalAddress({ profile }: PunchDescription, port: number): TransportAddress {
  return { ip: profile.externalIp!, port };
}

/** Ours. */
const SPARE_DIALS = 2;
const SECOND_TRIES = 8;
const SECOND_TRY_MS = 200;

/** If the wanted port is taken; ours. */
const NEXT_FREE_PORTS = 8;

/** Where nothing but a port that is taken comes in between; ours. */
const EXACT_PAIRS = 4;

/** So that dials leave in their order; ours. */
const PAIR_SPACING_MS = 3;

/** How much a spray allows for the two sides not starting at once; ours. */
const MAX_MARGIN_MS = 100;

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
export function planPunch(
  me: PunchDescription,
  peer: PunchDescription,
  options: PlanOptions,
): PunchPlan {
  const { role, isSecond = role === "controlled", rttMs, signalRttMs = 0 } = options;
  const limits = punchLimits(options.limits);
  const party: Party = role === "controlling" ? 0 : 1;
  const sides = party === 0 ? [me, peer] as const : [peer, me] as const;
  const nomination = meet(sides, limits, rttMs);
  const { method, success: successEstimate, roundTrips: roundTripsEstimate, reason } = nomination;
  const isNear = dialContext(me, peer).sharesExternalIp;
  const dials = method === "impossible" ? [] : [
    ...interfaceDials(me, peer, limits),
    ...methodChecks({
      nomination,
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
    method,
    reachable: nomination.method === "direct"
      ? nomination.reachable.map((each) => ROLES[each])
      : [],
    dials: dials.map((group) => withoutForbidden(group, dialContext(me, peer)))
      .filter(({ targets }) => targets.length > 0),
    listens: listens(nomination, party, me),
    sprayedSyns: nomination.method === "birthday"
      ? nomination.spray.split.sockets + nomination.spray.split.ports
      : 0,
    successEstimate,
    roundTripsEstimate,
    reason,
  };
}

/** Whatever way a target came into a plan, here is the door. */
function withoutForbidden(group: CheckListEntry, context: DialContext): CheckListEntry {
  return { ...group, targets: group.targets.filter((target) => isAllowedTarget(target, context)) };
}

/** What theory says of the NATs, and what the interfaces allow besides. */
function meet(
  sides: readonly [PunchDescription, PunchDescription],
  limits: PunchLimits,
  rttMs: number | undefined,
): Meeting {
  const [a, b] = sides;
  const nomination = chooseMeeting([view(b, a), view(a, b)], { limits, ...rttMs && { rttMs } });
  const haveInterfaces = [allowedHosts(a, b, limits.maxHostTargets)]
    .concat([allowedHosts(b, a, limits.maxHostTargets)]).some((hosts) => hosts.length > 0);
  if (!haveInterfaces) return nomination;
  const isSameNat = dialContext(a, b).sharesExternalIp || dialContext(a, b).isSameHost;
  if (!isSameNat && nomination.method !== "impossible") return nomination;
  const success = Math.max(nomination.success, CHANCE_OF_INTERFACES);
  const where = isSameNat ? "the same NAT" : "addresses of interfaces";
  const reason = `${nomination.reason}; direct by ${where}`;
  return nomination.method === "impossible"
    ? { method: "direct", reachable: [], success, roundTrips: 1, reason }
    : { ...nomination, success, reason };
}

/** What `observer` may make of a side. */
function view(observer: PunchDescription, side: PunchDescription): PartyView {
  return {
    profile: side.profile,
    hasPublicIp: publicIp(observer, side) !== undefined,
    hasPublicAddress: publicAddress(observer, side) !== undefined,
    isMapped: allowedTargets(side, "mapped", dialContext(observer, side)).length > 0,
    canListenBeside: side.canListenBeside,
  };
}

/** Where the punch port of a side is seen from outside, if that is known and may be dialled. */
function publicAddress(
  observer: PunchDescription,
  side: PunchDescription,
): TransportAddress | undefined {
  const externalIp = publicIp(observer, side);
  if (externalIp === undefined) return undefined;
  const context = dialContext(observer, side);
  const seen = allowedTargets(side, "reflexive", context).find(({ ip }) => ip === externalIp);
  if (seen !== undefined || side.profile.mapping !== "none") return seen;
  return allowedTargets(side, "host", context).find(({ ip }) => ip === externalIp);
}

/** The external address of a side, if it may be dialled, and from where the observer is. */
function publicIp(observer: PunchDescription, side: PunchDescription): string | undefined {
  const [from, ip] = [observer.profile.externalIp, side.profile.externalIp];
  if (from === null || ip === null || ipFamily(from) !== ipFamily(ip)) return undefined;
  return isAllowedTarget({ ip, port: side.punchPort }, dialContext(observer, side))
    ? ip
    : undefined;
}

/** Beside every technique: whatever the peer's interfaces and router offer. */
function interfaceDials(
  me: PunchDescription,
  peer: PunchDescription,
  limits: PunchLimits,
): CheckListEntry[] {
  const context = dialContext(me, peer);
  const known = publicAddress(me, peer);
  const targets = [
    ...allowedHosts(me, peer, limits.maxHostTargets),
    ...allowedTargets(peer, "mapped", context).slice(0, MAX_MAPPED),
  ].filter((address) => address.ip !== known?.ip || address.port !== known.port);
  return [{
    from: "punch",
    targets,
    perTarget: 1,
    startMs: 0,
    spacingMs: 0,
    maxTries: triesFor(limits, targets.length),
    timeoutMs: limits.timeoutMs,
  }];
}

/** A listener that can only come after the dials ends all redialling: it is worth that only where it is needed. */
function listens(nomination: Meeting, party: Party, me: PunchDescription): boolean {
  if (nomination.method === "impossible") return false;
  if (me.canListenBeside) return true;
  switch (nomination.method) {
    case "direct":
      return nomination.reachable.includes(party) || !nomination.reachable.includes(other(party));
    case "one-sided-open":
      return nomination.opener === party;
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
