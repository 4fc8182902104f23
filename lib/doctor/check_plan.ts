/**
 * What the examination of a network has shown, check by check: facts in, results with remedies out.
 *
 * @module
 */

import type { FamilyReport, NatReport } from "../nat/behavior.ts";
import { explainFamily } from "../nat/verdict.ts";
import type { IpFamily } from "../net/address.ts";
import { type DoctorFacts, isConnected, type Outcome, valueOf } from "./facts.ts";
import type { Cause, Check, CheckName, CheckState } from "./report_message.ts";

/** All checks, in the order of reports; those that were not asked for are left out. */
export function checksOf(facts: DoctorFacts): Check[] {
  return [
    checkDns(facts),
    checkClock(facts),
    checkFamily(facts, 4),
    checkFamily(facts, 6),
    checkNat64(facts),
    checkTransport(facts, "udp"),
    checkTransport(facts, "tcp"),
    checkHttps(facts),
    checkProxy(facts),
    checkPortal(facts),
    checkMtu(facts),
    checkRouter(facts),
    checkRendezvous(facts),
    checkRelay(facts),
    ...facts.publicHosts === null ? [] : [checkPublic(facts.publicHosts)],
  ];
}

/** What is known of a path that swallows long packets; `undefined` if it does not, or that is not known. */
export function mtuCause(
  { mtu, servers }: Pick<DoctorFacts, "mtu" | "servers">,
): Cause | undefined {
  const found = valueOf(mtu)?.finding;
  if (found) return found;
  const stalling = (valueOf(servers) ?? []).find(({ relay }) => relay === "stalls");
  return stalling && {
    kind: "mtu",
    summary: `Connections to ${stalling.name} stall once they carry long messages (an MTU hole)`,
    remedy: MTU_REMEDY,
  };
}

/** How far a clock may be off before something fails: a ticket's topics last an hour. */
export function clockState(offsetMs: number): CheckState {
  const off = Math.abs(offsetMs);
  return off > HOUR_MS ? "fail" : off > CLOCK_WARN_MS ? "warn" : "ok";
}

/** A difference of clocks in words: `2 h 5 min slow`. */
export function clockText(offsetMs: number): string {
  const minutes = Math.round(Math.abs(offsetMs) / 60_000);
  const hours = Math.floor(minutes / 60);
  const days = Math.round(hours / 24);
  const off = days > 1
    ? `${days.toLocaleString("en")} days`
    : hours > 0
    ? `${hours} h ${minutes % 60} min`
    : `${minutes} min`;
  return `${off} ${offsetMs > 0 ? "slow" : "fast"}`;
}

function checkDns({ names }: DoctorFacts): Check {
  const found = valueOf(names);
  if (found === undefined) return unfinished("dns", names);
  if (found.length === 0) return check("dns", names, "unknown", "no server is given by name");
  const missing = found.filter(({ fault }) => fault !== null);
  if (missing.length === 0) {
    const [{ name, ips }] = found as [typeof found[number]];
    const seen = `${name} is ${ips[0]}${others(found.length - 1, "name")}`;
    if (names.elapsedMs < SLOW_NAMES_MS) return check("dns", names, "ok", seen);
    const took = `; that took ${(names.elapsedMs / 1000).toFixed(1)} s`;
    return check("dns", names, "warn", `${seen}${took}`, SLOW_NAMES_REMEDY);
  }
  const what = missing.map(({ name, fault }) => `${name}: ${DNS_FAULTS[fault!]}`).join("; ");
  return check(
    "dns",
    names,
    missing.length === found.length ? "fail" : "warn",
    what,
    missing.every(({ fault }) => fault === "not found")
      ? "Check the spelling of the names, and the name server in this machine's network settings"
      : "Set a name server that works in this machine's network settings",
  );
}

function checkClock({ clock }: DoctorFacts): Check {
  const offsetMs = valueOf(clock);
  if (offsetMs === undefined) return unfinished("clock", clock);
  if (offsetMs === null) return check("clock", clock, "unknown", "no server told the time");
  const state = clockState(offsetMs);
  if (state === "ok") {
    return check("clock", clock, "ok", `within ${CLOCK_WARN_MS / 60_000} minutes of a server's`);
  }
  const seen = `this machine's clock is ${clockText(offsetMs)}, compared with a server's`;
  return check("clock", clock, state, seen, CLOCK_REMEDY);
}

