/**
 * What two sides say over their channel before a punch: one kind of message, repeated until the other side has it.
 *
 * ```text
 * HMAC-SHA256(shared secret, "punchline offer " | offer), as 64 hexadecimal digits | offer, JSON in UTF-8
 * ```
 *
 * Where the sides share no secret the HMAC has the empty key, and shows nothing but damage.
 *
 * @module
 */

import { concat, toHex } from "../base/bytes.ts";
import { equalSecrets, hmac } from "../base/crypto.ts";
import { MalformedMessageError } from "../base/errors.ts";
import { isIp, parseIp, type TransportAddress } from "../net/address.ts";
import { MAX_SIGNAL_BYTES } from "../signal/channel.ts";
import type { Candidate, NatProfile, PortPair, PunchDescription } from "./candidates.ts";
import { dependsOnDestination } from "./nat_profile.ts";

/** Which side nominates the connection; the two sides differ. */
export type PunchRole = "controlling" | "controlled";

/** One side's offer. */
export interface PunchOffer {
  readonly role: PunchRole;
  /** 32 random bytes as hexadecimal digits: names the offer, and is half of the secret that both will prove. */
  readonly key: string;
  /** The key of the other side's offer, once it is known: the answer to it. */
  readonly answers: string | null;
  /** Whether the side still lacks an offer that it can plan with. */
  readonly isWaiting: boolean;
  /** 1, and one more each time that both try again, up to {@linkcode MAX_ROUNDS}. */
  readonly round: number;
  /** How long before this message the samples in the profile were taken, in milliseconds. */
  readonly sampleAgeMs: number;
  readonly side: PunchDescription;
}

/** The bytes of an offer. */
export function encodeOffer(offer: PunchOffer, sharedSecret: Uint8Array): Uint8Array<ArrayBuffer> {
  const json = utf8(JSON.stringify({ punch: VERSION, ...offer }));
  return concat(utf8(sealOf(json, sharedSecret)), json);
}

/**
 * Reads an offer; what it does not know is left out.
 *
 * @throws {MalformedMessageError} if it is none, says what cannot be, or was sealed with another secret
 */
export function decodeOffer(bytes: Uint8Array, sharedSecret: Uint8Array): PunchOffer {
  if (bytes.length > MAX_SIGNAL_BYTES) {
    throw malformed("length", `is at most ${MAX_SIGNAL_BYTES} bytes`);
  }
  const json = bytes.subarray(SEAL_DIGITS);
  if (!equalSecrets(bytes.subarray(0, SEAL_DIGITS), utf8(sealOf(json, sharedSecret)))) {
    throw malformed("seal", "is that of the shared secret");
  }
  const root = asObject(parse(json), "offer");
  if (root.punch !== VERSION) throw malformed("punch", `is version ${VERSION}`);
  const key = asKey(root.key, "key");
  return {
    role: oneOf(root.role, ["controlling", "controlled"], "role"),
    key,
    answers: root.answers === null ? null : asKey(root.answers, "answers"),
    isWaiting: root.isWaiting === true,
    sampleAgeMs: asAge(root.sampleAgeMs),
    round: asInteger(root.round, 1, MAX_ROUNDS, "round"),
    side: asSide(root.side),
  };
}

function sealOf(json: Uint8Array, sharedSecret: Uint8Array): string {
  return toHex(hmac("sha256", sharedSecret, utf8("punchline offer "), json));
}

function parse(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new MalformedMessageError("Cannot read offer: it is not JSON", { cause });
  }
}

function asSide(value: unknown): PunchDescription {
  const side = asObject(value, "side");
  return {
    profile: asProfile(side.profile),
    candidates: asList(side.candidates, MAX_CANDIDATES, "candidates").map(asCandidate),
    punchPort: asPort(side.punchPort, "punchPort"),
    canListenBeside: side.canListenBeside === true,
  };
}

function asCandidate(value: unknown): Candidate {
  const candidate = asObject(value, "candidate");
  return {
    kind: oneOf(candidate.kind, ["host", "mapped", "reflexive"], "kind"),
    address: asAddress(candidate.address),
  };
}

