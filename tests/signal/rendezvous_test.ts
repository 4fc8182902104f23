import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { NetworkError } from "../../lib/base/errors.ts";
import type { TcpConnection } from "../../lib/net/network.ts";
import { MAX_SIGNAL_BYTES } from "../../lib/signal/channel.ts";
import type {
  WebSocketConnection,
  WebSocketMessage,
} from "../../lib/signal/websocket/connection.ts";
import { encodeWebSocketFrame } from "../../lib/signal/websocket/frame.ts";
import {
  longestFrame,
  readAll,
  upgradeRequest,
  withRendezvous,
  write,
} from "./rendezvous_fixtures.ts";

for (
  const [what, request, status] of [
    ["HTTP that is no upgrade", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 426],
    ["what is not HTTP", "SSH-2.0-OpenSSH_9.2\r\n\r\n", 400],
    ["a head with a strange line", "GET /a HTTP/1.1\r\nhello\r\n\r\n", 400],
    ["a head without end", `GET /a HTTP/1.1\r\nCookie: ${"x".repeat(5000)}`, 431],
    ["a room without a name", upgradeRequest("/"), 404],
    ["a room with a strange name", upgradeRequest("/a%20b"), 404],
    ["a web page", upgradeRequest("/a").replace("Host:", "Origin: http://a\r\nHost:"), 403],
  ] as const
) {
  Deno.test(`the server refuses ${what} with ${status}`, async () => {
    await withRendezvous(async ({ dial, server }) => {
      using connection = await dial();
      await write(connection, request);
      assertMatch(await readAll(connection), new RegExp(`^HTTP/1\\.1 ${status} `));
      assertEquals(server.rooms, 0);
    });
  });
}

Deno.test("a client that never asks for an upgrade is cut off, and one that asks byte by byte is not", async () => {
  await withRendezvous(async ({ dial, time }) => {
    using silent = await dial();
    using slow = await dial();
    await write(silent, "GET /a HTTP/1.1\r\n");
    const startedMs = time.nowMs;
    const cut = assertCut(silent);
    for (const character of upgradeRequest("/a")) {
      await write(slow, character);
      await delay(10);
    }
    assertMatch(await readSome(slow), /^HTTP\/1\.1 101 /);
    await cut;
    assert(time.nowMs - startedMs <= 5100, `${time.nowMs - startedMs} ms`);
  });
});

Deno.test("a client that has gone silently is removed from its room", async () => {
  await withRendezvous(async ({ newHost, dial, enter }) => {
    const ghost = newHost();
    using connection = await dial(ghost);
    await write(connection, upgradeRequest("/a"));
    await using a = await enter("a");
    assert(a.isPeerPresent);
    ghost.fault = "silent";
    await a.peerAbsent({ signal: AbortSignal.timeout(120_000) });
    await using b = await enter("a");
    assert(b.isPeerPresent);
  });
});

Deno.test("a client that answers pings stays for the maximum lifetime", async () => {
  await withRendezvous(async ({ enter, time }) => {
    await using a = await enter("a");
    await assertRejects(() => a.receive(), NetworkError, "long enough");
    assert(time.nowMs > 3_600_000 && time.nowMs < 3_700_000, `${time.nowMs}`);
  }, { maxLifetimeMs: 3_600_000 });
});

