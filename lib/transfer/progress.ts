/**
 * Counts the progress of a transfer.
 *
 * @module
 */

import type { Manifest } from "./manifest.ts";

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

/** Callbacks for the progress of a transfer. */
export interface ProgressListeners {
  /** Called after every piece of up to a few hundred KiB. */
  readonly onProgress?: (progress: TransferProgress) => void;
  /** Called for every complete file. */
  readonly onFile?: (file: FinishedFile) => void;
}

/** The result of a transfer. */
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
  #resumed: readonly number[] | undefined;
  #resumedBytes = 0;
  #bytes = 0;
  #sentBytes = 0;

  constructor(manifest: Manifest, listeners: ProgressListeners) {
    this.#manifest = manifest;
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

  /** An entry is complete. */
  finish(index: number, savedAs?: string): void {
    const { kind, path, size } = this.#manifest[index]!;
    if (kind !== "file" || this.#finished.has(index)) return;
    this.#finished.add(index);
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
      bytes: this.#totalBytes,
      resumedBytes: this.#resumedBytes,
      sentBytes: this.#sentBytes,
      elapsedMs,
      breaks,
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
