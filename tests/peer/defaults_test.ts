/**
 * Where a peer meets others if it is not told where. The network here is a stand-in that refuses everything.
 *
 * @module
 */

import { assertEquals, assertRejects } from "@std/assert";
import { NetworkError } from "../../lib/base/errors.ts";
import type { Network } from "../../lib/net/network.ts";
import { decodeTicket } from "../../lib/peer/ticket.ts";
import { Peer } from "../../lib/peer/peer.ts";
import { DEFAULT_SIGNALING } from "../../lib/signal/open.ts";

Deno.test("Peer.open() tries the LAN and each default broker, and nothing else", async () => {
  const { network, asked } = refusingNetwork();
  const states: string[] = [];
  await assertRejects(
    () =>
      Peer.open({
        network,
        servers: [],
        onProgress: (progress) => {
          if (progress.event === "signaling" && progress.state === "failed") {
            states.push(progress.url);
          }
        },
      }),
    NetworkError,
    "Cannot listen for others",
  );
  assertEquals(new Set(states), new Set(DEFAULT_SIGNALING));
  const brokers = DEFAULT_SIGNALING.filter((url) => url !== "lan:").map((url) =>
    new URL(url.replace("mqtts:", "https:")).hostname
  );
  assertEquals(new Set(asked), new Set(brokers));
});

Deno.test("the ticket of a peer without options names the defaults", async () => {
  await using peer = await Peer.open({ network: refusingNetwork().network, listen: false });
  assertEquals(decodeTicket(peer.ticket).signaling, [...DEFAULT_SIGNALING]);
});

Deno.test("a peer without signaling servers does not listen, and asks for none", async () => {
  const { network, asked } = refusingNetwork();
  await using _peer = await Peer.open({ network, signaling: [], servers: [] });
  assertEquals(asked, []);
});

/** Refuses everything, and notes the names that it is asked for. */
function refusingNetwork(): { network: Network; asked: string[] } {
  const asked: string[] = [];
  const refuse = () => Promise.reject(new NetworkError("Cannot use this network", "unreachable"));
  const network: Network = {
    canReusePort: false,
    bindUdp: refuse,
    connectTcp: refuse,
    connectTls: refuse,
    listenTcp: refuse,
    resolve: (name) => {
      asked.push(name);
      return refuse();
    },
    localAddresses: () => Promise.resolve([]),
    ownsAddress: () => Promise.resolve(false),
    defaultGateways: () => Promise.resolve([]),
  };
  return { network, asked };
}
