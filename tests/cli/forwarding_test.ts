/**
 * Ports and hosts that `listen` offers, and `connect` asks for.
 *
 * @module
 */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { systemNetwork } from "../../lib/net/system.ts";
import { forwardSocks, readSocksRequest } from "../../lib/cli/socks.ts";
import type { PeerConnection } from "../../lib/peer/connection.ts";
import { concat } from "../../lib/base/bytes.ts";
import { MalformedMessageError, NetworkError } from "../../lib/base/errors.ts";
import { inVirtualTime, readAll } from "../session/fixtures.ts";
import type { UdpSocket } from "../../lib/net/network.ts";
import {
  type Command,
  type Servers,
  start,
  startProgram,
  withScratch,
  withServers,
} from "./command.ts";

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
    await connector.prints("Closed: the peer does not offer 1");
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

Deno.test("listen --tcp does not print a line for each of many that ask in vain", () =>
  withServers(async (servers) => {
    await using one = serveText("one");
    const [port] = freePorts();
    const { listener, connector } = await startBoth(servers, {
      listen: ["--tcp", `${one.port}`],
      connect: ["--tcp", `${port}:1`],
    });
    for (let i = 0; i < 60; i++) await assertRejects(() => get(port));
    connector.interrupt();
    await connector.end();
    listener.interrupt();
    const { stderr } = await listener.end();
    const lines = stderr.match(/it is not offered/g)?.length ?? 0;
    assert(lines >= 20 && lines <= 40, stderr); // twenty, and one a second
  }));

