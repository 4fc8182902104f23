/**
 * The tickets of one identity: what each is good for, and when that ends.
 *
 * | status  | what follows                                                                         |
 * | ------- | ------------------------------------------------------------------------------------ |
 * | valid   | its holder can request a connection                                                  |
 * | used    | it was for one connection, or one transfer, which took place                         |
 * | expired | its time is over, by the clock of the side that issued it                            |
 *
 * Used and expired tickets open nothing new; connections that were made with them go on. A revoked ticket is removed.
 *
 * @module
 */

/** A ticket that was issued beside the peer's own. */
export interface IssuedTicket {
  /** Names it among the tickets of its identity; from 1. */
  readonly number: number;
  /** What its owner calls it. */
  readonly name: string | null;
  /** The ticket's own secret, 16 bytes: not derived from the identity's key. */
  readonly secret: Uint8Array;
  /** The signaling servers that it names. */
  readonly signaling: readonly string[];
  /** Whether it is good for one connection, or one transfer. */
  readonly once: boolean;
  /** Milliseconds since 1970. */
  readonly createdAtMs: number;
  /** Milliseconds since 1970; `null` if it does not expire. */
  readonly expiresAtMs: number | null;
  /** When it was used up; `null` if it was not. */
  readonly usedAtMs: number | null;
}

/** All tickets of one identity. */
export interface TicketList {
  /** How often the identity's own ticket was replaced. */
  readonly generation: number;
  /** The number of the next ticket. */
  readonly nextNumber: number;
  /** Where the identity was reachable last, for new tickets; `null` if that was by the default servers. */
  readonly signaling: readonly string[] | null;
  /** Those that were issued beside the identity's own; the oldest first. */
  readonly tickets: readonly IssuedTicket[];
}

/** What a ticket is good for. */
export type TicketStatus = "valid" | "used" | "expired";

/** What a new ticket is to be. */
export type NewTicket = Omit<IssuedTicket, "number" | "usedAtMs">;

/** A list without tickets. */
export const EMPTY_TICKET_LIST: TicketList = {
  generation: 0,
  nextNumber: 1,
  signaling: null,
  tickets: [],
};

/** What the ticket is good for at this time, in milliseconds since 1970. */
export function ticketStatus(
  { usedAtMs, expiresAtMs }: Pick<IssuedTicket, "usedAtMs" | "expiresAtMs">,
  nowMs: number,
): TicketStatus {
  if (usedAtMs !== null) return "used";
  return expiresAtMs !== null && nowMs >= expiresAtMs ? "expired" : "valid";
}

/**
 * Adds a ticket. If there are too many, the oldest that is used or expired makes room.
 *
 * @throws {RangeError} if there are too many valid tickets, or the name is taken or cannot be told from a number
 */
export function addTicket(
  list: TicketList,
  ticket: NewTicket,
): { readonly list: TicketList; readonly ticket: IssuedTicket } {
  const { name, createdAtMs } = ticket;
  if (name !== null) requireFreeName(list, name);
  const over = list.tickets.find((each) => ticketStatus(each, createdAtMs) !== "valid");
  const isFull = list.tickets.length >= MAX_TICKETS;
  if (isFull && over === undefined) {
    throw new RangeError(
      `Cannot issue another ticket: there are ${MAX_TICKETS}; revoke one of them first`,
    );
  }
  const kept = isFull ? list.tickets.filter((each) => each !== over) : list.tickets;
  const issued = { ...ticket, number: list.nextNumber, usedAtMs: null };
  return {
    list: { ...list, nextNumber: list.nextNumber + 1, tickets: [...kept, issued] },
    ticket: issued,
  };
}

/** Finds a ticket by its number or its name. */
export function findTicket(list: TicketList, which: string): IssuedTicket | undefined {
  return list.tickets.find(({ number, name }) => `${number}` === which || name === which);
}

/** Removes a ticket; number 0 replaces the identity's own. */
export function removeTicket(list: TicketList, number: number): TicketList {
  if (number === OWN_TICKET) return { ...list, generation: list.generation + 1 };
  return { ...list, tickets: list.tickets.filter((each) => each.number !== number) };
}

/** Notes that a ticket that is good for one use was used. `undefined` if it is gone, or was used before. */
export function useTicket(
  list: TicketList,
  number: number,
  nowMs: number,
): TicketList | undefined {
  const ticket = list.tickets.find((each) => each.number === number);
  if (ticket === undefined || !ticket.once || ticket.usedAtMs !== null) return undefined;
  const used = { ...ticket, usedAtMs: nowMs };
  return { ...list, tickets: list.tickets.map((each) => each === ticket ? used : each) };
}

function requireFreeName(list: TicketList, name: string): void {
  if (!TICKET_NAME.test(name) || /^\d+$/.test(name) || name === OWN_TICKET_NAME) {
    throw new RangeError(
      `Cannot call a ticket ${
        JSON.stringify(name.slice(0, MAX_SHOWN))
      }: a name has at most 64 letters, digits and marks, and is no number`,
    );
  }
  if (list.tickets.some((each) => each.name === name)) {
    throw new RangeError(`Cannot call a ticket ${name}: another ticket has this name`);
  }
}

/** The number of the identity's own ticket. */
export const OWN_TICKET = 0;

/** What the identity's own ticket is called. */
export const OWN_TICKET_NAME = "own";

/** Names are printed on terminals: no control characters, no white space. */
export const TICKET_NAME = /^[\p{L}\p{N}\p{P}\p{S}]{1,64}$/u;

/** Chosen by us: a peer listens to three topics for each, and a rendezvous allows it 64. */
export const MAX_TICKETS = 16;

/** Chosen by us: one line of a message can hold it. */
const MAX_SHOWN = 64;
