/**
 * Counts the progress of a transfer.
 *
 * @module
 */

import type { Manifest, SkippedEntry } from "./manifest.ts";

/** The progress of a transfer. */
export interface TransferProgress {
  /** How many bytes the receiver has. */
  readonly bytes: number;
  /** The total size of all files. */
  readonly totalBytes: number;
  /** How many bytes the receiver had before this transfer began. */
  readonly resumedBytes: number;
  /** How many files are complete. */
  readonly files: number;
  /** The number of files. */
  readonly totalFiles: number;
  /** The path of the current file, as in the manifest; `null` between files. */
  readonly file: string | null;
}

/** A file that is complete. */
export interface FinishedFile {
  /** Its path, as in the manifest. */
  readonly path: string;
  /** In bytes. */
  readonly size: number;
  /** How many of its bytes the receiver had before: all of them, if it was not sent. */
  readonly resumedBytes: number;
  /** The path under which the receiver saved it, if that is different. Not known to senders. */
  readonly savedAs?: string;
}

/** A file, folder or link that was offered, but did not arrive. */
export interface RefusedFile {
  /** Its path, as in the manifest. */
  readonly path: string;
  /** Which side could not go on with it. */
  readonly by: "sender" | "receiver";
  /** Why, for people. */
  readonly reason: string;
}

/** A file, folder or link that the receiver saved under another name. */
export interface RenamedFile {
  /** Its path, as in the manifest. */
  readonly path: string;
  /** The path under which the receiver saved it. */
  readonly savedAs: string;
}

/** Callbacks for the progress of a transfer. */
export interface ProgressListeners {
  /** Called after every piece of up to a few hundred KiB. */
  readonly onProgress?: (progress: TransferProgress) => void;
  /** Called for every complete file. */
  readonly onFile?: (file: FinishedFile) => void;
  /** Called for everything that was offered but does not arrive. After a break, it may be called again. */
  readonly onRefused?: (file: RefusedFile) => void;
}

/**
 * The result of a transfer. Everything has arrived if `skipped` and `refused` are empty.
 */
export interface TransferResult {
  /** How many files the receiver has. */
  readonly files: number;
  /** Their total size, in bytes. */
  readonly bytes: number;
  /** How many of these bytes the receiver had before. */
  readonly resumedBytes: number;
  /** How many bytes of files were sent, including those sent again. */
  readonly sentBytes: number;
  /** The time from the first connection to the end. */
  readonly elapsedMs: number;
  /** How often the connection broke. */
  readonly breaks: number;
  /** What the sender found, but could not offer. */
  readonly skipped: readonly SkippedEntry[];
  /** What was offered, but did not arrive. */
  readonly refused: readonly RefusedFile[];
  /** What the receiver saved under another name. Not known to senders. */
  readonly renamed: readonly RenamedFile[];
}

/** Counts the progress of one side, and calls its listeners. */
export class ProgressMeter {
  readonly #manifest: Manifest;
  readonly #listeners: ProgressListeners;
  readonly #totalBytes: number;
  readonly #totalFiles: number;
  /** How many bytes of each entry the receiver has. */
  readonly #held: number[];
  readonly #finished = new Set<number>();
  #resumed: number[] | undefined;
  #resumedBytes = 0;
  #bytes = 0;
  #sentBytes = 0;
  #finishedBytes = 0;
  readonly #skipped: readonly SkippedEntry[];
  /** By their places in the manifest. */
  readonly #refused = new Map<number, RefusedFile>();
  readonly #renamed = new Map<number, RenamedFile>();

  constructor(
    { manifest, skipped }: { manifest: Manifest; skipped: readonly SkippedEntry[] },
    listeners: ProgressListeners,
  ) {
    this.#manifest = manifest;
    this.#skipped = skipped;
    this.#listeners = listeners;
    this.#held = manifest.map(() => 0);
    this.#totalBytes = manifest.reduce((sum, { size }) => sum + size, 0);
    this.#totalFiles = manifest.filter(({ kind }) => kind === "file").length;
  }

  /** How many bytes of files were sent. */
  get sentBytes(): number {
    return this.#sentBytes;
  }

  /** How many files are complete. */
  get files(): number {
    return this.#finished.size;
  }

  /** A connection begins. `held` is how many bytes of each entry the receiver has. */
  begin(held: readonly number[]): void {
    held.forEach((length, index) => this.#held[index] = length);
    this.#bytes = sumOf(held);
    this.#refused.clear(); // a file that failed before is tried again
    if (this.#resumed === undefined) {
      this.#resumed = [...held];
      this.#resumedBytes = this.#bytes;
    }
    this.#report(null);
  }

  /** A piece of an entry was sent or received. */
  add(index: number, length: number): void {
    this.#held[index]! += length;
    this.#bytes += length;
    this.#sentBytes += length;
    this.#report(this.#manifest[index]!.path);
  }

  /** An entry does not arrive. */
  refuse(index: number, by: RefusedFile["by"], reason: string): void {
    this.#bytes -= this.#held[index]!;
    this.#held[index] = 0;
    if (this.#refused.has(index)) return;
    this.#resumedBytes -= this.#resumed?.[index] ?? 0;
    if (this.#resumed !== undefined) this.#resumed[index] = 0;
    const { path, size } = this.#manifest[index]!;
    if (this.#finished.delete(index)) this.#finishedBytes -= size; // sent, but not taken
    const refused = { path, by, reason };
    this.#refused.set(index, refused);
    this.#listeners.onRefused?.(refused);
  }

  /** Whether an entry does not arrive. */
  isRefused(index: number): boolean {
    return this.#refused.has(index);
  }

  /** An entry is complete. */
  finish(index: number, savedAs?: string): void {
    const { kind, path, size } = this.#manifest[index]!;
    if (savedAs !== undefined && savedAs !== path) this.#renamed.set(index, { path, savedAs });
    if (kind !== "file" || this.#finished.has(index)) return;
    this.#finished.add(index);
    this.#finishedBytes += size;
    const resumedBytes = this.#resumed?.[index] ?? 0;
    this.#listeners.onFile?.(
      savedAs === undefined || savedAs === path
        ? { path, size, resumedBytes }
        : { path, size, resumedBytes, savedAs },
    );
    this.#report(null);
  }

  /** The result, once the transfer is complete. */
  result(elapsedMs: number, breaks: number): TransferResult {
    return {
      files: this.#finished.size,
      bytes: this.#finishedBytes,
      resumedBytes: this.#resumedBytes,
      sentBytes: this.#sentBytes,
      elapsedMs,
      breaks,
      skipped: this.#skipped,
      refused: [...this.#refused.values()],
      renamed: [...this.#renamed.values()],
    };
  }

  #report(file: string | null): void {
    this.#listeners.onProgress?.({
      bytes: this.#bytes,
      totalBytes: this.#totalBytes,
      resumedBytes: this.#resumedBytes,
      files: this.#finished.size,
      totalFiles: this.#totalFiles,
      file,
    });
  }
}

function sumOf(numbers: readonly number[]): number {
  return numbers.reduce((sum, number) => sum + number, 0);
}
