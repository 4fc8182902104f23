import { assertEquals, assertRejects } from "@std/assert";
import { concat } from "../../lib/base/bytes.ts";
import { NetworkError, RefusedError } from "../../lib/base/errors.ts";
import { writeAll } from "../../lib/base/reader.ts";
import type { TcpConnection } from "../../lib/net/network.ts";
import { openRelayConnection } from "../../lib/signal/rendezvous/relay_connection.ts";
import { newHandshakeReader, readHead } from "../../lib/signal/websocket/connection.ts";
import { encodeWebSocketFrame, type WebSocketOpcode } from "../../lib/signal/websocket/frame.ts";
import {
  encodeUpgradeRequest,
  encodeUpgradeResponse,
  judgeUpgradeRequest,
} from "../../lib/signal/websocket/handshake.ts";
import { simulate } from "../simnet/simulate.ts";
import { LINK, type RendezvousPlace, withRendezvous } from "./rendezvous_fixtures.ts";

const TOKEN = new Uint8Array(32).fill(7);

Deno.test("two connections with one token receive what the other writes, and its end", async () => {
  await withRendezvous(async (place) => {
    using a = await open(place);
    await writeAll(a, bytes("early"));
    using b = await open(place);
    await writeAll(b, bytes("hello"));
    await b.closeWrite();
    assertEquals(await readText(a), "hello");
    await a.closeWrite();
    assertEquals(await readText(b), "early");
    assertEquals(place.server.relays, 1);
  });
});

Deno.test("a megabyte arrives in order, although the reader is slow", async () => {
  await withRendezvous(async (place) => {
    using a = await open(place);
    using b = await open(place);
    const sent = crypto.getRandomValues(new Uint8Array(65_536));
    const writing = (async () => {
      for (let i = 0; i < 16; i++) await writeAll(a, sent);
      await a.closeWrite();
    })();
    await new Promise((resolve) => setTimeout(resolve, 5000));
    const received = await readBytes(b);
    await writing;
    assertEquals(received.length, 16 * sent.length);
    for (let i = 0; i < 16; i++) {
      assertEquals(received.subarray(i * sent.length, (i + 1) * sent.length), sent);
    }
  }, { relayBytesPerSecond: Infinity, allRelaysBytesPerSecond: Infinity });
});

Deno.test("messages in fragments, pings and texts between others change nothing for the other half", async () => {
  await withRendezvous(async (place) => {
    using raw = await place.dial();
    const key = "dGhlIHNhbXBsZSBub25jZQ==";
    await writeAll(raw, encodeUpgradeRequest("server", "/relay/1", key));
    await readHead(raw, newHandshakeReader(raw));
    using b = await open(place);
    const frame = (opcode: WebSocketOpcode, text: string) =>
      encodeWebSocketFrame(opcode, bytes(text), Uint8Array.of(1, 2, 3, 4));
    const begun = frame("binary", "2");
    begun[0]! &= 0x7f; // more follows
    const frames = [
      encodeWebSocketFrame("binary", TOKEN, Uint8Array.of(1, 2, 3, 4)),
      frame("binary", "1"),
      frame("ping", "a"),
      begun,
      frame("ping", "b"),
      frame("continuation", "3"),
      frame("text", "of no use"),
      frame("binary", "4"),
      frame("binary", ""),
      frame("binary", "5"),
      frame("text", `{"end":true}`),
    ];
    const whole = concat(...frames);
    for (let i = 0; i < whole.length; i += 7) await writeAll(raw, whole.subarray(i, i + 7));
    assertEquals(await readText(b), "12345");
    await writeAll(b, bytes("6"));
    await b.closeWrite();
    const sent = [
      encodeWebSocketFrame("text", bytes(`{"peer":"present"}`)),
      ...["a", "b"].map((text) => encodeWebSocketFrame("pong", bytes(text))),
      encodeWebSocketFrame("binary", bytes("6")),
      encodeWebSocketFrame("text", bytes(`{"end":true}`)),
    ];
    const buffer = new Uint8Array(concat(...sent).length);
    for (let at = 0; at < buffer.length;) at += (await raw.read(buffer.subarray(at)))!;
    assertEquals(buffer, concat(...sent));
  });
});

Deno.test("a continuation without a beginning ends the connection", async () => {
  await withRendezvous(async (place) => {
    const socket = await place.open("relay/1");
    using b = await open(place);
    socket.send("binary", TOKEN);
    socket.sendFrame(encodeWebSocketFrame("binary", bytes("1"), Uint8Array.of(1, 2, 3, 4)));
    socket.sendFrame(encodeWebSocketFrame("continuation", bytes("2"), Uint8Array.of(1, 2, 3, 4)));
    let message = await socket.receive();
    while (message.kind !== "close") message = await socket.receive();
    assertEquals(message.code, 1002);
    assertEquals(await b.read(new Uint8Array(9)), 1);
    socket.close(1000, "");
    await socket.finish();
  });
});

