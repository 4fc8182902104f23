import { assert, assertEquals, assertRejects } from "@std/assert";
import { NetworkError, RefusedError } from "../../lib/base/errors.ts";
import { concat } from "../../lib/base/bytes.ts";
import type { Datagram, UdpSocket } from "../../lib/net/network.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { forwardUdp, serveForwards } from "../../lib/peer/forward.ts";
import { encodeForwardRequest } from "../../lib/peer/forward_message.ts";
import { FORWARD_CODES, type ForwardEvent } from "../../lib/peer/forward_outcome.ts";
import { MAX_UDP_FLOWS } from "../../lib/peer/udp_flows_engine.ts";
import type { SessionStream } from "../../lib/session/stream.ts";
import { StreamSession } from "../../lib/session/streams.ts";
import { testPathPair } from "../session/test_path.ts";

const LOOPBACK = { ip: "127.0.0.1", port: 0 };

Deno.test("datagrams go to the first port or the one that is named, and the answers to their clients", () =>
  withUdp({ services: 2 }, async ({ fronts: [first, second], ports }) => {
    using one = await client();
    using other = await client();
    assertEquals(await ask(one, first, "one"), `${ports[0]} one`);
    assertEquals(
      await Promise.all([ask(one, first, "again"), ask(other, first, "other")]),
      [`${ports[0]} again`, `${ports[0]} other`],
    );
    assertEquals(await ask(one, second, "two"), `${ports[1]} two`);
  }));

Deno.test("an empty datagram and the longest of all are carried, whatever the path can carry at once", () =>
  withUdp({}, async ({ fronts: [first], ports }) => {
    using one = await client();
    assertEquals(await ask(one, first, ""), `${ports[0]} `);
    for (const length of [1159, 1160, 60_000]) {
      const text = "x".repeat(length);
      assertEquals(await ask(one, first, text), `${ports[0]} ${text}`);
    }
    assertEquals(await ask(one, first, "short"), `${ports[0]} short`);
  }));

Deno.test("a port that is not offered is refused with a code, and never reached", () =>
  withUdp({}, async ({ fronts: [first, , wrong], ports, events, failed }) => {
    using one = await client();
    await one.send(bytesOf("hello"), wrong);
    const error = await failed();
    assert(error instanceof RefusedError);
    assertEquals(error.code, FORWARD_CODES.notOffered);
    await one.send(bytesOf("again"), wrong); // dropped: the other side was asked once
    using other = await client();
    assertEquals(await ask(other, first, "x"), `${ports[0]} x`);
    assertEquals(events.filter(({ event }) => event === "failed").length, 1);
  }));

Deno.test("a side that offers no UDP port refuses all", () =>
  withUdp({ services: 0 }, async ({ fronts: [first], failed }) => {
    using one = await client();
    await one.send(bytesOf("hello"), first);
    const error = await failed();
    assertEquals(error instanceof RefusedError && error.code, FORWARD_CODES.notOffered);
  }));

const HELLO = bytesOf("hello");

Deno.test("a peer that opens flow after flow gets as many as it may have at once", () =>
  withUdp({}, async ({ connection }) => {
    const streams: SessionStream[] = [];
    for (let i = 0; i < MAX_UDP_FLOWS; i++) streams.push(await askFor(connection, ""));
    await Promise.all(streams.map((stream) => stream.read(new Uint8Array(1))));
    const tooMany = await askFor(connection, "");
    await assertRejects(() => tooMany.read(new Uint8Array(1)), NetworkError);
    assertEquals(tooMany.resetCode, FORWARD_CODES.tooMany);
    streams[0]!.close();
    await streams[0]!.finished.catch(() => {});
    const another = await askFor(connection, "");
    assertEquals(await another.read(new Uint8Array(1)), 1);
  }));

Deno.test("that no stream is free is told once while it lasts, not for each datagram", () =>
  withUdp({}, async ({ connection, fronts: [first], ports, events, failed }) => {
    const taken: SessionStream[] = [];
    for (let i = 0; i < 1024; i++) taken.push(await connection.openStream());
    using one = await client();
    using another = await client();
    using last = await client();
    for (let i = 0; i < 20; i++) for (const each of [one, another]) await each.send(HELLO, first);
    const error = await failed();
    assert(error instanceof NetworkError);
    assertEquals(error.message, "Cannot open a stream: 1024 are open already");
    for (const stream of taken) stream.reset();
    assertEquals(await ask(last, first, "again"), `${ports[0]} again`);
    assertEquals(events.filter(({ event }) => event === "failed").length, 1);
  }));

Deno.test("datagrams of unknown flows, truncated ones and lengths that no datagram has end one flow at most", () =>
  withUdp({}, async ({ connection, fronts: [first], ports }) => {
    for (const hex of ["", "00", "000000", "00000000", "ffffffff0102", "0000000401"]) {
      await connection.sendDatagram(Uint8Array.fromHex(hex));
    }
    const stream = await askFor(connection, "");
    await stream.read(new Uint8Array(1));
    await stream.write(Uint8Array.of(0xff, 0xff, 1, 2, 3)); // 65,535 bytes
    await assertRejects(() => stream.read(new Uint8Array(1)), NetworkError);
    const cut = await askFor(connection, "");
    await cut.write(Uint8Array.of(0, 9, 1));
    await cut.closeWrite();
    using one = await client();
    assertEquals(await ask(one, first, "still"), `${ports[0]} still`);
  }));

