/**
 * Turns the descriptions of two sides into what each of them does. Each side plans for itself, and the two plans
 * match: everything that both must agree on is decided about the same ordered pair, controlling side first.
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
  type DialFacts,
  isAllowedTarget,
  NO_FACTS,
  type PunchDescription,
} from "./candidates.ts";
import { type PunchLimits, punchLimits, triesFor } from "./limits.ts";
import { followsLocalPort, keepsOutCrossing, shouldCross } from "./nat_profile.ts";
import type { CheckListEntry, PunchPlan } from "./plan_types.ts";
import {
  chooseMethod,
  type MethodChoice,
  other,
  type Party,
  type PartyView,
  USUAL_RTT_MS,
} from "./strategy.ts";

/** What a plan depends on besides the two descriptions. */
export interface PlanOptions {
  /** This side's role; the other side has the other one. */
  readonly role: "controlling" | "controlled";
  /**
   * Whether this side knew both descriptions first, half a signaling round trip before the other side: it is the one
   * that waits if both must start together. Default: whether it is the controlled side.
   */
  readonly isSecond?: boolean;
  /** A round trip between the sides, in milliseconds. Default: 50. */
  readonly rttMs?: number;
  /** A round trip of the signaling channel, in milliseconds. Default: 0. */
  readonly signalRttMs?: number;
  /** Whether datagrams take the place of SYNs: one that is too early is repeated at once. Default: `false`. */
  readonly isUdp?: boolean;
  /** What this side knows by itself. Whether both are on one host must be the same on both sides. Default: nothing. */
  readonly facts?: DialFacts;
  /** Differences from {@linkcode PUNCH_LIMITS}; they must be the same on both sides. */
  readonly limits?: Partial<PunchLimits>;
}

/**
 * The plan of this side for a punch.
 *
 * @param local what this side offered
 * @param remote what the peer offered
 * @throws {RangeError} if a limit is out of range
 */
export function planPunch(
  local: PunchDescription,
  remote: PunchDescription,
  options: PlanOptions,
): PunchPlan {
  const { role, isSecond = role === "controlled", rttMs, signalRttMs = 0 } = options;
  const { facts = NO_FACTS, isUdp = false } = options;
  const shared: DialFacts = { ...NO_FACTS, isSameHost: facts.isSameHost };
  const contextOf: ContextOf = (observer, side) => dialContext(observer, side, shared);
  const limits = punchLimits(options.limits);
  const party: Party = role === "controlling" ? 0 : 1;
  const sides = party === 0 ? [local, remote] as const : [remote, local] as const;
  const choice = choose(sides, contextOf, limits, rttMs);
  const context = dialContext(local, remote, facts);
  return {
    method: choice.method,
    reachable: choice.method === "direct" ? choice.reachable.map((each) => ROLES[each]) : [],
    dials: checkList({
      choice,
      party,
      local,
      remote,
      remoteAddress: publicAddress(local, remote, contextOf),
      contextOf,
      headStartMs: isSecond ? signalRttMs / 2 : 0,
      isUdp,
      rttMs,
      limits,
    }).map((entry) => withoutForbidden(entry, context)).filter(({ targets }) => targets.length > 0),
    listens: listens(choice, party, local),
    birthdaySyns: choice.method === "birthday"
      ? choice.birthday.split.sockets + choice.birthday.split.ports
      : 0,
    successEstimate: choice.success,
    roundTripsEstimate: choice.roundTrips,
    reason: choice.reason,
  };
}

/** What an observer may dial of a side, by what both sides know of each other: each side finds the same. */
type ContextOf = (observer: PunchDescription, side: PunchDescription) => DialContext;

