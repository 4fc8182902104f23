/**
 * `ticket`: several tickets of one identity, each of which can be taken back. The list is kept beside the key file; a
 * running `listen` or `send` with the same key follows it.
 *
 * @module
 */

import { KeyPair } from "../noise/handshake.ts";
import type { PeerConnection } from "../peer/connection.ts";
import type { PeerOptions } from "../peer/options.ts";
import { encodeTicket } from "../peer/ticket.ts";
import {
  noteSignaling,
  readTicketList,
  TicketFile,
  updateTicketList,
} from "../peer/ticket_file.ts";
import { newSecret, ownSecret, type TicketSource } from "../peer/tickets.ts";
import {
  addTicket,
  findTicket,
  type IssuedTicket,
  OWN_TICKET,
  OWN_TICKET_NAME,
  removeTicket,
  type TicketList,
  ticketStatus,
} from "../peer/tickets_engine.ts";
import { DEFAULT_SIGNALING } from "../signal/open.ts";
import { type Arguments, readCommand, readDuration, readWith } from "./arguments.ts";
import { readConfig } from "./config.ts";
import { type CliIo, EXIT, printFailure, UsageError } from "./io.ts";
import { openPeerInput, readKey, readSignalUrls } from "./peer_options.ts";

/**
 * Runs the command; returns its exit code.
 *
 * @throws {UsageError} if the command line is wrong, or the key cannot be used
 * @throws {TicketFileError} if the list cannot be used
 */
export async function ticket(args: readonly string[], io: CliIo): Promise<number> {
  const [name = "", ...rest] = args;
  return await COMMANDS[name]!(rest, io);
}

/**
 * The tickets beside the file that `--key` names, for a command that listens. Notes where it listens, for new tickets.
 *
 * @throws {TicketFileError} if the list cannot be used
 */
export async function readTickets(
  { values }: Arguments,
  { signaling, logger }: PeerOptions,
  onceMeans: TicketSource["onceMeans"],
  { signal }: Pick<CliIo, "signal">,
): Promise<TicketSource | undefined> {
  const path = values.get("key");
  if (path === undefined) return undefined;
  const tickets = await TicketFile.open(path, { onceMeans, logger });
  const urls = (signaling ?? []).filter((each) => typeof each === "string");
  const noted = tickets.list.signaling ?? DEFAULT_SIGNALING;
  if (urls.length > 0 && !isSame(urls, noted)) await noteSignaling(path, urls, { signal });
  return tickets;
}

/** Notes that the transfer over this connection is finished, if its ticket was good for one. */
export async function noteTransfer(
  tickets: TicketSource | undefined,
  connection: PeerConnection | undefined,
  { signal }: Pick<CliIo, "signal">,
): Promise<void> {
  const number = connection?.ticketNumber;
  const isOnce = tickets?.list.tickets.some((each) => each.number === number && each.once);
  if (isOnce) await tickets!.use(number!, signal);
}

async function newTicket(args: readonly string[], io: CliIo): Promise<number> {
  const given = readCommand("ticket new", args);
  const { flags, values } = given;
  const expiresMs = readDuration("expires", values.get("expires"), { min: 1 });
  const urls = await readSignalUrls(given, openPeerInput(io).secrets);
  const { path, publicKey } = await readIdentity(values, io, { creates: true });
  const createdAtMs = Date.now();
  let issued: IssuedTicket | undefined;
  let text = "";
  const add = (list: TicketList) => {
    const added = readWith(() =>
      addTicket(list, {
        name: values.get("name") ?? null,
        secret: newSecret(),
        signaling: urls.length > 0 ? urls : list.signaling ?? DEFAULT_SIGNALING,
        once: flags.has("once"),
        createdAtMs,
        expiresAtMs: expiresMs === undefined ? null : createdAtMs + expiresMs,
      })
    );
    issued = added.ticket;
    text = textOf(issued, publicKey);
    return added.list;
  };
  await updateTicketList(path, add, io);
  if (flags.has("json")) io.out(JSON.stringify({ ...describe(issued!), ticket: text }));
  else {
    io.err(`Ticket ${issued!.number}: ${inWords(issued!, createdAtMs)}`);
    io.out(text);
  }
  return EXIT.ok;
}

