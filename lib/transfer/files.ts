/**
 * The interface to a file system, and the errors of a transfer.
 *
 * Paths are strings with `/` between names, on every system.
 *
 * @module
 */

import { PunchlineError, type PunchlineErrorOptions } from "../base/errors.ts";

/** The file operations that a transfer needs. Failures reject with a {@linkcode FileError}. */
export interface FileSystem {
  /** Which names are valid: Windows reserves some characters and names. */
  readonly naming: "posix" | "windows";
  /** Describes what the path names, without following symbolic links; `undefined` if there is nothing. */
  stat(path: string): Promise<FileInfo | undefined>;
  /** The absolute path with all symbolic links resolved. */
  resolve(path: string): Promise<string>;
  /** Lists the names in a folder, in any order. */
  list(path: string): Promise<string[]>;
  /** The target of a symbolic link, as it was written. */
  readLink(path: string): Promise<string>;
  /** Opens a file for reading, at `offset`. */
  open(path: string, offset: number): Promise<ReadableFile>;
  /** Finds out what cannot be asked: writes a file into the folder, looks at it, and removes it. */
  probe(folder: string): Promise<FolderTraits>;
  /**
   * Creates a file and locks it. The lock ends with the process, however that ends. Nothing on the way to it below
   * `root` may be a symbolic link.
   *
   * @throws {FileError} `exists` if there is something
   */
  createPart(path: string, options: CreatePartOptions): Promise<PartFile>;
  /**
   * Opens a file that {@linkcode FileSystem.createPart} created earlier, and locks it. `undefined` if it is anything but a
   * plain file of this user with one name, or if it is locked.
   */
  openPart(path: string, owner: FolderTraits["owner"]): Promise<PartFile | undefined>;
  /** Creates a folder. Its parent must exist. */
  makeFolder(path: string): Promise<void>;
  /** Creates a symbolic link; a {@linkcode FileError} `exists` if there is something. */
  makeLink(path: string, target: string): Promise<void>;
  /** Returns once the names in the folder would survive a power failure, on systems that can tell. */
  syncFolder(path: string): Promise<void>;
}

/** What a folder is like; see {@linkcode FileSystem.probe}. */
export interface FolderTraits {
  /** Whether two names may differ only in case or Unicode normalization. */
  readonly isCaseSensitive: boolean;
  /** Whom new files belong to; `null` if the system does not say. */
  readonly owner: number | null;
}

/** How to create a file; see {@linkcode FileSystem.createPart}. */
export interface CreatePartOptions {
  /** An absolute path without symbolic links, above the path of the file. */
  readonly root: string;
  /** Whether those who may read the file may execute it. */
  readonly isExecutable: boolean;
  /** Whether only this user may read or write the file. Default: false. */
  readonly isPrivate?: boolean;
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

/** An incomplete file, open and locked. Every operation is on the open file, whatever its path names meanwhile. */
export interface PartFile extends ReadableFile {
  /** Moves to an offset, where the next read or write begins. */
  seek(offset: number): Promise<void>;
  /** Discards everything after `length` bytes, and moves there. */
  truncate(length: number): Promise<void>;
  /** Writes all of the data, which must not change until the call returns. */
  write(data: Uint8Array): Promise<void>;
  /** Sets the time of modification, and returns once the content would survive a power failure. */
  finish(modifiedMs: number): Promise<void>;
  /**
   * Renames the file, atomically, and closes it.
   *
   * @param options `overwrite` replaces an existing file; without it, one is a {@linkcode FileError} `exists`
   * @throws {FileError} `replaced` if the old or the new path is not this file
   */
  publish(to: string, options: { readonly overwrite: boolean }): Promise<void>;
  /** Whether its path still names it. */
  isThere(): Promise<boolean>;
  /** Closes the file, and removes it if its path still names it. */
  discard(): Promise<void>;
}

/** Why a file could not be read or written. */
export type FileErrorReason =
  | "not-found"
  | "exists"
  | "not-permitted"
  | "no-space"
  | "name" // the system cannot hold such a name
  | "replaced" // another program has moved the file, or put another in its place
  | "other";

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
  constructor(message: string, reason: FileErrorReason, options?: PunchlineErrorOptions) {
    super(message, options, FILE_REMEDIES[reason]);
    this.reason = reason;
  }
}

/** Why a transfer ended; see {@linkcode TransferError}. */
export type TransferErrorReason =
  | "unacceptable" // what the other side offers or sends breaks a rule
  | "declined" // the receiver declined the offer
  | "merge" // the offer would go into an existing folder, and merging was not allowed
  | "hidden" // a hidden or executable file would go into an existing folder, which was not allowed
  | "version" // one side is older; the message says which one to update
  | "exists" // a file is in the way, and overwriting was not requested
  | "changed" // a file was modified during the transfer
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
  constructor(message: string, reason: TransferErrorReason, options?: PunchlineErrorOptions) {
    super(message, { ...options, remedy: options?.remedy ?? TRANSFER_REMEDIES[reason] });
    this.reason = reason;
  }
}

const FILE_REMEDIES: Readonly<Record<FileErrorReason, string>> = {
  "not-found": "Check the spelling of the path",
  "exists": "Move what is there, or choose another name",
  "not-permitted":
    "Let this user read and write it, and run the program with --allow-read and --allow-write",
  "no-space": "Free some space on the disk, and start the transfer again",
  "name": "Rename it to something that this system can store",
  "replaced": "End the other program that changes it, and start the transfer again",
  "other": "Check that the file and its folder can be used, and start the transfer again",
};

const TRANSFER_REMEDIES: Readonly<Record<TransferErrorReason, string>> = {
  "unacceptable": "Update both sides, and send it again without what the message names",
  "declined": "Ask the receiver to say yes, and send it again",
  "merge": "Allow `merge`, or receive into another folder",
  "hidden": "Allow `allowHidden` if you trust the sender, or receive into another folder",
  "version": "Run the same version on both sides",
  "exists": "Move what is there, or choose `existing`",
  "changed": "Send it again once the file no longer changes",
  "damaged": "Start the transfer again",
  "failed": "Start the transfer again on both sides",
  "broken": "Start the transfer again: it continues where it was",
};
