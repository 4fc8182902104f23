/**
 * Many simulated punches by UDP between two port-restricted NATs, on a path and over signaling that lose messages: nothing is
 * prepared beforehand, so that each of them needs STUN, the offers, the checks and the nomination.
 *
 * @module
 */

import { NAT_BEHAVIORS } from "../../lab/model/nat_behavior.ts";
import { playUdp, type UdpSide } from "../scenes/udp_scene.ts";
import { simulate } from "../simnet/simulate.ts";

/** What to simulate. Losses are the share of messages that are lost each way. */
export interface LossyPunches {
  readonly rttMs: number;
  readonly loss: number;
  readonly signalLoss: number;
  /** How much later the controlled side starts. Default: 0. */
  readonly skewMs?: number;
  /** One for each punch. */
  readonly seeds: Iterable<number>;
}

/** What became of them. Times last from the moment when the later side knew both offers until both sides had the path. */
export interface LossyFigures {
  readonly punches: number;
  /** The seeds of those that failed. */
  readonly failed: readonly number[];
  readonly medianMs: number;
  readonly p95Ms: number;
  readonly maxMs: number;
}

/** Punches once for each seed. */
export async function lossyPunches(
  { rttMs, loss, signalLoss, skewMs, seeds }: LossyPunches,
): Promise<LossyFigures> {
  const nat = NAT_BEHAVIORS.portRestricted;
  const scene = { a: nat, b: nat, rttMs, skewMs, link: { loss: 1 - (1 - loss) ** (1 / LINKS) } };
  const failed: number[] = [];
  const times: number[] = [];
  for (const seed of seeds) {
    const channel = { loss: signalLoss, seed };
    const { a, b } = await simulate(async ({ internet }) => {
      const { a, b, end } = await playUdp(internet, { ...scene, channel });
      if (a.path !== undefined && b.path !== undefined) await exchange(a, b);
      await end();
      return { a, b };
    }, { seed, limitMs: 3_600_000 });
    if (a.path === undefined || b.path === undefined) failed.push(seed);
    else times.push(Math.max(a.foundAtMs!, b.foundAtMs!) - Math.max(a.knownAtMs!, b.knownAtMs!));
  }
  times.sort((one, other) => one - other);
  const at = (share: number) => times[Math.ceil(share * times.length) - 1] ?? NaN;
  const punches = times.length + failed.length;
  return { punches, failed, medianMs: at(0.5), p95Ms: at(0.95), maxMs: at(1) };
}

/** Two sides that have different paths would wait here for ever, and the simulation ends with an error. */
async function exchange({ path: one }: UdpSide, { path: other }: UdpSide): Promise<void> {
  const received = [one!, other!].map(({ connection }) => connection.read(new Uint8Array(9)));
  for (const { connection } of [one!, other!]) await connection.write(Uint8Array.of(1));
  await Promise.all(received);
}

/** That a packet crosses each way: those of the two NATs. */
const LINKS = 2;
