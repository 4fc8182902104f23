import { assert, assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import { punch, type PunchedConn } from "../../lib/punch/punch.ts";
import { serveStun } from "../../lib/stun/server/server.ts";
import { NAT_BEHAVIORS } from "../../lab/model/nat_behavior.ts";
import { memoryChannelPair } from "../signal/memory_channel.ts";
import { simulate } from "../simnet/simulate.ts";

Deno.test("200 punches between the same two hosts succeed at the same time", () =>
  simulate(async ({ internet }) => {
    const link = { delayMs: 20 };
    const [address, alternateAddress] = ["203.0.113.10", "203.0.113.11"] as const;
    const stun = internet.host("stun", { addresses: [address, alternateAddress], link });
    await using _server = await serveStun({
      network: stun.network,
      address,
      alternateAddress,
      limits: {
        tcp: { maxConnections: 10_000, maxConnectionsPerSource: 10_000, idleMs: 60_000 },
      },
    });
    const networks = ["a", "b"].map((name) => {
      const behind = internet.router(`${name}/nat`, {
        behavior: NAT_BEHAVIORS.portRestricted,
        link,
      });
      return internet.host(name, { behind, reusePort: true }).network;
    });
    const conns = await Promise.all(Array.from({ length: 200 }, async (_, seed) => {
      await delay(2 * seed); // more at once would exceed the backlog of the server's listener
      const channels = memoryChannelPair({ delayMs: 25, seed });
      return await Promise.all(channels.map((channel, index) =>
        punch({
          network: networks[index]!,
          channel,
          role: index === 0 ? "controlling" : "controlled",
          servers: [address, `${alternateAddress}:3479`],
        })
      ));
    }));
    for (const [index, [a, b]] of conns.entries()) {
      await a!.write(Uint8Array.of(index));
      assertEquals(await readByte(b!), index);
      assert(a!.punch.punchMs < 500, `${a!.punch.punchMs} ms`);
    }
    for (const conn of conns.flat()) conn.close();
  }));

async function readByte(conn: PunchedConn): Promise<number> {
  const buffer = new Uint8Array(1);
  assertEquals(await conn.read(buffer), 1);
  return buffer[0]!;
}
