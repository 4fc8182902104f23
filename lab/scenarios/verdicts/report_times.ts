/**
 * How long `nat-test` takes as a person runs it: in a new program each time, over UDP and TCP.
 *
 * @module
 */

import type { NatReport } from "../../../lib/nat/behavior.ts";
import { Lab } from "../../kernel/lab.ts";
import { denoArgs } from "../../kernel/lab_host.ts";
import { nat } from "../../kernel/topology.ts";
import { behaviorOf, type Combination } from "./combinations.ts";
import { systemNetwork } from "../../../lib/net/system.ts";
import { serveStun } from "../../../lib/stun/server/server.ts";

/** What to measure. */
export interface ReportTimesOptions {
  readonly combinations: readonly Combination[];
  readonly rttMs: number;
  readonly runs: number;
}

/** The times behind one NAT, sorted. */
export interface ReportTimes {
  readonly combination: Combination;
  /** Whether the server's alternate address was named as well. */
  readonly alternateKnown: boolean;
  /** Until the verdict on UDP, as the report has it. */
  readonly udpMs: readonly number[];
  /** Until the whole report, as it has it. */
  readonly wholeMs: readonly number[];
  /** From the first line that the command printed to its end: how much earlier UDP was on the screen. */
  readonly printedMs: readonly number[];
}

/** Measures all combinations in one lab. */
export async function runReportTimes(options: ReportTimesOptions): Promise<ReportTimes[]> {
  await using lab = await Lab.start({
    hosts: {
      server: { addresses: ["203.0.113.10", "203.0.113.11"] },
      a: { behind: nat("portRestricted") },
    },
    internet: { rttMs: options.rttMs },
  });
  const [first, second] = lab.host("server").ips as [string, string];
  const server = denoArgs(import.meta.url, [first, second]);
  await lab.host("server").serve(Deno.execPath(), server, { ready: /ready/ });
  const cli = new URL("../../../cli.ts", import.meta.url);
  const run = async (servers: readonly string[], rest: readonly string[]) => {
    await lab.nat("a/nat").flush();
    const named = servers.flatMap((server) => ["--server", server]);
    const args = denoArgs(cli, ["nat-test", "--family", "4", ...named, ...rest]);
    return lab.host("a").spawn(Deno.execPath(), args, { stdout: "piped", stderr: "inherit" });
  };
  const results: ReportTimes[] = [];
  for (const alternateKnown of [true, false]) {
    const servers = alternateKnown ? [first, `${second}:3479`] : [first];
    for (const combination of options.combinations) {
      await lab.nat("a/nat").setBehavior(behaviorOf(combination));
      const times = { udpMs: [] as number[], wholeMs: [] as number[], printedMs: [] as number[] };
      for (let count = 0; count < options.runs; count++) {
        const { stdout } = await (await run(servers, ["--json"])).output();
        const report = JSON.parse(new TextDecoder().decode(stdout)) as NatReport;
        times.udpMs.push(report.udp.ipv4!.elapsedMs);
        times.wholeMs.push(report.elapsedMs);
        times.printedMs.push(await leadMs(await run(servers, [])));
      }
      for (const each of Object.values(times)) each.sort((a, b) => a - b);
      results.push({ combination, alternateKnown, ...times });
    }
  }
  return results;
}

/** How long before the end of a program its first output came. */
async function leadMs(child: Deno.ChildProcess): Promise<number> {
  let firstMs: number | undefined;
  let lastMs = 0;
  for await (const _ of child.stdout) {
    lastMs = performance.now();
    firstMs ??= lastMs;
  }
  await child.status;
  return lastMs - (firstMs ?? lastMs);
}

// As a program: a STUN server that never runs out of tests for one source, as `serve` does after ten runs.
if (import.meta.main) {
  const [address, alternateAddress] = Deno.args as [string, string];
  const filterTests = { tests: { burst: 10_000, perSecond: 1000 }, maxConcurrent: 64 };
  await using server = await serveStun({
    network: systemNetwork,
    address,
    alternateAddress,
    limits: { filterTests },
  });
  await Deno.stdout.write(new TextEncoder().encode("ready\n"));
  await server.finished;
}
