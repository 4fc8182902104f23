/**
 * A host of `turn_lab_test.ts`.
 *
 *     turn_lab_host.ts accept SERVER PEER_IP    prints its relayed address, permits the peer, echoes what it sends
 *     turn_lab_host.ts dial ADDRESS             dials it over TCP, and prints the echo
 *     turn_lab_host.ts datagrams SERVER PEER_IP and
 *     turn_lab_host.ts send ADDRESS             the same with datagrams
 *
 * @module
 */

// deno-lint-ignore-file no-console

import { formatTransportAddress, parseTransportAddress } from "../../lib/net/address.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { openRelay, openStreamRelay } from "../../lib/turn/open_relay.ts";

const [job, server, peerIp] = Deno.args as [string, string, string];
const credential = { username: "someone", password: "secret" };
const buffer = new Uint8Array(100_000);

if (job === "accept") {
  await using relay = await openStreamRelay(`turn:${server}?transport=tcp`, { credential });
  await relay.permit([peerIp]);
  console.log(formatTransportAddress(relay.relayed[0]));
  const connection = await relay.accept();
  for (let count; (count = await connection.read(buffer)) !== null;) {
    await connection.write(buffer.subarray(0, count));
  }
} else if (job === "dial") {
  const connection = await systemNetwork.connectTcp(parseTransportAddress(server));
  await connection.write(new TextEncoder().encode("through two NATs"));
  const count = await connection.read(buffer);
  console.log(JSON.stringify(new TextDecoder().decode(buffer.subarray(0, count ?? 0))));
  connection.close();
} else if (job === "datagrams") {
  await using relay = await openRelay(`turn:${server}`, { credential });
  await relay.permit([peerIp]);
  console.log(formatTransportAddress(relay.relayed[0]));
  while (true) {
    const { data, from } = await relay.socket.receive();
    await relay.socket.send(data, from);
  }
} else {
  using socket = await systemNetwork.bindUdp({ ip: "0.0.0.0", port: 0 });
  await socket.send(new TextEncoder().encode("through two NATs"), parseTransportAddress(server));
  const { data } = await socket.receive({ signal: AbortSignal.timeout(5000) });
  console.log(JSON.stringify(new TextDecoder().decode(data)));
}
