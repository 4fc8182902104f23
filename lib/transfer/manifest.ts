/**
 * What a sender offers.
 *
 * @module
 */

import { RunningHash } from "../base/crypto.ts";
import { type FileAttributes, FileError, type FileInfo, type FileSystem } from "./files.ts";

/** All that is offered, in the order in which it is sent. */
export type Manifest = readonly ManifestEntry[];

/** A file or a folder of a manifest. */
export interface ManifestEntry extends FileAttributes {
  /** Folders are named for those that are empty; the others follow from what is in them. */
  readonly kind: "file" | "folder";
  /** Below the target folder, with `/` between names. */
  readonly path: string;
  /** In bytes; 0 for folders. */
  readonly size: number;
}

/** What somebody is asked about before anything is written. */
export interface OfferSummary {
  /** How many files there are. */
  readonly files: number;
  /** How many folders are named; others follow from the paths of files. */
  readonly folders: number;
  /** The sizes of all files. */
  readonly bytes: number;
  /** Everything by name. The names come from the other side, and obey the rules for them. */
  readonly manifest: Manifest;
}

/** The manifest in numbers. */
export function summarize(manifest: Manifest): OfferSummary {
  const files = manifest.filter(({ kind }) => kind === "file");
  const bytes = files.reduce((sum, { size }) => sum + size, 0);
  return { files: files.length, folders: manifest.length - files.length, bytes, manifest };
}

/** What a file is called until it is whole; in the same folder. */
export function partOf(path: string): string {
  return path + PART_SUFFIX;
}

/** Ours. */
export const PART_SUFFIX = ".punchline-part";

/** A manifest, and where its entries are on this side. */
export interface Collection {
  readonly manifest: Manifest;
  /** Of each entry, its path in the file system. */
  readonly paths: readonly string[];
  /** What was found and is not sent. */
  readonly skipped: readonly SkippedFile[];
}

/** Something in a folder that is not sent. */
export interface SkippedFile {
  /** In the file system. */
  readonly path: string;
  /**
   * Symbolic links in folders are not followed; `"other"` is a device, a socket or a pipe; `"missing"` was found and is
   * not there: removed meanwhile, or its name is not UTF-8, and so cannot be said.
   */
  readonly kind: "link" | "other" | "missing";
}

/**
 * Looks at everything that is to be sent. A path that is a symbolic link stands for what it points to, as whoever gave
 * it means that; a link within a folder is skipped, as it may point to anything outside of it.
 *
 * @param sources files and folders; what is in folders is sent with them
 * @throws {FileError} if one is not there, is not a file or a folder, or cannot be read
 */
export async function collect(
  files: FileSystem,
  sources: readonly string[],
): Promise<Collection> {
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

/** The last name as it was given, or as it is where that says none: `.`, `..` or `/`. */
function nameOf(source: string, resolved: string): string {
  const given = lastName(source);
  return given === "" || given === "." || given === ".." ? lastName(resolved) : given;
}

function lastName(path: string): string {
  return path.split(/[/\\]/).filter((name) => name !== "").at(-1) ?? "";
}

/**
 * The hash of the first bytes of a file, ready for the bytes behind them.
 *
 * @returns `undefined` if there are fewer bytes
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
    next = left > 0 ? read(turn + 1) : undefined; // while this piece is hashed
    hash.update(pieces[turn % 2]!.subarray(0, count));
  }
  return hash;
}

/** Ours. */
const PIECE_BYTES = 256 * 1024;
