/**
 * What `send` and `recv` tell while files go over: on stderr a bar on a terminal, or a line for each file elsewhere; JSON
 * lines for programs, on stdout.
 *
 * @module
 */

import {
  FileError,
  type FinishedFile,
  printable,
  type ProgressListeners,
  TransferError,
  type TransferProgress,
  type TransferResult,
} from "../transfer/mod.ts";
import { type CliIo, EXIT } from "./io.ts";

/** `1.5 MiB`. */
export function formatBytes(bytes: number): string {
  if (bytes < KIB) return `${bytes} ${bytes === 1 ? "byte" : "bytes"}`;
  const mib = bytes / KIB / KIB;
  if (mib < 0.1) return `${(bytes / KIB).toFixed(1)} KiB`;
  return mib < 10 * KIB ? `${mib.toFixed(1)} MiB` : `${(mib / KIB).toFixed(1)} GiB`;
}

/** `1:05`, or `2:00:00`. */
export function formatDuration(seconds: number): string {
  const whole = Math.round(seconds);
  const [hours, minutes, rest] = [
    Math.floor(whole / 3600),
    Math.floor(whole / 60) % 60,
    whole % 60,
  ];
  const two = (number: number) => `${number}`.padStart(2, "0");
  return hours > 0 ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

/** `3 files`. */
export function formatFiles(count: number): string {
  return `${count} ${count === 1 ? "file" : "files"}`;
}

/** One line about the whole. */
export function summaryLine(verb: "Sent" | "Received", result: TransferResult): string {
  const { files, bytes, resumedBytes, sentBytes, elapsedMs, breaks } = result;
  const rate = formatBytes(Math.round(sentBytes / Math.max(elapsedMs / 1000, 0.001)));
  return [
    `${verb} ${formatFiles(files)}, ${formatBytes(bytes)}`,
    ` in ${formatDuration(elapsedMs / 1000)} (${rate}/s)`,
    resumedBytes > 0 ? `, ${formatBytes(resumedBytes)} of it were there already` : "",
    breaks > 0 ? `, over ${breaks + 1} connections` : "",
  ].join("");
}

/**
 * A bar that fits: `[#####-----]  50 %  1.5/3.0 MiB  1.0 MiB/s  0:02  name`. What does not fit is left out, the name
 * first.
 *
 * @param rate bytes a second, or `undefined` while it is not known
 */
export function progressBar(
  progress: TransferProgress,
  rate: number | undefined,
  columns: number,
): string {
  const { bytes, totalBytes, file } = progress;
  const share = totalBytes === 0 ? 1 : Math.min(bytes / totalBytes, 1);
  const parts = [
    `${Math.floor(share * 100)} %`.padStart(5),
    `${formatBytes(bytes)} of ${formatBytes(totalBytes)}`,
    ...rate === undefined ? [] : [
      `${formatBytes(Math.round(rate))}/s`,
      ...rate > 0 ? [`${formatDuration((totalBytes - bytes) / rate)} left`] : [],
    ],
  ];
  const width = Math.max(columns - 1, 1); // the last column would wrap
  while (parts.length > 1 && parts.join("  ").length > width) parts.pop();
  let line = parts.join("  ");
  const barWidth = Math.min(MAX_BAR, width - line.length - 4);
  if (barWidth >= MIN_BAR) {
    const done = Math.round(share * barWidth);
    line = `[${"#".repeat(done)}${"-".repeat(barWidth - done)}] ${line}`;
  }
  const room = width - line.length - 2;
  return room >= MIN_NAME && file !== null ? `${line}  ${shorten(file, room)}` : line;
}

/** The end of a name, which tells more than its start. */
function shorten(name: string, room: number): string {
  const shown = [...printable(name)];
  // A character may take two columns; halving the room where one is not ASCII errs on the side of what fits.
  // deno-lint-ignore no-control-regex
  const fitting = /^[\u0000-\u007f]*$/.test(name) ? room : Math.floor(room / 2);
  return shown.length <= fitting ? shown.join("") : `…${shown.slice(1 - fitting).join("")}`;
}

const KIB = 1024;

/** Ours. */
const MAX_BAR = 30;
const MIN_BAR = 10;
const MIN_NAME = 12;

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

/**
 * Prints why, and gives the exit code.
 *
 * @throws what is none of the transfer's own failures
 */
export function transferFailure(error: unknown, reporter: TransferReporter, io: CliIo): number {
  reporter[Symbol.dispose]();
  if (io.signal.aborted) return EXIT.interrupted;
  if (!(error instanceof TransferError || error instanceof FileError)) throw error;
  const message = printable(error.message);
  reporter.event({ event: "failed", reason: error.reason, message });
  io.err(`punchline: ${message}`);
  return EXIT.failure;
}
