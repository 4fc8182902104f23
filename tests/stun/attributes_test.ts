import { assertEquals, assertThrows } from "@std/assert";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import {
  attributeCode,
  isComprehensionRequired,
  type NamedStunAttribute,
} from "../../lib/stun/attributes.ts";
import { BINDING, decodeMessage, encodeMessage } from "../../lib/stun/message.ts";
import { concat, toHex } from "../../lib/base/bytes.ts";
import { fromHex } from "../vectors/stun_hex.ts";

const HEADER = fromHex("0101 0000 2112a442 000102030405060708090a0b");
const V4 = { ip: "192.0.2.1", port: 3478 };
const V6 = { ip: "2001:db8::1", port: 3478 };
const V4_HEX = "0001 0d96 c0000201";
const V6_HEX = "0002 0d96 20010db8000000000000000000000001";

const GOLDEN: readonly (readonly [attribute: NamedStunAttribute, code: string, value: string])[] = [
  [{ type: "MAPPED-ADDRESS", value: V4 }, "0001", V4_HEX],
  [{ type: "MAPPED-ADDRESS", value: V6 }, "0001", V6_HEX],
  [{ type: "RESPONSE-ADDRESS", value: V4 }, "0002", V4_HEX],
  [{ type: "CHANGE-REQUEST", value: { changeIp: false, changePort: false } }, "0003", "00000000"],
  [{ type: "CHANGE-REQUEST", value: { changeIp: false, changePort: true } }, "0003", "00000002"],
  [{ type: "CHANGE-REQUEST", value: { changeIp: true, changePort: false } }, "0003", "00000004"],
  [{ type: "CHANGE-REQUEST", value: { changeIp: true, changePort: true } }, "0003", "00000006"],
  [{ type: "SOURCE-ADDRESS", value: V4 }, "0004", V4_HEX],
  [{ type: "CHANGED-ADDRESS", value: V4 }, "0005", V4_HEX],
  [{ type: "USERNAME", value: "mäx" }, "0006", "6dc3a478"],
  [{ type: "PASSWORD", value: fromHex("00ff") }, "0007", "00ff"],
  [
    { type: "MESSAGE-INTEGRITY", value: new Uint8Array(20).fill(7) },
    "0008",
    "07".repeat(20),
  ],
  [{ type: "ERROR-CODE", value: { code: 300, reason: "" } }, "0009", "00000300"],
  [{ type: "ERROR-CODE", value: { code: 699, reason: "no" } }, "0009", "00000663 6e6f"],
  [{ type: "UNKNOWN-ATTRIBUTES", value: [] }, "000a", ""],
  [{ type: "UNKNOWN-ATTRIBUTES", value: [0x0024, 0x7fff] }, "000a", "00247fff"],
  [{ type: "REFLECTED-FROM", value: V4 }, "000b", V4_HEX],
  [{ type: "REALM", value: "example.org" }, "0014", "6578616d706c652e6f7267"],
  [{ type: "NONCE", value: "\ufeffn" }, "0015", "efbbbf6e"],
  [
    { type: "MESSAGE-INTEGRITY-SHA256", value: new Uint8Array(16).fill(8) },
    "001c",
    "08".repeat(16),
  ],
  [
    { type: "PASSWORD-ALGORITHM", value: { algorithm: "SHA-256", parameters: fromHex("") } },
    "001d",
    "00020000",
  ],
  [{ type: "USERHASH", value: new Uint8Array(32).fill(9) }, "001e", "09".repeat(32)],
  [{ type: "XOR-MAPPED-ADDRESS", value: V4 }, "0020", "0001 2c84 e112a643"],
  [
    { type: "XOR-MAPPED-ADDRESS", value: V6 },
    "0020",
    "0002 2c84 0113a9fa 000102030405060708090a0a",
  ],
  [{ type: "PADDING", value: fromHex("000000") }, "0026", "000000"],
  [{ type: "RESPONSE-PORT", value: 3478 }, "0027", "0d96"],
  [
    {
      type: "PASSWORD-ALGORITHMS",
      value: [
        { algorithm: "SHA-256", parameters: fromHex("") },
        { algorithm: "MD5", parameters: fromHex("") },
        { algorithm: 0x0102, parameters: fromHex("aabbcc") },
      ],
    },
    "8002",
    "00020000 00010000 01020003 aabbcc00",
  ],
  [{ type: "ALTERNATE-DOMAIN", value: "example.org" }, "8003", "6578616d706c652e6f7267"],
  [{ type: "SOFTWARE", value: "x" }, "8022", "78"],
  [{ type: "ALTERNATE-SERVER", value: V6 }, "8023", V6_HEX],
  [{ type: "FINGERPRINT", value: 0xfedcba98 }, "8028", "fedcba98"],
  [{ type: "RESPONSE-ORIGIN", value: V4 }, "802b", V4_HEX],
  [{ type: "OTHER-ADDRESS", value: V6 }, "802c", V6_HEX],
];

