/**
 * Telling the other side why this one does not go on.
 *
 * @module
 */

import { MalformedMessageError } from "../base/errors.ts";
import { Deadline } from "../base/timers.ts";
import type { TcpConnection } from "../net/network.ts";
import { writeAll } from "../base/reader.ts";
import { FileError, TransferError } from "./files.ts";
import { encodeMessage } from "./message.ts";

/**
 * Tells it, if the error is one for the other side. What that still sends is read for a while: a connection that is
 * closed with unread bytes is cut, and the reason lost.
 *
 * @param ended settles once the other side has ended the stream, and reads until then
 */
export async function refuse(
  error: unknown,
  connection: TcpConnection,
  ended: () => Promise<void>,
): Promise<void> {
  const reason = reasonFor(error);
  if (reason === undefined) return;
  using deadline = new Deadline(LAST_WORD_MS);
  deadline.signal.addEventListener("abort", () => connection.reset(), { once: true });
  const code = isDeclined(error) ? "declined" : "failed";
  try {
    await writeAll(connection, encodeMessage({ type: "refusal", code, reason }));
    await connection.closeWrite();
    await ended();
  } catch {
    // The other side learns no reason, and the caller throws its own.
  }
}

/** What may be told: nothing about this side's folders. */
function reasonFor(error: unknown): string | undefined {
  if (error instanceof FileError) return `${REASONS[error.reason]} there`;
  if (error instanceof TransferError) return error.reason === "declined" ? "" : error.message;
  if (error instanceof MalformedMessageError) return error.message;
  return undefined;
}

function isDeclined(error: unknown): boolean {
  return error instanceof TransferError && error.reason === "declined";
}

const REASONS: Readonly<Record<FileError["reason"], string>> = {
  "not-found": "a file is missing",
  exists: "a file is in the way",
  "not-permitted": "a file may not be read or written",
  "no-space": "no space is left",
  other: "a file cannot be read or written",
};

/** Ours: some round trips. */
const LAST_WORD_MS = 3000;