Deno.test("what peers encrypt is not masked on its way to the relay, and all else is", async () => {
  await simulate(async ({ internet }) => {
    const host = internet.host("server", { link: LINK });
    const local = { ip: host.addresses[0]!, port: 3480 };
    using listener = await host.network.listenTcp(local);
    const { network } = internet.host("client", { link: LINK });
    const opening = openRelayConnection(`ws://${local.ip}:3480`, { network, token: TOKEN });
    using served = await listener.accept();
    const reader = newHandshakeReader(served);
    const request = judgeUpgradeRequest(await readHead(served, reader));
    if (request.kind !== "upgrade") throw new Error("refused");
    await writeAll(served, encodeUpgradeResponse(request.key));
    using client = await opening;
    await writeAll(client, bytes("encrypted"));
    await client.closeWrite();
    const text = `{"end":true}`;
    const binary = concat(
      encodeWebSocketFrame("binary", TOKEN, new Uint8Array(4)),
      encodeWebSocketFrame("binary", bytes("encrypted"), new Uint8Array(4)),
    );
    const length = binary.length + 2 + 4 + text.length;
    while (reader.buffered < length) await reader.fill();
    assertEquals(reader.take(binary.length), binary);
    const mask = reader.unread.slice(2, 6);
    assertEquals(mask.some((byte) => byte !== 0), true);
    assertEquals(reader.unread, encodeWebSocketFrame("text", bytes(text), mask));
  });
});

Deno.test("a pair is held to its rate", async () => {
  await withRendezvous(async (place) => {
    using a = await open(place);
    using b = await open(place);
    const startedMs = performance.now();
    const writing = writeAll(a, new Uint8Array(600_000)).then(() => a.closeWrite());
    assertEquals((await readBytes(b)).length, 600_000);
    await writing;
    const seconds = (performance.now() - startedMs) / 1000; // virtual time
    assertEquals(Math.round(seconds), 5);
  }, { relayBytesPerSecond: 100_000 });
});

