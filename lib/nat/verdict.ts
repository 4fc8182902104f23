/**
 * What the results of a NAT test mean for connections.
 *
 * @module
 */

import type {
  Behavior,
  Difficulty,
  FamilyReport,
  Finding,
  NatReport,
  VerdictScope,
} from "./behavior.ts";

/** How hard it is to connect over one transport and family. */
export function difficultyOf(report: FamilyReport): Difficulty {
  if (!report.reachable) return "blocked";
  const { mapping, filtering, allocation } = report;
  switch (mapping.behavior) {
    case "none":
      if (filtering.behavior === "none") return "open";
      return mustNotCross(report) ? "moderate" : "easy";
    case "endpoint-independent":
      return mustNotCross(report) ? "moderate" : "easy";
    case "address-dependent":
    case "address-and-port-dependent":
      if (hasPool(report)) return "hard";
      return allocation.kind === "random" || allocation.kind === "unknown" ? "hard" : "moderate";
    case "unknown":
      return "unknown";
  }
}

/** Whether UDP was tested, and no server answered over it. */
export function isUdpBlocked({ ipv4, ipv6 }: NatReport["udp"]): boolean {
  return (ipv4 !== null || ipv6 !== null) && !ipv4?.reachable && !ipv6?.reachable;
}

/** What it means if no server answered. */
export interface Silent {
  readonly cause?: Finding;
  readonly isHasty: boolean;
}

/** Whether TCP connections fail with a peer whose NAT does the same: both keep out the SYN that the other needs. */
function mustNotCross({ crossingSyn, filtering }: FamilyReport): boolean {
  return crossingSyn === "dropped" && filtering.behavior === "address-and-port-dependent";
}

/** Whether mappings get one of several addresses, so that not even the address is known before a mapping is made. */
function hasPool({ details }: FamilyReport): boolean {
  return details.externalIps.length > 1;
}

/**
 * The overall verdict: the one on the family and transport that a connection would use. TCP comes before UDP because this
 * library punches TCP, and IPv4 before IPv6 because most peers have it.
 *
 * @param silence what it means if no server answered: `cause`, if it is known; `isHasty`, the timeout was too short to
 * tell
 * @param scopeOf where a server is, as it is in a report. Default: on the internet
 */
export function overallVerdict(
  reports: Pick<NatReport, "udp" | "tcp">,
  silence: Silent,
  scopeOf: (server: string) => VerdictScope = () => "internet",
): NatReport["verdict"] {
  const { decisive, ...verdict } = verdictAnywhere(reports, silence);
  const server = decisive?.server ?? null;
  const scope = server === null ? "internet" : scopeOf(server);
  if (scope === "internet") return { ...verdict, scope };
  const open = `Open Internet: ${SUMMARIES.open}`;
  const summary = verdict.summary.replace(open, "No NAT: anyone here can connect");
  return { ...verdict, scope, summary: `${LOCAL_SERVER[scope]}. ${summary}` };
}

function verdictAnywhere(
  reports: Pick<NatReport, "udp" | "tcp">,
  silence: Silent,
): Omit<NatReport["verdict"], "scope"> & { readonly decisive?: FamilyReport } {
  const { udp, tcp } = reports;
  const asked = [tcp.ipv4, udp.ipv4, tcp.ipv6, udp.ipv6].filter((report) => report !== null);
  const reachable = asked.filter((report) => report.reachable);
  if (reachable.length === 0) {
    if (silence.isHasty && asked.length > 0) {
      return { difficulty: "unknown", summary: "No server answered within the short timeout" };
    }
    const { kind, summary } = silence.cause ?? { kind: "blocked", summary: NOTHING_CAME_BACK };
    return { difficulty: kind === "offline" ? "offline" : "blocked", summary };
  }
  const decisive = reachable.find((report) => difficultyOf(report) !== "unknown") ?? reachable[0]!;
  const difficulty = difficultyOf(decisive);
  if (isUdpBlocked(udp)) {
    const summary = `UDP is blocked; over TCP: ${summaryOf(decisive)}`;
    return { difficulty: "blocked", summary, decisive };
  }
  const overUdp = decisive === tcp.ipv4 ? udp.ipv4 : decisive === tcp.ipv6 ? udp.ipv6 : null;
  const differing = overUdp?.reachable ? difficultyOf(overUdp) : difficulty;
  const addition = differing === difficulty || differing === "unknown"
    ? ""
    : `; over UDP, ${SUMMARIES[differing]}`;
  const summary = `${nameOf(decisive)}: ${summaryOf(decisive)}${addition}`;
  return { difficulty, summary, decisive };
}

