/**
 * What two networks can do with each other, from what is known about each: the plan of a punch over UDP and over TCP, a
 * router that opens ports, IPv6, a relay. And which of the two has to change if that is not enough.
 *
 * @module
 */

import { PUNCH_LIMITS, UDP_LIMITS } from "../punch/limits.ts";
import { dependsOnDestination, type NatProfile } from "../punch/nat_profile.ts";
import { chooseMethod, type MethodChoice } from "../punch/strategy.ts";
import { shortened } from "./redaction.ts";
import type {
  Expectation,
  Fault,
  ForeignReport,
  NetworkProfile,
  PairReport,
  PeerOutlook,
  TransportFacts,
} from "./report_message.ts";

/** What to expect of two networks. */
export interface PairExpectation {
  readonly expectation: Expectation;
  /** The chance of a direct connection, 0 to 1. */
  readonly directChance: number;
  readonly reason: string;
  /** Which network keeps the two from connecting directly; `null` if they do. */
  readonly fault: Fault | null;
  readonly remedies: readonly string[];
}

/** What to expect of this network (first) and another one. */
export function expectPair(here: NetworkProfile, there: NetworkProfile): PairExpectation {
  const { chance, reason } = directWay(here, there);
  const expectation = expectationOf(chance, hasRelay(here, there));
  const fault = chance >= LIKELY ? null : faultOf(here, there);
  return {
    expectation,
    directChance: chance,
    reason,
    fault,
    remedies: fault === null ? [] : remediesFor(fault, here, there, expectation),
  };
}

/**
 * What is expected of this network and another one, what happened, and which of the two has to change.
 *
 * @param report of the other side; `null` if there is no such report
 * @param tried what happened; `null` if it was not tried
 */
export function pairReport(
  here: NetworkProfile,
  report: ForeignReport | null,
  tried: PairReport["tried"],
): PairReport {
  const there = report?.profile ?? null;
  const expected = there === null ? null : expectPair(here, there);
  const outcome = tried?.outcome ?? expected!.expectation;
  // Silence that was to be expected has the cause that was expected, too.
  const isExpected = expected?.expectation === "none" || isCutOff(here);
  const isSilent = tried !== null && !tried.isAnswered && !isExpected;
  const fault = outcome === "direct" || isSilent
    ? null
    : expected?.fault ?? faultWithoutReport(here);
  const other = there ?? HOME;
  const remedies = isSilent
    ? [NO_ANSWER_REMEDY]
    : fault === null
    ? []
    : remediesFor(fault, here, other, outcome);
  return {
    there: report?.summary ?? null,
    expected: expected && {
      expectation: expected.expectation,
      directChance: expected.directChance,
      reason: expected.reason,
    },
    tried,
    fault,
    summary: isSilent ? NO_ANSWER : summaryOf(outcome, tried !== null, fault),
    remedies,
  };
}

/** What works with peers in networks of the usual kinds. */
export function outlooks(here: NetworkProfile): PeerOutlook[] {
  return REFERENCE_PEERS.map(({ peer, profile }) => {
    const { chance, reason } = directWay(here, profile);
    // A peer can be told to use the same server.
    const expectation = expectationOf(chance, here.relays.length > 0);
    return { peer, expectation, directChance: chance, reason };
  });
}

/** Whether nothing comes back to this network but through a proxy. */
export function isCutOff({ udp, tcp, hasIpv6, opensPorts }: NetworkProfile): boolean {
  return udp === null && tcp === null && !hasIpv6 && !opensPorts;
}

interface Way {
  readonly chance: number;
  readonly reason: string;
}

function expectationOf(chance: number, isRelayed: boolean): Expectation {
  return chance >= LIKELY ? "direct" : isRelayed ? "relay" : "none";
}

