/**
 * The progress of `send` and `recv`: on stderr a bar on a terminal, or else a line for each file; with `--json` events
 * on stdout.
 *
 * @module
 */

import {
  type ExistingPolicy,
  FileError,
  type FinishedFile,
  type KeptFile,
  printable,
  type ProgressListeners,
  type RefusedFile,
  TransferError,
  type TransferProgress,
  type TransferResult,
} from "../transfer/mod.ts";
import { type CliIo, EXIT, failureOf, printFailure } from "./io.ts";
import { copyable, cutStart } from "./layout.ts";
import { REFUSAL_TEXT } from "../transfer/refuse.ts";
import { screenOf, waitOver } from "./screen.ts";
import { elapsedText } from "./status_engine.ts";

/** Reports the progress of a transfer. */
export class TransferReporter implements ProgressListeners {
  readonly #io: CliIo;
  readonly #asJson: boolean;
  readonly #route: () => string | undefined;
  readonly #rate = new RecentRate();
  #reportedAtMs = -Infinity;
  #latest: TransferProgress | undefined;
  /** When the receiver had more bytes than before for the first and for the last time. */
  #startedAtMs: number | undefined;
  #movedAtMs = 0;
  /** How many files with content the receiver had before. */
  #kept = 0;

  /** @param options.route how the other side is connected, for people; `undefined` while it is not */
  constructor(io: CliIo, options: { asJson: boolean; route?: () => string | undefined }) {
    this.#io = io;
    this.#asJson = options.asJson;
    this.#route = options.route ?? (() => undefined);
  }

