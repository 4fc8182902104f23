/**
 * Controls `peer_runner.ts` in a host of the lab.
 *
 * @module
 */

import { denoArgs, type LabHost } from "../../kernel/lab_host.ts";
import { TextLineStream } from "../../kernel/lines.ts";
import type { PeerCommand, PeerResult } from "./peer_runner.ts";

/** Opens and connects peers in a host. The program ends with the lab. */
export class PeerProgram {
  readonly #stdin: WritableStreamDefaultWriter<Uint8Array>;
  readonly #lines: ReadableStreamDefaultReader<string>;
  readonly #ended: Promise<unknown>;
  #lastId = 0;

  /** @param host where to run the program */
  constructor(host: Pick<LabHost, "spawn">) {
    const program = new URL("peer_runner.ts", import.meta.url);
    const child = host.spawn(Deno.execPath(), denoArgs(program, []), {
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    });
    this.#stdin = child.stdin.getWriter();
    this.#ended = child.status;
    this.#lines = child.stdout.pipeThrough(new TextDecoderStream())
      .pipeThrough(new TextLineStream()).getReader();
  }

  /** Runs a command, and waits for its result. One call at a time. */
  async do(command: PeerCommand): Promise<PeerResult> {
    const id = ++this.#lastId;
    const line = new TextEncoder().encode(`${JSON.stringify({ id, ...command })}\n`);
    await this.#stdin.write(line);
    const { value, done } = await this.#lines.read();
    if (done) throw new Error("Cannot connect: the program in the host has ended");
    return JSON.parse(value).result;
  }

  /** Opens a peer in place of the previous one; returns its ticket. */
  async open(options: Extract<PeerCommand, { command: "open" }>["options"]): Promise<string> {
    const result = await this.do({ command: "open", options });
    if (result.outcome === "opened") return result.ticket;
    throw new Error(`Cannot open a peer: ${JSON.stringify(result)}`);
  }

  /** Ends the program. */
  async close(): Promise<void> {
    await this.#stdin.close();
    while (!(await this.#lines.read()).done);
    await this.#ended;
  }
}
