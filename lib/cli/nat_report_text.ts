/**
 * A NAT report for people.
 *
 * @module
 */

import type { BehaviorVerdict, FamilyReport, NatReport } from "../nat/behavior.ts";
import { allocationText, explainFamily } from "../nat/verdict.ts";

/** The report, line by line. */
export function natReportText(report: NatReport): string[] {
  const sections = [
    ["UDP over IPv4", report.udp.ipv4],
    ["TCP over IPv4", report.tcp.ipv4],
    ["UDP over IPv6", report.udp.ipv6],
    ["TCP over IPv6", report.tcp.ipv6],
  ] as const;
  return [
    report.verdict.summary,
    ...report.hints.map((hint) => `Note: ${hint}`),
    ...sections.flatMap(([title, family]) =>
      family === null ? [] : ["", ...familyText(title, family)]
    ),
  ];
}

function familyText(title: string, report: FamilyReport): string[] {
  const heading = `${title}  (${Math.round(report.elapsedMs)} ms, ${report.details.packetsSent} ${
    title.startsWith("UDP") ? "packets" : "connections"
  })`;
  if (!report.reachable) {
    return [heading, ...indent([...explainFamily(report), ...report.details.servers])];
  }
  const { details } = report;
  const rows: [string, string[]][] = [
    ["mapping", verdictText(report.mapping)],
    ["filtering", verdictText(report.filtering)],
    ["ports", [allocationText(report.allocation), ...allocationNotes(report)]],
    ["hairpinning", [yesNo(report.hairpinning)]],
    ["unsolicited SYN", report.unsolicitedSyn === "unknown" ? [] : [report.unsolicitedSyn]],
    [
      "idle lifetime",
      details.lifetimeSeconds === null ? [] : [lifetimeText(details.lifetimeSeconds)],
    ],
    ["classic name", [report.rfc3489Name]],
    ["servers", [...details.servers]],
  ];
  return [
    heading,
    "",
    ...indent(picture(report)),
    "",
    ...rows.flatMap(([label, lines]) =>
      lines.map((line, index) => `  ${(index === 0 ? label : "").padEnd(LABEL_WIDTH)}${line}`)
    ),
    "",
    ...indent(explainFamily(report)),
  ];
}

/** This machine, what stands in between, and the outside. */
function picture(report: FamilyReport): string[] {
  const { local, external, server, rttMs, mapping, filtering, rfc3489Name } = report;
  const middle = mapping.behavior === "unknown"
    ? "unknown"
    : mapping.behavior !== "none"
    ? rfc3489Name
    : WITHOUT_NAT[filtering.behavior];
  const boxes = [
    ["this machine", local ?? "local address not known"],
    [middle, external === null ? "" : `seen as ${external}`],
    ["server", `${server}${rttMs === null ? "" : `, ${rttMs.toFixed(rttMs < 10 ? 1 : 0)} ms`}`],
  ] as const;
  const widths = boxes.map((lines) => Math.max(...lines.map((line) => line.length)));
  const edge = (left: string, right: string) =>
    widths.map((width) => left + "─".repeat(width + 2) + right).join("     ");
  const row = (index: 0 | 1, joint: string) =>
    boxes.map((lines, box) => `│ ${lines[index].padEnd(widths[box]!)} │`).join(joint);
  return [edge("┌", "┐"), row(0, " ──▶ "), row(1, "     "), edge("└", "┘")];
}

function verdictText({ behavior, confidence, evidence }: BehaviorVerdict): string[] {
  const sure = behavior === "unknown" ? "" : `  (${percent(confidence)} sure)`;
  return [`${TEXT[behavior]}${sure}`, ...evidence.map((sentence) => `  ${sentence}`)];
}

function allocationNotes({ details: { allocation, rewritesPayload } }: FamilyReport): string[] {
  const { samples, preservesParity, preservesContiguity, onlyForNeighbours } = allocation;
  return [
    `  seen in ${samples} mappings` +
    (onlyForNeighbours ? ", of neighbouring local ports only" : "") +
    (preservesParity === true ? ", parity kept" : "") +
    (preservesContiguity === true ? ", neighbours stay neighbours" : ""),
    ...rewritesPayload === true
      ? ["  something on the path rewrites addresses inside packets (an application-level gateway)"]
      : [],
  ];
}

function lifetimeText({ atLeast, lessThan }: { atLeast: number; lessThan: number | null }): string {
  return lessThan === null ? `at least ${atLeast} s` : `between ${atLeast} and ${lessThan} s`;
}

function percent(confidence: number): string {
  const rounded = Math.floor(confidence * 1000) / 10;
  return `${rounded} %`;
}

function yesNo(value: boolean | "unknown"): string {
  return value === "unknown" ? "unknown" : value ? "yes" : "no";
}

function indent(lines: readonly string[]): string[] {
  return lines.map((line) => `  ${line}`);
}

/** RFC words, and the classic ones beside them. */
const TEXT: Readonly<Record<BehaviorVerdict["behavior"], string>> = {
  "endpoint-independent": 'endpoint-independent (a "cone")',
  "address-dependent": "address-dependent",
  "address-and-port-dependent": "address- and port-dependent",
  none: "none",
  unknown: "unknown",
};

/** What is in the way where there is no NAT, by its filtering. */
const WITHOUT_NAT: Readonly<Record<BehaviorVerdict["behavior"], string>> = {
  "endpoint-independent": "open",
  "address-dependent": "firewall",
  "address-and-port-dependent": "firewall",
  none: "open",
  unknown: "no NAT",
};

const LABEL_WIDTH = 17;
