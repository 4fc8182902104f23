/**
 * Prints one scene of a command on the terminal, from fixed facts: `deno run -A scene.ts NAME`. What commands print
 * depends on networks, routers and clocks; what it looks like must not.
 *
 * @module
 */

import type { ConnectionAttempt } from "../../lib/base/errors.ts";
import { Consent } from "../../lib/cli/consent.ts";
import type { CliIo } from "../../lib/cli/io.ts";
import { reportText } from "../../lib/cli/doctor.ts";
import { eventText, probeText, tableText } from "../../lib/cli/map.ts";
import { natReportText, printChanges } from "../../lib/cli/nat.ts";
import type { WatchEvent } from "../../lib/cli/nat_watch.ts";
import { ConnectionEvents } from "../../lib/cli/peer_events.ts";
import { outputColumns, type Screen, withScreen } from "../../lib/cli/screen.ts";
import { StdinLines } from "../../lib/cli/stdin_lines.ts";
import { TransferReporter } from "../../lib/cli/transfer_progress.ts";
import { pairReport } from "../../lib/doctor/pair_plan.ts";
import { redacted } from "../../lib/doctor/redaction.ts";
import type { DoctorReport } from "../../lib/doctor/report_message.ts";
import type { FamilyReport, NatReport } from "../../lib/nat/behavior.ts";
import { changesBetween } from "../../lib/nat/changes.ts";
import type { IncomingOffer, TransferResult } from "../../lib/transfer/mod.ts";
import { cutOffFacts, doctorReport, done, evidence, hardFacts } from "../doctor/doctor_reports.ts";
import { familyReport } from "../nat/family_reports.ts";

/** A scene; it leaves the cursor below what it has printed. */
type Scene = (io: CliIo) => void | Promise<void>;

const IPV6_LOCAL = "[2001:db8:85a3:1111:2222:8a2e:370:7334]:50000";

