/**
 * The system's files. No other module of the transfer accesses them.
 *
 * @module
 */

import { toHex } from "../base/bytes.ts";
import { writeAll } from "../base/reader.ts";
import {
  type CreatePartOptions,
  FileError,
  type FileErrorReason,
  type FileInfo,
  type FileSystem,
  type FolderTraits,
  type PartFile,
  type ReadableFile,
} from "./files.ts";

/**
 * The system's files. Needs `--allow-read` and, to receive, `--allow-write` for the folders concerned; symbolic links need
 * both for the whole system, which Deno demands. Never prompts.
 */
export const systemFiles: FileSystem = {
  naming: Deno.build.os === "windows" ? "windows" : "posix",
  stat: (path) => on("look at", path, "read", () => statIfThere(path)),
  resolve: (path) => on("find", path, "read", () => Deno.realPath(path)),
  list: (path) =>
    on("list", path, "read", async () => {
      const entries = await Array.fromAsync(Deno.readDir(path));
      return entries.map(({ name }) => name);
    }),
  readLink: (path) => on("read", path, "read", () => Deno.readLink(path)),
  open: (path, offset) =>
    on("open", path, "read", async () => {
      const file = await Deno.open(path, { read: true });
      if (offset > 0) await file.seek(offset, Deno.SeekMode.Start);
      return new SystemFile(file, path);
    }),
  probe: (folder) => on("write into", folder, "write", () => probe(folder)),
  createPart: (path, options) => on("write", path, "write", () => createPart(path, options)),
  openPart: (path, owner) => on("open", path, "write", () => openPart(path, owner)),
  makeFolder: (path) => on("make", path, "write", () => makeFolder(path)),
  makeLink: (path, target) => {
    const isGranted = (["read", "write"] as const).every((name) => isPermitted(name));
    if (isGranted) return on("make", path, "write", () => Deno.symlink(target, path));
    const message = `Cannot make ${path}: links need --allow-read and --allow-write without a path`;
    return Promise.reject(new FileError(message, "not-permitted"));
  },
  syncFolder: (path) => on("finish", path, "write", () => syncFolder(path)),
};

class SystemFile implements ReadableFile {
  protected readonly file: Deno.FsFile;
  protected readonly path: string;
  #isClosed = false;

  constructor(file: Deno.FsFile, path: string) {
    this.file = file;
    this.path = path;
  }

  read(buffer: Uint8Array): Promise<number | null> {
    return this.does("read", () => this.file.read(buffer));
  }

  stat(): Promise<FileInfo> {
    return this.does("look at", async () => toInfo(await this.file.stat()));
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.file.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  protected async does<T>(verb: string, act: () => Promise<T>): Promise<T> {
    try {
      return await act();
    } catch (error) {
      throw toFileError(`Cannot ${verb} ${this.path}`, error);
    }
  }
}

class SystemPart extends SystemFile implements PartFile {
  seek(offset: number): Promise<void> {
    return this.does("read", async () => void await this.file.seek(offset, Deno.SeekMode.Start));
  }

  async truncate(length: number): Promise<void> {
    await this.does("write", () => this.file.truncate(length));
    await this.seek(length);
  }

  write(data: Uint8Array): Promise<void> {
    return this.does("write", () => writeAll(this.file, data));
  }

  finish(modifiedMs: number): Promise<void> {
    return this.does("finish", async () => {
      if (modifiedMs > 0) await this.file.utime(new Date(modifiedMs), new Date(modifiedMs));
      await this.file.sync();
    });
  }

  publish(to: string, { overwrite }: { overwrite: boolean }): Promise<void> {
    return on("write", to, "write", async () => {
      const own = await this.file.stat();
      await this.#checkNamed(this.path, own);
      if (overwrite) await Deno.rename(this.path, to);
      else await renameToNew(this.path, to, own);
      await this.#checkNamed(to, own);
      if (!isSamePath(await Deno.realPath(to), to)) {
        await removeIfThere(to);
        throw new FileError(`Cannot write ${to}: a link is in the way`, "replaced");
      }
      this.close();
    });
  }

  async isThere(): Promise<boolean> {
    return isSameFile(await lstatIfThere(this.path), await this.file.stat());
  }

  async discard(): Promise<void> {
    if (await this.isThere()) await removeIfThere(this.path);
    this.close();
  }

  async #checkNamed(path: string, own: Deno.FileInfo): Promise<void> {
    if (isSameFile(await lstatIfThere(path), own)) return;
    throw new FileError(
      `Cannot write ${path}: another program has moved or replaced it`,
      "replaced",
    );
  }
}

async function createPart(
  path: string,
  { root, isExecutable, isPrivate = false }: CreatePartOptions,
): Promise<PartFile> {
  const mode = isPrivate ? 0o600 : isExecutable ? 0o777 : 0o666; // less the umask
  const file = await Deno.open(path, { read: true, write: true, createNew: true, mode });
  try {
    // A folder on the way may have been replaced by a link since it was looked at.
    const isInside = isBelow(root, path) && isSamePath(await Deno.realPath(path), path);
    if (!isInside) {
      await removeIfThere(path);
      throw new FileError(`Cannot write ${path}: a link is in the way`, "replaced");
    }
    if (await lock(file) === false) throw new Deno.errors.AlreadyExists(path);
    return new SystemPart(file, path);
  } catch (error) {
    file.close();
    throw error;
  }
}

async function makeFolder(path: string): Promise<void> {
  await Deno.mkdir(path);
  if (isSamePath(await Deno.realPath(path), path)) return;
  await Deno.remove(path);
  throw new FileError(`Cannot make ${path}: a link is in the way`, "replaced");
}

