/**
 * What becomes of a forwarded stream: events, and the codes with which a stream is reset if forwarding fails.
 *
 * @module
 */

import { PunchlineError, RefusedError } from "../base/errors.ts";
import type { SessionStream } from "../session/stream.ts";

/** What happens to a forwarded stream. */
export interface ForwardEvent {
  /** `"opened"`: it is connected to its target. `"closed"`: it has ended. `"failed"`: it was refused, or it broke. */
  readonly event: "opened" | "closed" | "failed";
  /** The target as the other side calls it. */
  readonly target: string;
  /** Why it failed. */
  readonly error?: unknown;
  /** Which end broke. */
  readonly broken?: "peer" | "local";
}

/** The codes with which forwarded streams are reset. Those from 0xff00 are this library's. */
export const FORWARD_CODES = {
  /** The other side does not offer that target. */
  notOffered: 0xff03,
  /** The other side offers the target, and cannot connect to it. */
  unreachable: 0xff04,
  /** The connection at the other end of the stream broke. */
  broken: 0xff05,
  /** The other side forwards as many flows of UDP as it may. */
  tooMany: 0xff06,
  /** The other side does not understand what was asked for, or too little of it arrived. */
  malformed: 0xff08,
} as const;

/** The other side has asked for what is not offered. */
export class NotOfferedError extends PunchlineError {
  /** @param why Default: `it is not offered`. */
  constructor(target: string, why = "it is not offered") {
    super(`Cannot forward to ${target}: ${why}`, {
      remedy: "Ask for what is offered, or start `listen` with an option for it",
    });
  }
}

/** Why the other side has reset the stream, if it said so. */
export function explained(
  cause: unknown,
  { resetCode }: Pick<SessionStream, "resetCode">,
): unknown {
  const known = REFUSALS.find(({ code }) => code === resetCode);
  if (known === undefined) return cause;
  const { message, code, remedy } = known;
  return new RefusedError(`Cannot forward: ${message}`, code, { cause, remedy });
}

const REFUSALS = [
  {
    code: FORWARD_CODES.notOffered,
    message: "the peer does not offer that",
    remedy: "Ask for a port or a host that the other side's `listen` names",
  },
  {
    code: FORWARD_CODES.unreachable,
    message: "the peer cannot connect to its own service",
    remedy: "Check that the service runs at the other side",
  },
  {
    code: FORWARD_CODES.broken,
    message: "the service at the other side broke the connection off",
    remedy: "Check what the service at the other side says",
  },
  {
    code: FORWARD_CODES.tooMany,
    message: "the peer forwards as many flows of UDP as it may",
    remedy: "Wait until some of them are idle",
  },
  {
    code: FORWARD_CODES.malformed,
    message: "the peer does not understand what this side asks for",
    remedy: "Run the same version on both sides",
  },
];
