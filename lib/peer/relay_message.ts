/**
 * What each side publishes about its relays: JSON, the whole state in every message.
 *
 * @module
 */

import { parseJsonObject } from "../base/bytes.ts";
import { malformed } from "../base/errors.ts";
import {
  formatTransportAddress,
  isIp,
  parseIp,
  parseTransportAddress,
  type TransportAddress,
} from "../net/address.ts";

/** One side's state. */
export interface RelayState {
  /** 16 random bytes as hexadecimal digits: half of the secret that both sides prove. */
  readonly nonce: string;
  /** Whether this side has a relay, or may still get one. */
  readonly mayOffer: boolean;
  /** The error code of this side's TURN server, if that has refused it; `null` otherwise. */
  readonly refusalCode: number | null;
  /** Grows with each change. */
  readonly version: number;
  /** The newest version that this side has received; 0 before the first. */
  readonly acknowledged: number;
  /** Addresses that this side may dial from; a relay has to permit each. At most {@linkcode MAX_ADDRESSES}. */
  readonly ips: readonly string[];
  /** Addresses at this side's relays that lead to this side. At most {@linkcode MAX_ADDRESSES}. */
  readonly relayed: readonly TransportAddress[];
  /** Rendezvous servers whose relay this side would use. At most {@linkcode MAX_RENDEZVOUS}. */
  readonly rendezvous: readonly RelayRendezvous[];
}

/** A rendezvous server that has a relay, as far as one side knows. */
export interface RelayRendezvous {
  /** Stands for its URL: 16 hexadecimal digits that mean nothing to anyone but the two sides. */
  readonly id: string;
  /** The round trip of this side to it in milliseconds; `null` if it was not measured. */
  readonly rttMs: number | null;
}

/**
 * Encodes a state. In the JSON, `acknowledged` is called `heard`. Peers before version 0.2 ignore `rendezvous` and
 * `refusalCode`.
 */
export function encodeRelayState(state: RelayState): Uint8Array<ArrayBuffer> {
  const { nonce, mayOffer, version, acknowledged: heard, ips, rendezvous, refusalCode } = state;
  const relayed = state.relayed.map(formatTransportAddress);
  const fields = { nonce, mayOffer, version, heard, ips, relayed, rendezvous, refusalCode };
  return new TextEncoder().encode(JSON.stringify(fields));
}

/**
 * Decodes a state.
 *
 * @throws {MalformedMessageError} if a field is missing or invalid
 */
export function decodeRelayState(bytes: Uint8Array): RelayState {
  const { nonce, mayOffer, version, heard, ips, relayed, rendezvous, refusalCode } =
    parseJsonObject(
      bytes,
      WHAT,
    );
  if (typeof nonce !== "string" || !/^[0-9a-f]{32}$/.test(nonce)) {
    throw malformed(WHAT, "nonce is 16 bytes in hexadecimal digits");
  }
  return {
    nonce,
    mayOffer: mayOffer === true,
    refusalCode: asErrorCode(refusalCode ?? null),
    version: asCount(version, "version"),
    acknowledged: asCount(heard, "heard"),
    ips: asTexts(ips, "ips").map(asIp),
    relayed: asTexts(relayed, "relayed").map(asTransportAddress),
    rendezvous: asRendezvous(rendezvous ?? []),
  };
}

/** Whether it may be the code of an ERROR-CODE attribute: RFC 8489 §14.8. */
export function isStunErrorCode(code: number): boolean {
  return Number.isInteger(code) && code >= 300 && code <= 699;
}

function asCount(value: unknown, field: string): number {
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return value;
  throw malformed(WHAT, `${field} is a whole number`);
}

function asErrorCode(value: unknown): number | null {
  if (value === null) return null;
  const code = asCount(value, "refusalCode");
  if (isStunErrorCode(code)) return code;
  throw malformed(WHAT, "refusalCode is an error code of STUN");
}

function asTexts(value: unknown, field: string): string[] {
  const isList = Array.isArray(value) && value.length <= MAX_ADDRESSES &&
    value.every((each) => typeof each === "string" && each.length <= MAX_TEXT_LENGTH);
  if (isList) return value;
  throw malformed(WHAT, `${field} is a list of at most ${MAX_ADDRESSES} strings`);
}

function asRendezvous(value: unknown): RelayRendezvous[] {
  if (!Array.isArray(value) || value.length > MAX_RENDEZVOUS) {
    throw malformed(WHAT, `rendezvous is a list of at most ${MAX_RENDEZVOUS} servers`);
  }
  return value.map((each) => {
    const { id, rttMs } = Object(each);
    if (typeof id !== "string" || !/^[0-9a-f]{16}$/.test(id)) {
      throw malformed(WHAT, "id of rendezvous is 8 bytes in hexadecimal digits");
    }
    return { id, rttMs: rttMs === null ? null : asCount(rttMs, "rttMs") };
  });
}

function asIp(text: string): string {
  if (isIp(text)) return parseIp(text);
  throw malformed(WHAT, "ips are IP addresses");
}

function asTransportAddress(text: string): TransportAddress {
  try {
    return parseTransportAddress(text);
  } catch (cause) {
    throw malformed(WHAT, "relayed are addresses with a port", cause);
  }
}

const WHAT = "relay state";

/** Chosen by us: each address costs a permission at a server, or a dial. */
export const MAX_ADDRESSES = 8;

/** Chosen by us: each costs a connection to a server. */
export const MAX_RENDEZVOUS = 4;

/** The longest IPv6 address with a port has 47 characters. */
const MAX_TEXT_LENGTH = 64;
