// TURN messages: bytes captured from other implementations, and bytes written by hand from the figures in the RFCs.

import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import { concat } from "../../lib/base/bytes.ts";
import type { StunAttribute } from "../../lib/stun/attributes.ts";
import { longTermKey } from "../../lib/stun/credentials.ts";
import { verifyFingerprint, verifyIntegrity } from "../../lib/stun/integrity.ts";
import { decodeMessage, encodeMessage, type StunMessage } from "../../lib/stun/message.ts";
import {
  ALLOCATE,
  CHANNEL_BIND,
  CREATE_PERMISSION,
  DATA,
  decodeChannelData,
  encodeChannelData,
  REFRESH,
  SEND,
} from "../../lib/turn/protocol.ts";
import { fromHex } from "../vectors/stun_hex.ts";
import * as captures from "../vectors/turn_captures.ts";

const RELAYED = { ip: "127.0.0.1", port: 52896 };
const MAPPED = { ip: "127.0.0.1", port: 43275 };
const KEY = longTermKey({ username: "someone", password: "secret" }, {
  realm: "example.org",
  algorithm: "MD5",
});

for (
  const [what, bytes, kind, method, attributes] of [
    ["an Allocate request", captures.ALLOCATE_REQUEST, "request", ALLOCATE, [
      { type: "REQUESTED-TRANSPORT", value: 17 },
      { type: "LIFETIME", value: 777 },
      { type: "EVEN-PORT", value: { reserveNext: false } },
    ]],
    ["an Allocate response", captures.ALLOCATE_SUCCESS, "success", ALLOCATE, [
      { type: "XOR-RELAYED-ADDRESS", value: RELAYED },
      { type: "XOR-MAPPED-ADDRESS", value: MAPPED },
      { type: "LIFETIME", value: 777 },
    ]],
    ["a Refresh request", captures.REFRESH_REQUEST, "request", REFRESH, [
      { type: "LIFETIME", value: 777 },
    ]],
    ["a ChannelBind request", captures.CHANNEL_BIND_REQUEST, "request", CHANNEL_BIND, [
      { type: "CHANNEL-NUMBER", value: 0x5817 },
      { type: "XOR-PEER-ADDRESS", value: { ip: "127.0.0.1", port: 51442 } },
    ]],
    [
      "a CreatePermission request",
      captures.CREATE_PERMISSION_REQUEST,
      "request",
      CREATE_PERMISSION,
      [
        { type: "XOR-PEER-ADDRESS", value: { ip: "127.0.0.1", port: 51442 } },
      ],
    ],
    ["a Send indication", captures.SEND_INDICATION, "indication", SEND, [
      { type: "DATA", value: captures.SEND_INDICATION.subarray(24, 44) },
      { type: "XOR-PEER-ADDRESS", value: { ip: "127.0.0.1", port: 51956 } },
    ]],
    ["a Data indication", captures.DATA_INDICATION, "indication", DATA, [
      { type: "DATA", value: captures.DATA_INDICATION.subarray(24, 44) },
      { type: "XOR-PEER-ADDRESS", value: { ip: "127.0.0.1", port: 59417 } },
    ]],
  ] as const
) {
  Deno.test(`${what} of coturn is decoded, and encoded again byte for byte`, () => {
    const message = decodeMessage(bytes);
    assertEquals([message.class, message.method], [kind, method]);
    assertEquals(message.attributes.slice(0, attributes.length), [...attributes]);
    assertEquals(encodeMessage(message), bytes);
    assertEquals(verifyFingerprint(bytes), "valid");
  });
}

Deno.test("the integrity of messages of coturn and its client is valid", () => {
  for (
    const bytes of [
      captures.ALLOCATE_SUCCESS,
      captures.REFRESH_REQUEST,
      captures.CHANNEL_BIND_REQUEST,
      captures.CREATE_PERMISSION_REQUEST,
    ]
  ) {
    assertEquals(verifyIntegrity(bytes, { algorithm: "sha1", key: KEY }), "valid");
  }
});

/** Attributes that are in no capture: the value, its type number, and its bytes by the figure in the RFC. */
const FIGURES: readonly (readonly [StunAttribute, string, string])[] = [
  [{ type: "CHANNEL-NUMBER", value: 0x4001 }, "000c", "40010000"],
  [{ type: "REQUESTED-ADDRESS-FAMILY", value: 4 }, "0017", "01000000"],
  [{ type: "REQUESTED-ADDRESS-FAMILY", value: 6 }, "0017", "02000000"],
  [{ type: "EVEN-PORT", value: { reserveNext: true } }, "0018", "80"],
  [{ type: "REQUESTED-TRANSPORT", value: 6 }, "0019", "06000000"],
  [{ type: "DONT-FRAGMENT", value: true }, "001a", ""],
  [{ type: "RESERVATION-TOKEN", value: fromHex("0102030405060708") }, "0022", "0102030405060708"],
  [{ type: "CONNECTION-ID", value: 0xdeadbeef }, "002a", "deadbeef"],
  [{ type: "ADDITIONAL-ADDRESS-FAMILY", value: 6 }, "8000", "02000000"],
  [
    { type: "ADDRESS-ERROR-CODE", value: { family: 6, code: 440, reason: "no" } },
    "8001",
    "020004286e6f",
  ],
  [{ type: "ICMP", value: { type: 3, code: 4, data: 1400 } }, "8004", "0000060400000578"],
  [{ type: "MOBILITY-TICKET", value: fromHex("") }, "8030", ""],
];