function checkFamily({ nat, nat64 }: DoctorFacts, family: IpFamily): Check {
  const name = `ipv${family}` as const;
  const report = valueOf(nat);
  if (report === undefined) {
    const seen = nat.kind === "failed" ? "not known: the NAT test failed" : NOT_FINISHED;
    return check(name, nat, "unknown", seen);
  }
  const tested = family === 4
    ? [report.udp.ipv4, report.tcp.ipv4]
    : [report.udp.ipv6, report.tcp.ipv6];
  const reports = tested.filter((each) => each !== null);
  const answered = reports.find(({ reachable }) => reachable);
  if (answered !== undefined) {
    const { local, external, translated } = answered;
    const from = local === null ? "this machine" : hostOf(local);
    const seen = translated === true
      ? `${from} is translated: servers see ${hostOf(external!)}`
      : `${hostOf(external ?? local ?? "this machine")} is seen by servers as it is`;
    return check(name, nat, "ok", seen);
  }
  if (reports.length === 0 && family === 4 && (valueOf(nat64) ?? []).length > 0) {
    return check(name, nat, "ok", "this machine has no IPv4 address: NAT64 carries it over IPv6");
  }
  if (reports.length === 0) {
    const seen = `this machine or the servers have no IPv${family} address`;
    return check(name, nat, "unknown", seen);
  }
  return check(name, nat, "fail", `nothing came back over IPv${family}`, SEE_FINDINGS);
}

function checkNat64(facts: DoctorFacts): Check {
  const { nat64 } = facts;
  const prefixes = valueOf(nat64);
  if (prefixes === undefined) return unfinished("nat64", nat64);
  if (prefixes.length === 0 && !isConnected(facts)) {
    return check("nat64", nat64, "unknown", "no name server tells of one");
  }
  if (prefixes.length === 0) return check("nat64", nat64, "ok", "no NAT64: IPv4 is not translated");
  const seen = `this network reaches IPv4 through NAT64, at ${prefixes.join(" and ")}`;
  return check("nat64", nat64, "ok", seen);
}

function checkTransport(facts: DoctorFacts, transport: "udp" | "tcp"): Check {
  const { nat } = facts;
  const report = valueOf(nat);
  if (report === undefined) {
    if (transport === "tcp" && nat.kind === "failed") {
      const remedy = isConnected(facts) ? nat.fault.remedy : SEE_FINDINGS;
      return check(transport, nat, "fail", nat.fault.message, remedy);
    }
    return nat.kind === "failed"
      ? check(transport, nat, "fail", "no server answered over UDP")
      : unfinished(transport, nat);
  }
  const both = [report[transport].ipv4, report[transport].ipv6].filter((each) => each !== null);
  const answered = both.find(({ reachable }) => reachable);
  if (answered !== undefined) return check(transport, nat, "ok", natText(answered, report));
  const name = transport.toUpperCase();
  if (both.length === 0) return check(transport, nat, "unknown", `${name} could not be tested`);
  const remedy = !isConnected(facts)
    ? SEE_FINDINGS
    : transport === "udp"
    ? "Allow UDP to leave in the firewall or the VPN"
    : "Allow TCP connections to leave in the firewall, or use a STUN server that speaks TCP";
  return check(transport, nat, "fail", `no server answered over ${name}`, remedy);
}

function natText(report: FamilyReport, { verdict }: NatReport): string {
  const [first = ""] = explainFamily(report, verdict.scope);
  const rtt = report.rttMs === null ? "" : `, ${Math.round(report.rttMs)} ms to the server`;
  return `${report.rfc3489Name}${rtt}: ${lowerFirst(first.replace(/\.$/, ""))}`;
}

function checkHttps(facts: DoctorFacts): Check {
  const { evidence } = facts;
  const found = valueOf(evidence);
  if (found === undefined) {
    return isConnected(facts)
      ? check("https", evidence, "ok", "not needed: servers answer at their own ports")
      : unfinished("https", evidence);
  }
  const dials = found.dials.filter(({ port }) => port === HTTPS_PORT);
  if (dials.some(({ outcome }) => outcome === "accepted")) {
    return check("https", evidence, "ok", "connections to port 443 get through");
  }
  if (dials.some(({ outcome }) => outcome === "refused")) {
    return check("https", evidence, "ok", "port 443 is reached, and the servers refuse there");
  }
  if (isConnected(facts)) {
    return check("https", evidence, "unknown", "the servers do not answer at port 443");
  }
  return dials.length === 0
    ? check("https", evidence, "unknown", "no server could be dialled")
    : check("https", evidence, "fail", "nothing came back from port 443", SEE_FINDINGS);
}

