/**
 * The lab run of peers: the whole stack, from a ticket to the first byte.
 *
 * @module
 */

import type { PeerOptions } from "../../../lib/connect/peer_options.ts";
import type { Lab } from "../lab.ts";
import { ALL_KINDS } from "../punches/matrix.ts";
import type { NatKindName } from "../punches/nat_kinds.ts";
import { nat, type Topology } from "../topology.ts";
import type { SuiteOptions, SuiteResult } from "../verdicts/suites.ts";
import { type Outage, OUTAGES, runOutage } from "./outages.ts";
import { BROKER_URL, PeerLab, type PeerLabOptions, TURN_URL } from "./peer_lab.ts";
import type { PeerResult } from "./peer_runner.ts";
import { runTransfer } from "./transfer.ts";

/** The suite by its name. */
export const PEER_SUITES = {
  peers: peersSuite,
  transfer: transferSuite,
  outages: outagesSuite,
} as const;

/** What was run in one setting, and whether it is what it should be. */
interface PeerRow {
  readonly setting: string;
  readonly runs: number;
  readonly connected: number;
  readonly relayed: number;
  /** How the connections came about, each once. */
  readonly strategies: readonly string[];
  /** Medians in milliseconds, from the call. */
  readonly connectMs: number;
  readonly firstByteMs: number;
  readonly goal: string;
  readonly passed: boolean;
  readonly failures: readonly string[];
}

async function peersSuite({ runs = RUNS, print }: SuiteOptions): Promise<SuiteResult> {
  print(HEADING);
  const rows: PeerRow[] = [];
  const add = (row: PeerRow) => {
    rows.push(row);
    print(lineOf(row));
  };
  for (const scene of SCENES) add(await runScene(scene, runs));
  for (const row of await runMatrix()) add(row);
  return {
    failures: rows.filter(({ passed }) => !passed).map((row) =>
      [lineOf(row), ...row.failures].join("; ")
    ),
    data: rows,
  };
}

/** A large file through two NATs, cut three times, beside a bare TCP connection. */
async function transferSuite({ runs = 1, print }: SuiteOptions): Promise<SuiteResult> {
  print("|  | MiB | cuts | new paths | whole | seconds | bare TCP, seconds | ratio of rates |");
  const failures: string[] = [];
  const data: unknown[] = [];
  for (const options of [{ megabytes: 1024, cuts: 0 }, { megabytes: 1024, cuts: 3 }]) {
    for (let run = 0; run < runs; run++) {
      const result = await runTransfer(options);
      const { megabytes, cuts, newPaths, isWhole, seconds, bareSeconds } = result;
      const passed = isWhole && newPaths >= cuts;
      const cells = [
        ...[passed ? "ok" : "NO", megabytes, cuts, newPaths, isWhole ? "yes" : "NO"],
        ...[seconds.toFixed(1), bareSeconds.toFixed(1), (bareSeconds / seconds).toFixed(2)],
      ];
      const line = `| ${cells.join(" | ")} |`;
      print(line);
      data.push(result);
      if (!passed) failures.push(line);
    }
  }
  return { failures, data };
}

/** A side that dies, a NAT that forgets, an address that changes: when it is noticed, and what comes of it. */
async function outagesSuite({ runs = 3, print }: SuiteOptions): Promise<SuiteResult> {
  print("|  | what happens | noticed after ms | goal | settled after ms | goal |");
  const failures: string[] = [];
  const data: unknown[] = [];
  for (const outage of Object.values<Outage>(OUTAGES)) {
    for (let run = 0; run < runs; run++) {
      const result = await runOutage(outage);
      const { setting, noticedMs, settledMs, passed } = result;
      const cells = [
        ...[passed ? "ok" : "NO", setting, noticedMs.toFixed(0), outage.noticedMs],
        ...[settledMs?.toFixed(0) ?? "", outage.settledMs ?? ""],
      ];
      const line = `| ${cells.join(" | ")} |`;
      print(line);
      data.push(result);
      if (!passed) failures.push(line);
    }
  }
  return { failures, data };
}

