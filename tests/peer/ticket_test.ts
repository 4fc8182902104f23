import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { concat, fromBase64url, toBase64url, toHex } from "../../lib/base/bytes.ts";
import { hash } from "../../lib/base/crypto.ts";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import { decodeTicket, encodeTicket, type Ticket, ticketForQr } from "../../lib/peer/ticket.ts";
import { DEFAULT_SIGNALING, PUBLIC_BROKERS } from "../../lib/signal/open.ts";

/** By Python's hashlib and base64: version 1, public key 00..1f, secret a0..af, one URL. */
const GOLDEN = "punchline:AQABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f" +
  "oKGio6SlpqeoqaqrrK2urwETd3M6Ly8xOTIuMC4yLjE6MzQ4MDo26ok";

/** The same bytes, by Python's base64.b32encode(). */
const GOLDEN_BASE32 = "PUNCHLINE:" +
  "AEAACAQDAQCQMBYIBEFAWDANBYHRAEISCMKBKFQXDAMRUGY4DUPB7IFBUKR2JJNGU6UKTK" +
  "VLVSW25LYBCN3XGORPF4YTSMROGAXDELRRHIZTIOBQHI3OVCI";

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

Deno.test("a ticket for the usual ways to meet has 90 characters, and names them by their places", () => {
  const ticket = { ...TICKET, signaling: DEFAULT_SIGNALING };
  const text = encodeTicket(ticket);
  assertEquals(text.length, 90);
  assertEquals(decodeTicket(text), ticket);
  const bytes = fromBase64url(text.slice("punchline:".length))!;
  assertEquals(toHex(bytes.slice(49, -4)), "03000000010002");
});

Deno.test("all public brokers are well-known", () => {
  for (const url of PUBLIC_BROKERS) {
    assertEquals(encodeTicket({ ...TICKET, signaling: [url] }).length, 85, url);
  }
});

Deno.test("decodeTicket() rejects a place in the list of URLs that is not taken", () => {
  const bytes = fromBase64url(encodeTicket({ ...TICKET, signaling: ["lan:"] }).slice(10))!;
  const content = Uint8Array.from([...bytes.slice(0, -5), 200]);
  const text = toBase64url(concat(content, hash("sha256", content).subarray(0, 4)));
  assertThrows(
    () => decodeTicket(`punchline:${text}`),
    MalformedMessageError,
    "does not know",
  );
});

Deno.test("a ticket in a QR code is base32, and reads the same", () => {
  assertEquals(ticketForQr(GOLDEN), GOLDEN_BASE32);
  fc.assert(fc.property(tickets, (ticket) => {
    const text = ticketForQr(encodeTicket(ticket));
    assertEquals(/^PUNCHLINE:[A-Z2-7]+$/.test(text), true);
    assertEquals(decodeTicket(text), ticket);
  }));
});

Deno.test("decodeTicket() detects every changed character of a ticket from a QR code", () => {
  const text = ticketForQr(GOLDEN);
  for (let index = 0; index < text.length; index++) {
    const other = text[index] === "A" ? "B" : "A";
    const changed = text.slice(0, index) + other + text.slice(index + 1);
    assertThrows(() => decodeTicket(changed), MalformedMessageError);
  }
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
