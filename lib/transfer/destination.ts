/**
 * Where everything of a manifest goes, and what is there already.
 *
 * @module
 */

import { FileError, type FileInfo, type FileSystem, TransferError } from "./files.ts";
import { localName, numberedName } from "./local_names.ts";
import { hashFile, type Manifest, type ManifestEntry } from "./manifest.ts";
import type { RefusalReason } from "./message.ts";
import { folded, printable } from "./paths.ts";

/**
 * What to do if something different with the same name exists: `"refuse"` the new file, `"overwrite"` the file that is
 * there, or `"rename"` the new one to `name (1)`.
 */
export type ExistingPolicy = "refuse" | "overwrite" | "rename";

/** Where one entry goes, and whether it is there. */
export interface Destination {
  /** Relative to the target folder. */
  readonly path: string;
  /** SHA-256 of the file that is there, if it has the size of the entry and may be replaced or the new one renamed. */
  readonly wholeHash?: Uint8Array;
  /** Whether the file that is there has the size of the entry, and stays. */
  readonly isCompared?: boolean;
}

/** The folder that receives everything. */
export interface TargetFolder {
  readonly files: FileSystem;
  /** Its path, without symbolic links. */
  readonly root: string;
  readonly existing: ExistingPolicy;
  /** Whether an entry of the manifest goes to this path. */
  isTaken(path: string): boolean;
}

/**
 * The paths that entries get on this system, where they differ from those in the manifest: by their place in the manifest.
 *
 * @param isCaseSensitive whether the folder tells names apart that differ only in case; it is relative to the target folder
 */
export async function localPaths(
  manifest: Manifest,
  naming: FileSystem["naming"],
  isCaseSensitive: (folder: string) => Promise<boolean>,
): Promise<ReadonlyMap<number, string>> {
  const renamed = new Map<number, string>();
  const open: OpenFolder[] = [{ prefix: "", local: "", names: new Map() }];
  for (const [index, { kind, path }] of manifest.entries()) {
    while (!path.startsWith(open.at(-1)!.prefix)) open.pop();
    const folder = open.at(-1)!;
    const name = await freeName(folder, path.slice(folder.prefix.length), naming, isCaseSensitive);
    const local = folder.local + name;
    if (local !== path) renamed.set(index, local);
    if (kind === "folder") {
      open.push({ prefix: `${path}/`, local: `${local}/`, names: new Map() });
    }
  }
  return renamed;
}

/** What of a manifest is there already, by the paths in the manifest. */
export interface ExistingEntries {
  /** The folders that exist, but for those that the transfer has begun itself. */
  readonly folders: ReadonlySet<string>;
  /** Everything else directly in them, or in the target folder, of whose name something exists. */
  readonly others: ReadonlySet<string>;
}

/**
 * Finds what of a manifest is there already.
 *
 * @param before what an earlier run knows: the folders that the transfer has begun, or those that existed before
 */
export async function findExisting(
  { files, root }: Pick<TargetFolder, "files" | "root">,
  manifest: Manifest,
  before: { readonly begun: ReadonlySet<string>; readonly folders?: ReadonlySet<string> },
): Promise<ExistingEntries> {
  const folders = new Set<string>(before.folders);
  const others = new Set<string>();
  const renamed = await localPaths(manifest, files.naming, () => Promise.resolve(true));
  for (const [index, { kind, path }] of manifest.entries()) {
    const parent = parentOf(path);
    if (parent !== "" && !folders.has(parent)) continue;
    const isBegun = before.begun.has(path) || before.folders !== undefined;
    if (kind === "folder" && isBegun) continue;
    const info = await statIfValid(files, `${root}/${renamed.get(index) ?? path}`);
    if (info === undefined) continue;
    (kind === "folder" && info.kind === "folder" ? folders : others).add(path);
  }
  return { folders, others };
}

/**
 * Determines where a file goes, and whether it is there. Writes nothing.
 *
 * @param path where it should go
 * @throws {TransferError} `exists` if something is in the way
 */
export async function findDestination(
  target: TargetFolder,
  entry: ManifestEntry,
  path: string,
): Promise<Destination> {
  const { files, root } = target;
  const info = await files.stat(`${root}/${path}`);
  if (info === undefined) return { path };
  if (info.kind === "file" && info.size === entry.size) {
    if (target.existing === "refuse") return { path, isCompared: true };
    const wholeHash = await hashIfReadable(files, `${root}/${path}`, entry.size);
    if (wholeHash !== undefined) return { path, wholeHash };
  }
  return { path: await freePath(target, path) };
}