/** Where two peers are, and what is expected of them. */
interface PeerScene extends PeerLabOptions {
  readonly setting: string;
  /** `a` and `b` unless given; the first one has the ticket. */
  readonly between?: readonly [string, string];
  readonly hosts: NonNullable<Topology["hosts"]>;
  readonly options?: PeerOptions;
  readonly prepare?: (lab: Lab) => Promise<void>;
  /** For the median of the first byte. */
  readonly firstByteMs?: number;
  /** Whether a relay may carry it. */
  readonly mayBeRelayed?: boolean;
  readonly strategy?: string;
}

async function runScene(scene: PeerScene, runs: number): Promise<PeerRow> {
  await using lab = await PeerLab.start(scene);
  await scene.prepare?.(lab.lab);
  const { options, between = ["a", "b"], firstByteMs, mayBeRelayed = false, strategy } = scene;
  const results: PeerResult[] = [];
  await lab.connect(between, { options }); // programs have to be loaded once
  for (let run = 0; run < runs; run++) results.push(await lab.connect(between, { options }));
  const goal = firstByteMs === undefined ? "100 %" : `100 %, first byte <= ${firstByteMs} ms`;
  return judge(scene.setting, results, goal, (row) =>
    (mayBeRelayed || row.relayed === 0) &&
    (strategy === undefined || row.strategies.join() === strategy) &&
    row.firstByteMs <= (firstByteMs ?? Infinity));
}

/** Every kind of NAT with every other, with a relay for those that nothing else connects. */
async function runMatrix(): Promise<PeerRow[]> {
  await using lab = await PeerLab.start({ internet: { rttMs: 50 } });
  const [hopeful, hopeless]: [PeerResult[], PeerResult[]] = [[], []];
  for (const [index, row] of ALL_KINDS.entries()) {
    for (const column of ALL_KINDS.slice(0, index + 1)) {
      const result = await lab.connectKinds([row, column], { options: turn });
      const isHopeless = RANDOM.has(row) && SYMMETRIC.has(column) ||
        RANDOM.has(column) && SYMMETRIC.has(row);
      (isHopeless ? hopeless : hopeful).push(result);
    }
  }
  return [
    judge(
      "every pair that a punch can connect, one run each",
      hopeful,
      `100 %, relayed in ${100 * MAY_MISS} % at the most`,
      ({ relayed }) => relayed <= MAY_MISS * hopeful.length,
    ),
    judge(
      "every pair that no punch connects: random ports and ports that are not known either",
      hopeless,
      "100 %, all by the relay",
      ({ relayed }) => relayed === hopeless.length,
    ),
  ];
}

function judge(
  setting: string,
  results: readonly PeerResult[],
  goal: string,
  isGood: (row: Omit<PeerRow, "passed">) => boolean,
): PeerRow {
  const connected = results.flatMap((each) => each.outcome === "connected" ? [each] : []);
  const row = {
    ...{ setting, goal },
    runs: results.length,
    connected: connected.length,
    relayed: connected.filter(({ relayed }) => relayed).length,
    strategies: [...new Set(connected.map(({ strategy }) => strategy))].sort(),
    connectMs: median(connected.map(({ connectMs }) => connectMs)),
    firstByteMs: median(connected.map(({ firstByteMs }) => firstByteMs)),
    failures: results.filter(({ outcome }) => outcome !== "connected").map(describe),
  };
  return { ...row, passed: connected.length === results.length && isGood(row) };
}

function describe(result: PeerResult): string {
  if (result.outcome === "connected") {
    return `${result.strategy}${result.relayed ? ", relayed" : ""}`;
  }
  return result.outcome === "failed" ? `${result.error}: ${result.message}` : result.outcome;
}

function lineOf(row: PeerRow): string {
  const share = row.runs === 0 ? "" : `${row.connected}/${row.runs}`;
  const ms = (value: number) => Number.isNaN(value) ? "" : value.toFixed(0);
  return `| ${row.passed ? "ok" : "NO"} | ${row.setting} | ${share} | ${row.relayed || ""} | ${
    row.strategies.join(", ")
  } | ${ms(row.connectMs)} | ${ms(row.firstByteMs)} | ${row.goal} |`;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? NaN;
}

