// deno-lint-ignore-file no-console -- what it prints is its result
/**
 * A peer in a process that may open few files, and another one that connects to it until that fails, and once more when its
 * connections have ended:
 *
 *     deno run -A tests/hostile/programs/few_files.ts FILES
 *
 * @module
 */

import { RefusedError, UnreachableError } from "../../../lib/base/errors.ts";
import { systemNetwork } from "../../../lib/net/system.ts";
import type { PeerConnection } from "../../../lib/peer/connection.ts";
import type { PeerOptions } from "../../../lib/peer/options.ts";
import { Peer } from "../../../lib/peer/peer.ts";
import { serveRendezvous } from "../../../lib/signal/rendezvous/server.ts";

/** The same for both: a punch that needs many sockets would find none at a moment of its own. */
const OPTIONS: PeerOptions = { servers: [], strategies: ["host"], mapPorts: false };

const MAX_ATTEMPTS = 4;

const [first, url] = Deno.args;
if (first === "accept") await acceptAll(url!);
else await fill(Number(first));
Deno.exit();

/** Accepts everybody until stdin ends. */
async function acceptAll(url: string): Promise<void> {
  const peer = await Peer.open({ ...OPTIONS, signaling: [url] });
  peer.serve((connection) => connection.readable.pipeTo(connection.writable), { maxPerKey: 1000 });
  console.log(peer.ticket);
  for await (const _ of Deno.stdin.readable);
}

async function fill(files: number): Promise<void> {
  await using rendezvous = await serveRendezvous({
    network: systemNetwork,
    local: { ip: "127.0.0.1", port: 0 },
  });
  const command = `ulimit -n ${files} && exec "$0" run -A --quiet "$@"`;
  const child = new Deno.Command("sh", {
    args: ["-c", command, Deno.execPath(), import.meta.url, "accept", rendezvous.url],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const printed = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const ticket = (await printed.read()).value!.trim();
  const guest = await Peer.open({ ...OPTIONS, signaling: [rendezvous.url], listen: false });
  const connections: PeerConnection[] = [];
  let error: unknown;
  while (error === undefined && connections.length < files) {
    try {
      connections.push(await connect(guest, ticket));
    } catch (reason) {
      error = reason;
    }
  }
  const echoed = await Promise.all(connections.map(async (connection) => {
    await connection.write(Uint8Array.of(7));
    return await connection.read(new Uint8Array(1)) === 1;
  }));
  for (const connection of connections) connection.reset();
  await Promise.all(connections.map((each) => each[Symbol.asyncDispose]()));
  const again = await connect(guest, ticket);
  console.log(JSON.stringify({
    connections: connections.length,
    code: error instanceof RefusedError ? error.code : String(error),
    live: echoed.filter((isEchoed) => isEchoed).length,
    again: again.path.kind,
  }));
  await child.stdin.close();
  await child.status;
}

/** On a busy machine, a peer on the same host may be noticed too late to be dialled. */
async function connect(guest: Peer, ticket: string): Promise<PeerConnection> {
  for (let attempt = 1;; attempt++) {
    try {
      return await guest.connect(ticket);
    } catch (error) {
      if (attempt === MAX_ATTEMPTS || !(error instanceof UnreachableError)) throw error;
    }
  }
}