Deno.test("connect --socks ends although a client has said nothing", () =>
  withServers(async (servers) => {
    const [port] = freePorts();
    const { listener, connector } = await startBoth(servers, {
      listen: ["--allow-to", "*:80"],
      connect: ["--socks", `${port}`],
    });
    await connector.prints("Connected");
    using client = await systemNetwork.connectTcp({ ip: "127.0.0.1", port });
    await client.write(Uint8Array.of(5, 1, 0));
    assertEquals(await client.read(new Uint8Array(2)), 2);
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
    await connector.prints("listen --tcp PORT` at the other side, of the same version");
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

Deno.test("connect without a forward gets the first port that listen offers, before a Unix socket", () =>
  withServers(async (servers) => {
    await using one = serveText("one");
    const offers = ["--unix", "absent.sock", "--tcp", `${one.port}`];
    const listener = start(["listen", ...offers, ...servers.all]);
    const input = "GET / HTTP/1.0\r\n\r\n";
    const connector = start(["connect", await listener.ticket(), ...servers.connecting], { input });
    assertMatch((await connector.end()).stdout, /\r\n\r\none$/);
    listener.interrupt();
    await listener.end();
  }));

Deno.test("connect without a forward says that the service does not run, or that no port is offered", () =>
  withServers(async (servers) => {
    const [port] = freePorts();
    for (
      const [offer, why] of [
        [["--tcp", `${port}`], "connection refused"],
        [["--udp", `${port}`], "Cannot forward to the first port: no port is offered"],
      ] as const
    ) {
      const listener = start(["listen", ...offer, ...servers.all]);
      const { code, stderr } = await start(
        ["connect", await listener.ticket(), ...servers.connecting],
      ).end();
      assertEquals(code, 1);
      assertMatch(
        stderr,
        /^punchline: Cannot continue: the peer cannot connect to its own service/m,
      );
      await listener.prints(why);
      listener.interrupt();
      await listener.end();
    }
  }));

Deno.test("connect --socks --verbose names the host, and an interrupt is not reported as a failure", () =>
  withServers(async (servers) => {
    using service = await serveDatagrams("one");
    const [port, udp] = freePorts();
    const { listener, connector } = await startBoth(servers, {
      listen: ["--udp", `${service.local.port}`, "--allow-to", "127.0.0.1:1"],
      connect: ["--socks", `${port}`, "--udp", `${udp}`, "--verbose"],
    });
    await connector.prints("Connected");
    using client = await systemNetwork.bindUdp({ ip: "127.0.0.1", port: 0 });
    assertEquals(await askUdp(client, udp, "hello"), "hello one");
    assertEquals(await getBySocks(port, 1), { reply: 5, text: "" });
    await connector.prints("Opened 127.0.0.1:1");
    await connector.prints("Closed: the peer cannot connect to 127.0.0.1:1");
    const { stderr } = await endBoth(listener, connector);
    assertEquals(/it is closed/.test(stderr), false, stderr);
  }));

Deno.test("listen --unix offers a Unix socket, and connect --unix is one that only its owner can use", () =>
  withServers((servers) =>
    withScratch(async (folder) => {
      const [service, front, other] = ["service", "front", "other"].map((name) =>
        `${folder}/${name}`
      ) as [string, string, string];
      const serving = program("serve", service, " served");
      await serving.prints("serves");
      const files = { permissions: ["--allow-read", "--allow-write"] };
      const listener = start(["listen", "--unix", service, ...servers.all], files);
      const ticket = await listener.ticket();
      const connector = start(
        ["connect", ticket, "--unix", front, "--unix", `${other}:absent`, ...servers.connecting],
        files,
      );
      await connector.prints(`Forwarding ${other} to the peer`);
      assertEquals((await Deno.lstat(front)).mode! & 0o777, 0o600);
      assertEquals((await program("ask", front, "hello").end()).stdout, "hello served\n");
      assertEquals((await program("ask", other, "hello").end()).stdout, "\n");
      await connector.prints("Closed: the peer does not offer absent");
      const piped = start(["connect", ticket, ...servers.connecting], { input: "by stdin" });
      assertEquals((await piped.end()).stdout, "by stdin served");
      await endBoth(listener, connector);
      assertEquals([...Deno.readDirSync(folder)].map(({ name }) => name), ["service"]);
      serving.kill();
      await serving.end();
    })
  ));

Deno.test("listen --unix to a socket that nothing serves, or without its permissions, says so", () =>
  withServers((servers) =>
    withScratch(async (folder) => {
      const [port, otherPort] = freePorts();
      for (
        const [permissions, local, why] of [
          [["--allow-read", "--allow-write"], port, "absent: no such socket"],
          [["--allow-read"], otherPort, "absent: --allow-write is not granted for it"],
        ] as const
      ) {
        const listener = start(["listen", "--unix", `${folder}/absent`, ...servers.all], {
          permissions,
        });
        const connector = start(
          ["connect", await listener.ticket(), "--tcp", `${local}`, ...servers.connecting],
        );
        await connector.prints("Forwarding");
        await assertRejects(() => get(local));
        await connector.prints("Closed: the peer cannot connect to its own service");
        await listener.prints(why);
        await endBoth(listener, connector);
      }
    })
  ));

Deno.test("connect --unix leaves what is there alone, and says what to do", () =>
  withServers((servers) =>
    withScratch(async (folder) => {
      const path = `${folder}/front`;
      await Deno.writeTextFile(path, "mine");
      const listener = start(["listen", "--tcp", "1", ...servers.all]);
      const ticket = await listener.ticket();
      for (
        const [permissions, why] of [
          [["--allow-read", "--allow-write"], "front: it is not a socket\nChoose another path"],
          [[], "front: --allow-read is not granted for it\nRun the program with --allow-net"],
        ] as const
      ) {
        const { code, stderr } = await start(
          ["connect", ticket, "--unix", path, ...servers.connecting],
          { permissions },
        ).end();
        assertEquals([code, stderr.includes(why)], [1, true], stderr);
      }
      assertEquals(await Deno.readTextFile(path), "mine");
      listener.interrupt();
      await listener.end();
    })
  ));

Deno.test("connect --udp carries datagrams to the port that it names, or the first, and the answers back", () =>
  withServers(async (servers) => {
    using one = await serveDatagrams("one");
    using two = await serveDatagrams("two");
    const [first, second, third] = freePorts();
    const listen = [one, two].flatMap(({ local }) => ["--udp", `${local.port}`]);
    const { listener, connector } = await startBoth(servers, {
      listen,
      connect: [
        ...["--udp", `${first}`, "--udp", `${second}:${two.local.port}`, "--udp", `${third}:1`],
        "--verbose",
      ],
    });
    await connector.prints(`Forwarding 127.0.0.1:${third} (UDP) to the peer`);
    using client = await systemNetwork.bindUdp({ ip: "127.0.0.1", port: 0 });
    assertEquals(await askUdp(client, first, "hello"), "hello one");
    assertEquals(await askUdp(client, second, "hello"), "hello two");
    assertEquals(await askUdp(client, first, "x".repeat(2000)), `${"x".repeat(2000)} one`);
    await client.send(new Uint8Array(1), { ip: "127.0.0.1", port: third });
    await connector.prints("Closed: the peer does not offer UDP 1");
    await connector.prints(/^Opened the first UDP port$/m);
    const { stderr } = await endBoth(listener, connector);
    assert(!stderr.includes("Cannot use the session"), stderr);
    assertEquals(stderr.match(/^Connected/gm)?.length, 1, stderr);
  }));

Deno.test("connect --udp goes on after listen was started again", () =>
  withServers((servers) =>
    withScratch(async (folder) => {
      using one = await serveDatagrams("one");
      const listen = ["listen", "--udp", `${one.local.port}`, "--key", `${folder}/key`];
      const files = { permissions: ["--allow-read", "--allow-write"] };
      const [port] = freePorts();
      let listener = start([...listen, ...servers.all], files);
      const connector = start(
        ["connect", await listener.ticket(), "--udp", `${port}`, ...servers.connecting],
      );
      await connector.prints("Connected");
      using client = await systemNetwork.bindUdp({ ip: "127.0.0.1", port: 0 });
      assertEquals(await askUdp(client, port, "a"), "a one");
      listener.interrupt();
      await listener.end();
      await connector.prints(/^(?:Closed|Disconnected)/m);
      listener = start([...listen, ...servers.all], files);
      await listener.ticket();
      assertEquals(await askUdp(client, port, "b"), "b one");
      await endBoth(listener, connector);
    })
  ));

for (
  const [what, hex, answer] of [
    ["SOCKS4", "0401", ""],
    ["a login", "050102", "05ff"],
    ["BIND", "050100050200017f0000010050", "050005070001000000000000"],
    ["an unknown type of address", "0501000501000200", "050005080001000000000000"],
    ["port 0", "050100050100017f0000010000", "0500"],
    ["an early end", "05010005010001", "0500"],
  ] as const
) {
  Deno.test(`readSocksRequest() rejects ${what}`, async () => {
    let rest = Uint8Array.fromHex(hex);
    let written = "";
    const client = {
      read: (buffer: Uint8Array) => {
        const part = rest.slice(0, buffer.length);
        rest = rest.slice(part.length);
        buffer.set(part);
        return Promise.resolve(part.length === 0 ? null : part.length);
      },
      write: (data: Uint8Array) => {
        written += data.toHex();
        return Promise.resolve(data.length);
      },
    };
    await assertRejects(() => readSocksRequest(client), MalformedMessageError);
    assertEquals(written, answer);
  });
}

Deno.test("a SOCKS client that says nothing is reset after a while", () =>
  inVirtualTime(async () => {
    const { promise: reading, reject } = Promise.withResolvers<never>();
    const client = {
      read: () => reading,
      reset: () => reject(new NetworkError("Cannot read: it is closed", "closed")),
      closeWrite: () => Promise.resolve(),
    };
    const { signal } = new AbortController();
    const forwarding = forwardSocks(client as never, {} as PeerConnection, { signal });
    await assertRejects(() => forwarding, NetworkError, "it is closed");
  }));

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

function program(...args: readonly string[]): Command {
  const path = new URL("unix_program.ts", import.meta.url).pathname;
  return startProgram(["-A", path, ...args]);
}

/** Answers each datagram with what it got, and the text. */
async function serveDatagrams(text: string): Promise<UdpSocket> {
  const socket = await systemNetwork.bindUdp({ ip: "127.0.0.1", port: 0 });
  const answer = async () => {
    for (;;) {
      const datagram = await socket.receive().catch(() => undefined); // it is closed
      if (datagram === undefined) return;
      const { data, from } = datagram;
      await socket.send(concat(data, new TextEncoder().encode(` ${text}`)), from);
    }
  };
  answer();
  return socket;
}

async function askUdp(socket: UdpSocket, port: number, text: string): Promise<string> {
  await socket.send(new TextEncoder().encode(text), { ip: "127.0.0.1", port });
  return new TextDecoder().decode((await socket.receive()).data);
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
