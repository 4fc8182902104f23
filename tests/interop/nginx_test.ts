/**
 * The rendezvous and its relay behind Debian's nginx, with the site that `deploy/` ships.
 *
 * @module
 */

import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { NetworkError, RefusedError } from "../../lib/base/errors.ts";
import { writeAll } from "../../lib/base/reader.ts";
import type { TcpConnection } from "../../lib/net/network.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { openWebSocketChannel } from "../../lib/signal/rendezvous/channel.ts";
import { openRelayConnection } from "../../lib/signal/rendezvous/relay_connection.ts";
import { Peer } from "../../lib/peer/peer.ts";
import {
  type RendezvousLimits,
  type RendezvousServer,
  serveRendezvous,
} from "../../lib/signal/rendezvous/server.ts";
import { dialWebSocket } from "../../lib/signal/websocket/connection.ts";
import { encodeUpgradeRequest } from "../../lib/signal/websocket/handshake.ts";
import { TRUSTING_NETWORK as network } from "../net/tls_fixtures.ts";
import { NGINX, PROXY_IP, startNginx } from "./nginx.ts";
import { toolTest } from "./tool_test_case.ts";

const KEY = "0123456789abcdef";

interface Place {
  readonly server: RendezvousServer;
  /** Through nginx. */
  readonly url: string;
  readonly port: number;
}

async function withNginx(
  job: (place: Place) => Promise<void>,
  { idle, limits }: { idle?: string; limits?: Partial<RendezvousLimits> } = {},
): Promise<void> {
  await using server = await serveRendezvous({
    network: systemNetwork,
    local: { ip: "127.0.0.1", port: 0 },
    trustedProxies: [PROXY_IP],
    accessKey: KEY,
    limits,
  });
  await using nginx = await startNginx(server.local.port, idle);
  await job({ server, url: `wss://localhost:${nginx.port}/${KEY}`, port: nginx.port });
}

toolTest(
  "behind nginx, two members of a room and both ends of a relay meet by wss",
  NGINX,
  async () => {
    await withNginx(async ({ url, server, port }) => {
      await using a = await openWebSocketChannel(url, "kitchen", { network });
      await using b = await openWebSocketChannel(url, "kitchen", { network });
      await b.send(new Uint8Array([1, 2]));
      assertEquals([...await a.receive()], [1, 2]);

      const token = crypto.getRandomValues(new Uint8Array(32));
      const [one, other] = await Promise.all(
        [1, 2].map(() => openRelayConnection(url, { network, token })),
      ) as [TcpConnection, TcpConnection];
      const sent = new Uint8Array(3_000_000).map((_, index) => index * 7 + (index >> 9));
      const [there, back] = await Promise.all([
        readToEnd(other),
        readToEnd(one),
        send(one, sent),
        send(other, sent),
      ]);
      assertEquals([equal(there, sent), equal(back, sent), server.relays], [true, true, 1]);
      one.close();
      other.close();
      assertStringIncludes(await request(port, "GET /healthz HTTP/1.1"), " 200 OK");
      assertStringIncludes(await request(port, "GET / HTTP/1.1"), " 426 ");
    });
  },
);

toolTest(
  "behind nginx, each client is counted by its own address, whatever it claims",
  NGINX,
  async () => {
    await withNginx(async ({ url, port, server }) => {
      await using _a = await openWebSocketChannel(url, "one", { network });
      await using _b = await openWebSocketChannel(url, "two", { network });
      const error = await assertRejects(
        () => openWebSocketChannel(url, "three", { network }),
        RefusedError,
      );
      assertEquals(error.code, 429);
      const key = btoa("0123456789abcdef");
      const plain = new TextDecoder().decode(
        encodeUpgradeRequest("localhost", `/${KEY}/three`, key),
      );
      const claiming = plain.replace("\r\n\r\n", "\r\nX-Forwarded-For: 198.51.100.7\r\n\r\n");
      assertStringIncludes(await request(port, claiming.trimEnd()), " 429 ");
      // From elsewhere than the proxy, the header is ignored, and the source is as full.
      using direct = await systemNetwork.connectTcp(server.local, {
        local: { ip: "127.0.0.7", port: 0 },
      });
      await writeAll(direct, new TextEncoder().encode(claiming));
      assertStringIncludes(await readText(direct, 12), " 101");
    }, { limits: { maxConnectionsPerSource: 2 } });
  },
);

toolTest("behind nginx, the server's pings keep a silent connection open", NGINX, async () => {
  await withNginx(async ({ url }) => {
    await using a = await openWebSocketChannel(url, "quiet", { network });
    await using b = await openWebSocketChannel(url, "quiet", { network });
    await new Promise((resolve) => setTimeout(resolve, 5000));
    await b.send(new Uint8Array([3]));
    assertEquals([...await a.receive()], [3]);
  }, { idle: "2s", limits: { pingMs: 500 } });
});

toolTest(
  "behind nginx, two peers connect by the relay, with the URL and nothing else",
  NGINX,
  async () => {
    await withNginx(async ({ url, server }) => {
      const options = { network, signaling: [url], servers: [], mapPorts: false, relayOnly: true };
      await using listener = await Peer.open(options);
      await using dialer = await Peer.open({ ...options, listen: false });
      const [accepted, dialed] = await Promise.all([
        listener.nextIncoming().then((incoming) => incoming.accept()),
        dialer.connect(listener.ticket),
      ]);
      await using _accepted = accepted;
      await using _dialed = dialed;
      await dialed.write(new Uint8Array([1, 2, 3]));
      const buffer = new Uint8Array(9);
      assertEquals(await accepted.read(buffer), 3);
      assertEquals([dialed.path.relayed, server.relays], [true, 1]);
      dialed.close();
      accepted.close();
    });
  },
);

toolTest("without pings, nginx ends a silent connection: the control", NGINX, async () => {
  await withNginx(async ({ url }) => {
    const limits = { maxMessageBytes: 4096, maxQueuedBytes: 4096 };
    const socket = await dialWebSocket(new URL(`${url}/quiet`), { network, limits });
    assertEquals((await socket.receive()).kind, "text"); // that the other member is absent
    await assertRejects(() => socket.receive(), NetworkError);
    socket.abort();
  }, { idle: "2s", limits: { pingMs: 60_000 } });
});

async function send(connection: TcpConnection, data: Uint8Array): Promise<void> {
  await writeAll(connection, data);
  await connection.closeWrite();
}

async function readToEnd(connection: TcpConnection): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for (;;) {
    const buffer = new Uint8Array(65_536);
    const length = await connection.read(buffer);
    if (length === null) return new Uint8Array(await new Blob(parts as BlobPart[]).arrayBuffer());
    parts.push(buffer.subarray(0, length));
  }
}

function equal(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length && one.every((byte, index) => byte === other[index]);
}

/** The answer through nginx to a request, of its first line or of its whole head. */
async function request(port: number, head: string): Promise<string> {
  using connection = await network.connectTls({ ip: "127.0.0.1", port }, { hostname: "localhost" });
  const fields = head.includes("\r\n") ? "" : "\r\nHost: localhost";
  await writeAll(connection, new TextEncoder().encode(`${head}${fields}\r\n\r\n`));
  return await readText(connection, 12);
}

async function readText(connection: TcpConnection, length: number): Promise<string> {
  let text = "";
  const buffer = new Uint8Array(1000);
  while (text.length < length) {
    const count = await connection.read(buffer);
    if (count === null) break;
    text += new TextDecoder().decode(buffer.subarray(0, count));
  }
  return text;
}
