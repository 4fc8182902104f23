/**
 * Facts and reports for tests of `doctor`.
 *
 * @module
 */

import type { NatReport } from "../../lib/nat/behavior.ts";
import type { NetworkEvidence } from "../../lib/nat/findings.ts";
import { mtuFinding } from "../../lib/nat/path_mtu.ts";
import { overallVerdict } from "../../lib/nat/verdict.ts";
import { checksOf } from "../../lib/doctor/check_plan.ts";
import type { DoctorFacts, Outcome, ServerFacts } from "../../lib/doctor/facts.ts";
import { outlooks } from "../../lib/doctor/pair_plan.ts";
import { networkProfile } from "../../lib/doctor/profile.ts";
import { type DoctorReport, PROGRAM } from "../../lib/doctor/report_message.ts";
import { judge } from "../../lib/doctor/verdict.ts";
import { familyReport } from "../nat/family_reports.ts";

/** A job that is done. */
export function done<T>(value: T): Outcome<T> {
  return { kind: "done", value, elapsedMs: 51 };
}

/** The report of a NAT test, by default of a home. */
export function natReport(
  changes: Partial<Pick<NatReport, "udp" | "tcp" | "findings">> = {},
): NatReport {
  const home = familyReport("endpoint-independent", "address-and-port-dependent");
  const udp = { ipv4: home, ipv6: null };
  const tcp = { ipv4: { ...home, crossingSyn: "accepted" as const }, ipv6: null };
  const reports = { udp, tcp, ...changes };
  const verdict = overallVerdict(reports, { isHasty: false });
  return { version: 1, elapsedMs: 300, verdict, hints: [], findings: [], ...reports };
}

/** What was seen of a network where nothing came back, by default from one server. */
export function evidence(changes: Partial<NetworkEvidence> = {}): NetworkEvidence {
  return {
    sending: "sends",
    onlyFamily: 4,
    names: { asked: 0, found: 0, faults: [], sharedIp: null, redirected: null },
    dials: [{ port: 3478, isAsked: true, outcome: "silent" }],
    web: null,
    hasWrongAnswer: false,
    otherWay: null,
    vpn: null,
    proxy: null,
    routes: [],
    ...changes,
  };
}

/** A rendezvous that works. */
export const MEETING: ServerFacts = {
  name: "meet.example.net:3480",
  isOpen: true,
  fault: null,
  rttMs: 40,
  relay: "works",
  relayFault: null,
};

/** The same, not to be reached. */
export const CLOSED: ServerFacts = {
  ...MEETING,
  isOpen: false,
  fault: { message: "Cannot connect", remedy: "Check the address", isWrongAnswer: false },
  rttMs: null,
  relay: "untried",
};

/** Everything that was found out in a network where all is well. */
export function wellFacts(changes: Partial<DoctorFacts> = {}): DoctorFacts {
  return {
    nat: done(natReport()),
    evidence: { kind: "unfinished", elapsedMs: 500 },
    names: done([{ name: "stun.example.net", ips: ["203.0.113.9"], fault: null }]),
    servers: done([MEETING]),
    mtu: done({ answeredBytes: 1500, finding: null }),
    clock: done(1200),
    gateways: done([]),
    nat64: done([]),
    proxy: done(null),
    publicHosts: null,
    ...changes,
  };
}

/** The same where nothing came back. */
export function cutOffFacts(changes: Partial<DoctorFacts> = {}): DoctorFacts {
  const silent = familyReport("unknown", "unknown", { reachable: false, server: null });
  return wellFacts({
    nat: done(natReport({ udp: { ipv4: silent, ipv6: null }, tcp: { ipv4: silent, ipv6: null } })),
    evidence: done(evidence()),
    names: done([]),
    servers: done([CLOSED]),
    mtu: done({ answeredBytes: null, finding: null }),
    clock: done(null),
    ...changes,
  });
}

/** The same behind a carrier's NAT with random ports, on a path that swallows long packets. */
export function hardFacts(): DoctorFacts {
  const symmetric = familyReport("address-and-port-dependent", "address-and-port-dependent", {
    allocation: { kind: "random", delta: null, range: [2000, 60_000] },
  });
  const both = { ipv4: symmetric, ipv6: null };
  return wellFacts({
    nat: done(natReport({ udp: both, tcp: both })),
    mtu: done({
      answeredBytes: 1280,
      finding: mtuFinding({
        ...{ answeredBytes: 1280, lostBytes: 1400, refusedBytes: null, rttMs: 51 },
      })!,
    }),
    gateways: done([{
      address: "192.168.1.1",
      verdict: "cgnat",
      detail:
        "the router's external address 100.64.3.4 is the provider's (100.64.0.0/10): Ask the provider for a public address, or use IPv6",
    }]),
  });
}

/** The report that is made of facts. */
export function doctorReport(
  facts: DoctorFacts = wellFacts({ publicHosts: done([]) }),
): DoctorReport {
  const names = facts.servers.kind === "done" ? facts.servers.value : [];
  const profile = networkProfile({
    nat: facts.nat.kind === "done" ? facts.nat.value : undefined,
    gateways: [],
    meets: names.filter(({ isOpen }) => isOpen).map(({ name }) => name),
    relays: names.filter(({ relay }) => relay === "works").map(({ name }) => name),
  });
  return {
    version: 1,
    program: PROGRAM,
    elapsedMs: 812,
    ...judge(facts),
    checks: checksOf(facts),
    peers: outlooks(profile),
    profile,
    pair: null,
  };
}
