/**
 * Manual signaling (`--hand`): messages are shown on stderr and pasted into stdin, and the people copy them. Once there
 * is a connection, the rest of stdin is its data.
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

/**
 * Opens the prompt if signaling is manual.
 *
 * @param options.ticket the peer to reach, if any; its ticket says whether signaling is manual
 * @param options.port the port to forward, if any
 * @throws {UsageError} if the options contradict each other
 */
export function openManualPrompt(
  { flags }: Pick<Arguments, "flags">,
  io: CliIo,
  events: ConnectionEvents,
  { ticket, port }: { readonly ticket?: string; readonly port?: number } = {},
): ManualPrompt | undefined {
  const isRequested = flags.has("hand");
  const isManual = ticket === undefined
    ? isRequested
    : decodeTicket(ticket).signaling.every((url) => url === MANUAL_URL);
  if (isRequested && !isManual) {
    throw new UsageError("--hand cannot be used with this ticket, which names signaling servers");
  }
  if (isManual && port !== undefined) {
    throw new UsageError(
      "--tcp cannot be used with manual signaling: each connection would need messages of its own",
    );
  }
  return isManual ? new ManualPrompt(io, events) : undefined;
}

/** Shows the messages for the other side, and reads those that are pasted. */
export class ManualPrompt {
  /** The signaling transport for the peer. */
  readonly transport: SignalTransport;
  readonly #lines: StdinLines;

  constructor(io: CliIo, events: ConnectionEvents) {
    this.#lines = new StdinLines(io.stdin);
    this.transport = manualTransport({
      lines: this.#read(events),
      write: (text) => {
        events.emit({ event: "message", text });
        events.print(`Send this to the other side within a few minutes:\n\n${folded(text)}\n`);
      },
      onGarbage: ({ message }) => io.err(`punchline: ${message}`),
    });
  }

  /** The rest of stdin. No more messages are read from now on. */
  get stdin(): ReadableStream<Uint8Array> {
    return this.#lines.rest();
  }

  async *#read(events: ConnectionEvents): AsyncGenerator<string> {
    events.print("Paste the message from the other side here, and press Enter");
    yield* this.#lines;
    if (this.#lines.hasEnded) events.print("Stdin has ended: no more messages can be pasted");
  }
}

/** Stdin line by line, until the rest is taken as bytes. What was read of an unfinished line belongs to the rest. */
export class StdinLines implements AsyncIterable<string> {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  #buffer = new Uint8Array(0);
  /** A read from a terminal cannot be cancelled: its result goes to whoever reads next. */
  #reading: Promise<ReadableStreamReadResult<Uint8Array>> | undefined;
  #isLines = true;
  #hasEnded = false;

  constructor(stdin: ReadableStream<Uint8Array>) {
    this.#reader = stdin.getReader();
  }

  /** Whether stdin has ended. */
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

  /** All bytes from now on; there are no more lines. */
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
    if (end < 0 && this.#buffer.length < MAX_LINE_BYTES) return undefined;
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

/** Breaks the text into short lines: terminals accept no line longer than 4095 characters. */
function folded(text: string): string {
  return text.replaceAll(/.{76}/g, "$&\n");
}

const NEWLINE = 0x0a;

/** Chosen by us: longer than any message, so a longer line cannot be one. */
const MAX_LINE_BYTES = 16_384;

const ENDED = { done: true, value: undefined } as const;
