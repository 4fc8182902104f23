/**
 * `nat-test`: which NAT am I behind, and what does it mean.
 *
 * @module
 */

import type { Logger } from "../base/logger.ts";
import type { FamilyReport, NatReport } from "../nat/behavior.ts";
import { testNat, type TestNatOptions } from "../nat/report.ts";
import { type IpFamily, parseHostPort } from "../net/address.ts";
import { readArguments, readInteger, readWith } from "./arguments.ts";
import { type CliIo, EXIT, UsageError } from "./io.ts";
import { natReportText } from "./nat_report_text.ts";

/** One line of help. */
export const NAT_TEST_USAGE =
  "nat-test [--server HOST[:PORT]]... [--transport udp|tcp] [--family 4|6] [--timeout MS] [--no-hairpinning]" +
  " [--lifetime SECONDS] [--verbose] [--json]";

/**
 * Runs the command; its exit code.
 *
 * @throws {UsageError} if the command line is wrong
 * @throws what {@linkcode testNat} throws of the network
 */
export async function natTest(args: readonly string[], io: CliIo): Promise<number> {
  const { flags, values, lists } = readArguments(args, {
    flags: ["json", "no-hairpinning", "verbose"],
    values: ["transport", "family", "timeout", "lifetime"],
    lists: ["server"],
  });
  const transport = readChoice("transport", values.get("transport"), ["udp", "tcp"] as const);
  const family = readChoice("family", values.get("family"), ["4", "6"] as const);
  const timeoutMs = readInteger("timeout", values.get("timeout"), { min: 1, max: 600_000 });
  const lifetimeSeconds = readInteger("lifetime", values.get("lifetime"), { min: 1, max: 86_400 });
  const servers = lists.get("server")!;
  for (const server of servers) readWith(() => parseHostPort(server, 0));
  const options: TestNatOptions = {
    signal: io.signal,
    hairpinning: !flags.has("no-hairpinning"),
    ...servers.length > 0 && { servers },
    ...transport && { transports: [transport] },
    ...family && { families: [Number(family) as IpFamily] },
    ...timeoutMs && { timeoutMs },
    ...lifetimeSeconds && { lifetimeSeconds },
    ...flags.has("verbose") && { logger: loggerTo(io) },
  };
  const report = await testNat(options);
  if (flags.has("json")) {
    io.out(JSON.stringify(toJson(report, { withLifetime: lifetimeSeconds !== undefined })));
  } else {
    for (const line of natReportText(report)) io.out(line);
  }
  const { difficulty } = report.verdict;
  const families = [report.udp.ipv4, report.udp.ipv6, report.tcp.ipv4, report.tcp.ipv6];
  const isAnswered = families.some((family) => family?.reachable);
  if (difficulty === "unknown" && !isAnswered) return EXIT.timeout;
  return difficulty === "offline" || difficulty === "blocked" ? EXIT.offlineOrBlocked : EXIT.ok;
}

/** The contract that other programs rely on: these keys and no others, but for what was asked for. */
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
  };
}

function readChoice<T extends string>(
  name: string,
  text: string | undefined,
  choices: readonly T[],
): T | undefined {
  if (text === undefined) return undefined;
  const choice = choices.find((choice) => choice === text);
  if (choice !== undefined) return choice;
  throw new UsageError(`--${name} takes ${choices.join(" or ")}, not ${text}`);
}

function loggerTo(io: CliIo): Logger {
  const print = (message: string) => io.err(message);
  return { debug: print, info: print, warn: print };
}