async function openPart(path: string, owner: number | null): Promise<PartFile | undefined> {
  const before = await lstatIfThere(path);
  if (before === undefined || !isPart(before, owner)) return undefined; // opening a FIFO could block
  let file: Deno.FsFile;
  try {
    file = await Deno.open(path, { read: true, write: true });
  } catch {
    return undefined; // it is not ours to continue
  }
  try {
    const own = await file.stat();
    const isOurs = isPart(own, owner) && await lock(file) === true &&
      isSameFile(await lstatIfThere(path), own) && (await file.stat()).nlink === own.nlink;
    if (isOurs) return new SystemPart(file, path);
  } catch (error) {
    file.close();
    throw error;
  }
  file.close();
  return undefined;
}

/** Another name or another owner could change the file after it has been verified. */
function isPart(info: Deno.FileInfo, owner: number | null): boolean {
  return info.isFile && !info.isSymlink && (info.nlink ?? 1) === 1 && info.uid === owner;
}

/** `undefined` if the file system has no locks. */
async function lock(file: Deno.FsFile): Promise<boolean | undefined> {
  try {
    return await file.tryLock(true);
  } catch {
    return undefined;
  }
}

/** The name is unlike any other, and has a letter with a case and a letter with an accent. */
async function probe(folder: string): Promise<FolderTraits> {
  const id = toHex(crypto.getRandomValues(new Uint8Array(8)));
  const path = `${folder}/.punchline-prob\u00e9-${id}`;
  using file = await Deno.open(path, { write: true, createNew: true });
  try {
    const others = [`.PUNCHLINE-PROB\u00e9-${id}`, `.punchline-probe\u0301-${id}`];
    const found = await Promise.all(others.map((name) => lstatIfThere(`${folder}/${name}`)));
    const { uid } = await file.stat();
    return { isCaseSensitive: found.every((info) => info === undefined), owner: uid };
  } finally {
    await removeIfThere(path);
  }
}

async function syncFolder(path: string): Promise<void> {
  try {
    using folder = await Deno.open(path, { read: true });
    await folder.sync();
  } catch (error) {
    // Windows does not open folders, and some file systems do not sync them.
    if (error instanceof Deno.errors.NotFound || !await isFolder(path)) throw error;
  }
}

async function isFolder(path: string): Promise<boolean> {
  return (await lstatIfThere(path))?.isDirectory === true;
}

async function statIfThere(path: string): Promise<FileInfo | undefined> {
  const info = await lstatIfThere(path);
  return info && toInfo(info);
}

async function lstatIfThere(path: string): Promise<Deno.FileInfo | undefined> {
  try {
    return await Deno.lstat(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

function isSameFile(one: Deno.FileInfo | undefined, other: Deno.FileInfo): boolean {
  return one !== undefined && one.isFile && one.dev === other.dev && one.ino === other.ino;
}

function isBelow(root: string, path: string): boolean {
  return path.startsWith(root.endsWith("/") ? root : `${root}/`);
}

/** A system that ignores case or normalization may spell a path in another way, but not as another path. */
function isSamePath(real: string, path: string): boolean {
  if (real === path) return true;
  const fold = (text: string) =>
    text.normalize("NFC").toLowerCase().replaceAll("\\", "/").replace("//?/", "");
  return Deno.build.os !== "linux" && fold(real) === fold(path);
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

/** Uses a hard link, which fails if the name exists, while a rename would replace it. Some file systems have no links. */
async function renameToNew(from: string, to: string, own: Deno.FileInfo): Promise<void> {
  try {
    await Deno.link(from, to);
  } catch (error) {
    if (error instanceof Deno.errors.AlreadyExists || isNameError(error)) throw error;
    if (await lstatIfThere(to) !== undefined) throw new Deno.errors.AlreadyExists(to);
    await Deno.rename(from, to);
    return;
  }
  if (isSameFile(await lstatIfThere(from), own)) await removeIfThere(from);
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
    if (isPermitted(name, path)) continue;
    throw new FileError(`${cannot}: --allow-${name} is not granted for it`, "not-permitted");
  }
  try {
    return await act();
  } catch (error) {
    throw toFileError(cannot, error);
  }
}

/**
 * Asks for the most that covers the path: Deno remembers the answer for each path for good, which would be kilobytes for
 * each file.
 */
function isPermitted(name: "read" | "write", path?: string): boolean {
  const isGranted = (path?: string) =>
    Deno.permissions.querySync({ name, path }).state === "granted";
  if (isGranted()) return true;
  if (path === undefined) return false;
  const folder = path.slice(0, path.lastIndexOf("/"));
  return folder !== "" && isGranted(folder) || isGranted(path);
}

function toFileError(cannot: string, cause: unknown): FileError {
  if (cause instanceof FileError) return cause;
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
  const name = cause instanceof Error ? cause.name : "";
  const reason = isNameError(cause) ? "name" : BY_CODE[code] ?? BY_CLASS[name] ?? "other";
  const detail = reason === "other" && cause instanceof Error ? cause.message : TEXT[reason];
  return new FileError(`${cannot}: ${detail}`, reason, { cause });
}

/** Whether the system cannot hold such a name. Windows has codes of its own (ERROR_INVALID_NAME and others). */
function isNameError(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = "code" in error ? String(error.code) : "";
  return BY_CODE[code] === "name" || /\(os error (?:123|161|206)\)/.test(error.message);
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
  ENAMETOOLONG: "name",
  EILSEQ: "name",
  EINVAL: "name", // of FAT file systems
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
  name: "this system cannot hold such a name",
  replaced: "another program has moved or replaced it",
  other: "failed",
};

const OWNER_EXECUTE = 0o100;
