import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { toHex } from "../../lib/base/bytes.ts";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import { decodeTicket, encodeTicket, type Ticket } from "../../lib/peer/ticket.ts";

/** By Python's hashlib and base64: version 1, public key 00..1f, secret a0..af, one URL. */
const GOLDEN = "punchline:AQABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f" +
  "oKGio6SlpqeoqaqrrK2urwETd3M6Ly8xOTIuMC4yLjE6MzQ4MDo26ok";

const TICKET: Ticket = {
  publicKey: Uint8Array.from({ length: 32 }, (_, index) => index),
  secret: Uint8Array.from({ length: 16 }, (_, index) => 0xa0 + index),
  signaling: ["ws://192.0.2.1:3480"],
};

const tickets = fc.record({
  publicKey: fc.uint8Array({ minLength: 32, maxLength: 32 }),
  secret: fc.uint8Array({ minLength: 16, maxLength: 16 }),
  signaling: fc.array(fc.webUrl({ size: "small" }).filter((url) => url.length < 200), {
    maxLength: 8,
  }),
});

Deno.test("encodeTicket() writes the bytes that the layout specifies", () => {
  assertEquals(encodeTicket(TICKET), GOLDEN);
  assertEquals(decodeTicket(GOLDEN), TICKET);
});

Deno.test("a ticket round-trips through encode and decode", () => {
  fc.assert(fc.property(tickets, (ticket) => {
    assertEquals(decodeTicket(encodeTicket(ticket)), ticket);
  }));
});

Deno.test("encodeTicket() writes nothing that a shell or a URL would change", () => {
  fc.assert(fc.property(tickets, (ticket) => {
    assertEquals(/^punchline:[A-Za-z0-9_-]+$/.test(encodeTicket(ticket)), true);
  }));
});

Deno.test("decodeTicket() ignores what pasting adds", () => {
  const text = encodeTicket(TICKET);
  const pasted = `  PUNCHLINE:${text.slice(10, 40)}\r\n   ${text.slice(40)}\n`;
  assertEquals(decodeTicket(pasted), TICKET);
});

Deno.test("decodeTicket() detects every changed character", () => {
  const text = encodeTicket(TICKET);
  for (let index = 0; index < text.length; index++) {
    const other = text[index] === "A" ? "B" : "A";
    const changed = text.slice(0, index) + other + text.slice(index + 1);
    assertThrows(() => decodeTicket(changed), MalformedMessageError);
  }
});

Deno.test("decodeTicket() rejects every truncated ticket", () => {
  const text = encodeTicket(TICKET);
  for (let length = 0; length < text.length; length++) {
    assertThrows(() => decodeTicket(text.slice(0, length)), MalformedMessageError);
  }
});

Deno.test("decodeTicket() throws nothing but MalformedMessageError", () => {
  fc.assert(fc.property(fc.string(), fc.uint8Array(), (text, bytes) => {
    for (const each of [text, `punchline:${text}`, `punchline:${toHex(bytes)}`]) {
      assertThrows(() => decodeTicket(each), MalformedMessageError);
    }
  }));
});

Deno.test("encodeTicket() rejects invalid fields", () => {
  const bad: Partial<Ticket>[] = [
    { publicKey: new Uint8Array(31) },
    { secret: new Uint8Array(17) },
    { signaling: Array.from({ length: 9 }, () => "lan:") },
    { signaling: [`ws://${"a".repeat(300)}`] },
    { signaling: ["ws://a\u001b[2J"] },
  ];
  for (const change of bad) {
    assertThrows(() => encodeTicket({ ...TICKET, ...change }), RangeError);
  }
});
