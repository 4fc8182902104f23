/**
 * Floods a peer that has an allow list with requests of other keys, and prints how much memory that has cost:
 * `deno run -A --v8-flags=--expose-gc tests/hostile/programs/refused_requests.ts 18000`. With `control` after the number,
 * the requests are written and not delivered.
 *
 * @module
 */

import { delay } from "@std/async/delay";
import { systemNetwork } from "../../../lib/net/system.ts";
import { Peer } from "../../../lib/peer/peer.ts";
import type { SignalTransport } from "../../../lib/signal/transport.ts";
import { stalledRequest } from "../ticket_holder.ts";

const count = Number(Deno.args[0] ?? 18_000);
const isControl = Deno.args[1] === "control";
const listeners = new Map<string, (message: Uint8Array) => void>();
let answers = 0;

/** Carries messages within this process. */
const transport: SignalTransport = {
  url: "ws://192.0.2.9:3480",
  open: () =>
    Promise.resolve({
      url: "ws://192.0.2.9:3480",
      finished: new Promise<void>(() => {}),
      publish: () => Promise.resolve(void answers++),
      subscribe: (topic, onMessage) => {
        listeners.set(topic, onMessage);
        return Promise.resolve({ [Symbol.asyncDispose]: () => Promise.resolve() });
      },
      [Symbol.asyncDispose]: () => Promise.resolve(),
    }),
};

const peer = await Peer.open({
  network: systemNetwork,
  signaling: [transport],
  servers: ["127.0.0.1:1"],
  mapPorts: false,
  allow: [new Uint8Array(32).fill(7)],
});
await flood(500); // code is compiled, and caches are filled
const before = await memory();
const { rss } = Deno.memoryUsage();
await flood(count);
const during = memoryNow();
await delay(6000); // longer than a rejection is kept
const after = await memory();
const figures = {
  requests: count,
  isControl,
  answers,
  duringMiB: round(during - before),
  forGoodMiB: round(after - before),
  rssMiB: round(Deno.memoryUsage().rss - rss),
};
Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify(figures)}\n`));
Deno.exit();

async function flood(requests: number): Promise<void> {
  for (let i = 0; i < requests; i++) {
    const { topic, message } = stalledRequest(peer.ticket);
    if (!isControl) listeners.get(topic)!(message);
    if (i % 50 === 0) await delay(0);
  }
}

async function memory(): Promise<number> {
  const { gc } = globalThis as { gc?: () => void };
  for (let i = 0; i < 3; i++) {
    gc?.();
    await delay(100);
  }
  return memoryNow();
}

function memoryNow(): number {
  const { heapUsed, external } = Deno.memoryUsage();
  return heapUsed + external;
}

function round(bytes: number): number {
  return Math.round(bytes / 104_857.6) / 10;
}
