/**
 * Failures that are the network's or the server's.
 *
 * @module
 */

import {
  MalformedMessageError,
  NetworkError,
  NoResponseError,
  RefusedError,
} from "../base/errors.ts";

/** Whether an error tells of the network or the server, and not of a fault of ours. */
export function isFailure(error: unknown): boolean {
  return error instanceof NetworkError || error instanceof NoResponseError ||
    error instanceof RefusedError || error instanceof MalformedMessageError;
}

/** Whether asking again will not help. */
export function isFinal(error: unknown): boolean {
  if (error instanceof RefusedError) return error.code < 500;
  return !isFailure(error);
}
