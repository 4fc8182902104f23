/**
 * An attacker on the path and a hostile peer can do nothing but cut the connection.
 *
 * @module
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import fc from "fast-check";
import { concat } from "../../lib/base/bytes.ts";
import { MalformedMessageError, NetworkError } from "../../lib/base/errors.ts";
import { generateKeyPair } from "../../lib/noise/handshake.ts";
import {
  MAX_HANDSHAKE_MESSAGE_LENGTH,
  secureConnection,
} from "../../lib/noise/secure_connection.ts";
import { anonymous, memoryPair, type SecuredPair, securedPair } from "./pair.ts";

Deno.test("a stream cut at any byte gives the complete records, then an error instead of an end", async () => {
  const lengths = [5, 1, 300];
  const total = (await record(lengths)).records.reduce((sum, { length }) => sum + length, 0);
  for (let cutAt = 0; cutAt < total; cutAt++) {
    const { pair, records } = await record(lengths);
    using _ = pair;
    pair.serverStream.receive(concat(...records).subarray(0, cutAt));
    pair.serverStream.receive("end");
    const { text, error } = await readAll(pair);
    let whole = 0, end = 0;
    for (const [index, length] of lengths.entries()) {
      end += records[index]!.length;
      if (end <= cutAt) whole += length;
    }
    assertEquals(text.length, whole);
    assert(error instanceof NetworkError && error.reason === "reset", `${error}`);
  }
});

Deno.test("a record modified at any byte gives an error, and nothing of itself or after it", async () => {
  const { records } = await record([40, 3]);
  for (let at = 0; at < records[0]!.length; at++) {
    const { pair, records: [first, second, end] } = await record([40, 3]);
    using _ = pair;
    pair.serverStream.receive(concat(first!.with(at, first![at]! ^ 0x01), second!, end!));
    pair.serverStream.receive("end");
    const { text, error } = await readAll(pair);
    assertEquals(text, []);
    assert(error instanceof MalformedMessageError || error instanceof NetworkError, `${error}`);
    assertEquals(pair.serverStream.closed, "reset");
  }
});

Deno.test("reordered, repeated, dropped or replaced records give a prefix of the stream, then an error", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.nat(4), { minLength: 1, maxLength: 8 }),
      fc.nat(3),
      async (order, reads) => {
        const lengths = [1, 2, 3, 4];
        const { pair, records } = await record(lengths);
        using _ = pair;
        for (const index of order) pair.serverStream.receive(records[index]!);
        pair.serverStream.receive("end");
        const inOrder = order.findIndex((index, position) => index !== position);
        const good = inOrder === -1 ? order.length : inOrder;
        const { text, error } = await readAll(pair, 1 + reads);
        const expected = lengths.slice(0, Math.min(good, lengths.length));
        assertEquals(text.length, expected.reduce((sum, length) => sum + length, 0));
        // Either all four records and the end, with nothing after it that the reader looks at, or an error.
        const isFinished = good > lengths.length && error === undefined;
        assert(isFinished || error instanceof Error);
      },
    ),
    { numRuns: 200 },
  );
});

Deno.test("flipped bits and removed or inserted bytes give a prefix of the stream, then an error", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.nat(),
      fc.constantFrom("flip", "remove", "insert"),
      fc.nat(255),
      async (position, how, value) => {
        const { pair, records } = await record([10, 20, 30]);
        using _ = pair;
        const bytes = concat(...records);
        const at = position % bytes.length;
        const changed = how === "flip" ? bytes.with(at, bytes[at]! ^ (1 << value % 8)) : concat(
          bytes.subarray(0, at),
          how === "insert" ? Uint8Array.of(value) : NOTHING,
          bytes.subarray(how === "remove" ? at + 1 : at),
        );
        pair.serverStream.receive(changed);
        pair.serverStream.receive("end");
        const { text, error } = await readAll(pair);
        const sent = records.map((_, index) => plaintextOf([10, 20, 30][index] ?? 0)).flat();
        assertEquals(text, sent.slice(0, text.length));
        // An inserted byte may equal its neighbour: then the change shows one place later, or after the end.
        assert(error instanceof MalformedMessageError || error instanceof NetworkError, `${error}`);
      },
    ),
    { numRuns: 300 },
  );
});

Deno.test("a record of the other direction or of another connection is not authentic", async () => {
  const { pair, records } = await record([5]);
  using _ = pair;
  pair.clientStream.receive(records[0]!); // back to its sender
  await assertRejects(() => pair.client.read(new Uint8Array(8)), MalformedMessageError);
  using other = await securedPair();
  other.serverStream.receive(records[0]!);
  await assertRejects(() => other.server.read(new Uint8Array(8)), MalformedMessageError);
});

Deno.test("a record too short for its tag is rejected, and an incomplete one is waited for", async () => {
  for (const length of [0, 15]) {
    using pair = await securedPair();
    pair.serverStream.receive(concat(Uint8Array.of(0, length), new Uint8Array(length)));
    await assertRejects(
      () => pair.server.read(new Uint8Array(8)),
      MalformedMessageError,
      "too few",
    );
  }
  using pair = await securedPair();
  const reading = assertRejects(() => pair.server.read(new Uint8Array(8)), NetworkError, "closed");
  pair.serverStream.receive(Uint8Array.of(0xff, 0xff));
  for (let i = 0; i < 300; i++) pair.serverStream.receive(Uint8Array.of(1));
  await settle();
  pair.server.close();
  await reading;
});

Deno.test("a handshake aborted before it begins resets the connection", async () => {
  const [, server] = memoryPair();
  const signal = AbortSignal.abort("never");
  const reason = await secureConnection(server, { ...anonymous("responder"), signal })
    .catch((error) => error);
  assertEquals(reason, "never");
  assertEquals(server.closed, "reset");
});

Deno.test("the signal ends a handshake with a peer that sends nothing, or a byte now and then", async () => {
  for (const bytes of [0, 3, 40]) {
    const [client, server] = memoryPair();
    const abort = new AbortController();
    const secured = secureConnection(server, { ...anonymous("responder"), signal: abort.signal })
      .catch((error) => error);
    for (let i = 0; i < bytes; i++) {
      await client.write(Uint8Array.of(0x0f));
      await settle();
    }
    abort.abort("too slow");
    assertEquals(await secured, "too slow");
    assertEquals(server.closed, "reset");
  }
});

Deno.test("the signal ends a handshake whose authorization takes too long", async () => {
  const [client, server] = memoryPair();
  const staticKey = generateKeyPair();
  const abort = new AbortController();
  const answer = Promise.withResolvers<boolean>();
  const initiator = secureConnection(client, {
    ...anonymous("initiator", { pattern: "IX", staticKey }),
  }).catch((error) => error);
  const responder = secureConnection(server, {
    ...anonymous("responder", { pattern: "IX", staticKey, signal: abort.signal }),
    authorize: () => {
      abort.abort("too slow");
      return answer.promise;
    },
  }).catch((error) => error);
  assert(await initiator instanceof NetworkError); // the connection is reset at once
  answer.resolve(true);
  assertEquals(await responder, "too slow");
});

Deno.test("a handshake message over the length limit is rejected without waiting for it", async () => {
  const [client, server] = memoryPair();
  const length = MAX_HANDSHAKE_MESSAGE_LENGTH + 1;
  await client.write(Uint8Array.of(length >> 8, length & 0xff));
  await assertRejects(
    () => secureConnection(server, anonymous("responder")),
    MalformedMessageError,
    "over the limit",
  );
  assertEquals(server.closed, "reset");
});

Deno.test("a handshake cut at any byte fails on both sides", async () => {
  for (let cutAt = 0; cutAt < 2 + 32 + 2 + 48; cutAt++) {
    const [client, server] = memoryPair();
    let left = cutAt;
    for (const end of [client, server]) {
      end.onWrite = (data) => {
        const part = data.subarray(0, left);
        left -= part.length;
        if (left === 0 && part.length < data.length) {
          queueMicrotask(() => {
            client.receive("end");
            server.receive("end");
          });
        }
        return part.length === 0 ? [] : [part];
      };
    }
    const results = await Promise.allSettled([
      secureConnection(client, anonymous("initiator")),
      secureConnection(server, anonymous("responder")),
    ]);
    const [initiator, responder] = results;
    assert(initiator.status === "rejected" && initiator.reason instanceof NetworkError);
    // The responder cannot know whether its last message arrived.
    if (responder.status === "fulfilled") {
      await assertRejects(() => responder.value.read(new Uint8Array(1)), NetworkError);
    }
  }
});

Deno.test("a replayed first message gives its sender a connection it can neither read nor write", async () => {
  const [client, server] = memoryPair();
  client.receive("end"); // it never receives an answer
  await assertRejects(() => secureConnection(client, anonymous("initiator")), NetworkError);
  const [replayer, victim] = memoryPair();
  await replayer.write(client.written[0]!);
  const secured = await secureConnection(victim, anonymous("responder"));
  await replayer.write(concat(Uint8Array.of(0, 20), new Uint8Array(20)));
  await assertRejects(() => secured.read(new Uint8Array(8)), MalformedMessageError);
  server.close();
});

Deno.test("arbitrary bytes instead of a handshake reject with one of the documented errors", async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 120 }), async (bytes) => {
      for (const role of ["initiator", "responder"] as const) {
        const [attacker, victim] = memoryPair();
        await attacker.write(bytes);
        await attacker.closeWrite();
        try {
          const secured = await secureConnection(victim, anonymous(role));
          await secured.read(new Uint8Array(1));
          throw new TypeError("Cannot happen: the read succeeded");
        } catch (error) {
          assert(
            error instanceof MalformedMessageError || error instanceof NetworkError,
            `${error}`,
          );
        }
        assertEquals(victim.closed, "reset");
      }
    }),
    { numRuns: 200 },
  );
});

/** A pair whose client has written records of these lengths and the end, none of which was delivered. */
async function record(
  lengths: readonly number[],
): Promise<{ pair: SecuredPair; records: Uint8Array[] }> {
  const pair = await securedPair();
  const { clientStream, client } = pair;
  const before = clientStream.written.length;
  clientStream.onWrite = () => [];
  for (const length of lengths) {
    await client.write(Uint8Array.from(plaintextOf(length)));
    await settle();
  }
  clientStream.closeWrite = () => Promise.resolve();
  await client.closeWrite();
  return { pair, records: clientStream.written.slice(before) };
}

function plaintextOf(length: number): number[] {
  return Array.from({ length }, (_, index) => (index + length) & 0xff);
}

/** Reads until the end or an error. */
async function readAll(
  { server }: SecuredPair,
  length = 64,
): Promise<{ text: number[]; error?: unknown }> {
  const text: number[] = [];
  const buffer = new Uint8Array(length);
  try {
    for (;;) {
      const count = await server.read(buffer);
      if (count === null) return { text };
      text.push(...buffer.subarray(0, count));
    }
  } catch (error) {
    return { text, error };
  }
}

/** Lets all pending microtasks run. */
async function settle(): Promise<void> {
  for (let i = 0; i < 20; i++) await Promise.resolve();
}

const NOTHING = new Uint8Array(0);
