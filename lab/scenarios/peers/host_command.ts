/**
 * Controls a Punchline command that runs in a host of the lab.
 *
 * @module
 */

import { WaitQueue } from "../../../lib/base/wait_queue.ts";
import { denoArgs, type LabHost } from "../../kernel/lab_host.ts";
import { TextLineStream } from "../../kernel/lines.ts";

/** An event that a command printed. */
export interface CommandEvent {
  readonly event: string;
  /** When it was received, by `performance.now()`. */
  readonly atMs: number;
  /** Other fields of the event. */
  readonly [key: string]: unknown;
}

/** A command that runs with `--json`, and with its input kept open. */
export class HostCommand implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #output: ReadableStreamDefaultReader<string>;
  readonly #events = new WaitQueue<CommandEvent>(MAX_EVENTS);
  readonly #reading: Promise<void>;

  /**
   * @param host where to run the command
   * @param args the command's name and its arguments
   */
  constructor(host: Pick<LabHost, "spawn">, args: readonly string[]) {
    this.#child = host.spawn(Deno.execPath(), denoArgs(CLI, [...args, "--json"]), {
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    });
    this.#input = this.#child.stdin.getWriter();
    this.#input.closed.catch(() => {}); // rejects if the command is killed
    const [output, copy] = this.#child.stdout.pipeThrough(new TextDecoderStream()).tee();
    this.#output = output.getReader();
    const events = [this.#child.stderr.pipeThrough(new TextDecoderStream())];
    if (EVENTS_ON_STDOUT.has(args[0]!)) events.push(copy);
    else copy.cancel();
    this.#reading = this.#readEvents(events);
  }

  /** All events until the command ends. */
  async *events(): AsyncGenerator<CommandEvent> {
    try {
      for (;;) yield await this.#events.next();
    } catch (error) {
      if (error !== ENDED) throw error;
    }
  }

  /**
   * The next event with one of these names. Earlier events are discarded.
   *
   * @throws {Error} if the command ends early, or after some minutes
   */
  async until(...names: readonly string[]): Promise<CommandEvent> {
    const deadline = AbortSignal.timeout(TIMEOUT_MS);
    for (;;) {
      const next = await this.#events.next(deadline);
      if (names.includes(next.event)) return next;
    }
  }

  /** Writes to the command's input. */
  async write(text: string): Promise<void> {
    await this.#input.write(new TextEncoder().encode(text));
  }

  /** The next part of the command's output; `""` at its end. */
  async read(): Promise<string> {
    const { value = "" } = await this.#output.read();
    return value;
  }

  /**
   * Waits until the command's output continues with this text.
   *
   * @throws {Error} if it continues differently
   */
  async expect(text: string): Promise<void> {
    let printed = "";
    while (printed.length < text.length) {
      const { value, done } = await this.#output.read();
      if (done) break;
      printed += value;
    }
    if (printed !== text) throw new Error(`Unexpected output: ${JSON.stringify(printed)}`);
  }

  /** Kills the command, if it is running, so that it cannot close its connections. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // otherwise it has already ended
    }
    await this.end();
  }

  /** Closes the command's input, and waits until it has ended. */
  async end(): Promise<Deno.CommandStatus> {
    const [status] = await Promise.all([
      this.#child.status,
      this.#reading,
      this.#output.cancel(),
      this.#input.close().catch(() => {}),
    ]);
    return status;
  }

  async #readEvents(texts: readonly ReadableStream<string>[]): Promise<void> {
    await Promise.all(texts.map(async (text) => {
      for await (const line of text.pipeThrough(new TextLineStream())) {
        const event = line.startsWith("{") ? JSON.parse(line) : { event: "message", text: line };
        this.#events.push({ ...event, atMs: performance.now() });
      }
    }));
    this.#events.close(ENDED);
  }
}

const CLI = new URL("../../../cli.ts", import.meta.url);

/** Commands whose stdout is not the connection print their events there. */
const EVENTS_ON_STDOUT: ReadonlySet<string> = new Set(["send", "recv"]);

const ENDED = new Error("Cannot read events: the command has ended");

/** Enough for the progress events of a file that no test reads. */
const MAX_EVENTS = 4096;

/** Longer than a connection waits for another path. */
const TIMEOUT_MS = 150_000;
