/**
 * `doctor`: why does it not work. Examines this network, says what stands in the way, what works with whom, and what to
 * do; with the other side's report or ticket, which of the two networks is at fault.
 *
 * @module
 */

import { examineNetwork } from "../doctor/examine.ts";
import { isCutOff, pairReport } from "../doctor/pair_plan.ts";
import { redacted, withoutKeys } from "../doctor/redaction.ts";
import {
  decodeReport,
  type DoctorReport,
  type ForeignReport,
  MAX_REPORT_BYTES,
  type PairReport,
} from "../doctor/report_message.ts";
import { CHECK_TITLES, EXPECTATION_WORDS, STATE_WORDS } from "../doctor/words.ts";
import { MalformedMessageError } from "../base/errors.ts";
import { chooseServers, parseServer } from "../nat/servers.ts";
import { systemNetwork } from "../net/system.ts";
import { readSmallFile } from "../net/system/private_input.ts";
import { writePrivateFile } from "../net/system/private_file.ts";
import type { PeerOptions } from "../peer/options.ts";
import { decodeTicket } from "../peer/ticket.ts";
import { DEFAULT_SIGNALING } from "../signal/open.ts";
import { type Arguments, readCommand, readWith } from "./arguments.ts";
import { withConfig } from "./config.ts";
import { type CliIo, EXIT, reasonOfFile, remedyHere, UsageError } from "./io.ts";
import { table } from "./layout.ts";
import { openPeerInput, readConnectTimings, readSignalUrls } from "./peer_options.ts";
import { readProxy } from "./proxy.ts";
import { outputColumns, waitFor, waitOver } from "./screen.ts";
import type { SecretReader } from "./secrets.ts";
import { VERSION } from "./version.ts";

/**
 * Runs the command; returns its exit code.
 *
 * @throws {UsageError} if the command line is wrong
 */
export async function doctor(args: readonly string[], io: CliIo): Promise<number> {
  const given = await withConfig(readCommand("doctor", args));
  const { flags, values, lists } = given;
  const { secrets } = openPeerInput(io);
  const named = lists.get("server")!;
  for (const server of named) readWith(() => parseServer(server), "--server");
  const other = await readOther(given, secrets, io);
  const urls = await readSignalUrls(given, secrets);
  const signaling = urls.length > 0 ? urls : DEFAULT_SIGNALING;
  const servers = named.length > 0 ? named : chooseServers(Math.random);
  const proxy = await readProxy(given, secrets);
  const timings = readConnectTimings(values);
  waitFor(io, "Examining the network", EXAMINE_MS);
  const report = await examineNetwork({
    network: systemNetwork,
    servers,
    signaling: signaling.filter((url) => url !== "lan:"),
    proxy,
    isPublic: flags.has("public"),
    signal: io.signal,
  });
  const pair = other === undefined ? null : await examinePair(report, other, {
    ...{ io, signaling, servers: named, proxy },
    ...timings,
  });
  waitOver(io);
  const told = redacted(asTyped({ ...report, pair }), { isFull: flags.has("full") });
  const page = values.get("html");
  if (page !== undefined) await writePage(page, told, io);
  if (flags.has("json")) io.out(JSON.stringify(told));
  else for (const line of reportText(told, outputColumns(io))) io.out(line);
  return exitCodeOf(told);
}

/** Formats the report for people, line by line. */
export function reportText(report: DoctorReport, columns?: number): string[] {
  const { verdict, findings, remedies, checks, peers, pair } = report;
  const isAlone = isCutOff(report.profile) && report.profile.relays.length === 0;
  const isNarrow = columns !== undefined && columns < NARROW_COLUMNS;
  const further = findings.filter(({ summary }) => summary !== verdict.summary);
  return [
    verdict.summary,
    ...further.map(({ summary }) => `Note: ${summary}`),
    ...pair === null ? [] : ["", ...pairText(pair)],
    ...remedies.length === 0 ? [] : ["", "What to do", ...numbered(remedies)],
    "",
    "Checks",
    ...table(
      checks.flatMap(({ name, state, seen, remedy }) => [
        [
          ...isNarrow
            ? [`${CHECK_TITLES[name]}: ${STATE_WORDS[state]}`]
            : [CHECK_TITLES[name], STATE_WORDS[state]],
          seen,
        ],
        ...remedy === null || remedies.includes(remedy)
          ? []
          : [[...isNarrow ? [""] : ["", ""], remedy]],
      ]),
      { columns },
    ),
    ...isAlone ? [] : [
      "",
      "A connection with a peer",
      ...table(
        peers.map(({ peer, expectation, reason }) => [
          peer,
          `${EXPECTATION_WORDS[expectation]}, ${reason}`,
        ]),
        { columns },
      ),
    ],
  ];
}

