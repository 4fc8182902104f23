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
  /** Grows with each change. */
  readonly version: number;
  /** The newest version that this side has received; 0 before the first. */
  readonly acknowledged: number;
  /** Addresses that this side may dial from; a relay has to permit each. At most {@linkcode MAX_ADDRESSES}. */
  readonly ips: readonly string[];
  /** Addresses at this side's relays that lead to this side. At most {@linkcode MAX_ADDRESSES}. */
  readonly relayed: readonly TransportAddress[];
}

/** Encodes a state. In the JSON, `acknowledged` is called `heard`. */
export function encodeRelayState(state: RelayState): Uint8Array<ArrayBuffer> {
  const { nonce, mayOffer, version, acknowledged, ips } = state;
  const relayed = state.relayed.map(formatTransportAddress);
  const fields = { nonce, mayOffer, version, heard: acknowledged, ips, relayed };
  return new TextEncoder().encode(JSON.stringify(fields));
}

/**
 * Decodes a state.
 *
 * @throws {MalformedMessageError} if a field is missing or invalid
 */
export function decodeRelayState(bytes: Uint8Array): RelayState {
  const { nonce, mayOffer, version, heard, ips, relayed } = parseJsonObject(bytes, WHAT);
  if (typeof nonce !== "string" || !/^[0-9a-f]{32}$/.test(nonce)) {
    throw malformed(WHAT, "nonce is 16 bytes in hexadecimal digits");
  }
  return {
    nonce,
    mayOffer: mayOffer === true,
    version: asCount(version, "version"),
    acknowledged: asCount(heard, "heard"),
    ips: asTexts(ips, "ips").map(asIp),
    relayed: asTexts(relayed, "relayed").map(asTransportAddress),
  };
}

function asCount(value: unknown, field: string): number {
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return value;
  throw malformed(WHAT, `${field} is a whole number`);
}

function asTexts(value: unknown, field: string): string[] {
  const isList = Array.isArray(value) && value.length <= MAX_ADDRESSES &&
    value.every((each) => typeof each === "string" && each.length <= MAX_TEXT_LENGTH);
  if (isList) return value;
  throw malformed(WHAT, `${field} is a list of at most ${MAX_ADDRESSES} strings`);
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

/** The longest IPv6 address with a port has 47 characters. */
const MAX_TEXT_LENGTH = 64;
