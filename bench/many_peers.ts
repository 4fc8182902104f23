// deno-lint-ignore-file no-console -- what it prints is its result
/**
 * One peer accepts a thousand connections, on loopback: whether all of them live, and what each costs it.
 *
 *     deno run -A bench/many_peers.ts [COUNT]
 *
 * The peer that accepts is a process of its own; those that connect, ten of them, share another one.
 *
 * @module
 */

import { Peer } from "../lib/peer/peer.ts";
import type { PeerConnection } from "../lib/peer/connection.ts";
import { systemNetwork } from "../lib/net/system.ts";
import { serveRendezvous } from "../lib/signal/rendezvous/server.ts";
import { TextLineStream } from "../lab/kernel/lines.ts";

const [first, url] = Deno.args;
if (first === "accept") await acceptAll(url!);
else await run(Number(first ?? 1000));

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
    return JSON.parse((await lines.read()).value!) as { rss: number; live: number };
  };
  const ticket = (await lines.read()).value!;
  const options = { servers: [], signaling: [rendezvous.url], listen: false };
  const peers = await Promise.all(Array.from({ length: 10 }, () => Peer.open(options)));
  const before = await ask();
  const connections: PeerConnection[] = [];
  const startedAtMs = performance.now();
  while (connections.length < count) {
    const lot = Array.from({ length: Math.min(20, count - connections.length) }, (_, index) => {
      return peers[index % peers.length]!.connect(ticket);
    });
    connections.push(...await Promise.all(lot));
  }
  const seconds = (performance.now() - startedAtMs) / 1000;
  const after = await ask();
  const echoed = await Promise.all(connections.map(isAlive));
  const kib = (after.rss - before.rss) / 1024 / count;
  console.log(JSON.stringify({
    connections: count,
    live: after.live,
    echoed: echoed.filter((alive) => alive).length,
    perSecond: Math.round(count / seconds),
    kibPerConnection: Math.round(kib),
  }));
  for (const connection of connections) connection.reset();
  await Promise.all(peers.map((peer) => peer.close()));
  await input.close();
  await child.status;
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
    console.log(JSON.stringify({ rss: Deno.memoryUsage().rss, live }));
  }
  await peer.close();
  await accepting;
  Deno.exit(); // the connections end with the program
}
