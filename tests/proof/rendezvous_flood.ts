/**
 * Proof: while many sources flood a rendezvous, two honest peers connect in at most twice the time that they take in
 * quiet, and the server's memory returns to what it was.
 *
 * That is its resident memory after a flood and an idle time, compared with the same after an ordinary time: half as many
 * clients as it allows, who listen as peers do and have left. A server that has never had clients has less, because V8 and
 * the allocator keep some pages to use them again.
 *
 * The attackers, the server and the honest peers share the machine's processors. To tell the server's part from that of
 * the scheduler, the same peers also connect through a second server, which is not attacked, during the same flood.
 *
 * @module
 */

import { delay } from "@std/async/delay";
import { median } from "../../bench/median.ts";
import { Peer } from "../../lib/peer/peer.ts";
import { DEFAULT_RENDEZVOUS_LIMITS } from "../../lib/signal/rendezvous/server.ts";
import { type Running, startCommand, startProgram } from "./process.ts";

/** What one run measured. Times are medians unless they say otherwise. */
export interface FloodFigures {
  readonly quietMs: number;
  readonly floodedMs: number;
  readonly worstFloodedMs: number;
  /** The same, through a server that is not attacked, on the same machine during the flood. */
  readonly elsewhereMs: number;
  /** Connections of honest peers that failed during the flood. */
  readonly failed: number;
  readonly attempts: number;
  /** Before the first client. */
  readonly residentAtStart: number;
  /** With the clients of an ordinary time, and after they have left and the idle time. */
  readonly residentOrdinary: number;
  readonly residentBefore: number;
  readonly residentPeak: number;
  /** After each flood and the same idle time. */
  readonly residentAfter: readonly number[];
  /** How many processors each used during the flood, on average. */
  readonly processors: Readonly<Record<"attackers" | "server" | "peers", number>>;
  /** What the attackers did, by kind. */
  readonly attacks: Readonly<Record<string, number>>;
}

/** How to flood. */
export interface FloodOptions {
  readonly seconds: number;
  /** How many addresses the attackers have. */
  readonly sources: number;
  /** How many floods, one after another. Default: 1. */
  readonly floods?: number;
  /** How much the attackers yield to other processes of this machine, as in `nice`. Default: 0. */
  readonly niceness?: number;
}

/** Runs the flood. */
export async function measureRendezvousFlood(
  seed: number,
  { seconds, sources, floods = 1, niceness = 0 }: FloodOptions,
): Promise<FloodFigures> {
  await using server = startCommand(SERVE);
  await using idleServer = startCommand(SERVE);
  const attacked = await addressesOf(server);
  const idle = await addressesOf(idleServer);
  const flooding = { sources, niceness };
  const residentAtStart = await server.residentBytes();
  const residentOrdinary = await beOrdinary(attacked.rendezvous, server);
  const idleMs = Math.min(MAX_IDLE_MS, seconds * 1000);
  await delay(idleMs); // until nothing of it is left
  for (let i = 0; i < 3; i++) await connectPair(attacked);
  for (let i = 0; i < 3; i++) await connectPair(idle);
  const quiet: number[] = [];
  for (let i = 0; i < 9; i++) quiet.push(await connectPair(attacked));
  const residentBefore = await server.residentBytes();
  const [flooded, elsewhere]: [number[], number[]] = [[], []];
  let failed = 0;
  let residentPeak = 0;
  const processors = { attackers: 0, server: 0, peers: 0 };
  const attacks: Record<string, number> = {};
  const residentAfter: number[] = [];
  for (let i = 0; i < floods; i++) {
    const done = await flood(
      attacked.rendezvous,
      { ...flooding, seed: seed + 1 + i },
      async (pid) => {
        await delay(2000);
        const pids = { attackers: pid, server: server.pid, peers: Deno.pid };
        const before = await processorSeconds(pids);
        const startMs = performance.now();
        const endMs = startMs + (seconds - 2) * 1000;
        while (performance.now() < endMs) {
          try {
            flooded.push(await connectPair(attacked));
          } catch {
            failed++;
          }
          residentPeak = Math.max(residentPeak, await server.residentBytes());
          await delay(250);
          elsewhere.push(await connectPair(idle));
          await delay(250);
        }
        const after = await processorSeconds(pids);
        for (const name of ["attackers", "server", "peers"] as const) {
          const used = (after[name] - before[name]) / (performance.now() - startMs) * 1000;
          processors[name] = Math.round(100 * used) / 100; // in the last flood
        }
      },
    );
    for (const [kind, count] of Object.entries(done)) attacks[kind] = (attacks[kind] ?? 0) + count;
    await delay(idleMs);
    residentAfter.push(await server.residentBytes());
  }
  return {
    quietMs: Math.round(median(quiet)),
    floodedMs: flooded.length === 0 ? Infinity : Math.round(median(flooded)),
    worstFloodedMs: Math.round(Math.max(0, ...flooded)),
    elsewhereMs: Math.round(median(elsewhere)),
    failed,
    attempts: flooded.length + failed,
    residentAtStart,
    residentOrdinary,
    residentBefore,
    residentPeak,
    residentAfter,
    processors,
    attacks,
  };
}