for (const [attribute, code, value] of FIGURES) {
  Deno.test(`${attribute.type} ${value || "without a value"} is encoded as in its figure`, () => {
    const bytes = messageWith(code, value);
    assertEquals(decodeMessage(bytes).attributes, [attribute]);
    assertEquals(encodeMessage(decodeMessage(bytes)), bytes);
  });
}

for (
  const [name, code, value] of [
    ["CHANNEL-NUMBER", "000c", "4001"],
    ["LIFETIME", "000d", "000258"],
    ["REQUESTED-ADDRESS-FAMILY", "0017", "03000000"],
    ["EVEN-PORT", "0018", "8000"],
    ["DONT-FRAGMENT", "001a", "00000000"],
    ["RESERVATION-TOKEN", "0022", "01020304"],
    ["CONNECTION-ID", "002a", "0102"],
    ["ADDRESS-ERROR-CODE", "8001", "07000428"],
    ["ICMP", "8004", "00000604"],
  ] as const
) {
  Deno.test(`decodeMessage() rejects ${name} of ${value}`, () => {
    assertThrows(() => decodeMessage(messageWith(code, value)), MalformedMessageError, name);
  });
}

Deno.test("ChannelData of coturn's client is decoded, and encoded again byte for byte", () => {
  const data = captures.CHANNEL_DATA.subarray(4);
  assertEquals(decodeChannelData(captures.CHANNEL_DATA), { channel: 0x4bca, data });
  assertEquals(encodeChannelData({ channel: 0x4bca, data }), captures.CHANNEL_DATA);
});

Deno.test("ChannelData is padded to a multiple of four, and any padding is ignored", () => {
  const message = { channel: 0x4000, data: fromHex("0102030405") };
  assertEquals(encodeChannelData(message), fromHex("400000050102030405000000"));
  assertEquals(decodeChannelData(fromHex("400000050102030405")), message);
  assertEquals(decodeChannelData(fromHex("40000005010203040577777777")), message);
});

for (
  const [what, bytes, error] of [
    ["no bytes", "", "channel number needs 2 bytes"],
    ["half a header", "400000", "length needs 2 bytes"],
    ["less data than announced", "4000000501020304", "application data needs 5 bytes"],
    ["a STUN message", "000100002112a442", "1 is not a channel number"],
    ["a channel number that RFC 8656 has removed", "50000000", "20480 is not a channel number"],
  ] as const
) {
  Deno.test(`decodeChannelData() rejects ${what}`, () => {
    assertThrows(() => decodeChannelData(fromHex(bytes)), MalformedMessageError, error);
  });
}

Deno.test("encodeChannelData() rejects values that do not fit", () => {
  const data = new Uint8Array(65_536);
  assertThrows(() => encodeChannelData({ channel: 0x4000, data }), RangeError, "65536 bytes");
  for (const channel of [0x3fff, 0x5000, 0x4000 + 0.5]) {
    assertThrows(() => encodeChannelData({ channel, data: fromHex("") }), RangeError);
  }
});

Deno.test("decodeChannelData() reverses encodeChannelData()", () => {
  fc.assert(fc.property(
    fc.integer({ min: 0x4000, max: 0x4fff }),
    fc.uint8Array({ maxLength: 2000 }),
    (channel, data) => {
      assertEquals(decodeChannelData(encodeChannelData({ channel, data })), { channel, data });
    },
  ));
});

Deno.test("decodeChannelData() throws nothing but MalformedMessageError for any bytes", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 50 }), (bytes) => {
    try {
      decodeChannelData(bytes);
    } catch (error) {
      if (!(error instanceof MalformedMessageError)) throw error;
    }
  }));
});

function messageWith(code: string, value: string): Uint8Array {
  const head: StunMessage = {
    class: "request",
    method: ALLOCATE,
    transactionId: new Uint8Array(12),
    attributes: [],
  };
  const length = (value.length / 2).toString(16).padStart(4, "0");
  const padding = "00".repeat((4 - (value.length / 2) % 4) % 4);
  const bytes = concat(encodeMessage(head), fromHex(code + length + value + padding));
  bytes[3] = bytes.length - 20;
  return bytes;
}