function checkProxy({ proxy }: DoctorFacts): Check {
  const found = valueOf(proxy);
  if (found === undefined) return failedOrUnfinished("proxy", proxy);
  if (found === null) return check("proxy", proxy, "ok", "no proxy is set up");
  const { url, fault } = found;
  if (fault !== null) return check("proxy", proxy, "fail", fault.message, fault.remedy);
  return check("proxy", proxy, "ok", `${url} connects to signaling servers`);
}

function checkPortal(facts: DoctorFacts): Check {
  const { evidence, publicHosts } = facts;
  const pages = publicHosts === null ? [] : valueOf(publicHosts) ?? [];
  if (pages.length > 0 && pages.every(({ answer }) => answer === "another page")) {
    return check("captive-portal", evidence, "fail", "other pages answer in their place", SIGN_IN);
  }
  if (isConnected(facts)) {
    return check("captive-portal", evidence, "ok", "servers answer themselves");
  }
  const found = valueOf(evidence);
  if (found === undefined) return unfinished("captive-portal", evidence);
  const { web } = found;
  if (web === null) {
    return check("captive-portal", evidence, "unknown", "no web page answers in place of servers");
  }
  const at = web.leadsTo === null ? "" : `, and leads to ${web.leadsTo}`;
  const seen = `a web page answers in place of a server (status ${web.status})${at}`;
  return check("captive-portal", evidence, "fail", seen, SIGN_IN);
}

function checkMtu(facts: DoctorFacts): Check {
  const { mtu } = facts;
  const cause = mtuCause(facts);
  if (cause !== undefined) {
    return check("mtu", mtu, "warn", lowerFirst(cause.summary), cause.remedy);
  }
  const found = valueOf(mtu);
  if (found === undefined) return unfinished("mtu", mtu);
  if (found === null || found.answeredBytes === null) {
    const isRelayed = (valueOf(facts.servers) ?? []).some(({ relay }) => relay === "works");
    return isRelayed
      ? check("mtu", mtu, "ok", "long messages over TCP get through")
      : check("mtu", mtu, "unknown", "no server answered that could tell");
  }
  return check("mtu", mtu, "ok", `packets of ${found.answeredBytes} bytes get through`);
}

function checkRouter(facts: DoctorFacts): Check {
  const { gateways } = facts;
  const found = valueOf(gateways);
  if (found === undefined) {
    if (gateways.kind === "failed") {
      return check("router", gateways, "unknown", gateways.fault.message, gateways.fault.remedy);
    }
    return isUntranslated(facts)
      ? check("router", gateways, "ok", "not needed: there is no NAT")
      : check("router", gateways, "unknown", "no router has answered PCP, NAT-PMP or UPnP yet");
  }
  if (found.length === 0) {
    const seen = "no router answers PCP, NAT-PMP or UPnP";
    return check("router", gateways, "unknown", seen);
  }
  const mapping = found.find(({ verdict }) => verdict !== null);
  const { address, detail, verdict } = mapping ?? found[0]!;
  if (verdict === "public") {
    return check("router", gateways, "ok", `${address} opens ports that the internet can reach`);
  }
  if (verdict === "unverified") return check("router", gateways, "ok", `${address} opens ports`);
  const [seen, ...remedy] = detail.split(": ");
  const what = remedy.join(": ");
  return check(
    "router",
    gateways,
    "warn",
    `${address}: ${seen}`,
    what === "" ? null : upperFirst(what),
  );
}

function checkRendezvous(facts: DoctorFacts): Check {
  const { servers } = facts;
  const found = valueOf(servers);
  if (found === undefined) return unfinished("rendezvous", servers);
  if (found.length === 0) return check("rendezvous", servers, "unknown", "no server is named");
  const open = found.filter(({ isOpen }) => isOpen);
  const closed = found.filter(({ isOpen }) => !isOpen);
  if (open.length === 0) {
    const [{ fault }] = closed as [typeof closed[number]];
    const seen = closed.map(({ name, fault }) => `${name}: ${fault?.message ?? ""}`).join("; ");
    const remedy = isConnected(facts) ? fault?.remedy ?? null : SEE_FINDINGS;
    return check("rendezvous", servers, "fail", seen, remedy);
  }
  const [{ name, rttMs }] = open as [typeof open[number]];
  const seen = `${name} answers in ${Math.round(rttMs ?? 0)} ms${
    others(open.length - 1, "server")
  }`;
  if (closed.length === 0) return check("rendezvous", servers, "ok", seen);
  return check(
    "rendezvous",
    servers,
    "warn",
    `${seen}; ${closed.map(({ name }) => name).join(" and ")} cannot be reached`,
    closed[0]!.fault?.remedy ?? null,
  );
}