/** The method that suits the NATs, and what the addresses of interfaces allow besides. */
function choose(
  sides: readonly [PunchDescription, PunchDescription],
  contextOf: ContextOf,
  limits: PunchLimits,
  rttMs: number | undefined,
): MethodChoice {
  const [a, b] = sides;
  const views = [view(b, a, contextOf), view(a, b, contextOf)] as const;
  const choice = chooseMethod(views, { limits, rttMs: rttMs || undefined });
  // The method has considered what servers saw, which is the address of an interface if there is no NAT.
  const hosts = [
    ...allowedHosts(b, contextOf(a, b), limits.maxHostTargets)
      .filter(({ ip }) => ip !== b.profile.externalIp),
    ...allowedHosts(a, contextOf(b, a), limits.maxHostTargets)
      .filter(({ ip }) => ip !== a.profile.externalIp),
  ];
  if (hosts.length === 0) return choice;
  const { sharesExternalIp, isSameHost } = contextOf(a, b);
  const isSameNat = sharesExternalIp || isSameHost;
  if (!isSameNat && choice.method !== "impossible") return choice;
  const success = Math.max(choice.success, CHANCE_OF_INTERFACES);
  const reason = `${choice.reason}; ${
    isSameNat ? "direct behind the same NAT" : "direct to the addresses of interfaces"
  }`;
  return choice.method === "impossible"
    ? { method: "direct", reachable: [], success, roundTrips: 1, reason }
    : { ...choice, success, reason };
}

/** What an observer may use of a side. */
function view(
  observer: PunchDescription,
  side: PunchDescription,
  contextOf: ContextOf,
): PartyView {
  return {
    profile: side.profile,
    hasPublicIp: publicIp(observer, side, contextOf) !== undefined,
    hasPublicAddress: publicAddress(observer, side, contextOf) !== undefined,
    isMapped: allowedTargets(side, "mapped", contextOf(observer, side)).length > 0,
    canListenBeside: side.canListenBeside,
  };
}

/** The external address of a side's punch port, if it is known and the observer may dial it. */
function publicAddress(
  observer: PunchDescription,
  side: PunchDescription,
  contextOf: ContextOf,
): TransportAddress | undefined {
  const externalIp = publicIp(observer, side, contextOf);
  if (externalIp === undefined) return undefined;
  const context = contextOf(observer, side);
  const seen = allowedTargets(side, "reflexive", context).find(({ ip }) => ip === externalIp);
  if (seen !== undefined || side.profile.mapping !== "none") return seen;
  return allowedTargets(side, "host", context).find(({ ip }) => ip === externalIp);
}

/** The external IP address of a side, if the observer may dial it and has one of the same family. */
function publicIp(
  observer: PunchDescription,
  side: PunchDescription,
  contextOf: ContextOf,
): string | undefined {
  const [from, ip] = [observer.profile.externalIp, side.profile.externalIp];
  if (from === null || ip === null || ipFamily(from) !== ipFamily(ip)) return undefined;
  return isAllowedTarget({ ip, port: side.punchPort }, contextOf(observer, side)) ? ip : undefined;
}

/** Whether to listen. A listener that can only follow the dials ends all redialling, so it must be worth that. */
function listens(choice: MethodChoice, party: Party, local: PunchDescription): boolean {
  if (choice.method === "impossible") return false;
  if (local.canListenBeside) return true;
  switch (choice.method) {
    case "direct":
      return choice.reachable.includes(party) || !choice.reachable.includes(other(party));
    case "one-sided-open":
      return choice.opener === party;
    default:
      return false;
  }
}

/** What the dials of one side depend on. */
interface CheckContext {
  readonly choice: MethodChoice;
  /** This side. */
  readonly party: Party;
  readonly local: PunchDescription;
  readonly remote: PunchDescription;
  /** The external address of the peer's punch port, if it is known. */
  readonly remoteAddress: TransportAddress | undefined;
  readonly contextOf: ContextOf;
  /** How long before the peer this side knows both descriptions. */
  readonly headStartMs: number;
  readonly isUdp: boolean;
  /** Between the sides. */
  readonly rttMs: number | undefined;
  readonly limits: PunchLimits;
}

/** The peer's interfaces and forwarded ports, then what the method calls for. */
function checkList(context: CheckContext): CheckListEntry[] {
  const { choice, local, remote, contextOf } = context;
  if (choice.method === "impossible") return [];
  const delayMs = contextOf(local, remote).sharesExternalIp ? LAN_FIRST_MS : 0;
  return [
    hostAndMappedChecks(context),
    ...methodChecks(context).map((entry) => ({ ...entry, startMs: entry.startMs + delayMs })),
  ];
}

