/**
 * The messages that two peers exchange before they are connected, as whatever carries them sees them: three kinds, two
 * lengths.
 *
 * ```text
 * request:   1 | MAC (16) | first message of the Noise handshake: e, s, payload
 * answer:    2 | MAC (16) | second message of the Noise handshake: e, payload
 * transport: 3 | session ID (8) | counter (8) | ciphertext
 *
 * the plaintext of each: length (2) | channel (1) | body | zeros
 * ```
 *
 * What people copy has no zeros at its end: they would have to copy those, too.
 *
 * @module
 */

import { ByteReader, concat, parseJsonObject } from "../base/bytes.ts";
import { malformed } from "../base/errors.ts";
import { MAX_SIGNAL_BYTES } from "../signal/channel.ts";
import { MAC_LENGTH } from "./ticket.ts";

/** One of the two messages of the handshake. */
export interface HandshakeEnvelope {
  readonly kind: "request" | "answer";
  /** Shows that the sender has the ticket; 16 bytes. */
  readonly mac: Uint8Array;
  /** The message of the Noise handshake. */
  readonly handshake: Uint8Array;
}

/** A message encrypted with the keys that the handshake produced. */
export interface TransportEnvelope {
  readonly kind: "transport";
  /** The first 8 bytes of the initiator's ephemeral key. */
  readonly sessionId: Uint8Array;
  /** Grows by one with each message of one side. */
  readonly counter: bigint;
  readonly ciphertext: Uint8Array;
}

/** A message, still encrypted. */
export type Envelope = HandshakeEnvelope | TransportEnvelope;

/** The plaintext of a message. */
export interface Content {
  /** Which of the channels that share a session this belongs to: 0 to 255. */
  readonly channel: number;
  readonly body: Uint8Array;
}

/** A request for a connection: the body of the first message. */
export interface ConnectionRequest {
  /** Milliseconds since 1970, by the initiator's clock. */
  readonly sentAtMs: number;
  /**
   * How old the connection to resume is, in milliseconds by a clock of the initiator that never jumps; `null` for a new
   * connection. No two requests for one connection say the same.
   */
  readonly ageMs: number | null;
  /** The application's protocol, such as `"chat/1"`; `""` for any. */
  readonly protocol: string;
  /** The connection to resume, 32 hexadecimal digits; `null` for a new one. */
  readonly resumes: string | null;
  /** `direct` if the connection already runs over a relay. */
  readonly wants: "any" | "direct";
  /** The first message on the channel that the envelope names. */
  readonly body: Uint8Array;
}

/** Why there will be no connection. */
export interface Rejection {
  /**
   * - `refused`: by the application, or by its list of allowed keys
   * - `busy`: refused for now, by the application
   * - `protocol`: the responder speaks another protocol
   * - `clock`: the clocks of the two peers differ by too much
   * - `unknown`: the responder does not know the connection to resume
   * - `cancelled`: the sender, either side, has given up
   */
  readonly reason: (typeof REJECTION_REASONS)[number];
  /** Milliseconds since 1970, by the sender's clock. */
  readonly timeMs: number;
  /** If the sender has cancelled because its search has found no path. */
  readonly foundNothing?: FoundNothing;
}

/** What one side knows about why there is no path, and may tell the other side. */
export interface FoundNothing {
  /** The error code with which its TURN server refused it, such as 401; `null` if none did. */
  readonly relayCode: number | null;
}

/** All reasons for a rejection. */
export const REJECTION_REASONS = [
  "refused",
  "busy",
  "protocol",
  "clock",
  "unknown",
  "cancelled",
] as const;

/** Encodes a message. */
export function encodeEnvelope(envelope: Envelope): Uint8Array<ArrayBuffer> {
  const kind = Uint8Array.of(KINDS[envelope.kind]);
  if (envelope.kind !== "transport") return concat(kind, envelope.mac, envelope.handshake);
  const counter = new Uint8Array(COUNTER_LENGTH);
  new DataView(counter.buffer).setBigUint64(0, envelope.counter);
  return concat(kind, envelope.sessionId, counter, envelope.ciphertext);
}

/**
 * Decodes a message without decrypting it.
 *
 * @throws {MalformedMessageError} if it is too long or too short, or of an unknown kind
 */
export function decodeEnvelope(bytes: Uint8Array): Envelope {
  if (bytes.length > MAX_SIGNAL_BYTES) {
    throw malformed("envelope", `${bytes.length} bytes exceed the limit of ${MAX_SIGNAL_BYTES}`);
  }
  const reader = new ByteReader(bytes, "envelope");
  const kind = reader.uint8("kind");
  switch (kind) {
    case KINDS.request:
    case KINDS.answer:
      return {
        kind: kind === KINDS.request ? "request" : "answer",
        mac: reader.bytes(MAC_LENGTH, "MAC"),
        handshake: reader.bytes(reader.remaining, "handshake"),
      };
    case KINDS.transport: {
      const sessionId = reader.bytes(SESSION_ID_LENGTH, "session ID");
      const counter = new DataView(reader.bytes(COUNTER_LENGTH, "counter").buffer).getBigUint64(0);
      const ciphertext = reader.bytes(reader.remaining, "ciphertext");
      return { kind: "transport", sessionId, counter, ciphertext };
    }
    default:
      throw malformed("envelope", `kind ${kind} is unknown`);
  }
}

