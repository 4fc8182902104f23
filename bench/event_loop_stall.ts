// deno-lint-ignore-file no-console
/**
 * How long Deno lets a socket wait while other work keeps its event loop busy, without a line of this library: the reason for
 * `lib/signal/rendezvous/io_pause.ts`.
 *
 *     deno run -A bench/event_loop_stall.ts [turnMs]
 *     DENO_TOKIO_EVENT_INTERVAL=1 deno run -A bench/event_loop_stall.ts
 *
 * A byte is on its way over loopback while each turn of the event loop takes 20 ms and begins the next one. With Deno 2.9 it
 * arrives after up to 61 turns; with the variable, after one.
 *
 * @module
 */

import { setImmediate } from "node:timers";

const turnMs = Number(Deno.args[0] ?? 20);
const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
const sender = await Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port });
const receiver = await listener.accept();
let turns = 0;
const work = () => {
  for (const startMs = performance.now(); performance.now() < startMs + turnMs;);
  turns++;
  setImmediate(work);
};
const reading = receiver.read(new Uint8Array(1));
setTimeout(() => {
  work();
  sender.write(new Uint8Array(1));
}, 100);
await reading;
console.log(JSON.stringify({ turns, waitedMs: Math.round(turns * turnMs) }));
Deno.exit();