function hostAndMappedChecks(
  { local, remote, remoteAddress, contextOf, limits }: CheckContext,
): CheckListEntry {
  const context = contextOf(local, remote);
  const targets = [
    ...allowedHosts(remote, context, limits.maxHostTargets),
    ...allowedTargets(remote, "mapped", context).slice(0, MAX_MAPPED),
  ].filter(({ ip, port }) => ip !== remoteAddress?.ip || port !== remoteAddress.port);
  return {
    from: "punch",
    targets,
    perTarget: 1,
    startMs: 0,
    spacingMs: 0,
    maxTries: Math.min(limits.maxSynsElsewhere, triesFor(limits, targets.length)),
    timeoutMs: limits.timeoutMs,
  };
}

function methodChecks(context: CheckContext): CheckListEntry[] {
  const { choice, party } = context;
  switch (choice.method) {
    case "direct":
      return dialDirectly(context, choice.reachable);
    case "simultaneous-open":
      return [dialRemote(context)];
    case "one-sided-open":
      return choice.opener === party ? [openFilter(context)] : dialThroughFilter(context);
    case "port-prediction":
      if (choice.predicted.length === 2) return dialPairs(context);
      return choice.predicted.includes(party) ? dialOut(context) : dialPredicted(context);
    case "birthday":
      return [dialBirthday(context, choice)];
    case "impossible":
      return [];
  }
}

function dialRemote(context: CheckContext): CheckListEntry {
  const { remoteAddress } = context;
  return entryFor(context, remoteAddress === undefined ? [] : [remoteAddress]);
}

/**
 * A side whose NAT keeps out SYNs that cross its own must not send one to a peer that can reach it, and waits with it while
 * that is not known. Without a listener beside its dials it cannot wait.
 */
function dialDirectly(context: CheckContext, reachable: readonly Party[]): CheckListEntry[] {
  const { party, local, remote } = context;
  const entry = dialRemote(context);
  const isDialled = reachable.includes(party) && (party === 1 || !reachable.includes(other(party)));
  if (!isDialled) return [entry];
  const isAwaited = reachable.includes(other(party)) ? [local, remote] : [local];
  if (isAwaited.some(({ profile }) => keepsOutCrossing(profile))) return [];
  const isKnown = isAwaited.every(({ profile }) => profile.crossingSyn === "accepted");
  if (isKnown || !local.canListenBeside) return [entry];
  return [{ ...entry, startMs: entry.startMs + REACHABLE_LATER_MS }];
}

/**
 * One SYN to the peer's address; to each that was seen, if a NAT with a pool draws from several. If the peer's port is
 * unknown any port does, because the filter goes by addresses. It must be another one if the SYNs must not cross.
 */
function openFilter(context: CheckContext): CheckListEntry {
  const { local, remote, remoteAddress } = context;
  if (remoteAddress !== undefined && keepsOutCrossing(local.profile)) {
    const { ip, port } = remoteAddress;
    return {
      ...entryFor(context, [{ ip, port: port === 65_535 ? port - 1 : port + 1 }]),
      startMs: 0,
    };
  }
  if (remoteAddress !== undefined) return { ...entryFor(context, [remoteAddress]), startMs: 0 };
  const { externalIp, externalIps = [externalIp!] } = remote.profile;
  const targets = externalIps.map((ip) => ({ ip, port: remote.punchPort }));
  return { ...entryFor(context, targets), startMs: 0 };
}

/**
 * Dials a little later than the SYN that opens the filter, and again from fresh ports: a SYN that is too early would
 * be retransmitted only after 1 s.
 */
function dialThroughFilter(context: CheckContext): CheckListEntry[] {
  const { remote, remoteAddress, headStartMs, limits } = context;
  const targets = remoteAddress === undefined
    ? predicted(remote, [remote.punchPort], limits.maxPredictedPorts)
    : [remoteAddress];
  const entry = { ...entryFor(context, targets), startMs: headStartMs };
  if (remoteAddress === undefined) return [entry];
  return [entry, {
    ...entry,
    from: "fresh",
    perTarget: SECOND_TRIES,
    startMs: headStartMs + SECOND_TRY_MS,
    spacingMs: SECOND_TRY_MS,
    dialMs: limits.birthdayMs,
  }];
}

