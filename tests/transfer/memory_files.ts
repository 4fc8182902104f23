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
  type ReadableFile,
  type WritableFile,
} from "../../lib/transfer/files.ts";

/** A file system in memory. All paths are absolute. */
export class MemoryFiles implements FileSystem {
  naming: "posix" | "windows" = "posix";
  /** Called before every operation, which fails with what it throws. */
  fault: (what: string, path: string) => void = () => {};
  readonly #nodes = new Map<string, Node>([["", { kind: "folder" }]]);

  /** Creates a file and the folders above it. */
  put(path: string, content: string | Uint8Array, attributes: Partial<FileAttributes> = {}): this {
    const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
    this.folder(path.slice(0, path.lastIndexOf("/")));
    this.#nodes.set(path, {
      kind: "file",
      bytes: bytes.slice(),
      attributes: { modifiedMs: 1000, isExecutable: false, ...attributes },
    });
    return this;
  }

  /** Creates a folder and those above it. */
  folder(path: string): this {
    for (let end = path.indexOf("/", 1); end > 0; end = path.indexOf("/", end + 1)) {
      this.#nodes.set(path.slice(0, end), { kind: "folder" });
    }
    this.#nodes.set(path, { kind: "folder" });
    return this;
  }

  /** Creates something that is neither a file nor a folder. */
  putOther(path: string, kind: "link" | "other"): this {
    this.#nodes.set(path, { kind });
    return this;
  }

  /** The content of a file, as text. */
  text(path: string): string | undefined {
    const node = this.#nodes.get(path);
    return node?.kind === "file" ? new TextDecoder().decode(node.bytes) : undefined;
  }

  /** The attributes of a file. */
  attributes(path: string): FileAttributes | undefined {
    const node = this.#nodes.get(path);
    return node?.kind === "file" ? node.attributes : undefined;
  }

  /** All paths below a folder, sorted. */
  below(path: string): string[] {
    return [...this.#nodes.keys()].filter((each) => each.startsWith(`${path}/`))
      .map((each) => each.slice(path.length + 1)).sort();
  }

  stat(path: string): Promise<FileInfo | undefined> {
    return this.#do("stat", path, () => {
      const node = this.#nodes.get(path);
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
            const piece = node.bytes.subarray(at, at + buffer.length);
            buffer.set(piece);
            at += piece.length;
            return piece.length === 0 ? null : piece.length;
          }),
        stat: () => this.#do("stat", path, () => toInfo(node)),
        ...closable(),
      };
    });
  }

  openPart(path: string, offset: number): Promise<WritableFile> {
    return this.#do("openPart", path, () => {
      if (offset === 0) {
        this.#find(path.slice(0, path.lastIndexOf("/")), path);
        this.#nodes.delete(path);
        this.put(path, "");
      }
      const node = this.#file(path);
      node.bytes = node.bytes.slice(0, offset);
      return {
        write: (data) =>
          this.#do("write", path, () => {
            node.bytes = concat(node.bytes, data);
          }),
        ...closable(),
      };
    });
  }

  makeFolder(path: string): Promise<void> {
    return this.#do("makeFolder", path, () => void this.#nodes.set(path, { kind: "folder" }));
  }

  setAttributes(path: string, attributes: FileAttributes): Promise<void> {
    return this.#do("setAttributes", path, () => {
      const { modifiedMs, isExecutable } = attributes;
      this.#file(path).attributes = { modifiedMs, isExecutable };
    });
  }

  rename(from: string, to: string, { overwrite }: { overwrite: boolean }): Promise<void> {
    return this.#do("rename", to, () => {
      if (this.#nodes.has(to) && !overwrite) throw new FileError(`Cannot write ${to}`, "exists");
      this.#nodes.set(to, this.#file(from));
      this.#nodes.delete(from);
    });
  }

  remove(path: string): Promise<void> {
    return this.#do("remove", path, () => void this.#nodes.delete(path));
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
    const node = this.#nodes.get(path);
    if (node === undefined) throw new FileError(`Cannot open ${named}: not found`, "not-found");
    return node;
  }
}

type Node = FileNode | { readonly kind: "folder" | "link" | "other" };

interface FileNode {
  readonly kind: "file";
  bytes: Uint8Array;
  attributes: FileAttributes;
}

function toInfo(node: Node): FileInfo {
  return node.kind === "file"
    ? { kind: "file", size: node.bytes.length, ...node.attributes }
    : { kind: node.kind, size: 0, modifiedMs: 1000, isExecutable: false };
}

function closable(): { close(): void } & Disposable {
  return { close() {}, [Symbol.dispose]() {} };
}
