/**
 * Secured connections as their users see them.
 *
 * @module
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { concat } from "../../lib/base/bytes.ts";
import { NetworkError, RefusedError } from "../../lib/base/errors.ts";
import type { TcpConnection } from "../../lib/net/network.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { generateKeyPair } from "../../lib/noise/handshake.ts";
import { secureConnection } from "../../lib/noise/secure_connection.ts";
import { assertNetworkError } from "../simnet/fixtures.ts";
import { anonymous, memoryPair, pattern, readBytes, securedPair } from "./pair.ts";

Deno.test("a secured connection carries bytes in both directions, in order", async () => {
  using pair = await securedPair();
  const data = pattern(200_000);
  const [, , there, back] = await Promise.all([
    pair.client.write(data).then(() => pair.client.closeWrite()),
    pair.server.write(data.subarray(1)).then(() => pair.server.closeWrite()),
    readBytes(pair.server),
    readBytes(pair.client),
  ]);
  assertEquals(there, data);
  assertEquals(back, data.subarray(1));
});

Deno.test("a secured connection is a Deno.Conn and a TcpConnection", async () => {
  using pair = await securedPair();
  const conn: Deno.Conn = pair.client;
  const connection: TcpConnection = pair.client;
  assertEquals(conn.localAddr, { transport: "tcp", hostname: "192.0.2.1", port: 1 });
  assertEquals(conn.remoteAddr, { transport: "tcp", hostname: "192.0.2.2", port: 2 });
  assertEquals(connection.local, { ip: "192.0.2.1", port: 1 });
  assertEquals(connection.remote, { ip: "192.0.2.2", port: 2 });
  conn.unref();
  conn.ref();
});

Deno.test("a secured connection knows its peer, and has a hash that identifies the handshake", async () => {
  const [clientKey, serverKey] = [generateKeyPair(), generateKeyPair()];
  const [one, other] = memoryPair();
  const { signal } = new AbortController();
  const [client, server] = await Promise.all([
    secureConnection(one, {
      pattern: "XX",
      role: "initiator",
      staticKey: clientKey,
      signal,
      payloads: [Uint8Array.of(1), Uint8Array.of(3)],
    }),
    secureConnection(other, {
      pattern: "XX",
      role: "responder",
      staticKey: serverKey,
      signal,
      payloads: [Uint8Array.of(2)],
    }),
  ]);
  assertEquals(client.remoteStaticKey, serverKey.publicKey);
  assertEquals(server.remoteStaticKey, clientKey.publicKey);
  assertEquals(client.handshakeHash, server.handshakeHash);
  assertEquals(client.handshakePayloads, [Uint8Array.of(2)]);
  assertEquals(server.handshakePayloads, [Uint8Array.of(1), Uint8Array.of(3)]);
  client.close();
  server.close();
});

Deno.test("closeWrite() finishes one direction, and the other goes on", async () => {
  using pair = await securedPair();
  await pair.client.closeWrite();
  await pair.client.closeWrite();
  assertEquals(await pair.server.read(new Uint8Array(8)), null);
  assertEquals(await pair.server.read(new Uint8Array(8)), null);
  await pair.server.write(Uint8Array.of(1));
  assertEquals(await pair.client.read(new Uint8Array(8)), 1);
  await assertRejects(() => pair.client.write(Uint8Array.of(1)), TypeError, "was ended");
});

Deno.test("close() without closeWrite() looks like a cut to the other side", async () => {
  using pair = await securedPair();
  await pair.client.write(Uint8Array.of(1));
  pair.client.close();
  pair.client.close();
  const buffer = new Uint8Array(8);
  assertEquals(await pair.server.read(buffer), 1);
  await assertNetworkError("reset", () => pair.server.read(buffer));
  await assertNetworkError("reset", () => pair.server.read(buffer));
  await assertNetworkError("reset", () => pair.server.write(buffer));
  await assertNetworkError("closed", () => pair.client.read(buffer));
  await assertNetworkError("closed", () => pair.client.write(buffer));
  await assertNetworkError("closed", () => pair.client.closeWrite());
});

Deno.test("close() fails a waiting read and waiting writes", async () => {
  using pair = await securedPair();
  pair.clientStream.gate = Promise.withResolvers<void>().promise;
  const reading = assertNetworkError("closed", () => pair.client.read(new Uint8Array(8)));
  await pair.client.write(pattern(100_000));
  const writing = assertNetworkError("closed", () => pair.client.write(pattern(100_000)));
  const ending = assertNetworkError("closed", () => pair.client.closeWrite());
  pair.client.close();
  await Promise.all([reading, writing, ending]);
});

Deno.test("the first write goes out at once, and the ones made meanwhile go out together", async () => {
  using pair = await securedPair();
  const before = pair.clientStream.written.length;
  const gate = Promise.withResolvers<void>();
  pair.clientStream.gate = gate.promise;
  const writes = Array.from({ length: 100 }, (_, index) => pair.client.write(Uint8Array.of(index)));
  assertEquals(pair.clientStream.written.length - before, 1);
  gate.resolve();
  await Promise.all(writes);
  assertEquals([...await readBytes(pair.server, 100)], Array.from({ length: 100 }, (_, i) => i));
  assertEquals(pair.clientStream.written.slice(before).map(({ length }) => length), [19, 117]);
});

Deno.test("consecutive writes go out in full records, up to four at a time", async () => {
  using pair = await securedPair();
  const before = pair.clientStream.written.length;
  const received = readBytes(pair.server);
  for (let i = 0; i < 16; i++) await pair.client.write(pattern(65_536));
  await pair.client.closeWrite();
  assertEquals((await received).length, 16 * 65_536);
  const written = pair.clientStream.written.slice(before);
  const full = Array.from({ length: 16 }, () => 2 + 65_535);
  const rest = 16 * (65_536 - 65_519);
  assertEquals(recordLengths(concat(...written)), [...full, rest + 18, 18]); // the last record is the end
  assertEquals(written[0]!.length, 2 + 65_535); // at once
  assertEquals(Math.max(...written.map(({ length }) => length)), 4 * (2 + 65_535));
});

Deno.test("consecutive small writes wait for each other for at most eight microtasks", async () => {
  using pair = await securedPair();
  const before = pair.clientStream.written.length;
  for (let i = 0; i < 200; i++) await pair.client.write(Uint8Array.of(i));
  await pair.client.closeWrite();
  const lengths = recordLengths(concat(...pair.clientStream.written.slice(before)));
  assert(Math.max(...lengths) <= 18 + 20, `${lengths}`);
});

Deno.test("the end follows a full batch, with and without more data in the buffer", async () => {
  for (const records of [5, 6]) {
    using pair = await securedPair();
    const received = readBytes(pair.server);
    const gate = Promise.withResolvers<void>();
    pair.clientStream.gate = gate.promise;
    const before = pair.clientStream.written.length;
    const writing = pair.client.write(pattern(65_519 * records));
    const ending = pair.client.closeWrite();
    gate.resolve();
    await Promise.all([writing, ending]);
    assertEquals((await received).length, 65_519 * records);
    const written = pair.clientStream.written.slice(before).map(({ length }) => length);
    assertEquals(written, [65_537, 4 * 65_537, 65_537 * (records - 5) + 18]);
  }
});

Deno.test("the rest of a write that fills a record goes out without another write", async () => {
  using pair = await securedPair();
  await pair.client.write(pattern(65_536));
  assertEquals((await readBytes(pair.server, 65_536)).length, 65_536);
});

Deno.test("a fast writer waits for the network once one record is buffered", async () => {
  using pair = await securedPair();
  const gate = Promise.withResolvers<void>();
  pair.clientStream.gate = gate.promise;
  const before = pair.clientStream.written.length;
  await pair.client.write(pattern(65_519)); // is being sent
  await pair.client.write(pattern(65_519)); // is in the buffer
  let isThird = false;
  const third = pair.client.write(pattern(1)).then(() => isThird = true);
  const fourth = pair.client.write(pattern(200_000));
  for (let i = 0; i < 20; i++) await Promise.resolve();
  assertEquals(isThird, false);
  assertEquals(pair.clientStream.written.length - before, 1);
  gate.resolve();
  const received = readBytes(pair.server);
  await Promise.all([third, fourth]);
  await pair.client.closeWrite();
  assertEquals((await received).length, 65_519 * 2 + 1 + 200_000);
});

Deno.test("a write that fails after it returned makes the next call fail", async () => {
  using pair = await securedPair();
  pair.clientStream.gate = Promise.reject(new NetworkError("Cannot write: gone", "reset"));
  pair.clientStream.gate.catch(() => {});
  await pair.client.write(Uint8Array.of(1));
  await assertNetworkError("reset", () => pair.client.closeWrite());
  await assertNetworkError("reset", () => pair.client.write(Uint8Array.of(1)));
});

Deno.test("a second concurrent read is rejected", async () => {
  using pair = await securedPair();
  const first = pair.server.read(new Uint8Array(8));
  await assertRejects(() => pair.server.read(new Uint8Array(8)), TypeError, "another read");
  await pair.client.write(Uint8Array.of(1));
  assertEquals(await first, 1);
  assertEquals(await pair.server.read(new Uint8Array(0)), 0);
});

Deno.test("readable and writable carry a stream to its end", async () => {
  using pair = await securedPair();
  const data = pattern(300_000);
  const sent = new Blob([data]).stream().pipeTo(pair.client.writable);
  const received = new Uint8Array(await new Response(pair.server.readable).arrayBuffer());
  await sent;
  assertEquals(received, data);
});

Deno.test("readable continues where read() stopped", async () => {
  using pair = await securedPair();
  await pair.client.write(Uint8Array.of(1, 2, 3));
  await pair.client.closeWrite();
  await pair.server.read(new Uint8Array(1));
  assertEquals(await Array.fromAsync(pair.server.readable), [Uint8Array.of(2, 3)]);
});

Deno.test("readable fails on a cut, and cancelling it closes", async () => {
  using cutPair = await securedPair();
  cutPair.client.close();
  await assertNetworkError("reset", () => Array.fromAsync(cutPair.server.readable));
  using pair = await securedPair();
  await pair.server.readable.cancel();
  assertEquals(pair.serverStream.closed, "closed");
});

Deno.test("aborting writable looks like a cut to the other side", async () => {
  using pair = await securedPair();
  await pair.client.writable.abort();
  await assertNetworkError("reset", () => pair.server.read(new Uint8Array(8)));
});

Deno.test("reset() resets the connection below", async () => {
  using pair = await securedPair();
  pair.client.reset();
  assertEquals(pair.clientStream.closed, "reset");
});

Deno.test("an unauthorized peer is refused before anything is sent to it", async () => {
  const staticKey = generateKeyPair();
  const clientKey = generateKeyPair();
  const [one, other] = memoryPair();
  const { signal } = new AbortController();
  const asked: Uint8Array[] = [];
  const refused = assertRejects(
    () =>
      secureConnection(other, {
        pattern: "IK",
        role: "responder",
        staticKey,
        signal,
        authorize: (key) => asked.push(key) === 0,
      }),
    RefusedError,
    "not authorized",
  );
  await assertNetworkError("reset", () =>
    secureConnection(one, {
      pattern: "IK",
      role: "initiator",
      staticKey: clientKey,
      remoteStaticKey: staticKey.publicKey,
      signal,
    }));
  await refused;
  assertEquals(asked, [clientKey.publicKey]);
  assertEquals(other.written, []);
  assertEquals(other.closed, "reset");
});

Deno.test("a payload too long for a handshake message is not sent", async () => {
  const [one] = memoryPair();
  const payloads = [new Uint8Array(4094 - 32 + 1)];
  await assertRejects(
    () => secureConnection(one, anonymous("initiator", { payloads })),
    RangeError,
    "4095 bytes is over 4094",
  );
  assertEquals(one.written, []);
});

Deno.test("a chunk of readable has memory of its own", async () => {
  using pair = await securedPair();
  await pair.client.write(Uint8Array.of(1, 2, 3));
  const { value } = await pair.server.readable.getReader().read();
  assertEquals(value!.buffer.byteLength, 3);
});

Deno.test("invalid options reset the connection too", async () => {
  const [one] = memoryPair();
  await assertRejects(
    () => secureConnection(one, anonymous("initiator", { pattern: "XX" })),
    TypeError,
  );
  assertEquals(one.closed, "reset");
});

Deno.test("a connection without IP addresses cannot be secured", async () => {
  const [{ read }] = memoryPair();
  const address = { transport: "unix", path: "/tmp/socket" };
  let isClosed = false;
  const conn = {
    localAddr: address,
    remoteAddr: address,
    read,
    write: () => Promise.resolve(0),
    closeWrite: () => Promise.resolve(),
    close: () => void (isClosed = true),
  };
  await assertRejects(() => secureConnection(conn, anonymous("initiator")), TypeError, "unix");
  assert(isClosed);
});

Deno.test("a Deno.Conn and a TcpConnection can be secured with each other", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { signal } = new AbortController();
  const { port } = listener.addr as Deno.NetAddr;
  const [client, server] = await Promise.all([
    systemNetwork.connectTcp({ ip: "127.0.0.1", port })
      .then((connection) => secureConnection(connection, { ...anonymous("initiator"), signal })),
    listener.accept()
      .then((conn) => secureConnection(conn, { ...anonymous("responder"), signal })),
  ]);
  const data = pattern(1_000_000);
  const echoed = server.readable.pipeTo(server.writable);
  const [, back] = await Promise.all([
    client.write(data).then(() => client.closeWrite()),
    readBytes(client),
  ]);
  await echoed;
  assertEquals(back, data);
  assertEquals(server.remote, client.local);
  client.close();
  server.close();
});

/** The lengths of the records, including their length fields. */
function recordLengths(bytes: Uint8Array): number[] {
  const lengths: number[] = [];
  for (let at = 0; at < bytes.length; at += lengths.at(-1)!) {
    lengths.push(2 + (bytes[at]! << 8 | bytes[at + 1]!));
  }
  return lengths;
}

