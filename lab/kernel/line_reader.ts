/**
 * Lines from a descriptor that is polled.
 *
 * @module
 */

import type { Libc } from "./libc.ts";

/** Reads lines from a descriptor without waiting. */
export class LineReader {
  readonly #libc: Libc;
  readonly #fd: number;
  readonly #buffer = new Uint8Array(65536);
  readonly #decoder = new TextDecoder();
  #partial = "";
  /** Whether the other end has closed it. */
  ended = false;

  /** @param fd is made non-blocking */
  constructor(libc: Libc, fd: number) {
    this.#libc = libc;
    this.#fd = fd;
    libc.setNonBlocking(fd);
  }

  /** The lines that are there by now; call it when the descriptor is readable. */
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
