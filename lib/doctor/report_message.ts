/**
 * The report of `doctor` as data: what it holds, and how the report of another host is read. That report comes from
 * somebody else, so its size, its depth and each of its fields are checked.
 *
 * @module
 */

import { malformed } from "../base/errors.ts";
import type { Behavior, PortAllocation, UnsolicitedSyn } from "../nat/behavior.ts";

/** How a check ended. `"unknown"`: it was not finished, or there was nothing to check. */
export type CheckState = "ok" | "warn" | "fail" | "unknown";

/** What is checked, in the order in which reports list it. */
export const CHECK_NAMES = [
  "dns",
  "clock",
  "ipv4",
  "ipv6",
  "nat64",
  "udp",
  "tcp",
  "https",
  "proxy",
  "captive-portal",
  "mtu",
  "router",
  "rendezvous",
  "relay",
  "public",
] as const;

/** A check by its name. */
export type CheckName = typeof CHECK_NAMES[number];

/** The result of one check. */
export interface Check {
  readonly name: CheckName;
  readonly state: CheckState;
  /** What was seen, in one sentence without a period. */
  readonly seen: string;
  /** What to do, as an imperative; `null` if there is nothing to do. */
  readonly remedy: string | null;
  /** How long it took, in milliseconds. */
  readonly elapsedMs: number;
}

/** Something that stands in the way, or that is worth knowing, and what to do about it. */
export interface Cause {
  /** For programs: the kinds of the NAT test's findings, and the names of checks. */
  readonly kind: string;
  readonly summary: string;
  readonly remedy: string;
}

/** What there is to expect of a connection with a peer. */
export type Expectation = "direct" | "relay" | "none";

/** What works with one kind of peer. */
export interface PeerOutlook {
  /** Where the peer is, such as `behind a home router`. */
  readonly peer: string;
  readonly expectation: Expectation;
  /** The chance of a direct connection, 0 to 1. */
  readonly directChance: number;
  /** How, or why not. */
  readonly reason: string;
}

/** How one network handles one transport protocol, as far as it decides what connects. */
export interface TransportFacts {
  readonly mapping: Behavior;
  readonly filtering: Behavior;
  readonly allocation: PortAllocation["kind"];
  readonly delta: number | null;
  readonly onlyForNeighbours: boolean;
  readonly unsolicitedSyn: UnsolicitedSyn;
  readonly crossingSyn: UnsolicitedSyn;
  /** How many external addresses the NAT draws from. */
  readonly addresses: number;
}

/** What decides which peers a network connects to. */
export interface NetworkProfile {
  /** `null` if nothing comes back over it, or it was not tested. */
  readonly udp: TransportFacts | null;
  readonly tcp: TransportFacts | null;
  /** Whether it has IPv6 without translation. */
  readonly hasIpv6: boolean;
  /** Whether a router opens ports that the internet can reach. */
  readonly opensPorts: boolean;
  /** The external IPv4 address, perhaps shortened; `null` if it is not known. */
  readonly external: string | null;
  /** Signaling servers that can be reached, as `HOST:PORT`. */
  readonly meets: readonly string[];
  /** Those of them that relay. */
  readonly relays: readonly string[];
}

/** Which of the two networks has to change. */
export type Fault = "this network" | "the other network" | "both networks";

/** What to expect of two networks, and what happened. */
export interface PairReport {
  /** The verdict of the other side's report; `null` without one. */
  readonly there: string | null;
  /** What is expected; `null` without the other side's report. */
  readonly expected: {
    readonly expectation: Expectation;
    readonly directChance: number;
    readonly reason: string;
  } | null;
  /** What happened when it was tried; `null` without the other side's ticket. */
  readonly tried: {
    readonly outcome: Expectation;
    /** Whether a search for a path took place: otherwise no network is to blame. */
    readonly isAnswered: boolean;
    /** How they connected, or why not. */
    readonly reason: string;
    readonly elapsedMs: number;
  } | null;
  /** `null` if nothing is wrong, or it is not known. */
  readonly fault: Fault | null;
  /** One sentence. */
  readonly summary: string;
  readonly remedies: readonly string[];
}

/** Everything that `doctor` has found out. */
export interface DoctorReport {
  /** The version of this format. */
  readonly version: 1;
  readonly program: typeof PROGRAM;
  readonly elapsedMs: number;
  readonly verdict: {
    readonly state: CheckState;
    /** The kind of the first cause; `null` if nothing stands in the way. */
    readonly kind: string | null;
    readonly summary: string;
  };
  /** The most certain cause first. */
  readonly findings: readonly Cause[];
  /** What to do, the most useful first. */
  readonly remedies: readonly string[];
  readonly checks: readonly Check[];
  readonly peers: readonly PeerOutlook[];
  readonly profile: NetworkProfile;
  /** `null` without `--with`. */
  readonly pair: PairReport | null;
}

/** What another host's report says, as far as it is needed. */
export interface ForeignReport {
  readonly summary: string;
  readonly profile: NetworkProfile;
}