Deno.test("readChunk() returns what read() has left of a record, then whole records, then null", async () => {
  using pair = await securedPair();
  await pair.client.write(pattern(10));
  await pair.server.read(new Uint8Array(4));
  assertEquals(await pair.server.readChunk(), pattern(10).slice(4));
  await pair.client.write(pattern(70_000));
  await pair.client.closeWrite();
  const chunks: Uint8Array[] = [];
  for (let chunk; (chunk = await pair.server.readChunk()) !== null;) chunks.push(chunk);
  assertEquals(concat(...chunks), pattern(70_000));
  assertEquals(await pair.server.readChunk(), null);
});

Deno.test("readChunk() and read() do not wait at the same time", async () => {
  using pair = await securedPair();
  const reading = pair.server.read(new Uint8Array(1));
  await assertRejects(() => pair.server.readChunk(), TypeError, "another read");
  await pair.client.write(Uint8Array.of(1));
  assertEquals(await reading, 1);
  const chunk = pair.server.readChunk();
  await assertRejects(() => pair.server.read(new Uint8Array(1)), TypeError, "another read");
  await pair.client.write(Uint8Array.of(2));
  assertEquals(await chunk, Uint8Array.of(2));
  pair.server.close();
  await assertRejects(() => pair.server.readChunk(), NetworkError, "closed");
});
