/**
 * What two peers tell each other about relays: where each of them can be dialled at one, and from where it dials.
 *
 * @module
 */

import { MalformedMessageError } from "../base/errors.ts";
import {
  formatTransportAddress,
  isIp,
  parseIp,
  parseTransportAddress,
  type TransportAddress,
} from "../net/address.ts";

/** One side's state; each message has all of it. */
export interface RelayState {
  /** 16 random bytes as hexadecimal digits: half of the secret that both prove. */
  readonly nonce: string;
  /** Whether this side has relays, or may still get some. */
  readonly mayOffer: boolean;
  /** Grows with each change. */
  readonly version: number;
  /** The other side's version, as far as it is known here; 0 before. */
  readonly heard: number;
  /** Addresses from which this side's dials may come; a relay has to be told whom to let in. */
  readonly ips: readonly string[];
  /** Where this side is dialled by way of its relays. */
  readonly relayed: readonly TransportAddress[];
}

/** The bytes of a state. */
export function encodeRelayState(state: RelayState): Uint8Array<ArrayBuffer> {
  const relayed = state.relayed.map(formatTransportAddress);
  return new TextEncoder().encode(JSON.stringify({ ...state, relayed }));
}

/**
 * Reads a state.
 *
 * @throws {MalformedMessageError} if it is none
 */
export function decodeRelayState(bytes: Uint8Array): RelayState {
  const { nonce, mayOffer, version, heard, ips, relayed } = parse(bytes);
  if (typeof nonce !== "string" || !/^[0-9a-f]{32}$/.test(nonce)) {
    throw malformed("nonce", "is 16 bytes in hexadecimal digits");
  }
  return {
    nonce,
    mayOffer: mayOffer === true,
    version: asCount(version, "version"),
    heard: asCount(heard, "heard"),
    ips: asTexts(ips, "ips").map((ip) => {
      if (!isIp(ip)) throw malformed("ips", "are IP addresses");
      return parseIp(ip);
    }),
    relayed: asTexts(relayed, "relayed").map((address) => {
      try {
        return parseTransportAddress(address);
      } catch {
        throw malformed("relayed", "are addresses with a port");
      }
    }),
  };
}

function parse(bytes: Uint8Array): Record<string, unknown> {
  try {
    const value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    if (typeof value === "object" && value !== null) return value;
  } catch { /* told below */ }
  throw malformed("content", "is a JSON object");
}

function asCount(value: unknown, field: string): number {
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return value;
  throw malformed(field, "is a whole number");
}

function asTexts(value: unknown, field: string): string[] {
  const isList = Array.isArray(value) && value.length <= MAX_ADDRESSES &&
    value.every((each) => typeof each === "string" && each.length <= 64);
  if (isList) return value;
  throw malformed(field, `is a list of at most ${MAX_ADDRESSES} texts`);
}

function malformed(field: string, rule: string): MalformedMessageError {
  return new MalformedMessageError(`Cannot read relay state: ${field} ${rule}`);
}

/** Ours: each costs a permission at a server, or a dial. */
export const MAX_ADDRESSES = 8;