/** The two ways that are likeliest, together: both are tried at once. */
function directWay(here: NetworkProfile, there: NetworkProfile): Way {
  if (isCutOff(here) || isCutOff(there)) {
    return {
      chance: 0,
      reason: `nothing comes back directly to ${isCutOff(here) ? "this" : "the other"} network`,
    };
  }
  if (here.hasIpv6 && there.hasIpv6) return { chance: 0.97, reason: "over IPv6, without a NAT" };
  const mapped = [here, there].find(({ opensPorts }) => opensPorts);
  if (mapped !== undefined) {
    const whose = mapped === here ? "this" : "the other";
    return { chance: 0.95, reason: `through a port that ${whose} network's router opens` };
  }
  const ways = [
    way("UDP", here.udp, there.udp),
    way("TCP", here.tcp, there.tcp),
  ].sort((a, b) => b.chance - a.chance);
  const [best] = ways;
  return {
    chance: 1 - ways.reduce((miss, { chance }) => miss * (1 - chance), 1),
    reason: best!.reason,
  };
}

function way(
  name: "UDP" | "TCP",
  here: TransportFacts | null,
  there: TransportFacts | null,
): Way {
  if (here === null || there === null) {
    const whose = here === null ? "this" : "the other";
    return { chance: 0, reason: `${name} does not get through ${whose} network` };
  }
  const { method, success, reason } = choose(name, here, there);
  if (method === "impossible") {
    return { chance: 0, reason: `over ${name}: ${withoutRemedy(reason)}` };
  }
  return {
    chance: success,
    reason: `over ${name}: ${reason}, about ${Math.round(100 * success)} %`,
  };
}

function choose(name: "UDP" | "TCP", here: TransportFacts, there: TransportFacts): MethodChoice {
  const view = (facts: TransportFacts) => {
    const profile = profileOf(name, facts);
    const isFixed = !dependsOnDestination(profile);
    return {
      profile,
      hasPublicIp: true,
      hasPublicAddress: isFixed,
      isMapped: false,
      canListenBeside: true,
    };
  };
  const limits = name === "UDP" ? UDP_LIMITS : PUNCH_LIMITS;
  return chooseMethod([view(here), view(there)], { limits });
}

/** As a punch sees it. A NAT that counts is sampled shortly before the punch. */
function profileOf(name: "UDP" | "TCP", facts: TransportFacts): NatProfile {
  const { mapping, filtering, allocation, delta, onlyForNeighbours, addresses } = facts;
  return {
    mapping,
    filtering,
    unsolicitedSyn: name === "UDP" ? "unknown" : facts.unsolicitedSyn,
    ...name === "UDP" ? {} : { crossingSyn: facts.crossingSyn },
    allocation: { kind: allocation, delta, range: null },
    onlyForNeighbours,
    externalIp: null,
    ...addresses > 1 ? { externalIps: Array<string>(addresses).fill("") } : {},
    samples: [{ localPort: 50_000, externalPort: 50_000 }],
  };
}

/** Remedies are listed by themselves. */
function withoutRemedy(reason: string): string {
  return reason.replace(/; a relay, a port mapped.*$/, "").replace(/: impossible: /, ": ");
}

/** The other side's report may have shortened the addresses of servers. */
function hasRelay(here: NetworkProfile, there: NetworkProfile): boolean {
  const [ours, theirs] = [here, there].map(({ meets, relays }) => ({
    meets: meets.map(shortened),
    relays: relays.map(shortened),
  })) as [Record<"meets" | "relays", string[]>, Record<"meets" | "relays", string[]>];
  return ours.relays.some((relay) =>
    theirs.relays.includes(relay) || theirs.meets.includes(relay)
  ) ||
    theirs.relays.some((relay) => ours.meets.includes(relay));
}

/** The network that would fail with an ordinary home network, too; or both, if either would do with the other changed. */
function faultOf(here: NetworkProfile, there: NetworkProfile): Fault {
  const [ours, theirs] = [here, there].map((profile) => directWay(profile, HOME).chance);
  const isHere = ours! < LIKELY;
  const isThere = theirs! < LIKELY;
  if (isHere !== isThere) return isHere ? "this network" : "the other network";
  // Both are hard, or each is all right alone: the one that lets fewer peers in has more to change.
  const [here1, there1] = [openness(here), openness(there)];
  if (here1 === there1) return "both networks";
  return here1 < there1 ? "this network" : "the other network";
}

