/**
 * What can go wrong on the network, as classes that a program can tell apart. Misuse of the API throws
 * the platform's own `TypeError` and `RangeError`.
 *
 * @module
 */

import type { PathKind, PunchMethodName } from "./path_kind.ts";

/**
 * What a network, a server or a peer can do to a program: expected, and told in one line. All errors below are of this
 * class, so that one `instanceof` tells them from faults of a program.
 */
export abstract class PunchlineError extends Error {}

/** Bytes from the network that are not what their protocol says; the message names the field. */
export class MalformedMessageError extends PunchlineError {
  /** `"MalformedMessageError"`. */
  override readonly name = "MalformedMessageError";
}

/**
 * The error of a decoder: `Cannot read ${what}: ${problem}`.
 *
 * @param what names the message, such as `"offer"`
 * @param problem names the field and the rule that it breaks, such as `"round is a whole number"`
 */
export function malformed(what: string, problem: string, cause?: unknown): MalformedMessageError {
  const options = cause === undefined ? undefined : { cause };
  return new MalformedMessageError(`Cannot read ${what}: ${problem}`, options);
}

/** Nobody answered in the time that the protocol, or the caller, allows. */
export class NoResponseError extends PunchlineError {
  /** `"NoResponseError"`. */
  override readonly name = "NoResponseError";
}

/** Somebody answered, and the answer was no. */
export class RefusedError extends PunchlineError {
  /** `"RefusedError"`. */
  override readonly name = "RefusedError";
  /** The protocol's own code, such as 401 (STUN) or 2 (PCP `NOT_AUTHORIZED`). */
  readonly code: number;

  /**
   * Makes one.
   *
   * @param code the protocol's own code for the refusal
   */
  constructor(message: string, code: number, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** Why the network, or this system, would not carry traffic; see {@linkcode NetworkError}. */
export type NetworkErrorReason =
  | "refused" // a RST, or ICMP port unreachable
  | "reset" // a RST on an established connection
  | "unreachable" // no route, or another ICMP unreachable
  | "timed-out" // the system gave up waiting
  | "address-in-use"
  | "address-not-available" // not an address of this system
  | "name-not-found" // the name does not resolve
  | "not-permitted" // a missing permission, of Deno or of the system
  | "tls" // the TLS handshake or the certificate
  | "closed" // closed by this side
  | "other";

/** A socket operation failed; `cause` is the platform's own error. */
export class NetworkError extends PunchlineError {
  /** `"NetworkError"`. */
  override readonly name = "NetworkError";
  /** The kind of failure, the same on every platform. */
  readonly reason: NetworkErrorReason;

  /**
   * Makes one.
   *
   * @param reason the kind of failure
   */
  constructor(message: string, reason: NetworkErrorReason, options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
  }
}

/** One thing that was tried, and how it ended. */
export interface Attempt {
  /** The address that it used on this side, `192.0.2.1:4000`; `null` if no socket was connected. */
  readonly local: string | null;
  /** The other side's address, or a description of several. */
  readonly remote: string;
  /** How it ended. */
  readonly outcome:
    | "connected"
    | "refused"
    | "unreachable"
    | "timed-out"
    | "not-authenticated"
    | "abandoned" // another attempt was faster, or the caller gave up
    | "failed";
  /** SYNs that dialling sent, not counting the system's retransmissions; 0 for a connection that was accepted. */
  readonly tries: number;
  /** How many of them were answered by a RST. */
  readonly resets: number;
  /** From the first try to the end of the last, in milliseconds. */
  readonly elapsedMs: number;
  /** Why, in words, if the outcome alone does not explain it. */
  readonly reason?: string;
  /** What might help, in plain words. */
  readonly remedy?: string;
}

/** One attempt to connect to a peer, and how it ended. */
export interface ConnectionAttempt extends Attempt {
  /** The kind of path that it tried. */
  readonly kind: PathKind;
  /** How it tried to get through the filters of both sides; `null` unless `kind` is `"punch-tcp"`. */
  readonly method: PunchMethodName | null;
  /** The transport protocol. */
  readonly transport: "tcp";
}

/**
 * Nothing that was tried reached the other side; `attempts` tells why, attempt by attempt.
 *
 * @typeParam Tried what an attempt is
 */
export class UnreachableError<Tried extends Attempt = ConnectionAttempt> extends PunchlineError {
  /** `"UnreachableError"`. */
  override readonly name = "UnreachableError";
  /** Everything that was tried, in order. */
  readonly attempts: readonly Tried[];

  /**
   * Makes one.
   *
   * @param attempts everything that was tried, in order
   */
  constructor(message: string, attempts: readonly Tried[], options?: ErrorOptions) {
    super(message, options);
    this.attempts = attempts;
  }
}
