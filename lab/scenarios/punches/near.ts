/**
 * Punches between hosts that are near each other or behind the same NATs, where the best path is not across the
 * internet.
 *
 * @module
 */

import { Lab } from "../../kernel/lab.ts";
import type { LabHost } from "../../kernel/lab_host.ts";
import { nat, type Topology } from "../../kernel/topology.ts";
import { STUN_SERVERS } from "../verdicts/stun_servers.ts";
import { type FigureRow, toRow } from "./figure_runs.ts";
import type { Goal } from "./figures.ts";
import { NAT_KINDS, reportOf } from "./nat_kinds.ts";
import { SERVER_IPS, SERVERS } from "./punch_lab.ts";
import type { PunchRun } from "./punch_lab.ts";
import { punchPair } from "./punch_pair.ts";
import { PunchProgram } from "./punch_program.ts";

/** Where both sides are. */
export interface NearScene {
  readonly setting: string;
  /** `a` and `b`, or only `a` for two programs in one host. */
  readonly hosts: Topology["hosts"];
  readonly goal: Goal;
  /** The prefix of the remote address that the controlling side must have connected to. */
  readonly path: string;
  /** Whether the hosts cannot reach each other within their LAN, as in a guest Wi-Fi. */
  readonly isolated?: boolean;
}

/** Runs the scenes, each in its own lab. */
export async function runNearPunches(
  onRow: (row: FigureRow) => void = () => {},
  { runs = RUNS, scenes = NEAR_SCENES } = {},
): Promise<FigureRow[]> {
  const rows: FigureRow[] = [];
  for (const scene of scenes) {
    const row = toRow(scene, await runScene(scene, runs));
    rows.push(row);
    onRow(row);
  }
  return rows;
}

async function runScene(scene: NearScene, runs: number): Promise<PunchRun[]> {
  await using lab = await Lab.start({
    hosts: { servers: { addresses: SERVER_IPS }, ...scene.hosts },
    internet: { rttMs: RTT_MS },
  });
  await STUN_SERVERS.punchline(lab.host("servers"));
  const names = "b" in scene.hosts ? ["a", "b"] as const : ["a", "a"] as const;
  const hosts = names.map((name) => lab.host(name));
  if (scene.isolated) await isolate(hosts);
  const programs = hosts.map((host) => new PunchProgram(host));
  const [a, b] = programs.map((program) => ({ program, report: REPORT }));
  const syns = async () => {
    const { hosts } = await lab.counters();
    return [...new Set(names)].reduce((sum, name) => sum + hosts[name]!.sentSyns, 0);
  };
  const found: PunchRun[] = [];
  await punchPair([a!, b!], { servers: SERVERS }); // warms up: the first run loads the programs
  for (let run = 0; run < runs; run++) {
    const before = await syns();
    const result = await punchPair([a!, b!], { servers: SERVERS });
    found.push({ ...judge(result, scene.path), syns: await syns() - before });
  }
  await Promise.all(programs.map((program) => program.close()));
  return found;
}

function judge(result: Awaited<ReturnType<typeof punchPair>>, path: string): typeof result {
  if (result.kind !== "connected" || result.remote.startsWith(path)) return result;
  const { totalMs, remote } = result;
  return { kind: "failed", reason: `connected to ${remote} instead of ${path}`, totalMs };
}

/** Drops packets from addresses of the LAN, so that only those that the NAT sends back arrive. */
async function isolate(hosts: readonly LabHost[]): Promise<void> {
  const rules = `table inet isolation {
    chain input { type filter hook input priority 0; ip saddr 192.168.1.0/24 drop; }
  }`;
  for (const host of hosts) {
    const { code, stderr } = await host.output("nft", [rules]);
    if (code !== 0) throw new Error(`Cannot isolate ${host.name}: ${stderr}`);
  }
}

const RUNS = 12;
const RTT_MS = 80;
const REPORT = reportOf(NAT_KINDS.portRestricted);

const home = nat("portRestricted");
const carrier = nat("portRestricted", { name: "carrier" });

/** On one host, in one home, behind one carrier's NAT, behind two. */
export const NEAR_SCENES: readonly NearScene[] = [
  {
    setting: "two programs on one host",
    hosts: { a: { behind: home } },
    goal: { success: 1, connectMs: 20 },
    path: "192.168.",
  },
  {
    setting: "two hosts in one LAN",
    hosts: { a: { behind: home }, b: { behind: home } },
    goal: { success: 1, connectMs: 20 },
    path: "192.168.",
  },
  {
    setting: "two hosts behind one NAT, isolated within the LAN: hairpin",
    hosts: { a: { behind: home }, b: { behind: home } },
    goal: { success: 1, connectMs: 40 },
    path: "198.51.100.",
    isolated: true,
  },
  {
    setting: "two homes behind one carrier's NAT: hairpin",
    hosts: {
      a: { behind: nat("portRestricted", { behind: carrier }) },
      b: { behind: nat("portRestricted", { behind: carrier }) },
    },
    goal: { success: 1, connectMs: 40 },
    path: "198.51.100.",
  },
  {
    setting: "two homes, each behind its own carrier's NAT",
    hosts: {
      a: { behind: nat("portRestricted", { behind: nat("portRestricted") }) },
      b: { behind: nat("portRestricted", { behind: nat("portRestricted") }) },
    },
    goal: { success: 1, connectMs: RTT_MS + 20 },
    path: "198.51.100.",
  },
];
