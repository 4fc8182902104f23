/**
 * Finds what is to be sent.
 *
 * @module
 */

import { FileError, type FileInfo, type FileSystem, TransferError } from "./files.ts";
import type { Manifest, ManifestEntry, SkippedEntry, SkipReason } from "./manifest.ts";
import { printable, staysInside } from "./paths.ts";

/** A manifest, and where its files are. */
export interface CollectedFiles {
  readonly manifest: Manifest;
  /** What was found but is not sent, by its path in the manifest. */
  readonly skipped: readonly SkippedEntry[];
  /** The same, by its path in the file system. */
  readonly skippedFiles: readonly SkippedFile[];
  /** The path of an entry in the file system. */
  pathOf(entry: ManifestEntry): string;
}

/** Something in a folder that is not sent. */
export interface SkippedFile {
  /** Its path in the file system. */
  readonly path: string;
  /** Why it is not sent. */
  readonly kind: SkipReason;
}

/**
 * Lists everything that is to be sent. A source that is a symbolic link is followed, because the user named it. A link
 * inside a folder is sent as a link if it stays inside the folder, and skipped otherwise.
 *
 * @param sources paths of files and folders; folders are sent with their content
 * @throws {FileError} if a source does not exist, is neither a file nor a folder, or cannot be read
 * @throws {TransferError} `unacceptable` if two sources have the same name
 */
export async function collectFiles(
  files: FileSystem,
  sources: readonly string[],
): Promise<CollectedFiles> {
  const manifest: ManifestEntry[] = [];
  const skipped: SkippedEntry[] = [];
  const roots = new Map<string, string>();
  const pathOf = (path: string) => {
    const end = path.indexOf("/");
    return end < 0 ? roots.get(path)! : roots.get(path.slice(0, end))! + path.slice(end);
  };

  const visit = async (name: string, info: FileInfo): Promise<void> => {
    const path = pathOf(name);
    if (info.kind === "other") return void skipped.push({ path: name, reason: "other" });
    if (info.kind === "link") {
      try {
        manifest.push(toEntry(name, "link", info, await files.readLink(path)));
      } catch (error) {
        if (!(error instanceof FileError)) throw error;
        skipped.push({ path: name, reason: "missing" });
      }
      return;
    }
    if (info.kind === "file") return void manifest.push(toEntry(name, "file", info));
    const children = await listFolder(files, path);
    if (children === undefined) return void skipped.push({ path: name, reason: "unreadable" });
    manifest.push(toEntry(name, "folder", info));
    for (const child of children.sort()) {
      const childName = `${name}/${child}`;
      const childInfo = await statOrMissing(files, pathOf(childName));
      if (childInfo === undefined) skipped.push({ path: childName, reason: "missing" });
      else await visit(childName, childInfo);
    }
  };

  for (const source of sources) {
    const path = await files.resolve(source);
    const info = await files.stat(path);
    if (info === undefined) throw new FileError(`Cannot send ${source}: not found`, "not-found");
    if (info.kind !== "file" && info.kind !== "folder") {
      throw new FileError(`Cannot send ${source}: it is neither a file nor a folder`, "other", {
        remedy: "Name files and folders",
      });
    }
    const name = nameOf(source, path, files.naming);
    if (roots.has(name)) {
      const message = `Cannot send ${printable(source)}: another source has the same name`;
      const remedy = "Rename one of them, or send them one after the other";
      throw new TransferError(message, "unacceptable", { remedy });
    }
    roots.set(name, path);
    if (info.kind === "folder") await files.list(path); // it is named, so it must be readable
    await visit(name, info);
  }
  const inside = withoutLinksOutside(manifest);
  skipped.push(...inside.skipped);
  return {
    manifest: inside.manifest,
    skipped,
    skippedFiles: skipped.map(({ path, reason }) => ({ path: pathOf(path), kind: reason })),
    pathOf: ({ path }) => pathOf(path),
  };
}

function withoutLinksOutside(
  manifest: Manifest,
): { manifest: Manifest; skipped: readonly SkippedEntry[] } {
  if (!manifest.some(({ kind }) => kind === "link")) return { manifest, skipped: [] };
  const folders = new Set(manifest.filter(({ kind }) => kind === "folder").map(({ path }) => path));
  const leadsOut = ({ kind, path, target }: ManifestEntry) =>
    kind === "link" && !staysInside(path, target!, (path) => folders.has(path));
  return {
    manifest: manifest.filter((entry) => !leadsOut(entry)),
    skipped: manifest.filter(leadsOut).map(({ path }) => ({ path, reason: "link" })),
  };
}

/** `undefined` if the folder may not be read, or is gone. */
async function listFolder(files: FileSystem, path: string): Promise<string[] | undefined> {
  try {
    return await files.list(path);
  } catch (error) {
    if (error instanceof FileError) return undefined;
    throw error;
  }
}

async function statOrMissing(files: FileSystem, path: string): Promise<FileInfo | undefined> {
  try {
    return await files.stat(path);
  } catch (error) {
    if (error instanceof FileError) return undefined;
    throw error;
  }
}

function toEntry(
  path: string,
  kind: ManifestEntry["kind"],
  info: FileInfo,
  target?: string,
): ManifestEntry {
  const modifiedMs = Math.max(info.modifiedMs, 0);
  if (kind === "file") {
    return { kind, path, size: info.size, modifiedMs, isExecutable: info.isExecutable };
  }
  const entry = { kind, path, size: 0, modifiedMs, isExecutable: false };
  return target === undefined ? entry : { ...entry, target };
}

/** The last name of the source, or that of its resolved path if the source ends with `.`, `..` or `/`. */
function nameOf(source: string, resolved: string, naming: FileSystem["naming"]): string {
  const separator = naming === "windows" ? /[/\\]/ : "/";
  const lastName = (path: string) =>
    path.split(separator).filter((name) => name !== "").at(-1) ?? "";
  const given = lastName(source);
  return given === "" || given === "." || given === ".." ? lastName(resolved) : given;
}
