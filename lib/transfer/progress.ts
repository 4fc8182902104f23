/**
 * How far a transfer is.
 *
 * @module
 */

import type { Manifest } from "./manifest.ts";

/** How far a transfer is. */
export interface TransferProgress {
  /** What the receiver has, of all files. */
  readonly bytes: number;
  /** The sizes of all files. */
  readonly totalBytes: number;
  /** What the receiver had before this transfer began. */
  readonly resumedBytes: number;
  /** How many files are whole. */
  readonly files: number;
  /** How many there are. */
  readonly totalFiles: number;
  /** The file under way, as in the manifest; `null` between files. */
  readonly file: string | null;
}

/** A file has become whole. */
export interface FinishedFile {
  /** As in the manifest. */
  readonly path: string;
  /** In bytes. */
  readonly size: number;
  /** What of it the receiver had already: all of it if it was not sent at all. */
  readonly resumedBytes: number;
  /** The receiver's name for it, below the target folder, where that is another one; receivers know it. */
  readonly savedAs?: string;
}

/** Who is told. */
export interface ProgressListeners {
  /** Told after every piece, of some hundred KiB. */
  readonly onProgress?: (progress: TransferProgress) => void;
  /** Told of every file that is whole. */
  readonly onFile?: (file: FinishedFile) => void;
}

/** What a transfer came to. */
export interface TransferResult {
  /** How many files are whole at the receiver. */
  readonly files: number;
  /** The sizes of them all. */
  readonly bytes: number;
  /** What the receiver had before. */
  readonly resumedBytes: number;
  /** How many bytes of files went over connections. */
  readonly sentBytes: number;
  /** From the first connection to the end. */
  readonly elapsedMs: number;
  /** How often the connection broke. */
  readonly breaks: number;
}

/** Counts for one side. */
export class ProgressMeter {
  readonly #manifest: Manifest;
  readonly #listeners: ProgressListeners;
  readonly #totalBytes: number;
  readonly #totalFiles: number;
  /** Of each entry, what the receiver has. */
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

  /** How many bytes of files have gone over connections. */
  get sentBytes(): number {
    return this.#sentBytes;
  }

  /** How many files are whole. */
  get files(): number {
    return this.#finished.size;
  }

  /** A connection begins with so many bytes of each entry at the receiver. */
  begin(held: readonly number[]): void {
    held.forEach((length, index) => this.#held[index] = length);
    this.#bytes = sumOf(held);
    if (this.#resumed === undefined) {
      this.#resumed = [...held];
      this.#resumedBytes = this.#bytes;
    }
    this.#tell(null);
  }

  /** A piece of an entry is through. */
  add(index: number, length: number): void {
    this.#held[index]! += length;
    this.#bytes += length;
    this.#sentBytes += length;
    this.#tell(this.#manifest[index]!.path);
  }

  /** An entry is whole. */
  finish(index: number, savedAs?: string): void {
    const { kind, path, size } = this.#manifest[index]!;
    if (kind !== "file" || this.#finished.has(index)) return;
    this.#finished.add(index);
    const resumedBytes = this.#resumed?.[index] ?? 0;
    this.#listeners.onFile?.({
      ...{ path, size, resumedBytes },
      ...savedAs !== undefined && savedAs !== path && { savedAs },
    });
    this.#tell(null);
  }

  /** What it came to. */
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

  #tell(file: string | null): void {
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
