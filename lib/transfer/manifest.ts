/**
 * The manifest: which files, folders and links a sender offers.
 *
 * @module
 */

import { RunningHash } from "../base/crypto.ts";
import type { FileAttributes, ReadableFile } from "./files.ts";

/** Everything that is offered, in the order in which it is sent: a folder, then all of its content. */
export type Manifest = readonly ManifestEntry[];

/** One file, folder or symbolic link of a manifest. */
export interface ManifestEntry extends FileAttributes {
  /** `"link"` is a symbolic link. */
  readonly kind: "file" | "folder" | "link";
  /** Relative to the target folder, with `/` between names. */
  readonly path: string;
  /** In bytes; 0 for folders and links. */
  readonly size: number;
  /** Where a link leads, relative to its folder: to something that is offered with it, or to nothing. */
  readonly target?: string;
}

/** A summary of an offer. */
export interface OfferSummary {
  /** The number of files. */
  readonly files: number;
  /** The number of folders. */
  readonly folders: number;
  /** The number of symbolic links. */
  readonly links: number;
  /** The total size of all files, in bytes. */
  readonly bytes: number;
  /** Every file, folder and link. The names are checked, but may contain characters that do not print. */
  readonly manifest: Manifest;
  /** What the sender found but cannot send. */
  readonly skipped: readonly SkippedEntry[];
}

/** Something that the sender found but cannot send. */
export interface SkippedEntry {
  /** Its path, as in the manifest. It is not checked, and names nothing at the receiver. */
  readonly path: string;
  /** Why. */
  readonly reason: SkipReason;
}

/**
 * Why something cannot be sent. `"link"`: a symbolic link that leads out of what is sent. `"other"`: a device, a socket or
 * a pipe. `"missing"`: it was listed but cannot be found, because it was removed meanwhile or its name is not UTF-8.
 * `"unreadable"`: the folder may not be read.
 */
export type SkipReason = "link" | "other" | "missing" | "unreadable";

/** Counts the entries and bytes of a manifest. */
export function summarize(manifest: Manifest, skipped: readonly SkippedEntry[]): OfferSummary {
  const counts = { file: 0, folder: 0, link: 0 };
  let bytes = 0;
  for (const { kind, size } of manifest) {
    counts[kind]++;
    bytes += size;
  }
  const { file: files, folder: folders, link: links } = counts;
  return { files, folders, links, bytes, manifest, skipped };
}

/**
 * Hashes the first `length` bytes of a file. The caller can continue the hash with the next bytes.
 *
 * @param file open at its start
 * @returns `undefined` if the file is shorter
 */
export async function hashFile(
  file: Pick<ReadableFile, "read">,
  length: number,
): Promise<RunningHash | undefined> {
  const hash = new RunningHash("sha256");
  const pieceBytes = Math.min(PIECE_BYTES, Math.max(length, 1));
  const pieces = [new Uint8Array(pieceBytes), new Uint8Array(pieceBytes)] as const;
  let left = length;
  const read = (turn: number) => {
    const piece = pieces[turn % 2]!;
    return file.read(piece.subarray(0, Math.min(piece.length, left)));
  };
  let next = left > 0 ? read(0) : undefined;
  for (let turn = 0; next !== undefined; turn++) {
    const count = await next;
    if (count === null) return undefined;
    left -= count;
    next = left > 0 ? read(turn + 1) : undefined; // runs while this piece is hashed
    hash.update(pieces[turn % 2]!.subarray(0, count));
  }
  return hash;
}

/** Chosen by us: the size of the pieces that are sent. */
const PIECE_BYTES = 256 * 1024;
