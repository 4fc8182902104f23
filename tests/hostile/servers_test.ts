/** What a stranger does to `serve`: takes its file descriptors and its places, and lies about addresses. */

import { assert, assertEquals } from "@std/assert";
import { parseTransportAddress } from "../../lib/net/address.ts";
import { parseIpPrefix } from "../../lib/net/ip_prefix.ts";
import { ConnectionCounts, SourceRateLimiter } from "../../lib/net/source.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { openWebSocketChannel } from "../../lib/signal/rendezvous/channel.ts";
import { clientAddress } from "../../lib/signal/rendezvous/forwarded.ts";
import { stunBinding } from "../../lib/stun/stun_binding.ts";
import { writeAll } from "../../lib/base/reader.ts";
import { floodServe } from "../proof/descriptors.ts";
import { startCommand, startProgram } from "../proof/process.ts";

Deno.test("a flood of sockets that takes all descriptors of serve does not make it deaf", async () => {
  const recovery = await floodServe(1);
  for (const [service, ms] of Object.entries(recovery)) {
    assert(ms !== null && ms <= 2000, `${service} serves again after ${ms} ms`);
  }
});

Deno.test("one client that sends STUN over TCP without a pause does not silence serve", async () => {
  await using server = startCommand([
    ...["serve", "--json", "--address", "127.0.0.1", "--port", "0", "--rendezvous-port", "0"],
  ]);
  const address = await server.prints(/"stun":\["([^"]+)"/);
  const rendezvous = await server.prints(/"rendezvous":"([^"]+)"/);
  await using attacker = startProgram("stun_stream", [address, 100]);
  await attacker.prints(/"started"/);
  const outcomes = [];
  for (let i = 0; i < 10; i++) {
    const signal = AbortSignal.timeout(5000);
    outcomes.push(
      ...await Promise.allSettled([
        stunBinding(address, { transport: "udp", signal }),
        stunBinding(address, { transport: "tcp", signal }),
        withChannel(rendezvous, `room-${i}`, signal),
      ]),
    );
  }
  const failures = outcomes.filter(({ status }) => status === "rejected");
  assert(failures.length === 0, `${failures.length} of ${outcomes.length} failed`);
});

Deno.test("an IPv6 /59 cannot take all places of a server", () => {
  const counts = new ConnectionCounts({
    maxConnections: 2048,
    maxConnectionsPerSource: 64,
    reservedShare: 0.25,
  });
  let taken = 0;
  for (let network = 0; network < 32; network++) {
    for (let host = 1; host <= 64; host++) {
      if (counts.admit(`2001:db8:0:${network.toString(16)}::${host.toString(16)}`)) taken++;
    }
  }
  assertEquals(taken, 128);
  assert(counts.admit("2001:db8:1::1") !== undefined);
});

Deno.test("an IPv6 /48 cannot take all places, and cannot ask for more than four sources' worth", () => {
  const counts = new ConnectionCounts({ maxConnections: 2048, maxConnectionsPerSource: 64 });
  const limiter = new SourceRateLimiter({ burst: 10, perSecond: 0 }, 1);
  let [places, requests] = [0, 0];
  for (let network = 0; network < 4096; network++) {
    const ip = `2001:db8:0:${(network * 16).toString(16)}::1`;
    if (counts.admit(ip)) places++;
    if (limiter.take(ip, 1, 0)) requests++;
  }
  assertEquals([places, requests], [256, 40]);
});

Deno.test("sources that have taken all they may leave a reserve to newcomers", () => {
  const counts = new ConnectionCounts({
    maxConnections: 100,
    maxConnectionsPerSource: 50,
    reservedShare: 0.25,
  });
  for (let i = 0; i < 200; i++) counts.admit(`192.0.2.${1 + i % 4}`);
  assertEquals(counts.total, 75);
  const release = counts.admit("198.51.100.1");
  assert(release !== undefined);
  release();
  assertEquals(counts.total, 75);
});