async function nft(lab: Lab, hosts: readonly string[], rules: string): Promise<void> {
  for (const name of hosts) {
    const { code, stderr } = await lab.host(name).output("nft", [rules]);
    if (code !== 0) throw new Error(`Cannot filter at ${name}: ${stderr}`);
  }
}

const HEADING = "|  | setting | connected | relayed | by | connect ms | first byte ms | goal |";

const RUNS = 12;

/** Kinds whose ports nobody can know. */
const RANDOM: ReadonlySet<NatKindName> = new Set(["block", "random"]);

/** Kinds whose ports depend on the destination: those of `RANDOM` cannot be dialled from behind them. */
const SYMMETRIC: ReadonlySet<NatKindName> = new Set([
  ...["preserving", "sequential", "descending", "byTwos", "byThrees"] as const,
  ...RANDOM,
]);

/** Ours: a spray and a prediction miss now and then, and the relay is there for that. */
const MAY_MISS = 0.05;

const home = nat("portRestricted");
const homes = { a: { behind: nat("portRestricted") }, b: { behind: nat("portRestricted") } };
const turn = { turn: [TURN_URL] };

/** 51 ms to the servers and 82 ms between the NATs, a link of the NATs' and of the servers' own. */
const link = (delayMs: number) => ({ link: { delayMs } });
const far = {
  internet: {},
  serverLink: { delayMs: (51 - 82 / 2) / 2 },
  hosts: {
    a: { behind: nat("portRestricted", link(82 / 4)) },
    b: { behind: nat("portRestricted", link(82 / 4)) },
  },
};

const SCENES: readonly PeerScene[] = [
  {
    setting: "51 ms to the servers and 82 ms between the NATs; both peers open, by WebSocket",
    ...far,
    firstByteMs: 350,
  },
  {
    setting: "the same, by MQTT",
    ...far,
    options: { signaling: [BROKER_URL] },
    firstByteMs: 350,
  },
  {
    setting: "two hosts in one LAN, by WebSocket 51 ms away",
    internet: { rttMs: 51 },
    hosts: { a: { behind: home }, b: { behind: home } },
    strategy: "lan",
    firstByteMs: 50 + 3 * 51,
  },
  {
    setting: "two programs on one host",
    internet: { rttMs: 51 },
    hosts: { a: { behind: home } },
    between: ["a", "a"],
    strategy: "host",
  },
  {
    setting: "symmetric and random on both sides: only the relay, 51 ms away",
    internet: { rttMs: 51 },
    hosts: { a: { behind: nat("symmetric") }, b: { behind: nat("symmetric") } },
    options: turn,
    mayBeRelayed: true,
    strategy: "relay",
    firstByteMs: 1500,
  },
  {
    setting: "carriers' NATs above home NATs",
    internet: { rttMs: 50 },
    hosts: {
      a: { behind: nat("portRestricted", { behind: nat("portRestricted") }) },
      b: { behind: nat("portRestricted", { behind: nat("portRestricted") }) },
    },
    options: turn,
  },
  {
    setting: "one side on the open internet",
    internet: { rttMs: 50 },
    hosts: { a: { behind: home }, b: {} },
    options: turn,
  },
  {
    setting: "UDP blocked on both sides",
    internet: { rttMs: 50 },
    hosts: homes,
    options: turn,
    prepare: async (lab) => {
      for (const name of ["a", "b"]) await lab.block(name, "udp");
    },
  },
  {
    setting: "nothing but TCP to the rendezvous and to port 443 gets out, on both sides",
    internet: { rttMs: 50 },
    hosts: homes,
    options: turn,
    mayBeRelayed: true,
    strategy: "relay",
    prepare: (lab) =>
      nft(
        lab,
        ["a", "b"],
        `table inet office {
          chain output {
            type filter hook output priority 0; policy drop;
            oif lo accept
            tcp dport { 443, 3480 } accept
          }
        }`,
      ),
  },
  {
    setting: "5 % of all packets lost each way, 30 ms of jitter",
    internet: { rttMs: 50, loss: 0.05, jitterMs: 30 },
    hosts: homes,
    options: turn,
    mayBeRelayed: true,
  },
];
