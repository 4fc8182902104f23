/**
 * What a NAT test means to somebody who wants to connect.
 *
 * @module
 */

import type { Behavior, Difficulty, FamilyReport, NatReport } from "./behavior.ts";

/** How hard it is to connect over one transport and family, by its behaviours. */
export function difficultyOf(report: FamilyReport): Difficulty {
  if (!report.reachable) return "blocked";
  const { mapping, filtering, allocation } = report;
  switch (mapping.behavior) {
    case "none":
      return filtering.behavior === "none" ? "open" : "easy";
    case "endpoint-independent":
      return "easy";
    case "address-dependent":
    case "address-and-port-dependent":
      return allocation.kind === "random" || allocation.kind === "unknown" ? "hard" : "moderate";
    case "unknown":
      return "unknown";
  }
}

/**
 * The verdict over all that was tested: that of the family and transport that a connection would use, TCP before
 * UDP because this library punches TCP, and IPv4 before IPv6 because most peers have it.
 *
 * @param silence what it means if nothing answered: there is no network, or there was too little time to tell
 */
export function overallVerdict(
  reports: Pick<NatReport, "udp" | "tcp">,
  silence: { isOffline: boolean; isHasty: boolean },
): NatReport["verdict"] {
  const { udp, tcp } = reports;
  const asked = [tcp.ipv4, udp.ipv4, tcp.ipv6, udp.ipv6].filter((report) => report !== null);
  const reachable = asked.filter((report) => report.reachable);
  if (reachable.length === 0) {
    if (silence.isHasty && asked.length > 0) {
      return { difficulty: "unknown", summary: "No server answered in so short a time" };
    }
    if (silence.isOffline) {
      return {
        difficulty: "offline",
        summary: "No network: packets cannot leave this machine, or none comes back",
      };
    }
    return { difficulty: "blocked", summary: "There is a network, but STUN does not pass" };
  }
  const isUdpBlocked = [udp.ipv4, udp.ipv6].some((report) => report !== null) &&
    !udp.ipv4?.reachable && !udp.ipv6?.reachable;
  const decisive = reachable.find((report) => difficultyOf(report) !== "unknown") ?? reachable[0]!;
  const difficulty = difficultyOf(decisive);
  if (isUdpBlocked) {
    return { difficulty: "blocked", summary: `UDP is blocked; over TCP: ${SUMMARIES[difficulty]}` };
  }
  const overUdp = decisive === tcp.ipv4 ? udp.ipv4 : decisive === tcp.ipv6 ? udp.ipv6 : null;
  const differing = overUdp?.reachable ? difficultyOf(overUdp) : difficulty;
  const addition = differing === difficulty || differing === "unknown"
    ? ""
    : `; over UDP, ${SUMMARIES[differing]}`;
  return { difficulty, summary: `${nameOf(decisive)}: ${SUMMARIES[difficulty]}${addition}` };
}

/** What works from here, in plain words, one sentence each. */
export function explainFamily(report: FamilyReport): string[] {
  const { mapping, filtering, allocation, unsolicitedSyn } = report;
  const sentences: string[] = [];
  const difficulty = difficultyOf(report);
  switch (difficulty) {
    case "open":
      return ["Anyone can connect to this machine directly."];
    case "easy":
      if (mapping.behavior === "none" && filtering.behavior === "unknown") {
        return ["No NAT; whether a firewall keeps peers out could not be told."];
      }
      sentences.push(
        mapping.behavior === "none"
          ? "No NAT, but a firewall: a peer gets in once this machine has sent to it."
          : "A punched hole works with every peer whose external port can be known or predicted.",
        PEERS_THAT_GET_IN[filtering.behavior],
      );
      break;
    case "moderate":
      sentences.push(
        "External ports differ by destination, but follow a pattern " +
          `(${allocationText(allocation)}): punching works by prediction with most peers.`,
        "With a peer behind a symmetric NAT as well it often fails: have a relay at hand.",
      );
      break;
    case "hard":
      sentences.push(
        "External ports differ by destination and cannot be predicted.",
        "Connects with peers that are open, or filter by address at most; with others expect to need a relay.",
      );
      break;
    case "blocked":
      return report.details.packetsSent === 0
        ? ["No server was asked."]
        : ["No answer from any server: this traffic does not pass."];
    default:
      sentences.push("Too little was learned to say what works; the evidence tells why.");
  }
  if (unsolicitedSyn === "reset") {
    sentences.push("Early TCP SYNs are answered with a reset: this side should dial first.");
  }
  return sentences;
}

/** "one above the last", for text. */
export function allocationText({ kind, delta, range }: FamilyReport["allocation"]): string {
  const within = range === null ? "" : `, seen ${range[0]} to ${range[1]}`;
  switch (kind) {
    case "preserving":
      return "the local port is kept";
    case "offset":
      return `the local port ${signed(delta)}`;
    case "sequential":
      return `the last port ${signed(delta)}${within}`;
    case "random":
      return `no pattern${within}`;
    case "unknown":
      return "unknown";
  }
}

function signed(delta: number | null): string {
  return delta === null ? "plus something" : delta < 0 ? `minus ${-delta}` : `plus ${delta}`;
}

function nameOf({ mapping, filtering, rfc3489Name }: FamilyReport): string {
  if (mapping.behavior === "unknown") return "NAT of unknown kind";
  return mapping.behavior === "none" && filtering.behavior === "unknown" ? "No NAT" : rfc3489Name;
}

/** By how a NAT that maps independently of the endpoint, or a firewall, filters. */
const PEERS_THAT_GET_IN: Readonly<Record<Behavior, string>> = {
  "none": "Nothing is filtered.",
  "endpoint-independent":
    "Once a port is open from inside, anyone can reach it, whatever NAT they have.",
  "address-dependent":
    "A peer's port need not be known, only its address: peers behind symmetric NATs get in too.",
  "address-and-port-dependent":
    "A peer behind a symmetric NAT that chooses ports at random gets in only by guessing among " +
    "thousands: have a relay at hand.",
  "unknown":
    "From whom packets are let in is not known: with peers behind symmetric NATs it may take a relay.",
};

const SUMMARIES: Readonly<Record<Difficulty, string>> = {
  open: "anyone can connect to this machine",
  easy: "direct connections work with nearly all peers",
  moderate: "direct connections work with most peers, by predicting ports",
  hard: "direct connections work with few peers; have a relay at hand",
  blocked: "this traffic does not pass",
  offline: "no network",
  unknown: "too little was learned to say what works",
};
