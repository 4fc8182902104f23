import { assertEquals, assertRejects } from "@std/assert";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import { concat } from "../../lib/base/bytes.ts";
import type { TcpConnection } from "../../lib/net/network.ts";
import { writeAll } from "../../lib/base/reader.ts";
import { readMessages } from "../../lib/stun/framing.ts";
import { BINDING, encodeMessage, type StunMessage } from "../../lib/stun/message.ts";
import { fromHex } from "../vectors/stun_hex.ts";

const SHORT = encodeMessage(message(0));
const LONG = encodeMessage(message(700));

Deno.test("readMessages() finds the messages however the stream is split", async () => {
  const stream = concat(SHORT, LONG, SHORT, SHORT);
  for (const size of [1, 3, 19, 20, 21, 700, stream.length]) {
    assertEquals(await messagesOf(connectionOf(chunks(stream, size))), [SHORT, LONG, SHORT, SHORT]);
  }
});

Deno.test("readMessages() ends with the stream", async () => {
  assertEquals(await messagesOf(connectionOf([])), []);
});

Deno.test("readMessages() gives each message bytes of its own", async () => {
  const [first, second] = await messagesOf(connectionOf([concat(SHORT, SHORT)]));
  first!.fill(0);
  assertEquals(second, SHORT);
});

for (
  const [what, chunk, error] of [
    ["HTTP at its first byte", fromHex("48"), "not with byte 72"],
    ["a stream that ends inside a message", SHORT.subarray(0, 19), "ends 19 bytes into a message"],
    ["a message without the magic cookie", fromHex("0001000000000000"), "no magic cookie"],
    ["a length that is not a multiple of 4", fromHex("00010001"), "multiple of 4"],
    [
      "a length beyond the limit as soon as the header arrives",
      fromHex("00010ff0"),
      "up to 4096, not 4100",
    ],
  ] as const
) {
  Deno.test(`readMessages() rejects ${what}`, async () => {
    await assertRejects(() => messagesOf(connectionOf([chunk])), MalformedMessageError, error);
  });
}

Deno.test("readMessages() applies the given limit", async () => {
  const read = (maxLength: number) => messagesOf(connectionOf([LONG, LONG]), { maxLength });
  assertEquals((await read(LONG.length)).length, 2);
  await assertRejects(() => read(LONG.length - 1), MalformedMessageError);
});

Deno.test("writeAll() writes on until all is written", async () => {
  const written: number[] = [];
  const connection = connectionOf([], (data) => {
    written.push(...data.subarray(0, 7));
    return Math.min(7, data.length);
  });
  await writeAll(connection, SHORT);
  assertEquals(Uint8Array.from(written), SHORT);
});

function message(padding: number): StunMessage {
  return {
    class: "request",
    method: BINDING,
    transactionId: new Uint8Array(12),
    attributes: padding === 0 ? [] : [{ type: "PADDING", value: new Uint8Array(padding) }],
  };
}

function chunks(bytes: Uint8Array, size: number): Uint8Array[] {
  return Array.from(
    { length: Math.ceil(bytes.length / size) },
    (_, i) => bytes.subarray(i * size, (i + 1) * size),
  );
}

async function messagesOf(
  connection: TcpConnection,
  options?: { maxLength: number },
): Promise<Uint8Array[]> {
  const messages: Uint8Array[] = [];
  for await (const message of readMessages(connection, options)) messages.push(message);
  return messages;
}

function connectionOf(
  received: readonly Uint8Array[],
  write: (data: Uint8Array) => number = (data) => data.length,
): TcpConnection {
  const rest = received.map((chunk) => chunk.slice());
  const address = { ip: "127.0.0.1", port: 1 };
  return {
    local: address,
    remote: address,
    read(buffer) {
      const chunk = rest[0];
      if (chunk === undefined) return Promise.resolve(null);
      const part = chunk.subarray(0, buffer.length);
      buffer.set(part);
      if (part.length === chunk.length) rest.shift();
      else rest[0] = chunk.subarray(part.length);
      return Promise.resolve(part.length);
    },
    write: (data) => Promise.resolve(write(data)),
    closeWrite: () => Promise.resolve(),
    close: () => {},
    reset: () => {},
    [Symbol.dispose]: () => {},
  };
}
