/**
 * Stdin that is read by the line at first, and as it is later.
 *
 * @module
 */

import { concat } from "../base/bytes.ts";

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
