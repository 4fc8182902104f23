/**
 * What any program on this machine may send to the port of `connect --socks`.
 *
 * @module
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import fc from "fast-check";
import { concat } from "../../lib/base/bytes.ts";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import { readSocksRequest, type SocksRequest } from "../../lib/cli/socks.ts";
import { isIp } from "../../lib/net/address.ts";
import { decodeForwardRequest, encodeForwardRequest } from "../../lib/peer/forward_message.ts";

const GREETING = Uint8Array.of(5, 1, 0);

Deno.test("names of every length from 1 to 255 bytes are read, in pieces of any size", async () => {
  for (let length = 1; length <= 255; length++) {
    const host = "a".repeat(length);
    const { request, taken } = await read(connect(3, nameOf(host), 443), 1 + length % 7);
    assertEquals(request, { host, port: 443 });
    assertEquals(taken, GREETING.length + 4 + 1 + length + 2);
    // The other side takes it as it is.
    assertEquals(decodeForwardRequest(encodeForwardRequest({ kind: "dial", ...request })), {
      kind: "dial",
      ...request,
    });
  }
});

Deno.test("IPv4 and IPv6 addresses are read, in every form that they have", async () => {
  for (
    const [hex, kind, host] of [
      ["c0000201", 1, "192.0.2.1"],
      ["00000000", 1, "0.0.0.0"],
      ["20010db8000000000000000000000001", 4, "2001:db8::1"],
      ["00000000000000000000000000000000", 4, "::"],
      ["00000000000000000000ffff7f000001", 4, "127.0.0.1"],
      ["fe800000000000000000000000000001", 4, "fe80::1"],
    ] as const
  ) {
    const { request } = await read(connect(kind, Uint8Array.fromHex(hex), 80));
    assert(isIp(request.host), request.host);
    assertEquals(request.host.replace("::ffff:", ""), host);
  }
});

Deno.test("names with NULs, spaces, bytes of no text, or none at all are refused", async () => {
  for (const bad of ["\0", "a\0b", "a b", "a/b", "a\n", "ä", "a@b", "[::1]", "*"]) {
    await assertRejects(
      () => read(connect(3, nameOf(bad), 80)),
      MalformedMessageError,
      "not one of a host",
    );
  }
  const noText = concat(Uint8Array.of(2), Uint8Array.of(0xff, 0xfe));
  await assertRejects(() => read(connect(3, noText, 80)), MalformedMessageError);
  await assertRejects(() => read(connect(3, Uint8Array.of(0), 80)), MalformedMessageError);
});

Deno.test("a request that is cut off anywhere ends early, and takes no more than it has", async () => {
  const whole = connect(3, nameOf("example.org"), 443);
  for (let length = 0; length < whole.length; length++) {
    await assertRejects(() => read(whole.subarray(0, length)), MalformedMessageError, "ends early");
  }
});

Deno.test("whatever a client sends, it is a request or malformed, and at most 519 bytes are taken", async () => {
  const part = fc.oneof(
    fc.constantFrom(
      GREETING,
      Uint8Array.of(5, 1, 0, 3),
      Uint8Array.of(5, 1, 0, 4),
      Uint8Array.of(255),
    ),
    fc.uint8Array({ maxLength: 300 }),
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(part, { maxLength: 6 }),
      fc.integer({ min: 1, max: 64 }),
      async (parts, step) => {
        const client = clientOf(concat(...parts), step);
        try {
          const { host, port } = await readSocksRequest(client);
          assert(/^[\w.:-]{1,255}$/.test(host) && port > 0 && port <= 65_535);
          encodeForwardRequest({ kind: "dial", host, port });
        } catch (error) {
          assert(error instanceof MalformedMessageError, String(error));
        }
        assert(client.taken() <= 2 + 255 + 4 + 1 + 255 + 2, `${client.taken()}`);
        assert(client.written() <= 12, `${client.written()}`);
      },
    ),
    { numRuns: 5000 },
  );
});

function connect(kind: number, address: Uint8Array, port: number): Uint8Array {
  return concat(
    GREETING,
    Uint8Array.of(5, 1, 0, kind),
    address,
    Uint8Array.of(port >> 8, port & 0xff),
  );
}

function nameOf(text: string): Uint8Array {
  const bytes = new TextEncoder().encode(text);
  return concat(Uint8Array.of(bytes.length), bytes);
}

async function read(
  bytes: Uint8Array,
  step = 64,
): Promise<{ request: SocksRequest; taken: number }> {
  const client = clientOf(bytes, step);
  return { request: await readSocksRequest(client), taken: client.taken() };
}

/** A client that sends these bytes, so many at a time, and then no more. */
function clientOf(bytes: Uint8Array, step: number) {
  let [taken, written] = [0, 0];
  return {
    read: (buffer: Uint8Array) => {
      const part = bytes.subarray(taken, taken + Math.min(step, buffer.length));
      buffer.set(part);
      taken += part.length;
      return Promise.resolve(part.length === 0 && buffer.length > 0 ? null : part.length);
    },
    write: (data: Uint8Array) => {
      written += data.length;
      return Promise.resolve(data.length);
    },
    taken: () => taken,
    written: () => written,
  };
}
