/**
 * Kills the receiver or the sender of a file at random moments, and starts it again, until the file is complete.
 *
 * @module
 */

import { RunningHash } from "../../lib/base/crypto.ts";
import { labelledRandom, type Random, randomInteger } from "../simnet/random.ts";
import { FileProgram, freePort } from "./file_programs.ts";

/** How to kill. */
export interface KillOptions {
  readonly kills: number;
  readonly megabytes: number;
  readonly seed: number;
}

/** What came of it. */
export interface KillReport extends KillOptions {
  readonly receiverKills: number;
  readonly senderKills: number;
  /** Reruns that had no more bytes than the run before. */
  readonly fruitless: number;
  /** Bytes that were sent more than once, at most: what each run had received when it was killed, and the next had not. */
  readonly lostBytes: number;
  /** Whether the file that arrived has the hash of the one that was sent. */
  readonly isWhole: boolean;
  /** What is in the target folder at the end. */
  readonly names: readonly string[];
  readonly elapsedMs: number;
}

/** Runs it in a folder, which it fills. */
export async function runKills(folder: string, options: KillOptions): Promise<KillReport> {
  const { kills, megabytes, seed } = options;
  const random = labelledRandom(seed, "kills");
  const startedMs = performance.now();
  const path = `${folder}/file`;
  const inbox = `${folder}/in`;
  await Deno.mkdir(inbox);
  const digest = await writeRandom(path, megabytes);
  const port = freePort();
  const totalBytes = megabytes * 2 ** 20;
  const counts = { receiver: 0, sender: 0 };
  let [fruitless, lostBytes, hadBytes] = [0, 0, 0];
  let sender = await FileProgram.sender(port, [path]);
  let receiver = FileProgram.receiver(port, inbox, "kills");
  try {
    for (let kill = 0; kill < kills; kill++) {
      const share = (totalBytes - hadBytes) / (kills - kill + 1);
      const killAt = hadBytes + share * (0.2 + 1.4 * random());
      const { bytes, first } = await progressUntil(receiver, killAt);
      if (first <= 0 && hadBytes > 0 || bytes <= hadBytes) fruitless++;
      lostBytes += Math.max(hadBytes - first, 0);
      hadBytes = bytes;
      if (randomInteger(random, 0, 3) === 0) {
        counts.sender++;
        await sender.kill();
        await pause(random);
        sender = await FileProgram.sender(port, [path]);
      } else {
        counts.receiver++;
        await receiver.kill();
        await pause(random);
        receiver = FileProgram.receiver(port, inbox, "kills");
      }
    }
    await receiver.until("finished");
    await sender.until("finished");
  } finally {
    await receiver.kill();
    await sender.kill();
  }
  const names = await Array.fromAsync(Deno.readDir(inbox), ({ name }) => name);
  const isWhole = await digestOf(`${inbox}/file`) === digest;
  const elapsedMs = Math.round(performance.now() - startedMs);
  return {
    ...{ kills, megabytes, seed, receiverKills: counts.receiver, senderKills: counts.sender },
    ...{ fruitless, lostBytes, isWhole, names: names.sort(), elapsedMs },
  };
}

/** @returns what the receiver had when its present connection began, and what it has now */
async function progressUntil(
  receiver: FileProgram,
  killAt: number,
): Promise<{ first: number; bytes: number }> {
  let first: number | undefined;
  for (let event; (event = await receiver.next()) !== undefined;) {
    if (event.event === "finished") throw new Error("Cannot kill: the transfer is complete");
    if (event.event !== "progress") continue;
    const bytes = Number(event.bytes);
    first ??= bytes;
    if (bytes >= killAt) return { first, bytes };
  }
  throw new Error("Cannot kill: the receiver has ended");
}

/** Sometimes the other side has noticed by then, and sometimes not. */
async function pause(random: Random): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, random() * 200));
}

/** @returns the hash */
async function writeRandom(path: string, megabytes: number): Promise<string> {
  const hash = new RunningHash("sha256");
  using file = await Deno.create(path);
  const block = new Uint8Array(2 ** 20);
  for (let index = 0; index < megabytes; index++) {
    for (let at = 0; at < block.length; at += 65_536) {
      crypto.getRandomValues(block.subarray(at, at + 65_536));
    }
    hash.update(block);
    for (let at = 0; at < block.length;) at += await file.write(block.subarray(at));
  }
  return hash.digest().toHex();
}

async function digestOf(path: string): Promise<string> {
  const hash = new RunningHash("sha256");
  using file = await Deno.open(path);
  const block = new Uint8Array(2 ** 20);
  for (let count; (count = await file.read(block)) !== null;) hash.update(block.subarray(0, count));
  return hash.digest().toHex();
}
