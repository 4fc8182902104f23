import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { NetworkError, RefusedError } from "../../lib/base/errors.ts";
import { writeAll } from "../../lib/base/reader.ts";
import type { TcpConnection } from "../../lib/net/network.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { attachTcp } from "../../lib/net/system/tcp.ts";
import { PortConnection } from "../../lib/serve/hand_over.ts";
import { type RunningRendezvous, startThreads } from "../../lib/serve/threads.ts";
import { createSharedCounts, SharedCounts } from "../../lib/serve/shared_counts.ts";
import { openWebSocketChannel } from "../../lib/signal/rendezvous/channel.ts";
import { openRelayConnection } from "../../lib/signal/rendezvous/relay_connection.ts";
import type { RendezvousLimits } from "../../lib/signal/rendezvous/server.ts";
import { webSocketTransport } from "../../lib/signal/rendezvous/transport.ts";
import { serveStun } from "../../lib/stun/server/server.ts";
import { stunBinding } from "../../lib/stun/stun_binding.ts";
import { tlsFixture, TRUSTING_NETWORK } from "../net/tls_fixtures.ts";

const PROGRAM = new URL("../../lib/cli/serve_thread.ts", import.meta.url);
const LOOPBACK = { ip: "127.0.0.1", port: 0 };
const FILES = { cert: tlsFixture("server.pem"), key: tlsFixture("server.key") };
const LOGGER = { debug() {}, info() {}, warn() {} };
const LIMITS = { maxRelaysPerSource: 100, sourceBurst: 1e6 };

/** Three threads: two clients are in the same one in a third of all cases. */
async function withThreads(
  job: (server: RunningRendezvous, url: string) => Promise<void>,
  { files, port = 0, stun, limits }: {
    limits?: Partial<RendezvousLimits>;
    files?: typeof FILES;
    port?: number;
    stun?: (connection: TcpConnection) => Promise<void>;
  } = {},
): Promise<void> {
  const server = await startThreads({
    ...{ program: PROGRAM, count: 3, logger: LOGGER, attach: attachTcp, serveStun: stun },
    settings: {
      ...{ local: { ...LOOPBACK, port }, limits: { ...LIMITS, ...limits }, trustedProxies: [] },
      ...{ accessKey: undefined, files, hasStun: stun !== undefined, nats: undefined },
    },
  });
  try {
    await job(server, server.url.replace("localhost", "127.0.0.1"));
  } finally {
    await server[Symbol.asyncDispose]();
  }
}

Deno.test("two connections with one token meet, whichever thread each is accepted by", async () => {
  await withThreads(async (server, url) => {
    for (let i = 0; i < 12; i++) await relay(url, systemNetwork);
    await waitUntil(() => server.relayedBytes >= 12 * 2 * BYTES);
  });
});

Deno.test("inside of TLS, too", async () => {
  await withThreads(async (_server, url) => {
    for (let i = 0; i < 8; i++) await relay(url, TRUSTING_NETWORK);
  }, { files: FILES });
});

Deno.test("a room is one room in all threads, and has two members", async () => {
  await withThreads(async (_server, url) => {
    for (let i = 0; i < 8; i++) {
      const room = `room-${i}`;
      await using a = await openWebSocketChannel(url, room);
      await using b = await openWebSocketChannel(url, room);
      const received = a.receive();
      await b.send(Uint8Array.of(i, 1));
      assertEquals(await received, Uint8Array.of(i, 1));
      await a.send(Uint8Array.of(i, 2));
      assertEquals(await b.receive(), Uint8Array.of(i, 2));
      const third = async () => {
        await using c = await openWebSocketChannel(url, room);
        await c.receive();
      };
      const error = await assertRejects(third);
      assertEquals(error instanceof RefusedError || error instanceof NetworkError, true);
    }
  });
});

Deno.test("a message reaches the subscribers of its topic in all threads", async () => {
  await withThreads(async (_server, url) => {
    const topic = crypto.getRandomValues(new Uint8Array(16)).toBase64({
      alphabet: "base64url",
      omitPadding: true,
    });
    const transport = webSocketTransport(url);
    const received: number[] = [];
    const connections = [];
    for (let i = 0; i < 4; i++) {
      const connection = await transport.open({ network: systemNetwork });
      await connection.subscribe(topic, () => void received.push(i));
      connections.push(connection);
    }
    const publisher = await transport.open({ network: systemNetwork });
    await publisher.publish(topic, Uint8Array.of(1));
    await waitUntil(() => received.length === 4);
    assertEquals(received.toSorted(), [0, 1, 2, 3]);
    for (const each of [...connections, publisher]) await each[Symbol.asyncDispose]();
  });
});

Deno.test("clients of the port that speak STUN get their answers", async () => {
  await using stun = await serveStun({ network: systemNetwork, address: "127.0.0.1", port: 0 });
  await withThreads(async ({ local }) => {
    for (let i = 0; i < 4; i++) {
      const { mapped } = await stunBinding(`127.0.0.1:${local.port}`, { transport: "tcp" });
      assertEquals(mapped.ip, "127.0.0.1");
    }
  }, { stun: stun.serveConnection.bind(stun) });
});

