/**
 * What a code costs: the computing of each side, and the whole exchange through a rendezvous on loopback.
 *
 *     deno bench -A bench/code_bench.ts
 *
 * @module
 */

import { newCode, parseCode } from "../lib/code/code.ts";
import { codeKeys, offererShare, redeemerShare } from "../lib/code/exchange.ts";
import { systemNetwork as network } from "../lib/net/system.ts";
import { Peer } from "../lib/peer/peer.ts";
import { serveRendezvous } from "../lib/signal/rendezvous/server.ts";

const code = newCode(7, crypto.getRandomValues(new Uint8Array(6)));
const id = crypto.getRandomValues(new Uint8Array(16));
const secret = crypto.getRandomValues(new Uint8Array(32));
const own = redeemerShare(code, id);
const other = offererShare(code, secret, { id, share: own.share });

Deno.bench("read a code with a typing error", () => void parseCode("7 amber walrsu otter"));

Deno.bench("one share", () => void redeemerShare(code, id));

Deno.bench("the keys from both shares", () => {
  codeKeys(id, { ...own, role: "redeemer" }, other.share);
});

Deno.bench("offer a code and redeem it, rendezvous on loopback", async (bench) => {
  await using server = await serveRendezvous({ network, local: { ip: "127.0.0.1", port: 0 } });
  const options = { signaling: [server.url], servers: [], mapPorts: false };
  await using sender = await Peer.open(options);
  await using receiver = await Peer.open({ ...options, listen: false });
  bench.start();
  await using offer = await sender.offerCode();
  await receiver.redeemCode(offer.code!);
  bench.end();
});
