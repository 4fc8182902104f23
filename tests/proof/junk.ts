/**
 * Proof: under junk datagrams, at the rate at which a bare echo in Deno still answers 90 % of honest requests, the STUN
 * server answers at least 80 %.
 *
 * @module
 */

import { delay } from "@std/async/delay";
import type { TransportAddress } from "../../lib/net/address.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { BINDING, encodeMessage } from "../../lib/stun/message.ts";
import { startCommand, startProgram } from "./process.ts";

/** What one run measured. */
export interface JunkFigures {
  /** Junk datagrams per second. */
  readonly rate: number;
  /** How many junk datagrams were sent in the last measurement of the STUN server. */
  readonly junk: number;
  /** The share of honest requests that the echo answered, from 0 to 1: the lower of before and after the STUN server's turn. */
  readonly echo: number;
  /** The share that the STUN server answered. */
  readonly stun: number;
  /** Every rate at which the echo was measured in full, and the share that it answered. */
  readonly searched: readonly (readonly [rate: number, echo: number])[];
}

/**
 * Finds the rate at which the echo answers 90 %, and measures the STUN server at it. The echo is measured before and after:
 * if it answered less in either, because the machine has become slower, the rate is lowered and both are measured again.
 */
export async function measureJunk(
  seed: number,
  { seconds, rate }: { seconds: number; rate?: number },
): Promise<JunkFigures> {
  await using echo = startProgram("bare_echo");
  const echoPort = Number(await echo.prints(/"port":(\d+)/));
  await using server = startCommand([
    ...["serve", "--json", "--address", "127.0.0.1", "--port", "0", "--rendezvous-port", "0"],
  ]);
  const stunPort = Number(await server.prints(/"stun":\["127\.0\.0\.1:(\d+)"/));
  const searched: [number, number][] = [];
  const measureEcho = async (rate: number) => {
    const { answered } = await measure(echoPort, rate, seconds, seed);
    searched.push([rate, answered]);
    return answered;
  };
  let found = rate ?? await findRate(echoPort, seed);
  for (let triesLeft = rate === undefined ? MAX_TRIES : 1;; triesLeft--) {
    const before = await measureEcho(found);
    const isTooEasy = before > EASY &&
      searched.every(([each, echo]) => each <= found || echo > EASY);
    if (triesLeft > 1 && (before < WANTED || isTooEasy)) {
      found = Math.round(found * (before < WANTED ? 1 - STEP : 1 + STEP));
      continue;
    }
    const { junk, answered: stun } = await measure(stunPort, found, seconds, seed);
    const echo = Math.min(before, await measureEcho(found));
    if (triesLeft <= 1 || echo >= WANTED) return { rate: found, junk, echo, stun, searched };
    found = Math.round(found * (1 - STEP));
  }
}

/** The highest rate, to within a tenth, at which the echo answers 90 % of the honest requests for two seconds. */
async function findRate(port: number, seed: number): Promise<number> {
  let [low, high] = [10_000, 320_000];
  while (high / low > 1.1) {
    const middle = Math.round(Math.sqrt(low * high));
    const { answered } = await measure(port, middle, 2, seed);
    if (answered >= WANTED) low = middle;
    else high = middle;
  }
  return low;
}

async function measure(
  port: number,
  rate: number,
  seconds: number,
  seed: number,
): Promise<{ answered: number; junk: number }> {
  const to = { ip: "127.0.0.1", port };
  await ask(to, 0.3); // so that the code is compiled
  await using sender = startProgram("junk", ["127.0.0.1", port, rate, seconds + 1, seed], {
    allowAll: true,
  });
  await delay(700); // it has started
  const answered = await ask(to, seconds);
  const junk = Number(await sender.prints(/"sent":(\d+)/));
  return { answered, junk };
}

/** Sends an honest request every five milliseconds; the share of those that are answered. None is sent twice. */
async function ask(to: TransportAddress, seconds: number): Promise<number> {
  using socket = await systemNetwork.bindUdp({ ip: "127.0.0.1", port: 0 });
  const waiting = new Set<string>();
  let answers = 0;
  const receiving = (async () => {
    for (;;) {
      const { data } = await socket.receive();
      if (waiting.delete(data.subarray(8, 20).join())) answers++;
    }
  })().catch(() => {}); // it is closed
  let requests = 0;
  const endMs = performance.now() + seconds * 1000;
  while (performance.now() < endMs) {
    const transactionId = crypto.getRandomValues(new Uint8Array(12));
    waiting.add(transactionId.join());
    const request = { class: "request", method: BINDING, transactionId, attributes: [] } as const;
    await socket.send(encodeMessage(request), to);
    requests++;
    await delay(5);
  }
  await delay(500);
  socket.close();
  await receiving;
  return answers / requests;
}

/** The share of honest requests that the echo answers at the rate that is looked for. */
const WANTED = 0.9;

/** Chosen by us: where the echo answers more, the rate may be higher. */
const EASY = 0.95;

/** Chosen by us: finer than the echo's share repeats. */
const STEP = 0.04;

/** Chosen by us: ten minutes at full length. */
const MAX_TRIES = 10;
