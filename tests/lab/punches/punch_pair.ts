/**
 * Two hosts of the lab that punch, and the messages between them, which take as long as they are told to.
 *
 * @module
 */

import { denoArgs, type LabHost } from "../lab_host.ts";
import { TextLineStream } from "../verdicts/lines.ts";
import type { RunnerCommand, RunnerResult } from "./punch_runner.ts";

/** How a punch is run. */
export interface PairOptions {
  readonly a: Pick<RunnerCommand, "report">;
  readonly b: Pick<RunnerCommand, "report">;
  readonly servers: readonly string[];
  /** One way of each message. */
  readonly signalDelayMs: number;
  /** How much later b hears of a than a of b, so that a dials so much earlier. */
  readonly skewMs: number;
  readonly timeoutMs: number;
  readonly isWarm: boolean;
}

/** What both sides say of one punch. */
export interface PairResult {
  readonly a: RunnerResult;
  readonly b: RunnerResult;
}

/** Runs `punch_runner.ts` in two hosts. The programs end with the lab. */
export class PunchPair {
  readonly #a: Runner;
  readonly #b: Runner;

  /** @param a the controlling side */
  constructor(a: LabHost, b: LabHost) {
    this.#a = new Runner(a);
    this.#b = new Runner(b);
  }

  /** One punch. */
  async run(options: PairOptions): Promise<PairResult> {
    const { signalDelayMs, skewMs } = options;
    this.#a.onSignal = (signal) => {
      setTimeout(() => this.#b.write({ signal }), signalDelayMs + skewMs);
    };
    this.#b.onSignal = (signal) => {
      setTimeout(() => this.#a.write({ signal }), signalDelayMs);
    };
    const common = { ...options, signalRttMs: 2 * signalDelayMs };
    await Promise.all([this.#a.prepare(), this.#b.prepare()]);
    const [a, b] = await Promise.all([
      this.#a.punch({ ...common, ...options.a, role: "controlling" }),
      this.#b.punch({ ...common, ...options.b, role: "controlled" }),
    ]);
    return { a, b };
  }

  /** Ends both programs. */
  async close(): Promise<void> {
    await Promise.all([this.#a.close(), this.#b.close()]);
  }
}

class Runner {
  onSignal: (signal: string) => void = () => {};
  readonly #stdin: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reading: Promise<void>;
  #expected = Promise.withResolvers<Record<string, unknown>>();

  constructor(host: LabHost) {
    const program = new URL("punch_runner.ts", import.meta.url);
    const child = host.spawn(Deno.execPath(), denoArgs(program, []), {
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    });
    this.#stdin = child.stdin.getWriter();
    this.#reading = this.#read(
      child.stdout.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream()),
    );
  }

  /** Forgets messages of the punch before. */
  async prepare(): Promise<void> {
    await this.#ask({ event: "prepare" });
  }

  async punch(command: RunnerCommand): Promise<RunnerResult> {
    return await this.#ask(command) as unknown as RunnerResult;
  }

  write(value: unknown): void {
    this.#stdin.write(new TextEncoder().encode(`${JSON.stringify(value)}\n`)).catch(() => {});
  }

  async close(): Promise<void> {
    await this.#stdin.close();
    await this.#reading;
  }

  async #ask(value: unknown): Promise<Record<string, unknown>> {
    this.#expected = Promise.withResolvers();
    this.write(value);
    return await this.#expected.promise;
  }

  async #read(lines: ReadableStream<string>): Promise<void> {
    for await (const line of lines) {
      const message = JSON.parse(line);
      if (message.event === "signal") this.onSignal(message.signal);
      else if (message.event !== "ready") this.#expected.resolve(message);
    }
    this.#expected.reject(new Error("Cannot punch: the program in the host has ended"));
    this.#expected.promise.catch(() => {});
  }
}
