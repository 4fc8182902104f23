/**
 * The client protocol of NATS (docs.nats.io, "NATS Client Protocol"), as far as a bus between nodes needs it: lines of
 * ASCII that end with CR LF, and payloads of announced lengths. And what the nodes of a rendezvous put into a payload.
 *
 * ```text
 * INFO {...}                          the server's, first; then, if it requires TLS, the handshake
 * CONNECT {...}                       the client's, then PING
 * SUB subject id    UNSUB id
 * PUB subject length CRLF payload
 * MSG subject id [reply] length CRLF payload
 * PING   PONG   +OK   -ERR 'reason'
 * ```
 *
 * @module
 */

import { ByteReader, concat, toBase64url } from "../../base/bytes.ts";
import { malformed } from "../../base/errors.ts";

/** What a server sends. Others, of later versions, decode to `unknown`. */
export type NatsServerMessage =
  | { readonly kind: "ping" | "pong" | "ok" | "unknown" }
  /** What the server says of itself: whether clients have to speak TLS, may, or cannot. */
  | { readonly kind: "info"; readonly tls: "required" | "available" | "none" }
  | { readonly kind: "error"; readonly reason: string }
  /** The payload follows, and CR LF. */
  | { readonly kind: "message"; readonly id: number; readonly length: number };

/** Who a client says that it is. */
export interface NatsLogin {
  readonly user: string;
  readonly password: string;
}

/**
 * Reads a line, without its CR LF.
 *
 * @throws {MalformedMessageError} if it is not one of NATS
 */
export function decodeNatsLine(line: Uint8Array): NatsServerMessage {
  const text = new TextDecoder("latin1").decode(line);
  const [, verb, rest] = /^([A-Za-z+-]+)[ \t]*(.*)$/.exec(text) ?? [];
  switch (verb?.toUpperCase()) {
    case "INFO":
      return { kind: "info", tls: tlsIn(rest!) };
    case "PING":
      return { kind: "ping" };
    case "PONG":
      return { kind: "pong" };
    case "+OK":
      return { kind: "ok" };
    case "-ERR":
      return { kind: "error", reason: rest!.replace(/^'(.*)'$/, "$1") };
    case "MSG": {
      const [, id, length] = /^\S+[ \t]+(\d{1,15})(?:[ \t]+\S+)?[ \t]+(\d{1,9})$/.exec(rest!) ?? [];
      if (length === undefined) throw malformed("NATS line", "MSG has a subject, ID and length");
      return { kind: "message", id: Number(id), length: Number(length) };
    }
    case undefined:
      throw malformed("NATS line", "it does not start with a verb");
    default:
      return { kind: "unknown" };
  }
}

function tlsIn(json: string): "required" | "available" | "none" {
  let info: unknown;
  try {
    info = JSON.parse(json);
  } catch (cause) {
    throw malformed("NATS line", "INFO is not JSON", cause);
  }
  if (typeof info !== "object" || info === null) {
    throw malformed("NATS line", "INFO is not a JSON object");
  }
  const { tls_required, tls_available } = info as Record<string, unknown>;
  if (tls_required === true) return "required";
  return tls_available === true ? "available" : "none";
}

/** The bytes with which a client starts. Its own messages do not come back to it. */
export function encodeNatsConnect(
  login: NatsLogin | undefined,
  { usesTls }: { readonly usesTls: boolean },
): Uint8Array<ArrayBuffer> {
  const options = {
    ...{ verbose: false, pedantic: false, echo: false, lang: "deno", version: "1", protocol: 1 },
    name: "punchline",
    tls_required: usesTls,
    user: login?.user,
    pass: login?.password,
  };
  return ascii(`CONNECT ${JSON.stringify(options)}\r\nPING\r\n`);
}

/** The bytes that subscribe. */
export function encodeNatsSubscribe(subject: string, id: number): Uint8Array<ArrayBuffer> {
  return ascii(`SUB ${subject} ${id}\r\n`);
}

/** The bytes that unsubscribe. */
export function encodeNatsUnsubscribe(id: number): Uint8Array<ArrayBuffer> {
  return ascii(`UNSUB ${id}\r\n`);
}

/** The bytes that publish. */
export function encodeNatsPublish(subject: string, payload: Uint8Array): Uint8Array<ArrayBuffer> {
  return concat(ascii(`PUB ${subject} ${payload.length}\r\n`), payload, ascii("\r\n"));
}

/** The answer to a PING. */
export function encodeNatsPong(): Uint8Array<ArrayBuffer> {
  return ascii("PONG\r\n");
}

/** What a node signs. */
export interface SignedMessage {
  /** The node, since it started: 16 random bytes in Base64url. */
  readonly node: string;
  /** One more for each message of the node. */
  readonly counter: bigint;
  /** When it was sent, in milliseconds since 1970. */
  readonly sentMs: number;
  readonly message: Uint8Array<ArrayBuffer>;
}

/** The bytes that are signed. */
export function encodeSignedMessage(
  { node, counter, sentMs, message }: Omit<SignedMessage, "node"> & { readonly node: Uint8Array },
): Uint8Array<ArrayBuffer> {
  return concat(node, uint64(counter), uint64(BigInt(sentMs)), message);
}

/**
 * Reads them.
 *
 * @throws {MalformedMessageError} if they are cut short
 */
export function decodeSignedMessage(bytes: Uint8Array): SignedMessage {
  const reader = new ByteReader(bytes, "message of a node");
  return {
    node: toBase64url(reader.bytes(NODE_BYTES, "node")),
    counter: numberIn(reader.bytes(8, "counter")),
    sentMs: Number(numberIn(reader.bytes(8, "time"))),
    message: reader.bytes(reader.remaining, "message"),
  };
}

function uint64(value: bigint): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, value);
  return bytes;
}

function numberIn({ buffer, byteOffset }: Uint8Array): bigint {
  return new DataView(buffer, byteOffset).getBigUint64(0);
}

function ascii(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text);
}

/** How many bytes name a node. */
export const NODE_BYTES = 16;
