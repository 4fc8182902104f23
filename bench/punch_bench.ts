// deno-lint-ignore-file no-console
/**
 * How long punches take: over loopback between two processes, and on Linux in the lab between NATs of some kinds.
 * Machines and their load differ, so what counts are ratios, which `baselines/punch.json` keeps: round trips in the
 * lab, and over loopback plain dials with an echo, measured in the same run.
 *
 *     deno bench -A bench/punch_bench.ts              times
 *     deno run -A bench/punch_bench.ts [--update]     ratios; fails if one is worse than the baseline by too much
 *
 * @module
 */

import { formatTransportAddress } from "../lib/net/address.ts";
import { systemNetwork } from "../lib/net/system.ts";
import { serveStun } from "../lib/stun/server/server.ts";
import { labSupport } from "../lab/kernel/privileges.ts";
import { natKind, type NatKindName } from "../lab/scenarios/punches/nat_kinds.ts";
import { PunchLab } from "../lab/scenarios/punches/punch_lab.ts";
import { type PairResult, punchPair } from "../lab/scenarios/punches/punch_pair.ts";
import { PunchProgram } from "../lab/scenarios/punches/punch_program.ts";
import { median } from "./median.ts";

/** What `baselines/punch.json` keeps. */
interface Baseline {
  /** From the call to the nomination, with a prepared base socket, in plain dials with an echo. */
  readonly loopback: number;
  /** From the later side's start of dialling until both are connected, in round trips, by the NATs. */
  readonly lab?: Readonly<Record<string, number>>;
}

async function measure(): Promise<Baseline> {
  const plainMs = await fastestOf(ROUNDS, dialAndEcho);
  await using loopback = await Loopback.start();
  const punchMs = await fastestOf(ROUNDS, async () => (await loopback.punch()).totalMs);
  console.log(`loopback: ${punchMs.toFixed(1)} ms, a plain dial ${plainMs.toFixed(2)} ms`);
  return { loopback: punchMs / plainMs, ...labSupport().supported && { lab: await measureLab() } };
}

async function measureLab(): Promise<Record<string, number>> {
  await using lab = await PunchLab.start({ rttMs: RTT_MS });
  await lab.run(["portRestricted", "firewall"], { runs: 2 }); // programs have to be loaded once
  const found: Record<string, number> = {};
  for (const pair of PAIRS) {
    found[nameOf(pair)] = await medianOf(LAB_ROUNDS, async () => {
      const [run] = await lab.run(pair, { runs: 1 });
      return connectMs(run!) / RTT_MS;
    });
  }
  return found;
}

/** Two processes on this machine, and a STUN server. */
class Loopback implements AsyncDisposable {
  readonly #stack = new AsyncDisposableStack();
  readonly #programs: readonly [PunchProgram, PunchProgram];
  readonly #servers: readonly string[];

  private constructor(servers: readonly string[]) {
    const spawn = (program: string, args: readonly string[], options: SpawnOptions) =>
      new Deno.Command(program, { ...options, args: [...args] }).spawn();
    this.#programs = [new PunchProgram({ spawn }), new PunchProgram({ spawn })];
    this.#servers = servers;
  }

  static async start(): Promise<Loopback> {
    const server = await serveStun({ network: systemNetwork, address: "127.0.0.1", port: 0 });
    const loopback = new Loopback(server.addresses.map(formatTransportAddress));
    loopback.#stack.use(server);
    await loopback.punch(); // programs have to be loaded once
    return loopback;
  }

  async punch(): Promise<Connected> {
    const [a, b] = this.#programs.map((program) => ({ program, report: null }));
    const options = { servers: this.#servers, signalRttMs: 0, isWarm: true };
    return connected(await punchPair([a!, b!], options));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#programs.map((program) => program.close()));
    await this.#stack[Symbol.asyncDispose]();
  }
}

type Connected = Extract<PairResult, { kind: "connected" }>;
type SpawnOptions = Omit<Deno.CommandOptions, "args">;

function connected(result: PairResult): Connected {
  if (result.kind === "connected") return result;
  throw new Error(`Cannot measure: ${result.reason}`);
}

function connectMs(result: PairResult): number {
  return connected(result).connectMs;
}

async function dialAndEcho(): Promise<number> {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const accepting = listener.accept();
  const startedMs = performance.now();
  using dialled = await Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port });
  using accepted = await accepting;
  await dialled.write(new Uint8Array(36));
  await accepted.write(new Uint8Array(await accepted.read(new Uint8Array(64)) ?? 0));
  await dialled.read(new Uint8Array(64));
  return performance.now() - startedMs;
}

