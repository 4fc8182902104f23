/**
 * Starts and controls the internet process, which carries the packets of a lab.
 *
 * @module
 */

import type { ControlCommand, ControlReady, ControlReply } from "./control.ts";
import type { LabCounters } from "./counters.ts";
import { TextLineStream } from "./lines.ts";
import { enterCommand, privilegedCommand } from "./privileges.ts";
import type { LabPlan } from "./topology.ts";

/** A running internet process. */
export class InternetClient implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #lines: AsyncIterator<string>;
  readonly #ready: ControlReady;
  readonly #waiting: PromiseWithResolvers<ControlReply>[] = [];
  readonly #reading: Promise<void>;

  private constructor(
    child: Deno.ChildProcess,
    input: WritableStreamDefaultWriter<Uint8Array>,
    lines: AsyncIterator<string>,
    ready: ControlReady,
  ) {
    this.#child = child;
    this.#input = input;
    this.#lines = lines;
    this.#ready = ready;
    this.#reading = this.#readReplies();
  }

  /**
   * Starts the process, and waits until all hosts are up.
   *
   * @throws {Error} if the process ends early; the reason is on stderr
   */
  static async start(plan: LabPlan): Promise<InternetClient> {
    const program = new URL("internet_process.ts", import.meta.url).href;
    const [command, ...args] = privilegedCommand([
      ...[Deno.execPath(), "run", "--quiet", "--no-config", "--no-lock", "-A", program],
    ]);
    const child = new Deno.Command(command!, {
      args,
      env: { DENO_NO_UPDATE_CHECK: "1" },
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    const input = child.stdin.getWriter();
    const lines = child.stdout.pipeThrough(new TextDecoderStream())
      .pipeThrough(new TextLineStream())[Symbol.asyncIterator]();
    await input.write(encodeLine(plan));
    const { done, value } = await lines.next();
    if (!done) return new InternetClient(child, input, lines, JSON.parse(value) as ControlReady);

    await input.close().catch(() => {}); // the process has already closed it
    const { code } = await child.status;
    throw new Error(`Cannot start the lab: the internet process ended with exit code ${code}`);
  }

  /** A command prefix that runs the rest of the command in a host. */
  enterCommand(host: string): readonly string[] {
    return enterCommand(this.#ready.pid, this.#ready.namespaces[host]!);
  }

  /**
   * Sends a command, and waits until it is done.
   *
   * @returns the counters, if the command was `counters`
   * @throws {Error} if the command fails
   */
  async request(command: ControlCommand): Promise<LabCounters | undefined> {
    const reply = Promise.withResolvers<ControlReply>();
    this.#waiting.push(reply);
    await this.#input.write(encodeLine(command));
    const answer = await reply.promise;
    if (!answer.ok) throw new Error(answer.message);
    return answer.counters;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#input.close().catch(() => {}); // the process has ended by itself; the reason is on stderr
    await this.#child.status;
    await this.#reading;
  }

  /** Replies arrive in the order of the requests. */
  async #readReplies(): Promise<void> {
    for (let line = await this.#lines.next(); !line.done; line = await this.#lines.next()) {
      this.#waiting.shift()?.resolve(JSON.parse(line.value) as ControlReply);
    }
    for (const reply of this.#waiting) {
      reply.reject(new Error("Cannot reach the lab: the internet process has ended"));
    }
  }
}

function encodeLine(value: unknown): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(value)}\n`);
}
