import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import { decodeTicketList, encodeTicketList } from "../../lib/peer/ticket_list_message.ts";
import {
  addTicket,
  EMPTY_TICKET_LIST,
  findTicket,
  MAX_TICKETS,
  type NewTicket,
  OWN_TICKET,
  removeTicket,
  type TicketList,
  ticketStatus,
  useTicket,
} from "../../lib/peer/tickets_engine.ts";

const NOW_MS = 1_790_000_000_000;

Deno.test("a ticket is valid until its time is over, by the millisecond", () => {
  const expiring = { usedAtMs: null, expiresAtMs: NOW_MS };
  assertEquals([NOW_MS - 1, NOW_MS].map((ms) => ticketStatus(expiring, ms)), ["valid", "expired"]);
  assertEquals(ticketStatus({ usedAtMs: 1, expiresAtMs: null }, NOW_MS), "used");
});

Deno.test("tickets have numbers that are never given again", () => {
  const { list } = addTicket(EMPTY_TICKET_LIST, newTicket());
  const { ticket } = addTicket(removeTicket(list, 1), newTicket());
  assertEquals(ticket.number, 2);
});

Deno.test("a ticket is found by its number and its name", () => {
  const { list } = addTicket(EMPTY_TICKET_LIST, newTicket({ name: "laptop" }));
  assertEquals(["1", "laptop", "2", ""].map((each) => findTicket(list, each)?.number), [
    1,
    1,
    undefined,
    undefined,
  ]);
});

for (const name of ["", "5", "own", "two words", "bell\x07", "\x1b[2J", "x".repeat(65)]) {
  Deno.test(`a ticket cannot be called ${JSON.stringify(name)}`, () => {
    assertThrows(() => addTicket(EMPTY_TICKET_LIST, newTicket({ name })), RangeError);
  });
}

Deno.test("two tickets cannot have one name", () => {
  const { list } = addTicket(EMPTY_TICKET_LIST, newTicket({ name: "laptop" }));
  assertThrows(() => addTicket(list, newTicket({ name: "laptop" })), RangeError, "has this name");
});

Deno.test("a ticket that is good for one use is used once, and no other is", () => {
  let list = addTicket(EMPTY_TICKET_LIST, newTicket({ once: true })).list;
  list = addTicket(list, newTicket()).list;
  const used = useTicket(list, 1, NOW_MS)!;
  assertEquals(used.tickets.map((each) => ticketStatus(each, NOW_MS)), ["used", "valid"]);
  assertEquals([1, 2, 3].map((number) => useTicket(used, number, NOW_MS)), [
    undefined,
    undefined,
    undefined,
  ]);
});

Deno.test("tickets that are over make room, and valid ones do not", () => {
  let list = addTicket(EMPTY_TICKET_LIST, newTicket({ expiresAtMs: NOW_MS + 1 })).list;
  for (let i = 1; i < MAX_TICKETS; i++) list = addTicket(list, newTicket()).list;
  assertThrows(() => addTicket(list, newTicket()), RangeError, "revoke one of them first");
  const later = addTicket(list, newTicket({ createdAtMs: NOW_MS + 1 })).list;
  assertEquals([later.tickets.length, later.tickets[0]!.number], [MAX_TICKETS, 2]);
});

Deno.test("revoking the own ticket replaces it", () => {
  assertEquals(removeTicket(EMPTY_TICKET_LIST, OWN_TICKET).generation, 1);
});

Deno.test("a list of tickets round-trips through encode and decode", () => {
  let list: TicketList = { ...EMPTY_TICKET_LIST, signaling: ["lan:"] };
  list = addTicket(list, newTicket({ name: "laptop", once: true, expiresAtMs: NOW_MS })).list;
  assertEquals(decodeTicketList(encodeTicketList(list)), list);
});

Deno.test("decoding a list of tickets throws nothing but MalformedMessageError", () => {
  const valid = encodeTicketList(addTicket(EMPTY_TICKET_LIST, newTicket({ name: "a" })).list);
  const attempt = (text: string) => {
    try {
      decodeTicketList(text);
    } catch (error) {
      if (!(error instanceof MalformedMessageError)) throw error;
    }
  };
  fc.assert(fc.property(fc.json(), attempt));
  fc.assert(fc.property(fc.nat(valid.length), fc.string(), (at, text) => {
    attempt(valid.slice(0, at) + text + valid.slice(at + text.length));
  }));
});

function newTicket(ticket: Partial<NewTicket> = {}): NewTicket {
  return {
    name: null,
    secret: new Uint8Array(16).fill(7),
    signaling: ["lan:"],
    once: false,
    createdAtMs: NOW_MS,
    expiresAtMs: null,
    ...ticket,
  };
}
