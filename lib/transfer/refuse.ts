/**
 * The end of a transfer: tells the other side why this one gives up, or waits until it knows that everything is there.
 *
 * @module
 */

import { MalformedMessageError } from "../base/errors.ts";
import { writeAll } from "../base/reader.ts";
import { Deadline } from "../base/timers.ts";
import type { TcpConnection } from "../net/network.ts";
import { FileError, TransferError } from "./files.ts";
import { encodeTransferMessage, type FailureReason, type RefusalReason } from "./message.ts";
import type { TransferMessageReader } from "./message_reader.ts";

/**
 * Sends REFUSAL, if the error concerns the other side. Then waits a while for its end of the stream: a connection closed
 * with unread bytes is reset, and the reason would be lost.
 *
 * @param ended reads until the other side has ended the stream
 */
export async function sendRefusal(
  error: unknown,
  connection: TcpConnection,
  ended: () => Promise<void>,
): Promise<void> {
  const reason = reasonFor(error);
  if (reason === undefined) return;
  using deadline = new Deadline(LAST_MESSAGE_MS);
  deadline.signal.addEventListener("abort", () => connection.reset(), { once: true });
  const code = isDeclined(error) ? "declined" : "failed";
  try {
    await writeAll(connection, encodeTransferMessage({ type: "refusal", code, reason }));
    await connection.closeWrite();
    await ended();
  } catch {
    // The other side does not get the reason. The caller throws its own error.
  }
}

/**
 * Ends a connection after a failure: sends REFUSAL as {@linkcode sendRefusal} does, unless the other side has sent one.
 * Then nothing that is on its way matters, not even if the path is lost.
 */
export async function endRefused(
  error: unknown,
  { connection, reader }: {
    readonly connection: TcpConnection;
    readonly reader: Pick<TransferMessageReader, "isRefused">;
  },
  ended: () => Promise<void>,
): Promise<void> {
  if (reader.isRefused) connection.reset();
  else await sendRefusal(error, connection, ended);
}

/** Waits a while for the sender to end the stream, which it does once it has received DONE. */
export async function sayGoodbye(
  connection: TcpConnection,
  reader: Pick<TransferMessageReader, "drain">,
): Promise<void> {
  using deadline = new Deadline(GOODBYE_MS);
  deadline.signal.addEventListener("abort", () => connection.reset(), { once: true });
  try {
    await reader.drain();
    await connection.closeWrite();
  } catch (error) {
    if (!deadline.signal.aborted) throw error;
  }
}

/** The reason to send, which must reveal nothing about this side's folders. */
function reasonFor(error: unknown): string | undefined {
  if (error instanceof FileError) return `${REASONS[error.reason]} there`;
  if (isDeclined(error)) return "";
  if (error instanceof TransferError) return error.message;
  if (error instanceof MalformedMessageError) return error.message;
  return undefined;
}

function isDeclined(error: unknown): boolean {
  return error instanceof TransferError && DECLINED.has(error.reason);
}

/** Sent, and so read from the other side: hence "there" behind them. */
const REASONS: Readonly<Record<FileError["reason"], string>> = {
  "not-found": "a file is missing",
  exists: "a file is in the way",
  "not-permitted": "a file may not be read or written",
  "no-space": "no space is left",
  name: "a name is not possible",
  replaced: "a file was moved or replaced",
  other: "a file cannot be read or written",
};

/** Why a file was not sent, for people on both sides. */
export const FAILURE_TEXT: Readonly<Record<FailureReason, string>> = {
  changed: "it has changed since it was offered",
  unreadable: "it cannot be read",
};

/** Why an entry was not written, for people on both sides. */
export const REFUSAL_TEXT: Readonly<Record<RefusalReason, string>> = {
  name: "the receiver's system cannot hold such a name",
  link: "the receiver's system does not let it make links",
  exists: "something else is there",
  hidden: "it is hidden or a program, and the receiver did not allow that",
};

/** The application's decisions, which tell the sender nothing about the target folder. */
const DECLINED: ReadonlySet<string> = new Set(["declined", "merge", "hidden"]);

/** Chosen by us: a few round trips. */
const LAST_MESSAGE_MS = 3000;

/** Chosen by us: more than a few round trips. */
const GOODBYE_MS = 10_000;