/** The side whose port is predicted dials more than once, because a lost SYN is retransmitted only after 1 s. */
function dialOut(context: CheckContext): CheckListEntry[] {
  const { local, remoteAddress } = context;
  const targets = remoteAddress === undefined ? [] : [remoteAddress];
  const entry = entryFor(context, targets);
  const fresh: CheckListEntry = { ...entry, from: "fresh", perTarget: SPARE_DIALS };
  if (local.profile.onlyForNeighbours) {
    return [{ ...fresh, localPorts: nextLocalPorts(local, SPARE_DIALS) }];
  }
  return followsLocalPort(local.profile) ? [entry] : [entry, fresh];
}

function dialPredicted(context: CheckContext): CheckListEntry[] {
  const { remote, limits } = context;
  const { onlyForNeighbours } = remote.profile;
  if (!onlyForNeighbours && followsLocalPort(remote.profile)) {
    const [first, ...next] = predicted(remote, [remote.punchPort], NEXT_FREE_PORTS);
    return [
      entryFor(context, first === undefined ? [] : [first], true),
      entryFor(context, next, false),
    ];
  }
  const [ports, count] = onlyForNeighbours
    ? [nextLocalPorts(remote, SPARE_DIALS), SPARE_DIALS]
    : [[], limits.maxPredictedPorts];
  return [entryFor(context, predicted(remote, ports, Math.min(count, limits.maxPredictedPorts)))];
}

/**
 * Both sides' ports are predicted, so a dial arrives only if each side dials the very port from which the other side's
 * dial to it comes. If other hosts' mappings have shifted the two rows by a and b, the i-th dial of one side and the
 * j-th dial of the other meet if i = b + f(j) and so on: if both sides aim at every next port, they meet only for
 * a + b = 0. If one side aims at every second port, the dials j = a + b and i = a + 2b meet, whatever a and b are.
 */
function dialPairs(context: CheckContext): CheckListEntry[] {
  const { local, remote, party, limits } = context;
  const isExact = followsLocalPort(local.profile) && followsLocalPort(remote.profile);
  const pairs = isExact ? EXACT_PAIRS : limits.maxPredictedPorts;
  const stride = isExact || party === 0 ? 1 : 2;
  const targets = predicted(remote, nextLocalPorts(remote, pairs), stride * pairs)
    .filter((_, index) => index % stride === 0);
  const entry: CheckListEntry = {
    ...entryFor(context, targets),
    from: "fresh",
    spacingMs: PAIR_SPACING_MS,
  };
  const { allocation, onlyForNeighbours } = local.profile;
  return [
    allocation.kind === "sequential" && !onlyForNeighbours
      ? entry
      : { ...entry, localPorts: nextLocalPorts(local, pairs) },
  ];
}

function dialBirthday(
  context: CheckContext,
  { random, birthday }: MethodChoice & { method: "birthday" },
): CheckListEntry {
  const { party, remote, remoteAddress, headStartMs, limits, rttMs = USUAL_RTT_MS } = context;
  const { split, block, first, spacingMs } = birthday;
  const isRandom = party === random;
  const [mine, theirDialsMs] = isRandom
    ? ["random", spacingMs.known * split.ports] as const
    : ["known", spacingMs.random * split.sockets] as const;
  const afterMs = first === "both" || first === mine
    ? 0
    : theirDialsMs + Math.min(rttMs / 2, MAX_MARGIN_MS);
  const allocation = { kind: "random", delta: null, range: null } as const;
  const ports = predictPorts([], allocation, { count: split.ports, portRange: block });
  const randomTargets = remoteAddress === undefined ? [] : [remoteAddress];
  return {
    from: isRandom ? "fresh" : "punch",
    targets: isRandom ? randomTargets : ports.map((port) => externalAddress(remote, port)),
    perTarget: isRandom ? split.sockets : 1,
    startMs: headStartMs + afterMs,
    spacingMs: spacingMs[mine],
    maxTries: 1,
    timeoutMs: limits.birthdayMs,
    isExpected: isRandom,
  };
}

