/**
 * Tickets and logins that are not on the command line, because `ps` shows that to every user: the first line of stdin
 * (`-`), a file (`@FILE`), or the environment.
 *
 * @module
 */

import { readSmallFile, readVariable } from "../net/system/private_input.ts";
import { type CliIo, reasonOfFile, UsageError } from "./io.ts";
import type { StdinLines } from "./stdin_lines.ts";
import { abortable } from "@std/async/abortable";

/** Reads what the arguments only name. */
export class SecretReader {
  readonly #io: CliIo;
  readonly #stdin: StdinLines;
  #isStdinTaken = false;

  constructor(io: CliIo, stdin: StdinLines) {
    this.#io = io;
    this.#stdin = stdin;
  }

  /**
   * The text itself, or that of the place it names.
   *
   * @param what what is read, such as `--turn`
   * @throws {UsageError} if there is nothing, or too much
   */
  async read(what: string, text: string): Promise<string> {
    if (text === "-") return await this.#readStdin(what);
    return text.startsWith("@") ? await this.#readFile(what, text.slice(1)) : text;
  }

  /** The values of an option that may be repeated, or those in a variable if there are none. */
  async readAll(option: string, texts: readonly string[], variable: string): Promise<string[]> {
    if (texts.length === 0) {
      return (await readVariable(variable))?.split(/\s+/).filter((each) => each !== "") ?? [];
    }
    const values: string[] = [];
    for (const text of texts) {
      const isPlace = text === "-" || text.startsWith("@");
      const value = await this.read(`--${option}`, text);
      values.push(...isPlace ? value.split(/\s+/).filter((each) => each !== "") : [value]);
    }
    return values;
  }

  /** The argument of a command, or what the variable says if there is no argument. */
  async readOperand(what: string, text: string | undefined, variable: string): Promise<string> {
    const value = text ?? await readVariable(variable);
    if (value !== undefined) return await this.read(what, value);
    throw new UsageError(
      `an argument is missing: the ${what}, - to read it from stdin, @FILE, or ${variable} in the environment`,
    );
  }

  async #readStdin(what: string): Promise<string> {
    if (this.#isStdinTaken) throw new UsageError(`${what} cannot be -: stdin is used already`);
    this.#isStdinTaken = true;
    if (this.#io.isInputTerminal) this.#io.err(`Enter the value of ${what}:`);
    const { signal } = this.#io;
    try {
      const line = (await this.#stdin.line({ maxBytes: MAX_BYTES, signal }))?.trim();
      if (line) return line;
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      throw new UsageError(`${what} cannot be read: ${error.message}`, { cause: error });
    }
    throw new UsageError(`${what} cannot be read: the first line of stdin is empty`);
  }

  /**
   * A pipe is as good as a file: that is what the shell's `<(command)` is. The system's wait for its writer ends only with
   * the program, so it is left behind on abort.
   */
  async #readFile(what: string, path: string): Promise<string> {
    const { signal } = this.#io;
    try {
      const reading = readSmallFile(path, MAX_BYTES, { mayBePipe: true });
      const { text } = await abortable(reading, signal);
      if (text.trim() !== "") return text.trim();
    } catch (error) {
      signal.throwIfAborted();
      throw new UsageError(`${what} @${path}: ${reasonOfFile(error, path)}`, { cause: error });
    }
    throw new UsageError(`${what} @${path}: the file is empty`);
  }
}

/** Ours for files and the first line of stdin: a ticket has some hundred bytes, and at most two kilobytes. */
const MAX_BYTES = 4096;
