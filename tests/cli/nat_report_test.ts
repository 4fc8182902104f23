import { assert, assertEquals, assertMatch } from "@std/assert";
import { natReportText } from "../../lib/cli/nat.ts";
import type { FamilyReport, NatReport } from "../../lib/nat/behavior.ts";
import { familyReport, silentReport } from "../nat/family_reports.ts";

function report(udp: FamilyReport | null, tcp: FamilyReport | null = null): NatReport {
  return {
    version: 1,
    elapsedMs: 102,
    udp: { ipv4: udp, ipv6: null },
    tcp: { ipv4: tcp, ipv6: null },
    verdict: { difficulty: "easy", summary: "Port Restricted Cone NAT: works", scope: "internet" },
    findings: [{
      kind: "carrier-nat",
      summary: "carrier-grade NAT: perhaps",
      remedy: "Use IPv6",
    }],
    hints: ["carrier-grade NAT: perhaps"],
  };
}

Deno.test("natReportText() draws the path and lists the findings with evidence and confidence", () => {
  const text = natReportText(report(familyReport(
    "endpoint-independent",
    "address-and-port-dependent",
  )));
  assertEquals(text, [
    "Port Restricted Cone NAT: works",
    "Note: carrier-grade NAT: perhaps",
    "  Use IPv6",
    "",
    "UDP over IPv4  (102 ms, 19 packets)",
    "",
    "  ┌──────────────────┐     ┌───────────────────────────┐     ┌─────────────────────────┐",
    "  │ this machine     │ ──▶ │ Port Restricted Cone NAT  │ ──▶ │ server                  │",
    "  │ 192.168.1.2:5000 │     │ seen as 198.51.100.1:5000 │     │ 203.0.113.9:3478, 51 ms │",
    "  └──────────────────┘     └───────────────────────────┘     └─────────────────────────┘",
    "",
    '  mapping          endpoint-independent (a "cone")  (99 % sure)',
    "                     seen",
    "  filtering        address- and port-dependent  (99 % sure)",
    "                     seen",
    "  ports            same as the local port",
    "                     seen in 6 mappings, parity preserved, contiguity preserved",
    "  hairpinning      unknown",
    "  classic name     Port Restricted Cone NAT",
    "",
    "  Hole punching works with every peer whose external port is known or predictable.",
    "  A peer behind a symmetric NAT with random ports can connect only by guessing among thousands of ports: " +
    "set up a relay.",
  ]);
});

const MIDDLES: readonly [FamilyReport, string][] = [
  [familyReport("none", "none"), "open"],
  [familyReport("none", "address-and-port-dependent"), "firewall"],
  [familyReport("none", "unknown"), "no NAT"],
  [familyReport("unknown", "unknown"), "unknown"],
  [familyReport("address-dependent", "unknown"), "Symmetric NAT"],
];

for (const [family, middle] of MIDDLES) {
  const { mapping, filtering } = family;
  Deno.test(`natReportText() draws ${mapping.behavior} and ${filtering.behavior} as ${middle}`, () => {
    const text = natReportText(report(family));
    assert(text.some((line) => line.includes(` ──▶ │ ${middle} `)), text.join("\n"));
  });
}

Deno.test("natReportText() mentions what is unusual", () => {
  const family = familyReport("endpoint-independent", "endpoint-independent", {
    local: null,
    hairpinning: true,
    unsolicitedSyn: "reset",
    rttMs: 3.14,
  });
  const text = natReportText(report(null, {
    ...family,
    details: {
      ...family.details,
      allocation: { ...family.details.allocation, onlyForNeighbours: true },
      rewritesPayload: true,
      lifetimeSeconds: { atLeast: 16, lessThan: 32 },
      servers: ["one did not answer", "another lied"],
    },
  })).join("\n");
  for (
    const pattern of [
      /TCP over IPv4 {2}\(102 ms, 19 connections\)/,
      /local address unknown/,
      /203\.0\.113\.9:3478, 3\.1 ms/,
      /between adjacent local ports only/,
      /rewrites addresses inside packets/,
      /idle lifetime {4}between 16 and 32 s/,
      /hairpinning {6}yes/,
      /unsolicited SYN {2}reset/,
      /servers {10}one did not answer\n {19}another lied/,
    ]
  ) assertMatch(text, pattern);
});

Deno.test("natReportText() is short if no server answered", () => {
  assertEquals(natReportText(report(silentReport())).slice(4), [
    "UDP over IPv4  (102 ms, 19 packets)",
    "  No server answered: this traffic is blocked.",
  ]);
});

Deno.test("natReportText() prints the minimum lifetime of an idle mapping", () => {
  const family = familyReport("endpoint-independent", "endpoint-independent", {
    hairpinning: false,
  });
  const details = { ...family.details, lifetimeSeconds: { atLeast: 60, lessThan: null } };
  const text = natReportText(report({ ...family, details })).join("\n");
  assertMatch(text, /idle lifetime {4}at least 60 s/);
  assertMatch(text, /hairpinning {6}no/);
});

Deno.test("natReportText() leaves out what was printed early, and repeats the verdict only if TCP changes it", () => {
  const udp = familyReport("endpoint-independent", "endpoint-independent");
  const tcp = familyReport("endpoint-independent", "address-and-port-dependent");
  const all = report(udp, tcp);
  const early = (summary: string) =>
    [{
      family: 4,
      report: udp,
      verdict: { ...all.verdict, summary },
    }] as const;
  const text = natReportText(all, undefined, early("Full Cone NAT: works"));
  assertEquals(text.slice(0, 2), ["", "TCP over IPv4  (102 ms, 19 connections)"]);
  assertEquals(text.slice(-4), [
    "",
    "In all: Port Restricted Cone NAT: works",
    "Note: carrier-grade NAT: perhaps",
    "  Use IPv6",
  ]);
  const same = natReportText(all, undefined, early(all.verdict.summary));
  assertEquals(same.slice(-3), ["", "Note: carrier-grade NAT: perhaps", "  Use IPv6"]);
  assertEquals(same.some((line) => line.startsWith("UDP")), false);
});
