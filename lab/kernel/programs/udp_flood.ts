// deno-lint-ignore-file no-console -- what it prints is its result
/**
 * Sends small datagrams as fast as possible for some time: `udp_flood.ts IP:PORT MS`. Prints how many.
 *
 * @module
 */

import { parseTransportAddress } from "../../../lib/net/address.ts";

if (import.meta.main) {
  const [to, forMs] = Deno.args;
  const { ip, port } = parseTransportAddress(to!);
  const socket = Deno.listenDatagram({ transport: "udp", hostname: "0.0.0.0", port: 0 });
  const address: Deno.NetAddr = { transport: "udp", hostname: ip, port };
  const data = new Uint8Array(32);
  const endMs = performance.now() + Number(forMs);
  let sent = 0;
  while (performance.now() < endMs) {
    await Promise.all(Array.from({ length: 100 }, () => socket.send(data, address)));
    sent += 100;
  }
  console.log(sent);
}
