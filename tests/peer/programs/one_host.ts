// deno-lint-ignore-file no-console -- what it prints is its result
/**
 * Peers on one host that connect to another one there at once, with a rendezvous and a STUN server on loopback:
 *
 *     deno run -A tests/peer/programs/one_host.ts COUNT
 *
 * @module
 */

import { messageOf } from "../../../lib/base/errors.ts";
import { systemNetwork } from "../../../lib/net/system.ts";
import { Peer } from "../../../lib/peer/peer.ts";
import { serveRendezvous } from "../../../lib/signal/rendezvous/server.ts";
import { serveLocally } from "../../cli/run_main.ts";

const count = Number(Deno.args[0]);

await using stun = await serveLocally();
await using rendezvous = await serveRendezvous({
  network: systemNetwork,
  local: { ip: "127.0.0.1", port: 0 },
});
const options = { signaling: [rendezvous.url], servers: [stun.name], mapPorts: false };
await using host = await Peer.open(options);
host.serve(async (connection) => {
  for await (const stream of connection.streams) {
    await stream.write(new TextEncoder().encode(connection.remoteId));
    stream.close();
  }
});

const paths = await Promise.all(Array.from({ length: count }, async () => {
  await using peer = await Peer.open({ ...options, listen: false });
  try {
    await using connection = await peer.connect(host.ticket);
    const stream = await connection.openStream();
    const answer = await new Response(stream.readable).text();
    return answer === peer.id ? connection.path.kind : `not answered: ${answer}`;
  } catch (error) {
    return messageOf(error);
  }
}));
console.log(JSON.stringify(paths));