for (
  const [what, frame, code] of [
    [
      "a message that is too long",
      encodeWebSocketFrame("binary", new Uint8Array(MAX_SIGNAL_BYTES + 1), MASK()),
      1009,
    ],
    ["a length of 2^63", Uint8Array.fromHex("82ff8000000000000000"), 1009],
    ["a frame without a mask", encodeWebSocketFrame("binary", new Uint8Array(3)), 1002],
    ["an opcode that is not assigned", Uint8Array.fromHex("838000000000"), 1002],
    [
      "a continuation frame without a beginning",
      encodeWebSocketFrame("continuation", new Uint8Array(1), MASK()),
      1002,
    ],
    ["text that is not UTF-8", encodeWebSocketFrame("text", new Uint8Array([0xff]), MASK()), 1002],
    ["an endless message of empty frames", endlessMessage(), 1002],
    ["a message whose frames together are too long", longParts(), 1009],
    [
      "a flood of messages",
      repeated(encodeWebSocketFrame("binary", new Uint8Array(1), MASK()), 200),
      1008,
    ],
    [
      "a flood of pings",
      repeated(encodeWebSocketFrame("ping", new Uint8Array(125), MASK()), 200),
      1008,
    ],
    [
      "a flood of pongs",
      repeated(encodeWebSocketFrame("pong", new Uint8Array(), MASK()), 200),
      1008,
    ],
    ["a flood of the longest messages", repeated(longestFrame(), 200), 1008],
  ] as const
) {
  Deno.test(`the server closes with ${code} after ${what}, and the peer stays`, async () => {
    await withRendezvous(async ({ dial, enter, server }) => {
      await using peer = await enter("a");
      using connection = await dial();
      await write(connection, upgradeRequest("/a"));
      await peer.peerPresent();
      const sending = write(connection, frame).catch(() => {}); // it may be cut off before everything is sent
      const frames = await readAll(connection).catch(() => "");
      await sending;
      if (!what.includes("longest")) assertEquals(closeCodeIn(frames), code);
      await peer.peerAbsent();
      assertEquals(server.rooms, 1);
    });
  });
}

Deno.test("messages to a slow reader are lost beyond a limit, and the sender does not wait", async () => {
  await withRendezvous(async ({ dial, open }) => {
    using slow = await dial();
    await write(slow, upgradeRequest("/a"));
    await delay(100);
    const sender = await open("a");
    for (let i = 0; i < 100; i++) {
      sender.send("binary", new Uint8Array(MAX_SIGNAL_BYTES).fill(i));
      await delay(200);
    }
    const text = await Promise.race([readSome(slow, 600_000), delay(1000).then(() => "")]);
    assert(text.length > 0);
    let total = text.length;
    while (true) {
      const more = await Promise.race([readSome(slow), delay(1000).then(() => "")]);
      if (more === "") break;
      total += more.length;
    }
    // The simulation's two TCP buffers of 64 KiB, and the server's queue.
    assert(total < 250_000, `${total} bytes were queued`);
    slow.close();
    sender.abort();
  }, { messagesPerSecond: 100 });
});

Deno.test("connections of one source are limited, and may be replaced when they end", async () => {
  await withRendezvous(async ({ dial, newHost }) => {
    const host = newHost();
    const held = [await dial(host), await dial(host)];
    using third = await dial(host);
    await assertCut(third);
    using other = await dial();
    await write(other, upgradeRequest("/a"));
    assertMatch(await readSome(other), / 101 /);
    held[0]!.close();
    await delay(100);
    using fourth = await dial(host);
    await write(fourth, upgradeRequest("/b"));
    assertMatch(await readSome(fourth), / 101 /);
    held[1]!.close();
  }, { maxConnectionsPerSource: 2 });
});

Deno.test("connections and rooms are limited in total", async () => {
  await withRendezvous(async ({ dial, enter }) => {
    await using _a = await enter("a");
    await assertRejects(() => enter("b"), Error, "503");
    await using _b = await enter("a");
    using third = await dial();
    await assertCut(third);
  }, { maxConnections: 2, maxRooms: 1 });
});

Deno.test("peers may send each other anything, but no notices in the server's name", async () => {
  await withRendezvous(async ({ enter, open }) => {
    await using a = await enter("a");
    const forger = await open("a");
    await a.peerPresent();
    for (const text of ['{"peer":"absent"}', "nonsense", '{"ping":1,"x":2}']) {
      forger.send("text", new TextEncoder().encode(text));
    }
    forger.send("binary", new Uint8Array([7]));
    assertEquals([...await a.receive()], [7]);
    assert(a.isPeerPresent);
    const texts = await textsUntil(forger, '{"ping":1}');
    assertEquals(texts, ['{"peer":"present"}', '{"ping":1}']);
    forger.abort();
  });
});

