/**
 * Receives the bytes of one file into its part, and checks them.
 *
 * @module
 */

import { equalBytes } from "../base/bytes.ts";
import { RunningHash } from "../base/crypto.ts";
import { malformed, MalformedMessageError } from "../base/errors.ts";
import { runAll } from "../base/tasks.ts";
import { type PartFile, TransferError } from "./files.ts";
import type { ManifestEntry } from "./manifest.ts";
import { HASH_BYTES, MAX_DATA_BYTES } from "./message.ts";
import type { TransferMessageReader } from "./message_reader.ts";
import { printable } from "./paths.ts";
import type { FAILURE_TEXT } from "./refuse.ts";

/** What to receive. */
export interface ReceiveFileOptions {
  readonly entry: ManifestEntry;
  /** How many bytes of it exist. */
  readonly offset: number;
  /** The hash of these bytes; none for 0 bytes. */
  readonly hash?: RunningHash;
  /** Called after every piece. */
  onPiece(length: number): void;
}

/**
 * Receives a file from `offset` on.
 *
 * @returns why the sender could not send it; `undefined` once it is complete
 * @throws {TransferError} `damaged` if the hash differs, `unacceptable` if there are more or fewer bytes than offered
 */
export async function receiveInto(
  file: PartFile,
  reader: TransferMessageReader,
  { entry, offset, hash = new RunningHash("sha256"), onPiece }: ReceiveFileOptions,
): Promise<keyof typeof FAILURE_TEXT | undefined> {
  let left = entry.size - offset;
  const next = () => reader.next(EXPECTED_OF_FILE);
  for (let piece = await next();;) {
    if (!(piece instanceof Uint8Array)) {
      if (piece.type === "failed") return piece.reason;
      if (left > 0) throw wrong(entry, `${left} bytes are missing`, "unacceptable");
      if (piece.type === "end" && equalBytes(piece.hash, hash.digest())) return undefined;
      throw wrong(entry, "its hash differs from the sender's", "damaged");
    }
    left -= piece.length;
    if (left < 0) throw wrong(entry, "it has more bytes than offered", "unacceptable");
    const data = piece;
    const hashPiece = () => {
      hash.update(data);
      onPiece(data.length);
    };
    // The piece is hashed while the system writes it, and before the next read, which then gets more at once.
    [, , piece] = await runAll([() => file.write(data), () => Promise.try(hashPiece), next]);
  }
}

/**
 * Receives the hash of a file of which another is there already.
 *
 * @returns the hash, or why the sender has none
 */
export async function receiveHash(
  reader: TransferMessageReader,
): Promise<Uint8Array | keyof typeof FAILURE_TEXT> {
  const message = await reader.next({ end: HASH_BYTES, failed: 1 });
  if (message instanceof Uint8Array) throw malformed("type", "data was not expected");
  if (message.type === "failed") return message.reason;
  if (message.type === "end") return message.hash;
  throw malformed("type", `${message.type} was not expected`);
}

/** Reads a file that cannot be written here. */
export async function discardFile(reader: TransferMessageReader): Promise<void> {
  while (await reader.next(EXPECTED_OF_FILE) instanceof Uint8Array);
}

/** Whether the received bytes are wrong. They are kept if the connection broke or the sender gave up. */
export function isDistrusted(error: unknown): boolean {
  return error instanceof MalformedMessageError ||
    error instanceof TransferError && DISTRUSTED.has(error.reason);
}

function wrong(
  { path }: ManifestEntry,
  what: string,
  reason: "damaged" | "unacceptable",
): TransferError {
  return new TransferError(`Cannot receive ${printable(path)}: ${what}`, reason);
}

const EXPECTED_OF_FILE = { data: MAX_DATA_BYTES, end: HASH_BYTES, failed: 1 };

const DISTRUSTED: ReadonlySet<string> = new Set(["damaged", "unacceptable"]);