for (const [attribute, code, hex] of GOLDEN) {
  Deno.test(`${attribute.type} of ${describe(attribute)} is encoded and decoded`, () => {
    const value = fromHex(hex);
    const bytes = messageOf(code, value);
    assertEquals(toHex(write(attribute)), toHex(bytes));
    assertEquals<unknown>(decodeMessage(bytes).attributes, [attribute]);
    assertEquals(attributeCode(attribute.type), parseInt(code, 16));
  });
}

Deno.test("decodeMessage() accepts a RESPONSE-PORT of 4 bytes, as coturn writes it, and of 2, as stuntman does", () => {
  assertEquals(read("0027", "0d96 0000"), { type: "RESPONSE-PORT", value: 3478 });
  assertEquals(read("0027", "0d96"), { type: "RESPONSE-PORT", value: 3478 });
});

Deno.test("decodeMessage() ignores reserved bits", () => {
  assertEquals(read("0001", "ff01 0d96 c0000201"), { type: "MAPPED-ADDRESS", value: V4 });
  assertEquals(read("0003", "fffffff9"), {
    type: "CHANGE-REQUEST",
    value: { changeIp: false, changePort: false },
  });
  assertEquals(read("0009", "ffff fc 26"), {
    type: "ERROR-CODE",
    value: { code: 438, reason: "" },
  });
});

Deno.test("decodeMessage() accepts PASSWORD-ALGORITHMS without padding after the last one", () => {
  assertEquals(read("8002", "0102 0001 aa"), {
    type: "PASSWORD-ALGORITHMS",
    value: [{ algorithm: 0x0102, parameters: fromHex("aa") }],
  });
});

Deno.test("decodeMessage() accepts invalid UTF-8 in text for people", () => {
  assertEquals(read("8022", "c4"), { type: "SOFTWARE", value: "\ufffd" });
  assertEquals(read("0009", "00000400 c4"), {
    type: "ERROR-CODE",
    value: { code: 400, reason: "\ufffd" },
  });
});

for (
  const [code, hex, message] of [
    ["0001", "", "Cannot read MAPPED-ADDRESS: it has 0 bytes"],
    ["0001", "0001 0d96 c00002", "it has 7 bytes, not 8 to 20"],
    ["0001", "0001 0d96 c0000201 00", "it has 9 bytes, not 8"],
    ["0020", "0002 0d96 c0000201", "Cannot read XOR-MAPPED-ADDRESS: it has 8 bytes, not 20"],
    ["0020", "0003 0d96 c0000201", "address family 3 is unknown"],
    ["0003", "000000", "Cannot read CHANGE-REQUEST: it has 3 bytes, not 4"],
    ["0003", "0000000000", "it has 5 bytes, not 4"],
    ["0006", "ff", "Cannot read USERNAME: it is not UTF-8"],
    ["0006", "61".repeat(514), "it has 514 bytes, not 0 to 513"],
    ["0008", "00".repeat(19), "Cannot read MESSAGE-INTEGRITY: it has 19 bytes, not 20"],
    ["0009", "000004", "Cannot read ERROR-CODE: it has 3 bytes"],
    ["0009", "00000200", "class 2, number 0"],
    ["0009", "00000700", "class 7, number 0"],
    ["0009", "00000464", "class 4, number 100"],
    ["0009", "00000400" + "61".repeat(764), "it has 768 bytes"],
    ["000a", "0001 00", "Cannot read UNKNOWN-ATTRIBUTES: 3 is an odd number of bytes"],
    ["0014", "61".repeat(764), "Cannot read REALM: it has 764 bytes"],
    ["0015", "c3", "Cannot read NONCE: it is not UTF-8"],
    ["001c", "00".repeat(15), "Cannot read MESSAGE-INTEGRITY-SHA256: it has 15 bytes"],
    ["001c", "00".repeat(33), "it has 33 bytes, not 16 to 32"],
    ["001d", "", "Cannot read PASSWORD-ALGORITHM: it must hold exactly one algorithm"],
    ["001d", "0001", "2 bytes are too few for an algorithm"],
    ["001d", "00010001", "parameters have 1 bytes, 0 are left"],
    ["001d", "00010000 00020000", "it must hold exactly one algorithm"],
    ["001e", "00".repeat(31), "Cannot read USERHASH: it has 31 bytes, not 32"],
    ["0027", "0d", "Cannot read RESPONSE-PORT: it has 1 bytes, not 2"],
    ["0027", "0d9600", "it has 3 bytes, not 2"],
    ["8002", "00010000".repeat(33), "Cannot read PASSWORD-ALGORITHMS: it lists more than 32"],
    ["8003", "61".repeat(256), "Cannot read ALTERNATE-DOMAIN: it has 256 bytes"],
    ["8028", "0000", "Cannot read FINGERPRINT: it has 2 bytes, not 4"],
  ] as const
) {
  Deno.test(`decodeMessage() rejects attribute 0x${code} of ${abbreviate(hex)}`, () => {
    assertThrows(() => read(code, hex), MalformedMessageError, message);
  });
}

