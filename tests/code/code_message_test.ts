import { assertEquals, assertThrows } from "@std/assert";
import { toHex } from "../../lib/base/bytes.ts";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import { type CodeMessage, decodeCodeMessage, encodeCodeMessage } from "../../lib/code/message.ts";

const id = Uint8Array.from({ length: 16 }, (_, index) => index);
const share = new Uint8Array(32).fill(0xaa);
const other = new Uint8Array(32).fill(0xdd);
const tag = new Uint8Array(32).fill(0xbb);
const ciphertext = new Uint8Array(16).fill(0xcc);

const MESSAGES: readonly [CodeMessage, string][] = [
  [{ kind: "hello", id, share }, `01${toHex(id)}${toHex(share)}`],
  [{ kind: "share", id, share }, `02${toHex(id)}${toHex(share)}`],
  [
    { kind: "confirm", id, share, offererShare: other, tag },
    `03${toHex(id)}${toHex(share)}${toHex(other)}${toHex(tag)}`,
  ],
  [{ kind: "ticket", id, tag, ciphertext }, `04${toHex(id)}${toHex(tag)}${toHex(ciphertext)}`],
  [{ kind: "refusal", id, reason: "wrong" }, `05${toHex(id)}01`],
  [{ kind: "refusal", id, reason: "spent" }, `05${toHex(id)}02`],
  [{ kind: "refusal", id, reason: "expired" }, `05${toHex(id)}03`],
  [{ kind: "refusal", id, reason: "out-of-guesses" }, `05${toHex(id)}04`],
  [{ kind: "probe", id }, `06${toHex(id)}`],
  [{ kind: "taken", id }, `07${toHex(id)}`],
];

Deno.test("code messages have the documented bytes, and are read back", () => {
  for (const [message, hex] of MESSAGES) {
    const bytes = encodeCodeMessage(message);
    assertEquals(toHex(bytes), `504e4b01${hex}`);
    assertEquals(decodeCodeMessage(bytes), message);
  }
});

Deno.test("decodeCodeMessage() rejects every truncated and every longer message", () => {
  for (const [message] of MESSAGES) {
    const bytes = encodeCodeMessage(message);
    for (let length = 0; length < bytes.length; length++) {
      assertThrows(() => decodeCodeMessage(bytes.subarray(0, length)), MalformedMessageError);
    }
    if (message.kind === "ticket") continue; // as long as its ciphertext
    const longer = new Uint8Array([...bytes, 0]);
    assertThrows(() => decodeCodeMessage(longer), MalformedMessageError, "too many");
  }
});

Deno.test("decodeCodeMessage() rejects what it does not know", () => {
  const cases: [string, string][] = [
    [`504e4b02${"01"}${toHex(id)}${toHex(share)}`, "version"],
    [`504e4b01${"08"}${toHex(id)}`, "kind 8"],
    [`504e4b01${"05"}${toHex(id)}05`, "reason 5"],
    [`504e4b01${"04"}${toHex(id)}${toHex(tag)}${"00".repeat(4001)}`, "4001 bytes"],
  ];
  for (const [hex, message] of cases) {
    const bytes = Uint8Array.fromHex(hex);
    assertThrows(() => decodeCodeMessage(bytes), MalformedMessageError, message);
  }
});
