import { assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { NetworkError } from "../../lib/base/errors.ts";
import type { TransportAddress } from "../../lib/net/address.ts";
import type { Network, UdpSocket } from "../../lib/net/network.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import type { StunAttribute } from "../../lib/stun/attributes.ts";
import {
  BINDING,
  decodeMessage,
  encodeMessage,
  getAttribute,
  type StunMessage,
} from "../../lib/stun/message.ts";
import { serveStun, type StunServer } from "../../lib/stun/server/server.ts";

const TWO_ADDRESSES = {
  network: systemNetwork,
  address: "127.0.0.1",
  alternateAddress: "127.0.0.2",
  port: 0,
  alternatePort: 0,
};

function bindingRequest(...attributes: StunAttribute[]): Uint8Array {
  const transactionId = crypto.getRandomValues(new Uint8Array(12));
  return encodeMessage({ class: "request", method: BINDING, transactionId, attributes });
}

async function ask(
  socket: UdpSocket,
  server: TransportAddress,
  ...attributes: StunAttribute[]
): Promise<{ response: StunMessage; from: TransportAddress }> {
  await socket.send(bindingRequest(...attributes), server);
  const { data, from } = await socket.receive();
  return { response: decodeMessage(data), from };
}

function bind(ip = "127.0.0.1"): Promise<UdpSocket> {
  return systemNetwork.bindUdp({ ip, port: 0 });
}

function opposite(server: StunServer, { ip, port }: TransportAddress): TransportAddress {
  return server.addresses.find((other) => other.ip !== ip && other.port !== port)!;
}

Deno.test("serveStun() binds two ports on two addresses, each with the opposite one as OTHER-ADDRESS", async () => {
  await using server = await serveStun(TWO_ADDRESSES);
  using socket = await bind();
  assertEquals(server.addresses.length, 4);
  assertEquals(server.addresses.map(({ ip }) => ip), [
    "127.0.0.1",
    "127.0.0.2",
    "127.0.0.1",
    "127.0.0.2",
  ]);
  for (const address of server.addresses) {
    const { response, from } = await ask(socket, address);
    assertEquals(from, address);
    assertEquals(getAttribute(response, "XOR-MAPPED-ADDRESS"), socket.local);
    assertEquals(getAttribute(response, "MAPPED-ADDRESS"), socket.local);
    assertEquals(getAttribute(response, "RESPONSE-ORIGIN"), address);
    assertEquals(getAttribute(response, "OTHER-ADDRESS"), opposite(server, address));
  }
  assertEquals(server.counters.udpAnswers, 4);
});

Deno.test("serveStun() answers a CHANGE-REQUEST from the requested address", async () => {
  await using server = await serveStun(TWO_ADDRESSES);
  using socket = await bind();
  for (const address of server.addresses) {
    const other = opposite(server, address);
    for (const [changeIp, changePort] of [[true, true], [true, false], [false, true]] as const) {
      const change = { type: "CHANGE-REQUEST", value: { changeIp, changePort } } as const;
      const { response, from } = await ask(socket, address, change);
      const expected = {
        ip: changeIp ? other.ip : address.ip,
        port: changePort ? other.port : address.port,
      };
      assertEquals(from, expected);
      assertEquals(getAttribute(response, "RESPONSE-ORIGIN"), expected);
      assertEquals(getAttribute(response, "OTHER-ADDRESS"), other);
    }
  }
});

Deno.test("serveStun() sends the response to RESPONSE-PORT", async () => {
  await using server = await serveStun(TWO_ADDRESSES);
  using asking = await bind();
  using listening = await bind();
  const responsePort = { type: "RESPONSE-PORT", value: listening.local.port } as const;
  await asking.send(bindingRequest(responsePort), server.addresses[0]!);
  const { data } = await listening.receive();
  assertEquals(getAttribute(decodeMessage(data), "XOR-MAPPED-ADDRESS"), asking.local);
});

Deno.test("serveStun() serves a single IPv6 address", async () => {
  await using server = await serveStun({ network: systemNetwork, address: "::1", port: 0 });
  using socket = await bind("::1");
  const [address] = server.addresses;
  assertEquals(server.addresses.length, 1);
  const { response } = await ask(socket, address!);
  assertEquals(getAttribute(response, "XOR-MAPPED-ADDRESS"), socket.local);
  assertEquals(getAttribute(response, "OTHER-ADDRESS"), undefined);
  const change = { type: "CHANGE-REQUEST", value: { changeIp: true, changePort: true } } as const;
  const refused = await ask(socket, address!, change);
  assertEquals(getAttribute(refused.response, "ERROR-CODE")?.code, 420);
});

Deno.test("serveStun() answers concurrent requests, each from its own address", async () => {
  await using server = await serveStun(TWO_ADDRESSES);
  using socket = await bind();
  const requests = server.addresses.map((address) => ({ address, data: bindingRequest() }));
  for (const { address, data } of requests) await socket.send(data, address);
  const received = new Map<string, TransportAddress>();
  for (const _ of requests) {
    const { data, from } = await socket.receive();
    received.set(decodeMessage(data).transactionId.join(), from);
  }
  for (const { address, data } of requests) {
    assertEquals(received.get(data.subarray(8, 20).join()), address);
  }
});

Deno.test("serveStun() rejects incompatible addresses and ports", async () => {
  const rejects = (options: Partial<typeof TWO_ADDRESSES>, text: string) =>
    assertRejects(() => serveStun({ ...TWO_ADDRESSES, ...options }), Error, text);
  await rejects({ alternateAddress: "127.0.0.1" }, "the same address");
  await rejects({ alternateAddress: "localhost" }, "Cannot parse IP address");
  await rejects({ alternateAddress: "::1" }, "different families");
  await rejects({ address: "0.0.0.0" }, "a wildcard");
  await rejects({ port: 4000, alternatePort: 4000 }, "different");
  await rejects({ alternateAddress: "192.0.2.77" }, "not an address of this machine");
});

Deno.test("serveStun() leaves nothing bound if it cannot bind everything", async () => {
  using taken = await systemNetwork.listenTcp({ ip: "127.0.0.2", port: 0 });
  const { port } = taken.local;
  const error = await assertRejects(
    () => serveStun({ ...TWO_ADDRESSES, port }),
    NetworkError,
  );
  assertEquals(error.reason, "address-in-use");
  await delay(0); // Deno releases a UDP port one turn of the event loop after close()
  using _free = await systemNetwork.bindUdp({ ip: "127.0.0.1", port });
});

Deno.test("close() is idempotent and frees the ports", async () => {
  const server = await serveStun(TWO_ADDRESSES);
  const [{ port } = { port: 0 }] = server.addresses;
  await server.close();
  await server.close();
  await server.finished;
  await delay(0); // as above
  await using _again = await serveStun({ ...TWO_ADDRESSES, port });
});

Deno.test("`finished` rejects when a socket fails, and nothing stays open", async () => {
  const broken = new NetworkError("Cannot receive: broken", "other");
  const network: Network = {
    ...systemNetwork,
    async bindUdp(local) {
      const socket = await systemNetwork.bindUdp(local);
      return {
        local: socket.local,
        send: (data, to) => socket.send(data, to),
        receive: () => Promise.reject(broken),
        close: () => socket.close(),
        [Symbol.dispose]: () => socket.close(),
      };
    },
  };
  const server = await serveStun({ network, address: "127.0.0.1", port: 0 });
  assertEquals(await assertRejects(() => server.finished), broken);
  await server.close();
  const refused = await assertRejects(
    () => systemNetwork.connectTcp(server.addresses[0]!),
    NetworkError,
  );
  assertEquals(refused.reason, "refused");
});