for (
  const [attribute, error, message] of [
    [{ type: "MAPPED-ADDRESS", value: { ip: "192.0.2.1", port: 65536 } }, RangeError, "65536"],
    [{ type: "MAPPED-ADDRESS", value: { ip: "192.0.2.256", port: 1 } }, TypeError, "192.0.2.256"],
    [{ type: "MAPPED-ADDRESS", value: { ip: "192.0.2", port: 1 } }, TypeError, "192.0.2"],
    [{ type: "MAPPED-ADDRESS", value: { ip: "1.2.3.4.5", port: 1 } }, TypeError, "1.2.3.4.5"],
    [{ type: "MAPPED-ADDRESS", value: { ip: "01.2.3.4", port: 1 } }, TypeError, "01.2.3.4"],
    [{ type: "MAPPED-ADDRESS", value: { ip: "name", port: 1 } }, TypeError, "name"],
    [{ type: "MAPPED-ADDRESS", value: { ip: ":::", port: 1 } }, TypeError, ":::"],
    [{ type: "ERROR-CODE", value: { code: 299, reason: "" } }, RangeError, "299"],
    [{ type: "ERROR-CODE", value: { code: 700, reason: "" } }, RangeError, "700"],
    [{ type: "USERNAME", value: "ü".repeat(257) }, RangeError, "514 bytes"],
    [{ type: "RESPONSE-PORT", value: -1 }, RangeError, "-1"],
    [{ type: "UNKNOWN-ATTRIBUTES", value: [0x10000] }, RangeError, "65536"],
    [{ type: "FINGERPRINT", value: 0.5 }, RangeError, "0.5"],
    [{ type: "USERHASH", value: new Uint8Array(31) }, RangeError, "not 31"],
  ] as const
) {
  Deno.test(`encodeMessage() rejects ${attribute.type} of ${describe(attribute)}`, () => {
    assertThrows(() => write(attribute), error, message);
  });
}

Deno.test("isComprehensionRequired() distinguishes the two halves of the registry", () => {
  assertEquals(isComprehensionRequired(0x7fff), true);
  assertEquals(isComprehensionRequired(0x8000), false);
});

function write(attribute: NamedStunAttribute): Uint8Array {
  return encodeMessage({
    class: "success",
    method: BINDING,
    transactionId: HEADER.slice(8),
    attributes: [attribute],
  });
}

function read(code: string, hex: string): unknown {
  return decodeMessage(messageOf(code, fromHex(hex))).attributes[0];
}

function messageOf(code: string, value: Uint8Array): Uint8Array {
  const padding = new Uint8Array((4 - value.length % 4) % 4);
  const length = Uint8Array.of(value.length >> 8, value.length);
  const bytes = concat(HEADER, fromHex(code), length, value, padding);
  new DataView(bytes.buffer).setUint16(2, bytes.length - 20);
  return bytes;
}

function describe({ value }: NamedStunAttribute): string {
  return abbreviate(value instanceof Uint8Array ? toHex(value) : JSON.stringify(value));
}

function abbreviate(text: string): string {
  return text.length > 40 ? `${text.slice(0, 40)}... (${text.length})` : text || "nothing";
}
