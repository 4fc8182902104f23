/**
 * What can go wrong on the network, as classes that a program can tell apart. Misuse of the API throws
 * the platform's own `TypeError` and `RangeError`.
 *
 * @module
 */

/** Bytes from the network that are not what their protocol says; the message names the field. */
export class MalformedMessageError extends Error {
  /** `"MalformedMessageError"`. */
  override readonly name = "MalformedMessageError";
}

/** Nobody answered in the time that the protocol, or the caller, allows. */
export class NoResponseError extends Error {
  /** `"NoResponseError"`. */
  override readonly name = "NoResponseError";
}

/** Somebody answered, and the answer was no. */
export class RefusedError extends Error {
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
export class NetworkError extends Error {
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
