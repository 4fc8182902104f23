/**
 * The tickets under which a peer is reachable: its own, those that the program issued, and those in a list beside the key
 * file.
 *
 * @module
 */

import { toBase64url } from "../base/bytes.ts";
import { hmac } from "../base/crypto.ts";
import { NetworkError } from "../base/errors.ts";
import { encodeTicket, SECRET_LENGTH, type Ticket, TicketSecrets } from "./ticket.ts";
import {
  addTicket,
  EMPTY_TICKET_LIST,
  type IssuedTicket,
  removeTicket,
  type TicketList,
  ticketStatus,
} from "./tickets_engine.ts";

/** What a new ticket is good for. */
export interface TicketOptions {
  /** Whether it is good for one connection. Default: false. */
  readonly once?: boolean;
  /** How long it is good for, by this side's clock. Default: until it is revoked, or the peer is closed. */
  readonly expiresMs?: number;
}

/** A list of tickets that is kept elsewhere, such as in a file. */
export interface TicketSource {
  /** The list as it is now. */
  readonly list: TicketList;
  /** What uses up a ticket that is good for one use: a connection, or whatever the application notes itself. */
  readonly onceMeans: "connection" | "transfer";
  /** Calls back whenever the list has changed, until the signal aborts. */
  follow(signal: AbortSignal, onChange: () => void): Promise<void>;
  /**
   * Notes that a ticket was used.
   *
   * @param signal ends the wait for other programs that change the list
   * @returns false if it was used or revoked before
   */
  use(number: number, signal?: AbortSignal): Promise<boolean>;
}

/** A ticket under which the peer is reachable. */
export class ListenedTicket {
  /** The keys and topics that follow from it. */
  readonly secrets: TicketSecrets;
  /** Its number, if it is on a list. */
  readonly number: number | undefined;
  readonly #revoked = new AbortController(); // revoking ends whatever was begun with the ticket
  readonly #source: TicketSource | undefined;
  #issued: IssuedTicket | undefined;

  /** @param issued `undefined` for the peer's own ticket */
  constructor(ticket: Ticket, issued?: IssuedTicket, source?: TicketSource) {
    this.secrets = new TicketSecrets(ticket);
    this.number = source === undefined ? undefined : issued?.number;
    this.#issued = issued;
    this.#source = source;
  }

  /** Aborted when the ticket is revoked. */
  get revoked(): AbortSignal {
    return this.#revoked.signal;
  }

  /** Whether it may open another connection. */
  get isValid(): boolean {
    if (this.revoked.aborted) return false;
    return this.#issued === undefined || ticketStatus(this.#issued, Date.now()) === "valid";
  }

  /** Takes over what has changed. */
  update(issued: IssuedTicket): void {
    const usedAtMs = issued.usedAtMs ?? this.#issued?.usedAtMs ?? null;
    this.#issued = { ...issued, usedAtMs };
  }

  /**
   * Notes that there is a connection.
   *
   * @throws {NetworkError} if the ticket was good for one, and there was one before, or if it was revoked meanwhile
   * @throws what the list's source throws
   */
  async use(signal?: AbortSignal): Promise<void> {
    if (this.revoked.aborted) throw this.revoked.reason;
    const issued = this.#issued;
    if (issued === undefined || !issued.once || this.#source?.onceMeans === "transfer") return;
    const isFirst = issued.usedAtMs === null;
    this.#issued = { ...issued, usedAtMs: issued.usedAtMs ?? Date.now() };
    if (isFirst && await this.#noteAtSource(issued.number, signal)) return;
    throw new NetworkError(
      "Cannot accept: the ticket was good for one connection, and there was one",
      "closed",
      { remedy: "Give the other side another ticket" },
    );
  }

  async #noteAtSource(number: number, signal: AbortSignal | undefined): Promise<boolean> {
    try {
      return await this.#source?.use(number, signal) ?? true;
    } catch (error) {
      this.#issued = { ...this.#issued!, usedAtMs: null }; // it was not noted, so it may be tried again
      throw error;
    }
  }

  /** Makes it open nothing any more, and ends what was begun with it. */
  revoke(): void {
    this.#revoked.abort(
      new NetworkError("Cannot connect: the ticket was revoked", "closed", {
        remedy: "Use another ticket of this peer",
      }),
    );
  }
}

/** The tickets under which a peer is reachable. */
export class Tickets {
  readonly #identity: Pick<Ticket, "publicKey" | "signaling">;
  readonly #secretKey: Uint8Array;
  readonly #source: TicketSource | undefined;
  /** By secret. */
  readonly #listened = new Map<string, ListenedTicket>();
  /** Those that the program issued: they live and die with it. */
  #list = EMPTY_TICKET_LIST;
  #own: Ticket;
  /** The generation of the peer's own ticket, as the source had it. */
  #generation: number;
  /** Those of the source that the program has revoked. */
  readonly #revoked = new Set<string>();
  #onChange = () => {};

