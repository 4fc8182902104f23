/**
 * What `send` and `recv` tell while files go over: on stderr a bar on a terminal, or a line for each file elsewhere; JSON
 * lines for programs, on stdout.
 *
 * @module
 */

import {
  type FinishedFile,
  printable,
  type ProgressListeners,
  type TransferProgress,
  type TransferResult,
} from "../transfer/mod.ts";
import type { CliIo } from "./io.ts";
import { formatBytes, progressBar, summaryLine } from "./transfer_text.ts";

/** Tells how a transfer goes. */
export class TransferReporter implements ProgressListeners {
  readonly #io: CliIo;
  readonly #asJson: boolean;
  readonly #rate = new RecentRate();
  #toldAtMs = -Infinity;
  #hasBar = false;

  constructor(io: CliIo, options: { asJson: boolean }) {
    this.#io = io;
    this.#asJson = options.asJson;
  }

  /** A line for people, above the bar; programs are spared it. */
  say(line: string): void {
    if (this.#asJson) return;
    this.#clearBar();
    this.#io.err(line);
  }

  /** An event for programs. */
  event(event: Readonly<Record<string, unknown>>): void {
    if (this.#asJson) this.#io.out(JSON.stringify(event));
  }

  readonly onProgress = (progress: TransferProgress): void => {
    const nowMs = performance.now();
    this.#rate.add(nowMs, progress.bytes);
    const isLast = progress.bytes === progress.totalBytes && progress.file === null;
    if (!isLast && nowMs - this.#toldAtMs < (this.#asJson ? EVENT_MS : BAR_MS)) return;
    this.#toldAtMs = nowMs;
    const rate = this.#rate.bytesPerSecond;
    if (this.#asJson) {
      this.event({ event: "progress", ...progress, bytesPerSecond: rate ?? null });
      return;
    }
    const status = this.#io.status;
    if (status === undefined) return;
    status.write(`\r${progressBar(progress, rate, status.columns)}${CLEAR_REST}`);
    this.#hasBar = true;
  };

  readonly onFile = (file: FinishedFile): void => {
    this.event({ event: "file", ...file });
    const { path, size, savedAs, resumedBytes } = file;
    const kept = size > 0 && resumedBytes === size ? ", was there already" : "";
    const renamed = savedAs === undefined ? "" : ` as ${printable(savedAs)}`;
    if (this.#io.status === undefined || renamed !== "") {
      this.say(`${printable(path)}${renamed}  (${formatBytes(size)}${kept})`);
    }
  };

  readonly onBreak = (error: Error): void => {
    this.event({ event: "broken", reason: error.message });
    this.say(`The connection broke, waiting up to two minutes for the next: ${error.message}`);
  };

  /** It is over. */
  finished(verb: "Sent" | "Received", result: TransferResult): void {
    this.event({ event: "finished", ...result });
    this.say(summaryLine(verb, result));
  }

  /** Leaves an empty line where the bar was. */
  #clearBar(): void {
    if (!this.#hasBar) return;
    this.#hasBar = false;
    this.#io.status?.write(`\r${CLEAR_REST}`);
  }

  /** Whoever prints after this has a line of his own. */
  [Symbol.dispose](): void {
    this.#clearBar();
  }
}

/** The rate of the last seconds. */
class RecentRate {
  readonly #samples: { atMs: number; bytes: number }[] = [];

  /** Undefined until it has been watched for a while. */
  get bytesPerSecond(): number | undefined {
    const [first, last] = [this.#samples[0], this.#samples.at(-1)];
    if (first === undefined || last === undefined) return undefined;
    const elapsedMs = last.atMs - first.atMs;
    return elapsedMs < MIN_WATCH_MS ? undefined : (last.bytes - first.bytes) / elapsedMs * 1000;
  }

  add(atMs: number, bytes: number): void {
    const last = this.#samples.at(-1);
    if (last !== undefined && bytes < last.bytes) this.#samples.length = 0; // a file began anew
    else if (last !== undefined && atMs - last.atMs < SAMPLE_MS) return;
    this.#samples.push({ atMs, bytes });
    while (atMs - this.#samples[0]!.atMs > WINDOW_MS) this.#samples.shift();
  }
}

/** Erase in line: from the cursor to its end (ECMA-48 EL). */
const CLEAR_REST = "\u001b[K";

/** Ours: as smooth as needs be. */
const BAR_MS = 100;
const EVENT_MS = 500;

/** Ours: a rate over less jumps, over more is late. */
const WINDOW_MS = 5000;
const SAMPLE_MS = 100;
const MIN_WATCH_MS = 500;