const SCENES: Readonly<Record<string, Scene>> = {
  "nat-test": (io) => {
    const udp = familyReport("endpoint-independent", "address-and-port-dependent");
    printReport({ udp: { ipv4: udp, ipv6: null }, tcp: { ipv4: null, ipv6: null } }, io);
  },
  "nat-test-ipv6": (io) => {
    const ipv6 = familyReport("none", "address-and-port-dependent", {
      local: IPV6_LOCAL,
      external: IPV6_LOCAL,
      server: "[2001:db8:2::9]:3478",
    });
    printReport({ udp: { ipv4: null, ipv6 }, tcp: { ipv4: null, ipv6: null } }, io);
  },
  "nat-test-watch": async (io) => {
    const over = (udp: FamilyReport) => ({
      udp: { ipv4: udp, ipv6: null },
      tcp: { ipv4: null, ipv6: null },
    });
    const cone = familyReport("endpoint-independent", "address-and-port-dependent");
    const symmetric = familyReport("address-and-port-dependent", "address-and-port-dependent", {
      local: "172.20.10.4:50000",
      external: "198.51.100.4:61001",
    });
    const before = natReport(over(cone), {
      difficulty: "easy",
      summary: "Port Restricted Cone NAT: direct connections work",
    });
    const after = natReport(over(symmetric), {
      difficulty: "hard",
      summary: "Symmetric NAT: direct connections work with some peers; others need a relay",
    });
    const texts = changesBetween(before, after).map(({ text }) => text);
    const failed = "Cannot test NAT: no answer from stun.example.net:3478";
    const events = async function* (): AsyncGenerator<WatchEvent> {
      yield { event: "failed", text: failed };
      yield { event: "changed", report: after, texts: ["The test works again", ...texts] };
      await stay();
    };
    for (const line of natReportText(before, outputColumns(io))) io.out(line);
    const clock = () => new Date(2026, 7, 1, 14, 5, 9);
    await printChanges(events(), io, { isJson: false, withLifetime: false, clock });
  },
  "doctor": (io) => printDoctor(doctorReport(hardFacts()), io),
  "doctor-with": (io) => {
    const report = doctorReport(hardFacts());
    const there = { profile: report.profile, summary: report.verdict.summary };
    const pair = pairReport(report.profile, there, {
      ...{
        outcome: "relay",
        isAnswered: true,
        reason: "over TCP (relay)",
        elapsedMs: 900,
      } as const,
    });
    printDoctor({ ...report, pair }, io);
  },
  "doctor-cut-off": (io) => {
    const web = { status: 302, leadsTo: "login.hotel.example" };
    printDoctor(doctorReport(cutOffFacts({ evidence: done(evidence({ web })) })), io);
  },
  "map-list": (io) => {
    const mapping = (externalPort: number, description: string) => ({
      ...{ transport: "tcp", externalPort, internal: "192.168.1.2:8080" } as const,
      ...{ leaseSeconds: 3600, description, enabled: true },
    });
    const mappings = [
      mapping(8080, "punchline"),
      mapping(51_413, "照片同步 (a client in the hall)"),
    ];
    const gateways = [
      { address: "192.168.1.1", mappings, problem: null },
      { address: "192.168.1.254", mappings: [], problem: "PCP and NAT-PMP list no mappings" },
    ];
    for (const line of tableText(gateways, outputColumns(io))) io.out(line);
  },
  "map-probe": (io) => {
    const gateways = [{
      address: "192.168.1.1",
      pcp: { answer: "silent", detail: "nothing answers on UDP port 5351" },
      natPmp: null,
      upnp: { answer: "yes", detail: "IGD 1, opens ports for up to a week" },
      external: "203.0.113.2",
      verdict: "public",
      detail: "the internet can reach ports that this router opens",
    }] as unknown as Parameters<typeof probeText>[0];
    for (const line of probeText(gateways, outputColumns(io))) io.out(line);
  },
  "map-add": (io) => {
    const mapping = {
      ...{ protocol: "pcp", transport: "tcp", internal: "192.168.1.2:8080" } as const,
      ...{ external: "100.64.7.9:8080", lifetimeSeconds: 3600, gateway: "192.168.1.1" },
      verdict: "carrier-nat" as const,
    };
    const verdict = {
      kind: "carrier-nat",
      evidence: "the router's own address is behind another NAT of the provider",
      remedy: "Ask the provider for a public IPv4 address, or use IPv6",
    } as unknown as Parameters<typeof eventText>[1];
    const text = (event: "mapped" | "lost") =>
      eventText({ event, ...mapping, reason: "the router was restarted" } as never, verdict);
    io.out(text("mapped"));
    io.out(text("lost"));
  },
  "connected": (io) => {
    const events = new ConnectionEvents(io, { asJson: false });
    const connected = {
      ...{ strategy: "punch-tcp", method: "simultaneous-open", transport: "tcp" } as const,
      ...{ local: "192.168.1.2:50000", remote: "203.0.113.7:62011", relayed: false },
      ...{ elapsedMs: 310, punchMs: 87, attempts: [], reason: "TCP simultaneous open" },
    };
    events.connected(connected);
    events.print("Lost the path: the connection was reset; looking for another");
    events.print(
      "Now 192.168.1.2:50000 to 198.51.100.4:3478: relay, still looking for a direct path",
    );
    events.closed();
  },
  "attempts": (io) => {
    const events = new ConnectionEvents(io, { asJson: false });
    const attempt = (changes: Partial<ConnectionAttempt>): ConnectionAttempt => ({
      ...{ kind: "punch-tcp", method: "simultaneous-open", transport: "tcp" } as const,
      ...{ local: "192.168.1.2:50000", remote: "203.0.113.7:62011", tries: 3, resets: 1 },
      candidates: [],
      ...{ outcome: "timed-out", elapsedMs: 10_012 } as const,
      ...changes,
    });
    events.attempts([
      attempt({ reason: "the peer's NAT chooses random ports" }),
      attempt({
        ...{ kind: "ipv6", method: null, remote: IPV6_LOCAL, outcome: "unreachable", tries: 1 },
        remedy: "Allow incoming IPv6 connections in the router's firewall",
      }),
    ]);
    io.err("punchline: Cannot connect: all attempts failed (port-restricted x symmetric, random)");
  },
  "looking": async (io) => {
    const events = new ConnectionEvents(io, { asJson: false });
    events.waitFor("Looking for the peer", 30_000);
    events.signaling("lan:", "open");
    events.signaling("mqtts://broker.hivemq.com:8883", "open");
    const screen = io.status as Screen;
    const why = { state: "failed", why: "no DNS" } as const;
    screen.tell({ kind: "way", url: "mqtts://broker.emqx.io:8883", ...why });
    now = 3500;
    screen.tell({ kind: "way", url: "mqtts://broker.emqx.io:8883", ...why });
    await stay();
  },
  "not-found": (io) => {
    const events = new ConnectionEvents(io, { asJson: false });
    events.signaling("lan:", "open");
    const screen = io.status as Screen;
    screen.tell({ kind: "way", url: "ws://192.0.2.1:3480", state: "failed", why: "no answer" });
    events.failedWays();
    io.err("punchline: Cannot connect: no answer in 30 s; the peer may be offline");
  },
  "send": async (io) => {
    using reporter = new TransferReporter(io, {
      asJson: false,
      route: () => "over the local network",
    });
    reporter.print("Offering 3 files, 30.0 MiB: photos");
    const progress = { ...PROGRESS, bytes: 0, file: "photos/2026/夏の夕暮れ at the lake.jpg" };
    for (now = 0; now <= 2000; now += 200) {
      reporter.onProgress({ ...progress, bytes: now * 10_000 });
    }
    await stay();
  },
  "recv-end": (io) => {
    using reporter = new TransferReporter(io, {
      asJson: false,
      route: () => "over the local network",
    });
    reporter.onProgress(PROGRESS);
    now = 8000;
    reporter.finished("Received", RESULT);
  },
  "recv-ask": async (io) => {
    const consent = new Consent(
      { yes: false, merge: false, allowHidden: false },
      { io, stdin: new StdinLines(io) },
      () => ({ folder: "/home/ann/downloads", sender: "x".repeat(43) }),
    );
    const decided = consent.decide(OFFER, (line) => io.err(line), io.signal);
    await Promise.race([decided, stay()]);
  },
};