/** Dials all targets at once from the punch port. */
function entryFor(
  context: CheckContext,
  targets: readonly TransportAddress[],
  isExpected = targets.every((target) => target === context.remoteAddress),
): CheckListEntry {
  const { limits } = context;
  // Two NATs that reset let each other in only when SYNs cross, which takes many; ports that are guesses get a few.
  const tries = triesFor(limits, targets.length);
  return {
    from: "punch",
    targets,
    perTarget: 1,
    startMs: startMs(context),
    spacingMs: 0,
    maxTries: isExpected ? tries : Math.min(limits.maxSynsPerPort, tries),
    timeoutMs: limits.timeoutMs,
    isExpected,
  };
}

/**
 * A NAT that resets must see the SYN from inside first: -d1 < tA - tB < d2, with the one-way delays d1 and d2. So the
 * side that knows both descriptions first lets the other catch up if the other's NAT resets, or if SYNs should cross.
 */
function startMs({ choice, local, remote, headStartMs, isUdp }: CheckContext): number {
  if (remote.profile.unsolicitedSyn === "reset") return headStartMs;
  const isEarly = isUdp || headStartMs < MIN_CROSSING_MS || choice.method !== "simultaneous-open";
  if (isEarly || !shouldCross(local.profile, remote.profile)) return 0;
  return Math.min(CROSSING_SHARE * headStartMs, MAX_CROSSING_MS);
}

function predicted(
  remote: PunchDescription,
  localPorts: readonly number[],
  count: number,
): TransportAddress[] {
  const { samples, allocation, onlyForNeighbours } = remote.profile;
  return predictPorts(samples, allocation, { localPorts, onlyForNeighbours, count })
    .map((port) => externalAddress(remote, port));
}

/** The local ports that a side dials from if the other side counts on them: those after the last one that it used. */
function nextLocalPorts({ profile, punchPort }: PunchDescription, count: number): number[] {
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

/** The gate that every target passes, however it came into the plan. */
function withoutForbidden(entry: CheckListEntry, context: DialContext): CheckListEntry {
  return { ...entry, targets: entry.targets.filter((target) => isAllowedTarget(target, context)) };
}

/** By party. */
const ROLES = ["controlling", "controlled"] as const;

/** Chosen by us: two hosts that share an external address, or have no other way, are mostly near each other. */
const CHANCE_OF_INTERFACES = 0.9;

/**
 * How much earlier the addresses of interfaces are dialled if both sides are behind the same NAT. The path through that
 * NAT and back would win as often as not, and would burden the router for good. Chosen by us: several round trips of a
 * LAN.
 */
const LAN_FIRST_MS = 20;

/** Chosen by us: the peer reaches this side within a few round trips, unless what is known of a filter is wrong. */
const REACHABLE_LATER_MS = 600;

/**
 * How much of its head start a side waits so that SYNs cross, how long at most, and which head start is worth it. Chosen
 * by us: early enough for the other side's proof, one way of slow signaling, and more than busy programs are late.
 */
const [CROSSING_SHARE, MAX_CROSSING_MS, MIN_CROSSING_MS] = [3 / 4, 300, 25];

/** One per address family. */
const MAX_MAPPED = 2;

/** Chosen by us: one dial more than needed, in case a SYN is lost. */
const SPARE_DIALS = 2;

/**
 * Chosen by us: enough for the opening SYN to be 1.5 s late, without waiting for a retransmission; with the first dial and
 * its retransmission, as many SYNs as one port may get.
 */
const [SECOND_TRIES, SECOND_TRY_MS] = [6, 250];

/** How many ports after the expected one are dialled, in case that one is taken. Chosen by us. */
const NEXT_FREE_PORTS = 8;

/** Pairs of ports if only a taken port can come in between, and what keeps their dials in order. Chosen by us. */
const [EXACT_PAIRS, PAIR_SPACING_MS] = [4, 3];

/** How much a birthday attempt allows for the two sides not starting at the same time. Chosen by us. */
const MAX_MARGIN_MS = 100;
