/**
 * The system's files. No other module of the transfer accesses them.
 *
 * @module
 */

import { writeAll } from "../base/reader.ts";
import {
  type FileAttributes,
  FileError,
  type FileErrorReason,
  type FileInfo,
  type FileSystem,
  type ReadableFile,
  type WritableFile,
} from "./files.ts";

/** The system's files. Needs `--allow-read` and, to receive, `--allow-write` for the folders concerned; never prompts. */
export const systemFiles: FileSystem = {
  naming: Deno.build.os === "windows" ? "windows" : "posix",
  stat: (path) => on("look at", path, "read", () => statIfThere(path)),
  resolve: (path) => on("find", path, "read", () => Deno.realPath(path)),
  list: (path) =>
    on("list", path, "read", async () => {
      const entries = await Array.fromAsync(Deno.readDir(path));
      return entries.map(({ name }) => name);
    }),
  open: (path, offset) =>
    on("open", path, "read", async () => {
      const file = await Deno.open(path, { read: true });
      if (offset > 0) await file.seek(offset, Deno.SeekMode.Start);
      return new SystemFile(file, path);
    }),
  openPart: (path, offset) =>
    on("open", path, "write", async () => {
      if (offset === 0) return new SystemFile(await createNew(path), path);
      return new SystemFile(await openTruncated(path, offset), path);
    }),
  makeFolder: (path) => on("make", path, "write", () => Deno.mkdir(path)),
  setAttributes: (path, attributes) =>
    on("finish", path, "write", () => setAttributes(path, attributes)),
  rename: (from, to, { overwrite }) =>
    on("write", to, "write", () => overwrite ? Deno.rename(from, to) : renameToNew(from, to)),
  remove: (path) => on("remove", path, "write", () => removeIfThere(path)),
};

class SystemFile implements ReadableFile, WritableFile {
  readonly #file: Deno.FsFile;
  readonly #path: string;
  #isClosed = false;

  constructor(file: Deno.FsFile, path: string) {
    this.#file = file;
    this.#path = path;
  }

  async read(buffer: Uint8Array): Promise<number | null> {
    try {
      return await this.#file.read(buffer);
    } catch (error) {
      throw toFileError(`Cannot read ${this.#path}`, error);
    }
  }

  async write(data: Uint8Array): Promise<void> {
    try {
      await writeAll(this.#file, data);
    } catch (error) {
      throw toFileError(`Cannot write ${this.#path}`, error);
    }
  }

  async stat(): Promise<FileInfo> {
    return toInfo(await this.#file.stat());
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#file.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

async function statIfThere(path: string): Promise<FileInfo | undefined> {
  try {
    return toInfo(await Deno.lstat(path));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

function toInfo(info: Deno.FileInfo): FileInfo {
  const kind = info.isSymlink
    ? "link"
    : info.isFile
    ? "file"
    : info.isDirectory
    ? "folder"
    : "other";
  return {
    kind,
    size: info.size,
    modifiedMs: Math.trunc(info.mtime?.getTime() ?? 0),
    isExecutable: ((info.mode ?? 0) & OWNER_EXECUTE) !== 0,
  };
}

/** Does not follow a symbolic link: it removes what is there, then creates the file only if nothing is. */
async function createNew(path: string): Promise<Deno.FsFile> {
  await removeIfThere(path);
  return await Deno.open(path, { write: true, createNew: true });
}

async function openTruncated(path: string, offset: number): Promise<Deno.FsFile> {
  const info = await Deno.lstat(path);
  if (!info.isFile) throw new Deno.errors.AlreadyExists("it is not a file");
  const file = await Deno.open(path, { write: true });
  try {
    await file.truncate(offset);
    await file.seek(offset, Deno.SeekMode.Start);
    return file;
  } catch (error) {
    file.close();
    throw error;
  }
}

/** Everyone who may read an executable file may execute it, which respects the umask. */
async function setAttributes(path: string, attributes: FileAttributes): Promise<void> {
  const { modifiedMs, isExecutable } = attributes;
  if (isExecutable && Deno.build.os !== "windows") {
    const mode = (await Deno.lstat(path)).mode! & PERMISSION_BITS;
    await Deno.chmod(path, mode | (mode & ALL_READ) >> 2);
  }
  const modified = new Date(modifiedMs);
  await Deno.utime(path, modified, modified);
}

/** Uses a hard link, which fails if the name exists, while a rename would replace it. Some file systems have no links. */
async function renameToNew(from: string, to: string): Promise<void> {
  try {
    await Deno.link(from, to);
  } catch (error) {
    if (error instanceof Deno.errors.AlreadyExists) throw error;
    if (await statIfThere(to) !== undefined) throw new Deno.errors.AlreadyExists(to);
    await Deno.rename(from, to);
    return;
  }
  await Deno.remove(from);
}

async function removeIfThere(path: string): Promise<void> {
  try {
    await Deno.remove(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

/** Checks the permission first, because Deno would otherwise prompt and block the program. */
async function on<T>(
  verb: string,
  path: string,
  permission: "read" | "write",
  act: () => Promise<T>,
): Promise<T> {
  const cannot = `Cannot ${verb} ${path}`;
  for (const name of permission === "write" ? ["read", "write"] as const : ["read"] as const) {
    if (Deno.permissions.querySync({ name, path }).state === "granted") continue;
    throw new FileError(`${cannot}: --allow-${name} is not granted for it`, "not-permitted");
  }
  try {
    return await act();
  } catch (error) {
    throw toFileError(cannot, error);
  }
}

function toFileError(cannot: string, cause: unknown): FileError {
  if (cause instanceof FileError) return cause;
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
  const name = cause instanceof Error ? cause.name : "";
  const reason = BY_CODE[code] ?? BY_CLASS[name] ?? "other";
  const detail = reason === "other" && cause instanceof Error ? cause.message : TEXT[reason];
  return new FileError(`${cannot}: ${detail}`, reason, { cause });
}

const BY_CODE: Readonly<Record<string, FileErrorReason>> = {
  ENOENT: "not-found",
  ENOTDIR: "not-found",
  EEXIST: "exists",
  EACCES: "not-permitted",
  EPERM: "not-permitted",
  EROFS: "not-permitted",
  ENOSPC: "no-space",
  EDQUOT: "no-space",
  EFBIG: "no-space",
};

const BY_CLASS: Readonly<Record<string, FileErrorReason>> = {
  NotFound: "not-found",
  AlreadyExists: "exists",
  PermissionDenied: "not-permitted",
  NotCapable: "not-permitted",
};

const TEXT: Readonly<Record<FileErrorReason, string>> = {
  "not-found": "not found",
  exists: "it already exists",
  "not-permitted": "not permitted",
  "no-space": "no space is left",
  other: "failed",
};

const OWNER_EXECUTE = 0o100;
const ALL_READ = 0o444;
const PERMISSION_BITS = 0o7777;