const PROGRESS = {
  ...{ bytes: 30 * 2 ** 20, totalBytes: 30 * 2 ** 20, resumedBytes: 0 },
  ...{ files: 3, totalFiles: 3, file: null },
};

const RESULT: TransferResult = {
  ...{ files: 3, bytes: 30 * 2 ** 20, resumedBytes: 10 * 2 ** 20, sentBytes: 20 * 2 ** 20 },
  ...{ elapsedMs: 8200, breaks: 1, skipped: [], refused: [], renamed: [] },
};

const OFFER = {
  ...{ files: 3, bytes: 30 * 2 ** 20, links: 0, folders: 1, isResumed: false, isChanged: false },
  manifest: ["photos/2026/a.jpg", "photos/2026/b.jpg", "photos/run.sh"].map((path) => ({
    ...{ path, kind: "file", size: 10 * 2 ** 20 },
  })),
  ...{
    hidden: [],
    needAllowHidden: [],
    skipped: [],
    existingFolders: ["photos"],
    existingEntries: [],
  },
  executables: [{ path: "photos/run.sh", kind: "file", size: 1 }],
} as unknown as IncomingOffer;

function printDoctor(report: DoctorReport, io: CliIo): void {
  const told = redacted(report, { isFull: false });
  for (const line of reportText(told, outputColumns(io))) io.out(line);
}

function printReport(families: Pick<NatReport, "udp" | "tcp">, io: CliIo): void {
  const report = natReport(families, {
    difficulty: "easy",
    summary: "Port Restricted Cone NAT: direct connections work",
  });
  for (const line of natReportText(report, outputColumns(io))) io.out(line);
}

function natReport(
  families: Pick<NatReport, "udp" | "tcp">,
  verdict: Pick<NatReport["verdict"], "difficulty" | "summary">,
): NatReport {
  return {
    ...{ version: 1, elapsedMs: 102, ...families },
    verdict: { ...verdict, scope: "internet" },
    findings: [{
      kind: "carrier-nat",
      summary: "carrier-grade NAT: the external address is one that providers share",
      remedy: "Ask the provider for a public address, or use IPv6",
    }],
    hints: ["carrier-grade NAT: the external address is one that providers share"],
  };
}

/** Until the terminal is closed. */
function stay(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 600_000));
}

let now = 0;
performance.now = () => now;

const write = (text: string) => {
  Deno.stderr.writeSync(new TextEncoder().encode(text));
};
using io = withScreen({
  out: (line) => write(`${line}\n`),
  err: (line) => write(`${line}\n`),
  status: {
    write,
    get columns() {
      return Deno.consoleSize().columns;
    },
    rows: 24,
  },
  isTerminal: true,
  isInputTerminal: true,
  stdin: Deno.stdin,
  stdout: Deno.stdout,
  signal: new AbortController().signal,
}, { asJson: false });
const scene = SCENES[Deno.args[0]!];
if (scene === undefined) throw new Error(`Cannot play ${Deno.args[0]}: there is no such scene`);
await scene(io);
