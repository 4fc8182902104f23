import { assertEquals } from "@std/assert";
import type { TcpConnection } from "../../lib/net/network.ts";
import { newHandshakeReader, WebSocketConnection } from "../../lib/signal/websocket/connection.ts";

/** A connection that takes each write only once `accept()` is called. */
class SlowConnection implements TcpConnection {
  readonly local = { ip: "192.0.2.1", port: 80 };
  readonly remote = { ip: "192.0.2.2", port: 50_000 };
  readonly #writes: (() => void)[] = [];

  read(): Promise<number | null> {
    return Promise.resolve(null);
  }

  write(data: Uint8Array): Promise<number> {
    return new Promise((resolve) => this.#writes.push(() => resolve(data.length)));
  }

  /** Takes the write that waits, and lets its caller go on. */
  async accept(): Promise<void> {
    this.#writes.shift()!();
    for (let i = 0; i < 10; i++) await undefined;
  }

  closeWrite(): Promise<void> {
    return Promise.resolve();
  }

  close(): void {}

  reset(): void {}

  [Symbol.dispose](): void {}
}

/** A server's end, whose queue takes 1,000 bytes. */
async function open(): Promise<{ connection: SlowConnection; socket: WebSocketConnection }> {
  const connection = new SlowConnection();
  const socket = new WebSocketConnection(connection, {
    role: "server",
    reader: newHandshakeReader(connection),
    limits: { maxMessageBytes: 4096, maxQueuedBytes: 1000 },
  });
  assertEquals(socket.sendFrame(new Uint8Array(300)), true);
  await undefined; // it is being written
  return { connection, socket };
}

Deno.test("what is queued while something is being written counts", async () => {
  const { connection, socket } = await open();
  for (let round = 0; round < 5; round++) {
    assertEquals(socket.sendFrame(new Uint8Array(300)), true);
    assertEquals(socket.queuedBytes, 600);
    await connection.accept();
    assertEquals(socket.queuedBytes, 300);
  }
  assertEquals(socket.sendFrame(new Uint8Array(700)), true);
  assertEquals(socket.sendFrame(new Uint8Array(1)), false, "the queue is full");
  for (let writes = 0; writes < 2; writes++) await connection.accept();
  assertEquals(socket.queuedBytes, 0);
});

Deno.test("drained() waits for what is queued while something is being written", async () => {
  const { connection, socket } = await open();
  socket.sendFrame(new Uint8Array(300));
  let isDrained = false;
  const drained = socket.drained(0).then(() => isDrained = true);
  await connection.accept();
  assertEquals(isDrained, false);
  await connection.accept();
  await drained;
});
