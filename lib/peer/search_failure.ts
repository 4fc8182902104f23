/**
 * Why a search for paths ends without one, and what each side tells the other about it, so that neither waits in vain.
 *
 * @module
 */

import {
  type ConnectionAttempt,
  NetworkError,
  PunchlineError,
  RefusedError,
  UnreachableError,
} from "../base/errors.ts";
import { isStunErrorCode } from "./relay_message.ts";
import type { FoundNothing } from "./signaling_message.ts";

/** What a search that has failed tells the other side about it; `undefined` if it failed in another way. */
export function foundNothing(error: unknown): FoundNothing | undefined {
  if (!(error instanceof UnreachableError)) return undefined;
  for (let cause: unknown = error; cause instanceof PunchlineError; cause = cause.cause) {
    if (!(cause instanceof RefusedError)) continue;
    return { relayCode: isStunErrorCode(cause.code) ? cause.code : null };
  }
  return { relayCode: null };
}

/**
 * The error of a search whose parts have failed. An unexpected one is returned as it is.
 *
 * @param remedy what to do. Default: as a part says
 */
export function searchError(
  reasons: readonly unknown[],
  attempts: readonly ConnectionAttempt[],
  remedy: string | undefined,
): unknown {
  const unexpected = reasons.find((reason) => !(reason instanceof UnreachableError));
  if (unexpected !== undefined) return unexpected;
  const errors = reasons as readonly UnreachableError[];
  const why = errors.map(({ message }) => message.replace(/^Cannot \w+: /, ""));
  const cause = errors.find(({ cause }) => cause instanceof RefusedError) ?? errors[0];
  const message = `Cannot connect: ${[...new Set(why)].join("; ")}`;
  return new UnreachableError(message, attempts, { cause, remedy });
}

/** The reason for a search to end, after the other side's has found nothing. */
export function hopelessError({ relayCode }: FoundNothing): Error {
  const why = relayCode === null ? "" : `: its relay server refused it (${relayCode})`;
  return new NetworkError(`the other side has found no path${why}`, "closed", {
    remedy: relayCode === null
      ? "Name a TURN relay in `turn` on either side, for when no direct path works"
      : "Check the relay's URL and login on the other side",
  });
}

/** What to do after a search in which no relay was allowed: advice to name one would be of no use. */
export function remedyWithoutRelay(
  { isManual, mayRelay }: { readonly isManual: boolean; readonly mayRelay: boolean },
): string {
  if (isManual) return "Meet by a server, named in `signaling`, so that a relay can be used";
  return mayRelay
    ? "Let the other side leave `strategies` out, so that relays are used"
    : "Leave `strategies` out, so that relays and all other kinds of path are tried";
}
