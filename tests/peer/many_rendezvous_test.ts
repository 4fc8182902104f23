/**
 * Tickets that name more rendezvous servers than are used at a time.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import { networkWith } from "../../lib/net/local_address.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import type { PeerOptions } from "../../lib/peer/options.ts";
import { Peer } from "../../lib/peer/peer.ts";
import { serveRendezvous } from "../../lib/signal/rendezvous/server.ts";

const DEAD = ["ws://127.0.0.1:1", "ws://127.0.0.1:2", "ws://127.0.0.1:3", "ws://127.0.0.1:4"];

function serve() {
  return serveRendezvous({ network: systemNetwork, local: { ip: "127.0.0.1", port: 0 } });
}

/** The system's network, which notes the ports that it dials. */
function countingNetwork() {
  const ports: number[] = [];
  const network = networkWith(systemNetwork, {
    connectTcp: (remote, options) => {
      ports.push(remote.port);
      return systemNetwork.connectTcp(remote, options);
    },
  });
  return { network, ports };
}

Deno.test("others take the place of servers that fail, and the relay is at one that works", async () => {
  await using one = await serve();
  await using other = await serve();
  const signaling = [...DEAD, one.url, other.url];
  const options = { signaling, servers: [], mapPorts: false, relayOnly: true };
  await using listener = await Peer.open(options);
  await using dialer = await Peer.open({ ...options, listen: false });
  const accepting = listener.nextIncoming().then((incoming) => incoming.accept());
  await using dialed = await dialer.connect(listener.ticket);
  await using accepted = await accepting;
  await dialed.write(new Uint8Array([1, 2, 3]));
  assertEquals(await accepted.read(new Uint8Array(9)), 3);
  assertEquals([dialed.path.relayed, one.relays + other.relays], [true, 1]);
  for (const end of [dialed, accepted]) end.close();
});

Deno.test("of eight servers that work, a dialer connects to four", async () => {
  await using stack = new AsyncDisposableStack();
  const servers = [];
  for (let count = 0; count < 8; count++) servers.push(stack.use(await serve()));
  const signaling = servers.map(({ url }) => url);
  const { network, ports } = countingNetwork();
  const options = { signaling, servers: [], mapPorts: false, relayOnly: true };
  await using listener = await Peer.open(options);
  await using dialer = await Peer.open({ ...options, listen: false, network });
  const accepting = listener.nextIncoming().then((incoming) => incoming.accept());
  await using dialed = await dialer.connect(listener.ticket);
  await using accepted = await accepting;
  await dialed.write(new Uint8Array([1]));
  assertEquals(await accepted.read(new Uint8Array(9)), 1);
  assert(new Set(ports).size <= 4, `${ports}`);
  for (const end of [dialed, accepted]) end.close();
});

Deno.test("a peer that only dials connects in advance to the rendezvous servers that it named, unless they must not see it", async () => {
  await using server = await serve();
  const dialsOf = async (options: PeerOptions) => {
    const { network, ports } = countingNetwork();
    const dials = () => ports.filter((port) => port === server.local.port).length;
    await using _peer = await Peer.open({ servers: [], network, listen: false, ...options });
    assertEquals(ports, []); // it may get a ticket at once
    await delay(300);
    const isExpected = options.signaling!.length > 0 && !options.relayOnly;
    while (isExpected && dials() === 0) await delay(10); // on a busy machine it takes longer
    return dials();
  };
  const signaling = [server.url];
  assertEquals(await dialsOf({ signaling, mapPorts: false }), 1);
  assertEquals(await dialsOf({ signaling: [], mapPorts: false }), 0);
  assertEquals(await dialsOf({ signaling, mapPorts: false, relayOnly: true }), 0);
});
