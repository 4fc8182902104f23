/**
 * The manifest: which files and folders a sender offers.
 *
 * @module
 */

import { RunningHash } from "../base/crypto.ts";
import { type FileAttributes, FileError, type FileInfo, type FileSystem } from "./files.ts";

/** Everything that is offered, in the order in which it is sent. */
export type Manifest = readonly ManifestEntry[];

/** One file or folder of a manifest. */
export interface ManifestEntry extends FileAttributes {
  /** A folder entry matters only if the folder is empty: paths of files imply their folders. */
  readonly kind: "file" | "folder";
  /** Relative to the target folder, with `/` between names. */
  readonly path: string;
  /** In bytes; 0 for folders. */
  readonly size: number;
}

/** A summary of an offer, to decide whether to accept it. */
export interface OfferSummary {
  /** The number of files. */
  readonly files: number;
  /** The number of folder entries. */
  readonly folders: number;
  /** The total size of all files, in bytes. */
  readonly bytes: number;
  /** Every file and folder. The names are checked, but may contain characters that do not print. */
  readonly manifest: Manifest;
}

/** Counts the files, folders and bytes of a manifest. */
export function summarize(manifest: Manifest): OfferSummary {
  const files = manifest.filter(({ kind }) => kind === "file");
  const bytes = files.reduce((sum, { size }) => sum + size, 0);
  return { files: files.length, folders: manifest.length - files.length, bytes, manifest };
}

/** The path of a file while it is incomplete, in the same folder. */
export function partPath(path: string): string {
  return path + PART_SUFFIX;
}

/** A manifest, and where its files are. */
export interface CollectedFiles {
  readonly manifest: Manifest;
  /** The path of each entry in the file system. */
  readonly paths: readonly string[];
  /** What was found but is not sent. */
  readonly skipped: readonly SkippedFile[];
}

/** Something in a folder that is not sent. */
export interface SkippedFile {
  /** Its path in the file system. */
  readonly path: string;
  /**
   * `"link"`: a symbolic link, which is not followed. `"other"`: a device, a socket or a pipe. `"missing"`: it was listed
   * but cannot be found, because it was removed meanwhile or its name is not UTF-8.
   */
  readonly kind: "link" | "other" | "missing";
}

/**
 * Lists everything that is to be sent. A source that is a symbolic link is followed, because the user named it. A link
 * inside a folder is skipped, because it may point outside of the folder.
 *
 * @param sources paths of files and folders; folders are sent with their content
 * @throws {FileError} if a source does not exist, is neither a file nor a folder, or cannot be read
 */
export async function collectFiles(
  files: FileSystem,
  sources: readonly string[],
): Promise<CollectedFiles> {
  const found: { entry: ManifestEntry; path: string }[] = [];
  const skipped: SkippedFile[] = [];

  const visit = async (path: string, name: string, info: FileInfo): Promise<void> => {
    if (info.kind === "link" || info.kind === "other") {
      skipped.push({ path, kind: info.kind });
      return;
    }
    found.push({ path, entry: toEntry(name, info.kind, info) });
    if (info.kind === "file") return;
    for (const child of (await files.list(path)).sort()) {
      const childPath = `${path}/${child}`;
      const childInfo = await files.stat(childPath);
      if (childInfo === undefined) skipped.push({ path: childPath, kind: "missing" });
      else await visit(childPath, `${name}/${child}`, childInfo);
    }
  };

  for (const source of sources) {
    const path = await files.resolve(source);
    const info = await files.stat(path);
    if (info === undefined) throw new FileError(`Cannot send ${source}: not found`, "not-found");
    if (info.kind !== "file" && info.kind !== "folder") {
      throw new FileError(`Cannot send ${source}: it is neither a file nor a folder`, "other");
    }
    await visit(path, nameOf(source, path), info);
  }
  return {
    manifest: found.map(({ entry }) => entry),
    paths: found.map(({ path }) => path),
    skipped,
  };
}

function toEntry(path: string, kind: "file" | "folder", info: FileInfo): ManifestEntry {
  const { modifiedMs, isExecutable } = info;
  return kind === "file"
    ? { kind, path, size: info.size, modifiedMs: Math.max(modifiedMs, 0), isExecutable }
    : { kind, path, size: 0, modifiedMs: Math.max(modifiedMs, 0), isExecutable: false };
}

/** The last name of the source, or that of its resolved path if the source ends with `.`, `..` or `/`. */
function nameOf(source: string, resolved: string): string {
  const given = lastName(source);
  return given === "" || given === "." || given === ".." ? lastName(resolved) : given;
}

function lastName(path: string): string {
  return path.split(/[/\\]/).filter((name) => name !== "").at(-1) ?? "";
}

/**
 * Hashes the first `length` bytes of a file. The caller can continue the hash with the next bytes.
 *
 * @returns `undefined` if the file is shorter
 */
export async function hashFile(
  files: FileSystem,
  path: string,
  length: number,
): Promise<RunningHash | undefined> {
  using file = await files.open(path, 0);
  const hash = new RunningHash("sha256");
  const pieces = [new Uint8Array(PIECE_BYTES), new Uint8Array(PIECE_BYTES)] as const;
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

/** The suffix of incomplete files. Chosen by us. */
export const PART_SUFFIX = ".punchline-part";

/** Chosen by us: the size of the pieces that are sent. */
const PIECE_BYTES = 256 * 1024;
