import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { toHex } from "../../lib/base/bytes.ts";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import type { Ranges } from "../../lib/udp/ack_ranges.ts";
import {
  decodeUdpPacket,
  encodeUdpPacket,
  MAX_ACK_RANGES,
  type UdpPacket,
} from "../../lib/udp/packet_message.ts";

const PATH_ID = Uint8Array.of(0xc1, 2, 3, 4, 5, 6, 7, 8);
const HEAD = "c102030405060708";

/** The layout in docs/udp.md, written by hand. */
const GOLDEN: readonly [string, UdpPacket, string][] = [
  [
    "stream data",
    {
      kind: "data",
      number: 0x010203040506,
      offset: 0x0a0b0c0d0e0f,
      data: Uint8Array.of(0xaa, 0xbb),
      isFinal: false,
      isPushed: true,
    },
    "12" + "010203040506" + "0a0b0c0d0e0f" + "aabb",
  ],
  [
    "the end of a stream",
    { kind: "data", number: 1, offset: 5, data: new Uint8Array(), isFinal: true, isPushed: false },
    "11" + "000000000001" + "000000000005",
  ],
  [
    "an unreliable message",
    { kind: "datagram", number: 2, data: Uint8Array.of(9) },
    "03" + "000000000002" + "09",
  ],
  ["padding", { kind: "pad", number: 3, padding: 2 }, "02" + "000000000003" + "0000"],
  [
    "an acknowledgement of 90 to 99 and 80",
    {
      kind: "ack",
      ranges: [{ start: 90, end: 100 }, { start: 80, end: 81 }],
      delayMs: 2,
      limit: 2 ** 40,
    },
    "01" + "0100" + "010000000000" + "000000000063" + "0000000a" + "00000009" + "00000001",
  ],
  [
    "a control packet",
    {
      kind: "close",
      counter: 7,
      value: new Uint8Array(8).fill(0x11),
      mac: new Uint8Array(16).fill(0x22),
    },
    "23" + "000000000007" + "11".repeat(8) + "22".repeat(16),
  ],
];

for (const [what, packet, hex] of GOLDEN) {
  Deno.test(`encodeUdpPacket() encodes ${what} as documented, and decodeUdpPacket() decodes it`, () => {
    const bytes = encodeUdpPacket(PATH_ID, packet);
    assertEquals(toHex(bytes), HEAD + hex);
    assertEquals(decodeUdpPacket(bytes), packet);
  });
}

const MALFORMED: readonly [string, string][] = [
  ["no type", ""],
  ["an unknown type", "7f"],
  ["a control packet of an unknown kind", "25" + "00".repeat(30)],
  ["a control packet that is too short", "23" + "00".repeat(29)],
  ["a control packet that is too long", "23" + "00".repeat(31)],
  ["stream data without an offset", "10" + "00".repeat(11)],
  ["stream data without bytes that is not the end", "10" + "00".repeat(12)],
  ["stream data beyond 48 bits", "10" + "00".repeat(6) + "ff".repeat(6) + "01"],
  ["padding without a number", "02" + "00".repeat(5)],
  ["an unreliable message without a number", "03"],
  ["an acknowledgement without a range", "01" + "00".repeat(14)],
  ["an acknowledgement of an empty range", "01" + "00".repeat(18)],
  ["an acknowledgement of numbers below 0", "01" + "00".repeat(8) + "000000000001" + "00000003"],
  [
    "an acknowledgement with an empty gap",
    "01" + "00".repeat(8) + "000000000009" + "00000001" + "00000000" + "00000001",
  ],
  [
    "an acknowledgement with half a range",
    "01" + "00".repeat(8) + "000000000009" + "00000001" + "00000001",
  ],
  [
    "an acknowledgement with too many ranges",
    "01" + "00".repeat(8) + "0000000000ff" + "00000001" + "0000000100000001".repeat(MAX_ACK_RANGES),
  ],
];

for (const [what, hex] of MALFORMED) {
  Deno.test(`decodeUdpPacket() rejects ${what}`, () => {
    assertThrows(() => decodeUdpPacket(Uint8Array.fromHex(HEAD + hex)), MalformedMessageError);
  });
}

Deno.test("decodeUdpPacket() undoes encodeUdpPacket()", () => {
  fc.assert(fc.property(PACKETS, (packet) => {
    assertEquals(decodeUdpPacket(encodeUdpPacket(PATH_ID, packet)), packet);
  }));
});

Deno.test("decodeUdpPacket() throws nothing but its own error", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (tail) => {
    try {
      decodeUdpPacket(Uint8Array.of(...PATH_ID, ...tail));
    } catch (error) {
      if (!(error instanceof MalformedMessageError)) throw error;
    }
  }));
});

const NUMBERS = fc.integer({ min: 0, max: 2 ** 47 });
const PACKETS: fc.Arbitrary<UdpPacket> = fc.oneof(
  fc.record({
    kind: fc.constant("data" as const),
    number: NUMBERS,
    offset: NUMBERS,
    data: fc.uint8Array({ minLength: 1, maxLength: 40 }),
    isFinal: fc.boolean(),
    isPushed: fc.boolean(),
  }),
  fc.record({ kind: fc.constant("pad" as const), number: NUMBERS, padding: fc.nat(2000) }),
  fc.record({
    kind: fc.constant("datagram" as const),
    number: NUMBERS,
    data: fc.uint8Array({ maxLength: 40 }),
  }),
  fc.record({
    kind: fc.constant("ack" as const),
    ranges: fc.array(
      fc.tuple(fc.integer({ min: 1, max: 2 ** 31 }), fc.integer({ min: 1, max: 2 ** 31 })),
      {
        minLength: 1,
        maxLength: MAX_ACK_RANGES,
      },
    ).map(toRanges),
    delayMs: fc.nat(500),
    limit: NUMBERS,
  }),
  fc.record({
    kind: fc.constantFrom(
      "probe" as const,
      "answer" as const,
      "nominate" as const,
      "close" as const,
      "reset" as const,
    ),
    counter: NUMBERS,
    value: fc.uint8Array({ minLength: 8, maxLength: 8 }),
    mac: fc.uint8Array({ minLength: 16, maxLength: 16 }),
  }),
);

/** From pairs of a gap and a length, the highest first. */
function toRanges(pairs: readonly [number, number][]): Ranges {
  let end = 0;
  const ranges = pairs.map(([gap, length]) => {
    const start = end + gap;
    end = start + length;
    return { start, end };
  });
  return ranges.toReversed();
}
