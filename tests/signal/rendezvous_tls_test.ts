/**
 * A rendezvous with TLS and STUN on one port, on loopback.
 *
 * @module
 */

import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { NetworkError, RefusedError } from "../../lib/base/errors.ts";
import { writeAll } from "../../lib/base/reader.ts";
import type { TransportAddress } from "../../lib/net/address.ts";
import type { TcpConnection } from "../../lib/net/network.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { openTlsAcceptor } from "../../lib/net/system/tls_server.ts";
import { openWebSocketChannel } from "../../lib/signal/rendezvous/channel.ts";
import { openRelayConnection } from "../../lib/signal/rendezvous/relay_connection.ts";
import {
  type RendezvousLimits,
  type RendezvousServer,
  serveRendezvous,
} from "../../lib/signal/rendezvous/server.ts";
import { serveStun, type StunServer } from "../../lib/stun/server/server.ts";
import { stunBinding } from "../../lib/stun/stun_binding.ts";
import { tlsFixture, TRUSTING_NETWORK } from "../net/tls_fixtures.ts";

const FILES = { cert: tlsFixture("server.pem"), key: tlsFixture("server.key") };

/** Everything on one port. */
async function withServers(
  job: (place: { rendezvous: RendezvousServer; stun: StunServer; url: string }) => Promise<void>,
  limits: Partial<RendezvousLimits> = {},
): Promise<void> {
  using tls = await openTlsAcceptor(FILES);
  const [address, network] = ["127.0.0.1", systemNetwork];
  await using stack = new AsyncDisposableStack();
  for (let tries = 0;; tries++) {
    const stun = stack.use(await serveStun({ network, address, port: 0, tls, sharesTcp: true }));
    const local = stun.addresses[0]!;
    const serveStunOn = stun.serveConnection.bind(stun);
    const options = { network, local, tls, limits, serveStun: serveStunOn };
    try {
      const rendezvous = stack.use(await serveRendezvous(options));
      return await job({ rendezvous, stun, url: `wss://127.0.0.1:${rendezvous.local.port}` });
    } catch (error) {
      // A connection of another test may have the port that is free for UDP.
      const isTaken = error instanceof NetworkError && error.reason === "address-in-use";
      if (!isTaken || tries === 5) throw error;
    }
  }
}

Deno.test("one port speaks STUN over UDP, TCP and TLS, and has rooms and the relay over TLS", async () => {
  await withServers(async ({ rendezvous, stun, url }) => {
    const port = rendezvous.local.port;
    for (const transport of ["udp", "tcp", "tls"] as const) {
      const { mapped } = await stunBinding(`127.0.0.1:${port}`, {
        network: TRUSTING_NETWORK,
        transport,
      });
      assertEquals(mapped.ip, "127.0.0.1");
    }
    assertEquals([stun.counters.tcpAnswers, stun.counters.udpAnswers], [2, 1]);
    assertEquals(rendezvous.url, `wss://localhost:${port}`);

    await using a = await openWebSocketChannel(url, "kitchen", { network: TRUSTING_NETWORK });
    await using b = await openWebSocketChannel(url, "kitchen", { network: TRUSTING_NETWORK });
    await b.send(new Uint8Array([1, 2]));
    assertEquals([...await a.receive()], [1, 2]);

    const token = new Uint8Array(32).fill(7);
    const ends = await Promise.all(
      [1, 2].map(() => openRelayConnection(url, { network: TRUSTING_NETWORK, token })),
    );
    await writeAll(ends[0]!, new Uint8Array([5]));
    const buffer = new Uint8Array(9);
    assertEquals(await ends[1]!.read(buffer), 1);
    assertEquals(rendezvous.relays, 1);
    for (const end of ends) end.close();
  });
});

Deno.test("outside of TLS, the port answers health checks and refuses everything else", async () => {
  await withServers(async ({ rendezvous }) => {
    const { local } = rendezvous;
    assertStringIncludes(await request(local, "/healthz"), "HTTP/1.1 200 OK");
    const error = await assertRejects(
      () => openWebSocketChannel(`ws://127.0.0.1:${local.port}`, "kitchen"),
      RefusedError,
    );
    assertEquals([error.code, rendezvous.counters.refusals["421"]], [421, 1]);
  });
});

Deno.test("a port without TLS closes a connection that begins with a TLS handshake", async () => {
  const local = { ip: "127.0.0.1", port: 0 };
  await using server = await serveRendezvous({
    network: systemNetwork,
    local,
    serveStun: (connection) => Promise.resolve(connection.close()),
  });
  using client = await systemNetwork.connectTcp(server.local);
  await client.write(new Uint8Array([0x16, 3, 1, 0, 5]));
  await assertRejects(() => client.read(new Uint8Array(1)), NetworkError, "reset");
});

