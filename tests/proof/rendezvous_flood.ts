/**
 * Proof: while many sources flood a rendezvous, two honest peers connect in at most twice the time that they take in
 * quiet, and the server's memory returns to what it was.
 *
 * @module
 */

import { delay } from "@std/async/delay";
import { median } from "../../bench/median.ts";
import { Peer } from "../../lib/peer/peer.ts";
import { startCommand, startProgram } from "./process.ts";

/** What one run measured. Times are medians unless they say otherwise. */
export interface FloodFigures {
  readonly quietMs: number;
  readonly floodedMs: number;
  readonly worstFloodedMs: number;
  /** Connections of honest peers that failed during the flood. */
  readonly failed: number;
  readonly attempts: number;
  readonly residentBefore: number;
  readonly residentPeak: number;
  readonly residentAfter: number;
  /** What the attackers did, by kind. */
  readonly attacks: Readonly<Record<string, number>>;
}

/** Runs the flood. */
export async function measureRendezvousFlood(
  seed: number,
  { seconds, sources }: { seconds: number; sources: number },
): Promise<FloodFigures> {
  await using server = startCommand([
    ...["serve", "--json", "--port", "0", "--alternate-port", "0", "--rendezvous-port", "0"],
  ]);
  const { stun, rendezvous } = JSON.parse(await server.prints(/^(.*"listening".*)\n/));
  const connect = () => connectPair(rendezvous, stun[0]);
  // One short flood first, so that the server's code is compiled and its heap has its usual size.
  await flood(rendezvous, sources, seed, () => delay(3000));
  await delay(3000);
  for (let i = 0; i < 3; i++) await connect();
  const quiet: number[] = [];
  for (let i = 0; i < 9; i++) quiet.push(await connect());
  const residentBefore = await server.residentBytes();
  const flooded: number[] = [];
  let failed = 0;
  let residentPeak = 0;
  const attacks = await flood(rendezvous, sources, seed + 1, async () => {
    await delay(2000);
    const endMs = performance.now() + (seconds - 2) * 1000;
    while (performance.now() < endMs) {
      try {
        flooded.push(await connect());
      } catch {
        failed++;
      }
      residentPeak = Math.max(residentPeak, await server.residentBytes());
      await delay(500);
    }
  });
  let residentAfter = Infinity;
  for (let i = 0; i < 15 && residentAfter > residentBefore * 1.1; i++) {
    await delay(2000);
    residentAfter = await server.residentBytes();
  }
  return {
    quietMs: Math.round(median(quiet)),
    floodedMs: flooded.length === 0 ? Infinity : Math.round(median(flooded)),
    worstFloodedMs: Math.round(Math.max(0, ...flooded)),
    failed,
    attempts: flooded.length + failed,
    residentBefore,
    residentPeak,
    residentAfter,
    attacks,
  };
}

async function flood(
  rendezvous: string,
  sources: number,
  seed: number,
  meanwhile: () => Promise<void>,
): Promise<Record<string, number>> {
  const target = rendezvous.replace("ws://", "");
  await using attacker = startProgram("rendezvous_flood", [target, sources, seed]);
  await attacker.prints(/"started"/);
  await meanwhile();
  await attacker.tell("end");
  const { over: _over, ...attacks } = JSON.parse(await attacker.prints(/(\{.*"over".*\})/));
  return attacks;
}

/** Two new peers find each other; how long that took from opening the first. */
async function connectPair(rendezvous: string, stun: string): Promise<number> {
  const startMs = performance.now();
  const options = { signaling: [rendezvous], servers: [stun] };
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
