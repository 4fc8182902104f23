/**
 * What `connect` and `recv` connect to: a ticket, a code, or the name of a friend.
 *
 * @module
 */

import { MalformedMessageError } from "../base/errors.ts";
import type { PeerOptions } from "../peer/options.ts";
import type { Peer } from "../peer/peer.ts";
import { SignalingPool } from "../peer/pools.ts";
import { decodeTicket, looksLikeCode } from "../peer/ticket.ts";
import { openSignaling } from "../signal/open.ts";
import type { Arguments } from "./arguments.ts";
import { type CliIo, UsageError } from "./io.ts";
import type { ConnectionEvents } from "./peer_events.ts";
import type { PeerInput } from "./peer_options.ts";
import { networkThrough } from "./proxy.ts";

/** What the command line names. */
export type Target =
  | {
    readonly kind: "ticket";
    readonly ticket: string;
    /** Private servers of the ticket that were agreed to before. */
    readonly servers: readonly string[];
  }
  /** As text, without typing errors. */
  | { readonly kind: "code"; readonly code: string };

/**
 * Reads what the command is given, with whatever was pasted around it: from the arguments, or from where they say.
 *
 * @param options.newName what it is to be called, if it is not used at once
 * @throws {UsageError} if it is missing or damaged, or there is no friend of that name
 */
export async function readTarget(
  { operands, flags }: Pick<Arguments, "operands" | "flags">,
  { secrets }: PeerInput,
  options: { readonly newName?: string } = {},
): Promise<Target> {
  const words = operands.length > 1 ? operands.join(" ") : operands[0];
  if (operands.length > 1 && !looksLikeCode(words!)) {
    throw new UsageError(`too many arguments: ${operands.slice(1).join(" ")}`);
  }
  const text = await secrets.readOperand("ticket or code", words, "PUNCHLINE_TICKET");
  const code = withoutCommand(text);
  if (looksLikeCode(code)) {
    if (flags.has("hand")) throw new UsageError("--hand needs a ticket: a code needs a server");
    const { formatCode, parseCode } = await import("../code/code.ts");
    return { kind: "code", code: readPart(() => formatCode(parseCode(code))) };
  }
  const name = text.trim();
  if (/^[a-z][a-z0-9._-]{0,63}$/i.test(name)) {
    const { findFriend } = await import("./config.ts");
    const friend = await findFriend(name);
    if (friend !== undefined) return { kind: "ticket", ...friend };
    throw new UsageError(
      `${name} is neither a ticket nor a code, and no friend's name`,
      {
        remedy: options.newName === undefined
          ? `\`punchline peers list\` shows friends, \`punchline peers add ${name} TICKET\` adds one`
          : `Use a ticket or a code: \`punchline peers add ${options.newName} TICKET\``,
      },
    );
  }
  if (name === "") throw new UsageError("the ticket or code is empty");
  if (/^punchline-hand:/i.test(name)) {
    throw new UsageError("this is a message of manual signaling, not a ticket", {
      remedy:
        "Paste it where a command asks for it; start that one with a ticket, from `punchline:` on",
    });
  }
  if (!/punchline:/i.test(text.replaceAll(/\s/g, ""))) {
    throw new UsageError("this is neither a ticket, nor a code, nor a friend's name", {
      remedy: "Copy the ticket from `punchline:` on, or type the code like 7-amber-walrus-otter",
    });
  }
  return {
    kind: "ticket",
    ticket: readPart(() => {
      const ticket = extractTicket(text);
      decodeTicket(ticket);
      return ticket;
    }),
    servers: [],
  };
}

/**
 * The ticket of a target: for a code, from the side that offers it.
 *
 * @throws as {@linkcode Peer.redeemCode}
 */
export async function ticketOf(
  target: Target,
  peer: Peer,
  events: ConnectionEvents,
  io: CliIo,
): Promise<string> {
  if (target.kind === "ticket") return target.ticket;
  sayLooking(target.code, events);
  return await peer.redeemCode(target.code, { signal: io.signal });
}

/** Says that the other side of a code is being looked for: it may take as long as `--timeout` says. */
export function sayLooking(code: string, events: ConnectionEvents): void {
  const text = `Looking for the other side of code ${/^\d+/.exec(code)?.[0]}-…`;
  events.print(text);
  events.waitFor(text);
}

/** Opens signaling connections to the servers that the command line names, without a peer. */
export function openPool({ signal: ended }: CliIo, proxy: PeerOptions["proxy"]): SignalingPool {
  return new SignalingPool(async (url, given) => {
    const signal = AbortSignal.any([given, ended]);
    return await openSignaling(url, { network: await networkThrough(proxy, url, signal), signal });
  });
}

/** @throws {UsageError} if it is malformed */
function readPart<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof MalformedMessageError)) throw error;
    throw new UsageError(error.message, { cause: error });
  }
}

/** Removes what people paste before a code: the command that the other side was told. */
function withoutCommand(text: string): string {
  return text.replace(/^.*\b(?:recv|connect)\s+(?:--\S+\s+(?:[^\s-]\S*\s+)??)*?(?=\d)/is, "")
    .trim();
}

/** Removes what chat programs and people add: invisible characters, quotes, the command before the ticket. */
function extractTicket(text: string): string {
  const plain = text.replaceAll(/[\s\u00ad\u200b-\u200f\u2060\ufeff]+/g, "");
  return /punchline:[\w-]+(?!.*punchline:)/i.exec(plain)?.[0] ?? text;
}
