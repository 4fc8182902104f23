/**
 * `peers`: names for friends, in the user's settings. `connect` and `recv` take a name in place of a ticket.
 *
 * @module
 */

import { toBase64url } from "../base/bytes.ts";
import { PEER_TIMINGS, type PeerOptions } from "../peer/options.ts";
import { decodeTicket } from "../peer/ticket.ts";
import { type Arguments, readCommand } from "./arguments.ts";
import { changeConfig, readConfig, withConfig } from "./config.ts";
import { isFriendName } from "./config_message.ts";
import { type CliIo, EXIT, printFailure, UsageError } from "./io.ts";
import { ConnectionEvents, reportFailure } from "./peer_events.ts";
import { openPeerInput, type PeerInput, readPeerOptions } from "./peer_options.ts";
import { ask, canAsk } from "./question.ts";
import { openPool, readTarget, sayLooking } from "./target.ts";
import { TicketUrls } from "./ticket_urls.ts";

/**
 * Runs the command; returns its exit code.
 *
 * @throws {UsageError} if the command line is wrong, or the settings cannot be used
 */
export async function peers(args: readonly string[], io: CliIo): Promise<number> {
  const [name = "", ...rest] = args;
  return await COMMANDS[name]!(rest, io);
}

async function add(args: readonly string[], io: CliIo): Promise<number> {
  const read = readCommand("peers add", args);
  const given = await withConfig(read);
  const [name, ...operands] = given.operands as [string, ...string[]];
  if (!isFriendName(name)) {
    throw new UsageError(
      `${name} cannot be a name: use letters, digits, dots, hyphens and underscores, a letter first`,
    );
  }
  const input = openPeerInput(io);
  const asJson = given.flags.has("json");
  const known = (await readConfig()).peers.get(name);
  const replaced = known && idOf(known.ticket);
  if (replaced !== undefined && !await mayReplace(name, replaced, given, input)) {
    const message = `Cannot add ${name}: there is a friend of this name, whose ID is ${replaced}`;
    printFailure({ message, remedy: "Choose another name, or add --replace" }, io);
    return EXIT.failure;
  }
  const target = await readTarget({ ...given, operands }, input, { newName: name });
  const events = new ConnectionEvents(io, { asJson, isStdoutFree: true });
  const options = await readPeerOptions(given, input, undefined);
  let ticket: string;
  try {
    ticket = target.kind === "ticket"
      ? target.ticket
      : await redeem(target.code, options, { events, io });
  } catch (error) {
    io.signal.throwIfAborted();
    return reportFailure(error, events, io, { demandsDirect: false });
  }
  const urls = new TicketUrls(input, events, options);
  await urls.ask(ticket, { asks: asJson ? "never" : "always" });
  const servers = urls.agreed;
  await changeConfig((config) => ({
    ...config,
    peers: new Map([...config.peers, [name, { ticket, servers }]]),
  }));
  const id = idOf(ticket);
  if (asJson) io.out(JSON.stringify({ event: "added", name, id, replaced: replaced ?? null }));
  else if (replaced === undefined) io.err(`Added ${name}, whose ID is ${id}`);
  else io.err(`Replaced ${name}, whose ID was ${replaced} and is ${id} now`);
  return EXIT.ok;
}

/** Asks, before a code is spent, unless `--replace` was given. */
async function mayReplace(
  name: string,
  id: string,
  { flags }: Pick<Arguments, "flags">,
  { io, stdin }: PeerInput,
): Promise<boolean> {
  if (flags.has("replace")) return true;
  if (flags.has("json") || !canAsk(io)) return false;
  const facts = [`${name} is a friend already, whose ID is ${id}`];
  return await ask({ facts, text: "Replace it?" }, io, stdin) === "yes";
}

async function list(args: readonly string[], io: CliIo): Promise<number> {
  const { flags } = readCommand("peers list", args);
  const { peers } = await readConfig();
  const known = [...peers].map(([name, { ticket }]) => ({ name, id: idOf(ticket) }));
  if (flags.has("json")) io.out(JSON.stringify({ peers: known }));
  else if (known.length === 0) io.err("No names yet: `punchline peers add NAME TICKET` adds one");
  else for (const { name, id } of known) io.out(`${name}  ${id}`);
  return EXIT.ok;
}

async function remove(args: readonly string[], io: CliIo): Promise<number> {
  const { flags, operands } = readCommand("peers remove", args);
  const name = operands[0]!;
  if (!(await readConfig()).peers.has(name)) {
    const message = `Cannot remove ${name}: there is no such friend`;
    printFailure({ message, remedy: "`punchline peers list` shows all" }, io);
    return EXIT.failure;
  }
  await changeConfig((config) => ({
    ...config,
    peers: new Map([...config.peers].filter(([each]) => each !== name)),
  }));
  if (flags.has("json")) io.out(JSON.stringify({ event: "removed", name }));
  else io.err(`Removed ${name}`);
  return EXIT.ok;
}

async function redeem(
  code: string,
  { signaling, proxy }: PeerOptions,
  { events, io }: { readonly events: ConnectionEvents; readonly io: CliIo },
): Promise<string> {
  sayLooking(code, events);
  const { redeemTicket } = await import("../peer/codes.ts");
  await using pool = openPool(io, proxy);
  const urls = (signaling ?? []).filter((each) => typeof each === "string");
  const { answerMs: timeoutMs } = PEER_TIMINGS;
  return await redeemTicket({ pool, urls }, code, { timeoutMs, signal: io.signal });
}

function idOf(ticket: string): string {
  return toBase64url(decodeTicket(ticket).publicKey);
}

const COMMANDS: Readonly<
  Record<string, (args: readonly string[], io: CliIo) => Promise<number>>
> = { add, list, remove };
