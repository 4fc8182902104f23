/**
 * Punches under bad conditions: signals and packets are lost, duplicated and reordered, NATs reset, sides start late
 * and are aborted at any moment. Everything follows from a seed.
 *
 * @module
 */

import { UnreachableError } from "../../lib/base/errors.ts";
import type { PunchedConn } from "../../lib/punch/punch.ts";
import { NAT_BEHAVIORS, type NatBehavior, natBehavior } from "../../lab/model/nat_behavior.ts";
import { labelledRandom, type Random, randomInteger } from "../simnet/random.ts";
import { simulate } from "../simnet/simulate.ts";
import { play, type Scene } from "../scenes/punch_scene.ts";

/** What the two sides got. */
export type StormOutcome =
  /** Both have the same connection: each reads what the other writes. */
  | "same connection"
  /** Neither has one. */
  | "neither"
  /**
   * One has a connection whose other end was aborted, or ran out of time, after both had proved themselves. It cannot
   * know that in advance, but its first read fails.
   */
  | "reset later"
  /** This must never happen. */
  | "divided";

/** A storm, and how it ended. */
export interface StormResult {
  readonly scene: Scene;
  readonly isAborted: boolean;
  /** Whether the two NATs can be punched without luck. */
  readonly isCertain: boolean;
  readonly outcome: StormOutcome;
  /** The errors of the sides that failed. */
  readonly errors: readonly string[];
}

/**
 * Runs one punch under bad conditions.
 *
 * @throws {AssertionError} if a socket is left open
 */
export async function storm(seed: number): Promise<StormResult> {
  const random = labelledRandom(seed, "storm");
  const scene = chooseScene(seed, random);
  const isAborted = scene.abortMs !== undefined;
  return await simulate(async ({ internet }) => {
    const { a, b } = await play(internet, scene);
    const outcome = await judge(a, b);
    const conns = [a, b].filter((side): side is PunchedConn => !(side instanceof Error));
    for (const conn of conns) conn.reset();
    const errors = [a, b].flatMap((side) => side instanceof Error ? [`${side}`] : []);
    const isCertain = isSure(scene.a) && isSure(scene.b);
    return { scene, isAborted, isCertain, outcome, errors };
  }, { seed, limitMs: LIMIT_MS });
}

async function judge(
  a: PunchedConn | Error,
  b: PunchedConn | Error,
): Promise<StormOutcome> {
  if (a instanceof Error && b instanceof Error) return areHonest(a, b) ? "neither" : "divided";
  if (!(a instanceof Error) && !(b instanceof Error)) {
    return await isSame(a, b) ? "same connection" : "divided";
  }
  const [error, conn] = a instanceof Error ? [a, b as PunchedConn] : [b as Error, a];
  const isCutShort = error.name === "AbortError" || error.message.includes("within");
  return isCutShort && await isEnded(conn) ? "reset later" : "divided";
}

/** Whether both errors are documented ones. */
function areHonest(...errors: Error[]): boolean {
  return errors.every((error) => error instanceof UnreachableError || error.name === "AbortError");
}

async function isSame(a: PunchedConn, b: PunchedConn): Promise<boolean> {
  const [fromA, fromB] = [Uint8Array.of(1, 2, 3, 4), Uint8Array.of(5, 6, 7, 8)];
  try {
    await a.write(fromA);
    await b.write(fromB);
    return await reads(b, fromA) && await reads(a, fromB);
  } catch {
    return false;
  }
}

async function reads(conn: PunchedConn, expected: Uint8Array): Promise<boolean> {
  const buffer = new Uint8Array(expected.length);
  for (let length = 0; length < buffer.length;) {
    const count = await conn.read(buffer.subarray(length));
    if (count === null) return false;
    length += count;
  }
  return buffer.join() === expected.join();
}

/** Writes first: a reset may have been lost, and the other end resets again only in answer to a segment. */
async function isEnded(conn: PunchedConn): Promise<boolean> {
  try {
    await conn.write(Uint8Array.of(0));
    return await conn.read(new Uint8Array(1)) === null;
  } catch {
    return true;
  }
}

function chooseScene(seed: number, random: Random): Scene {
  const chance = (share: number) => random() < share;
  const upTo = (max: number) => random() * max;
  const nat = () => NATS[randomInteger(random, 0, NATS.length - 1)]!;
  const abort = () => chance(0.6) ? upTo(1500) : upTo(6000);
  const isAborted = chance(0.5);
  const both = chance(0.1);
  const isA = chance(0.5);
  return {
    a: nat(),
    b: nat(),
    rttMs: [20, 80, 200][randomInteger(random, 0, 2)]!,
    signalRttMs: upTo(200),
    channel: {
      seed,
      jitterMs: upTo(30),
      loss: chance(0.5) ? upTo(0.3) : 0,
      duplication: upTo(0.3),
      reordering: upTo(0.3),
    },
    link: {
      jitterMs: upTo(10),
      loss: chance(0.3) ? upTo(0.03) : 0,
      duplication: chance(0.3) ? upTo(0.05) : 0,
    },
    skewMs: chance(0.5) ? 0 : upTo(2000),
    reusePort: chance(0.7),
    isWarm: chance(0.5),
    isReported: chance(0.7),
    ...isAborted && {
      abortMs: { ...(isA || both) && { a: abort() }, ...(!isA || both) && { b: abort() } },
    },
    options: { timeoutMs: 25_000 },
  };
}

function isSure({ mapping, unsolicitedSyn }: NatBehavior): boolean {
  return mapping === "endpoint-independent" && unsolicitedSyn === "drop";
}

const resetting = natBehavior({ unsolicitedSyn: "reset" });

const NATS: readonly NatBehavior[] = [
  NAT_BEHAVIORS.fullCone,
  NAT_BEHAVIORS.addressRestricted,
  NAT_BEHAVIORS.portRestricted,
  NAT_BEHAVIORS.portRestricted,
  NAT_BEHAVIORS.symmetricPreserving,
  NAT_BEHAVIORS.symmetricSequential,
  natBehavior({ portRange: [20_000, 21_023] }, NAT_BEHAVIORS.symmetric),
  resetting,
  natBehavior({ resetEndsMapping: true }, resetting),
  natBehavior({ resetEndsMapping: true }),
];

/** Virtual time for both sides, one after the other, and for the retransmissions of a dead connection. */
const LIMIT_MS = 3_600_000;
