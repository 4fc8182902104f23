/**
 * The hash of what is in a file already.
 *
 * @module
 */

import { RunningHash } from "../base/crypto.ts";
import type { FileSystem } from "./files.ts";

/**
 * The hash of the first bytes of a file, ready for the bytes behind them.
 *
 * @returns `undefined` if there are fewer bytes
 */
export async function hashFile(
  files: FileSystem,
  path: string,
  length: number,
): Promise<RunningHash | undefined> {
  using file = await files.open(path, 0);
  const hash = new RunningHash("sha256");
  const pieces = [new Uint8Array(PIECE_BYTES), new Uint8Array(PIECE_BYTES)] as const;
  let left = length;
  const read = (turn: number) => {
    const piece = pieces[turn % 2]!;
    return file.read(piece.subarray(0, Math.min(piece.length, left)));
  };
  let next = left > 0 ? read(0) : undefined;
  for (let turn = 0; next !== undefined; turn++) {
    const count = await next;
    if (count === null) return undefined;
    left -= count;
    next = left > 0 ? read(turn + 1) : undefined; // while this piece is hashed
    hash.update(pieces[turn % 2]!.subarray(0, count));
  }
  return hash;
}

/** Ours. */
const PIECE_BYTES = 256 * 1024;