Deno.test("datagrams of other programs on the service's side are not taken for answers", () =>
  withUdp({}, async ({ fronts: [first], ports, bound }) => {
    using one = await client();
    assertEquals(await ask(one, first, "x"), `${ports[0]} x`);
    using stranger = await client();
    await stranger.send(bytesOf("lies"), bound().at(-1)!);
    assertEquals(await ask(one, first, "y"), `${ports[0]} y`);
  }));

Deno.test("a connection without datagrams cannot serve UDP", async () => {
  await using session = new StreamSession({ role: "controlled" });
  await assertRejects(() => serveForwards(session, { udp: [53] }), TypeError, "no datagrams");
  session.reset();
});

/** A session that carries datagrams as a path by TCP does. */
class DatagramSession extends StreamSession {
  readonly maxDatagramBytes = 1163;

  sendDatagram(message: Uint8Array): Promise<boolean> {
    return Promise.resolve(this.sendAsMessage(message));
  }

  get datagrams(): AsyncIterable<Uint8Array> {
    const next = () => this.receiveAsMessage();
    return (async function* () {
      for (;;) {
        const message = await next().catch(() => undefined);
        if (message === undefined) return;
        yield message;
      }
    })();
  }
}

interface UdpForwarding {
  readonly connection: DatagramSession;
  /** The ports of the services. */
  readonly ports: readonly number[];
  readonly events: readonly ForwardEvent[];
  /** Why a flow was refused; waits for the first. */
  failed(): Promise<unknown>;
  /** The sockets that were bound for flows. */
  bound(): readonly UdpSocket["local"][];
  /** Local ports that are forwarded to the first service, to the second, and to one that is not offered. */
  readonly fronts: readonly [UdpSocket["local"], UdpSocket["local"], UdpSocket["local"]];
}

/** Two sides in this process, and services on loopback that answer with their port and what they got. */
async function withUdp(
  { services = 1 }: { readonly services?: number },
  job: (forwarding: UdpForwarding) => Promise<void>,
): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const one = new DatagramSession({ role: "controlling" });
  const other = new DatagramSession({ role: "controlled" });
  const [path, otherPath] = testPathPair();
  await Promise.all([one.attach(path), other.attach(otherPath)]);
  const sockets = await Promise.all(Array.from({ length: services }, client));
  for (const socket of sockets) {
    stack.use(socket);
    echo(socket, `${socket.local.port} `);
  }
  const ports = sockets.map(({ local }) => local.port);
  const bound: UdpSocket["local"][] = [];
  const network = {
    ...systemNetwork,
    bindUdp: async (...args: Parameters<typeof systemNetwork.bindUdp>) => {
      const socket = await systemNetwork.bindUdp(...args);
      bound.push(socket.local);
      return socket;
    },
  };
  const serving = serveForwards(other, { udp: ports, network });
  const events: ForwardEvent[] = [];
  const failure = Promise.withResolvers<unknown>();
  const onEvent = (event: ForwardEvent) => {
    events.push(event);
    if (event.event === "failed") failure.resolve(event.error);
  };
  const [first, second, wrong] = [await client(), await client(), await client()];
  for (const socket of [first, second, wrong]) stack.use(socket);
  const fronts = [
    { socket: first },
    { socket: second, target: `${ports[1]}` },
    { socket: wrong, target: "1" },
  ];
  const forwarding = forwardUdp(one, fronts, { onEvent });
  try {
    await job({
      connection: one,
      ports,
      events,
      failed: () => failure.promise,
      bound: () => bound,
      fronts: [first.local, second.local, wrong.local],
    });
  } finally {
    one.reset();
    other.reset();
    await Promise.allSettled([serving, forwarding]);
    await Promise.all([one, other].map((each) => each[Symbol.asyncDispose]()));
  }
}

async function askFor(connection: DatagramSession, name: string): Promise<SessionStream> {
  const stream = await connection.openStream();
  await stream.write(encodeForwardRequest({ kind: "udp", name }));
  return stream;
}

async function echo(socket: UdpSocket, prefix: string): Promise<void> {
  for (;;) {
    const datagram: Datagram | undefined = await socket.receive().catch(() => undefined);
    if (datagram === undefined) return;
    await socket.send(concat(bytesOf(prefix), datagram.data), datagram.from);
  }
}

function client(): Promise<UdpSocket> {
  return systemNetwork.bindUdp(LOOPBACK);
}

async function ask(socket: UdpSocket, to: UdpSocket["local"], text: string): Promise<string> {
  await socket.send(bytesOf(text), to);
  return new TextDecoder().decode((await socket.receive()).data);
}

function bytesOf(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text);
}
