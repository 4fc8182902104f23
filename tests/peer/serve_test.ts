import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { NetworkError, RefusedError } from "../../lib/base/errors.ts";
import type { PeerConnection } from "../../lib/peer/connection.ts";
import { REJECTION_CODES } from "../../lib/peer/rejection.ts";
import { inPeerScene } from "../scenes/peer_scene.ts";

const SILENT = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

const HELLO = new TextEncoder().encode("hello");

Deno.test("serve() hands each connection to the handler, and closes it when the handler returns", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    await using host = await open(a, { listen: true });
    await using guest = await open(b, { listen: false });
    const server = host.serve((connection) => connection.readable.pipeTo(connection.writable));
    for (let i = 0; i < 2; i++) {
      await using connection = await guest.connect(host.ticket);
      await connection.write(HELLO);
      await connection.closeWrite();
      assertEquals(new Uint8Array(await new Response(connection.readable).arrayBuffer()), HELLO);
    }
    await server.shutdown();
    await assertNothingLeft(host.connections);
  }));

Deno.test("serve() and connect() refuse what is no limit and no ticket", () =>
  inPeerScene({}, async ({ a, open }) => {
    await using host = await open(a, { listen: true });
    for (const limit of [0, -1, 1.5, NaN, "3" as unknown as number]) {
      assertThrows(
        () => host.serve(() => {}, { maxConnections: limit }),
        RangeError,
        "not " + limit,
      );
      assertThrows(() => host.serve(() => {}, { maxPerKey: limit }), RangeError, "maxPerKey is a");
    }
    await using _server = host.serve(() => {}, { maxPerKey: Infinity }); // none of those serves
    for (const ticket of [undefined, null, 5, {}]) {
      await assertRejects(() => host.connect(ticket as never), TypeError, "Cannot read ticket");
    }
  }));

Deno.test("streams of a connection are served side by side", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    await using host = await open(a, { listen: true });
    await using guest = await open(b, { listen: false });
    await using _server = host.serve(async (connection) => {
      for await (const stream of connection.streams) {
        stream.readable.pipeTo(stream.writable).catch(() => {});
      }
    });
    await using connection = await guest.connect(host.ticket);
    const answers = Array.from({ length: 20 }, async () => {
      const stream = await connection.openStream();
      await stream.write(HELLO);
      await stream.closeWrite();
      return new Uint8Array(await new Response(stream.readable).arrayBuffer());
    });
    for (const answer of await Promise.all(answers)) assertEquals(answer, HELLO);
    connection.close();
  }));

Deno.test("a handler that throws resets its connection, is told, and ends nothing else", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    await using host = await open(a, { listen: true });
    await using guest = await open(b, { listen: false });
    const errors: [unknown, boolean][] = [];
    let visits = 0;
    await using _server = host.serve(async (connection) => {
      if (visits++ === 0) throw new Error("handler failed");
      await connection.write(HELLO);
    }, { onError: (error, connection) => errors.push([error, connection !== undefined]) });
    await using first = await guest.connect(host.ticket);
    const error = await assertRejects(() => first.read(new Uint8Array(1)), NetworkError);
    assertEquals(error.reason, "reset");
    await using second = await guest.connect(host.ticket);
    assertEquals(new Uint8Array(await new Response(second.readable).arrayBuffer()), HELLO);
    assertEquals(errors.map(([error, has]) => [String(error), has]), [[
      "Error: handler failed",
      true,
    ]]);
    second.close();
  }));

Deno.test("an onError that is undefined leaves errors to the logger", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    const warnings: string[] = [];
    const logger = { ...SILENT, warn: (text: string) => void warnings.push(text) };
    await using host = await open(a, { listen: true, logger });
    await using guest = await open(b, { listen: false });
    const handled = Promise.withResolvers<void>();
    await using _server = host.serve(() => {
      handled.resolve();
      throw new Error("handler failed");
    }, { onError: undefined });
    await using visit = await guest.connect(host.ticket);
    await handled.promise;
    await assertRejects(() => visit.read(new Uint8Array(1)), NetworkError);
    assertEquals(warnings, ["serve: handler failed"]);
  }));

Deno.test("a visitor that vanishes before it is connected ends nothing", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    await using host = await open(a, { listen: true });
    await using guest = await open(b, { listen: false });
    const errors: unknown[] = [];
    await using _server = host.serve((connection) => connection.write(HELLO), {
      onError: (error) => errors.push(error),
    });
    const leaving = new AbortController();
    const gone = guest.connect(host.ticket, { signal: leaving.signal });
    setTimeout(() => leaving.abort(new Error("gone")), 180);
    await assertRejects(() => gone, Error, "gone");
    await using stays = await guest.connect(host.ticket);
    assertEquals(new Uint8Array(await new Response(stays.readable).arrayBuffer()), HELLO);
    assert(errors.length <= 1);
    stays.close();
  }));

Deno.test("more connections than serve() may have are told that this side is busy", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    await using host = await open(a, { listen: true });
    await using guest = await open(b, { listen: false });
    const done = Promise.withResolvers<void>();
    await using server = host.serve(() => done.promise, { maxPerKey: 1 });
    await using first = await guest.connect(host.ticket);
    const error = await assertRejects(() => guest.connect(host.ticket), RefusedError);
    assertEquals(error.code, REJECTION_CODES.busy);
    done.resolve();
    assertEquals(await first.read(new Uint8Array(1)), null);
    first.close();
    await server.shutdown();
  }));

Deno.test("the signal ends serving and resets the connections; the peer goes on", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    await using host = await open(a, { listen: true });
    await using guest = await open(b, { listen: false });
    const stopping = new AbortController();
    const errors: unknown[] = [];
    const started = Promise.withResolvers<void>();
    const server = host.serve(async (connection) => {
      started.resolve();
      await connection.read(new Uint8Array(1));
    }, { signal: stopping.signal, onError: (error) => errors.push(error) });
    await using connection = await guest.connect(host.ticket);
    await started.promise;
    stopping.abort();
    await server.finished;
    await assertRejects(() => connection.read(new Uint8Array(1)), NetworkError);
    assertEquals(errors, []);
    const again = host.serve(() => {});
    await again.shutdown();
  }));

Deno.test("serve() ends when the peer is closed", () =>
  inPeerScene({}, async ({ a, open }) => {
    const host = await open(a, { listen: true });
    const server = host.serve(() => {});
    await host.close();
    await server.finished;
  }));

Deno.test("serve() beside another reader of the peer throws TypeError, and the other way round", () =>
  inPeerScene({}, async ({ a, b, open }) => {
    await using host = await open(a, { listen: true });
    await using guest = await open(b, { listen: false });
    assertThrows(() => guest.serve(() => {}), TypeError, "does not listen");
    const reading = new AbortController();
    const next = host.nextIncoming({ signal: reading.signal });
    assertThrows(() => host.serve(() => {}), TypeError, "read already");
    reading.abort();
    await assertRejects(() => next);
    const iterator = host[Symbol.asyncIterator]();
    const first = iterator.next();
    assertThrows(() => host.serve(() => {}), TypeError, "read already");
    await host.close();
    await first;
    await using other = await open(a, { listen: true });
    const server = other.serve(() => {});
    assertThrows(() => other.serve(() => {}), TypeError, "served already");
    await assertRejects(() => other.nextIncoming(), TypeError, "serve()");
    await assertRejects(async () => {
      for await (const _ of other);
    }, TypeError);
    await server.shutdown();
  }));

async function assertNothingLeft(connections: readonly PeerConnection[]): Promise<void> {
  await Promise.allSettled(connections.map(({ finished }) => finished));
}
