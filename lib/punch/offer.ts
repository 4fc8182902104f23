/**
 * The message that both sides exchange over their channel before a punch, repeated until the other side has it:
 *
 * ```text
 * HMAC-SHA256(shared secret, "punchline offer " | offer), as 64 hexadecimal digits | offer, JSON in UTF-8
 * ```
 *
 * Without a shared secret the key of the HMAC is empty, and the HMAC only detects damage.
 *
 * @module
 */

import { concat, parseJson, toHex } from "../base/bytes.ts";
import { equalSecrets, hash, hmac } from "../base/crypto.ts";
import { malformed, type MalformedMessageError } from "../base/errors.ts";
import { isIp, parseIp, type TransportAddress } from "../net/address.ts";
import { MAX_SIGNAL_BYTES } from "../signal/channel.ts";
import { type Candidate, claimsSameHost, type PunchDescription } from "./candidates.ts";
import { planPunch } from "./check_list.ts";
import {
  dependsOnDestination,
  type NatProfile,
  needsFreshSamples,
  type PortPair,
} from "./nat_profile.ts";

/** Which side nominates the connection (RFC 8445 §2.3); the other side is `"controlled"`. */
export type PunchRole = "controlling" | "controlled";

/** One side's offer. Its fields are named as in the JSON. */
export interface PunchOffer {
  readonly role: PunchRole;
  /** 32 random bytes as hexadecimal digits: identifies the offer, and is half of the secret that both sides prove. */
  readonly key: string;
  /** The key of the other side's offer that this one answers; `null` while that is not known. */
  readonly answers: string | null;
  /** Whether the side still lacks an offer from which it can plan, or the description for UDP that is to follow. */
  readonly isWaiting: boolean;
  /** 1 for the first try, then one more each time that both sides try again, up to {@linkcode MAX_ROUNDS}. */
  readonly round: number;
  /** How long before this message the samples in the profile were taken, in milliseconds. */
  readonly sampleAgeMs: number;
  /** The description of the side that sends the offer. */
  readonly side: PunchDescription;
  /** Its description for UDP. Left out if it does not punch by UDP, or cannot yet; older versions ignore it. */
  readonly udp?: PunchDescription;
}

/** What an attempt starts from. */
export interface BothOffers {
  /** This side's offer. */
  readonly local: PunchOffer;
  /** The peer's offer. */
  readonly remote: PunchOffer;
  /** How much earlier than the peer this side knows both, in milliseconds. */
  readonly headStartMs: number;
}

/** A key that follows from 16 random bytes, which are shorter for people to copy; as hexadecimal digits. */
export function keyFromSeed(seed: Uint8Array): string {
  const rest = hash("sha256", concat(utf8("punchline key "), seed)).subarray(0, SEED_BYTES);
  return toHex(concat(seed, rest));
}

/** How many bytes {@linkcode keyFromSeed} takes. */
export const SEED_BYTES = 16;

/** Encodes an offer, authenticated with the shared secret. */
export function encodeOffer(offer: PunchOffer, sharedSecret: Uint8Array): Uint8Array<ArrayBuffer> {
  const json = utf8(JSON.stringify({ punch: VERSION, ...offer }));
  return concat(utf8(authenticator(json, sharedSecret)), json);
}

/**
 * Decodes an offer; unknown fields are dropped.
 *
 * @throws {MalformedMessageError} if it is too long, was authenticated with another secret, or breaks a field's rule
 */
export function decodeOffer(bytes: Uint8Array, sharedSecret: Uint8Array): PunchOffer {
  if (bytes.length > MAX_SIGNAL_BYTES) throw invalid("length", `at most ${MAX_SIGNAL_BYTES} bytes`);
  const json = bytes.subarray(AUTHENTICATOR_DIGITS);
  const expected = utf8(authenticator(json, sharedSecret));
  if (!equalSecrets(bytes.subarray(0, AUTHENTICATOR_DIGITS), expected)) {
    throw malformed("offer", "it was not authenticated with the shared secret");
  }
  const root = asObject(parseJson(json, "offer"), "offer");
  if (root.punch !== VERSION) throw invalid("punch", `version ${VERSION}`);
  const key = asKey(root.key, "key");
  return {
    role: oneOf(root.role, ["controlling", "controlled"], "role"),
    key,
    answers: root.answers === null ? null : asKey(root.answers, "answers"),
    isWaiting: root.isWaiting === true,
    sampleAgeMs: asAge(root.sampleAgeMs),
    round: asInteger(root.round, 1, MAX_ROUNDS, "round"),
    side: asDescription(root.side),
    ...(root.udp === undefined ? {} : { udp: asDescription(root.udp) }),
  };
}

/** Whether a plan has to wait for an offer with newer samples. */
export function isStale({ side, sampleAgeMs }: Pick<PunchOffer, "side" | "sampleAgeMs">): boolean {
  return needsFreshSamples(side.profile) && sampleAgeMs > STALE_MS;
}

