/**
 * Why a transfer ended without all of its files.
 *
 * @module
 */

/** Why a transfer ended; see {@linkcode TransferError}. */
export type TransferErrorReason =
  | "unacceptable" // what the other side offers or sends breaks a rule
  | "declined" // the receiver does not want it
  | "exists" // it would overwrite something, which was not asked for
  | "changed" // a file was changed while it was sent, or is another one since the last connection
  | "damaged" // a file has not the hash it should have
  | "failed" // the other side could not go on, and said why
  | "broken"; // the connection broke, and no further one brought anything

/** A transfer ended without all of its files. What has arrived whole stays, and is not sent again the next time. */
export class TransferError extends Error {
  /** `"TransferError"`. */
  override readonly name = "TransferError";
  /** The kind of failure. */
  readonly reason: TransferErrorReason;

  /**
   * Makes one.
   *
   * @param reason the kind of failure
   */
  constructor(message: string, reason: TransferErrorReason, options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
  }
}
