/**
 * Stdin line by line, for tickets, answers and pasted messages, until the rest is taken as bytes.
 *
 * @module
 */

import { concat } from "../base/bytes.ts";
import { Deadline } from "../base/timers.ts";
import type { CliIo } from "./io.ts";
import { type Screen, screenOf } from "./screen.ts";
import { type Chunks, StdinChunks } from "./stdin_chunks.ts";
import { abortable } from "@std/async/abortable";

/**
 * Stdin line by line, until the rest is taken as bytes. What was read of an unfinished line belongs to the rest. Stdin is
 * not touched before the first use.
 */
export class StdinLines implements AsyncIterable<string> {
  readonly #io: Pick<CliIo, "setRaw">;
  readonly #chunks: StdinChunks;
  #buffer: Uint8Array = NOTHING;
  /** A read from a terminal cannot be cancelled: its result goes to whoever reads next. */
  #filling: Promise<void> | undefined;
  /** While a single line is being read, which comes before those of the iterator. */
  #asked: Promise<unknown> | undefined;
  #isLines = true;
  #hasEnded = false;
  #onTyped: ((text: string) => void) | undefined;

  constructor(io: Pick<CliIo, "stdin" | "setRaw">) {
    this.#io = io;
    this.#chunks = new StdinChunks(io.stdin);
  }

  /** Whether stdin has ended. */
  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<string> {
    for (;;) {
      while (this.#asked !== undefined) await this.#asked;
      if (!this.#isLines) return;
      const line = this.#takeLine(MAX_LINE_BYTES);
      if (line !== undefined) yield line;
      else if (this.#hasEnded) return;
      else await this.#fill();
    }
  }

  /**
   * Reads one line.
   *
   * @returns `undefined` if stdin has ended
   * @throws {RangeError} if the line is longer than `maxBytes`
   * @throws the signal's reason on abort; the line then belongs to whoever reads next
   */
  async line(
    options: { readonly maxBytes: number; signal: AbortSignal },
  ): Promise<string | undefined> {
    const done = Promise.withResolvers<void>();
    this.#asked = done.promise;
    try {
      for (;;) {
        const line = this.#takeLine(options.maxBytes + 1);
        if (line !== undefined && byteLength(line) > options.maxBytes) {
          throw new RangeError(`a line of stdin is longer than ${options.maxBytes} bytes`);
        }
        if (line !== undefined || this.#hasEnded) return line;
        await abortable(this.#fill(), options.signal);
      }
    } finally {
      this.#asked = undefined;
      done.resolve();
    }
  }

  /**
   * Drops everything that was typed so far, until there was no input for a while: whole lines, then a line that Enter has
   * not ended yet.
   *
   * @throws the signal's reason on abort
   */
  async dropTyped({ signal }: { readonly signal: AbortSignal }): Promise<void> {
    const done = Promise.withResolvers<void>();
    this.#asked = done.promise;
    try {
      while (await this.#arrives(signal) || await this.#isHalfTyped(signal)) {
        this.#buffer = NOTHING; // here too, for input without end
      }
      this.#buffer = NOTHING;
    } finally {
      this.#asked = undefined;
      done.resolve();
    }
  }

  /** Passes on what is typed as it arrives. Until the rest is taken it is read ahead, as much as a line may have. */
  async watch(onTyped: (text: string) => void): Promise<void> {
    this.#onTyped = onTyped;
    while (this.#isLines && !this.#hasEnded && this.#buffer.length < MAX_LINE_BYTES) {
      await this.#fill();
    }
  }

  /** All bytes from now on; there are no more lines. */
  rest(): Chunks {
    this.#isLines = false;
    return { next: (signal) => this.#nextChunk(signal) };
  }

  /** What was read for lines comes first, even if a terminal is being read for more. */
  async #nextChunk(signal?: AbortSignal): Promise<Uint8Array | null> {
    signal?.throwIfAborted();
    const filling = this.#buffer.length === 0 ? this.#filling : undefined;
    await (signal === undefined || filling === undefined ? filling : abortable(filling, signal));
    if (this.#buffer.length > 0) return this.#take(this.#buffer.length);
    return await this.#chunks.next(signal);
  }

  /** Whether there is input before a while has passed. If not, the read goes on. */
  async #arrives(signal: AbortSignal): Promise<boolean> {
    using quiet = new Deadline(QUIET_MS, signal);
    try {
      await abortable(this.#fill(), quiet.signal);
      return !this.#hasEnded;
    } catch (error) {
      signal.throwIfAborted();
      if (quiet.signal.aborted) return false;
      throw error;
    }
  }

  /**
   * Whether there is the start of a line, which a terminal keeps back until Enter. The read is under way by now: Linux
   * would not end it on Ctrl-D later on if it had begun in raw mode.
   */
  async #isHalfTyped(signal: AbortSignal): Promise<boolean> {
    if (this.#io.setRaw === undefined || this.#hasEnded) return false;
    this.#io.setRaw(true);
    try {
      return await this.#arrives(signal);
    } finally {
      this.#io.setRaw(false);
    }
  }

  #fill(): Promise<void> {
    return this.#filling ??= this.#read().finally(() => this.#filling = undefined);
  }

  async #read(): Promise<void> {
    const chunk = await this.#chunks.next();
    if (chunk === null) this.#hasEnded = true;
    else {
      this.#buffer = concat(this.#buffer, chunk);
      this.#onTyped?.(new TextDecoder().decode(chunk));
    }
  }

  /** The next line, or what there is of it if stdin has ended or the line is too long. */
  #takeLine(maxBytes: number): string | undefined {
    const newline = this.#buffer.indexOf(NEWLINE);
    const length = newline >= 0 ? newline + 1 : this.#buffer.length;
    const isWhole = newline >= 0 || this.#hasEnded && length > 0;
    if (!isWhole && length < maxBytes) return undefined;
    return decode(this.#take(length));
  }

  #take(length: number): Uint8Array {
    const taken = this.#buffer.subarray(0, length);
    this.#buffer = this.#buffer.subarray(length);
    return taken;
  }
}

/**
 * Reads ahead what is typed on a terminal, before {@linkcode showTypedBelow}: what was typed while the command started stands
 * where the cursor was then, and must not be taken for a row below the status line.
 */
export function readTypedAhead(io: Typed, stdin: StdinLines): void {
  const screen = typedScreen(io);
  if (screen === undefined) return;
  void stdin.watch((text) => screen.typed(text)).catch(() => {}); // whoever uses stdin is told
}

/** Shows what is typed on a terminal from now on below the status line, before it is used. */
export function showTypedBelow(io: Typed): void {
  typedScreen(io)?.expectTyping();
}

/** The screen on which the terminal shows what is typed; `undefined` if it cannot be redrawn. */
function typedScreen(io: Typed): Screen | undefined {
  const screen = screenOf(io);
  return screen?.isDumb === true || !io.isInputTerminal ? undefined : screen;
}

type Typed = Pick<CliIo, "status" | "isInputTerminal">;

function decode(line: Uint8Array): string {
  return new TextDecoder().decode(line).replace(/\r?\n$/, "");
}

function byteLength(text: string): number {
  return new TextEncoder().encode(text).length;
}

const NOTHING = new Uint8Array(0);
const NEWLINE = 0x0a;

/** Chosen by us: the rest of a paste comes sooner, and a person does not notice the delay. */
const QUIET_MS = 50;

/** Chosen by us: longer than any message, so a longer line cannot be one. */
const MAX_LINE_BYTES = 16_384;
