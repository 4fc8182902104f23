/**
 * The list of an identity's tickets as the text of a file, in JSON.
 *
 * ```json
 * { "version": 1, "generation": 0, "nextNumber": 2, "signaling": null,
 *   "tickets": [{ "number": 1, "name": "laptop", "secret": "base64url", "signaling": ["lan:"], "once": false,
 *                 "createdAtMs": 0, "expiresAtMs": null, "usedAtMs": null }] }
 * ```
 *
 * @module
 */

import { fromBase64url, toBase64url } from "../base/bytes.ts";
import { malformed } from "../base/errors.ts";
import { SECRET_LENGTH } from "./ticket.ts";
import { type IssuedTicket, MAX_TICKETS, TICKET_NAME, type TicketList } from "./tickets_engine.ts";

/** Encodes the list. */
export function encodeTicketList({ tickets, ...rest }: TicketList): string {
  const encoded = tickets.map((each) => ({ ...each, secret: toBase64url(each.secret) }));
  return `${JSON.stringify({ version: VERSION, ...rest, tickets: encoded }, undefined, 2)}\n`;
}

/**
 * Decodes a list.
 *
 * @throws {MalformedMessageError} if the text is not a list
 */
export function decodeTicketList(text: string): TicketList {
  const content = record(parse(text), "list");
  if (content.version !== VERSION) {
    throw malformed(WHAT, `version ${content.version} is unknown; this program reads ${VERSION}`);
  }
  const { tickets } = content;
  if (!Array.isArray(tickets) || tickets.length > MAX_TICKETS) {
    throw malformed(WHAT, `there are at most ${MAX_TICKETS} tickets`);
  }
  return {
    generation: count(content.generation, "generation"),
    nextNumber: count(content.nextNumber, "nextNumber"),
    signaling: content.signaling === null ? null : urls(content.signaling),
    tickets: tickets.map(toTicket),
  };
}

function toTicket(value: unknown): IssuedTicket {
  const ticket = record(value, "ticket");
  const { name, once } = ticket;
  if (name !== null && !(typeof name === "string" && TICKET_NAME.test(name))) {
    throw malformed(WHAT, "the name of a ticket is invalid");
  }
  if (typeof once !== "boolean") throw malformed(WHAT, "once is true or false");
  const secret = typeof ticket.secret === "string" ? fromBase64url(ticket.secret) : undefined;
  if (secret?.length !== SECRET_LENGTH) throw malformed(WHAT, "the secret of a ticket is invalid");
  const time = (name: string) => ticket[name] === null ? null : count(ticket[name], name);
  return {
    number: count(ticket.number, "number"),
    name,
    secret,
    signaling: urls(ticket.signaling),
    once,
    createdAtMs: count(ticket.createdAtMs, "createdAtMs"),
    expiresAtMs: time("expiresAtMs"),
    usedAtMs: time("usedAtMs"),
  };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw malformed(WHAT, "it is not JSON");
  }
}

function record(value: unknown, what: string): Readonly<Record<string, unknown>> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return { ...value };
  }
  throw malformed(WHAT, `a ${what} is an object`);
}

function count(value: unknown, name: string): number {
  if (Number.isSafeInteger(value) && value as number >= 0) return value as number;
  throw malformed(WHAT, `${name} is a whole number`);
}

function urls(value: unknown): readonly string[] {
  if (Array.isArray(value) && value.every((each) => typeof each === "string")) return value;
  throw malformed(WHAT, "signaling is a list of URLs");
}

const WHAT = "ticket list";
const VERSION = 1;
