/**
 * `nat-test`: which NAT is this machine behind, and what does that mean. Its report as text and as JSON.
 *
 * @module
 */

import type { Logger } from "../base/logger.ts";
import type { BehaviorVerdict, FamilyReport, NatReport, VerdictScope } from "../nat/behavior.ts";
import { testNat, type TestNatOptions, type UdpProgress } from "../nat/report.ts";
import { allocationText, explainFamily } from "../nat/verdict.ts";
import type { IpFamily } from "../net/address.ts";
import { parseServer } from "../nat/servers.ts";
import { readProxyVariable } from "../net/system/private_input.ts";
import { readChoice, readCommand, readSeconds, readTimeoutMs, readWith } from "./arguments.ts";
import { type CliIo, EXIT } from "./io.ts";
import { pad, table, textWidth } from "./layout.ts";
import type { WatchEvent } from "./nat_watch.ts";
import { outputColumns, waitFor, waitOver } from "./screen.ts";

/**
 * Runs the command; returns its exit code.
 *
 * @throws {UsageError} if the command line is wrong
 * @throws the errors of {@linkcode testNat}
 */
export async function natTest(args: readonly string[], io: CliIo): Promise<number> {
  const given = readCommand("nat-test", args);
  const { flags, values, lists } = given;
  if (flags.has("servers")) {
    return await (await import("./nat_servers.ts")).natTestServers(given, io);
  }
  const transport = readChoice("transport", values.get("transport"), ["udp", "tcp"] as const);
  const family = readChoice("family", values.get("family"), ["4", "6"] as const);
  const timeoutMs = readTimeoutMs(values.get("timeout"), MAX_TIMEOUT_MS, { bareUnit: "ms" });
  const lifetimeSeconds = readSeconds("lifetime", values.get("lifetime"), { min: 1, max: 86_400 });
  const servers = lists.get("server")!;
  for (const server of servers) readWith(() => parseServer(server), "--server");
  const options: TestNatOptions = {
    signal: io.signal,
    hairpinning: !flags.has("no-hairpinning"),
    servers: servers.length > 0 ? servers : undefined,
    transports: transport && [transport],
    families: family && [Number(family) as IpFamily],
    timeoutMs,
    lifetimeSeconds,
    proxy: (await readProxyVariable())?.url,
    logger: flags.has("verbose") ? loggerTo(io) : undefined,
  };
  const isJson = flags.has("json");
  const print = (lines: readonly string[]) => lines.forEach((line) => io.out(line));
  const early: UdpProgress[] = [];
  const onUdp = (progress: UdpProgress) => {
    waitOver(io);
    print(udpProgressText(progress, early.length === 0, outputColumns(io)));
    early.push(progress);
    waitFor(io, "Testing the rest", timeoutMs);
  };
  waitFor(io, "Testing the NAT", timeoutMs);
  const report = await testNat(isJson ? options : { ...options, onUdp });
  waitOver(io);
  if (isJson) {
    io.out(JSON.stringify(toJson(report, { withLifetime: lifetimeSeconds !== undefined })));
  } else {
    print(natReportText(report, outputColumns(io), early));
  }
  if (flags.has("watch")) {
    const { watchNat } = await import("./nat_watch.ts");
    const { signal } = io;
    const events = watchNat(report, { ...options, lifetimeSeconds: undefined, signal });
    await printChanges(events, io, { isJson, withLifetime: lifetimeSeconds !== undefined });
    return EXIT.interrupted;
  }
  const { difficulty } = report.verdict;
  const families = [report.udp.ipv4, report.udp.ipv6, report.tcp.ipv4, report.tcp.ipv6];
  const isAnswered = families.some((family) => family?.reachable);
  if (difficulty === "unknown" && !isAnswered) return EXIT.timeout;
  return difficulty === "offline" || difficulty === "blocked" ? EXIT.offlineOrBlocked : EXIT.ok;
}

/**
 * Prints what changes until it is interrupted: whole reports for programs, one a line, and what is new for people.
 *
 * @param options.clock tells the time
 */
export async function printChanges(
  events: AsyncIterable<WatchEvent>,
  io: CliIo,
  { isJson, withLifetime, clock = () => new Date() }: {
    readonly isJson: boolean;
    readonly withLifetime: boolean;
    readonly clock?: () => Date;
  },
): Promise<void> {
  if (!isJson) io.out("");
  waitFor(io, WATCHING);
  for await (const event of events) {
    waitOver(io);
    if (event.event === "changed" && isJson) {
      io.out(JSON.stringify(toJson(event.report, { withLifetime })));
    } else if (event.event === "changed") {
      for (const text of event.texts) io.out(`${timeOfDay(clock())}  ${text}`);
    } else if (isJson) io.err(event.text);
    else io.out(`${timeOfDay(clock())}  ${event.text}`);
    waitFor(io, WATCHING);
  }
}

