import { assertEquals } from "@std/assert";
import net from "node:net";
import { SocketReader, withReader } from "../../lib/net/system/socket_reader.ts";

for (const shown of [true, false]) {
  const name = shown ? "exposes its handle" : "hides it";
  Deno.test(`withReader() reads from an accepted socket if the platform ${name}`, async () => {
    const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true });
    const accepted = new Promise<net.Socket>((resolve) => server.on("connection", resolve));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as net.AddressInfo;
    using client = await Deno.connect({ hostname: "127.0.0.1", port });
    const sent = new Uint8Array(1_000_000).map((_, i) => i * 7);
    const sending = new Blob([sent]).stream().pipeTo(client.writable);

    const reader = new SocketReader();
    const original = await accepted;
    const has = (target: net.Socket, key: PropertyKey) => key !== "_handle" && key in target;
    const socket = withReader(shown ? original : new Proxy(original, { has }), reader);
    assertEquals(socket === original, false);
    reader.attach(socket, (error) => error);
    const received = new Uint8Array(sent.length);
    for (let start = 0; start < received.length;) {
      start += (await reader.read(received.subarray(start, start + 10_000)))!;
    }
    assertEquals(received, sent);
    await sending;
    assertEquals(await reader.read(new Uint8Array(1)), null);
    socket.destroy();
    await new Promise<void>((resolve) => server.close(() => resolve())); // no connection is counted any more
  });
}

Deno.test("the buffer of a SocketReader grows with the size of reads, not with what is sent", async () => {
  for (const [readBytes, most] of [[10, 512], [4096, 32_768], [65_536, 262_144]] as const) {
    const { onread, reader } = newReader();
    for (let i = 0; i < 20; i++) {
      const buffer = onread.buffer();
      onread.callback(buffer.length, buffer);
      const target = new Uint8Array(readBytes);
      for (let left = buffer.length; left > 0;) left -= (await reader.read(target))!;
    }
    assertEquals(onread.buffer().length, most, `reads of ${readBytes}`);
  }
});

Deno.test("the buffer of a SocketReader shrinks once four reads need little, one after the other", async () => {
  const { onread, reader } = newReader();
  const target = new Uint8Array(65_536);
  const receive = async (length: number) => {
    const buffer = onread.buffer();
    onread.callback(Math.min(length, buffer.length), buffer);
    for (let left = Math.min(length, buffer.length); left > 0;) {
      left -= (await reader.read(target))!;
    }
    return onread.buffer().length;
  };
  for (let i = 0; i < 5; i++) await receive(262_144);
  const sizes: number[] = [];
  for (const length of [5, 5, 5, 1000, 512, 5, 5, 5, 512]) sizes.push(await receive(length));
  assertEquals(sizes, [...Array.from({ length: 7 }, () => 262_144), 512, 4096]);
});

function newReader() {
  const reader = new SocketReader();
  const { buffer, callback } = reader.onread;
  if (typeof buffer !== "function") throw new TypeError("not a function");
  return { reader, onread: { buffer, callback } };
}
