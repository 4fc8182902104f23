/**
 * Rejections: what the side with the ticket throws when the other side does not connect, for each reason, and what the
 * other side throws if it has no room.
 *
 * @module
 */

import { messageOf, NetworkError, RefusedError } from "../base/errors.ts";
import { TICKET_GONE_TEXT, UNHEARD_REMEDY } from "./connection.ts";
import type { Rejection } from "./signaling_message.ts";
import type { ListenedTicket } from "./tickets.ts";

/** The `code` of a {@linkcode RefusedError}, for each reason to reject a connection. */
export const REJECTION_CODES: Readonly<
  Record<"refused" | "protocol" | "clock" | "unknown" | "busy" | "cancelled", number>
> = {
  refused: 1,
  protocol: 2,
  clock: 3,
  unknown: 4,
  busy: 5,
  cancelled: 6,
};

/** The error for a rejection, with what to do about it. */
export function refusedError({ reason, timeMs }: Rejection): RefusedError {
  const remedy = REJECTION_REMEDIES[reason];
  const message = `Cannot connect: ${REASONS[reason](timeMs)}`;
  return new RefusedError(message, REJECTION_CODES[reason], { remedy });
}

/**
 * The error for a connection that cannot be resumed.
 *
 * @param wasHeard whether the other side was ever heard over it. Peers of the first version cut the first path when they
 * read of a newer one, without a word, and forget the connection
 */
export function resumptionError(error: unknown, wasHeard: boolean): NetworkError {
  const cannot = "Cannot resume the connection";
  const isUnknown = error instanceof RefusedError && error.code === REJECTION_CODES.unknown;
  // A peer that was restarted has lost the connection, so that a new one may go on with the work.
  const reason = isUnknown ? "reset" : "other";
  if (wasHeard || !isUnknown) {
    return new NetworkError(`${cannot}: ${messageOf(error)}`, reason, { cause: error });
  }
  return new NetworkError(
    `${cannot}: the peer was restarted and no longer knows this connection, or runs an older version of Punchline`,
    reason,
    { cause: error, remedy: UNHEARD_REMEDY },
  );
}

/** The error for the application that accepts a request although there is no room, or the ticket is good no more. */
export function noRoomError({ isValid }: Pick<ListenedTicket, "isValid">): NetworkError {
  return isValid
    ? new NetworkError("Cannot accept: there are too many connections", "other", {
      remedy: "Close connections that are no longer needed",
    })
    : new NetworkError(`Cannot accept: ${TICKET_GONE_TEXT}`, "closed", {
      remedy: "Give the other side another ticket",
    });
}

/** The error for the application that accepts a request for which this process cannot open another socket. */
export function shortageError(): NetworkError {
  return new NetworkError("Cannot accept: this process has too many open files", "other", {
    remedy: "Let this process open more files (ulimit -n), or set a lower maxConnections",
  });
}

const REASONS: Readonly<Record<Rejection["reason"], (timeMs: number) => string>> = {
  refused: () => "the peer refused",
  protocol: () => "the peer does not speak this protocol",
  clock: (timeMs) => {
    const minutes = Math.round(Math.abs(timeMs - Date.now()) / 60_000);
    return `the clocks of the two peers differ by ${minutes} minutes`;
  },
  unknown: () => "the peer was restarted and no longer knows this connection",
  busy: () => "the peer is busy",
  cancelled: () => "the peer has given up",
};

const REJECTION_REMEDIES: Readonly<Record<Rejection["reason"], string>> = {
  refused: "Ask the other side to accept, or to allow this peer's ID",
  protocol: "Run the same program on both sides, or ask for the ticket of the right one",
  clock: "Set the clock that is wrong",
  unknown: "Connect again; if that fails as well, run the same version on both sides",
  busy: "Try again in a moment",
  cancelled: "Ask the other side to wait, and connect again",
};