/**
 * Whether a plan has to wait for another offer of `side`, in which it tells more. Both sides find the same about each of
 * them, so that both wait, or neither:
 *
 * - what SYNs from outside get decides about a pair only if one of the two external ports cannot be known;
 * - a description for UDP decides if there is no way by TCP, see {@linkcode mustAwaitUdp}.
 */
export function mustAwait(side: PunchDescription, other: PunchDescription): boolean {
  const isHard = [side, other].some(({ profile }) => dependsOnDestination(profile));
  return side.isLearning === true && isHard || mustAwaitUdp(side, other);
}

/** Whether a description for UDP of `side` follows, and TCP has no way, so that nothing is lost by the wait. */
function mustAwaitUdp(side: PunchDescription, other: PunchDescription): boolean {
  return side.udpFollows === true && !claimsSameHost(side, other) &&
    planPunch(side, other, { role: "controlling" }).method === "impossible";
}

function authenticator(json: Uint8Array, sharedSecret: Uint8Array): string {
  return toHex(hmac("sha256", sharedSecret, utf8("punchline offer "), json));
}

function asDescription(value: unknown): PunchDescription {
  const side = asObject(value, "side");
  return {
    profile: asProfile(side.profile),
    candidates: asList(side.candidates, MAX_CANDIDATES, "candidates").map(asCandidate),
    punchPort: asPort(side.punchPort, "punchPort"),
    canListenBeside: side.canListenBeside === true,
    ...side.relaysFirst === true && { relaysFirst: true },
    ...side.isLearning === true && { isLearning: true },
    ...side.udpFollows === true && { udpFollows: true },
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
    unsolicitedSyn: oneOf(profile.unsolicitedSyn, SYNS, "unsolicitedSyn"),
    ...profile.crossingSyn !== undefined && {
      crossingSyn: oneOf(profile.crossingSyn, SYNS, "crossingSyn"),
    },
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
    ...profile.externalIps !== undefined && {
      externalIps: asList(profile.externalIps, MAX_EXTERNAL_IPS, "externalIps").map(asIp),
    },
    ...profile.sessionLimit !== undefined && {
      sessionLimit: asInteger(profile.sessionLimit, 1, 65535, "sessionLimit"),
    },
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
    throw invalid("range", "two ports, the lower first");
  }
  return [first, last];
}

function asAddress(value: unknown): TransportAddress {
  const address = asObject(value, "address");
  return { ip: asIp(address.ip), port: asPort(address.port, "port") };
}

function asIp(value: unknown): string {
  if (typeof value !== "string" || value.length > 64 || !isIp(value)) {
    throw invalid("ip", "an IP address");
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
  throw invalid(field, `a whole number from ${min} to ${max}`);
}

function asAge(value: unknown): number {
  if (typeof value === "number" && value >= 0 && Number.isFinite(value)) return value;
  throw invalid("sampleAgeMs", "a number of milliseconds");
}

function asKey(value: unknown, field: string): string {
  if (typeof value === "string" && /^[0-9a-f]{64}$/.test(value)) return value;
  throw invalid(field, "32 bytes in hexadecimal digits");
}

function asList(value: unknown, max: number, field: string): unknown[] {
  if (Array.isArray(value) && value.length <= max) return value;
  throw invalid(field, `a list of at most ${max}`);
}

function asObject(value: unknown, field: string): Record<string, unknown> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  throw invalid(field, "an object");
}

function oneOf<T extends string>(value: unknown, choices: readonly T[], field: string): T {
  const found = choices.find((choice) => choice === value);
  if (found !== undefined) return found;
  throw invalid(field, `one of ${choices.join(", ")}`);
}

function invalid(field: string, rule: string): MalformedMessageError {
  return malformed("offer", `${field} must be ${rule}`);
}

function utf8(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text);
}

/** How often both sides try. Chosen by us: a NAT that was predicted wrongly three times will be again. */
export const MAX_ROUNDS = 3;

const VERSION = 1;
const AUTHENTICATOR_DIGITS = 64;

/** Chosen by us: what a host with a few interfaces has, and what fits a signaling message. */
export const MAX_CANDIDATES = 12;
export const MAX_SAMPLES = 16;
export const MAX_EXTERNAL_IPS = 4;

/** Chosen by us: both descriptions have to fit a signaling message. */
export const MAX_UDP_CANDIDATES = 8;
export const MAX_UDP_SAMPLES = 8;

/**
 * Chosen by us: other hosts behind the NAT make a few mappings per second, and the window of predicted ports absorbs
 * those of 750 ms.
 */
const STALE_MS = 750;

/** What a SYN may get. */
const SYNS = ["dropped", "reset", "accepted", "unknown"] as const;

/** How a NAT may behave; their places are part of the format of compact offers. */
export const BEHAVIORS = [
  "endpoint-independent",
  "address-dependent",
  "address-and-port-dependent",
  "none",
  "unknown",
] as const;
