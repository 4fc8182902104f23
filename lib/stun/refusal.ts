/**
 * Error responses as errors.
 *
 * @module
 */

import { MalformedMessageError, RefusedError } from "../base/errors.ts";
import { formatTransportAddress, type TransportAddress } from "../net/address.ts";
import type { StunErrorCode } from "./error_code.ts";
import { getAttribute, type StunMessage } from "./message.ts";

/** How to tell of a refusal. */
export interface RefusalOptions {
  /** Who refused. */
  readonly server: TransportAddress;
  /** What could not be done, as in `get mapped address`. */
  readonly action: string;
  /** What to do about it. */
  readonly remedy?: string;
}

/**
 * What an error response says.
 *
 * @throws {MalformedMessageError} if it says nothing
 */
export function errorOf(response: StunMessage, server: TransportAddress): StunErrorCode {
  const error = getAttribute(response, "ERROR-CODE");
  if (error !== undefined) return error;
  throw new MalformedMessageError(
    `Cannot understand ${formatTransportAddress(server)}: its error has no ERROR-CODE`,
  );
}

/**
 * An error response as an error, without what a terminal would obey.
 *
 * @throws {MalformedMessageError} if the response has no ERROR-CODE
 */
export function refusal(response: StunMessage, options: RefusalOptions): RefusedError {
  const { server, action, remedy } = options;
  const { code, reason } = errorOf(response, server);
  const phrase = reason.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "").trim() || "no reason given";
  const unknown = getAttribute(response, "UNKNOWN-ATTRIBUTES") ?? [];
  return new RefusedError(
    `Cannot ${action}: ${formatTransportAddress(server)} answered ${code} (${phrase})` +
      (unknown.length === 0 ? "" : ` for ${listCodes(unknown)}`) +
      (remedy === undefined ? "" : `; ${remedy}`),
    code,
  );
}

/** Numbers of attributes, for people. */
export function listCodes(codes: readonly number[]): string {
  return codes.map((code) => `0x${code.toString(16).padStart(4, "0")}`).join(", ");
}
