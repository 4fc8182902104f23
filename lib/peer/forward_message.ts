/**
 * What a forwarded connection asks for, at the start of its stream: a version of one byte, a kind of one byte, a length of
 * two bytes, and a text of that length in UTF-8. Data may follow at once.
 *
 * @module
 */

import { concat } from "../base/bytes.ts";
import { malformed } from "../base/errors.ts";

/** What a forwarded connection asks for. */
export type ForwardRequest =
  /** A target by the name under which it is offered; `""` for the first. */
  | { readonly kind: "target"; readonly name: string }
  /** The same for a UDP port. A byte of 0 tells that it is ready; the stream then ends the flow. */
  | { readonly kind: "udp"; readonly name: string }
  /** A host by name or address. A byte of 0 tells that it is connected, before anything else. */
  | { readonly kind: "dial"; readonly host: string; readonly port: number };

/** The length of a request without its text. */
export const FORWARD_HEADER_LENGTH = 4;

/**
 * Encodes a request.
 *
 * @throws {RangeError} if its text is too long
 */
export function encodeForwardRequest(request: ForwardRequest): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(
    request.kind === "dial" ? `${request.port} ${request.host}` : request.name,
  );
  if (text.length > MAX_TEXT_LENGTH) {
    throw new RangeError(`Cannot forward: a target has at most ${MAX_TEXT_LENGTH} bytes`);
  }
  return concat(
    Uint8Array.of(VERSION, KINDS[request.kind], text.length >> 8, text.length & 0xff),
    text,
  );
}

/**
 * The length of the text of a request.
 *
 * @param header {@linkcode FORWARD_HEADER_LENGTH} bytes
 * @throws {MalformedMessageError} if it is of another version, or too long
 */
export function forwardTextLength(header: Uint8Array): number {
  if (header.length < FORWARD_HEADER_LENGTH) throw malformed(WHAT, "it is too short");
  if (header[0] !== VERSION) throw malformed(WHAT, `version ${header[0]} is unknown`);
  const length = header[2]! << 8 | header[3]!;
  if (length > MAX_TEXT_LENGTH) throw malformed(WHAT, `its text has ${length} bytes`);
  return length;
}

/**
 * Decodes a whole request.
 *
 * @throws {MalformedMessageError} if it is anything else
 */
export function decodeForwardRequest(bytes: Uint8Array): ForwardRequest {
  const length = forwardTextLength(bytes);
  if (bytes.length !== FORWARD_HEADER_LENGTH + length) throw malformed(WHAT, "its length is wrong");
  const text = decodeText(bytes.subarray(FORWARD_HEADER_LENGTH));
  if (bytes[1] === KINDS.target) return { kind: "target", name: text };
  if (bytes[1] === KINDS.udp) return { kind: "udp", name: text };
  if (bytes[1] !== KINDS.dial) throw malformed(WHAT, `kind ${bytes[1]} is unknown`);
  const [, digits, host] = /^([1-9]\d{0,4}) ([\w.:-]{1,255})$/.exec(text) ?? [];
  const port = Number(digits);
  if (host === undefined || port > 65_535) throw malformed(WHAT, "host or port is invalid");
  return { kind: "dial", host: host.toLowerCase(), port };
}

function decodeText(bytes: Uint8Array): string {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw malformed(WHAT, "its text is not UTF-8", cause);
  }
  if (/\p{Cc}/u.test(text)) throw malformed(WHAT, "its text has control characters");
  return text;
}

const WHAT = "forward request";

const VERSION = 1;
const KINDS = { target: 0, dial: 1, udp: 2 } as const;

/** Chosen by us: the longest name of a host, or a path. */
const MAX_TEXT_LENGTH = 512;
