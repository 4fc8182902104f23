// deno-lint-ignore-file no-console -- what it prints is its result
/**
 * One peer accepts five hundred connections, about as many as it may have, on loopback: whether all of them live, and what
 * each costs it. The first hundred are told apart: they bring code, caches and memory that the others share.
 *
 *     deno run -A bench/many_peers.ts [COUNT]
 *
 * The peer that accepts is a process of its own; those that connect, ten of them, share another one.
 *
 * @module
 */

import { delay } from "@std/async/delay";
import { Peer } from "../lib/peer/peer.ts";
import type { PeerConnection } from "../lib/peer/connection.ts";
import { systemNetwork } from "../lib/net/system.ts";
import { serveRendezvous } from "../lib/signal/rendezvous/server.ts";
import { TextLineStream } from "../lab/kernel/lines.ts";

/** Of the peer that accepts, in bytes: all of it, and what it uses. */
interface Memory {
  readonly rss: number;
  readonly inUse: number;
}

const FIRST = 100;

const MAX_ATTEMPTS = 5;

/** Base sockets and memory of searches that have ended are kept for a while. */
const SETTLE_MS = 27_000;

const [first, url] = Deno.args;
if (first === "accept") await acceptAll(url!);
else await run(Number(first ?? 500));

async function run(count: number): Promise<void> {
  await using rendezvous = await serveRendezvous({
    network: systemNetwork,
    local: { ip: "127.0.0.1", port: 0 },
    limits: { topicMessagesPerSecond: 10_000 }, // of one peer, to which hundreds connect in a second here
  });
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--v8-flags=--expose-gc", import.meta.url, "accept", rendezvous.url],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const lines = child.stdout.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream())
    .getReader();
  const input = child.stdin.getWriter();
  const ask = async () => {
    await input.write(new TextEncoder().encode("\n"));
    return JSON.parse((await lines.read()).value!) as Memory & { live: number };
  };
  const ticket = (await lines.read()).value!;
  const options = { servers: [], signaling: [rendezvous.url], listen: false };
  const peers = await Promise.all(Array.from({ length: 10 }, () => Peer.open(options)));
  const before = await ask();
  const connections: PeerConnection[] = [];
  const startedAtMs = performance.now();
  let askingMs = 0;
  let hundred = before;
  while (connections.length < count) {
    const lot = Array.from({ length: Math.min(10, count - connections.length) }, (_, index) => {
      return untilConnected(peers[index % peers.length]!, ticket);
    });
    connections.push(...await Promise.all(lot));
    if (connections.length !== FIRST) continue;
    const askedAtMs = performance.now();
    await delay(SETTLE_MS);
    hundred = await ask();
    askingMs = performance.now() - askedAtMs;
  }
  const seconds = (performance.now() - startedAtMs - askingMs) / 1000;
  await delay(SETTLE_MS);
  const after = await ask();
  const echoed = await Promise.all(connections.map(isAlive));
  const kibEach = (key: keyof Memory, from: Memory, connections: number) =>
    Math.round((after[key] - from[key]) / 1024 / connections);
  console.log(JSON.stringify({
    connections: count,
    live: after.live,
    echoed: echoed.filter((alive) => alive).length,
    perSecond: Math.round(count / seconds),
    kibPerConnection: kibEach("rss", before, count),
    kibBeyondFirst: kibEach("rss", hundred, count - FIRST),
    kibInUseBeyondFirst: kibEach("inUse", hundred, count - FIRST),
  }));
  for (const connection of connections) connection.reset();
  await Promise.all(peers.map((peer) => peer.close()));
  await input.close();
  await child.status;
}

/** A busy machine lets some searches take too long. */
async function untilConnected(peer: Peer, ticket: string): Promise<PeerConnection> {
  for (let attempt = 1;; attempt++) {
    try {
      return await peer.connect(ticket);
    } catch (error) {
      if (attempt === MAX_ATTEMPTS) throw error;
    }
  }
}

async function isAlive(connection: PeerConnection): Promise<boolean> {
  await connection.write(Uint8Array.of(42));
  const buffer = new Uint8Array(1);
  return await connection.read(buffer) === 1 && buffer[0] === 42;
}

async function acceptAll(url: string): Promise<void> {
  await using peer = await Peer.open({ signaling: [url], servers: [] });
  console.log(peer.ticket);
  let live = 0;
  const accepting = (async () => {
    for await (const incoming of peer) {
      incoming.accept().then(async (connection) => {
        live++;
        const buffer = new Uint8Array(1);
        while (await connection.read(buffer) !== null) await connection.write(buffer.slice());
      }).catch(() => live--);
    }
  })();
  const lines = Deno.stdin.readable.pipeThrough(new TextDecoderStream())
    .pipeThrough(new TextLineStream());
  for await (const _line of lines) {
    (globalThis as { gc?: () => void }).gc?.();
    const { rss, heapUsed, external } = Deno.memoryUsage();
    console.log(JSON.stringify({ rss, inUse: heapUsed + external, live }));
  }
  await peer.close();
  await accepting;
  Deno.exit(); // the connections end with the program
}