  /** Prints a line for people, above the bar; nothing with `--json`. */
  print(line: string): void {
    if (!this.#asJson) this.#io.err(line);
  }

  /** Prints an event for programs; nothing without `--json`. */
  emit(event: Readonly<Record<string, unknown>>): void {
    if (this.#asJson) this.#io.out(JSON.stringify(event));
  }

  readonly onProgress = (progress: TransferProgress): void => {
    const nowMs = performance.now();
    if (this.#latest === undefined) waitOver(this.#io);
    if (progress.bytes !== this.#latest?.bytes) this.#movedAtMs = nowMs;
    this.#startedAtMs ??= nowMs;
    this.#latest = progress;
    this.#rate.add(nowMs, progress.bytes);
    const isLast = progress.bytes === progress.totalBytes && progress.file === null;
    if (!isLast && nowMs - this.#reportedAtMs < (this.#asJson ? EVENT_MS : BAR_MS)) return;
    this.#reportedAtMs = nowMs;
    const bytesPerSecond = this.#rate.bytesPerSecond ?? null;
    this.emit({ event: "progress", ...progress, bytesPerSecond });
    screenOf(this.#io)?.show(this.#bar);
  };

  /** Drawn again every second, even if nothing moves. */
  readonly #bar = (): string => {
    const progress = this.#latest!;
    const nowMs = performance.now();
    this.#rate.add(nowMs, progress.bytes);
    const stillMs = nowMs - this.#movedAtMs;
    const isOver = progress.bytes === progress.totalBytes;
    const note = stillMs < STILL_MS
      ? undefined
      : `${isOver ? "finishing" : "stalled"}, ${elapsedText(stillMs)}`;
    const columns = this.#io.status?.columns ?? Infinity;
    return progressBar(progress, this.#rate.bytesPerSecond, columns, note);
  };

  readonly onFile = (file: FinishedFile): void => {
    this.emit({ event: "file", ...file });
    const { path, size, savedAs, resumedBytes } = file;
    const isKept = size > 0 && resumedBytes === size;
    if (isKept) this.#kept++;
    const kept = isKept ? ", already there" : "";
    const renamed = savedAs === undefined ? "" : ` as ${printable(savedAs)}`;
    if (this.#io.status === undefined || renamed !== "") {
      this.print(`${printable(path)}${renamed}  (${formatBytes(size)}${kept})`);
    }
  };

  readonly onRefused = (file: RefusedFile): void => {
    this.emit({ event: "refused", ...file });
    this.print(
      `Cannot ${file.by === "sender" ? "send" : "receive"} ${printable(file.path)}: ${file.reason}`,
    );
  };

  readonly onBreak = (error: Error): void => {
    this.emit({ event: "broken", reason: error.message });
    screenOf(this.#io)?.show(undefined);
    const why = error.message.replace(/^Cannot [^:]*: /, "");
    this.print(`The connection broke: ${why}. Waiting up to two minutes for another`);
  };

  /**
   * Reports that the transfer is over.
   *
   * @param existing what this side does about names that are taken
   * @returns the exit code: a failure if anything is missing
   */
  finished(
    verb: "Sent" | "Received",
    result: TransferResult,
    existing: ExistingPolicy = "refuse",
  ): number {
    this.emit({ event: "finished", ...result });
    this.#clear();
    const isNothing = result.files > 0 && this.#kept === result.files && result.sentBytes === 0;
    const movedMs = performance.now() - (this.#startedAtMs ?? performance.now());
    const lines = isNothing
      ? [nothingLine(verb, result)]
      : summary(verb, result, { route: this.#route(), movedMs });
    for (const line of lines) this.print(line);
    const missing = result.skipped.length + result.refused.length;
    if (missing === 0) return EXIT.ok;
    this.print(`${missing === 1 ? "One thing was" : `${missing} things were`} left out: see above`);
    const isTaken = result.refused.some(({ reason }) => reason === REFUSAL_TEXT.exists);
    const advice = verb === "Received" && isTaken ? ADVICE[existing] : undefined;
    if (advice !== undefined) this.print(advice);
    const isHidden = result.refused.some(({ reason }) => reason === REFUSAL_TEXT.hidden);
    if (verb === "Received" && isHidden) {
      this.print("Use --allow-hidden to receive hidden files and programs");
    }
    return EXIT.failure;
  }

  /** What a failed transfer leaves that another one need not send again, for people; `undefined` if that is nothing. */
  whatIsKept(incomplete: readonly KeptFile[]): string | undefined {
    const { files = 0, totalFiles = 0 } = this.#latest ?? {};
    const parts = incomplete.slice(0, MAX_KEPT).map(({ path, bytes, size }) =>
      `${formatIn(unitOf(size), bytes)} of ${printable(path)}`
    );
    if (files > 0) parts.unshift(`${files} of ${formatFiles(totalFiles)}`);
    return parts.length === 0 ? undefined : parts.join(", and ");
  }

  #clear(): void {
    screenOf(this.#io)?.show(undefined);
    waitOver(this.#io);
  }

  /** Erases the bar. */
  [Symbol.dispose](): void {
    this.#clear();
  }
}

/**
 * Reports why a transfer failed.
 *
 * @returns the exit code
 * @throws the error itself if it is not a failure of the transfer
 */
export function reportTransferFailure(
  error: unknown,
  reporter: TransferReporter,
  io: CliIo,
): number {
  reporter[Symbol.dispose]();
  if (io.signal.aborted) return EXIT.interrupted;
  if (!(error instanceof TransferError || error instanceof FileError)) throw error;
  const failure = failureOf(error);
  const message = printable(failure.message);
  const remedy = failure.remedy && printable(failure.remedy);
  reporter.emit({ event: "failed", reason: error.reason, message, remedy });
  if (error.reason === "not-permitted") throw error; // its remedy is that of every command
  printFailure({ message, remedy }, io);
  return EXIT.failure;
}

/** Formats a size, as `1.5 MiB`. */
export function formatBytes(bytes: number): string {
  const unit = unitOf(bytes);
  if (unit !== "MiB" || bytes < KIB ** 3) return formatIn(unit, bytes);
  return `${(bytes / KIB ** 3).toFixed(1)} GiB`;
}

/** The one unit for everything about a transfer of so many bytes: what is compared should be in the same unit. */
function unitOf(totalBytes: number): ByteUnit {
  return totalBytes < KIB ? "bytes" : totalBytes < KIB * KIB / 10 ? "KiB" : "MiB";
}

/** Formats a size or a rate in this unit, with as many digits as it takes to say something. */
function formatIn(unit: ByteUnit, bytes: number): string {
  if (unit === "bytes") return `${bytes} ${bytes === 1 ? "byte" : "bytes"}`;
  const value = bytes / (unit === "KiB" ? KIB : KIB * KIB);
  if (value > 0 && value < 0.0005) return formatIn("bytes", bytes);
  const digits = value >= 0.1 || value === 0 ? 1 : value >= 0.01 ? 2 : 3;
  return `${value.toFixed(digits)} ${unit}`;
}

/** A unit for sizes. */
export type ByteUnit = "bytes" | "KiB" | "MiB";

/** Formats a duration, as `1:05` or `2:00:00`. */
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

/** Formats a number of files, as `3 files`. */
export function formatFiles(count: number): string {
  return `${count} ${count === 1 ? "file" : "files"}`;
}

/** Sums up a transfer of what the receiver had. */
function nothingLine(verb: "Sent" | "Received", { files }: TransferResult): string {
  const what = files === 1 ? "the file is" : `all ${files} files are`;
  return `Nothing to ${verb === "Sent" ? "send" : "receive"}: ${what} already there`;
}

/**
 * Sums up a transfer. The rate follows from the sizes and the time that are shown.
 *
 * @param options.movedMs how long files were sent: the time of the whole transfer includes that of the questions
 */
function summary(
  verb: "Sent" | "Received",
  result: TransferResult,
  { route, movedMs }: { readonly route: string | undefined; readonly movedMs: number },
): string[] {
  const { files, bytes, resumedBytes, sentBytes, breaks } = result;
  const unit = unitOf(Math.max(bytes, sentBytes));
  const tenths = Math.max(Math.round(movedMs / 100), 1);
  const seconds = tenths < 100 ? tenths / 10 : Math.round(movedMs / 1000);
  const rate = formatIn(unit, Math.round(sentBytes / seconds));
  const time = tenths < 100 ? `${seconds.toFixed(1)} s` : formatDuration(seconds);
  const line = [
    `${verb} ${formatFiles(files)}, ${formatIn(unit, bytes)}`,
    sentBytes > 0 ? ` in ${time} (${copyable(`${rate}/s`)})` : "",
    route === undefined ? "" : `, ${route}`,
    resumedBytes > 0 ? `, ${formatIn(unit, resumedBytes)} of it already there` : "",
    breaks > 0 ? `, over ${breaks + 1} connections` : "",
  ].join("");
  if (bytes === 0) return [line];
  const what = files === 1 ? "the file has" : `all ${files} files have`;
  return [line, `Checked: ${what} the same SHA-256 on both sides`];
}

/**
 * Draws a bar that fits the terminal: `[#####-----]  50 %  1.5 MiB of 3.0 MiB  1.0 MiB/s  0:02 left  name`. Parts that
 * do not fit are left out, the name first.
 *
 * @param rate bytes per second, or `undefined` while unknown
 * @param note what is shown instead of the rate
 */
export function progressBar(
  progress: TransferProgress,
  rate: number | undefined,
  columns: number,
  note?: string,
): string {
  const { bytes, totalBytes, file } = progress;
  const unit = unitOf(totalBytes);
  const share = totalBytes === 0 ? 1 : Math.min(bytes / totalBytes, 1);
  const parts = [
    `${Math.floor(share * 100)} %`.padStart(5),
    `${formatIn(unit, bytes)} of ${formatIn(unit, totalBytes)}`,
    ...note !== undefined ? [note] : rate === undefined ? [] : [
      `${formatIn(unit, Math.round(rate))}/s`,
      ...rate > 0 ? [`${formatDuration((totalBytes - bytes) / rate)} left`] : [],
    ],
  ];
  const width = Math.max(columns - 1, 1); // the last column would wrap
  while (parts.length > 1 && parts.join("  ").length > width) {
    parts.splice(note !== undefined && parts.length > 2 ? 1 : parts.length - 1, 1);
  }
  let line = parts.join("  ");
  const barWidth = Math.min(MAX_BAR, width - line.length - 4);
  if (barWidth >= MIN_BAR) {
    const done = Math.round(share * barWidth);
    line = `[${"#".repeat(done)}${"-".repeat(barWidth - done)}] ${line}`;
  }
  const room = width - line.length - 2;
  return room >= MIN_NAME && file !== null ? `${line}  ${cutStart(printable(file), room)}` : line;
}

/** The rate over the last few seconds. */
class RecentRate {
  readonly #samples: { atMs: number; bytes: number }[] = [];

  /** `undefined` until there are enough samples. */
  get bytesPerSecond(): number | undefined {
    const [first, last] = [this.#samples[0], this.#samples.at(-1)];
    if (first === undefined || last === undefined) return undefined;
    const elapsedMs = last.atMs - first.atMs;
    return elapsedMs < MIN_WATCH_MS ? undefined : (last.bytes - first.bytes) / elapsedMs * 1000;
  }

  add(atMs: number, bytes: number): void {
    const last = this.#samples.at(-1);
    if (last !== undefined && bytes < last.bytes) this.#samples.length = 0; // a file started again
    else if (last !== undefined && atMs - last.atMs < SAMPLE_MS) return;
    this.#samples.push({ atMs, bytes });
    while (atMs - this.#samples[0]!.atMs > WINDOW_MS) this.#samples.shift();
  }
}

/** Chosen by us: smooth enough for a person, and few enough events for a program. */
const BAR_MS = 100;
const EVENT_MS = 500;

/** Chosen by us: a shorter window makes the rate jump, a longer one makes it lag. */
const WINDOW_MS = 5000;
const SAMPLE_MS = 100;
const MIN_WATCH_MS = 500;

/** What else to do about names that are taken. */
const ADVICE: Readonly<Record<ExistingPolicy, string | undefined>> = {
  refuse: "Use --rename to keep both files, or --overwrite to replace yours",
  overwrite: "Only files are replaced: use --rename to keep both",
  rename: undefined,
};

/** Chosen by us: an interrupted run leaves one incomplete file, as a rule. */
const MAX_KEPT = 3;

/** Chosen by us: what moves at all has moved by then. */
const STILL_MS = 1500;

const KIB = 1024;

/** In columns. Chosen by us: a shorter bar or name says nothing. */
const MAX_BAR = 30;
const MIN_BAR = 10;
const MIN_NAME = 12;
