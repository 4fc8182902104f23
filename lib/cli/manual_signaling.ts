/**
 * Signalling by hand at the command line: messages are shown on stderr and pasted into stdin, which becomes the
 * connection's once there is one.
 *
 * @module
 */

import { decodeTicket } from "../peer/ticket.ts";
import { HAND_URL, handTransport } from "../signal/manual.ts";
import type { SignalTransport } from "../signal/transport.ts";
import type { Arguments } from "./arguments.ts";
import type { ConnectionEvents } from "./connection_events.ts";
import { type CliIo, UsageError } from "./io.ts";
import { StdinLines } from "./stdin_lines.ts";

/**
 * A desk for those who need one.
 *
 * @param options.ticket if somebody is to be reached: says whether that goes by hand
 * @param options.port if connections are to be forwarded
 * @throws {UsageError} if what is asked for does not go together
 */
export function openHandDesk(
  { flags }: Pick<Arguments, "flags">,
  io: CliIo,
  events: ConnectionEvents,
  { ticket, port }: { readonly ticket?: string; readonly port?: number } = {},
): HandDesk | undefined {
  const isAsked = flags.has("hand");
  const isByHand = ticket === undefined
    ? isAsked
    : decodeTicket(ticket).signaling.every((url) => url === HAND_URL);
  if (isAsked && !isByHand) throw new UsageError("--hand does not go with a ticket of another way");
  if (isByHand && port !== undefined) {
    throw new UsageError("--tcp does not go by hand: each connection would have to be passed on");
  }
  return isByHand ? new HandDesk(io, events) : undefined;
}

/** Where messages are passed on. */
export class HandDesk {
  /** For the peer. */
  readonly transport: SignalTransport;
  readonly #lines: StdinLines;

  constructor(io: CliIo, events: ConnectionEvents) {
    this.#lines = new StdinLines(io.stdin);
    this.transport = handTransport({
      lines: this.#read(events),
      write: (text) => {
        events.tell({ event: "message", text });
        events.say(`Give this to the other side, within minutes:\n\n${folded(text)}\n`);
      },
      onGarbage: ({ message }) => io.err(`punchline: ${message}`),
    });
  }

  /** What comes on stdin from now on. */
  get stdin(): ReadableStream<Uint8Array> {
    return this.#lines.rest();
  }

  async *#read(events: ConnectionEvents): AsyncGenerator<string> {
    events.say("Paste here what the other side gives you, and press Enter");
    yield* this.#lines;
    if (this.#lines.hasEnded) events.say("Stdin has ended: nothing can be pasted any more");
  }
}

/** Terminals take no line of more than 4095 characters. */
function folded(text: string): string {
  return text.replaceAll(/.{76}/g, "$&\n");
}