/**
 * Reads the report of another host. Fields that are not needed are ignored: versions to come may add some.
 *
 * @throws {MalformedMessageError} if it is too long, or not a report; the message names the field
 */
export function decodeReport(text: string): ForeignReport {
  if (text.length > MAX_REPORT_BYTES) throw invalid(`it is longer than ${MAX_REPORT_BYTES} bytes`);
  const report = fieldsOf(parse(text), "the report");
  if (report.program !== PROGRAM) throw invalid("it was not made by `punchline doctor --json`");
  if (report.version !== 1) {
    throw invalid("its version is unknown; use the same program on both sides");
  }
  const verdict = fieldsOf(report.verdict, "verdict");
  return {
    summary: textOf(verdict.summary, "verdict.summary"),
    profile: decodeProfile(fieldsOf(report.profile, "profile")),
  };
}

function decodeProfile(profile: Fields): NetworkProfile {
  const { udp, tcp, external } = profile;
  return {
    udp: udp === null ? null : decodeTransport(fieldsOf(udp, "profile.udp"), "profile.udp"),
    tcp: tcp === null ? null : decodeTransport(fieldsOf(tcp, "profile.tcp"), "profile.tcp"),
    hasIpv6: flagOf(profile.hasIpv6, "profile.hasIpv6"),
    opensPorts: flagOf(profile.opensPorts, "profile.opensPorts"),
    external: external === null ? null : textOf(external, "profile.external"),
    meets: textsOf(profile.meets, "profile.meets"),
    relays: textsOf(profile.relays, "profile.relays"),
  };
}

function decodeTransport(facts: Fields, name: string): TransportFacts {
  const { delta, addresses } = facts;
  if (delta !== null && !isWhole(delta, -MAX_PORT, MAX_PORT)) {
    throw invalid(`${name}.delta must be null or a distance of ports`);
  }
  if (!isWhole(addresses, 1, MAX_ADDRESSES)) {
    throw invalid(`${name}.addresses must be 1 to ${MAX_ADDRESSES}`);
  }
  return {
    mapping: wordOf(facts.mapping, BEHAVIORS, `${name}.mapping`),
    filtering: wordOf(facts.filtering, BEHAVIORS, `${name}.filtering`),
    allocation: wordOf(facts.allocation, ALLOCATIONS, `${name}.allocation`),
    delta,
    onlyForNeighbours: flagOf(facts.onlyForNeighbours, `${name}.onlyForNeighbours`),
    unsolicitedSyn: wordOf(facts.unsolicitedSyn, SYNS, `${name}.unsolicitedSyn`),
    crossingSyn: wordOf(facts.crossingSyn, SYNS, `${name}.crossingSyn`),
    addresses,
  };
}

type Fields = Readonly<Record<string, unknown>>;

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw malformed("report", "it is not JSON", cause);
  }
}

function fieldsOf(value: unknown, name: string): Fields {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Fields;
  throw invalid(`${name} must be an object`);
}

function flagOf(value: unknown, name: string): boolean {
  if (typeof value === "boolean") return value;
  throw invalid(`${name} must be true or false`);
}

function textOf(value: unknown, name: string): string {
  if (typeof value === "string" && value.length <= MAX_TEXT && !CONTROL.test(value)) return value;
  throw invalid(`${name} must be one line of at most ${MAX_TEXT} characters`);
}

function textsOf(value: unknown, name: string): string[] {
  if (Array.isArray(value) && value.length <= MAX_TEXTS) {
    return value.map((each) => textOf(each, name));
  }
  throw invalid(`${name} must be a list of at most ${MAX_TEXTS}`);
}

function wordOf<T extends string>(value: unknown, words: readonly T[], name: string): T {
  const word = words.find((each) => each === value);
  if (word !== undefined) return word;
  throw invalid(`${name} must be one of ${words.join(", ")}`);
}

function isWhole(value: unknown, min: number, max: number): value is number {
  return Number.isInteger(value) && value as number >= min && value as number <= max;
}

function invalid(problem: string): Error {
  return malformed("report", problem);
}

/** What a report is recognised by. */
export const PROGRAM = "punchline doctor";

/** Chosen by us: ten times the longest report. */
export const MAX_REPORT_BYTES = 65_536;

const BEHAVIORS: readonly Behavior[] = [
  "endpoint-independent",
  "address-dependent",
  "address-and-port-dependent",
  "none",
  "unknown",
];

const ALLOCATIONS: readonly PortAllocation["kind"][] = [
  "preserving",
  "offset",
  "sequential",
  "random",
  "unknown",
];

const SYNS: readonly UnsolicitedSyn[] = ["dropped", "reset", "accepted", "unknown"];

const MAX_PORT = 65_535;

/** Chosen by us: more than any pool that a NAT test sees. */
const MAX_ADDRESSES = 64;

/** Chosen by us: the longest summaries have half of it. */
const MAX_TEXT = 600;

/** Chosen by us: a ticket names eight servers. */
const MAX_TEXTS = 16;

/** All control characters, and the marks of direction (UAX #9) that make text read as another. */
const CONTROL = /[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/u;
