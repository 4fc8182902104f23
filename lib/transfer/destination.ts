/**
 * Where a received file goes, and what is there already.
 *
 * @module
 */

import type { RunningHash } from "../base/crypto.ts";
import { type FileSystem, TransferError } from "./files.ts";
import { hashFile, type ManifestEntry, partPath } from "./manifest.ts";
import type { HeldEntry } from "./message.ts";
import { printable } from "./paths.ts";

/**
 * What to do if a different file with the same name exists: `"refuse"` the offer, `"overwrite"` the file, or `"rename"`
 * the new one to `name (1)`.
 */
export type ExistingPolicy = "refuse" | "overwrite" | "rename";

/** Where one entry goes, and what the receiver has of it. */
export interface Destination {
  /** Relative to the target folder. */
  readonly path: string;
  readonly held: HeldEntry;
  /** The hash of the part, if there is one. */
  readonly hash?: RunningHash;
}

/** The folder that receives everything. */
export interface TargetFolder {
  readonly files: FileSystem;
  /** Its path, without symbolic links. */
  readonly root: string;
  readonly existing: ExistingPolicy;
  /** Whether an entry of the manifest has this path. */
  isTaken(path: string): boolean;
}

/**
 * Determines where an entry goes, and what is there. Writes nothing.
 *
 * @throws {TransferError} `exists` if something is in the way
 */
export async function findDestination(
  target: TargetFolder,
  entry: ManifestEntry,
): Promise<Destination> {
  const { files, root } = target;
  await checkFolders(target, entry.path);
  const info = await files.stat(`${root}/${entry.path}`);
  if (entry.kind === "folder") {
    if (info === undefined || info.kind === "folder") return nothingAt(entry.path);
    throw inTheWay(entry.path, info.kind);
  }
  if (info === undefined) return await findPart(target, entry, entry.path);
  if (info.kind === "file" && info.size === entry.size) {
    const hash = await hashFile(files, `${root}/${entry.path}`, entry.size);
    if (hash !== undefined) {
      const held = { state: "whole", length: entry.size, hash: hash.digest() } as const;
      return { path: entry.path, held };
    }
  }
  return await findPart(target, entry, await freePath(target, entry.path));
}

/**
 * The path for a new file when another is in the way; the same path if that one may be overwritten.
 *
 * @throws {TransferError} `exists` if it is to be refused
 */
export async function freePath(target: TargetFolder, path: string): Promise<string> {
  const info = await target.files.stat(`${target.root}/${path}`);
  if (info === undefined) return path;
  if (target.existing === "overwrite" && info.kind === "file") return path;
  if (target.existing !== "rename") throw inTheWay(path, info.kind);
  for (let number = 1; number <= MAX_RENAMES; number++) {
    const renamed = numbered(path, number);
    if (target.isTaken(renamed)) continue;
    if (await target.files.stat(`${target.root}/${renamed}`) === undefined) return renamed;
  }
  throw inTheWay(path, info.kind);
}

/**
 * Checks that the folders above a path are folders, as far as they exist.
 *
 * @throws {TransferError} `exists` if one is anything else, such as a symbolic link
 */
export async function checkFolders({ files, root }: TargetFolder, path: string): Promise<void> {
  for (let end = path.indexOf("/"); end > 0; end = path.indexOf("/", end + 1)) {
    const folder = path.slice(0, end);
    const info = await files.stat(`${root}/${folder}`);
    if (info === undefined) return;
    if (info.kind !== "folder") throw inTheWay(folder, info.kind);
  }
}

/** The error when something is in the way. */
export function inTheWay(path: string, kind: string): TransferError {
  const what = kind === "link" ? "a symbolic link" : `a ${kind}`;
  return new TransferError(
    `Cannot write ${printable(path)}: ${kind === "other" ? "something" : what} is there`,
    "exists",
  );
}

async function findPart(
  target: TargetFolder,
  entry: ManifestEntry,
  path: string,
): Promise<Destination> {
  const part = partPath(`${target.root}/${path}`);
  const info = await target.files.stat(part);
  if (info?.kind !== "file" || info.size === 0 || info.size > entry.size) return nothingAt(path);
  const hash = await hashFile(target.files, part, info.size);
  if (hash === undefined) return nothingAt(path);
  return { path, hash, held: { state: "part", length: info.size, hash: hash.digest() } };
}

function nothingAt(path: string): Destination {
  return { path, held: { state: "nothing" } };
}

/** `photo (1).jpg` for `photo.jpg`. */
function numbered(path: string, number: number): string {
  const [, stem, extension] = /^(.*?[^/])((?:\.tar)?\.[^./]+)?$/s.exec(path)!;
  return `${stem} (${number})${extension ?? ""}`;
}

/** Chosen by us: more copies of one name are probably a mistake. */
const MAX_RENAMES = 999;
