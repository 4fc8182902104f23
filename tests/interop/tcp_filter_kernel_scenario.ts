/**
 * Runs the TCP filter test from each local port given as an argument, against a server in the same process, and prints
 * each result as a line of JSON.
 *
 * @module
 */

import { systemNetwork } from "../../lib/net/system.ts";
import { serveStun } from "../../lib/stun/server/server.ts";
import { testTcpFilter } from "../../lib/stun/tcp_filter/client.ts";

await using server = await serveStun({
  network: systemNetwork,
  address: "127.0.0.1",
  alternateAddress: "127.0.0.2",
});
for (const port of Deno.args) {
  const local = { ip: "127.0.0.1", port: Number(port) };
  const report = await testTcpFilter(systemNetwork, server.addresses[0]!, { local });
  const { sameAddress, alternateAddress, evidence } = report;
  const dials = [evidence.server?.sameAddress.dials, evidence.server?.alternateAddress.dials];
  // deno-lint-ignore no-console
  console.log(JSON.stringify({ sameAddress, alternateAddress, dials }));
}