/**
 * Encodes the plaintext of a message of the given kind, padded so that the message has one of
 * {@linkcode ENVELOPE_LENGTHS}.
 *
 * @param options.isPadded whether to pad it. Default: yes
 * @throws {RangeError} if the body does not fit into the longest message
 */
export function encodeContent(
  { channel, body }: Content,
  kind: Envelope["kind"],
  { isPadded = true }: { readonly isPadded?: boolean } = {},
): Uint8Array<ArrayBuffer> {
  const needed = CONTENT_HEADER + body.length;
  const longest = ENVELOPE_LENGTHS.map((length) => length - OVERHEAD[kind])
    .find((length) => needed <= length);
  const length = longest === undefined || isPadded ? longest : needed;
  if (length === undefined) {
    throw new RangeError(`Cannot send: ${body.length} bytes do not fit into one message`);
  }
  const plaintext = new Uint8Array(length);
  new DataView(plaintext.buffer).setUint16(0, body.length);
  plaintext[2] = channel;
  plaintext.set(body, CONTENT_HEADER);
  return plaintext;
}

/**
 * Decodes a plaintext; the padding is ignored.
 *
 * @throws {MalformedMessageError} if it is shorter than it says
 */
export function decodeContent(plaintext: Uint8Array): Content {
  const reader = new ByteReader(plaintext, "content of an envelope");
  const length = reader.uint16("length");
  const channel = reader.uint8("channel");
  return { channel, body: reader.bytes(length, "body") };
}

/**
 * Encodes the body of a request: length (2) | header as JSON | first message.
 *
 * @throws {RangeError} if the name of the protocol is too long
 */
export function encodeConnectionRequest(
  { body, ageMs, ...rest }: ConnectionRequest,
): Uint8Array<ArrayBuffer> {
  const header = ageMs === null ? rest : { ...rest, ageMs };
  requireProtocol(header.protocol);
  const json = new TextEncoder().encode(JSON.stringify(header));
  const length = new Uint8Array(2);
  new DataView(length.buffer).setUint16(0, json.length);
  return concat(length, json, body);
}

/**
 * Encodes the body of a request for people to copy: 128 | time (6) | length (1) | protocol in UTF-8 | first message. It is
 * always for a new connection, and any path.
 *
 * @throws {RangeError} if the name of the protocol is too long
 */
export function encodeCompactRequest(
  { sentAtMs, protocol, body }: Pick<ConnectionRequest, "sentAtMs" | "protocol" | "body">,
): Uint8Array<ArrayBuffer> {
  requireProtocol(protocol);
  const header = new Uint8Array(COMPACT_HEADER);
  const view = new DataView(header.buffer);
  view.setUint8(0, COMPACT);
  view.setUint16(1, Math.floor(sentAtMs / 2 ** 32));
  view.setUint32(3, sentAtMs % 2 ** 32);
  const name = new TextEncoder().encode(protocol);
  view.setUint8(7, name.length);
  return concat(header, name, body);
}

/**
 * Decodes the body of a request, in either form.
 *
 * @throws {MalformedMessageError} if a field is missing or invalid
 */
export function decodeConnectionRequest(bytes: Uint8Array): ConnectionRequest {
  const what = "connection request";
  const reader = new ByteReader(bytes, what);
  if (bytes[0] === COMPACT) return decodeCompactRequest(reader, what);
  const header = reader.bytes(reader.uint16("length of the header"), "header");
  const { sentAtMs, ageMs = null, protocol, resumes, wants } = parseJsonObject(header, what);
  if (typeof sentAtMs !== "number" || !Number.isSafeInteger(sentAtMs)) {
    throw malformed(what, "sentAtMs is a time in milliseconds");
  }
  if (ageMs !== null && !(Number.isSafeInteger(ageMs) && ageMs as number >= 0)) {
    throw malformed(what, "ageMs is a number of milliseconds");
  }
  if (typeof protocol !== "string" || protocol.length > MAX_PROTOCOL_LENGTH) {
    throw malformed(what, `protocol has at most ${MAX_PROTOCOL_LENGTH} characters`);
  }
  if (resumes !== null && !(typeof resumes === "string" && /^[0-9a-f]{32}$/.test(resumes))) {
    throw malformed(what, "resumes is null, or 16 bytes in hexadecimal digits");
  }
  return {
    sentAtMs,
    ageMs: ageMs as number | null,
    protocol,
    resumes,
    wants: wants === "direct" ? "direct" : "any",
    body: reader.bytes(reader.remaining, "body"),
  };
}