function summaryOf(report: FamilyReport): string {
  const difficulty = difficultyOf(report);
  return difficulty === "moderate" && mustNotCross(report)
    ? "direct connections work with most peers; over TCP, not with those behind a NAT like this"
    : SUMMARIES[difficulty];
}

/**
 * Which connections will work, in plain words, one sentence each.
 *
 * @param scope where that holds. Default: everywhere
 */
export function explainFamily(report: FamilyReport, scope: VerdictScope = "internet"): string[] {
  const { mapping, filtering, allocation, unsolicitedSyn } = report;
  const sentences: string[] = [];
  const difficulty = difficultyOf(report);
  switch (difficulty) {
    case "open":
      return scope === "internet" ? ["Anyone can connect to this machine directly."] : [
        `${
          scope === "machine" ? "Programs on this machine" : "Machines in this network"
        } can connect to it directly.`,
        "Test with a server on the internet to learn who else can.",
      ];
    case "easy":
      if (mapping.behavior === "none" && filtering.behavior === "unknown") {
        return ["No NAT. The test could not tell whether a firewall keeps peers out."];
      }
      sentences.push(
        mapping.behavior === "none"
          ? "No NAT, but a firewall: a peer can connect once this machine has sent packets to it."
          : "Hole punching works with every peer whose external port is known or predictable.",
        PEERS_THAT_GET_IN[filtering.behavior],
      );
      break;
    case "moderate":
      if (mustNotCross(report)) {
        sentences.push(
          "SYNs that cross one of this machine's are kept out: simultaneous open works only if the peer's NAT lets them in.",
          "TCP fails with a peer whose NAT keeps them out as well: such a pair needs UDP or a relay.",
          PEERS_THAT_GET_IN[filtering.behavior],
        );
        break;
      }
      sentences.push(
        "External ports vary by destination but follow a pattern " +
          `(${
            allocationText(allocation)
          }): hole punching works with most peers, by port prediction.`,
        "It often fails if the peer is behind a symmetric NAT as well: set up a relay.",
      );
      break;
    case "hard":
      sentences.push(
        hasPool(report)
          ? `External addresses vary by destination, ${report.details.externalIps.length} of them so far, and cannot be predicted.`
          : "External ports vary by destination and cannot be predicted.",
        "Direct connections work only with peers that are open or do not filter by port. Set up a relay for the others.",
      );
      break;
    case "blocked":
      return report.details.packetsSent === 0
        ? ["Nothing was sent to any server."]
        : ["No server answered: this traffic is blocked."];
    default:
      sentences.push("The test could not find out what works. The evidence says why.");
  }
  if (hasPool(report) && difficulty !== "hard") {
    sentences.push(
      "The NAT has a pool of addresses and does not keep to one (RFC 4787 REQ-2 recommends that): " +
        "peers that were told one address see another for each new port.",
    );
  }
  if (unsolicitedSyn === "reset") {
    sentences.push(
      "TCP SYNs that arrive early are answered with a reset: this side should dial first.",
    );
  }
  return sentences;
}

/** How ports are chosen, as a phrase: "the last port plus 1, seen 50000 to 50005". */
export function allocationText({ kind, delta, range }: FamilyReport["allocation"]): string {
  const within = range === null ? "" : `, seen ${range[0]} to ${range[1]}`;
  switch (kind) {
    case "preserving":
      return "same as the local port";
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

/** By the filtering of a NAT with endpoint-independent mapping, or of a firewall. */
const PEERS_THAT_GET_IN: Readonly<Record<Behavior, string>> = {
  "none": "Nothing is filtered.",
  "endpoint-independent":
    "Once this machine has opened a port, anyone can reach it, whatever NAT they are behind.",
  "address-dependent":
    "Only the peer's address must be known, not its port: peers behind symmetric NATs can connect too.",
  "address-and-port-dependent":
    "A peer behind a symmetric NAT with random ports can connect only by guessing among thousands of ports: " +
    "set up a relay.",
  "unknown":
    "The filtering is unknown: connections with peers behind symmetric NATs may need a relay.",
};

const NOTHING_CAME_BACK = "Nothing came back from any server";

const LOCAL_SERVER: Readonly<Record<Exclude<VerdictScope, "internet">, string>> = {
  network: "The server is in this network, so this holds only inside it",
  machine: "The server is on this machine, so this holds only here",
};

const SUMMARIES: Readonly<Record<Difficulty, string>> = {
  open: "anyone can connect to this machine",
  easy: "direct connections work with nearly all peers",
  moderate: "direct connections work with most peers, by port prediction",
  hard: "direct connections work with few peers; set up a relay",
  blocked: "this traffic is blocked",
  offline: "no network",
  unknown: "the test could not find out what works",
};
