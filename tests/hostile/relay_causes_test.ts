/**
 * A TURN server of its own bytes that does not do its job. Both commands say why there is no connection, and when.
 *
 * @module
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { type End, type Servers, start, withServers } from "../cli/command.ts";

/** What the server answers to a request; `null` for nothing. */
type Behavior = (method: number, transactionId: Uint8Array) => Uint8Array | null;

const ALLOCATE = 0x003;

const REFUSES: Behavior = (method, id) => refusal(method, id, 401, "realm");
const GRANTS = (then: Behavior): Behavior => (method, id) =>
  method === ALLOCATE ? grant(method, id) : then(method, id);

/** Attacks on `connect --turn` and `listen --turn`, and what both say about it. */
const ATTACKS: Readonly<Record<string, { behavior: Behavior; says: RegExp }>> = {
  "refuses the login": {
    behavior: REFUSES,
    says: /relay to turn:.*: refused .*answered 401/,
  },
  "sends a realm of 30 kB": {
    behavior: (method, id) => refusal(method, id, 401, "a".repeat(30_000)),
    says: /relay to turn:.*: failed .*REALM: it has 30000 bytes, not 0 to 763/,
  },
  "grants and then forgets": {
    behavior: GRANTS((method, id) => refusal(method, id, 437, "realm")),
    says: /relay .* turn:.*: refused .*answered 437/,
  },
  "grants and then falls silent": {
    behavior: GRANTS(() => null),
    says: /relay .* turn:.*: timed-out .*opened a relay, and did not answer after that/,
  },
  "is silent": {
    behavior: () => null,
    says: /relay to turn:.*: timed-out .*the server did not answer in time/,
  },
};

for (const [attack, { behavior, says }] of Object.entries(ATTACKS)) {
  Deno.test(`both commands name the cause if a TURN server ${attack}`, () =>
    withoutOtherRelay(async (servers) => {
      using server = serveTurn(behavior);
      const relay = ["--turn", server.url, "--strategy", "relay"];
      const listener = start(["listen", ...relay, "--timeout", "20s", ...servers.all]);
      const ticket = await listener.ticket();
      const connector = start(
        ["connect", ticket, ...relay, "--timeout", "6s", ...servers.connecting],
      );
      const connected = await connector.end();
      await listener.prints(/relay (to|from) turn/);
      listener.interrupt();
      for (const { stderr } of [connected, await listener.end()]) {
        assertMatch(stderr, says);
        assert(!/turn:.*: abandoned/.test(stderr), stderr); // that of the rendezvous may be: the other side was faster
        assert(!stderr.includes("secret"), stderr);
      }
      assertEquals(connected.code, 1);
    }));
}

Deno.test("a listener whose only relay refuses the login tells the connector at once", () =>
  withoutOtherRelay(async (servers) => {
    using server = serveTurn(REFUSES);
    const only = ["--turn", server.url, "--relay-only"];
    const listener = start(["listen", ...only, ...servers.all]);
    const ticket = await listener.ticket();
    const { end, elapsedMs } = await timed(start(["connect", ticket, ...servers.connecting]));
    const printed = await listener.prints(/answered 401/);
    listener.interrupt();
    await listener.end();
    assertEquals(end.code, 1);
    assertMatch(
      end.stderr,
      /the other side has found no path: its relay server refused it \(401\)/,
    );
    assertMatch(printed, /answered 401/);
    assert(elapsedMs < 5000, `${elapsedMs} ms`);
  }));

Deno.test("a connector whose only relay refuses the login tells the listener at once", () =>
  withoutOtherRelay(async (servers) => {
    using server = serveTurn(REFUSES);
    const listener = start(["listen", ...servers.all]);
    const ticket = await listener.ticket();
    const only = ["--turn", server.url, "--relay-only"];
    const { end, elapsedMs } = await timed(
      start(["connect", ticket, ...only, ...servers.connecting]),
    );
    const startedMs = performance.now();
    await listener.prints(/its relay server refused it \(401\)/);
    const laterMs = performance.now() - startedMs;
    listener.interrupt();
    await listener.end();
    assertEquals(end.code, 1);
    assertMatch(end.stderr, /punchline: .*answered 401/);
    assert(elapsedMs < 5000 && laterMs < 3000, `${elapsedMs} ms, ${laterMs} ms later`);
  }));

