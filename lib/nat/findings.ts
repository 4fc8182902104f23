/**
 * What stands between this host and the servers that it asks: observations in, causes with remedies out. Pure; the checks
 * themselves are in `examination.ts`.
 *
 * @module
 */

import type { NetworkErrorReason } from "../base/errors.ts";
import type { IpFamily } from "../net/address.ts";
import type { Finding } from "./behavior.ts";

/** What checks have shown about a network that did not carry what it should. */
export interface NetworkEvidence {
  /** Whether the system sends packets: `"refused"` by its firewall, `"no route"` if it has no way to send them. */
  readonly sending: "sends" | "no route" | "refused";
  /** The one family that this host can send over, where there is only one. */
  readonly onlyFamily: IpFamily | null;
  /** How the names of servers resolved. */
  readonly names: NameEvidence;
  /** What became of connections to the servers. */
  readonly dials: readonly DialEvidence[];
  /** The answer to a plain HTTP request on port 80 of a server. */
  readonly web: WebAnswer | null;
  /** Whether a server answered with another protocol than its own, or a certificate that is not its own. */
  readonly hasWrongAnswer: boolean;
  /** The name of an interface by whose address a server is reached, while by the default route it is not. */
  readonly otherWay: string | null;
  /** The name of an interface that leads into a VPN; `null` if none is known. */
  readonly vpn: string | null;
  /** The proxy that programs on this host are set up to use; `null` if none is known. */
  readonly proxy: string | null;
  /** Whether a STUN server answered over UDP; left out if none was asked. */
  readonly hasUdp?: boolean;
  /** The default routes by which packets could leave, as far as they are known. */
  readonly routes: readonly string[];
}

/** How names resolved. */
export interface NameEvidence {
  /** How many had to be resolved; addresses do not count. */
  readonly asked: number;
  readonly found: number;
  /** Why the others were not found. */
  readonly faults: readonly NameFault[];
  /** The address that names of several operators lead to, which cannot be right. */
  readonly sharedIp: string | null;
  /** A name of the internet that leads to this host or its own network. */
  readonly redirected: { readonly name: string; readonly ip: string } | null;
}

/** Why a name was not found: the name server was silent, it refused to answer, or it knows no such name. */
export type NameFault = "silent" | "refused" | "not found";

/** What became of a connection. */
export interface DialEvidence {
  readonly port: number;
  /** Whether it is the port that the server is known to have. */
  readonly isAsked: boolean;
  readonly outcome: "accepted" | "refused" | "unreachable" | "silent";
}

/** An answer to an HTTP request. */
export interface WebAnswer {
  readonly status: number;
  /** The host that it redirects to; `null` without a redirect, or if it leads to the same host. */
  readonly leadsTo: string | null;
}

/** The likely causes, the most certain first; at least one. Call it only if nothing that was needed has worked. */
export function explainNetwork(evidence: NetworkEvidence): Finding[] {
  const { sending, names } = evidence;
  if (sending === "no route") {
    return [evidence.onlyFamily === null ? FINDINGS.offline : otherFamily(evidence.onlyFamily)];
  }
  if (sending === "refused") return [FINDINGS.firewallHere];
  const otherWay = evidence.otherWay === null ? [] : [otherWayFinding(evidence.otherWay)];
  const portal = findPortal(evidence);
  const dns = names.asked > 0 && names.found === 0 ? [dnsFinding(names.faults)] : [];
  const path = explainDials(evidence);
  if (portal !== undefined) return [portal, ...path.filter(({ kind }) => kind === "web-only")];
  // Without the address of any server there is nothing else to judge by.
  if (dns.length > 0 && evidence.dials.length === 0) return [...dns, ...sideFindings(evidence)];
  const redirect = names.redirected === null ? [] : [redirectFinding(names.redirected)];
  // A server may be in this network on purpose, but not at an address that no other host has.
  const isAbsurd = /^(?:0\.|127\.|::)/.test(names.redirected?.ip ?? "");
  const causes = isAbsurd ? [...redirect, ...path] : [...path, ...redirect];
  const all = [...otherWay, ...causes, ...dns, ...sideFindings(evidence)];
  return all.filter(({ kind }, index) => all.findIndex((each) => each.kind === kind) === index);
}