Deno.test("clients that say nothing, or half of a handshake, are closed in time and counted", async () => {
  await withServers(async ({ rendezvous, url }) => {
    const silent = await dialAll(rendezvous.local, 5);
    const halfway = await dialAll(rendezvous.local, 5);
    for (const client of halfway) await client.write(new Uint8Array([0x16, 3, 1, 1, 0]));
    // Meanwhile, others are served.
    await using _room = await openWebSocketChannel(url, "room", { network: TRUSTING_NETWORK });
    for (const client of [...silent, ...halfway]) {
      await assertRejects(() => client.read(new Uint8Array(1)), NetworkError, "reset");
      client.close();
    }
    assertEquals(rendezvous.counters.refusals.tls, 5);
  }, { upgradeMs: 400 });
});

Deno.test("bytes that are neither TLS nor STUN nor HTTP get an answer or an end, and STUN's junk too", async () => {
  await withServers(async ({ rendezvous }) => {
    for (const first of [0x00, 0x3f, 0x40, 0x80, 0xff]) {
      using client = await systemNetwork.connectTcp(rendezvous.local);
      await client.write(new Uint8Array(4200).fill(first));
      assertEquals(await hasEnded(client), true, `0x${first.toString(16)}`);
    }
  });
});

Deno.test("handshakes that are not complete count as connections of their source", async () => {
  await withServers(async ({ rendezvous }) => {
    const first = await dialAll(rendezvous.local, 3);
    for (const client of first) await client.write(new Uint8Array([0x16]));
    await assertRejects(
      async () => { // while it is dialled, or afterwards
        using one = await systemNetwork.connectTcp(rendezvous.local);
        await one.read(new Uint8Array(1));
      },
      NetworkError,
      "reset",
    );
    assertEquals(rendezvous.counters.refusals.connections, 1);
    for (const client of first) client.close();
  }, { maxConnectionsPerSource: 3 });
});

Deno.test("a source that makes handshakes only uses up its allowance", async () => {
  await withServers(async ({ rendezvous }) => {
    let refused = 0;
    for (let i = 0; i < 20 && refused === 0; i++) {
      try {
        using client = await systemNetwork.connectTcp(rendezvous.local);
        await client.write(new Uint8Array([0x16, 3, 1, 0, 2, 9, 9]));
        await hasEnded(client);
      } catch (error) {
        if (!(error instanceof NetworkError)) throw error; // refused at once
      }
      refused = rendezvous.counters.refusals.allowance ?? 0;
    }
    assertEquals(refused > 0, true);
  }, { sourceBurst: 100, sourcePerSecond: 1, upgradeMs: 200 });
});

Deno.test("a server that drains tells rooms to go, and gives pairs time", async () => {
  await withServers(async ({ rendezvous, url }) => {
    const options = { network: TRUSTING_NETWORK, token: new Uint8Array(32).fill(7) };
    const [one, other] = await Promise.all([1, 2].map(() => openRelayConnection(url, options)));
    await writeAll(one!, new Uint8Array([1]));
    assertEquals(await other!.read(new Uint8Array(9)), 1);
    await using room = await openWebSocketChannel(url, "room", { network: TRUSTING_NETWORK });
    const drained = rendezvous.drain(60_000);
    await assertRejects(() => room.receive(), NetworkError, "the server ends");
    await assertRejects(() => systemNetwork.connectTcp(rendezvous.local), NetworkError, "refused");
    await writeAll(one!, new Uint8Array([2]));
    assertEquals(await other!.read(new Uint8Array(9)), 1);
    one!.close();
    other!.close();
    await drained;
  });
});

Deno.test("pairs that are left after the time to drain are told that the server ends", async () => {
  await withServers(async ({ rendezvous, url }) => {
    const options = { network: TRUSTING_NETWORK, token: new Uint8Array(32).fill(7) };
    const ends = await Promise.all([1, 2].map(() => openRelayConnection(url, options)));
    await writeAll(ends[0]!, new Uint8Array([1]));
    assertEquals(await ends[1]!.read(new Uint8Array(9)), 1);
    await rendezvous.drain(1);
    const told = assertRejects(() => ends[1]!.read(new Uint8Array(9)), NetworkError, "1001");
    await rendezvous[Symbol.asyncDispose]();
    await told;
    for (const end of ends) end.close();
  });
});

async function request(remote: TransportAddress, path: string): Promise<string> {
  using connection = await systemNetwork.connectTcp(remote);
  await writeAll(connection, new TextEncoder().encode(`GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`));
  let text = "";
  const buffer = new Uint8Array(1000);
  for (;;) {
    const length = await connection.read(buffer);
    if (length === null) return text;
    text += new TextDecoder().decode(buffer.subarray(0, length));
  }
}

function dialAll(remote: TransportAddress, count: number): Promise<TcpConnection[]> {
  return Promise.all(Array.from({ length: count }, () => systemNetwork.connectTcp(remote)));
}

/** Whether the server ends the connection. */
async function hasEnded(connection: TcpConnection): Promise<boolean> {
  const buffer = new Uint8Array(1000);
  try {
    while (await connection.read(buffer) !== null);
    return true;
  } catch (error) {
    if (error instanceof NetworkError) return error.reason === "reset";
    throw error;
  }
}
