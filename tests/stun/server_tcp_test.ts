import { assert, assertEquals, assertRejects } from "@std/assert";
import { concat } from "../../lib/base/bytes.ts";
import { NetworkError } from "../../lib/base/errors.ts";
import type { TcpConnection } from "../../lib/net/network.ts";
import { networkWith } from "../../lib/net/local_address.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import type { StunAttribute } from "../../lib/stun/attributes.ts";
import { writeAll } from "../../lib/base/reader.ts";
import { readMessages } from "../../lib/stun/framing.ts";
import {
  BINDING,
  decodeMessage,
  encodeMessage,
  getAttribute,
  type StunMessage,
} from "../../lib/stun/message.ts";
import { serveStun, type StunServer, type StunServerLimits } from "../../lib/stun/server/server.ts";
import type { Arrival } from "../../lib/stun/server/binding.ts";
import type { StunServerCounters } from "../../lib/stun/server/endpoints.ts";
import {
  encodeTcpCrossingRequest,
  encodeTcpFilterRequest,
  getTcpCrossingPorts,
  getTcpCrossingTimes,
  getTcpFilterResult,
} from "../../lib/stun/tcp_filter/message.ts";
import { TcpFilterService } from "../../lib/stun/tcp_filter/service.ts";

const TCP_LIMITS = { maxConnections: 8, maxConnectionsPerSource: 8, idleMs: 60_000 };

function serve(limits?: Partial<StunServerLimits>): Promise<StunServer> {
  return serveStun({
    network: systemNetwork,
    address: "127.0.0.1",
    alternateAddress: "127.0.0.2",
    port: 0,
    alternatePort: 0,
    limits,
  });
}

function dial(server: StunServer, fromIp = "127.0.0.1"): Promise<TcpConnection> {
  return systemNetwork.connectTcp(server.addresses[0]!, { local: { ip: fromIp, port: 0 } });
}

function bindingRequest(...attributes: StunAttribute[]): Uint8Array<ArrayBuffer> {
  const transactionId = crypto.getRandomValues(new Uint8Array(12));
  return encodeMessage({ class: "request", method: BINDING, transactionId, attributes });
}

async function readMessage(connection: TcpConnection): Promise<StunMessage> {
  for await (const bytes of readMessages(connection)) return decodeMessage(bytes);
  throw new Error("the connection ended");
}

async function ask(connection: TcpConnection, request: Uint8Array): Promise<StunMessage> {
  await writeAll(connection, request);
  return await readMessage(connection);
}

/** Whether the server closes or resets the connection without sending anything. */
async function isHungUp(connection: TcpConnection): Promise<boolean> {
  try {
    return await connection.read(new Uint8Array(1)) === null;
  } catch (error) {
    if (error instanceof NetworkError) return true;
    throw error;
  }
}

/** Whether the server resets a new connection, possibly before the dial succeeds. */
async function isTurnedAway(
  server: StunServer,
  fromIp?: string,
  request = new Uint8Array(),
): Promise<boolean> {
  try {
    using connection = await dial(server, fromIp);
    await writeAll(connection, request);
    return await isHungUp(connection);
  } catch (error) {
    if (error instanceof NetworkError) return true;
    throw error;
  }
}

Deno.test("a TCP connection gets the responses of the address that it was made to", async () => {
  await using server = await serve();
  for (const address of server.addresses) {
    using connection = await systemNetwork.connectTcp(address);
    const response = await ask(connection, bindingRequest());
    assertEquals(getAttribute(response, "XOR-MAPPED-ADDRESS"), connection.local);
    assertEquals(getAttribute(response, "RESPONSE-ORIGIN"), address);
    const other = server.addresses.find(({ ip, port }) =>
      ip !== address.ip && port !== address.port
    );
    assertEquals(getAttribute(response, "OTHER-ADDRESS"), other);
  }
});

Deno.test("a TCP connection carries several requests, however they are split", async () => {
  await using server = await serve();
  using connection = await dial(server);
  const requests = [bindingRequest(), bindingRequest(), bindingRequest()];
  const stream = concat(...requests);
  await writeAll(connection, stream.subarray(0, 7));
  await writeAll(connection, stream.subarray(7, 50));
  await writeAll(connection, stream.subarray(50));
  const answered: string[] = [];
  for await (const bytes of readMessages(connection)) {
    answered.push(decodeMessage(bytes).transactionId.join());
    if (answered.length === requests.length) break;
  }
  assertEquals(answered, requests.map((request) => request.subarray(8, 20).join()));
  assertEquals(server.counters.tcpAnswers, 3);
});

Deno.test("a TCP connection with another protocol is closed", async () => {
  await using server = await serve();
  const others = [
    new TextEncoder().encode("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"),
    Uint8Array.of(0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3), // a TLS ClientHello
    bindingRequest().with(4, 0), // no cookie
    bindingRequest().with(2, 0xff), // 65280 bytes
    bindingRequest().with(3, 3), // not a multiple of four
  ];
  for (const bytes of others) {
    using connection = await dial(server);
    await writeAll(connection, bytes);
    assert(await isHungUp(connection));
  }
});

