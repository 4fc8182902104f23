/**
 * A stream in both directions over a simulated path with random loss, reordering, duplication, jitter, sizes and pauses.
 * Everything follows from a seed.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { toHex } from "../../lib/base/bytes.ts";
import { RunningHash } from "../../lib/base/crypto.ts";
import { writeAll } from "../../lib/base/reader.ts";
import type { UdpConnection } from "../../lib/udp/udp_connection.ts";
import { labelledRandom, type Random, randomInteger } from "../simnet/random.ts";
import { simulate } from "../simnet/simulate.ts";
import { udpPair } from "./fixtures.ts";

/** What a storm was like. */
export interface UdpStormResult {
  /** In both directions. */
  readonly bytes: number;
  readonly datagrams: number;
  readonly virtualMs: number;
}

/**
 * Runs a stream through a storm.
 *
 * @throws {AssertionError} if the hash of what was read is not that of what was written, or if it hangs
 */
export async function udpStorm(seed: number): Promise<UdpStormResult> {
  const random = labelledRandom(seed, "UDP storm");
  const upTo = (most: number) => random() * most;
  const link = {
    delayMs: upTo(random() < 0.1 ? 300 : 40),
    jitterMs: upTo(20),
    loss: random() < 0.3 ? 0 : upTo(0.15),
    duplication: random() < 0.3 ? 0 : upTo(0.2),
    reordering: random() < 0.3 ? 0 : upTo(0.3),
    reorderingMs: upTo(50),
  };
  return await simulate(async ({ internet, time }) => {
    let datagrams = 0;
    internet.onPacket = ({ what }) => {
      if (what === "sent") datagrams++;
    };
    using pair = await udpPair(internet, link);
    const lengths = [randomInteger(random, 0, 60_000), randomInteger(random, 0, 60_000)] as const;
    const [sentA, sentB, readA, readB] = await Promise.all([
      write(pair.a, lengths[0], labelledRandom(seed, "a")),
      write(pair.b, lengths[1], labelledRandom(seed, "b")),
      read(pair.a, labelledRandom(seed, "a reads")),
      read(pair.b, labelledRandom(seed, "b reads")),
    ]);
    assertEquals(readB, sentA, "from a to b");
    assertEquals(readA, sentB, "from b to a");
    pair.a.close();
    pair.b.close();
    await Promise.all([pair.a.released, pair.b.released]);
    return { bytes: lengths[0] + lengths[1], datagrams, virtualMs: time.nowMs };
  }, { seed, limitMs: 600_000 });
}

async function write(end: UdpConnection, length: number, random: Random): Promise<string> {
  const hash = new RunningHash("sha256");
  for (let left = length; left > 0;) {
    const part = new Uint8Array(Math.min(left, randomInteger(random, 1, 20_000)));
    part.fill(randomInteger(random, 0, 255));
    part[0] = left;
    hash.update(part);
    await writeAll(end, part);
    left -= part.length;
    if (random() < 0.2) await wait(random() * 100);
  }
  if (random() < 0.5) await wait(random() * 100);
  await end.closeWrite();
  return toHex(hash.digest());
}

async function read(end: UdpConnection, random: Random): Promise<string> {
  const hash = new RunningHash("sha256");
  const buffer = new Uint8Array(randomInteger(random, 1, 3) * 10_000);
  for (let length; (length = await end.read(buffer)) !== null;) {
    assert(length > 0, "nothing was read");
    hash.update(buffer.slice(0, length));
    if (random() < 0.1) await wait(random() * 50);
  }
  return toHex(hash.digest());
}

function wait(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
