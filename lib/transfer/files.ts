/**
 * The interface to a file system, and the errors of a transfer.
 *
 * Paths are strings with `/` between names, on every system.
 *
 * @module
 */

import { PunchlineError } from "../base/errors.ts";

/** The file operations that a transfer needs. Failures reject with a {@linkcode FileError}. */
export interface FileSystem {
  /** Which names are valid: Windows reserves some characters. */
  readonly naming: "posix" | "windows";
  /** Describes what the path names, without following symbolic links; `undefined` if there is nothing. */
  stat(path: string): Promise<FileInfo | undefined>;
  /** The absolute path with all symbolic links resolved. */
  resolve(path: string): Promise<string>;
  /** Lists the names in a folder, in any order. */
  list(path: string): Promise<string[]>;
  /** Opens a file for reading, at `offset`. */
  open(path: string, offset: number): Promise<ReadableFile>;
  /**
   * Opens a file for writing, truncated to `offset` bytes. At offset 0 it is a new file that replaces what is there;
   * otherwise the file must exist. Symbolic links are not followed.
   */
  openPart(path: string, offset: number): Promise<WritableFile>;
  /** Creates a folder. Its parent must exist. */
  makeFolder(path: string): Promise<void>;
  /** Sets the attributes of a file. */
  setAttributes(path: string, attributes: FileAttributes): Promise<void>;
  /**
   * Renames a file, atomically.
   *
   * @param options `overwrite` replaces an existing file; without it, one is a {@linkcode FileError} `exists`
   */
  rename(from: string, to: string, options: { readonly overwrite: boolean }): Promise<void>;
  /** Removes a file if it exists. */
  remove(path: string): Promise<void>;
}

/** What a path names. */
export interface FileInfo extends FileAttributes {
  /** `"link"` is a symbolic link; `"other"` is a device, a socket or a pipe. */
  readonly kind: "file" | "folder" | "link" | "other";
  /** In bytes; meaningful for files only. */
  readonly size: number;
}

/** What a transfer preserves of a file besides its name and its bytes. */
export interface FileAttributes {
  /** When the file was last modified, in whole milliseconds since 1970. */
  readonly modifiedMs: number;
  /** Whether the file is executable; `false` if the system does not record it. */
  readonly isExecutable: boolean;
}

/** A file open for reading. */
export interface ReadableFile extends Disposable {
  /** Reads into the start of `buffer`; returns the number of bytes, or `null` at the end. */
  read(buffer: Uint8Array): Promise<number | null>;
  /** As {@linkcode FileSystem.stat}, for the open file. */
  stat(): Promise<FileInfo>;
  /** Closes the file; idempotent. */
  close(): void;
}

/** A file open for writing. */
export interface WritableFile extends Disposable {
  /** Writes all of the data, which must not change until the call returns. */
  write(data: Uint8Array): Promise<void>;
  /** Closes the file; idempotent. */
  close(): void;
}

/** Why a file could not be read or written. */
export type FileErrorReason = "not-found" | "exists" | "not-permitted" | "no-space" | "other";

/** A file operation on this side failed; `cause` is the platform's own error. */
export class FileError extends PunchlineError {
  /** `"FileError"`. */
  override readonly name = "FileError";
  /** The kind of failure, the same on every platform. */
  readonly reason: FileErrorReason;

  /**
   * Creates the error.
   *
   * @param reason the kind of failure
   */
  constructor(message: string, reason: FileErrorReason, options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
  }
}

/** Why a transfer ended; see {@linkcode TransferError}. */
export type TransferErrorReason =
  | "unacceptable" // what the other side offers or sends breaks a rule
  | "declined" // the receiver declined the offer
  | "exists" // a file is in the way, and overwriting was not requested
  | "changed" // a file was modified during the transfer, or the offer changed since the last connection
  | "damaged" // a file does not have the expected hash
  | "failed" // the other side could not continue, and reported why
  | "broken"; // the connection broke, and later ones made no progress

/** A transfer ended early. Files that are complete stay, and are not sent again the next time. */
export class TransferError extends PunchlineError {
  /** `"TransferError"`. */
  override readonly name = "TransferError";
  /** The kind of failure. */
  readonly reason: TransferErrorReason;

  /**
   * Creates the error.
   *
   * @param reason the kind of failure
   */
  constructor(message: string, reason: TransferErrorReason, options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
  }
}
