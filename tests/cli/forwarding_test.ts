/**
 * Ports and hosts that `listen` offers, and `connect` asks for.
 *
 * @module
 */

import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { systemNetwork } from "../../lib/net/system.ts";
import { readSocksRequest } from "../../lib/cli/socks.ts";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import { readAll } from "../session/fixtures.ts";
import { type Command, type Servers, start, withServers } from "./command.ts";

Deno.test("connect --tcp reaches the port that it names, or the first, over one connection", () =>
  withServers(async (servers) => {
    await using one = serveText("one");
    await using two = serveText("two");
    const [first, second, third] = freePorts();
    const { listener, connector } = await startBoth(servers, {
      listen: ["--tcp", `${one.port}`, "--tcp", `${two.port}`],
      connect: ["--tcp", `${first}`, "--tcp", `${second}:${two.port}`, "--tcp", `${third}:1`],
    });
    assertEquals(await Promise.all([get(first), get(second), get(first)]), ["one", "two", "one"]);
    await assertRejects(() => get(third));
    await connector.prints("Closed: the peer does not offer that");
    const { stderr } = await endBoth(listener, connector);
    assertEquals(stderr.match(/^Connected/gm)?.length, 1, stderr);
  }));

Deno.test("connect --socks reaches what --allow-to names, and nothing else", () =>
  withServers(async (servers) => {
    await using one = serveText("one");
    await using two = serveText("two");
    const [port] = freePorts();
    const { listener, connector } = await startBoth(servers, {
      listen: ["--allow-to", `127.0.0.1:${one.port}`, "--allow-to", "*:80"],
      connect: ["--socks", `${port}`],
    });
    assertEquals(await getBySocks(port, one.port), { reply: 0, text: "one" });
    assertEquals(await getBySocks(port, two.port), { reply: 2, text: "" });
    assertEquals(await getBySocks(port, 80), { reply: 2, text: "" });
    await endBoth(listener, connector);
  }));

Deno.test("connect --tcp to a listen that offers no port says so", () =>
  withServers(async (servers) => {
    const [port] = freePorts();
    const { listener, connector } = await startBoth(servers, {
      listen: [],
      connect: ["--tcp", `${port}`],
    });
    await connector.prints("the peer offers no port");
    await endBoth(listener, connector);
  }));

Deno.test("connect --bind listens on another address, and warns of it", () =>
  withServers(async (servers) => {
    await using one = serveText("one");
    const [port] = freePorts();
    const { listener, connector } = await startBoth(servers, {
      listen: ["--tcp", `${one.port}`],
      connect: ["--tcp", `${port}`, "--bind", "0.0.0.0"],
    });
    await connector.prints("Warning: anyone who can connect to 0.0.0.0 uses your connection");
    assertEquals(await get(port), "one");
    await endBoth(listener, connector);
  }));

Deno.test("connect without a forward gets the first port that listen offers", () =>
  withServers(async (servers) => {
    await using one = serveText("one");
    const listener = start(["listen", "--tcp", `${one.port}`, ...servers.all]);
    const input = "GET / HTTP/1.0\r\n\r\n";
    const connector = start(["connect", await listener.ticket(), ...servers.connecting], { input });
    assertMatch((await connector.end()).stdout, /\r\n\r\none$/);
    listener.interrupt();
    await listener.end();
  }));

for (
  const [what, hex] of [
    ["SOCKS4", "0401"],
    ["a login", "050102"],
    ["BIND", "050100050200017f0000010050"],
    ["an unknown type of address", "0501000501000200"],
    ["port 0", "050100050100017f0000010000"],
    ["an early end", "05010005010001"],
  ] as const
) {
  Deno.test(`readSocksRequest() rejects ${what}`, async () => {
    let rest = Uint8Array.fromHex(hex);
    const client = {
      read: (buffer: Uint8Array) => {
        const part = rest.slice(0, buffer.length);
        rest = rest.slice(part.length);
        buffer.set(part);
        return Promise.resolve(part.length === 0 ? null : part.length);
      },
      write: (data: Uint8Array) => Promise.resolve(data.length),
    };
    await assertRejects(() => readSocksRequest(client), MalformedMessageError);
  });
}

async function startBoth(
  servers: Servers,
  args: { readonly listen: readonly string[]; readonly connect: readonly string[] },
): Promise<{ listener: Command; connector: Command }> {
  const listener = start(["listen", ...args.listen, ...servers.all]);
  const ticket = await listener.ticket();
  const connector = start(["connect", ticket, ...args.connect, ...servers.connecting]);
  await connector.prints("Forwarding");
  return { listener, connector };
}

async function endBoth(listener: Command, connector: Command): Promise<{ stderr: string }> {
  connector.interrupt();
  listener.interrupt();
  const [one, other] = await Promise.all([listener.end(), connector.end()]);
  assertEquals([one.code, other.code], [130, 130], one.stderr + other.stderr);
  return other;
}

function serveText(text: string): AsyncDisposable & { readonly port: number } {
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, () => {
    return new Response(text, { headers: { connection: "close" } });
  });
  return { port: server.addr.port, [Symbol.asyncDispose]: () => server.shutdown() };
}

async function get(port: number): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${port}/`, { headers: { connection: "close" } });
  return await response.text();
}

async function getBySocks(socks: number, port: number): Promise<{ reply: number; text: string }> {
  using client = await systemNetwork.connectTcp({ ip: "127.0.0.1", port: socks });
  await client.write(Uint8Array.of(5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, port >> 8, port & 0xff));
  await client.write(new TextEncoder().encode("GET / HTTP/1.0\r\n\r\n"));
  const answer = await readAll(client);
  const text = new TextDecoder().decode(answer.subarray(12));
  return { reply: answer[3]!, text: text.split("\r\n\r\n")[1] ?? "" };
}

function freePorts(): [number, number, number] {
  const listeners = [0, 1, 2].map(() => Deno.listen({ hostname: "127.0.0.1", port: 0 }));
  const ports = listeners.map(({ addr }) => addr.port);
  for (const listener of listeners) listener.close();
  return ports as [number, number, number];
}