function pairText({ there, expected, tried, summary, remedies }: PairReport): string[] {
  return [
    summary,
    ...there === null ? [] : [`  there     ${there}`],
    ...expected === null
      ? []
      : [`  expected  ${EXPECTATION_WORDS[expected.expectation]}, ${expected.reason}`],
    ...tried === null ? [] : [`  tried     ${EXPECTATION_WORDS[tried.outcome]}, ${tried.reason}`],
    ...numbered(remedies),
  ];
}

function numbered(lines: readonly string[]): string[] {
  return lines.map((line, index) => `  ${index + 1}. ${line}`);
}

/** What is known of the other side. */
interface OtherSide {
  readonly report?: ForeignReport;
  readonly ticket?: string;
}

async function readOther(
  { lists }: Arguments,
  secrets: SecretReader,
  io: CliIo,
): Promise<OtherSide | undefined> {
  const given = lists.get("with")!;
  if (given.length === 0) return undefined;
  const others = await Promise.all(given.map((text) => readOne(text, secrets, io)));
  const tickets = others.flatMap(({ ticket }) => ticket ?? []);
  const reports = others.flatMap(({ report }) => report ?? []);
  if (tickets.length > 1 || reports.length > 1) {
    throw new UsageError("--with takes one report and one ticket of the same peer");
  }
  return { report: reports[0], ticket: tickets[0] };
}

async function readOne(text: string, secrets: SecretReader, io: CliIo): Promise<OtherSide> {
  const isNamed = text === "-" || text.startsWith("@");
  const ticket = isNamed ? await secrets.read("--with", text) : text;
  if (/^\s*punchline:/i.test(ticket)) {
    try {
      decodeTicket(ticket);
      return { ticket: ticket.trim() };
    } catch (error) {
      if (!(error instanceof MalformedMessageError)) throw error;
      throw new UsageError(`--with: ${error.message}`, { cause: error });
    }
  }
  if (isNamed) throw new UsageError("--with takes a ticket, or the name of a file with a report");
  try {
    io.signal.throwIfAborted();
    return { report: decodeReport((await readSmallFile(text, MAX_REPORT_BYTES)).text) };
  } catch (error) {
    io.signal.throwIfAborted();
    throw new UsageError(`--with ${withoutKeys(text)}: ${reasonOfFile(error, text)}`, {
      cause: error,
      remedy: "Make the report on the other machine with `punchline doctor --json > report.json`",
    });
  }
}

async function examinePair(
  { profile }: DoctorReport,
  { report, ticket }: OtherSide,
  { io, servers, ...options }: {
    io: CliIo;
    signaling: readonly string[];
    servers: readonly string[];
    proxy: PeerOptions["proxy"];
  } & Pick<PeerOptions, "timings">,
): Promise<PairReport> {
  if (ticket === undefined) return pairReport(profile, report!, null);
  waitFor(io, "Connecting to the other side", TRY_MS);
  const { tryPair } = await import("../doctor/try_pair.ts");
  const tried = await tryPair(ticket, {
    ...options,
    servers: servers.length > 0 ? servers : undefined,
    signal: io.signal,
  });
  return pairReport(profile, report ?? null, tried);
}

async function writePage(path: string, report: DoctorReport, io: CliIo): Promise<void> {
  const { reportPage } = await import("../doctor/page.ts");
  const made = `punchline ${VERSION}, ${
    new Date().toISOString().slice(0, 16).replace("T", " ")
  } UTC`;
  try {
    await writePrivateFile(path, reportPage(report, made));
  } catch (error) {
    throw new UsageError(`--html ${path}: ${reasonOfFile(error, path)}`, { cause: error });
  }
  io.err(`Wrote ${path}`);
}

/** Options of the library have their names of the command line. */
function asTyped(report: DoctorReport): DoctorReport {
  const typed = <T extends { readonly remedy: string | null }>(all: readonly T[]) =>
    all.map((each) => ({ ...each, remedy: each.remedy === null ? null : remedyHere(each.remedy) }));
  return {
    ...report,
    findings: typed(report.findings),
    checks: typed(report.checks),
    remedies: report.remedies.map(remedyHere),
  };
}

function exitCodeOf({ verdict, pair }: DoctorReport): number {
  if (pair !== null) {
    if (pair.tried?.isAnswered === false && pair.fault === null) return EXIT.peerNotFound;
    const outcome = pair.tried?.outcome ?? pair.expected?.expectation;
    return outcome === "none" ? EXIT.failure : EXIT.ok;
  }
  return verdict.state === "fail" ? EXIT.offlineOrBlocked : EXIT.ok;
}

/** Chosen by us: with fewer, names and results of checks share a column. */
const NARROW_COLUMNS = 60;

/** For the status line. */
const EXAMINE_MS = 5000;
const TRY_MS = 60_000;