function asProfile(value: unknown): NatProfile {
  const profile = asObject(value, "profile");
  const allocation = asObject(profile.allocation, "allocation");
  return {
    mapping: oneOf(profile.mapping, BEHAVIORS, "mapping"),
    filtering: oneOf(profile.filtering, BEHAVIORS, "filtering"),
    unsolicitedSyn: oneOf(
      profile.unsolicitedSyn,
      ["dropped", "reset", "accepted", "unknown"],
      "unsolicitedSyn",
    ),
    allocation: {
      kind: oneOf(
        allocation.kind,
        ["preserving", "offset", "sequential", "random", "unknown"],
        "allocation kind",
      ),
      delta: allocation.delta === null ? null : asInteger(allocation.delta, -65535, 65535, "delta"),
      range: allocation.range === null ? null : asRange(allocation.range),
    },
    onlyForNeighbours: profile.onlyForNeighbours === true,
    externalIp: profile.externalIp === null ? null : asIp(profile.externalIp),
    samples: asList(profile.samples, MAX_SAMPLES, "samples").map(asPortPair),
  };
}

function asPortPair(value: unknown): PortPair {
  const pair = asObject(value, "sample");
  return {
    localPort: asPort(pair.localPort, "localPort"),
    externalPort: asPort(pair.externalPort, "externalPort"),
  };
}

function asRange(value: unknown): [number, number] {
  const [first, last] = asList(value, 2, "range").map((port) => asPort(port, "range"));
  if (first === undefined || last === undefined || first > last) {
    throw malformed("range", "is two ports, the lower first");
  }
  return [first, last];
}

function asAddress(value: unknown): TransportAddress {
  const address = asObject(value, "address");
  return { ip: asIp(address.ip), port: asPort(address.port, "port") };
}

function asIp(value: unknown): string {
  if (typeof value !== "string" || value.length > 64 || !isIp(value)) {
    throw malformed("ip", "is an IP address");
  }
  return parseIp(value);
}

function asPort(value: unknown, field: string): number {
  return asInteger(value, 1, 65535, field);
}

function asInteger(value: unknown, min: number, max: number, field: string): number {
  if (typeof value === "number" && Number.isInteger(value) && value >= min && value <= max) {
    return value;
  }
  throw malformed(field, `is a whole number from ${min} to ${max}`);
}

function asAge(value: unknown): number {
  if (typeof value === "number" && value >= 0 && Number.isFinite(value)) return value;
  throw malformed("sampleAgeMs", "is a number of milliseconds");
}

function asKey(value: unknown, field: string): string {
  if (typeof value === "string" && /^[0-9a-f]{64}$/.test(value)) return value;
  throw malformed(field, "is 32 bytes in hexadecimal digits");
}

function asList(value: unknown, max: number, field: string): unknown[] {
  if (Array.isArray(value) && value.length <= max) return value;
  throw malformed(field, `is a list of at most ${max}`);
}

function asObject(value: unknown, field: string): Record<string, unknown> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  throw malformed(field, "is an object");
}

function oneOf<T extends string>(value: unknown, choices: readonly T[], field: string): T {
  const found = choices.find((choice) => choice === value);
  if (found !== undefined) return found;
  throw malformed(field, `is one of ${choices.join(", ")}`);
}

function malformed(field: string, rule: string): MalformedMessageError {
  return new MalformedMessageError(`Cannot read offer: ${field} ${rule}`);
}

function utf8(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text);
}

/** Ours: a NAT that was predicted wrongly three times will be the next time. */
export const MAX_ROUNDS = 3;

const VERSION = 1;
const SEAL_DIGITS = 64;

/** Ours: what a host with a few interfaces has, and what fits a signalling message. */
const MAX_CANDIDATES = 12;
const MAX_SAMPLES = 16;

const BEHAVIORS = [
  "endpoint-independent",
  "address-dependent",
  "address-and-port-dependent",
  "none",
  "unknown",
] as const;

/** Whether ports have to be sampled shortly before a punch: on a NAT that counts, others count along. */
export function needsFreshSamples(profile: NatProfile): boolean {
  return dependsOnDestination(profile) && profile.allocation.kind === "sequential";
}

/** Whether an offer has to wait for newer samples. */
export function isStale({ side, sampleAgeMs }: Pick<PunchOffer, "side" | "sampleAgeMs">): boolean {
  return needsFreshSamples(side.profile) && sampleAgeMs > STALE_MS;
}

/** Ours: others behind the NAT make a few mappings a second, and a window of ports takes them in. */
const STALE_MS = 750;