Deno.test("clients of a trusted proxy that have taken all they may leave a reserve to newcomers", () => {
  const counts = new ConnectionCounts({
    maxConnections: 100,
    maxConnectionsPerSource: 50,
    reservedShare: 0.25,
  });
  const connect = (ip: string) => { // as the server does: the head names the client
    const release = counts.admitUnknown();
    if (release === undefined) return undefined;
    const releaseSource = counts.attribute(ip);
    if (releaseSource === undefined) release();
    return releaseSource;
  };
  for (let i = 0; i < 200; i++) connect(`192.0.2.${1 + i % 4}`);
  assertEquals(counts.total, 75);
  assert(connect("198.51.100.1") !== undefined);
});

Deno.test("IPv4 in IPv6 form is the same source", () => {
  const counts = new ConnectionCounts({ maxConnections: 9, maxConnectionsPerSource: 1 });
  assert(counts.admit("192.0.2.1") !== undefined);
  assertEquals(counts.admit("::ffff:192.0.2.1"), undefined);
});

Deno.test("a client cannot choose its address by writing the proxy's header itself", () => {
  const proxies = [parseIpPrefix("10.0.0.0/8"), parseIpPrefix("2001:db8::1")];
  const cases: [string, string | undefined, string][] = [
    ["203.0.113.9", "192.0.2.1", "203.0.113.9"], // no proxy
    ["10.0.0.1", undefined, "10.0.0.1"],
    ["10.0.0.1", "192.0.2.1", "192.0.2.1"],
    ["10.0.0.1", "198.51.100.7, 192.0.2.1", "192.0.2.1"], // the left one is the client's invention
    ["10.0.0.1", "192.0.2.1, 10.9.9.9", "192.0.2.1"],
    ["10.0.0.1", "192.0.2.1:4711", "192.0.2.1"],
    ["2001:db8::1", "[2001:db8::2]:80", "2001:db8::2"],
    ["::ffff:10.0.0.1", "::ffff:192.0.2.1", "192.0.2.1"],
    ["10.0.0.1", "192.0.2.1, unknown", "10.0.0.1"],
    ["10.0.0.1", "192.0.2.1,", "10.0.0.1"],
    ["10.0.0.1", "10.0.0.2, 10.0.0.3", "10.0.0.2"],
  ];
  for (const [ip, header, client] of cases) {
    assertEquals(clientAddress(ip, header, proxies), client, `${ip} with ${header}`);
  }
});

Deno.test("serve counts clients by X-Forwarded-For from a trusted proxy only", async () => {
  await using server = startCommand([
    ...["serve", "--json", "--address", "127.0.0.1", "--port", "0", "--rendezvous-port", "0"],
    ...["--trust-proxy", "127.0.0.8/29", "--max-connections-per-source", "2"],
  ]);
  const rendezvous = await server.prints(/"rendezvous":"ws:\/\/([^"]+)"/);
  using stack = new DisposableStack();
  const statusOf = async (from: string, client: string) => {
    const local = { ip: from, port: 0 };
    const head = [
      "GET /topics/1 HTTP/1.1",
      `Host: ${rendezvous}`,
      "Connection: Upgrade",
      "Upgrade: websocket",
      "Sec-WebSocket-Version: 13",
      "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
      `X-Forwarded-For: ${client}`,
      "\r\n",
    ].join("\r\n");
    try {
      const connection = stack.use(
        await systemNetwork.connectTcp(parseTransportAddress(rendezvous), { local }),
      );
      await writeAll(connection, new TextEncoder().encode(head));
      const buffer = new Uint8Array(1024);
      const length = await connection.read(buffer);
      return new TextDecoder().decode(buffer.subarray(9, Math.min(12, length ?? 0)));
    } catch {
      return "reset";
    }
  };
  const proxied = [];
  for (const client of ["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"]) {
    proxied.push(await statusOf("127.0.0.9", client));
  }
  assertEquals(proxied, ["101", "101", "429", "101"]);
  const direct = [];
  for (const client of ["192.0.2.3", "192.0.2.4", "192.0.2.5"]) {
    direct.push(await statusOf("127.0.0.77", client));
  }
  assertEquals(direct, ["101", "101", "reset"]);
});

async function withChannel(url: string, room: string, signal: AbortSignal): Promise<void> {
  await using _channel = await openWebSocketChannel(url, room, { signal });
}
