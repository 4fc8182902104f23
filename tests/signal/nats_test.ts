import { assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import fc from "fast-check";
import { MalformedMessageError, NetworkError, RefusedError } from "../../lib/base/errors.ts";
import { writeAll } from "../../lib/base/reader.ts";
import type { Network, TcpConnection } from "../../lib/net/network.ts";
import { type NatsBus, openNatsBus } from "../../lib/signal/nats/bus.ts";
import { parseNatsUrl } from "../../lib/signal/nats/connection.ts";
import {
  decodeNatsLine,
  decodeSignedMessage,
  encodeNatsConnect,
  encodeNatsPublish,
  encodeNatsSubscribe,
  encodeNatsUnsubscribe,
  encodeSignedMessage,
} from "../../lib/signal/nats/message.ts";
import { simulate } from "../simnet/simulate.ts";

const KEY = "0123456789abcdef";

Deno.test("messages of NATS have the documented layout", () => {
  const rows: [string, ReturnType<typeof decodeNatsLine>][] = [
    ['INFO {"server_id":"a"}', { kind: "info", tls: "none" }],
    ['INFO {"tls_available":true}', { kind: "info", tls: "available" }],
    ['INFO {"tls_required":true,"tls_available":true} ', { kind: "info", tls: "required" }],
    ["PING", { kind: "ping" }],
    ["pong", { kind: "pong" }],
    ["+OK", { kind: "ok" }],
    ["-ERR 'Authorization Violation'", { kind: "error", reason: "Authorization Violation" }],
    ["MSG a.b 7 11", { kind: "message", id: 7, length: 11 }],
    ["MSG a.b 7 reply.to 0", { kind: "message", id: 7, length: 0 }],
    ["HMSG a 1 2 3", { kind: "unknown" }],
  ];
  for (const [line, expected] of rows) assertEquals(decodeNatsLine(bytes(line)), expected, line);
  for (
    const line of [
      "",
      "{}",
      "INFO",
      "INFO {",
      "INFO null",
      "MSG",
      "MSG a 1",
      "MSG a x 1",
      "MSG a 1 -1",
      "MSG a 1 9999999999",
    ]
  ) {
    assertThrows(() => decodeNatsLine(bytes(line)), MalformedMessageError, undefined, line);
  }
  assertEquals(text(encodeNatsSubscribe("a", 1)), "SUB a 1\r\n");
  assertEquals(text(encodeNatsUnsubscribe(1)), "UNSUB 1\r\n");
  assertEquals(text(encodeNatsPublish("a", bytes("hi"))), "PUB a 2\r\nhi\r\n");
  const connect = text(encodeNatsConnect({ user: "ann", password: 'p"w' }, { usesTls: true }));
  const [, json, rest] = /^CONNECT (.*)\r\n(.*\r\n)$/.exec(connect)!;
  assertEquals(rest, "PING\r\n");
  const { user, pass, echo, tls_required } = JSON.parse(json!);
  assertEquals([user, pass, echo, tls_required], ["ann", 'p"w', false, true]);
});

Deno.test("decoders of NATS throw nothing but MalformedMessageError", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 80 }), (data) => {
    for (const decode of [decodeNatsLine, decodeSignedMessage]) {
      try {
        decode(data);
      } catch (error) {
        if (!(error instanceof MalformedMessageError)) throw error;
      }
    }
  }));
  fc.assert(fc.property(
    fc.uint8Array({ minLength: 16, maxLength: 16 }),
    fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    fc.uint8Array(),
    (node, counter, message) => {
      const sentMs = 1.7e12;
      const decoded = decodeSignedMessage(
        encodeSignedMessage({ node, counter, sentMs, message: message.slice() }),
      );
      assertEquals([decoded.counter, decoded.sentMs], [counter, sentMs]);
      assertEquals([...decoded.message], [...message]);
    },
  ));
});

Deno.test("parseNatsUrl() reads the login and the port, and does not repeat a password", () => {
  assertEquals(parseNatsUrl("nats://[::1]"), {
    ...{ host: "::1", port: 4222, login: undefined, requiresTls: false },
  });
  assertEquals(parseNatsUrl("tls://a%40b:p%3Aw@n.example:1"), {
    host: "n.example",
    port: 1,
    login: { user: "a@b", password: "p:w" },
    requiresTls: true,
  });
  for (
    const url of ["wss://a", "nats://", "nats://a/b", "nats://u:secret@", "nats://u:secret@a/b"]
  ) {
    const error = assertThrows(() => parseNatsUrl(url), TypeError);
    assertEquals(error.message.includes("secret"), false, error.message);
  }
});

Deno.test("a bus takes what is signed, new and of this minute, each message once", async () => {
  await withServer(async ({ bus, send, lines }) => {
    const received: number[] = [];
    bus.subscribe("a", (message) => void received.push(message[0]!));
    bus.publish("a", Uint8Array.of(1));
    const [subject] = /^punchline\.\S+/.exec((await lines("SUB "))[0]!)!;
    const payload = (await lines("PUB "))[0]!;
    const msg = (of: string) => send(`MSG ${subject} 1 ${of.length}\r\n${of}\r\n`);
    await msg(payload);
    await settled();
    assertEquals(received, [1]);
    await msg(payload); // repeated
    await msg(payload.slice(0, -1) + "\x02"); // changed
    await msg("x".repeat(20)); // too short for a signature
    await send(`MSG ${subject} 9 ${payload.length}\r\n${payload}\r\n`); // not subscribed
    await settled();
    assertEquals(received, [1]);
  });
});

