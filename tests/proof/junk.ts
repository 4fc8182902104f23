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
  /** The share of honest requests that were answered, from 0 to 1. */
  readonly echo: number;
  readonly stun: number;
}

/** Finds the rate for the echo, and measures the STUN server at it. */
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
  const found = rate ?? await findRate(echoPort, seed);
  const atEcho = await measure(echoPort, found, seconds, seed);
  const atStun = await measure(stunPort, found, seconds, seed);
  return { rate: found, junk: atStun.junk, echo: atEcho.answered, stun: atStun.answered };
}

/** The highest rate, to within a tenth, at which the echo answers 90 % of the honest requests. */
async function findRate(port: number, seed: number): Promise<number> {
  let [low, high] = [10_000, 320_000];
  while (high / low > 1.1) {
    const middle = Math.round(Math.sqrt(low * high));
    const { answered } = await measure(port, middle, 2, seed);
    if (answered >= 0.9) low = middle;
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
