import { assertEquals, assertRejects } from "@std/assert";
import { NetworkError } from "../../lib/base/errors.ts";
import type { TcpConnection } from "../../lib/net/network.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { openTlsAcceptor } from "../../lib/net/system/tls_server.ts";
import {
  DEFAULT_SERVER_LIMITS,
  serveStun,
  type StunServer,
  type StunServerLimits,
} from "../../lib/stun/server/server.ts";
import { stunBinding } from "../../lib/stun/stun_binding.ts";
import { tlsFixture, TRUSTING_NETWORK } from "../net/tls_fixtures.ts";

async function withServer(
  job: (server: StunServer) => Promise<void>,
  limits: Partial<StunServerLimits["tcp"]> = {},
): Promise<void> {
  using tls = await openTlsAcceptor({
    cert: tlsFixture("server.pem"),
    key: tlsFixture("server.key"),
  });
  await using server = await serveStun({
    ...{ network: systemNetwork, address: "127.0.0.1", port: 0, tls, tlsPort: 0 },
    limits: { tcp: { ...DEFAULT_SERVER_LIMITS.tcp, ...limits } },
  });
  await job(server);
}

Deno.test("STUN over TLS is answered on its own port and on the TCP port, and TCP on both", async () => {
  await withServer(async (server) => {
    for (const { port } of [server.tlsAddress!, server.addresses[0]!]) {
      for (const transport of ["tcp", "tls"] as const) {
        const { mapped, otherAddress } = await stunBinding(`127.0.0.1:${port}`, {
          network: TRUSTING_NETWORK,
          transport,
        });
        assertEquals([mapped.ip, otherAddress], ["127.0.0.1", undefined]);
      }
    }
    const { tcpConnections, tlsConnections, tcpAnswers } = server.counters;
    assertEquals([tcpConnections, tlsConnections, tcpAnswers], [4, 2, 4]);
  });
});

Deno.test("connections that stop in a handshake, or before it, end when they are idle", async () => {
  await withServer(async (server) => {
    const clients = await dialAll(server, 4);
    for (const client of clients.slice(2)) await client.write(new Uint8Array([0x16, 3, 1, 1, 0]));
    for (const client of clients) {
      await assertRejects(() => client.read(new Uint8Array(1)), NetworkError, "reset");
      client.close();
    }
    assertEquals(server.counters.tcpIdle, 4);
  }, { idleMs: 100 });
});

Deno.test("a handshake that fails is counted, and its connection no longer counts", async () => {
  await withServer(async (server) => {
    for (let i = 1; i <= 3; i++) {
      const [client] = await dialAll(server, 1) as [TcpConnection];
      await client.write(new Uint8Array(200).fill(0x16)); // no version of TLS
      await untilEnded(client);
      assertEquals(server.counters.tlsFailures, i);
    }
    await stunBinding(`127.0.0.1:${server.tlsAddress!.port}`, {
      ...{ network: TRUSTING_NETWORK, transport: "tls" },
    });
  }, { maxConnectionsPerSource: 1 });
});

Deno.test("half of a handshake counts as a connection of its source", async () => {
  await withServer(async (server) => {
    const clients = await dialAll(server, 2);
    for (const client of clients) await client.write(new Uint8Array([0x16]));
    await assertRejects(
      async () => (await dialAll(server, 1))[0]!.read(new Uint8Array(1)),
      NetworkError,
      "reset",
    );
    assertEquals(server.counters.tcpRefused, 1);
    for (const client of clients) client.close();
  }, { maxConnectionsPerSource: 2 });
});

/** Reads until the server closes or resets the connection. */
async function untilEnded(connection: TcpConnection): Promise<void> {
  try {
    while (await connection.read(new Uint8Array(100)) !== null);
  } catch (error) {
    if (!(error instanceof NetworkError)) throw error;
  }
  connection.close();
}

function dialAll(server: StunServer, count: number): Promise<TcpConnection[]> {
  return Promise.all(
    Array.from({ length: count }, () => systemNetwork.connectTcp(server.tlsAddress!)),
  );
}
