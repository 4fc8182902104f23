/**
 * A command of ours in a host of the lab, seen from outside.
 *
 * @module
 */

import { WaitQueue } from "../../../lib/base/wait_queue.ts";
import { denoArgs, type LabHost } from "../../kernel/lab_host.ts";
import { TextLineStream } from "../verdicts/lines.ts";

/** What a command told. */
export interface CommandEvent {
  readonly event: string;
  /** When it was heard, by `performance.now()`. */
  readonly atMs: number;
  /** Whatever else belongs to it. */
  readonly [key: string]: unknown;
}

/** Runs with `--json`, and with an input that stays open. */
export class HostCommand implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #output: ReadableStreamDefaultReader<string>;
  readonly #events = new WaitQueue<CommandEvent>(MAX_EVENTS);
  readonly #listening: Promise<void>;

  /**
   * @param host where to run it
   * @param args its name, and what follows
   */
  constructor(host: Pick<LabHost, "spawn">, args: readonly string[]) {
    this.#child = host.spawn(Deno.execPath(), denoArgs(CLI, [...args, "--json"]), {
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    });
    this.#input = this.#child.stdin.getWriter();
    this.#input.closed.catch(() => {}); // it may be killed
    const [output, told] = this.#child.stdout.pipeThrough(new TextDecoderStream()).tee();
    this.#output = output.getReader();
    const events = [this.#child.stderr.pipeThrough(new TextDecoderStream())];
    if (TELLING_ON_STDOUT.has(args[0]!)) events.push(told);
    else told.cancel();
    this.#listening = this.#listen(events);
  }

  /** What it tells, until it ends. */
  async *events(): AsyncGenerator<CommandEvent> {
    try {
      for (;;) yield await this.#events.next();
    } catch (error) {
      if (error !== OVER) throw error;
    }
  }

  /**
   * The next event of one of these names; others before it are forgotten.
   *
   * @throws {Error} if it ends before, or nothing of the kind happens for minutes
   */
  async until(...names: readonly string[]): Promise<CommandEvent> {
    const deadline = AbortSignal.timeout(TIMEOUT_MS);
    for (;;) {
      const happened = await this.#events.next(deadline);
      if (names.includes(happened.event)) return happened;
    }
  }

  /** Writes to its input. */
  async say(text: string): Promise<void> {
    await this.#input.write(new TextEncoder().encode(text));
  }

  /** Waits until its output has gone on by this. @throws {Error} if it goes on otherwise */
  async prints(text: string): Promise<void> {
    let printed = "";
    while (printed.length < text.length) {
      const { value, done } = await this.#output.read();
      if (done) break;
      printed += value;
    }
    if (printed !== text) throw new Error(`Cannot go on: it printed ${JSON.stringify(printed)}`);
  }

  /** Kills it, so that it cannot say goodbye; no matter whether it runs. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // it has ended already
    }
    await this.end();
  }

  /** Waits until it has ended. */
  async end(): Promise<Deno.CommandStatus> {
    const [status] = await Promise.all([
      this.#child.status,
      this.#listening,
      this.#output.cancel(),
      this.#input.close().catch(() => {}),
    ]);
    return status;
  }

  async #listen(texts: readonly ReadableStream<string>[]): Promise<void> {
    await Promise.all(texts.map(async (text) => {
      for await (const line of text.pipeThrough(new TextLineStream())) {
        const told = line.startsWith("{") ? JSON.parse(line) : { event: "message", text: line };
        this.#events.push({ ...told, atMs: performance.now() });
      }
    }));
    this.#events.close(OVER);
  }
}

const CLI = new URL("../../../cli.ts", import.meta.url);

/** Commands whose stdout is not the connection have their events there. */
const TELLING_ON_STDOUT: ReadonlySet<string> = new Set(["send", "recv"]);

const OVER = new Error("Cannot hear more of the command: it has ended");

/** Nobody may listen to the progress of a file. */
const MAX_EVENTS = 4096;

/** Longer than a connection waits for another path. */
const TIMEOUT_MS = 150_000;
