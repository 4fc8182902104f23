/**
 * `map add --json` as a program that runs until it is interrupted.
 *
 * @module
 */

import type { MappingEvent } from "../../lib/portmap/mapping.ts";

/** A running command. */
export class MapCommand implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #lines: ReadableStreamDefaultReader<string>;
  #rest = "";

  /** @param child with its stdout piped */
  constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.#lines = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  /**
   * The next event of this kind. Others before it are skipped.
   *
   * @throws {Error} if the output ends before it, or it takes more than a minute and a half
   */
  async next(event: MappingEvent["event"]): Promise<MappingEvent> {
    const deadline = setTimeout(() => this.#child.kill("SIGKILL"), TIMEOUT_MS);
    try {
      while (true) {
        const line = await this.#nextLine();
        const read: MappingEvent = JSON.parse(line);
        if (read.event === event) return read;
      }
    } finally {
      clearTimeout(deadline);
    }
  }

  /** Presses Ctrl-C, and returns the exit code. */
  async interrupt(): Promise<number> {
    return await this.end("SIGINT");
  }

  /** Sends a signal, and returns the exit code. */
  async end(signal: Deno.Signal): Promise<number> {
    this.#child.kill(signal);
    return (await this.#child.status).code;
  }

  /** Kills the command if it still runs. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // it has ended already
    }
    await this.#child.status;
    await this.#lines.cancel();
  }

  async #nextLine(): Promise<string> {
    while (true) {
      const end = this.#rest.indexOf("\n");
      if (end !== -1) {
        const line = this.#rest.slice(0, end);
        this.#rest = this.#rest.slice(end + 1);
        return line;
      }
      const { done, value } = await this.#lines.read();
      if (done) throw new Error(`Cannot read an event: the command has ended`);
      this.#rest += value;
    }
  }
}

const TIMEOUT_MS = 90_000;
