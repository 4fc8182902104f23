/**
 * A file system in memory, in which every operation can be made to fail.
 *
 * @module
 */

import { concat } from "../../lib/base/bytes.ts";
import {
  type FileAttributes,
  FileError,
  type FileInfo,
  type FileSystem,
  type FolderTraits,
  type PartFile,
  type ReadableFile,
} from "../../lib/transfer/files.ts";

/** A file system in memory. All paths are absolute. */
export class MemoryFiles implements FileSystem {
  naming: "posix" | "windows" = "posix";
  /** Whether names may differ only in case. */
  isCaseSensitive = true;
  /** The longest name that is possible, in characters. */
  maxName = 255;
  /** The folders that were made durable since the last change in them. */
  readonly syncedFolders = new Set<string>();
  /** Called before every operation, which fails with what it throws. */
  fault: (what: string, path: string) => void = () => {};
  readonly #nodes = new Map<string, Node>([["", { kind: "folder" }]]);

  /** Creates a file and the folders above it. */
  put(path: string, content: string | Uint8Array, attributes: Partial<FileAttributes> = {}): this {
    const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
    this.folder(path.slice(0, path.lastIndexOf("/")));
    this.#set(path, {
      kind: "file",
      bytes: bytes.slice(),
      attributes: { modifiedMs: 1000, isExecutable: false, ...attributes },
      isLocked: false,
      isSynced: false,
    });
    return this;
  }

  /** Creates a folder and those above it. */
  folder(path: string): this {
    for (let end = path.indexOf("/", 1); end > 0; end = path.indexOf("/", end + 1)) {
      this.#set(path.slice(0, end), { kind: "folder" });
    }
    this.#set(path, { kind: "folder" });
    return this;
  }

  /** Creates something that is neither a file nor a folder. */
  putOther(path: string, kind: "link" | "other", target = "/elsewhere"): this {
    this.#set(path, kind === "link" ? { kind, target } : { kind });
    return this;
  }

  /** Removes what is there. */
  delete(path: string): void {
    this.#nodes.delete(this.#spelled(path));
  }

  /** The target of a link. */
  target(path: string): string | undefined {
    const node = this.#get(path);
    return node?.kind === "link" ? node.target : undefined;
  }

  /** Whether the content of the file was made durable after its last change. */
  isSynced(path: string): boolean {
    const node = this.#get(path);
    return node?.kind === "file" && node.isSynced;
  }

  /** Lets another process hold the lock of a file. */
  lock(path: string): void {
    this.#file(path).isLocked = true;
  }

  /** The content of a file, as text. */
  text(path: string): string | undefined {
    const node = this.#get(path);
    return node?.kind === "file" ? new TextDecoder().decode(node.bytes) : undefined;
  }

  /** The attributes of a file. */
  attributes(path: string): FileAttributes | undefined {
    const node = this.#get(path);
    return node?.kind === "file" ? node.attributes : undefined;
  }

  /** All paths below a folder, sorted. */
  below(path: string): string[] {
    return [...this.#nodes.keys()].filter((each) => each.startsWith(`${path}/`))
      .map((each) => each.slice(path.length + 1)).sort();
  }

  stat(path: string): Promise<FileInfo | undefined> {
    return this.#do("stat", path, () => {
      const node = this.#get(path);
      return node && toInfo(node);
    });
  }

  resolve(path: string): Promise<string> {
    return this.#do("resolve", path, () => {
      this.#find(path, path);
      return path;
    });
  }

  list(path: string): Promise<string[]> {
    return this.#do("list", path, () => {
      return this.below(path).filter((each) => !each.includes("/")).reverse();
    });
  }

  open(path: string, offset: number): Promise<ReadableFile> {
    return this.#do("open", path, () => {
      const node = this.#file(path);
      let at = offset;
      return {
        read: (buffer) =>
          this.#do("read", path, () => {
            const length = readAt(node, at, buffer);
            at += length;
            return length === 0 ? null : length;
          }),
        stat: () => this.#do("stat", path, () => toInfo(node)),
        ...closable(),
      };
    });
  }

  readLink(path: string): Promise<string> {
    return this.#do("readLink", path, () => {
      const node = this.#find(path, path);
      if (node.kind !== "link") throw new FileError(`Cannot read ${path}: not a link`, "other");
      return node.target;
    });
  }

  probe(folder: string): Promise<FolderTraits> {
    return this.#do("probe", folder, () => {
      return { isCaseSensitive: this.isCaseSensitive, owner: 1 };
    });
  }

  createPart(path: string, { isExecutable }: { isExecutable: boolean }): Promise<PartFile> {
    return this.#do("createPart", path, () => {
      if (this.#get(path) !== undefined) throw new FileError(`Cannot write ${path}`, "exists");
      if (this.#find(parentOf(path), path).kind !== "folder") {
        throw new FileError(`Cannot write ${path}: a link is in the way`, "replaced");
      }
      this.#checkName(path);
      this.put(path, "", { modifiedMs: 0, isExecutable });
      return this.#part(path, this.#file(path));
    });
  }

  openPart(path: string): Promise<PartFile | undefined> {
    return this.#do("openPart", path, () => {
      const node = this.#get(path);
      return node?.kind === "file" && !node.isLocked ? this.#part(path, node) : undefined;
    });
  }

  makeFolder(path: string): Promise<void> {
    return this.#do("makeFolder", path, () => {
      this.#checkName(path);
      this.#set(path, { kind: "folder" });
    });
  }

  makeLink(path: string, target: string): Promise<void> {
    return this.#do("makeLink", path, () => {
      if (this.#get(path) !== undefined) throw new FileError(`Cannot make ${path}`, "exists");
      this.#set(path, { kind: "link", target });
    });
  }

  syncFolder(path: string): Promise<void> {
    return this.#do("syncFolder", path, () => void this.syncedFolders.add(path));
  }

  #part(path: string, node: FileNode): PartFile {
    node.isLocked = true;
    let at = 0;
    const close = () => void (node.isLocked = false);
    return {
      read: (buffer) =>
        this.#do("read", path, () => {
          const length = readAt(node, at, buffer);
          at += length;
          return length === 0 ? null : length;
        }),
      stat: () => this.#do("stat", path, () => toInfo(node)),
      seek: (offset) => this.#do("seek", path, () => void (at = offset)),
      truncate: (length) =>
        this.#do("truncate", path, () => {
          node.bytes = node.bytes.slice(0, length);
          at = length;
        }),
      write: (data) =>
        this.#do("write", path, () => {
          node.bytes = concat(node.bytes.subarray(0, at), data);
          node.isSynced = false;
          at += data.length;
        }),
      finish: (modifiedMs) =>
        this.#do("finish", path, () => {
          node.attributes = { ...node.attributes, modifiedMs };
          node.isSynced = true;
        }),
      publish: (to, { overwrite }) =>
        this.#do("publish", to, () => {
          this.#checkName(to);
          if (this.#get(path) !== node) throw new FileError(`Cannot write ${path}`, "replaced");
          if (this.#get(to) !== undefined && !overwrite) {
            throw new FileError(`Cannot write ${to}`, "exists");
          }
          this.#nodes.delete(path);
          this.#set(to, node);
          close();
        }),
      isThere: () => Promise.resolve(this.#get(path) === node),
      discard: () =>
        this.#do("discard", path, () => {
          if (this.#get(path) === node) this.delete(path);
          close();
        }),
      close,
      [Symbol.dispose]: close,
    };
  }

  async #do<T>(what: string, path: string, act: () => T): Promise<T> {
    await Promise.resolve();
    this.fault(what, path);
    return act();
  }

  #file(path: string): FileNode {
    const node = this.#find(path, path);
    if (node.kind !== "file") throw new FileError(`Cannot open ${path}: not a file`, "other");
    return node;
  }

  #find(path: string, named: string): Node {
    const node = this.#get(path);
    if (node === undefined) throw new FileError(`Cannot open ${named}: not found`, "not-found");
    return node;
  }

  #get(path: string): Node | undefined {
    return this.#nodes.get(this.#spelled(path));
  }

  #set(path: string, node: Node): void {
    this.#nodes.set(this.#spelled(path), node);
    this.syncedFolders.delete(parentOf(path));
  }

  /** The path as it was first spelled, if case does not matter. */
  #spelled(path: string): string {
    if (this.isCaseSensitive) return path;
    const folded = path.toLowerCase();
    return this.#nodes.keys().find((each) => each.toLowerCase() === folded) ?? path;
  }

  #checkName(path: string): void {
    const name = path.slice(path.lastIndexOf("/") + 1);
    if (name.length > this.maxName) throw new FileError(`Cannot write ${path}`, "name");
  }
}

type Node =
  | FileNode
  | { readonly kind: "folder" | "other" }
  | { readonly kind: "link"; readonly target: string };

interface FileNode {
  readonly kind: "file";
  bytes: Uint8Array;
  attributes: FileAttributes;
  isLocked: boolean;
  isSynced: boolean;
}

function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/"));
}

function toInfo(node: Node): FileInfo {
  return node.kind === "file"
    ? { kind: "file", size: node.bytes.length, ...node.attributes }
    : { kind: node.kind, size: 0, modifiedMs: 1000, isExecutable: false };
}

/** Reads from a place on; returns how much. */
function readAt({ bytes }: FileNode, at: number, buffer: Uint8Array): number {
  const piece = bytes.subarray(at, at + buffer.length);
  buffer.set(piece);
  return piece.length;
}

function closable(): { close(): void } & Disposable {
  return { close() {}, [Symbol.dispose]() {} };
}
