/**
 * The dials of each technique, for one side.
 *
 * @module
 */

import { predictPorts } from "../nat/predict.ts";
import type { TransportAddress } from "../net/address.ts";
import type { PunchSide } from "./candidates.ts";
import { type PunchLimits, triesFor } from "./limits.ts";
import { followsLocalPort } from "./nat_profile.ts";
import type { DialGroup } from "./plan_types.ts";
import { type Meeting, type Party, USUAL_RTT_MS } from "./strategy.ts";

/** What one side's dials depend on. */
export interface TechniqueContext {
  /** How the two meet. */
  readonly meeting: Meeting;
  /** Which of the two we are. */
  readonly party: Party;
  /** What we say of ourselves. */
  readonly me: PunchSide;
  /** What the peer says of itself. */
  readonly peer: PunchSide;
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
export function techniqueDials(context: TechniqueContext): DialGroup[] {
  const { meeting, party } = context;
  switch (meeting.technique) {
    case "direct":
    case "crossing":
      return [dialPeer(context)];
    case "opening":
      return meeting.opener === party ? [open(context)] : enter(context);
    case "predicting":
      if (meeting.predicted.length === 2) return dialPairs(context);
      return meeting.predicted.includes(party) ? dialOut(context) : [dialPredicted(context)];
    case "spraying":
      return [spray(context, meeting)];
    case "impossible":
      return [];
  }
}

function dialPeer(context: TechniqueContext): DialGroup {
  const { peerAddress } = context;
  return punchGroup(context, peerAddress === undefined ? [] : [peerAddress]);
}

/** One SYN to the address; the port, if it is not known, does not matter to a filter that goes by addresses. */
function open(context: TechniqueContext): DialGroup {
  const { peer, peerAddress } = context;
  const target = peerAddress ?? externalAddress(peer, peer.punchPort);
  return { ...punchGroup(context, [target]), startMs: 0 };
}

/** Comes a little later than the SYN that opens, and again, since what comes too early would be sent again after 1 s. */
function enter(context: TechniqueContext): DialGroup[] {
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
function dialOut(context: TechniqueContext): DialGroup[] {
  const { me, peerAddress } = context;
  const targets = peerAddress === undefined ? [] : [peerAddress];
  const [first, ...rest] = localPorts(me, SPARE_DIALS);
  const group = punchGroup(context, targets);
  const fresh: DialGroup = { ...group, from: "fresh", perTarget: SPARE_DIALS };
  if (me.profile.onlyForNeighbours) return [{ ...fresh, localPorts: [first!, ...rest] }];
  return followsLocalPort(me.profile) ? [group] : [group, fresh];
}

function dialPredicted(context: TechniqueContext): DialGroup {
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
function dialPairs(context: TechniqueContext): DialGroup[] {
  const { me, peer, party, limits } = context;
  const isExact = followsLocalPort(me.profile) && followsLocalPort(peer.profile);
  const pairs = isExact ? EXACT_PAIRS : limits.maxPredictedPorts;
  const stride = isExact || party === 0 ? 1 : 2;
  const targets = predicted(peer, localPorts(peer, pairs), stride * pairs)
    .filter((_, index) => index % stride === 0);
  const group: DialGroup = {
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
  context: TechniqueContext,
  meeting: Meeting & { technique: "spraying" },
): DialGroup {
  const { party, peer, peerAddress, headStartMs, limits, rttMs = USUAL_RTT_MS } = context;
  const { split, block, first, spacingMs } = meeting.spray;
  const isRandom = party === meeting.random;
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
    giveUpMs: limits.sprayMs,
  };
}

function punchGroup(
  context: TechniqueContext,
  targets: readonly TransportAddress[],
): DialGroup {
  const { limits } = context;
  return {
    from: "punch",
    targets,
    perTarget: 1,
    startMs: startMs(context),
    spacingMs: 0,
    maxTries: triesFor(limits, targets.length),
    giveUpMs: limits.patienceMs,
  };
}

/**
 * A NAT that resets has to see the SYN from inside first: -d1 < tA - tB < d2, with the one-way delays d1 and d2. So
 * whoever knows first lets the other catch up, if the other's NAT resets; a NAT that drops can be reached early.
 */
function startMs({ peer, headStartMs }: TechniqueContext): number {
  return peer.profile.unsolicitedSyn === "reset" ? headStartMs : 0;
}

function predicted(
  peer: PunchSide,
  localPorts: readonly number[],
  count: number,
): TransportAddress[] {
  const { samples, allocation, onlyForNeighbours } = peer.profile;
  return predictPorts(samples, allocation, { localPorts, onlyForNeighbours, count })
    .map((port) => externalAddress(peer, port));
}

/** The local ports that a side dials from where the other counts on them: those after the last that it used. */
function localPorts({ profile, punchPort }: PunchSide, count: number): number[] {
  const last = profile.onlyForNeighbours ? profile.samples.at(-1)?.localPort : undefined;
  const used = new Set([punchPort, ...profile.samples.map(({ localPort }) => localPort)]);
  const ports: number[] = [];
  for (let port = (last ?? punchPort) + 1; ports.length < count; port++) {
    const wrapped = port > 65_535 ? port - 64_512 : port;
    if (!used.has(wrapped)) ports.push(wrapped);
  }
  return ports;
}

function externalAddress({ profile }: PunchSide, port: number): TransportAddress {
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
