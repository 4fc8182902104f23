/**
 * What is in a knock besides the first message of the conversation, and how it may be declined.
 *
 * @module
 */

import { ByteReader, concat } from "../base/bytes.ts";
import { MalformedMessageError } from "../base/errors.ts";

/** What a knock says. */
export interface Knock {
  /** Milliseconds since 1970, by the initiator's clock. */
  readonly sentAtMs: number;
  /** What the initiator wants to speak, as the application calls it; `""` if it does not matter. */
  readonly protocol: string;
  /** The connection that is to go on, 32 hexadecimal digits; `null` for a new one. */
  readonly resumes: string | null;
  /** `direct` of a connection that has a relay's path already. */
  readonly wants: "any" | "direct";
  /** The first message on the channel of the envelope. */
  readonly body: Uint8Array;
}

/** Why there will be no connection. */
export interface Decline {
  /**
   * By the responder, `refused`: by the user, or by the list of who may connect; `busy`: there is somebody else already;
   * `protocol`: another one is spoken; `clock`: the clocks differ by too much; `unknown`: the connection that was to go
   * on is not there. By either, `withdrawn`: whoever began does not want it any more.
   */
  readonly why: (typeof DECLINES)[number];
  /** Milliseconds since 1970, by the clock of who says it. */
  readonly timeMs: number;
}

/** The body of a knock. @throws {RangeError} if the protocol's name is too long */
export function encodeKnock({ body, ...header }: Knock): Uint8Array<ArrayBuffer> {
  if (header.protocol.length > MAX_PROTOCOL_LENGTH) {
    throw new RangeError(
      `Cannot ask for protocol ${
        JSON.stringify(header.protocol)
      }: a name has at most ${MAX_PROTOCOL_LENGTH} characters`,
    );
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const length = new Uint8Array(2);
  new DataView(length.buffer).setUint16(0, json.length);
  return concat(length, json, body);
}

/**
 * Reads the body of a knock.
 *
 * @throws {MalformedMessageError} if it is none
 */
export function decodeKnock(bytes: Uint8Array): Knock {
  const reader = new ByteReader(bytes, "knock");
  const { sentAtMs, protocol, resumes, wants } = parse(
    reader.bytes(reader.uint16("length of the header"), "header"),
    "knock",
  );
  if (typeof sentAtMs !== "number" || !Number.isSafeInteger(sentAtMs)) {
    throw malformed("knock", "sentAtMs", "is a time in milliseconds");
  }
  if (typeof protocol !== "string" || protocol.length > MAX_PROTOCOL_LENGTH) {
    throw malformed("knock", "protocol", `is at most ${MAX_PROTOCOL_LENGTH} characters`);
  }
  if (resumes !== null && !(typeof resumes === "string" && /^[0-9a-f]{32}$/.test(resumes))) {
    throw malformed("knock", "resumes", "is null, or 16 bytes in hexadecimal digits");
  }
  return {
    ...{ sentAtMs, protocol, resumes },
    wants: wants === "direct" ? wants : "any",
    body: reader.bytes(reader.remaining, "body"),
  };
}

/** The body of a message that declines. */
export function encodeDecline(decline: Decline): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(JSON.stringify(decline));
}

/**
 * Reads the body of a message that declines.
 *
 * @throws {MalformedMessageError} if it is none
 */
export function decodeDecline(bytes: Uint8Array): Decline {
  const { why, timeMs } = parse(bytes, "decline");
  const known = DECLINES.find((each) => each === why);
  if (known === undefined) throw malformed("decline", "why", `is one of ${DECLINES.join(", ")}`);
  if (typeof timeMs !== "number" || !Number.isSafeInteger(timeMs)) {
    throw malformed("decline", "timeMs", "is a time in milliseconds");
  }
  return { why: known, timeMs };
}

function parse(bytes: Uint8Array, what: string): Record<string, unknown> {
  try {
    const value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    if (typeof value === "object" && value !== null) return value;
  } catch { /* told below */ }
  throw malformed(what, "header", "is a JSON object");
}

function malformed(what: string, field: string, rule: string): MalformedMessageError {
  return new MalformedMessageError(`Cannot read ${what}: ${field} ${rule}`);
}

/** Ours: the longest of ALPN's are a dozen bytes. */
const MAX_PROTOCOL_LENGTH = 64;

const DECLINES = ["refused", "busy", "protocol", "clock", "unknown", "withdrawn"] as const;