/** Why a name did not resolve. */
export function nameFault(reason: NetworkErrorReason, elapsedMs: number): NameFault {
  if (reason === "name-not-found") return "not found";
  return elapsedMs < REFUSED_WITHIN_MS ? "refused" : "silent";
}

/** What is known about UDP if only TCP gets through. */
export const UDP_BLOCKED: Finding = {
  kind: "udp-blocked",
  summary: "UDP is blocked: nothing came back over UDP, while TCP gets through",
  remedy:
    "Allow UDP to leave in the firewall or the VPN; until then connections use TCP or a relay",
};

/** Whether connections by TCP were tried, and nothing came back from any of them. */
export function isTcpSilent({ dials }: Pick<NetworkEvidence, "dials">): boolean {
  const came: readonly DialEvidence["outcome"][] = ["accepted", "refused"];
  return dials.length > 0 && dials.every(({ outcome }) => !came.includes(outcome));
}

/** What is known if only UDP gets through, and these ports were tried by TCP. */
export function tcpBlocked(tried: readonly number[]): Finding {
  const ports = [...new Set(tried)].sort((one, other) => one - other);
  const [last] = ports.slice(-1);
  const named = ports.length === 1
    ? `port ${last}`
    : `ports ${ports.slice(0, -1).join(", ")} and ${last}`;
  return {
    kind: "tcp-blocked",
    summary:
      `TCP is blocked: no connection to ${named} of the servers got through, while UDP is answered`,
    remedy:
      "Ask whoever runs this network to let TCP out to one of these ports, or use a proxy or another network: peers find each other by TCP, even if they connect by UDP",
  };
}

function otherFamily(family: IpFamily): Finding {
  const other = family === 4 ? 6 : 4;
  return {
    kind: "offline",
    summary: `This machine has IPv${family} alone, and the servers have IPv${other} alone`,
    remedy: `Use a server with an IPv${family} address, or a network with IPv${other}`,
  };
}

function findPortal({ web, hasWrongAnswer, names }: NetworkEvidence): Finding | undefined {
  if (web === null) return undefined;
  const isPortal = web.status === NETWORK_AUTHENTICATION_REQUIRED || web.leadsTo !== null ||
    hasWrongAnswer || names.sharedIp !== null;
  if (!isPortal) return undefined;
  const at = web.leadsTo === null ? "" : `, at ${web.leadsTo}`;
  return {
    kind: "captive-portal",
    summary: `A sign-in page (captive portal) answers in place of the servers${at}`,
    remedy: "Open any web page in a browser, sign in to this network, and try again",
  };
}

function explainDials({ dials, proxy, hasUdp = false }: NetworkEvidence): Finding[] {
  const came = dials.filter(({ outcome }) => outcome === "accepted" || outcome === "refused");
  const asked = came.filter(({ isAsked }) => isAsked);
  const web = [...new Set(came.filter(({ isAsked }) => !isAsked).map(({ port }) => port))].sort();
  const isOpen = dials.some(({ outcome, isAsked }) => outcome === "accepted" && isAsked);
  if (isOpen) return [FINDINGS.answersNothing];
  if (asked.length > 0 && asked.every(({ outcome }) => outcome === "refused")) {
    return [
      came.every(({ outcome }) => outcome === "refused") ? FINDINGS.refused : FINDINGS.noServer,
    ];
  }
  if (web.length > 0) {
    const ports = web.length === 1 ? `port ${web[0]}` : `ports ${web.join(" and ")}`;
    return [{
      kind: "web-only",
      summary:
        `Only ${ports} can be reached from this network; the other ports of the servers are blocked`,
      remedy: web.includes(443)
        ? "Use a rendezvous or a relay on port 443, such as wss://HOST or turns:HOST:443, or ask for the other ports to be opened"
        : "Ask whoever runs this network to open the ports, or use another network",
    }];
  }
  if (hasUdp && isTcpSilent({ dials })) return [tcpBlocked(dials.map(({ port }) => port))];
  if (proxy !== null) return [proxyFinding(proxy)];
  if (dials.some(({ outcome }) => outcome === "unreachable")) return [FINDINGS.rejected];
  return [FINDINGS.blocked];
}