Deno.test("the connections of a source are counted in all threads together", async () => {
  await withThreads(async (server, url) => {
    const open = () => openWebSocketChannel(url, crypto.randomUUID());
    const channels = [];
    for (let i = 0; i < 6; i++) channels.push(await open());
    for (let i = 0; i < 6; i++) await assertRejects(open, NetworkError);
    await waitUntil(() => server.connections === 6 && server.counters.refusals.connections === 6);
    await channels.pop()![Symbol.asyncDispose]();
    await waitUntil(() => server.connections === 5);
    channels.push(await open());
    await assertRejects(open, NetworkError);
    for (const channel of channels) await channel[Symbol.asyncDispose]();
  }, { limits: { maxConnectionsPerSource: 6 } });
});

Deno.test("the relays of a source are counted in all threads together", async () => {
  await withThreads(async (_server, url) => {
    const pair = async (token: Uint8Array<ArrayBuffer>) => {
      const [a, b] = [0, 1].map(() => openRelayConnection(url, { network: systemNetwork, token }));
      const both = [await a!, await b!];
      await writeAll(both[0]!, Uint8Array.of(1));
      await both[1]!.read(new Uint8Array(1)); // it is joined
      return both;
    };
    const token = () => crypto.getRandomValues(new Uint8Array(32));
    const pairs = [await pair(token()), await pair(token())];
    for (let i = 0; i < 6; i++) {
      using refused = await openRelayConnection(url, { network: systemNetwork, token: token() });
      const error = await assertRejects(() => refused.read(new Uint8Array(1)));
      assertStringIncludes(`${error}`, "too many relays from this address");
    }
    for (const each of pairs.flat()) each.close();
  }, { limits: { maxRelaysPerSource: 2 } });
});

Deno.test("counts that threads share are those of all of them, and go no further than the limit", () => {
  const table = createSharedCounts();
  const [one, other] = [new SharedCounts(table), new SharedCounts(table)];
  assertEquals([one.take("a", 2), other.take("a", 2), one.take("a", 2)], [true, true, false]);
  assertEquals([one.count("a"), other.count("a"), one.count("b")], [2, 2, 0]);
  other.release("a");
  assertEquals([one.take("a", 2), other.take("a", 2)], [true, false]);
});

Deno.test("threads that cannot listen say why", async () => {
  using listener = await systemNetwork.listenTcp(LOOPBACK);
  const error = await assertRejects(
    () => withThreads(() => Promise.resolve(), { port: listener.local.port }),
    NetworkError,
  );
  assertEquals(error.reason, "address-in-use");
});

Deno.test("threads that drain tell rooms to go, and accept nothing more", async () => {
  await withThreads(async (server, url) => {
    await using channel = await openWebSocketChannel(url, "kitchen");
    const isTold = assertRejects(() => channel.receive(), NetworkError, "1001");
    await server.drain(100);
    await isTold;
    await assertRejects(() => openWebSocketChannel(url, "kitchen"), NetworkError);
  });
});

Deno.test("a connection of another thread waits for its reader, and says how it ends", async () => {
  const { port1, port2 } = new MessageChannel();
  const ends = { local: LOOPBACK, remote: LOOPBACK };
  using one = new PortConnection(port1, ends);
  using other = new PortConnection(port2, ends);
  const sent = crypto.getRandomValues(new Uint8Array(65_536));
  let written = 0;
  const writing = (async () => {
    for (; written < 10; written++) await writeAll(one, sent);
    await one.closeWrite();
  })();
  await new Promise((resolve) => setTimeout(resolve, 20));
  assertEquals(written, 4); // 256 KiB
  assertEquals(await readAll(other), 10 * sent.length);
  await writing;
  one.reset();
  await new Promise((resolve) => setTimeout(resolve, 20));
  await assertRejects(() => other.write(Uint8Array.of(1)), NetworkError, "reset");
});

/** A pair sends itself something in both directions, the first of it before both are there. */
async function relay(url: string, network: typeof systemNetwork): Promise<void> {
  const token = crypto.getRandomValues(new Uint8Array(32));
  using a = await openRelayConnection(url, { network, token });
  const data = new Uint8Array(BYTES);
  const early = writeAll(a, data).then(() => a.closeWrite());
  using b = await openRelayConnection(url, { network, token });
  await Promise.all([early, writeAll(b, data).then(() => b.closeWrite())]);
  assertEquals(await Promise.all([readAll(a), readAll(b)]), [BYTES, BYTES]);
}

async function readAll(connection: TcpConnection): Promise<number> {
  const buffer = new Uint8Array(65_536);
  let total = 0;
  for (;;) {
    const length = await connection.read(buffer);
    if (length === null) return total;
    total += length;
  }
}

async function waitUntil(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 10));
}

const BYTES = 100_000;
