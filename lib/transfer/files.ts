/**
 * The seam to files: what a transfer needs of a file system, as types.
 *
 * Paths are texts with `/` between names, on every system.
 *
 * @module
 */

/** Files, of the system or of a test. Everything that fails rejects with a {@linkcode FileError}. */
export interface FileSystem {
  /** Which names the system takes: Windows has characters that mean something else there. */
  readonly naming: "posix" | "windows";
  /** What is there, itself and not what a symbolic link points to; `undefined` if nothing is. */
  stat(path: string): Promise<FileInfo | undefined>;
  /** The path without symbolic links, absolute. */
  resolve(path: string): Promise<string>;
  /** The names in a folder, in any order. */
  list(path: string): Promise<string[]>;
  /** Opens a file to read it from `offset` on. */
  open(path: string, offset: number): Promise<ReadableFile>;
  /**
   * Opens a file to write it from `offset` on, behind which it is cut off. At offset 0 it is made anew, in place of
   * what is there; elsewhere it has to be there. A symbolic link is not followed.
   */
  openPart(path: string, offset: number): Promise<WritableFile>;
  /** Makes a folder whose parent is there. */
  makeFolder(path: string): Promise<void>;
  /** Sets what a manifest says about a file beside its bytes. */
  setAttributes(path: string, attributes: FileAttributes): Promise<void>;
  /**
   * Gives a file its final name, in one step.
   *
   * @param options `overwrite` replaces a file of that name; otherwise one there is a {@linkcode FileError} `exists`
   */
  rename(from: string, to: string, options: { readonly overwrite: boolean }): Promise<void>;
  /** Removes a file, if it is there. */
  remove(path: string): Promise<void>;
}

/** What a path names. */
export interface FileInfo extends FileAttributes {
  /** `"other"` is a device, a socket or a pipe. */
  readonly kind: "file" | "folder" | "link" | "other";
  /** In bytes; of files. */
  readonly size: number;
}

/** What is kept of a file beside its name and its bytes. */
export interface FileAttributes {
  /** When it was last changed, in whole milliseconds since 1970. */
  readonly modifiedMs: number;
  /** Whether it is a program; `false` where the system does not know. */
  readonly isExecutable: boolean;
}

/** A file that is being read. */
export interface ReadableFile extends Disposable {
  /** Fills the start of `buffer`; the number of bytes, or `null` at the end. */
  read(buffer: Uint8Array): Promise<number | null>;
  /** As {@linkcode FileSystem.stat}, of the file that is open. */
  stat(): Promise<FileInfo>;
  /** Idempotent. */
  close(): void;
}

/** A file that is being written. */
export interface WritableFile extends Disposable {
  /** Writes all of the data, which must not change until then. */
  write(data: Uint8Array): Promise<void>;
  /** Idempotent. */
  close(): void;
}

/** Why a file could not be read or written. */
export type FileErrorReason = "not-found" | "exists" | "not-permitted" | "no-space" | "other";

/** Something failed with a file of this side; `cause` is the platform's own error. */
export class FileError extends Error {
  /** `"FileError"`. */
  override readonly name = "FileError";
  /** The kind of failure, the same on every platform. */
  readonly reason: FileErrorReason;

  /**
   * Makes one.
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
  | "declined" // the receiver does not want it
  | "exists" // it would overwrite something, which was not asked for
  | "changed" // a file was changed while it was sent, or is another one since the last connection
  | "damaged" // a file has not the hash it should have
  | "failed" // the other side could not go on, and said why
  | "broken"; // the connection broke, and no further one brought anything

/** A transfer ended without all of its files. What has arrived whole stays, and is not sent again the next time. */
export class TransferError extends Error {
  /** `"TransferError"`. */
  override readonly name = "TransferError";
  /** The kind of failure. */
  readonly reason: TransferErrorReason;

  /**
   * Makes one.
   *
   * @param reason the kind of failure
   */
  constructor(message: string, reason: TransferErrorReason, options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
  }
}
