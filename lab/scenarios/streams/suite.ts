/**
 * Streams over UDP paths between real kernels: how fast on a long path, with and without loss, and which share of a line
 * they take beside the kernel's CUBIC.
 *
 * @module
 */

import { Lab } from "../../kernel/lab.ts";
import { denoArgs, type LabHost } from "../../kernel/lab_host.ts";
import type { SuiteOptions, SuiteResult } from "../verdicts/suites.ts";
import type { StreamResult } from "./stream_program.ts";

/** The suites of this folder, by name. */
export const STREAM_SUITES: Readonly<
  Record<string, (options: SuiteOptions) => Promise<SuiteResult>>
> = { streams };

/** How fast a stream is on a path with this round trip and loss each way, in MB/s. */
export async function measureRate(
  { rttMs, loss, forMs, seed = 1 }: { rttMs: number; loss: number; forMs: number; seed?: number },
): Promise<number> {
  await using lab = await Lab.start({
    hosts: { a: { link: { loss: { up: loss, down: 0 } } }, b: {} },
    internet: { rttMs },
    seed,
  });
  const { bytes, elapsedMs } = await runUdp(lab.host("a"), lab.host("b"), forMs, forMs);
  return bytes / elapsedMs / 1000;
}

/** What both flows get of a line. */
export interface Shares {
  /** In MB/s, over the same time. */
  readonly udp: number;
  readonly cubic: number;
  /** The UDP path's part of both. */
  readonly share: number;
}

/** A UDP path and a TCP connection with the kernel's CUBIC on a line of 20 Mbit/s, 54 ms. */
export async function measureShare(
  { bufferBdp, forMs, seed = 1 }: { bufferBdp: number; forMs: number; seed?: number },
): Promise<Shares> {
  const bufferBytes = Math.round(bufferBdp * LINE_MBIT * 125 * LINE_RTT_MS);
  await using lab = await Lab.start({
    hosts: { a: { link: { megabitsPerSecond: LINE_MBIT, bufferBytes } }, b: {} },
    internet: { rttMs: LINE_RTT_MS },
    seed,
  });
  const [a, b] = [lab.host("a"), lab.host("b")];
  const [udp, cubic] = await Promise.all([
    runUdp(a, b, forMs + EXTRA_MS, forMs),
    runTcp(a, b, forMs + EXTRA_MS, forMs),
  ]);
  const rate = ({ bytes, elapsedMs }: StreamResult) => bytes / elapsedMs / 1000;
  return { udp: rate(udp), cubic: rate(cubic), share: rate(udp) / (rate(udp) + rate(cubic)) };
}

async function streams({ print, runs = 3 }: SuiteOptions): Promise<SuiteResult> {
  const failures: string[] = [];
  const data: Record<string, unknown> = {};
  for (const { loss, least } of RATES) {
    const rates: number[] = [];
    for (let seed = 1; seed <= runs; seed++) {
      rates.push(await measureRate({ rttMs: LINE_RTT_MS, loss, forMs: RATE_MS, seed }));
    }
    const rate = median(rates);
    const what = `${LINE_RTT_MS} ms, ${loss * 100} % loss`;
    print(`${what}: ${rate.toFixed(1)} MB/s (${rates.map((each) => each.toFixed(1)).join(", ")})`);
    data[what] = rates;
    if (rate < least) failures.push(`${what}: ${rate.toFixed(1)} MB/s, not ${least}`);
  }
  for (const bufferBdp of BUFFERS) {
    const shares: Shares[] = [];
    for (let seed = 1; seed <= runs; seed++) {
      shares.push(await measureShare({ bufferBdp, forMs: SHARE_MS, seed }));
    }
    const share = median(shares.map((each) => each.share));
    const what = `beside CUBIC, buffer ${bufferBdp} BDP`;
    const each = shares.map((one) => `${(one.share * 100).toFixed(0)} %`).join(", ");
    print(`${what}: ${(share * 100).toFixed(0)} % (${each})`);
    data[what] = shares;
    if (share < 0.3 || share > 0.7) failures.push(`${what}: ${(share * 100).toFixed(0)} %`);
  }
  return { failures, data };
}

async function runUdp(
  a: LabHost,
  b: LabHost,
  sendMs: number,
  receiveMs: number,
): Promise<StreamResult> {
  const [ofA, ofB] = [`${a.ip}:${UDP_PORT}`, `${b.ip}:${UDP_PORT}`];
  const receiving = b.json<StreamResult>(PROGRAM, ["udp-receive", ofB, ofA, String(receiveMs)]);
  const sender = a.spawn(
    Deno.execPath(),
    denoArgs(PROGRAM, ["udp-send", ofA, ofB, String(sendMs + START_MS)]),
    { stdin: "null", stdout: "null", stderr: "null" },
  );
  const result = await receiving;
  await end(sender);
  return result;
}

async function runTcp(
  a: LabHost,
  b: LabHost,
  sendMs: number,
  receiveMs: number,
): Promise<StreamResult> {
  const to = `${b.ip}:${TCP_PORT}`;
  const receiving = b.json<StreamResult>(PROGRAM, ["tcp-receive", to, String(receiveMs)]);
  await new Promise((resolve) => setTimeout(resolve, START_MS)); // it must be listening
  const sender = a.spawn(
    Deno.execPath(),
    denoArgs(CUBIC_SENDER, [to, String(sendMs)]),
    { stdin: "null", stdout: "null", stderr: "inherit" },
  );
  const result = await receiving;
  await end(sender);
  return result;
}

async function end(child: Deno.ChildProcess): Promise<void> {
  try {
    child.kill("SIGKILL");
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // it has ended
  }
  await child.status;
}

function median(numbers: readonly number[]): number {
  return numbers.toSorted((one, other) => one - other)[Math.floor(numbers.length / 2)]!;
}

const PROGRAM = new URL("./stream_program.ts", import.meta.url);
const CUBIC_SENDER = new URL("./cubic_sender.ts", import.meta.url);
const UDP_PORT = 4000;
const TCP_PORT = 5000;
const LINE_MBIT = 20;
const LINE_RTT_MS = 54;
const RATE_MS = 10_000;
const SHARE_MS = 30_000;

/** Both flows go on while one of them is still being measured. */
const EXTRA_MS = 5000;

/** Long enough for a program to start. */
const START_MS = 1500;

/** What issue 15 asks for, in MB/s. */
const RATES = [{ loss: 0, least: 13 }, { loss: 0.01, least: 5 }];
const BUFFERS = [0.5, 1, 4];