/** As the user's clock shows it: `14:05:09`. */
function timeOfDay(now: Date): string {
  return [now.getHours(), now.getMinutes(), now.getSeconds()]
    .map((part) => `${part}`.padStart(2, "0")).join(":");
}

/** The JSON that other programs rely on: exactly these keys, and the lifetime if it was measured. */
function toJson(report: NatReport, options: { withLifetime: boolean }): unknown {
  const family = (report: FamilyReport | null) => {
    if (report === null) return null;
    const { details, ...contract } = report;
    return options.withLifetime
      ? { ...contract, lifetimeSeconds: details.lifetimeSeconds }
      : contract;
  };
  const { version, elapsedMs, udp, tcp, verdict } = report;
  return {
    version,
    elapsedMs,
    udp: { ipv4: family(udp.ipv4), ipv6: family(udp.ipv6) },
    tcp: { ipv4: family(tcp.ipv4), ipv6: family(tcp.ipv6) },
    verdict,
    findings: report.findings,
  };
}

function loggerTo(io: CliIo): Logger {
  const print = (message: string) => io.err(message);
  return { debug: print, info: print, warn: print };
}

/** Formats what is known of UDP while the test goes on. The first time it begins with the verdict on UDP. */
function udpProgressText(
  { family, report, verdict }: UdpProgress,
  isFirst: boolean,
  columns: number | undefined,
): string[] {
  const section = familyText(`UDP over IPv${family}`, report, verdict.scope, columns);
  return [...isFirst ? [verdict.summary] : [], "", ...section];
}

/**
 * Formats the report for people, line by line.
 *
 * @param columns how wide the terminal is. Default: as wide as the drawing
 * @param early what was printed already, and is left out
 */
export function natReportText(
  report: NatReport,
  columns?: number,
  early: readonly UdpProgress[] = [],
): string[] {
  const isEarly = (family: IpFamily) => early.some((each) => each.family === family);
  const { udp, tcp, verdict } = report;
  const sections = [
    ["UDP over IPv4", isEarly(4) ? null : udp.ipv4],
    ["TCP over IPv4", tcp.ipv4],
    ["UDP over IPv6", isEarly(6) ? null : udp.ipv6],
    ["TCP over IPv6", tcp.ipv6],
  ] as const;
  const details = sections.flatMap(([title, family]) =>
    family === null ? [] : ["", ...familyText(title, family, verdict.scope, columns)]
  );
  const notes = report.findings.flatMap(({ summary, remedy }) => [
    ...summary === verdict.summary ? [] : [`Note: ${summary}`],
    `  ${remedy}`,
  ]);
  const [first] = early;
  if (first === undefined) return [verdict.summary, ...notes, ...details];
  const isSame = verdict.summary === first.verdict.summary;
  const end = [...isSame ? [] : [`In all: ${verdict.summary}`], ...notes];
  return [...details, ...end.length === 0 ? [] : [""], ...end];
}

function familyText(
  title: string,
  report: FamilyReport,
  scope: VerdictScope,
  columns: number | undefined,
): string[] {
  const heading = `${title}  (${Math.round(report.elapsedMs)} ms, ${report.details.packetsSent} ${
    title.startsWith("UDP") ? "packets" : "connections"
  })`;
  if (!report.reachable) {
    return [heading, ...indent([...explainFamily(report, scope), ...report.details.servers])];
  }
  const { details } = report;
  const rows: [string, string[]][] = [
    ["mapping", verdictText(report.mapping)],
    ["filtering", verdictText(report.filtering)],
    ["ports", [allocationText(report.allocation), ...allocationNotes(report)]],
    ["hairpinning", [yesNo(report.hairpinning)]],
    ["unsolicited SYN", report.unsolicitedSyn === "unknown" ? [] : [report.unsolicitedSyn]],
    ["crossing SYN", report.crossingSyn === "unknown" ? [] : [crossingText(report.crossingSyn)]],
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
    ...indent(picture(report, columns === undefined ? Infinity : columns - 2)),
    "",
    ...table(
      rows.flatMap(([label, lines]) =>
        lines.map((line, index) => [index === 0 ? label.padEnd(LABEL_WIDTH) : "", line])
      ),
      { columns },
    ),
    "",
    ...indent(explainFamily(report, scope)),
  ];
}

