/**
 * The command `lab`: runs suites in the NAT lab.
 *
 * @module
 */

import { readCommand, readInteger } from "../lib/cli/arguments.ts";
import { type CliIo, EXIT, UsageError } from "../lib/cli/io.ts";
import { labSupport } from "./kernel/privileges.ts";
import { PEER_SUITES } from "./scenarios/peers/suite.ts";
import { PUNCH_SUITES } from "./scenarios/punches/suites.ts";
import { UDP_SUITES } from "./scenarios/punches/udp.ts";
import { STREAM_SUITES } from "./scenarios/streams/suite.ts";
import {
  type SuiteOptions,
  type SuiteResult,
  SUITES as VERDICT_SUITES,
} from "./scenarios/verdicts/suites.ts";
import { type ServerName, STUN_SERVERS } from "./scenarios/verdicts/stun_servers.ts";

/** Runs the named suites, or all of them; returns 1 if any of them misses its own goals. */
export async function lab(args: readonly string[], io: CliIo): Promise<number> {
  const { flags, values, lists, operands } = readCommand("lab", args);
  const runs = readInteger("runs", values.get("runs"), { min: 1, max: 1000 });
  const servers = lists.get("server")!.map(serverName);
  const names = operands.length > 0 ? operands : Object.keys(SUITES);
  for (const name of names) {
    if (!(name in SUITES)) {
      throw new UsageError(`unknown suite ${name}; use one of ${Object.keys(SUITES).join(", ")}`);
    }
  }
  const svgPath = values.get("svg");
  if (svgPath !== undefined && !names.includes("punch")) {
    throw new UsageError("--svg needs the suite punch");
  }
  const support = labSupport();
  if (!support.supported) {
    io.err(`punchline: Cannot run the lab: ${support.reason}`);
    return EXIT.failure;
  }

  const print = flags.has("json") ? io.err : io.out;
  const failures: string[] = [];
  const results: Record<string, unknown> = {};
  for (const name of names) {
    print(`\n${name}`);
    const { failures: found, data, picture } = await SUITES[name]!({
      print,
      runs,
      servers: servers.length > 0 ? servers : undefined,
      rows: lists.get("row")!,
    });
    results[name] = data;
    if (picture !== undefined && svgPath !== undefined) await Deno.writeTextFile(svgPath, picture);
    failures.push(...found.map((failure) => `${name}: ${failure}`));
  }
  if (flags.has("json")) io.out(JSON.stringify(results));
  for (const failure of failures) io.err(`failed: ${failure}`);
  return failures.length === 0 ? EXIT.ok : EXIT.failure;
}

const SUITES: Readonly<Record<string, (options: SuiteOptions) => Promise<SuiteResult>>> = {
  ...VERDICT_SUITES,
  ...PUNCH_SUITES,
  ...UDP_SUITES,
  ...PEER_SUITES,
  ...STREAM_SUITES,
};

function serverName(text: string): ServerName {
  if (text in STUN_SERVERS) return text as ServerName;
  throw new UsageError(
    `--server must be one of ${Object.keys(STUN_SERVERS).join(", ")}, not ${text}`,
  );
}