Deno.test("a pair that sends little does not wait for those that use up the rate of all", async () => {
  await withRendezvous(async (place) => {
    const floods = await Promise.all(Array.from({ length: 8 }, async (_, i) => {
      const token = TOKEN.map((byte, at) => at === 0 ? 100 + i : byte);
      return [await open(place, token), await open(place, token)] as const;
    }));
    const flooding = floods.map(async ([from, to]) => {
      const reading = readBytes(to);
      await writeAll(from, new Uint8Array(800_000));
      await from.closeWrite();
      await reading;
    });
    using a = await open(place);
    using b = await open(place);
    await new Promise((resolve) => setTimeout(resolve, 1000));
    for (let i = 0; i < 5; i++) {
      const startedMs = performance.now();
      await writeAll(a, new Uint8Array(1000));
      await b.read(new Uint8Array(1000));
      assertEquals(performance.now() - startedMs < 30, true); // 20 ms on the way
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    await Promise.all(flooding);
    for (const each of floods.flat()) each.close();
  }, { allRelaysBytesPerSecond: 1_000_000 });
});

Deno.test("a connection without its other half ends after ten seconds", async () => {
  await withRendezvous(async (place) => {
    using a = await open(place);
    const startedMs = performance.now();
    const error = await assertRejects(() => a.read(new Uint8Array(1)), RefusedError);
    assertEquals(error.code, 4404);
    assertEquals(Math.round((performance.now() - startedMs) / 1000), 10);
  });
});

Deno.test("when one half goes, the other is told", async () => {
  await withRendezvous(async (place) => {
    const a = await open(place);
    using b = await open(place);
    await writeAll(a, bytes("x"));
    assertEquals(await b.read(new Uint8Array(9)), 1);
    a.close();
    const error = await assertRejects(() => b.read(new Uint8Array(1)), NetworkError);
    assertEquals(error.reason, "reset");
  });
});

Deno.test("a third connection with the token is refused, and the pair goes on", async () => {
  await withRendezvous(async (place) => {
    using a = await open(place);
    using b = await open(place);
    await writeAll(a, bytes("1"));
    assertEquals(await b.read(new Uint8Array(9)), 1);
    using third = await open(place);
    const error = await assertRejects(() => third.read(new Uint8Array(1)), RefusedError);
    assertEquals(error.code, 4409);
    await writeAll(a, bytes("2"));
    assertEquals(await b.read(new Uint8Array(9)), 1);
  });
});

Deno.test("a server without a relay refuses with 404", async () => {
  await withRendezvous(async (place) => {
    const error = await assertRejects(() => open(place), RefusedError);
    assertEquals(error.code, 404);
  }, { maxRelays: 0 });
});

Deno.test("a fifth relay of one source is refused", async () => {
  await withRendezvous(async (place) => {
    const { network } = place.newHost();
    const opened: TcpConnection[] = [];
    for (let i = 0; i < 5; i++) {
      const token = new Uint8Array(32).fill(i);
      opened.push(await openRelayConnection(place.server.url, { network, token }));
    }
    const error = await assertRejects(() => opened[4]!.read(new Uint8Array(1)), RefusedError);
    assertEquals(error.code, 4429);
    for (const each of opened) each.close();
  });
});

Deno.test("a server that ends does not wait for the other half of a connection", async () => {
  await withRendezvous(async (place) => {
    using a = await open(place);
    await writeAll(a, bytes("early"));
    await new Promise((resolve) => setTimeout(resolve, 100)); // by then the server has read it
    const startedMs = performance.now();
    const disposed = place.server[Symbol.asyncDispose]();
    await assertRejects(() => a.read(new Uint8Array(1)), NetworkError);
    await disposed;
    assertEquals(performance.now() - startedMs < 1000, true); // virtual time
  });
});

Deno.test("an idle pair ends", async () => {
  await withRendezvous(async (place) => {
    using a = await open(place);
    using b = await open(place);
    const reading = assertRejects(() => b.read(new Uint8Array(1)), RefusedError);
    const error = await assertRejects(() => a.read(new Uint8Array(1)), Error);
    assertEquals([error.constructor, (await reading).code], [RefusedError, 4408]);
  }, { relayIdleMs: 20_000 });
});

Deno.test("a client that sends no token is closed", async () => {
  await withRendezvous(async ({ open }) => {
    const socket = await open("relay/1");
    socket.send("binary", new Uint8Array(31));
    const message = await socket.receive();
    assertEquals(message.kind === "close" && message.code, 1002);
    socket.close(1000, "");
    await socket.finish();
  });
});

Deno.test("a message that is too long for a token ends the connection before it is there", async () => {
  await withRendezvous(async ({ dial }) => {
    using connection = await dial();
    const key = "dGhlIHNhbXBsZSBub25jZQ==";
    await writeAll(connection, encodeUpgradeRequest("server", "/relay/1", key));
    const header = [0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]; // 64 KiB follow, never
    await writeAll(connection, Uint8Array.from(header));
    const received = await readBytes(connection);
    const close = received.indexOf(0x88);
    assertEquals(received.subarray(close + 2, close + 4), Uint8Array.of(1009 >> 8, 1009 & 0xff));
  });
});

Deno.test("pings before the token are few, so that a flood of them ends at once", async () => {
  await withRendezvous(async ({ open }) => {
    const socket = await open("relay/1");
    for (let i = 0; i < 5; i++) socket.send("ping", new Uint8Array(0));
    let message = await socket.receive();
    while (message.kind === "pong") message = await socket.receive();
    assertEquals(message.kind === "close" && message.code, 1002);
    socket.close(1000, "");
    await socket.finish();
  });
});

Deno.test("a flood of empty messages is paced", async () => {
  await withRendezvous(async (place) => {
    using a = await open(place);
    using b = await open(place);
    const startedMs = performance.now();
    const writing = (async () => {
      for (let i = 0; i < 1000; i++) await a.write(new Uint8Array(0));
      await writeAll(a, bytes("x"));
    })();
    assertEquals(await b.read(new Uint8Array(9)), 1);
    await writing;
    assertEquals(performance.now() - startedMs > 2500, true); // 1000 x 512 bytes, virtual time
  }, { relayBytesPerSecond: 100_000, allRelaysBytesPerSecond: 100_000 });
});

Deno.test("a pair that has ended leaves no timer behind", async () => {
  await withRendezvous(async (place) => {
    const a = await open(place);
    const b = await open(place);
    const writing = (async () => {
      for (let i = 0; i < 20; i++) await a.write(new Uint8Array(1000));
    })();
    assertEquals(await b.read(new Uint8Array(9)), 9);
    b.close();
    await writing;
    a.close();
    await new Promise((resolve) => setTimeout(resolve, 10_000));
    assertEquals(place.server.relays, 0);
    assertEquals(place.time.pendingTimers, 0);
  }, { relayBytesPerSecond: 100_000 });
});

function open(place: RendezvousPlace, token: Uint8Array = TOKEN): Promise<TcpConnection> {
  const { network } = place.newHost();
  return openRelayConnection(place.server.url, { network, token });
}

function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

async function readText(connection: TcpConnection): Promise<string> {
  return new TextDecoder().decode(await readBytes(connection));
}

async function readBytes(connection: TcpConnection): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  const buffer = new Uint8Array(65_536);
  for (let length; (length = await connection.read(buffer)) !== null;) {
    parts.push(buffer.slice(0, length));
  }
  return concat(...parts);
}
