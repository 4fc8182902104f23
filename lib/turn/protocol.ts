/**
 * The methods of TURN, beside STUN's Binding.
 *
 * @module
 */

import { ByteReader } from "../base/bytes.ts";
import {
  MalformedMessageError,
  NetworkError,
  NoResponseError,
  RefusedError,
} from "../base/errors.ts";
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

/** A datagram, and the channel that stands for its peer. */
export interface ChannelData {
  /** {@linkcode FIRST_CHANNEL} to {@linkcode LAST_CHANNEL}. */
  readonly channel: number;
  /** At most 65535 bytes. */
  readonly data: Uint8Array;
}

/** RFC 8656 §12. */
export const FIRST_CHANNEL = 0x4000;
/** RFC 8656 §12; RFC 5766 went on to 0x7fff. */
export const LAST_CHANNEL = 0x4fff;

/**
 * The bytes of a message, padded to a multiple of four as streams demand and datagrams allow.
 *
 * @throws {RangeError} if the channel is none, or the data are longer than 65535 bytes
 */
export function encodeChannelData({ channel, data }: ChannelData): Uint8Array<ArrayBuffer> {
  if (!isChannel(channel)) {
    throw new RangeError(
      `Cannot encode ChannelData: a channel is ${FIRST_CHANNEL} to ${LAST_CHANNEL}, not ${channel}`,
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
 * Reads a message. What follows the data is padding, of any length: RFC 8656 §12.5.
 *
 * @throws {MalformedMessageError} if the bytes are not ChannelData
 */
export function decodeChannelData(bytes: Uint8Array): ChannelData {
  const reader = new ByteReader(bytes, "ChannelData");
  const channel = reader.uint16("channel number");
  if (!isChannel(channel)) {
    throw new MalformedMessageError(`Cannot read ChannelData: ${channel} is no channel number`);
  }
  return { channel, data: reader.bytes(reader.uint16("length"), "application data") };
}

/** Whether what starts so is ChannelData, and not STUN. */
export function startsChannelData(bytes: Uint8Array): boolean {
  return bytes.length > 0 && bytes[0]! >> 4 === FIRST_CHANNEL >> 12;
}

function isChannel(number: number): boolean {
  return Number.isInteger(number) && number >= FIRST_CHANNEL && number <= LAST_CHANNEL;
}

const HEADER_LENGTH = 4;

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

/** Times of TURN, as data so that a server with other ones, or a test, can have them. */
export interface TurnTimings {
  /** RFC 8656 §9: the Permission Lifetime, 5 minutes. */
  readonly permissionLifetimeMs: number;
  /** RFC 8656 §12: of a channel binding, 10 minutes. */
  readonly channelLifetimeMs: number;
  /** RFC 8656 §8.1: how long before its end a lifetime is renewed, a minute. At most half of the lifetime. */
  readonly refreshMarginMs: number;
  /**
   * Over UDP the allocation is refreshed at least this often, so that NATs on the way to the server keep their
   * mapping, and so that a server which has forgotten everything is noticed. Ours: NATs with 30 s are common.
   */
  readonly udpKeepaliveMs: number;
  /** RFC 6062 §4.3: for how long a server waits for ConnectionBind, 30 s. */
  readonly connectionBindMs: number;
  /** How patiently the release at the end is repeated: the waits after each request. Ours. */
  readonly releaseWaitsMs: readonly number[];
}

/** The times of the RFCs. */
export const RFC8656_TIMINGS: TurnTimings = {
  permissionLifetimeMs: 300_000,
  channelLifetimeMs: 600_000,
  refreshMarginMs: 60_000,
  udpKeepaliveMs: 25_000,
  connectionBindMs: 30_000,
  releaseWaitsMs: [250, 500, 750],
};

/** When to renew what lasts so long. */
export function renewalDelayMs(lifetimeMs: number, { refreshMarginMs }: TurnTimings): number {
  return Math.max(lifetimeMs - refreshMarginMs, lifetimeMs / 2, MIN_RENEWAL_MS);
}

/** Ours: a server that grants no time at all is not asked more often than this. */
const MIN_RENEWAL_MS = 500;

/** Ours: between something that could not be renewed and the next try. */
export const RETRY_MS = 5000;

/** What may help after a server answered with this code; `undefined` for codes that no RFC of TURN uses. */
export function remedyFor(code: number): string | undefined {
  return REMEDIES[code];
}

const REMEDIES: Readonly<Record<number, string>> = {
  // RFC 8489 §14.8
  300: "ask the server that it names, or another one if it names none",
  400: "the server cannot read the request, or it does not fit what is open; try another server",
  401: "check the username and the password; time-limited ones may have expired",
  420: "the server is older than this option; leave the option out",
  438: "the server's nonces expire sooner than requests arrive; try again",
  500: "the server is in trouble; try again in a minute, or another server",
  // RFC 8656 §19
  404: "the server has no such reservation, it may have expired; open a relay without it", // coturn's own
  403: "the server's administrator forbids this; try another peer address or another server",
  437:
    "the server knows no such relayed address, it may have been restarted, or another one is open " +
    "from this port; open a new one",
  440: "the server has no address of this family; ask for the other one",
  441: "somebody else's credentials opened this relayed address; use those",
  442: "the server does not relay this protocol; ask for the other one, or another server",
  443: "the peer's address is of another family than the relayed address; open one of that family",
  486:
    "this user has as many relayed addresses as the server allows; close one, or wait until old ones expire",
  508: "the server is full, or has no such port; try again in a minute, or another server",
  // RFC 6062 §6.3
  446: "a connection to this peer is open; close it first",
  447: "the peer does not answer the server; check that it listens there and lets the server in",
  // RFC 8016 §5
  405:
    "the server lets no relayed address move; leave mobility out, and open a new one after a move",
  // RFC 8445 §7.3.1.1
  487: "so answer ICE agents, not TURN servers; check the address",
};