function checkRelay(facts: DoctorFacts): Check {
  const { servers } = facts;
  const found = valueOf(servers);
  if (found === undefined) return unfinished("relay", servers);
  const tried = found.filter(({ relay }) => relay !== "untried");
  const working = tried.find(({ relay }) => relay === "works");
  if (working !== undefined) {
    return check("relay", servers, "ok", `${working.name} relays when nothing else works`);
  }
  const [failed] = tried;
  if (failed === undefined) {
    const seen = "no relay: none of the servers is a rendezvous that answers";
    const remedy = isConnected(facts) ? RELAY_REMEDY : SEE_FINDINGS;
    return check("relay", servers, "unknown", seen, remedy);
  }
  const seen = failed.relay === "stalls"
    ? `the relay of ${failed.name} carries short messages only`
    : `${failed.name}: ${failed.relayFault?.message ?? "the relay does not work"}`;
  return check("relay", servers, "warn", seen, failed.relayFault?.remedy ?? RELAY_REMEDY);
}

function checkPublic(hosts: NonNullable<DoctorFacts["publicHosts"]>): Check {
  const found = valueOf(hosts);
  if (found === undefined) return unfinished("public", hosts);
  const as = (answer: typeof found[number]["answer"]) =>
    found.filter((each) => each.answer === answer).map(({ name }) => name);
  const expected = as("as expected");
  if (expected.length === found.length) return check("public", hosts, "ok", "all of them answer");
  const parts = [
    ...expected.length > 0 ? [`${expected.join(", ")} answers`] : [],
    ...as("another page").map((name) => `another page answers for ${name}`),
    ...as("silence").map((name) => `${name} is silent`),
  ];
  const state = expected.length > 0 ? "warn" : "fail";
  return check("public", hosts, state, parts.join("; "), SEE_FINDINGS);
}

/** Whether servers see this host's own IPv4 address. */
function isUntranslated({ nat }: DoctorFacts): boolean {
  const report = valueOf(nat);
  return [report?.udp.ipv4, report?.tcp.ipv4].some((each) => each?.translated === false);
}

function check(
  name: CheckName,
  { elapsedMs }: Outcome<unknown>,
  state: CheckState,
  seen: string,
  remedy: string | null = null,
): Check {
  return { name, state, seen, remedy, elapsedMs };
}

function unfinished(name: CheckName, outcome: Outcome<unknown>): Check {
  return check(name, outcome, "unknown", NOT_FINISHED);
}

function failedOrUnfinished(name: CheckName, outcome: Outcome<unknown>): Check {
  if (outcome.kind !== "failed") return unfinished(name, outcome);
  const { message, remedy } = outcome.fault;
  return check(name, outcome, "fail", message, remedy);
}

function others(count: number, what: string): string {
  return count === 0 ? "" : `, and ${count} more ${what}${count === 1 ? "" : "s"}`;
}

/** The IP address in `IP:PORT`. */
function hostOf(address: string): string {
  return address.replace(/:\d+$/, "").replace(/^\[(.*)\]$/, "$1");
}

function lowerFirst(text: string): string {
  return /^[A-Z][a-z]/.test(text) ? text[0]!.toLowerCase() + text.slice(1) : text;
}

function upperFirst(text: string): string {
  return text.slice(0, 1).toUpperCase() + text.slice(1);
}

const NOT_FINISHED = "not finished in time";

const DNS_FAULTS = {
  silent: "no name server answers",
  refused: "the name server refuses to answer, or none is set",
  "not found": "no such name",
} as const;

/** The remedy of the cause stands with the verdict. */
const SEE_FINDINGS = null;

const SIGN_IN = "Open any web page in a browser, sign in to this network, and try again";

const SLOW_NAMES_REMEDY =
  "Set a faster name server in this machine's network settings: each connection waits for it";

/** For findings, too. */
export const CLOCK_REMEDY =
  "Set this machine's clock, or let it be set by the network: peers find each other by the hour";

const MTU_REMEDY =
  "Lower the MTU of this machine's interface to 1280, or let the firewall or VPN pass ICMP messages that a packet is too big";

/** For findings, too. */
export const RELAY_REMEDY =
  "Run `punchline serve` where both sides can reach it, and name it with --rendezvous";

const HTTPS_PORT = 443;

/** Chosen by us: other look-ups take a tenth of that. */
const SLOW_NAMES_MS = 1000;

/** Chosen by us: codes and tickets with an end last minutes. */
const CLOCK_WARN_MS = 300_000;

/** How long a ticket's topic lasts; a listener looks at those before and after it. */
const HOUR_MS = 3_600_000;
