/**
 * `punch_runner.ts` in a host of the lab, seen from outside.
 *
 * @module
 */

import { denoArgs, type LabHost } from "../../kernel/lab_host.ts";
import { TextLineStream } from "../verdicts/lines.ts";
import type { RunnerCommand, RunnerResult } from "./punch_runner.ts";

/** Takes a message that is meant for the peer. */
export type OnSignal = (signal: string) => void;

/** Punches in a host as often as it is told to. It ends with the lab. */
export class PunchProgram {
  readonly #stdin: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reading: Promise<void>;
  readonly #ended: Promise<unknown>;
  readonly #punches = new Map<number, { onSignal: OnSignal; result: Result }>();
  #nextId = 1;

  /** @param host where to run */
  constructor(host: Pick<LabHost, "spawn">, options: { readonly permissions?: string } = {}) {
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
    await this.#ended; // its output ends a moment before it does
  }

  #write(value: unknown): void {
    // A program that has ended says so by the end of its output.
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

/** A punch under way. */
export interface StartedPunch {
  readonly result: Promise<RunnerResult>;
  /** Hands over a message of the peer. */
  deliver(signal: string): void;
}

type Result = PromiseWithResolvers<RunnerResult>;