async function listTickets(args: readonly string[], io: CliIo): Promise<number> {
  const { flags, values } = readCommand("ticket list", args);
  const { path, publicKey, secretKey } = await readIdentity(values, io, { creates: false });
  const list = await readTicketList(path);
  const own = textOf({
    secret: ownSecret(secretKey, list.generation),
    signaling: list.signaling ?? DEFAULT_SIGNALING,
  }, publicKey);
  if (flags.has("json")) {
    const tickets = [
      { number: OWN_TICKET, name: OWN_TICKET_NAME, status: "valid", ticket: own },
      ...list.tickets.map((each) => ({
        ...describe(each),
        ticket: textOf(each, publicKey),
      })),
    ];
    io.out(JSON.stringify({ tickets }));
    return EXIT.ok;
  }
  io.out(`${OWN_TICKET}  ${OWN_TICKET_NAME}: valid, until it is revoked`);
  const nowMs = Date.now();
  for (const each of list.tickets) io.out(`${each.number}  ${inWords(each, nowMs)}`);
  return EXIT.ok;
}

async function revokeTicket(args: readonly string[], io: CliIo): Promise<number> {
  const { flags, values, operands } = readCommand("ticket revoke", args);
  const which = operands[0]!;
  const { path } = await readIdentity(values, io, { creates: false });
  let number: number | undefined;
  const remove = (list: TicketList) => {
    const isOwn = which === `${OWN_TICKET}` || which === OWN_TICKET_NAME;
    number = isOwn ? OWN_TICKET : findTicket(list, which)?.number;
    return number === undefined ? list : removeTicket(list, number);
  };
  await updateTicketList(path, remove, io);
  if (number === undefined) {
    const message = `Cannot revoke ticket ${which}: there is no such ticket`;
    printFailure({ message, remedy: "`punchline ticket list` shows all" }, io);
    return EXIT.failure;
  }
  if (flags.has("json")) io.out(JSON.stringify({ event: "revoked", number }));
  else if (number === OWN_TICKET) {
    io.err("Revoked the identity's own ticket; listen and send print the new one");
  } else io.err(`Revoked ticket ${number}`);
  return EXIT.ok;
}

/** @throws {UsageError} if there are too many signaling servers, or a list has a URL that is too long */
function textOf(
  { secret, signaling }: Pick<IssuedTicket, "secret" | "signaling">,
  publicKey: Uint8Array,
): string {
  return readWith(() => encodeTicket({ publicKey, secret, signaling }));
}

async function readIdentity(
  values: ReadonlyMap<string, string>,
  io: CliIo,
  options: { readonly creates: boolean },
) {
  const path = values.get("key") ?? (await readConfig()).key;
  if (path === undefined) {
    throw new UsageError("--key is missing: name the file with the secret key, or one to create");
  }
  const secretKey = await readKey(path, io, options);
  using keyPair = new KeyPair(secretKey);
  return { path, secretKey, publicKey: keyPair.publicKey.slice() };
}

function describe({ number, name, once, expiresAtMs, usedAtMs }: IssuedTicket) {
  const status = ticketStatus({ usedAtMs, expiresAtMs }, Date.now());
  const expiresAt = expiresAtMs === null ? null : new Date(expiresAtMs).toISOString();
  return { number, name, status, once, expiresAt };
}

function inWords(ticket: IssuedTicket, nowMs: number): string {
  const { name, once, expiresAtMs } = ticket;
  const status = ticketStatus(ticket, nowMs);
  const use = once && status === "valid" ? ", for one connection or transfer" : "";
  const end = expiresAtMs === null
    ? "until it is revoked"
    : `until ${new Date(expiresAtMs).toISOString()}`;
  const what = status === "used" ? status : `${status}${use}, ${end}`;
  return name === null ? what : `${name}: ${what}`;
}

function isSame(one: readonly string[], other: readonly string[]): boolean {
  return one.length === other.length && one.every((each, index) => each === other[index]);
}

const COMMANDS: Readonly<
  Record<string, (args: readonly string[], io: CliIo) => Promise<number>>
> = { new: newTicket, list: listTickets, revoke: revokeTicket };