/**
 * Whether the link is there already, and where it goes if it is not.
 *
 * @throws {TransferError} `exists` if something is in the way
 */
export async function findLinkDestination(
  target: TargetFolder,
  entry: ManifestEntry,
  path: string,
): Promise<{ readonly path: string; readonly isThere: boolean }> {
  const { files, root } = target;
  const info = await files.stat(`${root}/${path}`);
  if (info === undefined) return { path, isThere: false };
  if (info.kind === "link" && await files.readLink(`${root}/${path}`) === entry.target) {
    return { path, isThere: true };
  }
  if (target.existing === "overwrite") throw inTheWay(path, info.kind);
  return { path: await freePath(target, path), isThere: false };
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
    const renamed = numberedName(path, number);
    if (target.isTaken(renamed)) continue;
    if (await target.files.stat(`${target.root}/${renamed}`) === undefined) return renamed;
  }
  throw inTheWay(path, info.kind);
}

/** The error when something is in the way. */
export function inTheWay(path: string, kind: string): TransferError {
  const what = kind === "link" ? "a symbolic link" : `a ${kind}`;
  return new TransferError(
    `Cannot write ${printable(path)}: ${kind === "other" ? "something" : what} is there`,
    "exists",
  );
}

/** Whether the system can hold no such name. */
export function isNameError(error: unknown): boolean {
  return error instanceof FileError && error.reason === "name";
}

/** Why one entry is refused, while the others arrive; `undefined` if it is a failure of the whole transfer. */
export function conflict(error: unknown): RefusalReason | undefined {
  if (isNameError(error)) return "name";
  const isTaken = (error instanceof TransferError || error instanceof FileError) &&
    error.reason === "exists";
  return isTaken ? "exists" : undefined;
}

/**
 * Whether the folder is there.
 *
 * @throws {TransferError} `exists` if something else is there
 */
export async function isFolder({ files, root }: TargetFolder, path: string): Promise<boolean> {
  const info = await files.stat(`${root}/${path}`);
  if (info === undefined) return false;
  if (info.kind !== "folder") throw inTheWay(path, info.kind);
  return true;
}

/** Why a link is refused; `undefined` if the transfer cannot go on. A missing privilege for links is not a missing file. */
export function linkRefusal(error: unknown): RefusalReason | undefined {
  if (error instanceof TransferError) return error.reason === "exists" ? "exists" : undefined;
  if (!(error instanceof FileError)) return undefined;
  if (error.reason === "name" || error.reason === "exists") return error.reason;
  return error.reason === "no-space" ? undefined : "link";
}

/** SHA-256 of a file; `undefined` if it has another size, or cannot be read. */
export async function hashIfReadable(
  files: FileSystem,
  path: string,
  size: number,
): Promise<Uint8Array | undefined> {
  try {
    const info = await files.stat(path);
    if (info?.kind !== "file" || info.size !== size) return undefined;
    using file = await files.open(path, 0);
    return (await hashFile(file, size))?.digest();
  } catch (error) {
    if (error instanceof FileError) return undefined;
    throw error;
  }
}

/** What is there; `undefined` also if the system can hold no such name. */
export async function statIfValid(
  files: FileSystem,
  path: string,
): Promise<FileInfo | undefined> {
  try {
    return await files.stat(path);
  } catch (error) {
    if (isNameError(error)) return undefined;
    throw error;
  }
}

/** The folder of a path; `""` for one without. */
export function parentOf(path: string): string {
  return path.slice(0, Math.max(path.lastIndexOf("/"), 0));
}

/** A folder above the current entry. */
interface OpenFolder {
  /** Its path in the manifest and on this system, each ending with `/` unless it is the target folder. */
  readonly prefix: string;
  readonly local: string;
  /** The names in it so far, each by how a system would see it that ignores case. */
  readonly names: Map<string, string[]>;
}

async function freeName(
  { local, names }: OpenFolder,
  name: string,
  naming: FileSystem["naming"],
  isCaseSensitive: (folder: string) => Promise<boolean>,
): Promise<string> {
  const wanted = localName(name, naming);
  for (let number = 0;; number++) {
    const candidate = number === 0 ? wanted : numberedName(wanted, number);
    const similar = names.get(folded(candidate)) ?? [];
    const isTaken = similar.includes(candidate) ||
      similar.length > 0 && !await isCaseSensitive(local.slice(0, -1));
    if (isTaken) continue;
    names.set(folded(candidate), [...similar, candidate]);
    return candidate;
  }
}

/** Chosen by us: more copies of one name are probably a mistake. */
const MAX_RENAMES = 999;
