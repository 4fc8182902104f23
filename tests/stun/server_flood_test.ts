import { assert, assertEquals } from "@std/assert";
import { concat } from "../../lib/base/bytes.ts";
import { NetworkError } from "../../lib/base/errors.ts";
import type { TransportAddress } from "../../lib/net/address.ts";
import type { UdpSocket } from "../../lib/net/network.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { BINDING, decodeMessage, encodeMessage } from "../../lib/stun/message.ts";
import { serveStun } from "../../lib/stun/server/server.ts";

const OPTIONS = { network: systemNetwork, address: "127.0.0.1", port: 0 };

function bindingRequest(): Uint8Array<ArrayBuffer> {
  const transactionId = crypto.getRandomValues(new Uint8Array(12));
  return encodeMessage({
    class: "request",
    method: BINDING,
    transactionId,
    attributes: [{ type: "SOFTWARE", value: "flood" }, { type: 0xff00, value: new Uint8Array(4) }],
  });
}

/** Sends requests until one is answered: a flooded socket drops some, but not for long. */
async function isAlive(socket: UdpSocket, server: TransportAddress): Promise<boolean> {
  const request = bindingRequest();
  const id = request.subarray(8, 20).join();
  for (let tries = 0; tries < 50; tries++) {
    await socket.send(request, server);
    const signal = AbortSignal.timeout(200);
    try {
      for (;;) {
        const { data } = await socket.receive({ signal });
        if (decodeMessage(data).transactionId.join() === id) return true;
      }
    } catch (error) {
      if (error !== signal.reason) throw error;
    }
  }
  return false;
}

/** A seeded generator, xorshift32, so that failures are reproducible. */
function randomBytes(seed: number): (length: number) => Uint8Array {
  let state = seed;
  return (length) =>
    Uint8Array.from({ length }, () => {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      return state;
    });
}

Deno.test("the server survives 20,000 random and mutated datagrams, and still answers", async () => {
  await using server = await serveStun(OPTIONS);
  const [address] = server.addresses;
  using attacker = await systemNetwork.bindUdp({ ip: "127.0.0.1", port: 0 });
  using client = await systemNetwork.bindUdp({ ip: "127.0.0.1", port: 0 });
  const random = randomBytes(0x5704);
  for (let i = 0; i < 20_000; i++) {
    let datagram = random(i % 120);
    if (i % 2 === 0) {
      datagram = bindingRequest();
      const [at, value] = random(2);
      datagram[at! % datagram.length] = value!;
    }
    await attacker.send(datagram, address!);
    // In batches that fit the socket's buffer, so that all of them reach the server.
    if (i % 100 === 99) assert(await isAlive(client, address!));
  }
  assert(server.counters.udpIgnored + server.counters.udpAnswers >= 20_000);
  assert(server.counters.udpIgnored >= 10_000);
  assertEquals(server.counters.udpSendFailures, 0);
});

Deno.test("the server survives TCP connections that send garbage and vanish", async () => {
  await using server = await serveStun(OPTIONS);
  const [address] = server.addresses;
  const random = randomBytes(0x7c9);
  for (let i = 0; i < 300; i++) {
    using connection = await systemNetwork.connectTcp(address!);
    try {
      await connection.write(i % 2 === 0 ? random(1 + i) : bindingRequest().subarray(0, i % 40));
    } catch (error) {
      if (!(error instanceof NetworkError)) throw error; // the server hung up first
    }
    if (i % 3 === 0) connection.reset();
  }
  using client = await systemNetwork.bindUdp({ ip: "127.0.0.1", port: 0 });
  assert(await isAlive(client, address!));
  assertEquals(server.counters.tcpRefused, 0);
});

Deno.test("a client that never reads its responses does not block others", async () => {
  await using server = await serveStun(OPTIONS);
  const [address] = server.addresses;
  using greedy = await systemNetwork.connectTcp(address!);
  const stream = concat(...Array.from({ length: 1000 }, bindingRequest));
  const writing = greedy.write(stream).catch(() => 0); // ends when the connection does
  using client = await systemNetwork.bindUdp({ ip: "127.0.0.1", port: 0 });
  assert(await isAlive(client, address!));
  greedy.close();
  await writing;
});
