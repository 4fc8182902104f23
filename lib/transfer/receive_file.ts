/**
 * Receives the bytes of one file, and checks them.
 *
 * @module
 */

import { equalBytes } from "../base/bytes.ts";
import { RunningHash } from "../base/crypto.ts";
import { MalformedMessageError } from "../base/errors.ts";
import type { FileSystem, WritableFile } from "./files.ts";
import type { ManifestEntry } from "./manifest.ts";
import { HASH_BYTES, MAX_DATA_BYTES } from "./message.ts";
import type { MessageReader } from "./message_reader.ts";
import { printable } from "./printable.ts";
import { TransferError } from "./transfer_error.ts";

/** What to receive. */
export interface ReceiveFileOptions {
  readonly files: FileSystem;
  /** The partial file. */
  readonly part: string;
  readonly entry: ManifestEntry;
  /** How much of it is there. */
  readonly offset: number;
  /** Of that. */
  readonly hash?: RunningHash;
  /** Told after every piece. */
  onPiece(length: number): void;
}

/**
 * Receives a file from `offset` on into its partial file, which stays if the connection breaks, and is removed if the
 * bytes are wrong. The next piece is read while one is written.
 *
 * @throws {TransferError} `damaged` if the hash is another one, `unacceptable` if the bytes are more or fewer than offered
 */
export async function receiveFile(
  reader: MessageReader,
  options: ReceiveFileOptions,
): Promise<void> {
  const { files, part, entry, offset } = options;
  try {
    using file = await files.openPart(part, offset);
    await receiveInto(file, reader, options);
  } catch (error) {
    if (isWrong(error)) await files.remove(part);
    throw error;
  }
  if (entry.isExecutable || entry.modifiedMs > 0) await files.setAttributes(part, entry);
}

async function receiveInto(
  file: WritableFile,
  reader: MessageReader,
  { entry, offset, hash = new RunningHash("sha256"), onPiece }: ReceiveFileOptions,
): Promise<void> {
  let left = entry.size - offset;
  let written = Promise.resolve();
  try {
    for (;;) {
      const piece = await reader.next({ data: MAX_DATA_BYTES, end: HASH_BYTES });
      await written; // so that its memory can be used again
      if (!(piece instanceof Uint8Array)) {
        if (left > 0) throw wrong(entry, `${left} bytes are missing`, "unacceptable");
        if (piece.type === "end" && equalBytes(piece.hash, hash.digest())) return;
        throw wrong(entry, "it has not the hash that it should have", "damaged");
      }
      left -= piece.length;
      if (left < 0) throw wrong(entry, "it has more bytes than were offered", "unacceptable");
      written = file.write(piece);
      written.catch(() => {}); // thrown by the next turn
      hash.update(piece);
      onPiece(piece.length);
    }
  } finally {
    await written.catch(() => {}); // the file is not closed under a write
  }
}

function wrong(
  { path }: ManifestEntry,
  what: string,
  reason: "damaged" | "unacceptable",
): TransferError {
  return new TransferError(`Cannot receive ${printable(path)}: ${what}`, reason);
}

/** Whether what has come is not to be trusted, unlike what came before a connection broke or the sender gave up. */
function isWrong(error: unknown): boolean {
  return error instanceof MalformedMessageError ||
    error instanceof TransferError && WRONG.has(error.reason);
}

const WRONG: ReadonlySet<string> = new Set(["damaged", "unacceptable"]);
