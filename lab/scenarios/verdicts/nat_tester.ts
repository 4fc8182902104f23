/**
 * Runs NAT tests in a host of the lab, one after another, in one program.
 *
 * @module
 */

import type { TestNatOptions } from "../../../lib/nat/report.ts";
import { denoArgs, type LabHost } from "../../kernel/lab_host.ts";
import { TextLineStream } from "../../kernel/lines.ts";
import type { RunnerAnswer } from "./nat_runner.ts";

/** Controls `nat_runner.ts` in a host. It ends with the lab. */
export class NatTester {
  readonly #stdin: WritableStreamDefaultWriter<Uint8Array>;
  readonly #answers: ReadableStreamDefaultReader<string>;

  /** @param host where to run the program */
  constructor(host: LabHost) {
    const program = new URL("nat_runner.ts", import.meta.url);
    const child = host.spawn(Deno.execPath(), denoArgs(program, []), {
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    });
    this.#stdin = child.stdin.getWriter();
    this.#answers = child.stdout.pipeThrough(new TextDecoderStream())
      .pipeThrough(new TextLineStream()).getReader();
  }

  /** Runs one NAT test. */
  async run(options: TestNatOptions): Promise<RunnerAnswer> {
    await this.#stdin.write(new TextEncoder().encode(`${JSON.stringify(options)}\n`));
    const { value, done } = await this.#answers.read();
    if (done) throw new Error("Cannot test NAT: the program in the host has ended");
    return JSON.parse(value) as RunnerAnswer;
  }

  /** Ends the program, and waits until its output has ended. */
  async close(): Promise<void> {
    await this.#stdin.close();
    while (!(await this.#answers.read()).done);
  }
}