Deno.test("a TCP connection survives messages that are not requests", async () => {
  await using server = await serve();
  using connection = await dial(server);
  const indication = encodeMessage({
    class: "indication",
    method: BINDING,
    transactionId: new Uint8Array(12),
    attributes: [],
  });
  const malformed = encodeMessage({
    class: "request",
    method: BINDING,
    transactionId: new Uint8Array(12),
    attributes: [{ type: 0x0020, value: new Uint8Array(3) }],
  });
  await writeAll(connection, concat(indication, malformed));
  const response = await ask(connection, bindingRequest());
  assertEquals(response.class, "success");
});

Deno.test("a TCP connection without a complete message in time is reset, even if bytes trickle in", async () => {
  await using server = await serve({ tcp: { ...TCP_LIMITS, idleMs: 50 } });
  using silent = await dial(server);
  using dripping = await dial(server);
  await writeAll(dripping, bindingRequest().subarray(0, 19));
  assert(await isHungUp(silent));
  assert(await isHungUp(dripping));
  assertEquals(server.counters.tcpIdle, 2);
});

Deno.test("a source cannot use up the TCP connections of others", async () => {
  await using server = await serve({ tcp: { ...TCP_LIMITS, maxConnectionsPerSource: 2 } });
  using first = await dial(server);
  using second = await dial(server);
  await ask(first, bindingRequest());
  await ask(second, bindingRequest());
  assert(await isTurnedAway(server));
  using elsewhere = await dial(server, "127.0.0.3");
  assertEquals((await ask(elsewhere, bindingRequest())).class, "success");
  assertEquals(server.counters.tcpRefused, 1);
});

Deno.test("messages of a source beyond its rate wait, over all its connections", async () => {
  const messages = { burst: 3, perSecond: 0 };
  await using server = await serve({ tcp: { ...TCP_LIMITS, messages } });
  using first = await dial(server);
  using second = await dial(server);
  using elsewhere = await dial(server, "127.0.0.3");
  for (let i = 0; i < 3; i++) await ask(first, bindingRequest());
  for (const connection of [first, second]) await writeAll(connection, bindingRequest());
  assertEquals((await ask(elsewhere, bindingRequest())).class, "success");
  assertEquals(server.counters.tcpAnswers, 4);
});

Deno.test("new TCP connections of a source beyond its rate are closed", async () => {
  const connections = { burst: 2, perSecond: 0 };
  await using server = await serve({ tcp: { ...TCP_LIMITS, connections } });
  for (let i = 0; i < 2; i++) {
    using connection = await dial(server);
    await ask(connection, bindingRequest());
  }
  assert(await isTurnedAway(server));
  using elsewhere = await dial(server, "127.0.0.3");
  assertEquals((await ask(elsewhere, bindingRequest())).class, "success");
});

Deno.test("a TCP connection that ends makes room for another", async () => {
  await using server = await serve({ tcp: { ...TCP_LIMITS, maxConnections: 1 } });
  const first = await dial(server);
  await ask(first, bindingRequest());
  assert(await isTurnedAway(server));
  first.close();
  // It takes the server a moment to notice the end.
  let tries = 0;
  while (await isTurnedAway(server, "127.0.0.1", bindingRequest())) assert(++tries < 1000);
});

Deno.test("a thousand idle TCP connections take no more than the maximum, and UDP still works", async () => {
  const limits = { maxConnections: 100, maxConnectionsPerSource: 60, idleMs: 60_000 };
  await using server = await serve({ tcp: limits });
  using connections = new DisposableStack();
  for (let i = 0; i < 100; i++) {
    const connection = connections.use(await dial(server, `127.0.1.${1 + i % 2}`));
    await ask(connection, bindingRequest());
  }
  for (let i = 0; i < 900; i++) assert(await isTurnedAway(server, `127.0.2.${1 + i % 200}`));
  assertEquals(server.counters.tcpRefused, 900);
  using socket = await systemNetwork.bindUdp({ ip: "127.0.0.1", port: 0 });
  await socket.send(bindingRequest(), server.addresses[0]!);
  assertEquals(decodeMessage((await socket.receive()).data).class, "success");
});

Deno.test("close() closes all TCP connections", async () => {
  const server = await serve();
  using connection = await dial(server);
  await ask(connection, bindingRequest());
  await server.close();
  assert(await isHungUp(connection));
  await assertRejects(() => dial(server), NetworkError);
});

Deno.test("a request for a TCP filter test that is shorter than its cost is refused", async () => {
  await using server = await serve();
  using connection = await dial(server);
  const cheap = bindingRequest(encodeTcpFilterRequest({ windowMs: 100 }, 992));
  assertEquals(cheap.length, 1016);
  assertEquals(getAttribute(await ask(connection, cheap), "ERROR-CODE")?.code, 400);
  const broken = bindingRequest({ type: 0xd1a1, value: new Uint8Array(3) });
  assertEquals(getAttribute(await ask(connection, broken), "ERROR-CODE")?.code, 400);
  assertEquals(server.counters.filterTests, 0);
});

