/**
 * Sends the bytes of one file, and its hash.
 *
 * @module
 */

import { RunningHash } from "../base/crypto.ts";
import type { TcpConnection } from "../net/network.ts";
import { writeAll } from "../noise/byte_stream.ts";
import type { FileSystem, ReadableFile } from "./files.ts";
import type { ManifestEntry } from "./manifest.ts";
import { encodeDataHeader, encodeMessage, HEADER_BYTES } from "./message.ts";
import { printable } from "./printable.ts";
import { TransferError } from "./transfer_error.ts";

/** What to send. */
export interface SendFileOptions {
  readonly files: FileSystem;
  readonly path: string;
  /** What the file was when it was offered. */
  readonly entry: ManifestEntry;
  /** Where to begin. */
  readonly offset: number;
  /** Of the bytes before that. */
  readonly hash?: RunningHash;
  /** Told after every piece. */
  onPiece(length: number): void;
}

/**
 * Sends a file from `offset` on. The next piece is read while one is written.
 *
 * @throws {TransferError} `changed` if it is not any more what was offered
 */
export async function sendFile(
  connection: TcpConnection,
  options: SendFileOptions,
): Promise<void> {
  const { files, path, entry, offset, hash = new RunningHash("sha256"), onPiece } = options;
  using file = await files.open(path, offset);
  await checkUnchanged(file, entry);
  const buffers = [new Uint8Array(MESSAGE_BYTES), new Uint8Array(MESSAGE_BYTES)] as const;
  let left = entry.size - offset;
  const read = (turn: number) => {
    const end = HEADER_BYTES + Math.min(PIECE_BYTES, left);
    return file.read(buffers[turn % 2]!.subarray(HEADER_BYTES, end));
  };
  let next = left > 0 ? read(0) : undefined;
  for (let turn = 0; next !== undefined; turn++) {
    const count = await next;
    if (count === null) throw changed(entry);
    left -= count;
    const message = buffers[turn % 2]!.subarray(0, HEADER_BYTES + count);
    encodeDataHeader(count, message);
    next = left > 0 ? read(turn + 1) : undefined;
    next?.catch(() => {}); // thrown by the next turn, if there is one
    const written = writeAll(connection, message);
    hash.update(message.subarray(HEADER_BYTES));
    try {
      await written;
    } catch (error) {
      await next?.catch(() => {}); // the file is not closed under a read
      throw error;
    }
    onPiece(count);
  }
  await checkUnchanged(file, entry);
  await writeAll(connection, encodeMessage({ type: "end", hash: hash.digest() }));
}

async function checkUnchanged(file: ReadableFile, entry: ManifestEntry): Promise<void> {
  const { kind, size, modifiedMs } = await file.stat();
  const isSame = kind === "file" && size === entry.size &&
    Math.max(modifiedMs, 0) === entry.modifiedMs;
  if (!isSame) throw changed(entry);
}

function changed({ path }: ManifestEntry): TransferError {
  return new TransferError(
    `Cannot send ${printable(path)}: it was changed since it was offered`,
    "changed",
  );
}

/** Ours: no slower on loopback than half of it, and fewer messages. */
const PIECE_BYTES = 256 * 1024;
const MESSAGE_BYTES = HEADER_BYTES + PIECE_BYTES;
