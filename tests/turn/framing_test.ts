import { assertEquals, assertRejects } from "@std/assert";
import fc from "fast-check";
import { concat } from "../../lib/base/bytes.ts";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import type { StunAttribute } from "../../lib/stun/attributes.ts";
import { StunMessageReader, type StunMessageReaderOptions } from "../../lib/stun/framing.ts";
import { decodeMessage, encodeMessage } from "../../lib/stun/message.ts";
import { ALLOCATE, encodeChannelData } from "../../lib/turn/protocol.ts";
import { connected } from "../simnet/fixtures.ts";
import { simulate } from "../simnet/simulate.ts";
import { fromHex } from "../vectors/stun_hex.ts";
import { ALLOCATE_REQUEST, CHANNEL_DATA } from "../vectors/turn_captures.ts";

const ODD = encodeChannelData({ channel: 0x4001, data: fromHex("0102030405") });

Deno.test("StunMessageReader finds ChannelData between messages however the stream is split", async () => {
  const expected = [ODD, ALLOCATE_REQUEST, CHANNEL_DATA, ODD, ALLOCATE_REQUEST];
  for (const size of [1, 3, 4, 7, 1000]) {
    await withReader(concat(...expected), { channelData: true }, async (reader) => {
      for (const message of expected) assertEquals(await reader.next(), message);
      assertEquals(await reader.next(), undefined);
    }, size);
  }
});

Deno.test("StunMessageReader hands over the bytes after the last message", async () => {
  await withReader(concat(ALLOCATE_REQUEST, fromHex("ff0102")), {}, async (reader) => {
    assertEquals(await reader.next(), ALLOCATE_REQUEST);
    assertEquals(reader.takeRest(), fromHex("ff0102"));
    assertEquals(reader.takeRest(), new Uint8Array());
  });
});

Deno.test("StunMessageReader rejects ChannelData if it is not enabled", async () => {
  await withReader(CHANNEL_DATA, {}, async (reader) => {
    await assertRejects(() => reader.next(), MalformedMessageError, "not with byte 75");
  });
});

Deno.test("StunMessageReader rejects ChannelData beyond the limit as soon as its header arrives", async () => {
  await withReader(fromHex("4000ffff"), { channelData: true, maxLength: 2000 }, async (reader) => {
    await assertRejects(() => reader.next(), MalformedMessageError, "longer than 2000");
  });
});

Deno.test("decodeMessage() reverses encodeMessage() for the attributes of TURN", () => {
  const uint = (max: number) => fc.integer({ min: 0, max });
  const attribute: fc.Arbitrary<StunAttribute> = fc.oneof(
    uint(0xffff).map((value) => ({ type: "CHANNEL-NUMBER", value } as const)),
    uint(0xffff_ffff).map((value) => ({ type: "LIFETIME", value } as const)),
    uint(0xffff_ffff).map((value) => ({ type: "CONNECTION-ID", value } as const)),
    uint(0xff).map((value) => ({ type: "REQUESTED-TRANSPORT", value } as const)),
    fc.uint8Array({ maxLength: 50 }).map((value) => ({ type: "DATA", value } as const)),
    fc.uint8Array({ maxLength: 50 }).map((value) => ({ type: "MOBILITY-TICKET", value } as const)),
    fc.boolean().map((reserveNext) => ({ type: "EVEN-PORT", value: { reserveNext } } as const)),
    fc.tuple(uint(0x7f), uint(0x1ff), uint(0xffff_ffff)).map(([type, code, data]) => {
      return { type: "ICMP", value: { type, code, data } } as const;
    }),
    fc.tuple(fc.constantFrom(4 as const, 6 as const), fc.integer({ min: 300, max: 699 }))
      .map(([family, code]) => {
        return { type: "ADDRESS-ERROR-CODE", value: { family, code, reason: "é" } } as const;
      }),
  );
  fc.assert(fc.property(fc.array(attribute, { maxLength: 8 }), (attributes) => {
    const transactionId = new Uint8Array(12);
    const message = { class: "request", method: ALLOCATE, transactionId, attributes } as const;
    assertEquals(decodeMessage(encodeMessage(message)), message);
  }));
});

/** Runs a test with a reader of a stream that arrives in parts of a given size. */
async function withReader(
  stream: Uint8Array,
  options: StunMessageReaderOptions,
  test: (reader: StunMessageReader) => Promise<void>,
  size = stream.length,
): Promise<void> {
  await simulate(async ({ internet }) => {
    const [client, server] = [internet.host("client"), internet.host("server")];
    const [sender, receiver] = await connected(client, server);
    for (let i = 0; i < stream.length; i += size) await sender.write(stream.slice(i, i + size));
    await sender.closeWrite();
    await test(new StunMessageReader(receiver, options));
    receiver.reset();
    sender.reset();
    await new Promise((resolve) => setTimeout(resolve, 100));
  });
}
