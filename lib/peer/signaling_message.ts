/**
 * The messages of two peers before they are connected, as whoever carries them sees them: three kinds, of two lengths.
 *
 * ```text
 * knock:   1 | MAC (16) | first message of the Noise handshake: e, s, payload
 * answer:  2 | MAC (16) | second message of the Noise handshake: e, payload
 * sealed:  3 | conversation (8) | counter (8) | ciphertext
 *
 * the plaintext of each: length (2) | channel (1) | body | zeros
 * ```
 *
 * @module
 */

import { ByteReader, concat } from "../base/bytes.ts";
import { MalformedMessageError } from "../base/errors.ts";
import { MAX_SIGNAL_BYTES } from "../signal/channel.ts";
import { MAC_LENGTH } from "./keys.ts";

/** A message. */
export type Envelope =
  | {
    readonly kind: "knock" | "answer";
    readonly mac: Uint8Array;
    readonly handshake: Uint8Array;
  }
  | {
    readonly kind: "sealed";
    /** The start of the ephemeral key that began the conversation. */
    readonly conversation: Uint8Array;
    readonly counter: bigint;
    readonly ciphertext: Uint8Array;
  };

/** What is inside. */
export interface Content {
  /** Tells the conversations that share a line: 0 to 255. */
  readonly channel: number;
  readonly body: Uint8Array;
}

/** The bytes of a message. */
export function encodeEnvelope(envelope: Envelope): Uint8Array<ArrayBuffer> {
  switch (envelope.kind) {
    case "knock":
    case "answer":
      return concat(Uint8Array.of(KINDS[envelope.kind]), envelope.mac, envelope.handshake);
    case "sealed": {
      const counter = new Uint8Array(COUNTER_LENGTH);
      new DataView(counter.buffer).setBigUint64(0, envelope.counter);
      const { conversation, ciphertext } = envelope;
      return concat(Uint8Array.of(KINDS.sealed), conversation, counter, ciphertext);
    }
  }
}

/**
 * Reads a message, without a look into it.
 *
 * @throws {MalformedMessageError} if it is none
 */
export function decodeEnvelope(bytes: Uint8Array): Envelope {
  if (bytes.length > MAX_SIGNAL_BYTES) {
    throw new MalformedMessageError(
      `Cannot read envelope: ${bytes.length} bytes are over the limit of ${MAX_SIGNAL_BYTES}`,
    );
  }
  const reader = new ByteReader(bytes, "envelope");
  const kind = reader.uint8("kind");
  const rest = (what: string) => reader.bytes(reader.remaining, what);
  switch (kind) {
    case KINDS.knock:
    case KINDS.answer:
      return {
        kind: kind === KINDS.knock ? "knock" : "answer",
        mac: reader.bytes(MAC_LENGTH, "MAC"),
        handshake: rest("handshake"),
      };
    case KINDS.sealed: {
      const conversation = reader.bytes(CONVERSATION_LENGTH, "conversation");
      const counter = new DataView(reader.bytes(COUNTER_LENGTH, "counter").buffer).getBigUint64(0);
      return { kind: "sealed", conversation, counter, ciphertext: rest("ciphertext") };
    }
    default:
      throw new MalformedMessageError(`Cannot read envelope: kind ${kind} is not known`);
  }
}

/**
 * The plaintext of a message of this kind, so long that the message has one of {@linkcode ENVELOPE_LENGTHS}.
 *
 * @throws {RangeError} if the body is too long for the longest
 */
export function encodeContent(
  { channel, body }: Content,
  kind: Envelope["kind"],
): Uint8Array<ArrayBuffer> {
  const room = ENVELOPE_LENGTHS.map((length) => length - OVERHEAD[kind])
    .find((length) => CONTENT_HEADER + body.length <= length);
  if (room === undefined) {
    throw new RangeError(`Cannot send: ${body.length} bytes do not fit into one message`);
  }
  const plaintext = new Uint8Array(room);
  new DataView(plaintext.buffer).setUint16(0, body.length);
  plaintext[2] = channel;
  plaintext.set(body, CONTENT_HEADER);
  return plaintext;
}

/**
 * Reads a plaintext; what it is padded with does not matter.
 *
 * @throws {MalformedMessageError} if it is none
 */
export function decodeContent(plaintext: Uint8Array): Content {
  const reader = new ByteReader(plaintext, "content of an envelope");
  const length = reader.uint16("length");
  const channel = reader.uint8("channel");
  return { channel, body: reader.bytes(length, "body") };
}

const KINDS = { knock: 1, answer: 2, sealed: 3 } as const;
const COUNTER_LENGTH = 8;

/** How much of an ephemeral key names a conversation. */
export const CONVERSATION_LENGTH = 8;

const CONTENT_HEADER = 3;
const KEY_LENGTH = 32;
const TAG_LENGTH = 16;

/** What is not plaintext. */
const OVERHEAD: Readonly<Record<Envelope["kind"], number>> = {
  knock: 1 + MAC_LENGTH + KEY_LENGTH + (KEY_LENGTH + TAG_LENGTH) + TAG_LENGTH,
  answer: 1 + MAC_LENGTH + KEY_LENGTH + TAG_LENGTH,
  sealed: 1 + CONVERSATION_LENGTH + COUNTER_LENGTH + TAG_LENGTH,
};

/** Ours: an offer of most hosts, and the most that a channel carries. */
export const ENVELOPE_LENGTHS = [2048, MAX_SIGNAL_BYTES] as const;

/** The longest body that fits into a message of any kind. */
export const MAX_BODY_LENGTH = MAX_SIGNAL_BYTES - OVERHEAD.knock - CONTENT_HEADER;

/** What a knock says. */
export interface ConnectionRequest {
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
export interface Rejection {
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
export function encodeConnectionRequest(
  { body, ...header }: ConnectionRequest,
): Uint8Array<ArrayBuffer> {
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
export function decodeConnectionRequest(bytes: Uint8Array): ConnectionRequest {
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
export function encodeRejection(rejection: Rejection): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(JSON.stringify(rejection));
}

/**
 * Reads the body of a message that declines.
 *
 * @throws {MalformedMessageError} if it is none
 */
export function decodeRejection(bytes: Uint8Array): Rejection {
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
