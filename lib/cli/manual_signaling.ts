/**
 * Signalling by hand at the command line: messages are shown on stderr and pasted into stdin, which becomes the
 * connection's once there is one.
 *
 * @module
 */

import { concat } from "../base/bytes.ts";
import { decodeTicket } from "../peer/ticket.ts";
import { MANUAL_URL, manualTransport } from "../signal/manual.ts";
import type { SignalTransport } from "../signal/transport.ts";
import type { Arguments } from "./arguments.ts";
import { type CliIo, UsageError } from "./io.ts";
import type { ConnectionEvents } from "./peer_events.ts";

/** Lines, until the rest is asked for. What was read by then and is no whole line belongs to the rest. */
export class StdinLines implements AsyncIterable<string> {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  #buffer = new Uint8Array(0);
  /** A read from a terminal cannot be taken back: whoever is next gets what it brings. */
  #reading: Promise<ReadableStreamReadResult<Uint8Array>> | undefined;
  #isLines = true;
  #hasEnded = false;

  constructor(stdin: ReadableStream<Uint8Array>) {
    this.#reader = stdin.getReader();
  }

  /** Whether there is nothing more. */
  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<string> {
    for (;;) {
      for (let line = this.#takeLine(); line !== undefined; line = this.#takeLine()) yield line;
      const { done, value } = await this.#read();
      if (!this.#isLines) return;
      this.#reading = undefined;
      if (done) break;
      this.#buffer = concat(this.#buffer, value);
    }
    this.#hasEnded = true;
    if (this.#buffer.length > 0) yield decode(this.#take(this.#buffer.length));
  }

  /** All that is left; there are no more lines from now on. */
  rest(): ReadableStream<Uint8Array> {
    this.#isLines = false;
    const begun = this.#take(this.#buffer.length);
    return new ReadableStream({
      start: (controller) => {
        if (begun.length > 0) controller.enqueue(begun);
      },
      pull: async (controller) => {
        const { done, value } = this.#hasEnded ? ENDED : await this.#read();
        this.#reading = undefined;
        if (done) controller.close();
        else controller.enqueue(value);
      },
      cancel: (reason) => this.#reader.cancel(reason),
    });
  }

  #read(): Promise<ReadableStreamReadResult<Uint8Array>> {
    return this.#reading ??= this.#reader.read();
  }

  #takeLine(): string | undefined {
    if (!this.#isLines) return undefined;
    const end = this.#buffer.indexOf(NEWLINE);
    if (end < 0 && this.#buffer.length < MAX_LINE) return undefined;
    return decode(this.#take(end < 0 ? this.#buffer.length : end + 1));
  }

  #take(length: number): Uint8Array<ArrayBuffer> {
    const taken = this.#buffer.slice(0, length);
    this.#buffer = this.#buffer.slice(length);
    return taken;
  }
}

function decode(line: Uint8Array): string {
  return new TextDecoder().decode(line).replace(/\r?\n$/, "");
}

const NEWLINE = 0x0a;

/** Ours: more than any message; what is longer is none. */
const MAX_LINE = 16_384;

const ENDED = { done: true, value: undefined } as const;

/**
 * A desk for those who need one.
 *
 * @param options.ticket if somebody is to be reached: says whether that goes by hand
 * @param options.port if connections are to be forwarded
 * @throws {UsageError} if what is asked for does not go together
 */
export function openManualPrompt(
  { flags }: Pick<Arguments, "flags">,
  io: CliIo,
  events: ConnectionEvents,
  { ticket, port }: { readonly ticket?: string; readonly port?: number } = {},
): ManualPrompt | undefined {
  const isAsked = flags.has("hand");
  const isManual = ticket === undefined
    ? isAsked
    : decodeTicket(ticket).signaling.every((url) => url === MANUAL_URL);
  if (isAsked && !isManual) throw new UsageError("--hand does not go with a ticket of another way");
  if (isManual && port !== undefined) {
    throw new UsageError("--tcp does not go by hand: each connection would have to be passed on");
  }
  return isManual ? new ManualPrompt(io, events) : undefined;
}

/** Where messages are passed on. */
export class ManualPrompt {
  /** For the peer. */
  readonly transport: SignalTransport;
  readonly #lines: StdinLines;

  constructor(io: CliIo, events: ConnectionEvents) {
    this.#lines = new StdinLines(io.stdin);
    this.transport = manualTransport({
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