/** Without the other side's report: what fails although this network does with an ordinary one is the other's doing. */
function faultWithoutReport(here: NetworkProfile): Fault {
  return directWay(here, HOME).chance < LIKELY ? "this network" : "the other network";
}

function summaryOf(outcome: Expectation, isTried: boolean, fault: Fault | null): string {
  const summary = (isTried ? TRIED : EXPECTED)[outcome];
  return fault === null
    ? summary
    : `${summary}: ${fault} ${fault === "both networks" ? "stand" : "stands"} in the way`;
}

/** How many of the usual peers a network connects with directly. */
function openness(profile: NetworkProfile): number {
  return REFERENCE_PEERS.filter(({ profile: peer }) => directWay(profile, peer).chance >= LIKELY)
    .length;
}

function remediesFor(
  fault: Fault,
  here: NetworkProfile,
  there: NetworkProfile,
  expectation: Expectation,
): string[] {
  const where = fault === "this network"
    ? "in this network"
    : fault === "the other network"
    ? "in the other network"
    : "in either network";
  const blamed = fault === "the other network" ? there : here;
  const remedies = [
    blamed.udp === null
      ? `Allow UDP to leave ${where}, in the firewall or the VPN`
      : `Open a port on the router ${where}: \`punchline map probe\` there says whether it can`,
    ...here.hasIpv6 !== there.hasIpv6 ? [`Turn on IPv6 in the network that lacks it`] : [],
  ];
  return expectation === "relay" ? remedies : [
    "Meet at a server that relays: run `punchline serve` where both can reach it, and give both --rendezvous",
    ...remedies,
  ];
}

const TRIED: Readonly<Record<Expectation, string>> = {
  direct: "The two connect directly",
  relay: "The two connect through a relay only",
  none: "The two do not connect",
};

const NO_ANSWER = "The other side has not answered, so the networks could not be tried";

const NO_ANSWER_REMEDY =
  "Check that `listen` still runs there, that the ticket is its latest, and that both sides meet at the same server";

const EXPECTED: Readonly<Record<Expectation, string>> = {
  direct: "The two should connect directly",
  relay: "The two should connect through a relay only",
  none: "The two should not be able to connect",
};

/** Chosen by us: what works every other time is worth expecting, as the sides try again. */
const LIKELY = 0.5;

const CONE: TransportFacts = {
  mapping: "endpoint-independent",
  filtering: "address-and-port-dependent",
  allocation: "preserving",
  delta: 0,
  onlyForNeighbours: false,
  unsolicitedSyn: "dropped",
  crossingSyn: "accepted",
  addresses: 1,
};

const OPEN: TransportFacts = { ...CONE, mapping: "none", filtering: "none" };

const SEQUENTIAL: TransportFacts = {
  ...CONE,
  mapping: "address-and-port-dependent",
  allocation: "sequential",
  delta: 1,
};

const RANDOM: TransportFacts = { ...SEQUENTIAL, allocation: "random", delta: null };

function network(udp: TransportFacts | null, tcp: TransportFacts | null): NetworkProfile {
  return {
    udp,
    tcp,
    hasIpv6: false,
    opensPorts: false,
    external: null,
    meets: [],
    relays: [],
  };
}

/** What most peers are behind. */
const HOME = network(CONE, CONE);

/** The usual kinds, the easiest first. */
const REFERENCE_PEERS: readonly { readonly peer: string; readonly profile: NetworkProfile }[] = [
  { peer: "on a server, or with an open port", profile: network(OPEN, OPEN) },
  { peer: "behind a home router", profile: HOME },
  { peer: "with IPv6", profile: { ...HOME, hasIpv6: true } },
  { peer: "behind a NAT that counts ports up", profile: network(SEQUENTIAL, SEQUENTIAL) },
  { peer: "behind a NAT with random ports", profile: network(RANDOM, RANDOM) },
  { peer: "where UDP is blocked", profile: network(null, CONE) },
];
