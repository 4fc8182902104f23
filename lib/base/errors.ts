/**
 * The errors that a program must expect from a network, as classes. Misuse of the API throws `TypeError` or `RangeError`
 * instead.
 *
 * A `remedy` names what the caller can do, as an imperative without a period. An option of the library is in backticks,
 * such as `` `turn` ``, for a face that calls it by another name.
 *
 * @module
 */

import type { PathKind, PunchMethodName } from "./path_kind.ts";

/**
 * The base class of all errors that a network, a server or a peer can cause. With one `instanceof` a program can
 * distinguish them from its own faults. Their messages are one line.
 */
export abstract class PunchlineError extends Error {
  /** What to do about it: an imperative without a period. `undefined` if nothing is known to help. */
  readonly remedy: string | undefined;

  /**
   * Makes one.
   *
   * @param options.remedy what to do about it. Default: as the cause says, or as is usual for this kind of error
   */
  constructor(message: string, options: PunchlineErrorOptions = {}, usual?: string) {
    const { remedy, ...rest } = options;
    super(message, rest);
    this.remedy = remedy ?? remedyOf(rest.cause) ?? usual;
  }
}

/** What an error is made of, besides its message. */
export interface PunchlineErrorOptions extends ErrorOptions {
  /** What to do about it: an imperative without a period. */
  readonly remedy?: string;
}

/** What to do about an error, if it says so itself. */
export function remedyOf(error: unknown): string | undefined {
  return error instanceof PunchlineError ? error.remedy : undefined;
}

/** Bytes from the network violate their protocol. The message names the field. */
export class MalformedMessageError extends PunchlineError {
  /** `"MalformedMessageError"`. */
  override readonly name = "MalformedMessageError";

  /** Makes one. */
  constructor(message: string, options?: PunchlineErrorOptions) {
    super(message, options, REMEDIES.malformed);
  }
}

/**
 * Makes the error of a decoder: `Cannot read ${what}: ${problem}`.
 *
 * @param what the kind of message, such as `"offer"`
 * @param problem the field and the rule that it breaks, such as `"round must be a whole number"`
 */
export function malformed(what: string, problem: string, cause?: unknown): MalformedMessageError {
  const options = cause === undefined ? {} : { cause };
  const remedy = MALFORMED_REMEDIES[what];
  return new MalformedMessageError(`Cannot read ${what}: ${problem}`, { ...options, remedy });
}

/** The message of an error, or whatever else was thrown as text. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The result of a decoder; `undefined` if it throws {@linkcode MalformedMessageError}. */
export function undefinedIfMalformed<T>(decode: () => T): T | undefined {
  try {
    return decode();
  } catch (error) {
    if (error instanceof MalformedMessageError) return undefined;
    throw error;
  }
}

/** There was no response within the time that the protocol or the caller allows. */
export class NoResponseError extends PunchlineError {
  /** `"NoResponseError"`. */
  override readonly name = "NoResponseError";

  /** Makes one. */
  constructor(message: string, options?: PunchlineErrorOptions) {
    super(message, options, REMEDIES.silent);
  }
}

/** A server, router or peer refused a request. */
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
  constructor(message: string, code: number, options?: PunchlineErrorOptions) {
    super(message, options, REMEDIES.refused);
    this.code = code;
  }
}

/** Why a socket operation failed; see {@linkcode NetworkError}. */
export type NetworkErrorReason =
  | "refused" // a RST, or ICMP port unreachable
  | "reset" // a RST on an established connection
  | "unreachable" // no route, or another ICMP unreachable
  | "timed-out" // the system stopped waiting
  | "address-in-use"
  | "address-not-available" // not an address of this system
  | "name-not-found" // the name does not resolve
  | "not-permitted" // a missing permission, of Deno or of the system
  | "not-allowed" // somebody else named an address that only the user may name
  | "tls" // the TLS handshake or the certificate
  | "proxy" // the proxy refuses, or does not speak its protocol
  | "closed" // closed by this side
  | "other";

/** A socket operation failed. `cause` is the error of the platform, if there is one. */
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
  constructor(message: string, reason: NetworkErrorReason, options?: PunchlineErrorOptions) {
    super(message, options, NETWORK_REMEDIES[reason]);
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

/** Two addresses between which a connection was tried (RFC 8445 §2.2). */
export interface CandidatePair {
  /** The transport protocol. */
  readonly transport: "tcp" | "udp";
  /** The address on this side, `192.0.2.1:4000`; `null` if it is not known, because the system chose it. */
  readonly local: string | null;
  /** The address on the other side, or the URL of a relay. */
  readonly remote: string;
}

/** One attempt to connect to a peer, and how it ended. */
export interface ConnectionAttempt extends Attempt {
  /**
   * The pairs of addresses that were tried, in the order in which they were: none if the attempt ended before the first. Of
   * an attempt at many ports, the first 32.
   */
  readonly candidates: readonly CandidatePair[];
  /** The kind of path that it tried. */
  readonly kind: PathKind;
  /** How it tried to get through the filters of both sides; `null` unless `kind` is `"punch-tcp"` or `"punch-udp"`. */
  readonly method: PunchMethodName | null;
  /** The transport protocol. */
  readonly transport: "tcp" | "udp";
}

/**
 * No attempt reached the other side; `attempts` lists each one and why it failed.
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
  constructor(message: string, attempts: readonly Tried[], options?: PunchlineErrorOptions) {
    super(message, options, REMEDIES.noPath);
    this.attempts = attempts;
  }
}

const REMEDIES = {
  malformed: "Check the address and the port, and run the same version on both sides",
  silent: "Check the address, that the program there is running, and that no firewall blocks it",
  refused: "Ask whoever runs the other side to allow it",
  noPath: "Name a TURN relay in `turn` on either side, for when no direct path works",
};

/** What people copy, and what is damaged on the way. */
const MALFORMED_REMEDIES: Readonly<Record<string, string>> = {
  "ticket": "Copy the whole ticket again, from `punchline:` to its last character",
  "code": "Type the number and the three words as the other side shows them, 7-amber-walrus-otter",
  "message": "Copy the whole text again, and paste it as it is",
  "settings": "Correct the file, or delete it to start afresh",
  "ticket list":
    "Restore the file from a copy, or delete it: then only this peer's own ticket is left",
};

/** What usually helps; nothing has to be done about what this side has closed. */
const NETWORK_REMEDIES: Readonly<Record<NetworkErrorReason, string | undefined>> = {
  "refused": "Check the address and the port, and that the program there is running",
  "reset": "Try again; if it happens again, check that the port is that of the service you mean",
  "unreachable": "Check this machine's connection to the network",
  "timed-out": "Check the address, and that no firewall blocks it",
  "address-in-use": "Choose another port, or end the program that uses this one",
  "address-not-available": "Use an address of this machine",
  "name-not-found": "Check the spelling of the name, and the connection to the internet",
  "not-permitted": "Choose a port above 1023, or run the program as a user who may use this one",
  "not-allowed": "If you trust the address, name it yourself",
  "proxy": "Check the URL of the proxy, or reach the server without it",
  "tls": "Check the name in the URL, the server's certificate and this machine's clock",
  "closed": undefined,
  "other": undefined,
};
