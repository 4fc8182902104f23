// deno-lint-ignore-file no-console -- what it prints is its result
/**
 * Measures the lab itself, in about half a minute: `deno run -A lab/kernel/measure.ts`. README.md has the results on a
 * machine with two cores.
 *
 * @module
 */

import { type Percentiles, percentiles } from "./counters.ts";
import { Lab } from "./lab.ts";
import { denoArgs, type LabHost } from "./lab_host.ts";
import type { Answers } from "./programs/ask.ts";
import type { Opened } from "./programs/tcp_open.ts";
import { nat, type Topology } from "./topology.ts";

async function measureStart(): Promise<void> {
  const elapsedMs = await repeat(10, async () => {
    await using _ = await Lab.start(TOPOLOGY);
  });
  print("start and end a lab of three hosts and two NATs", elapsedMs);
}

async function measureChange(lab: Lab): Promise<void> {
  const elapsedMs = await repeat(200, async () => {
    await lab.nat("a/nat").setBehavior("portRestricted");
    await lab.nat("a/nat").flush();
  });
  print("change a NAT and flush it", elapsedMs);
}

async function measureRoundTrips(lab: Lab, what: string): Promise<void> {
  const to = `${lab.host("server").ip}:${PORT}`;
  const { roundTripsMs } = await lab.host("a").json<Answers>(ASK, ["5000", "400", "5", to]);
  const excessMs = roundTripsMs.map((roundTripMs) => roundTripMs - ROUND_TRIP_MS);
  print(`${what}, ${roundTripsMs.length} of 400`, percentiles(excessMs));
}

async function measureRoundTripsUnderLoad(lab: Lab): Promise<void> {
  const ended = new AbortController();
  const load = (async () => {
    while (!ended.signal.aborted) await burst(lab.host("b"), lab.host("server"), 1000);
  })();
  await measureRoundTrips(lab, "the same during bursts of 1000 SYNs");
  print("packets are delivered after they are due by", (await lab.counters()).lateness);
  ended.abort();
  await load;
}

async function measureSimultaneousOpen(lab: Lab): Promise<void> {
  const [ofA, ofB] = ["a/nat", "b/nat"].map((name) => lab.nat(name).externalIps[0]!);
  const open = (host: LabHost, port: number, to: string) =>
    host.json<Opened>(TCP_OPEN, [`${host.ip}:${port}`, to]);
  const opened = await Promise.all([
    open(lab.host("a"), 5000, `${ofB}:6000`),
    open(lab.host("b"), 6000, `${ofA}:5000`),
  ]);
  console.log(
    `TCP simultaneous open: ${opened.map(({ elapsedMs }) => format(elapsedMs)).join(", ")}`,
  );
}

async function measureSyns(lab: Lab): Promise<void> {
  const before = await lab.counters();
  const startedMs = performance.now();
  await burst(lab.host("a"), lab.host("server"), SYNS);
  const elapsedMs = performance.now() - startedMs;
  const after = await lab.counters();
  const arrived = after.hosts.server!.receivedSyns - before.hosts.server!.receivedSyns;
  console.log(`${SYNS} SYNs at once: ${arrived} arrived, all answered in ${format(elapsedMs)}`);
}

async function measureFlood(lab: Lab): Promise<void> {
  const received = async () => (await lab.counters()).hosts.server!.received;
  const before = await received();
  const args = denoArgs(UDP_FLOOD, [`${lab.host("server").ip}:81`, String(FLOOD_MS)]);
  const { stdout } = await lab.host("a").output(Deno.execPath(), args);
  const arrived = await received() - before;
  const rate = Math.round(arrived / FLOOD_MS);
  console.log(`UDP flood: ${stdout.trim()} sent, ${arrived} arrived, ${rate},000 a second`);
}

async function measureTcp(lab: Lab): Promise<void> {
  await lab.setInternet({ rttMs: 0 });
  const args = [`${lab.host("a").ip}:5002`, `${lab.host("server").ip}:${PORT}`, String(TCP_BYTES)];
  const startedMs = performance.now();
  await lab.host("a").json<Opened>(TCP_OPEN, args);
  const elapsedMs = performance.now() - startedMs;
  const rate = TCP_BYTES / 1000 / elapsedMs;
  console.log(`TCP without delay: ${TCP_BYTES / 1e6} MB at ${rate.toFixed(1)} MB/s`);
}

async function burst(from: LabHost, to: LabHost, count: number): Promise<void> {
  await from.output(Deno.execPath(), denoArgs(SYN_BURST, [`${to.ip}:81`, String(count)]));
}

async function repeat(times: number, action: () => Promise<void>): Promise<Percentiles> {
  const elapsedMs: number[] = [];
  for (let i = 0; i < times; i++) {
    const startedMs = performance.now();
    await action();
    elapsedMs.push(performance.now() - startedMs);
  }
  return percentiles(elapsedMs);
}

function print(what: string, { p50Ms, p99Ms, maxMs }: Percentiles): void {
  console.log(`${what}: median ${format(p50Ms)}, 99 % ${format(p99Ms)}, most ${format(maxMs)}`);
}

function format(ms: number): string {
  return `${ms.toFixed(2)} ms`;
}

const ASK = new URL("programs/ask.ts", import.meta.url);
const SYN_BURST = new URL("programs/syn_burst.ts", import.meta.url);
const TCP_OPEN = new URL("programs/tcp_open.ts", import.meta.url);
const UDP_FLOOD = new URL("programs/udp_flood.ts", import.meta.url);
const WHOAMI = new URL("programs/whoami.ts", import.meta.url);

const ROUND_TRIP_MS = 50;

/** A server and two hosts behind NATs, all at the same distance from each other. */
const TOPOLOGY: Topology = {
  hosts: {
    server: {},
    a: { behind: nat("portRestricted") },
    b: { behind: nat("portRestricted") },
  },
  internet: { rttMs: ROUND_TRIP_MS },
};

const PORT = 7000;
const SYNS = 5000;
const FLOOD_MS = 2000;
const TCP_BYTES = 50_000_000;

if (import.meta.main) {
  await measureStart();
  await using lab = await Lab.start(TOPOLOGY);
  const server = lab.host("server");
  const whoami = denoArgs(WHOAMI, [String(PORT), server.ip]);
  await server.serve(Deno.execPath(), whoami, { ready: /ready/ });
  await measureChange(lab);
  await measureRoundTrips(lab, `round trips of ${ROUND_TRIP_MS} ms are too long by`);
  print("packets are delivered after they are due by", (await lab.counters()).lateness);
  await measureRoundTripsUnderLoad(lab);
  await measureSimultaneousOpen(lab);
  await measureSyns(lab);
  await measureFlood(lab);
  await measureTcp(lab);
}
