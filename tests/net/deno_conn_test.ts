import { assert, assertEquals, assertRejects } from "@std/assert";
import { hash } from "../../lib/base/crypto.ts";
import { NetworkError } from "../../lib/base/errors.ts";
import { type DenoConn, toDenoConn } from "../../lib/net/deno_conn.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { connected, twoHosts } from "../simnet/fixtures.ts";
import { labelledRandom, randomInteger } from "../simnet/random.ts";
import { VirtualTime } from "../simnet/virtual_time.ts";

const LOOPBACK = { ip: "127.0.0.1", port: 0 };

async function connectedPair(): Promise<[DenoConn, DenoConn]> {
  using listener = await systemNetwork.listenTcp(LOOPBACK);
  const [a, b] = await Promise.all([
    systemNetwork.connectTcp(listener.local),
    listener.accept(),
  ]);
  return [toDenoConn(a), toDenoConn(b)];
}

Deno.test("toDenoConn() returns a Deno.Conn with its addresses", async () => {
  const [a, b] = await connectedPair();
  using conn: Deno.Conn<Deno.NetAddr> = a;
  using _ = b;
  assertEquals(conn.remoteAddr, { transport: "tcp", hostname: "127.0.0.1", port: b.local.port });
  assertEquals(conn.localAddr, b.remoteAddr);
});

Deno.test("a connection carries megabytes in both directions, in pieces of any size", async () => {
  const [a, b] = await connectedPair();
  using _a = a;
  using _b = b;
  const data = ["a", "b"].map((name) => randomBytes(6_000_000, name));
  const received = await Promise.all([
    ...[readInPieces(b, "b"), readInPieces(a, "a")],
    ...[writeInPieces(a, data[0]!), writeInPieces(b, data[1]!)],
  ]);
  assertEquals(received.slice(0, 2), data.map(digest));
});

Deno.test("readable and writable carry megabytes, and each direction ends on its own", async () => {
  const [a, b] = await connectedPair();
  using _a = a;
  using _b = b;
  const echoed = b.readable.pipeTo(b.writable);
  const data = randomBytes(6_000_000, "echo");
  const sent = new Blob([data]).stream().pipeTo(a.writable);
  assertEquals(digest(await new Response(a.readable).bytes()), digest(data));
  await Promise.all([sent, echoed]);
});

Deno.test("a half-closed connection still works in the other direction", async () => {
  for (const first of [0, 1]) {
    const pair = await connectedPair();
    const [early, late] = [pair[first]!, pair[1 - first]!];
    await early.write(new Uint8Array([1, 2]));
    await early.closeWrite();
    await early.closeWrite();
    const buffer = new Uint8Array(8);
    assertEquals(await late.read(buffer), 2);
    assertEquals(await late.read(buffer), null);
    assertEquals(await late.read(buffer), null);
    await late.write(new Uint8Array(3));
    assertEquals(await early.read(buffer), 3);
    await late.closeWrite();
    assertEquals(await early.read(buffer), null);
    early.close();
    late.close();
  }
});

Deno.test("readable fills a reader's own buffer, and returns it at the end", async () => {
  const [a, b] = await connectedPair();
  using _a = a;
  using _b = b;
  await a.write(new Uint8Array([5, 6]));
  await a.closeWrite();
  const reader = b.readable.getReader({ mode: "byob" });
  const first = await reader.read(new Uint8Array(10));
  assertEquals([first.done, [...first.value!]], [false, [5, 6]]);
  const last = await reader.read(new Uint8Array(10));
  assertEquals([last.done, last.value?.byteLength], [true, 0]);
});

Deno.test("cancelling readable closes the connection, and aborting writable resets it", async () => {
  const [a, b] = await connectedPair();
  await a.readable.cancel();
  assertEquals(await b.read(new Uint8Array(1)), null);
  await assertRejects(() => a.write(new Uint8Array(1)), NetworkError);
  b.close();
  const [c, d] = await connectedPair();
  await c.writable.abort();
  assertEquals(
    (await assertRejects(() => d.read(new Uint8Array(1)), NetworkError)).reason,
    "reset",
  );
  d.close();
});

Deno.test("read() rejects while another read is pending", async () => {
  const [a, b] = await connectedPair();
  const waiting = a.read(new Uint8Array(1));
  await assertRejects(() => a.read(new Uint8Array(1)), TypeError, "another read");
  b.close();
  assertEquals(await waiting, null);
  a.close();
});

Deno.test("writable waits while nothing is read, and readable reads no more than is requested", async () => {
  using time = new VirtualTime();
  const { client, server } = twoHosts();
  await time.run(async () => {
    const pair = await connected(client, server);
    const [a, b] = pair.map(toDenoConn) as [DenoConn, DenoConn];
    const writer = a.writable.getWriter();
    let written = 0;
    const total = 100;
    const writing = (async () => {
      for (; written < total; written++) await writer.write(new Uint8Array(65_536));
      await writer.close();
    })();
    const { readable } = b;
    await new Promise((resolve) => setTimeout(resolve, 10_000));
    assert(written < 10, `${written} of ${total} written although nothing is read`);
    assertEquals((await new Response(readable).bytes()).length, total * 65_536);
    await writing;
    a.close();
    b.close();
  });
});

Deno.test("unref() allows a program that only waits for bytes to end", async () => {
  using listener = await systemNetwork.listenTcp(LOOPBACK);
  const program = `
    import { systemNetwork } from "${new URL("../../lib/net/system.ts", import.meta.url)}";
    import { toDenoConn } from "${new URL("../../lib/net/deno_conn.ts", import.meta.url)}";
    const conn = toDenoConn(await systemNetwork.connectTcp({ ip: "127.0.0.1", port: ${listener.local.port} }));
    conn.read(new Uint8Array(1));
    conn.unref();
  `;
  const { code } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", program],
    env: { DENO_NO_UPDATE_CHECK: "1" },
  }).output();
  assertEquals(code, 0);
  using _accepted = await listener.accept();
});

async function writeInPieces(conn: Deno.Conn, data: Uint8Array): Promise<void> {
  const random = labelledRandom(1, "write");
  for (let start = 0; start < data.length;) {
    const end = start + randomInteger(random, 1, pieceLimit(random));
    start += await conn.write(data.subarray(start, end));
  }
  await conn.closeWrite();
}

async function readInPieces(conn: Deno.Conn, name: string): Promise<string> {
  const random = labelledRandom(2, name);
  const pieces: Uint8Array<ArrayBuffer>[] = [];
  while (true) {
    const buffer = new Uint8Array(randomInteger(random, 1, pieceLimit(random)));
    const length = await conn.read(buffer);
    if (length === null) break;
    pieces.push(buffer.subarray(0, length));
    if (random() < 0.02) await new Promise((resolve) => setTimeout(resolve)); // a reader that is busy
  }
  return digest(await new Blob(pieces).bytes());
}

/** Mostly large, for speed. */
function pieceLimit(random: () => number): number {
  return [100, 70_000, 300_000][randomInteger(random, 0, 2)]!;
}

function randomBytes(length: number, seed: string): Uint8Array<ArrayBuffer> {
  const random = labelledRandom(3, seed);
  const words = new Uint32Array(length / 4);
  for (let i = 0; i < words.length; i++) words[i] = random() * 2 ** 32;
  return new Uint8Array(words.buffer);
}

function digest(data: Uint8Array): string {
  return hash("sha256", data).toHex();
}
