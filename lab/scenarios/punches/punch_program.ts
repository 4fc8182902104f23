/**
 * Controls `punch_runner.ts` in a host of the lab.
 *
 * @module
 */

import { denoArgs, type LabHost } from "../../kernel/lab_host.ts";
import { TextLineStream } from "../../kernel/lines.ts";
import type { RunnerCommand, RunnerResult } from "./runner_types.ts";

/** Receives a signaling message for the peer. */
export type OnSignal = (signal: string) => void;

/** Runs punches in a host. The program ends with the lab. */
export class PunchProgram {
  readonly #stdin: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reading: Promise<void>;
  readonly #ended: Promise<unknown>;
  readonly #punches = new Map<number, { onSignal: OnSignal; result: Result }>();
  #nextId = 1;

  /** @param host where to run the program */
  constructor(
    host: Pick<LabHost, "spawn">,
    options: { readonly permissions?: string; readonly unstable?: boolean } = {},
  ) {
    const program = new URL("punch_runner.ts", import.meta.url);
    const child = host.spawn(Deno.execPath(), denoArgs(program, [], options), {
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    });
    this.#stdin = child.stdin.getWriter();
    this.#ended = child.status;
    this.#reading = this.#read(
      child.stdout.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream()),
    );
  }

  /** Starts a punch. */
  punch(command: RunnerCommand, onSignal: OnSignal): StartedPunch {
    const id = this.#nextId++;
    const result: Result = Promise.withResolvers();
    this.#punches.set(id, { onSignal, result });
    this.#write({ id, command });
    return { result: result.promise, deliver: (signal) => this.#write({ id, signal }) };
  }

  /** Ends the program. */
  async close(): Promise<void> {
    await this.#stdin.close();
    await this.#reading;
    await this.#ended; // its output ends slightly earlier
  }

  #write(value: unknown): void {
    // If the program has ended, the end of its output reports it.
    this.#stdin.write(new TextEncoder().encode(`${JSON.stringify(value)}\n`)).catch(() => {});
  }

  async #read(lines: ReadableStream<string>): Promise<void> {
    for await (const line of lines) {
      const { id, signal, result } = JSON.parse(line);
      const punch = this.#punches.get(id);
      if (result === undefined) {
        punch?.onSignal(signal);
      } else {
        this.#punches.delete(id);
        punch?.result.resolve(result);
      }
    }
    for (const { result } of this.#punches.values()) {
      result.reject(new Error("Cannot punch: the program in the host has ended"));
    }
  }
}

/** A punch in progress. */
export interface StartedPunch {
  readonly result: Promise<RunnerResult>;
  /** Delivers a signaling message from the peer. */
  deliver(signal: string): void;
}

type Result = PromiseWithResolvers<RunnerResult>;