function sideFindings({ vpn, proxy, routes, hasUdp = false }: NetworkEvidence): Finding[] {
  const findings: Finding[] = [];
  if (proxy !== null && !hasUdp) findings.push(proxyFinding(proxy));
  if (vpn !== null) {
    findings.push({
      kind: "vpn",
      summary: `${vpn} looks like a VPN, and may swallow what is sent`,
      remedy: "Turn off the VPN and try again; if that helps, allow this program in its settings",
    });
  }
  if (routes.length > 1) {
    findings.push({
      kind: "routes",
      summary: `This machine has ${routes.length} default routes, by ${
        routes.slice(0, MAX_ROUTES).join(" and ")
      }: the one in use may be dead`,
      remedy: "Turn off one of the connections, such as the cable or the Wi-Fi, and try again",
    });
  }
  return findings;
}

/** The same words as those of a peer that goes by it. */
function otherWayFinding(interfaceName: string): Finding {
  return {
    kind: "vpn",
    summary: `The default route leads nowhere, and ${interfaceName} is answered`,
    remedy:
      `Check the VPN or the interface that the default route leads to, or turn it off; until then peers connect by ${interfaceName}`,
  };
}

function redirectFinding({ name, ip }: { name: string; ip: string }): Finding {
  return {
    kind: "dns",
    summary:
      `The name server gives ${ip} for ${name}, which is no address on the internet: a filter or a sign-in page redirects names`,
    remedy:
      "Set another name server in this machine's network settings, or sign in to the network; if the server is in this network, check that it runs",
  };
}

function dnsFinding(faults: readonly NameFault[]): Finding {
  const fault = (["silent", "refused", "not found"] as const).find((each) => faults.includes(each));
  return {
    kind: "dns",
    summary: DNS_SUMMARIES[fault ?? "silent"],
    remedy:
      "Set a name server that works in this machine's network settings; if web pages do not open either, sign in to the network, or check the line",
  };
}

function proxyFinding(proxy: string): Finding {
  return {
    kind: "proxy",
    summary: `Nothing gets out directly, and this machine is set up to use the proxy ${proxy}`,
    remedy: "Ask whoever runs this network to allow direct connections, or use another network",
  };
}

const DNS_SUMMARIES: Readonly<Record<NameFault, string>> = {
  silent: "No name server answers within 2 s, so no server can be found by its name",
  refused:
    "The name server refuses to answer, or none is set, so no server can be found by its name",
  "not found": "The name server says that none of the servers' names exists",
};

const FINDINGS = {
  offline: {
    kind: "offline",
    summary: "No network: this machine has no address or no route, and cannot send",
    remedy: "Check the cable or the Wi-Fi, and that this machine gets an address",
  },
  firewallHere: {
    kind: "local-firewall",
    summary: "This machine refuses to send: its firewall, or the kill switch of a VPN",
    remedy: "Allow this program in the firewall of this machine, or connect the VPN",
  },
  blocked: {
    kind: "blocked",
    summary:
      "Nothing came back: a firewall, a VPN or a required proxy blocks it, or the line is down",
    remedy:
      "Check that web pages open; then turn off the VPN, allow this program in the firewall, or ask whoever runs the network which ports and proxy it allows",
  },
  rejected: {
    kind: "blocked",
    summary:
      "A router or firewall on the way rejects what is sent: it reports the servers as unreachable",
    remedy:
      "Check that web pages open; if they do, ask whoever runs the network to allow this traffic, or use another network",
  },
  refused: {
    kind: "refused",
    summary:
      "Something answers, but every connection is refused: a firewall rejects it, or no server runs there",
    remedy:
      "Check the address and the port; if they are right, allow this program in the firewall, or use another network",
  },
  noServer: {
    kind: "refused",
    summary: "The network is up, but the ports that were asked are refused",
    remedy: "Check the address and the port, and that the server runs; or use another server",
  },
  answersNothing: {
    kind: "silent-server",
    summary: "The servers accept connections, but do not answer as they should",
    remedy:
      "Use another server; if all do the same, a firewall on the way inspects the traffic: use TLS (wss, turns)",
  },
} as const satisfies Record<string, Finding>;

/** Chosen by us: enough to recognise them by. */
const MAX_ROUTES = 3;

/** RFC 6585 §6. */
const NETWORK_AUTHENTICATION_REQUIRED = 511;

/** Chosen by us: resolvers wait longer than this for a server that is silent. */
const REFUSED_WITHIN_MS = 1500;
