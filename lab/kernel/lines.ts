/**
 * Splitting input into lines: of a stream, and of a file descriptor that is polled.
 *
 * @module
 */

import type { Libc } from "./libc.ts";

/** Splits text into lines. */
export class TextLineStream extends TransformStream<string, string> {
  constructor() {
    let rest = "";
    super({
      transform(chunk, controller) {
        const lines = (rest + chunk).split("\n");
        rest = lines.pop()!;
        for (const line of lines) controller.enqueue(line);
      },
      flush(controller) {
        if (rest !== "") controller.enqueue(rest);
      },
    });
  }
}

/** Reads lines from a file descriptor without blocking. */
export class LineReader {
  readonly #libc: Libc;
  readonly #fd: number;
  readonly #buffer = new Uint8Array(65536);
  readonly #decoder = new TextDecoder();
  #partial = "";
  /** Whether the input has ended. */
  ended = false;

  /** @param fd a file descriptor, which becomes non-blocking */
  constructor(libc: Libc, fd: number) {
    this.#libc = libc;
    this.#fd = fd;
    libc.setNonBlocking(fd);
  }

  /** The complete lines received so far. Call it when the descriptor is readable. */
  read(): string[] {
    const length = this.#libc.read(this.#fd, this.#buffer);
    if (length === 0) this.ended = true;
    if (length <= 0) return [];
    this.#partial += this.#decoder.decode(this.#buffer.subarray(0, length), { stream: true });
    const lines = this.#partial.split("\n");
    this.#partial = lines.pop()!;
    return lines;
  }
}