  constructor(
    identity: Pick<Ticket, "publicKey" | "signaling">,
    secretKey: Uint8Array,
    source?: TicketSource,
  ) {
    this.#identity = identity;
    this.#secretKey = secretKey.slice();
    this.#source = source;
    this.#generation = source?.list.generation ?? 0;
    this.#own = this.#ticketOf(ownSecret(secretKey, this.#generation));
    this.#listened.set(nameOf(this.#own.secret), new ListenedTicket(this.#own));
    this.refresh();
  }

  /** The peer's own ticket, as text. */
  get own(): string {
    return encodeTicket(this.#own);
  }

  /** All of them. */
  get listened(): Iterable<ListenedTicket> {
    return this.#listened.values();
  }

  /** Called when there are other tickets than before. */
  set onChange(onChange: () => void) {
    this.#onChange = onChange;
  }

  /**
   * Issues a ticket that lives until it is revoked, used up or expired, or the program ends.
   *
   * @returns its text
   * @throws {RangeError} if there are too many, or the time is invalid
   */
  create({ once = false, expiresMs }: TicketOptions): string {
    if (expiresMs !== undefined && !(expiresMs > 0)) {
      throw new RangeError(`Cannot issue a ticket: expiresMs is more than 0, not ${expiresMs}`);
    }
    const createdAtMs = Date.now();
    const isForever = expiresMs === undefined || expiresMs === Infinity;
    const { list, ticket } = addTicket(this.#list, {
      name: null,
      secret: newSecret(),
      signaling: this.#identity.signaling,
      once,
      createdAtMs,
      expiresAtMs: isForever ? null : createdAtMs + expiresMs,
    });
    this.#list = list;
    const full = this.#ticketOf(ticket.secret);
    this.refresh();
    return encodeTicket(full);
  }

  /** Revokes a ticket; `false` if there is no such ticket. The peer's own is replaced by another. */
  revoke({ secret }: Ticket): boolean {
    const name = nameOf(secret);
    const listened = this.#listened.get(name);
    if (listened === undefined) return false;
    if (name === nameOf(this.#own.secret)) this.#replaceOwn(newSecret());
    const issued = this.#list.tickets.find((each) => nameOf(each.secret) === name);
    if (issued !== undefined) this.#list = removeTicket(this.#list, issued.number);
    this.#revoked.add(name);
    this.#listened.delete(name);
    listened.revoke();
    this.#onChange();
    return true;
  }

  /** Takes over what has changed, here or at the source. */
  refresh(): void {
    const source = this.#source;
    if (source !== undefined && source.list.generation !== this.#generation) {
      this.#generation = source.list.generation;
      const before = nameOf(this.#own.secret);
      this.#replaceOwn(ownSecret(this.#secretKey, this.#generation));
      this.#listened.get(before)?.revoke();
      this.#listened.delete(before);
    }
    const current = new Map<string, [IssuedTicket, TicketSource | undefined]>();
    for (const each of source?.list.tickets ?? []) current.set(nameOf(each.secret), [each, source]);
    for (const each of this.#list.tickets) current.set(nameOf(each.secret), [each, undefined]);
    const own = nameOf(this.#own.secret);
    for (const [name, listened] of [...this.#listened]) {
      if (name === own || current.has(name)) continue;
      this.#listened.delete(name);
      listened.revoke();
    }
    for (const [name, [issued, from]] of current) {
      if (this.#revoked.has(name)) continue;
      const listened = this.#listened.get(name);
      if (listened !== undefined) listened.update(issued);
      else {
        const full = this.#ticketOf(issued.secret);
        this.#listened.set(name, new ListenedTicket(full, issued, from));
      }
    }
    this.#onChange();
  }

  #replaceOwn(secret: Uint8Array): void {
    this.#own = this.#ticketOf(secret);
    this.#listened.set(nameOf(secret), new ListenedTicket(this.#own));
  }

  #ticketOf(secret: Uint8Array): Ticket {
    return { ...this.#identity, secret };
  }
}

/** The secret of an identity's own ticket: it stays the same as long as the key does, until it is replaced. */
export function ownSecret(secretKey: Uint8Array, generation: number): Uint8Array {
  const label = generation === 0 ? "punchline ticket" : `punchline ticket ${generation}`;
  return hmac("sha256", secretKey, new TextEncoder().encode(label)).slice(0, SECRET_LENGTH);
}

/** The secret of a ticket beside the identity's own. */
export function newSecret(): Uint8Array<ArrayBuffer> {
  return crypto.getRandomValues(new Uint8Array(SECRET_LENGTH));
}

function nameOf(secret: Uint8Array): string {
  return toBase64url(secret);
}