Deno.test("the server tells its clients when it ends", async () => {
  await withRendezvous(async ({ open, server, dial }) => {
    const socket = await open("a");
    using half = await dial();
    await write(half, "GET /a");
    await delay(100);
    const ended = server[Symbol.asyncDispose]();
    const messages: WebSocketMessage[] = [];
    do messages.push(await socket.receive()); while (messages.at(-1)!.kind !== "close");
    assertEquals(messages.at(-1), { kind: "close", code: 1001, reason: "the server ends" });
    socket.close(1001, "");
    await socket.finish();
    await assertCut(half);
    await ended;
    await server.finished;
  });
});

Deno.test("a hundred rooms work at once", async () => {
  await withRendezvous(async ({ enter, server }) => {
    const rooms = Array.from({ length: 100 }, (_, i) => `room-${i}`);
    const pairs = await Promise.all(rooms.map(async (room) => {
      const [a, b] = await Promise.all([enter(room), enter(room)]);
      await Promise.all([a.peerPresent(), b.peerPresent()]);
      await a.send(new TextEncoder().encode(room));
      assertEquals(new TextDecoder().decode(await b.receive()), room);
      return [a, b];
    }));
    assertEquals(server.rooms, 100);
    await Promise.all(pairs.flat().map((channel) => channel[Symbol.asyncDispose]()));
  });
});

function MASK(): Uint8Array {
  return Uint8Array.fromHex("37fa213d");
}

function repeated(frame: Uint8Array, times: number): Uint8Array {
  const all = new Uint8Array(frame.length * times);
  for (let i = 0; i < times; i++) all.set(frame, i * frame.length);
  return all;
}

/** 51 empty frames, none of them final. */
function endlessMessage(): Uint8Array {
  return Uint8Array.fromHex(`028000000000${"008000000000".repeat(50)}`);
}

function longParts(): Uint8Array {
  const begin = encodeWebSocketFrame("binary", new Uint8Array(3000), MASK());
  begin[0]! &= 0x7f;
  return new Uint8Array([
    ...begin,
    ...encodeWebSocketFrame("continuation", new Uint8Array(3000), MASK()),
  ]);
}

/** The code of the close frame, which is a server's last frame. */
function closeCodeIn(text: string): number | undefined {
  const at = text.lastIndexOf("\x88");
  return at === -1 ? undefined : text.charCodeAt(at + 2) << 8 | text.charCodeAt(at + 3);
}

async function readSome(connection: TcpConnection, length = 4096): Promise<string> {
  const buffer = new Uint8Array(length);
  const read = await connection.read(buffer);
  return new TextDecoder().decode(buffer.subarray(0, read ?? 0));
}

async function textsUntil(socket: WebSocketConnection, last: string): Promise<string[]> {
  const texts: string[] = [];
  while (texts.at(-1) !== last) {
    const message = await socket.receive();
    if (message.kind === "text") texts.push(message.text);
  }
  return texts;
}

async function assertCut(connection: TcpConnection): Promise<void> {
  assertEquals((await assertRejects(() => readAll(connection), NetworkError)).reason, "reset");
}

Deno.test("a monitor gets 200 from /healthz, and a client with an Upgrade its room", async () => {
  await withRendezvous(async ({ dial, enter }) => {
    const connection = await dial();
    await write(connection, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    const answer = await readAll(connection);
    connection.close();
    assertEquals(answer.split("\r\n")[0], "HTTP/1.1 200 OK");
    assertEquals(answer.endsWith("\r\n\r\nok\n"), true);
    const [, date = ""] = /\r\nDate: (.*)\r\n/.exec(answer) ?? [];
    assertEquals(new Date(date).toUTCString(), date); // in the form of RFC 9110 §5.6.7
    await using _room = await enter("healthz");
  });
});