Deno.test("a TCP connection gets only one TCP filter test", async () => {
  await using server = await serve();
  using connection = await dial(server);
  const request = () => bindingRequest(encodeTcpFilterRequest({ windowMs: 100 }, 1000));
  const first = getTcpFilterResult(await ask(connection, request()));
  // This side does not listen, so its own system refuses.
  assertEquals(first?.sameAddress.outcome, "refused");
  assertEquals(first?.alternateAddress.outcome, "refused");
  const second = getTcpFilterResult(await ask(connection, request()));
  assertEquals(second?.sameAddress.outcome, "not-tested");
  assertEquals(second?.alternateAddress.outcome, "not-tested");
  assertEquals([server.counters.filterTests, server.counters.filterTestsRefused], [1, 1]);
});

Deno.test("a source gets as many TCP filter tests as its rate allows", async () => {
  const filterTests = { tests: { burst: 2, perSecond: 0 }, maxConcurrent: 8 };
  await using server = await serve({ filterTests });
  const outcomes: (string | undefined)[] = [];
  for (let i = 0; i < 3; i++) {
    using connection = await dial(server);
    const request = bindingRequest(encodeTcpFilterRequest({ windowMs: 100 }, 1000));
    outcomes.push(getTcpFilterResult(await ask(connection, request))?.sameAddress.outcome);
  }
  assertEquals(outcomes, ["refused", "refused", "not-tested"]);
});

Deno.test("a crossing test costs what a TCP filter test costs: one for a connection, at its rate, of its length", async () => {
  const filterTests = { tests: { burst: 2, perSecond: 0 }, maxConcurrent: 8 };
  await using server = await serve({ filterTests });
  const request = (length: number) =>
    bindingRequest(encodeTcpCrossingRequest({ delayMs: 0, holdMs: 10 }, length));
  const portsOf = async (connection: TcpConnection) =>
    getTcpCrossingPorts(await ask(connection, request(1000)))?.length;
  using short = await dial(server);
  assertEquals(getAttribute(await ask(short, request(992)), "ERROR-CODE")?.code, 400);
  using first = await dial(server);
  assertEquals(await portsOf(first), 3);
  assertEquals(getTcpCrossingTimes(await readMessage(first))?.length, 3);
  assertEquals(await portsOf(first), undefined, "a second one on the same connection");
  using second = await dial(server);
  assertEquals(await portsOf(second), 3);
  using third = await dial(server);
  assertEquals(await portsOf(third), 0, "beyond the rate");
  assertEquals([server.counters.filterTests, server.counters.filterTestsRefused], [2, 1]);
});

Deno.test("crossing tests that are asked for at the same moment keep to the limit of all tests", async () => {
  let dials = 0;
  let most = 0;
  const network = networkWith(systemNetwork, {
    connectTcp: async (_, { signal } = {}) => {
      most = Math.max(most, ++dials);
      await new Promise((resolve) => signal!.addEventListener("abort", resolve, { once: true }));
      dials--;
      throw signal!.reason;
    },
  });
  const limits = { tests: { burst: 100, perSecond: 0 }, maxConcurrent: 2 };
  const counters = { filterTests: 0, filterTestsRefused: 0 } as StunServerCounters;
  const service = new TcpFilterService(network, limits, { counters, seed: 1 });
  const arrival: Arrival = {
    transport: "tcp",
    source: { ip: "127.0.0.1", port: 9 },
    destination: { ip: "127.0.0.1", port: 3478 },
  };
  const { signal } = new AbortController();
  const options = { transactionId: new Uint8Array(12), signal };
  const cross = () => service.cross({ delayMs: 0, holdMs: 100 }, arrival, options);
  const atOnce = await Promise.all([cross(), cross(), cross()]);
  assertEquals(atOnce.map(({ ports }) => ports.length), [3, 3, 0]);
  const later = await cross();
  const prepared = [...atOnce, later].flatMap(({ run }) => run ?? []);
  const reports = await Promise.all(prepared.map((run) => run()));
  const times = reports.map((each) => getTcpCrossingTimes(decodeMessage(each))?.length);
  assertEquals(times, [3, 3, 0]);
  assert(most <= 6, `${most} dials at a time`);
});

Deno.test("a TCP filter test is ignored over UDP, where the source may be forged", async () => {
  await using server = await serve();
  using socket = await systemNetwork.bindUdp({ ip: "127.0.0.1", port: 0 });
  const request = bindingRequest(encodeTcpFilterRequest({ windowMs: 100 }, 1000));
  await socket.send(request, server.addresses[0]!);
  const response = decodeMessage((await socket.receive()).data);
  assertEquals(response.class, "success");
  assertEquals(getTcpFilterResult(response), undefined);
  assertEquals(server.counters.filterTests, 0);
});