Deno.test("a bus leaves a server that sends too much, or something else, and comes back", async () => {
  for (
    const junk of ["x".repeat(40_000), "MSG a 1 9000\r\n", "MSG\r\n", "-ERR 'Slow Consumer'\r\n"]
  ) {
    await withServer(async ({ bus, send, lines }) => {
      bus.subscribe("a", () => {});
      await lines("SUB ");
      await send(junk);
      await settled(100);
      assertEquals(bus.isConnected, false, junk.slice(0, 20));
      await settled(2000);
      assertEquals(bus.isConnected, true);
      assertEquals((await lines("SUB ")).length, 2); // again
    });
  }
});

Deno.test("a bus that cannot be opened says why", async () => {
  const open = (greeting: string) => withServer(() => Promise.resolve(), greeting);
  await assertRejects(
    () => open("-ERR 'Authorization Violation'\r\n"),
    RefusedError,
    "Authorization",
  );
  await assertRejects(() => open("HTTP/1.1 400 Bad Request\r\n"), MalformedMessageError);
  await assertRejects(() => open(""), NetworkError);
  await simulate(async ({ internet }) => {
    const { network } = internet.host("node");
    const urls = ["nats://192.0.2.77"];
    await assertRejects(() => openNatsBus({ network, urls, key: "short" }), TypeError, "16");
    await assertRejects(() => openNatsBus({ network, urls: [], key: KEY }), TypeError);
  });
});

Deno.test("a login is not sent to a server that has no TLS where the URL asks for it", async () => {
  const sent: string[] = [];
  const open = (greeting: string, scheme = "tls") =>
    withServer(() => Promise.resolve(), greeting, { scheme, sent });
  const error = await assertRejects(() => open("INFO {}\r\n"), NetworkError, "offers none");
  assertEquals(error.reason, "tls");
  assertStringIncludes(error.remedy ?? "", "nats://");
  // In the clear after the greeting: from someone between the two.
  for (const scheme of ["tls", "nats"]) {
    const greeting = 'INFO {"tls_required":true}\r\n+OK\r\n';
    await assertRejects(() => open(greeting, scheme), MalformedMessageError, "without TLS");
  }
  // The simulation has no TLS.
  await assertRejects(() => open('INFO {"tls_required":true}\r\n', "nats"), TypeError, "no TLS");
  assertEquals(sent.join(""), "");
});

Deno.test("a server that stops in the middle of its greeting is left after five seconds", async () => {
  await assertRejects(
    () => withServer(() => Promise.resolve(), "INFO {"),
    NetworkError,
    "did not complete the greeting of NATS in time",
  );
});

Deno.test("so is a server that cannot be connected to", async () => {
  await simulate(async ({ internet }) => {
    const silent: Network = {
      ...internet.host("node").network,
      connectTcp: (_remote, { signal } = {}) =>
        new Promise((_resolve, reject) =>
          signal!.addEventListener("abort", () => reject(signal!.reason), { once: true })
        ),
    };
    const urls = ["nats://192.0.2.77"];
    const error = await assertRejects(
      () => openNatsBus({ network: silent, urls, key: KEY }),
      NetworkError,
    );
    assertEquals(error.reason, "timed-out");
  });
});

interface ScriptedServer {
  readonly bus: NatsBus;
  /** Sends the newest client something. */
  send(data: string): Promise<void>;
  /** What clients have sent that starts so; of PUB, the payload. */
  lines(start: string): Promise<string[]>;
}

/** A server that says what the test wants. */
async function withServer(
  job: (server: ScriptedServer) => Promise<void>,
  greeting = "INFO {}\r\n",
  { scheme = "nats", sent: parts = [] }: { scheme?: string; sent?: string[] } = {},
): Promise<void> {
  await simulate(async ({ internet }) => {
    const host = internet.host("nats");
    using listener = await host.network.listenTcp({ ip: host.addresses[0]!, port: 4222 });
    let sent = "";
    let newest: TcpConnection | undefined;
    const serve = async (connection: TcpConnection) => {
      newest = connection;
      const buffer = new Uint8Array(4096);
      try {
        await writeAll(connection, latin1(greeting));
        if (greeting === "") return connection.close();
        for (;;) {
          const length = await connection.read(buffer);
          if (length === null) return connection.close();
          const part = String.fromCharCode(...buffer.subarray(0, length));
          sent += part;
          parts.push(part);
          if (part.includes("PING\r\n")) await writeAll(connection, bytes("PONG\r\n"));
        }
      } catch (error) {
        if (!(error instanceof NetworkError)) throw error; // the client has gone
      }
    };
    const accepting = (async () => {
      try {
        for (;;) serve(await listener.accept());
      } catch (error) {
        if (!(error instanceof NetworkError)) throw error; // closed
      }
    })();
    try {
      const { network } = internet.host("node");
      const urls = [`${scheme}://${host.addresses[0]}`];
      await using bus = await openNatsBus({ network, urls, key: KEY });
      await job({
        bus,
        send: (data) => writeAll(newest!, latin1(data)),
        lines: async (start) => {
          await settled();
          return start === "PUB "
            ? [...sent.matchAll(/PUB \S+ (\d+)\r\n/g)].map((match) => {
              const from = match.index + match[0].length;
              return sent.slice(from, from + Number(match[1]));
            })
            : [...sent.matchAll(new RegExp(`^${start}(.*)\r$`, "gm"))].map(([, rest]) => rest!);
        },
      });
    } finally {
      listener.close();
      await accepting;
    }
  });
}

/** Virtual time. */
async function settled(ms = 50): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}

function latin1(data: string): Uint8Array {
  return Uint8Array.from(data, (character) => character.charCodeAt(0));
}

function bytes(data: string): Uint8Array {
  return new TextEncoder().encode(data);
}

function text(data: Uint8Array): string {
  return new TextDecoder().decode(data);
}