function crossingText(crossingSyn: FamilyReport["crossingSyn"]): string {
  return crossingSyn === "accepted" ? crossingSyn : "dropped or reset";
}

/** Draws this machine, the NAT or firewall, and the server: beside each other, or below each other if that is too wide. */
function picture(report: FamilyReport, columns: number): string[] {
  const { local, external, server, rttMs, mapping, filtering, rfc3489Name } = report;
  const middle = mapping.behavior === "unknown"
    ? "unknown"
    : mapping.behavior !== "none"
    ? rfc3489Name
    : WITHOUT_NAT[filtering.behavior];
  const boxes = [
    ["this machine", local ?? "local address unknown"],
    [middle, external === null ? "" : `seen as ${external}`],
    ["server", `${server}${rttMs === null ? "" : `, ${rttMs.toFixed(rttMs < 10 ? 1 : 0)} ms`}`],
  ] as const;
  const drawings = [besideEachOther(boxes), belowEachOther(boxes)];
  const fitting = drawings.find((lines) => lines.every((line) => textWidth(line) <= columns));
  return fitting ?? withoutBoxes(boxes);
}

/** Two lines for each box; an empty one is left out where there is no need for it. */
type Boxes = readonly (readonly [string, string])[];

function besideEachOther(boxes: Boxes): string[] {
  const widths = boxes.map((lines) => Math.max(...lines.map(textWidth)));
  const edge = (left: string, right: string) =>
    widths.map((width) => left + "─".repeat(width + 2) + right).join("     ");
  const row = (index: 0 | 1, joint: string) =>
    boxes.map((lines, box) => `│ ${pad(lines[index], widths[box]!)} │`).join(joint);
  return [edge("┌", "┐"), row(0, " ──▶ "), row(1, "     "), edge("└", "┘")];
}

function belowEachOther(boxes: Boxes): string[] {
  const width = Math.max(...boxes.flat().map(textWidth));
  const middle = Math.floor(width / 2) + 1;
  const edge = "─".repeat(width + 2);
  const after = (index: number) => "─".repeat(index);
  return boxes.flatMap((lines, box) => {
    const rows = lines.filter((line) => line !== "").map((line) => `│ ${pad(line, width)} │`);
    const isLast = box === boxes.length - 1;
    const bottom = isLast ? edge : `${after(middle)}┬${after(width + 1 - middle)}`;
    const arrow = isLast ? [] : [`${" ".repeat(middle + 1)}▼`];
    return [`┌${edge}┐`, ...rows, `└${bottom}┘`, ...arrow];
  });
}

/** An IPv6 address may be wider than a narrow terminal: a frame around it would break. */
function withoutBoxes(boxes: Boxes): string[] {
  return boxes.flatMap(([name, detail], box) => [
    ...box > 0 ? ["  ▼"] : [],
    name,
    ...detail === "" ? [] : [`  ${detail}`],
  ]);
}

function verdictText({ behavior, confidence, evidence }: BehaviorVerdict): string[] {
  const sure = behavior === "unknown" ? "" : `  (${percent(confidence)} sure)`;
  return [`${TEXT[behavior]}${sure}`, ...evidence.map((sentence) => `  ${sentence}`)];
}

function allocationNotes({ details: { allocation, rewritesPayload } }: FamilyReport): string[] {
  const { samples, preservesParity, preservesContiguity, onlyForNeighbours } = allocation;
  return [
    `  seen in ${samples} mappings` +
    (onlyForNeighbours ? ", between adjacent local ports only" : "") +
    (preservesParity === true ? ", parity preserved" : "") +
    (preservesContiguity === true ? ", contiguity preserved" : ""),
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

/** The words of RFC 4787, with the classic one. */
const TEXT: Readonly<Record<BehaviorVerdict["behavior"], string>> = {
  "endpoint-independent": 'endpoint-independent (a "cone")',
  "address-dependent": "address-dependent",
  "address-and-port-dependent": "address- and port-dependent",
  none: "none",
  unknown: "unknown",
};

/** What stands between this machine and the server if there is no NAT, by its filtering. */
const WITHOUT_NAT: Readonly<Record<BehaviorVerdict["behavior"], string>> = {
  "endpoint-independent": "open",
  "address-dependent": "firewall",
  "address-and-port-dependent": "firewall",
  none: "open",
  unknown: "no NAT",
};

/** The widest label. */
const LABEL_WIDTH = "unsolicited SYN".length;

const WATCHING = "Watching for changes";

/** Chosen by us: ten minutes, far longer than any test takes. */
const MAX_TIMEOUT_MS = 600_000;
