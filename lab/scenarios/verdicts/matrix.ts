/**
 * The verdict matrix: NAT tests behind every kind of NAT with several servers, and how many verdicts were right.
 *
 * @module
 */

import { Lab } from "../../kernel/lab.ts";
import { type InternetSpec, nat } from "../../kernel/topology.ts";
import { behaviorOf, type Combination, judge, type Judgement, nameOf } from "./combinations.ts";
import { NatTester } from "./nat_tester.ts";
import { type ServerName, STUN_SERVERS } from "./stun_servers.ts";

/** What to run. */
export interface MatrixOptions {
  readonly combinations: readonly Combination[];
  readonly servers: readonly ServerName[];
  /** How many runs for each NAT and server. */
  readonly runs: number;
  readonly internet: InternetSpec;
  /** Whether to name the server's alternate address as well, so that the test knows it from the start. */
  readonly alternateKnown: boolean;
  /** Called after each cell. */
  readonly onCell?: (cell: Cell) => void;
}

/** The results of one NAT with one server. */
export interface Cell {
  readonly nat: string;
  readonly server: ServerName;
  readonly counts: Readonly<
    Record<"mapping" | "filtering" | "allocation", Record<Judgement, number>>
  >;
  /** Times to the verdict, sorted. */
  readonly elapsedMs: readonly number[];
  readonly packets: number;
  /** What was wrong or unknown, with its evidence. */
  readonly notes: readonly string[];
}

/** Runs the matrix in one lab. */
export async function runMatrix(options: MatrixOptions): Promise<Cell[]> {
  await using lab = await Lab.start({
    hosts: {
      ...Object.fromEntries(
        options.servers.map((name, index) => [name, { addresses: addressesOf(index) }]),
      ),
      a: { behind: nat("portRestricted") },
    },
    internet: options.internet,
  });
  for (const name of options.servers) await STUN_SERVERS[name](lab.host(name));
  const tester = new NatTester(lab.host("a"));
  const cells: Cell[] = [];
  for (const combination of options.combinations) {
    await lab.nat("a/nat").setBehavior(behaviorOf(combination));
    for (const server of options.servers) {
      const cell = await runCell(combination, server);
      cells.push(cell);
      options.onCell?.(cell);
    }
  }
  await tester.close();
  return cells;

  async function runCell(combination: Combination, server: ServerName): Promise<Cell> {
    const counts = { mapping: zero(), filtering: zero(), allocation: zero() };
    const elapsedMs: number[] = [];
    const notes: string[] = [];
    let packets = 0;
    const [first, second] = lab.host(server).ips as [string, string];
    const servers = options.alternateKnown ? [first, `${second}:3479`] : [first];
    for (let run = 0; run < options.runs; run++) {
      await lab.nat("a/nat").flush();
      const answer = await tester.run({ servers, transports: ["udp"], families: [4] });
      const report = "report" in answer ? answer.report.udp.ipv4 : null;
      if (report === null) {
        notes.push("error" in answer ? answer.error : "no report");
        for (const part of PARTS) counts[part].unknown++;
        continue;
      }
      const judged = judge(combination, report);
      for (const part of PARTS) {
        counts[part][judged[part]]++;
        if (judged[part] !== "right") {
          notes.push(`${part} ${judged[part]}: ${JSON.stringify(report[part])}`);
        }
      }
      elapsedMs.push(report.elapsedMs);
      packets += report.details.packetsSent;
    }
    return {
      nat: nameOf(combination),
      server,
      counts,
      elapsedMs: elapsedMs.sort((a, b) => a - b),
      packets: packets / options.runs,
      notes,
    };
  }
}

function addressesOf(index: number): string[] {
  return [`203.0.113.${10 + 10 * index}`, `203.0.113.${11 + 10 * index}`];
}

function zero(): Record<Judgement, number> {
  return { right: 0, unknown: 0, wrong: 0 };
}

const PARTS = ["mapping", "filtering", "allocation"] as const;