function decodeCompactRequest(reader: ByteReader, what: string): ConnectionRequest {
  reader.uint8("form");
  const sentAtMs = reader.uint16("sentAtMs") * 2 ** 32 + reader.uint32("sentAtMs");
  const name = reader.bytes(reader.uint8("length of the protocol"), "protocol");
  let protocol: string;
  try {
    protocol = new TextDecoder("utf-8", { fatal: true }).decode(name);
  } catch (cause) {
    throw malformed(what, "protocol is UTF-8", cause);
  }
  if (protocol.length > MAX_PROTOCOL_LENGTH) {
    throw malformed(what, `protocol has at most ${MAX_PROTOCOL_LENGTH} characters`);
  }
  const body = reader.bytes(reader.remaining, "body");
  return { sentAtMs, ageMs: null, protocol, resumes: null, wants: "any", body };
}

function requireProtocol(protocol: string): void {
  if (protocol.length <= MAX_PROTOCOL_LENGTH) return;
  const name = JSON.stringify(protocol);
  throw new RangeError(
    `Cannot ask for protocol ${name}: a name has at most ${MAX_PROTOCOL_LENGTH} characters`,
  );
}

/** Encodes the body of a rejection. */
export function encodeRejection(
  { reason, timeMs, foundNothing }: Rejection,
): Uint8Array<ArrayBuffer> {
  const fields = { why: reasonOnTheWire(reason), timeMs, foundNothing };
  return new TextEncoder().encode(JSON.stringify(fields));
}

/**
 * Decodes the body of a rejection.
 *
 * @throws {MalformedMessageError} if a field is missing or invalid
 */
export function decodeRejection(bytes: Uint8Array): Rejection {
  const { why, timeMs, foundNothing } = parseJsonObject(bytes, "rejection");
  const reason = REJECTION_REASONS.find((each) => reasonOnTheWire(each) === why);
  if (reason === undefined) {
    const known = REJECTION_REASONS.map(reasonOnTheWire).join(", ");
    throw malformed("rejection", `why is one of ${known}`);
  }
  if (typeof timeMs !== "number" || !Number.isSafeInteger(timeMs)) {
    throw malformed("rejection", "timeMs is a time in milliseconds");
  }
  if (reason !== "cancelled" || foundNothing === undefined) return { reason, timeMs };
  return { reason, timeMs, foundNothing: asFoundNothing(foundNothing) };
}

function asFoundNothing(value: unknown): FoundNothing {
  const relayCode = typeof value === "object" && value !== null && "relayCode" in value
    ? value.relayCode
    : undefined;
  if (relayCode === null) return { relayCode };
  if (Number.isInteger(relayCode) && relayCode as number >= 300 && relayCode as number <= 699) {
    return { relayCode: relayCode as number };
  }
  throw malformed("rejection", "relayCode is null, or an error code of STUN");
}

/** The value of `why`, which is part of the protocol: `cancelled` is written as `withdrawn`. */
function reasonOnTheWire(reason: Rejection["reason"]): string {
  return reason === "cancelled" ? "withdrawn" : reason;
}

const KINDS = { request: 1, answer: 2, transport: 3 } as const;
const COUNTER_LENGTH = 8;
const CONTENT_HEADER = 3;
const COMPACT_HEADER = 8;

/** The other form starts with the length of its header, which is always less than 128 times 256. */
const COMPACT = 128;
const KEY_LENGTH = 32;
const TAG_LENGTH = 16;

/** How many bytes of an ephemeral key identify a session. */
export const SESSION_ID_LENGTH = 8;

/** What each kind of message adds to its plaintext. */
const OVERHEAD: Readonly<Record<Envelope["kind"], number>> = {
  request: 1 + MAC_LENGTH + KEY_LENGTH + (KEY_LENGTH + TAG_LENGTH) + TAG_LENGTH,
  answer: 1 + MAC_LENGTH + KEY_LENGTH + TAG_LENGTH,
  transport: 1 + SESSION_ID_LENGTH + COUNTER_LENGTH + TAG_LENGTH,
};

/** Chosen by us: room for the offer of most hosts, and the most that a channel carries. */
export const ENVELOPE_LENGTHS = [2048, MAX_SIGNAL_BYTES] as const;

/** The longest body that fits into a message of any kind. */
export const MAX_BODY_LENGTH = MAX_SIGNAL_BYTES - OVERHEAD.request - CONTENT_HEADER;

/** Chosen by us: the longest names of ALPN protocols have a dozen characters. */
const MAX_PROTOCOL_LENGTH = 64;
