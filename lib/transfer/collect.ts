/**
 * What is to be sent: files and folders by their paths, as a manifest.
 *
 * @module
 */

import { FileError, type FileInfo, type FileSystem } from "./files.ts";
import type { Manifest, ManifestEntry } from "./manifest.ts";

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