Deno.test("a connector that does not get through cannot make listen exceed its timeout", () =>
  withoutOtherRelay(async (servers) => {
    using server = serveTurn(() => null);
    const only = ["--turn", server.url, "--relay-only"];
    const listener = start(["listen", ...only, "--timeout", "4s", ...servers.all]);
    const startedMs = performance.now();
    const connector = start(["connect", await listener.ticket(), ...servers.connecting]);
    const { code, stderr } = await listener.end();
    const elapsedMs = performance.now() - startedMs;
    assertEquals(code, 4, stderr);
    assertMatch(stderr, /no peer connected within 4 s/);
    assert(elapsedMs < 7000, `${elapsedMs} ms`);
    const { stderr: told } = await connector.end();
    assertMatch(told, /given up/);
  }));

async function timed(
  command: ReturnType<typeof start>,
): Promise<{ readonly end: End; readonly elapsedMs: number }> {
  const startedMs = performance.now();
  const end = await command.end();
  return { end, elapsedMs: performance.now() - startedMs };
}

/** A server over TCP that answers requests one after the other. */
function serveTurn(behavior: Behavior): Disposable & { readonly url: string } {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const connections = new Set<Deno.TcpConn>();
  (async () => {
    for await (const connection of listener) {
      connections.add(connection);
      answerAll(connection, behavior)
        .catch(() => {}) // the client is gone
        .finally(() => connections.delete(connection)); // its end has closed it
    }
  })();
  return {
    url: `turn:someone:secret@127.0.0.1:${listener.addr.port}?transport=tcp`,
    [Symbol.dispose]() {
      listener.close();
      for (const connection of connections) connection.close();
    },
  };
}

async function answerAll(connection: Deno.TcpConn, behavior: Behavior): Promise<void> {
  let received = new Uint8Array(0);
  for await (const piece of connection.readable) {
    received = new Uint8Array([...received, ...piece]);
    while (received.length >= 20) {
      const length = 20 + 256 * received[2]! + received[3]!;
      if (received.length < length) break;
      const answer = behavior(256 * received[0]! + received[1]!, received.slice(8, 20));
      received = received.subarray(length);
      if (answer !== null) await connection.write(answer);
    }
  }
}

function grant(method: number, id: Uint8Array): Uint8Array {
  const xored = (port: number) =>
    Uint8Array.of(0, 1, port >> 8 ^ 0x21, port & 255 ^ 0x12, 127 ^ 0x21, 0x12, 0xa4, 1 ^ 0x42);
  return message(0x100 | method, id, [
    attribute(0x16, xored(50_000)),
    attribute(0x20, xored(40_000)),
    attribute(0x0d, Uint8Array.of(0, 0, 2, 88)),
  ]);
}

function refusal(method: number, id: Uint8Array, code: number, realm: string): Uint8Array {
  return message(0x110 | method, id, [
    attribute(0x09, Uint8Array.of(0, 0, Math.floor(code / 100), code % 100)),
    attribute(0x14, new TextEncoder().encode(realm)),
    attribute(0x15, new TextEncoder().encode("nonce")),
  ]);
}

function message(type: number, id: Uint8Array, attributes: Uint8Array[]): Uint8Array {
  const body = attributes.flatMap((each) => [...each]);
  const cookie = [0x21, 0x12, 0xa4, 0x42];
  return Uint8Array.of(
    type >> 8,
    type & 255,
    body.length >> 8,
    body.length & 255,
    ...cookie,
    ...id,
    ...body,
  );
}

function attribute(type: number, value: Uint8Array): Uint8Array {
  const padding = new Uint8Array((4 - value.length % 4) % 4);
  const { length } = value;
  return Uint8Array.of(type >> 8, type & 255, length >> 8, length & 255, ...value, ...padding);
}

function withoutOtherRelay(test: (servers: Servers) => Promise<void>): Promise<void> {
  return withServers(test, { hasRelay: false });
}