/** Over loopback all else is noise. */
async function fastestOf(rounds: number, measureOnce: () => Promise<number>): Promise<number> {
  let fastest = Infinity;
  for (let round = 0; round < rounds; round++) fastest = Math.min(fastest, await measureOnce());
  return fastest;
}

async function medianOf(rounds: number, measureOnce: () => Promise<number>): Promise<number> {
  const values: number[] = [];
  for (let round = 0; round < rounds; round++) values.push(await measureOnce());
  return median(values);
}

function nameOf(pair: readonly [NatKindName, NatKindName]): string {
  return pair.map((name) => natKind(name).name).join(" x ");
}

function compare(found: Baseline, baseline: Baseline): string[] {
  const pairs = Object.entries(found.lab ?? {}).map(([name, now]) => ({
    name,
    now,
    before: baseline.lab?.[name],
    tolerance: TOLERANCE,
  }));
  const loopback = {
    name: "loopback",
    now: found.loopback,
    before: baseline.loopback,
    tolerance: LOOPBACK_TOLERANCE,
  };
  return [loopback, ...pairs].flatMap(({ name, now, before, tolerance }) =>
    before === undefined || now <= before * tolerance
      ? []
      : [`${name} is ${now.toFixed(2)}, and was ${before}`]
  );
}

/** A pair for each method, and two NATs that reset. */
const PAIRS: readonly (readonly [NatKindName, NatKindName])[] = [
  ["public", "random"],
  ["portRestricted", "portRestricted"],
  ["closing", "closing"],
  ["addressRestricted", "random"],
  ["portRestricted", "sequential"],
  ["portRestricted", "block"],
  ["portRestricted", "random"],
];

const RTT_MS = 80;
const ROUNDS = 51;
const LAB_ROUNDS = 11;

/** Rounds in the lab: a birthday attempt hits sooner or later by chance. */
const TOLERANCE = 1.5;

/** A plain dial takes 0.1 ms, and half or twice that depending on the machine. */
const LOOPBACK_TOLERANCE = 3;
const BASELINE = new URL("./baselines/punch.json", import.meta.url);

Deno.bench({
  name: "punch over loopback, with a prepared base socket",
  group: "loopback",
  n: 20,
  async fn(context) {
    await using loopback = await Loopback.start();
    context.start();
    await loopback.punch();
    context.end();
  },
});

for (const pair of PAIRS) {
  Deno.bench({
    name: `${nameOf(pair)}, RTT ${RTT_MS} ms, cold`,
    group: "lab",
    ignore: !labSupport().supported,
    n: 5,
    async fn(context) {
      await using lab = await PunchLab.start({ rttMs: RTT_MS });
      await lab.run(pair, { runs: 1 }); // programs have to be loaded once
      context.start();
      const [run] = await lab.run(pair, { runs: 1, inTurn: false });
      context.end();
      connected(run!);
    },
  });
}

if (import.meta.main) {
  const found = await measure();
  console.log(`loopback: ${found.loopback.toFixed(1)} plain dials`);
  for (const [name, roundTrips] of Object.entries(found.lab ?? {})) {
    console.log(`${name}: ${roundTrips.toFixed(2)} round trips`);
  }
  if (Deno.args.includes("--update")) {
    const rounded = (_: string, value: unknown) =>
      typeof value === "number" ? Math.round(value * 100) / 100 : value;
    Deno.writeTextFileSync(BASELINE, JSON.stringify(found, rounded, 2) + "\n");
  } else {
    const misses = compare(found, JSON.parse(Deno.readTextFileSync(BASELINE)));
    for (const miss of misses) console.log(miss);
    if (misses.length > 0) Deno.exitCode = 1;
  }
}
