/**
 * Kills the receiver or the sender of a file at random moments, and starts it again, until the file is complete. What has
 * arrived is measured on the disk.
 *
 * @module
 */

import { RunningHash } from "../../lib/base/crypto.ts";
import { withServers } from "../cli/command.ts";
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
  /** Bytes that were received, and not there any more after a kill. */
  readonly lostBytes: number;
  /** From the start of a rerun to the first byte that is new; its start takes part of it. */
  readonly resumedMs: { readonly median: number; readonly longest: number };
  /** Whether the file that arrived has the hash of the one that was sent. */
  readonly isWhole: boolean;
  /** What is in the target folder at the end. */
  readonly names: readonly string[];
  readonly elapsedMs: number;
}

/** Runs it in a folder, which it fills, with programs that use the library over TCP. */
export async function runKills(folder: string, options: KillOptions): Promise<KillReport> {
  const port = freePort();
  return await killRepeatedly(folder, options, {
    send: (path) => FileProgram.sender(port, [path]),
    receive: (inbox) => FileProgram.receiver(port, inbox, "kills"),
  });
}

/** The same with the command line: `send --key` and `recv --yes`. */
export async function runCliKills(folder: string, options: KillOptions): Promise<KillReport> {
  const reports: KillReport[] = [];
  await withServers(async ({ all, connecting }) => {
    let ticket = "";
    const start = (...args: readonly string[]) => FileProgram.command(folder, [...args, "--json"]);
    reports.push(
      await killRepeatedly(folder, options, {
        send: async (path) => {
          const sender = start("send", path, "--key", `${folder}/key`, ...all);
          ticket = String((await sender.until("ticket")).ticket);
          return sender;
        },
        receive: (inbox) => start("recv", ticket, "--yes", "--to", inbox, ...connecting),
      }),
    );
  });
  return reports[0]!;
}

/** How to start the two sides. */
interface Programs {
  send(path: string): Promise<FileProgram>;
  receive(inbox: string): FileProgram;
}

async function killRepeatedly(
  folder: string,
  { kills, megabytes, seed }: KillOptions,
  { send, receive }: Programs,
): Promise<KillReport> {
  const random = labelledRandom(seed, "kills");
  const startedMs = performance.now();
  const path = `${folder}/file`;
  const inbox = `${folder}/in`;
  await Deno.mkdir(inbox);
  const digest = await writeRandom(path, megabytes);
  const totalBytes = megabytes * 2 ** 20;
  const counts = { receiver: 0, sender: 0 };
  const resumedMs: number[] = [];
  let [fruitless, lostBytes, hadBytes] = [0, 0, 0];
  let rerunMs = startedMs;
  let isUnneeded = false;
  let sender = new Drained(await send(path));
  let receiver = new Drained(receive(inbox));
  try {
    for (let kill = 0; kill < kills && !isUnneeded; kill++) {
      const share = (totalBytes - hadBytes) / (kills - kill + 1);
      const killAt = hadBytes + share * (0.2 + 1.4 * random());
      const { leastBytes, firstMs } = await arrival(inbox, hadBytes, killAt);
      if (firstMs === undefined) fruitless++;
      else if (kill > 0) resumedMs.push(firstMs - rerunMs);
      lostBytes += Math.max(hadBytes - leastBytes, 0);
      const isSender = randomInteger(random, 0, 3) === 0;
      await (isSender ? sender : receiver).kill();
      hadBytes = await arrivedBytes(inbox);
      await pause(random);
      rerunMs = performance.now();
      if (isSender) {
        counts.sender++;
        // What was on its way may have been all that was left: then the receiver ends by itself, and asks no other sender.
        isUnneeded = await isAllThere(inbox, totalBytes);
        sender = new Drained(await send(path));
      } else {
        counts.receiver++;
        receiver = new Drained(receive(inbox));
      }
    }
    await Promise.all([receiver.finished, isUnneeded || sender.finished]);
  } finally {
    await receiver.kill();
    await sender.kill();
  }
  const names = await Array.fromAsync(Deno.readDir(inbox), ({ name }) => name);
  const isWhole = await digestOf(`${inbox}/file`) === digest;
  const elapsedMs = Math.round(performance.now() - startedMs);
  const sorted = resumedMs.map(Math.round).sort((a, b) => a - b);
  return {
    kills,
    megabytes,
    seed,
    receiverKills: counts.receiver,
    senderKills: counts.sender,
    fruitless,
    lostBytes,
    resumedMs: { median: sorted[sorted.length >> 1] ?? 0, longest: sorted.at(-1) ?? 0 },
    isWhole,
    names: names.sort(),
    elapsedMs,
  };
}

/** A program whose output is read to the end, so that it never waits for a reader. */
class Drained {
  readonly #program: FileProgram;
  /** Rejects if the program ends before it has finished. */
  readonly finished: Promise<unknown>;

  constructor(program: FileProgram) {
    this.#program = program;
    this.finished = program.until("finished");
    this.finished.catch(() => {}); // it was killed
  }

  async kill(): Promise<void> {
    await this.#program.kill();
  }
}

/**
 * Waits until as much has arrived.
 *
 * @returns the least that was there meanwhile, and when there was more than before; `undefined` if never
 */
async function arrival(
  inbox: string,
  hadBytes: number,
  killAt: number,
): Promise<{ leastBytes: number; firstMs: number | undefined }> {
  const startedMs = performance.now();
  let leastBytes = hadBytes;
  let firstMs: number | undefined;
  for (;;) {
    const nowMs = performance.now();
    const bytes = await arrivedBytes(inbox);
    leastBytes = Math.min(leastBytes, bytes);
    if (bytes > hadBytes) firstMs ??= nowMs;
    if (bytes >= killAt || nowMs - startedMs > FRUITLESS_MS) return { leastBytes, firstMs };
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/** How much of the file is on the disk. */
async function arrivedBytes(inbox: string): Promise<number> {
  let bytes = 0;
  for await (const { name } of Deno.readDir(inbox)) {
    if (name === "file") throw new Error("Cannot kill: the transfer is complete");
    const { size } = await Deno.stat(`${inbox}/${name}`).catch(() => ({ size: 0 }));
    bytes = Math.max(bytes, size);
  }
  return bytes;
}

/** Whether all of the file is on the disk, complete or about to be. */
async function isAllThere(inbox: string, totalBytes: number): Promise<boolean> {
  for await (const { name } of Deno.readDir(inbox)) {
    const { size } = await Deno.stat(`${inbox}/${name}`).catch(() => ({ size: 0 }));
    if (size === totalBytes) return true;
  }
  return false;
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

/** Chosen by us: a rerun that adds nothing in this time does not add anything later. */
const FRUITLESS_MS = 30_000;
