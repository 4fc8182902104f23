/**
 * Where a file goes, and what is there already.
 *
 * @module
 */

import type { RunningHash } from "../base/crypto.ts";
import { type FileSystem, TransferError } from "./files.ts";
import { hashFile, type ManifestEntry, partOf } from "./manifest.ts";
import type { Held } from "./message.ts";
import { printable } from "./paths.ts";

/** What becomes of something that has the name of a file that is received, and is not that file. */
export type ExistingPolicy = "refuse" | "overwrite" | "rename";

/** Where one entry goes. */
export interface Destination {
  /** Below the target folder. */
  readonly path: string;
  readonly held: Held;
  /** Of the part that is there. */
  readonly hash?: RunningHash;
}

/** Where everything goes. */
export interface Target {
  readonly files: FileSystem;
  /** The target folder, without symbolic links. */
  readonly root: string;
  readonly existing: ExistingPolicy;
  /** Whether another entry has this name. */
  isTaken(path: string): boolean;
}

/**
 * Finds out where an entry goes, and what is there. Nothing is written.
 *
 * @throws {TransferError} `exists` if something is in the way
 */
export async function findDestination(target: Target, entry: ManifestEntry): Promise<Destination> {
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
  return await findPart(target, entry, await nameBeside(target, entry.path));
}

/**
 * The name for a file where another is in the way: the same if that may be overwritten.
 *
 * @throws {TransferError} `exists` if it may not
 */
export async function nameBeside(target: Target, path: string): Promise<string> {
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
 * Checks that the folders above a path are folders, as far as they are there.
 *
 * @throws {TransferError} `exists` if one is something else, such as a symbolic link
 */
export async function checkFolders({ files, root }: Target, path: string): Promise<void> {
  for (let end = path.indexOf("/"); end > 0; end = path.indexOf("/", end + 1)) {
    const folder = path.slice(0, end);
    const info = await files.stat(`${root}/${folder}`);
    if (info === undefined) return;
    if (info.kind !== "folder") throw inTheWay(folder, info.kind);
  }
}

/** The error for something that is in the way. */
export function inTheWay(path: string, kind: string): TransferError {
  const what = kind === "link" ? "a symbolic link" : `a ${kind}`;
  return new TransferError(
    `Cannot write ${printable(path)}: ${kind === "other" ? "something" : what} is there`,
    "exists",
  );
}

async function findPart(target: Target, entry: ManifestEntry, path: string): Promise<Destination> {
  const part = partOf(`${target.root}/${path}`);
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

/** Ours. */
const MAX_RENAMES = 999;
