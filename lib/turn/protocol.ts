/**
 * The protocol of TURN: methods, ChannelData, which errors are final, timings, and remedies for error codes.
 *
 * @module
 */

import { ByteReader } from "../base/bytes.ts";
import { malformed, PunchlineError, RefusedError } from "../base/errors.ts";
import { paddedLength, writeUint16 } from "../stun/codec.ts";

/** RFC 8656 §17. */
export const ALLOCATE = 0x003;
/** RFC 8656 §17. */
export const REFRESH = 0x004;
/** RFC 8656 §17: an indication, to the server. */
export const SEND = 0x006;
/** RFC 8656 §17: an indication, from the server. */
export const DATA = 0x007;
/** RFC 8656 §17. */
export const CREATE_PERMISSION = 0x008;
/** RFC 8656 §17. */
export const CHANNEL_BIND = 0x009;
/** RFC 6062 §6.1. */
export const CONNECT = 0x00a;
/** RFC 6062 §6.1. */
export const CONNECTION_BIND = 0x00b;
/** RFC 6062 §6.1: an indication, from the server. */
export const CONNECTION_ATTEMPT = 0x00c;

/** A datagram, and the number of the channel that stands for its peer (RFC 8656 §12.4). */
export interface ChannelData {
  /** {@linkcode FIRST_CHANNEL} to {@linkcode LAST_CHANNEL}. */
  readonly channel: number;
  /** At most 65535 bytes. */
  readonly data: Uint8Array;
}

/**
 * The bytes of ChannelData, padded to a multiple of four, which streams require and datagrams allow.
 *
 * @throws {RangeError} if the channel number is invalid, or the data is longer than 65535 bytes
 */
export function encodeChannelData({ channel, data }: ChannelData): Uint8Array<ArrayBuffer> {
  if (!isChannel(channel)) {
    throw new RangeError(
      `Cannot encode ChannelData: a channel number is ${FIRST_CHANNEL} to ${LAST_CHANNEL}, not ${channel}`,
    );
  }
  if (data.length > 0xffff) {
    throw new RangeError(`Cannot encode ChannelData: ${data.length} bytes are more than 65535`);
  }
  const bytes = new Uint8Array(paddedLength(HEADER_LENGTH + data.length));
  writeUint16(bytes, 0, channel);
  writeUint16(bytes, 2, data.length);
  bytes.set(data, HEADER_LENGTH);
  return bytes;
}

/**
 * Reads ChannelData. Whatever follows the data is padding, of any length: RFC 8656 §12.5.
 *
 * @throws {MalformedMessageError} if the bytes are not ChannelData
 */
export function decodeChannelData(bytes: Uint8Array): ChannelData {
  const reader = new ByteReader(bytes, "ChannelData");
  const channel = reader.uint16("channel number");
  if (!isChannel(channel)) {
    throw malformed("ChannelData", `${channel} is not a channel number`);
  }
  return { channel, data: reader.bytes(reader.uint16("length"), "application data") };
}

/** Whether bytes that start like this are ChannelData, and not a STUN message. */
export function startsChannelData(bytes: Uint8Array): boolean {
  return bytes.length > 0 && bytes[0]! >> 4 === FIRST_CHANNEL >> 12;
}

/** Whether sending the request again cannot help. */
export function isFinal(error: unknown): boolean {
  if (error instanceof RefusedError) return error.code < 500;
  return !(error instanceof PunchlineError);
}

/** The timings of TURN, as data, so that a test or an unusual server can have others. */
export interface TurnTimings {
  /** RFC 8656 §9: the lifetime of a permission, 5 minutes. */
  readonly permissionLifetimeMs: number;
  /** RFC 8656 §12: the lifetime of a channel binding, 10 minutes. */
  readonly channelLifetimeMs: number;
  /** RFC 8656 §8.1: how long before the end of a lifetime to renew it, a minute. At most half the lifetime. */
  readonly refreshMarginMs: number;
  /**
   * The longest time between refreshes over UDP. They keep the mappings of NATs on the path to the server alive, and
   * reveal a server that has restarted. Chosen by us: NATs that expire mappings after 30 s are common.
   */
  readonly udpKeepaliveMs: number;
  /** RFC 6062 §4.3: how long a server waits for ConnectionBind, 30 s. */
  readonly connectionBindMs: number;
  /** The retransmission schedule of the release. Chosen by us: closing a relay takes at most their sum. */
  readonly releaseWaitsMs: readonly number[];
}

/** How long to wait before renewing something with this lifetime. */
export function renewalDelayMs(lifetimeMs: number, { refreshMarginMs }: TurnTimings): number {
  return Math.max(lifetimeMs - refreshMarginMs, lifetimeMs / 2, MIN_RENEWAL_MS);
}

/** What may help after an error response with this code; `undefined` for codes that are not used in TURN. */
export function remedyFor(code: number): string | undefined {
  return REMEDIES[code];
}

function isChannel(number: number): boolean {
  return Number.isInteger(number) && number >= FIRST_CHANNEL && number <= LAST_CHANNEL;
}

/** RFC 8656 §12. */
export const FIRST_CHANNEL = 0x4000;
/** RFC 8656 §12; in RFC 5766 it was 0x7fff. */
export const LAST_CHANNEL = 0x4fff;

const HEADER_LENGTH = 4;

/** The timings of the RFCs, and our own where they have none. */
export const RFC8656_TIMINGS: TurnTimings = {
  permissionLifetimeMs: 300_000,
  channelLifetimeMs: 600_000,
  refreshMarginMs: 60_000,
  udpKeepaliveMs: 25_000,
  connectionBindMs: 30_000,
  releaseWaitsMs: [250, 500, 750],
};

/** Chosen by us: the wait before retrying a renewal that failed. */
export const RETRY_MS = 5000;

/** Chosen by us: the shortest wait, for servers that grant no time at all. */
const MIN_RENEWAL_MS = 500;

const REMEDIES: Readonly<Record<number, string>> = {
  // RFC 8489 §14.8
  300: "Use the server that it names, or another one if it names none",
  400: "Try another server: this one did not understand the request, or a relay is open already",
  401: "Check the user name and the password; a time-limited credential may have expired",
  420: "Leave the option out: the server does not support it",
  438: "Try again: the server's nonces expire before requests arrive",
  500: "Try again in a minute, or use another server",
  // RFC 8656 §19
  404: "Open a relay without the reservation, which may have expired", // coturn only
  403: "Try another peer address or another server: the server's administrator does not allow this",
  437: "Open a new relay: the server was restarted, or another one is open from this port",
  440: "Ask for the other address family: the server has no address of this one",
  441: "Use the credentials that the relayed address was opened with",
  442: "Use the other protocol, or another server: this one does not relay it",
  443: "Open a relayed address of the family of the peer's address",
  486: "Close a relay, or wait for old ones to expire: this user has as many as the server allows",
  508: "Try again in a minute, or use another server: it is full, or the port is not available",
  // RFC 6062 §6.3
  446: "Close the connection to this peer that is already open",
  447: "Check that the peer listens there and admits the server",
  // RFC 8016 §5
  405: "Open the relay without mobility, and open a new one after a move",
  // RFC 8445 §7.3.1.1
  487: "Check the address: an ICE agent answers there, not a TURN server",
};