/** Clients come, stay a while, and leave; the server's resident memory with all of them. */
async function beOrdinary(rendezvous: string, server: Running): Promise<number> {
  const target = rendezvous.replace("ws://", "");
  await using clients = startProgram("ordinary_clients", [target, ORDINARY_CLIENTS]);
  await clients.prints(/"connected"/);
  await delay(ORDINARY_MS);
  const resident = await server.residentBytes();
  await clients.tell("end");
  await clients.prints(/"left"/);
  return resident;
}

async function flood(
  rendezvous: string,
  { sources, niceness, seed }: { sources: number; niceness: number; seed: number },
  meanwhile: (pid: number) => Promise<void>,
): Promise<Record<string, number>> {
  const target = rendezvous.replace("ws://", "");
  await using attacker = startProgram("rendezvous_flood", [target, sources, seed], { niceness });
  await attacker.prints(/"started"/);
  await meanwhile(attacker.pid);
  await attacker.tell("end");
  const { over: _over, ...attacks } = JSON.parse(await attacker.prints(/(\{.*"over".*\})/));
  return attacks;
}

interface ServerAddresses {
  readonly rendezvous: string;
  readonly stun: readonly string[];
}

async function addressesOf(server: Running): Promise<ServerAddresses> {
  return JSON.parse(await server.prints(/^(.*"listening".*)\n/));
}

/** How many seconds of processor time each process has used so far (Linux). */
async function processorSeconds<K extends string>(
  pids: Readonly<Record<K, number>>,
): Promise<Record<K, number>> {
  const seconds: Partial<Record<K, number>> = {};
  for (const name of Object.keys(pids) as K[]) {
    const stat = await Deno.readTextFile(`/proc/${pids[name]}/stat`);
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    seconds[name] = (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
  }
  return seconds as Record<K, number>;
}

/** Two new peers find each other; how long that took from opening the first. */
async function connectPair({ rendezvous, stun }: ServerAddresses): Promise<number> {
  const startMs = performance.now();
  const options = { signaling: [rendezvous], servers: [stun[0]!] };
  const signal = AbortSignal.timeout(10_000);
  await using listening = await Peer.open({ ...options, signal });
  await using connecting = await Peer.open({ ...options, listen: false, signal });
  const accepting = (async () => {
    const incoming = await listening.nextIncoming({ signal });
    return await incoming.accept({ signal });
  })();
  await using connection = await connecting.connect(listening.ticket, { signal });
  const elapsedMs = performance.now() - startMs;
  await using _accepted = await accepting;
  connection.close();
  return elapsedMs;
}

const SERVE = [
  ...["serve", "--json", "--port", "0", "--alternate-port", "0", "--rendezvous-port", "0"],
];

/** Chosen by us: half of the connections that a server accepts. */
const ORDINARY_CLIENTS = DEFAULT_RENDEZVOUS_LIMITS.maxConnections / 2;

/** Chosen by us: each client has had several messages. */
const ORDINARY_MS = 10_000;

/** Chosen by us: longer than the server lets a client wait for its turn, or for an answer to a ping. */
const MAX_IDLE_MS = 30_000;

/** USER_HZ of Linux. */
const TICKS_PER_SECOND = 100;
