/**
 * The offer in as few bytes as possible, for people who copy it: see {@linkcode SignalChannel.isManual}. Elsewhere it is
 * JSON, see `offer.ts`.
 *
 * ```text
 * version (1) | flags (1) | seed of the key (16) | of the answered key (16), if any | age of the samples (2)
 * | SYNs (1) | description for TCP | description for UDP, if any
 * | candidates: count (1), each: header (1), IP (4 or 16), zone: length (1) and UTF-8, if any, port for TCP (2),
 *   port for UDP (2), either if it is not the punch port
 * | authenticator (16), if there is a shared secret: HMAC-SHA256(shared secret, "punchline offer 3" | all before it)
 *
 * description: punch port (2) | profile (2) | delta (4), if neither `null` nor 0 | range (4), if any
 * | external IP (4 or 16), if any | samples, if any: count (1), local port (2) and external port (2) of each
 *
 * flags: role | waits << 1 | answers << 2 | UDP << 3 | round << 4 | samples for TCP << 6 | for UDP << 7
 * SYNs: unsolicited | (1 + crossing) << 2, or 0 if it is left out
 * profile: mapping | filtering << 3 | allocation << 6 | neighbours << 9 | external IP << 10 | delta is not null << 12
 *   | delta is not 0 << 13 | range << 14 | listens beside << 15
 * header of a candidate: kind | IPv6 << 2 | zone << 3 | TCP << 4 | UDP << 5 | the punch port for TCP << 6 | for UDP << 7
 * ```
 *
 * A candidate for both transports is written once. So those for UDP are read in the order of those for TCP.
 *
 * @module
 */

import { ByteReader, concat } from "../base/bytes.ts";
import { equalSecrets, hmac } from "../base/crypto.ts";
import { malformed } from "../base/errors.ts";
import { formatIp, ipToBytes, isIp, withoutZone, zoneOf } from "../net/address.ts";
import { MAX_SIGNAL_BYTES } from "../signal/channel.ts";
import type { Candidate, PunchDescription } from "./candidates.ts";
import type { NatProfile, PortPair } from "./nat_profile.ts";
import {
  BEHAVIORS,
  keyFromSeed,
  MAX_CANDIDATES,
  MAX_ROUNDS,
  MAX_SAMPLES,
  type PunchOffer,
  SEED_BYTES,
} from "./offer.ts";

/**
 * Encodes an offer.
 *
 * @throws {RangeError} if a key was not made by {@linkcode keyFromSeed}
 */
export function encodeCompactOffer(
  offer: PunchOffer,
  sharedSecret: Uint8Array,
): Uint8Array<ArrayBuffer> {
  const { role, key, answers, isWaiting, round, sampleAgeMs, side, udp } = offer;
  const merged = mergeCandidates(side, udp);
  const sorted = udp && { ...udp, candidates: candidatesFor("udp", merged) };
  const both = sorted === undefined ? [side] : [side, sorted];
  const flags = ROLES.indexOf(role) | bit(isWaiting, 1) | bit(answers !== null, 2) |
    bit(udp !== undefined, 3) | round << 4 | bit(hasSamples(side), 6) | bit(hasSamples(udp), 7);
  const content = concat(
    Uint8Array.of(VERSION, flags),
    seedOf(key),
    answers === null ? NOTHING : seedOf(answers),
    uint16(Math.min(Math.round(sampleAgeMs), 0xffff)),
    Uint8Array.of(synBits(side.profile)),
    ...both.map(encodeDescription),
    Uint8Array.of(merged.length),
    ...merged.map((each) => encodeCandidate(each, both)),
  );
  if (sharedSecret.length === 0) return content;
  return concat(content, authenticator(content, sharedSecret));
}

/**
 * Decodes an offer. Candidates for neither of the two transports are dropped.
 *
 * @throws {MalformedMessageError} if it was authenticated with another secret, or breaks a field's rule
 */
export function decodeCompactOffer(bytes: Uint8Array, sharedSecret: Uint8Array): PunchOffer {
  if (bytes.length > MAX_SIGNAL_BYTES) throw invalid("length", `at most ${MAX_SIGNAL_BYTES} bytes`);
  const reader = new ByteReader(authenticated(bytes, sharedSecret), "offer");
  const version = reader.uint8("version");
  if (version !== VERSION) throw invalid("version", `${VERSION}, not ${version}`);
  const flags = reader.uint8("flags");
  const key = keyFromSeed(reader.bytes(SEED_BYTES, "key"));
  const answers = has(flags, 2) ? keyFromSeed(reader.bytes(SEED_BYTES, "answers")) : null;
  const round = flags >> 4 & 3;
  if (round < 1 || round > MAX_ROUNDS) throw invalid("round", `1 to ${MAX_ROUNDS}`);
  const sampleAgeMs = reader.uint16("sampleAgeMs");
  const syns = readSyns(reader);
  const tcp = readDescription(reader, has(flags, 6));
  const udp = has(flags, 3) ? readDescription(reader, has(flags, 7)) : undefined;
  const punchPorts = { tcp: tcp.punchPort, udp: udp?.punchPort };
  const merged = readList(
    reader,
    "candidates",
    2 * MAX_CANDIDATES,
    (each) => readCandidate(each, punchPorts),
  );
  reader.end();
  return {
    role: ROLES[flags & 1]!,
    key,
    answers,
    isWaiting: has(flags, 1),
    round,
    sampleAgeMs,
    side: withCandidates(tcp, syns, candidatesFor("tcp", merged)),
    ...udp && { udp: withCandidates(udp, DATAGRAMS, candidatesFor("udp", merged)) },
  };
}

/** A candidate, and its port for each transport that it is for. */
interface MergedCandidate {
  readonly kind: Candidate["kind"];
  readonly ip: string;
  readonly tcp?: number;
  readonly udp?: number;
}

/** What SYNs get. */
type SynBehavior = Pick<NatProfile, "unsolicitedSyn" | "crossingSyn">;

/** A description that was read, without its candidates. */
interface ReadDescription {
  readonly punchPort: number;
  readonly canListenBeside: boolean;
  readonly profile: Omit<NatProfile, "externalIp" | keyof SynBehavior>;
  /** `undefined` if it is that of the reflexive candidate. */
  readonly externalIp: string | null | undefined;
}

function encodeDescription(description: PunchDescription): Uint8Array {
  const { punchPort, canListenBeside, profile, candidates } = description;
  const { mapping, filtering, allocation: { kind, delta, range }, samples } = profile;
  const external = externalOf(profile, candidates);
  const isGiven = delta !== null && delta !== 0;
  const bits = BEHAVIORS.indexOf(mapping) | BEHAVIORS.indexOf(filtering) << 3 |
    ALLOCATIONS.indexOf(kind) << 6 | bit(profile.onlyForNeighbours, 9) | external.code << 10 |
    bit(delta !== null, 12) | bit(isGiven, 13) | bit(range !== null, 14) | bit(canListenBeside, 15);
  return concat(
    uint16(punchPort, bits),
    isGiven ? int32(delta) : NOTHING,
    range === null ? NOTHING : uint16(...range),
    external.bytes,
    samples.length === 0 ? NOTHING : Uint8Array.of(samples.length),
    uint16(...samples.flatMap(({ localPort, externalPort }) => [localPort, externalPort])),
  );
}

function readDescription(reader: ByteReader, hasSamples: boolean): ReadDescription {
  const punchPort = readPort(reader, "punchPort");
  const bits = reader.uint16("profile");
  const nonZero = has(bits, 13) ? readDelta(reader) : 0;
  const delta = has(bits, 12) ? nonZero : null;
  const range = has(bits, 14) ? readRange(reader) : null;
  const externalIp = readExternalIp(reader, bits >> 10 & 3);
  const samples = hasSamples ? readList(reader, "samples", MAX_SAMPLES, readSample) : [];
  return {
    punchPort,
    canListenBeside: has(bits, 15),
    profile: {
      mapping: choice(BEHAVIORS, bits & 7, "mapping"),
      filtering: choice(BEHAVIORS, bits >> 3 & 7, "filtering"),
      allocation: { kind: choice(ALLOCATIONS, bits >> 6 & 7, "allocation kind"), delta, range },
      onlyForNeighbours: has(bits, 9),
      samples,
    },
    externalIp,
  };
}

function withCandidates(
  { profile, externalIp: givenIp, punchPort, canListenBeside }: ReadDescription,
  syns: SynBehavior,
  candidates: readonly Candidate[],
): PunchDescription {
  if (candidates.length > MAX_CANDIDATES) {
    throw invalid("candidates", `a list of at most ${MAX_CANDIDATES} for each transport`);
  }
  const externalIp = givenIp === undefined ? reflexiveIp(candidates) : givenIp;
  if (externalIp === undefined) throw invalid("externalIp", "that of a candidate");
  return { profile: { ...profile, ...syns, externalIp }, candidates, punchPort, canListenBeside };
}

function hasSamples(description: PunchDescription | undefined): boolean {
  return description !== undefined && description.profile.samples.length > 0;
}

function synBits({ unsolicitedSyn, crossingSyn }: SynBehavior): number {
  const crossing = crossingSyn === undefined ? 0 : 1 + SYNS.indexOf(crossingSyn);
  return SYNS.indexOf(unsolicitedSyn) | crossing << 2;
}

function readSyns(reader: ByteReader): SynBehavior {
  const bits = reader.uint8("SYNs");
  const unsolicitedSyn = choice(SYNS, bits & 3, "unsolicitedSyn");
  const crossing = bits >> 2 & 7;
  if (crossing === 0) return { unsolicitedSyn };
  return { unsolicitedSyn, crossingSyn: choice(SYNS, crossing - 1, "crossingSyn") };
}

/** The candidates for TCP, each with its twin for UDP, then those for UDP alone. */
function mergeCandidates(side: PunchDescription, udp?: PunchDescription): MergedCandidate[] {
  const left = [...udp?.candidates ?? []];
  const merged = side.candidates.map(({ kind, address: { ip, port } }): MergedCandidate => {
    const index = left.findIndex((each) => each.kind === kind && each.address.ip === ip);
    const [twin] = index < 0 ? [] : left.splice(index, 1);
    return { kind, ip, tcp: port, ...twin && { udp: twin.address.port } };
  });
  const others = left.map(({ kind, address: { ip, port } }) => ({ kind, ip, udp: port }));
  return [...merged, ...others];
}

function candidatesFor(
  transport: "tcp" | "udp",
  merged: readonly MergedCandidate[],
): Candidate[] {
  return merged.flatMap(({ kind, ip, [transport]: port }): Candidate[] =>
    port === undefined ? [] : [{ kind, address: { ip, port } }]
  );
}

function encodeCandidate(
  { kind, ip, tcp, udp }: MergedCandidate,
  [forTcp, forUdp]: readonly PunchDescription[],
): Uint8Array {
  const zone = new TextEncoder().encode(zoneOf(ip).slice(1)); // without its %
  const bytes = ipToBytes(withoutZone(ip));
  const [isTcpPunch, isUdpPunch] = [tcp === forTcp!.punchPort, udp === forUdp?.punchPort];
  const header = KINDS.indexOf(kind) | bit(bytes.length === 16, 2) | bit(zone.length > 0, 3) |
    bit(tcp !== undefined, 4) | bit(udp !== undefined, 5) |
    bit(tcp !== undefined && isTcpPunch, 6) | bit(udp !== undefined && isUdpPunch, 7);
  return concat(
    Uint8Array.of(header),
    bytes,
    zone.length > 0 ? concat(Uint8Array.of(zone.length), zone) : NOTHING,
    tcp === undefined || isTcpPunch ? NOTHING : uint16(tcp),
    udp === undefined || isUdpPunch ? NOTHING : uint16(udp),
  );
}

function readCandidate(
  reader: ByteReader,
  punchPorts: { readonly tcp: number; readonly udp: number | undefined },
): MergedCandidate {
  const header = reader.uint8("candidate");
  const kind = choice(KINDS, header & 3, "kind");
  const plain = formatIp(reader.bytes(has(header, 2) ? 16 : 4, "ip"));
  const zone = has(header, 3) ? reader.bytes(reader.uint8("zone"), "zone") : NOTHING;
  const ip = zone.length === 0 ? plain : `${plain}%${new TextDecoder().decode(zone)}`;
  if (!isIp(ip)) throw invalid("zone", "the name of an interface");
  if (has(header, 5) && punchPorts.udp === undefined) {
    throw invalid("candidate", "one for TCP: UDP is not offered");
  }
  const tcp = !has(header, 4)
    ? undefined
    : has(header, 6)
    ? punchPorts.tcp
    : readPort(reader, "port");
  const udp = !has(header, 5)
    ? undefined
    : has(header, 7)
    ? punchPorts.udp
    : readPort(reader, "port");
  return { kind, ip, tcp, udp };
}

function readSample(reader: ByteReader): PortPair {
  const localPort = readPort(reader, "localPort");
  return { localPort, externalPort: readPort(reader, "externalPort") };
}

/** Most often it is the address of the reflexive candidate, which follows. */
function externalOf(
  { externalIp }: NatProfile,
  candidates: readonly Candidate[],
): { code: number; bytes: Uint8Array } {
  if (externalIp === null) return { code: 0, bytes: NOTHING };
  if (externalIp === reflexiveIp(candidates)) return { code: SAME_AS_REFLEXIVE, bytes: NOTHING };
  const bytes = ipToBytes(externalIp);
  return { code: bytes.length === 4 ? 1 : 2, bytes };
}

function readExternalIp(reader: ByteReader, code: number): string | null | undefined {
  if (code === SAME_AS_REFLEXIVE) return undefined;
  return code === 0 ? null : formatIp(reader.bytes(code === 1 ? 4 : 16, "externalIp"));
}

function reflexiveIp(candidates: readonly Candidate[]): string | undefined {
  return candidates.find(({ kind }) => kind === "reflexive")?.address.ip;
}

function readList<T>(
  reader: ByteReader,
  field: string,
  max: number,
  read: (reader: ByteReader) => T,
): T[] {
  const count = reader.uint8(field);
  if (count > max) throw invalid(field, `a list of at most ${max}`);
  return Array.from({ length: count }, () => read(reader));
}

function readPort(reader: ByteReader, field: string): number {
  const port = reader.uint16(field);
  if (port === 0) throw invalid(field, "a port");
  return port;
}

function readDelta(reader: ByteReader): number {
  const delta = reader.uint32("delta") | 0;
  if (Math.abs(delta) > 0xffff) throw invalid("delta", "a difference of two ports");
  return delta;
}

function readRange(reader: ByteReader): [number, number] {
  const [first, last] = [readPort(reader, "range"), readPort(reader, "range")];
  if (first > last) throw invalid("range", "two ports, the lower first");
  return [first, last];
}

function choice<T>(choices: readonly T[], index: number, field: string): T {
  const chosen = choices[index];
  if (chosen === undefined) throw invalid(field, `one of ${choices.join(", ")}`);
  return chosen;
}

function authenticated(bytes: Uint8Array, sharedSecret: Uint8Array): Uint8Array {
  if (sharedSecret.length === 0) return bytes;
  const content = bytes.subarray(0, Math.max(0, bytes.length - AUTHENTICATOR_BYTES));
  if (equalSecrets(bytes.subarray(content.length), authenticator(content, sharedSecret))) {
    return content;
  }
  throw malformed("offer", "it was not authenticated with the shared secret");
}

function authenticator(content: Uint8Array, sharedSecret: Uint8Array): Uint8Array {
  const label = new TextEncoder().encode("punchline offer 3");
  return hmac("sha256", sharedSecret, label, content).subarray(0, AUTHENTICATOR_BYTES);
}

function seedOf(key: string): Uint8Array {
  const seed = Uint8Array.fromHex(key.slice(0, 2 * SEED_BYTES));
  if (keyFromSeed(seed) !== key) throw new RangeError("Cannot write offer: its key has no seed");
  return seed;
}

function uint16(...numbers: readonly number[]): Uint8Array {
  return Uint8Array.from(numbers.flatMap((number) => [number >> 8, number & 0xff]));
}

function int32(number: number): Uint8Array {
  return uint16(number >> 16 & 0xffff, number & 0xffff);
}

function bit(isSet: boolean, place: number): number {
  return isSet ? 1 << place : 0;
}

function has(bits: number, place: number): boolean {
  return (bits >> place & 1) === 1;
}

function invalid(field: string, rule: string) {
  return malformed("offer", `${field} must be ${rule}`);
}

const VERSION = 3;
const AUTHENTICATOR_BYTES = 16;
const SAME_AS_REFLEXIVE = 3;
const NOTHING = new Uint8Array(0);

/** What a description for UDP says of SYNs. */
const DATAGRAMS: SynBehavior = { unsolicitedSyn: "dropped" };

/** Their places are part of the format. */
const ROLES = ["controlling", "controlled"] as const;
const KINDS = ["host", "mapped", "reflexive"] as const;
const SYNS = ["dropped", "reset", "accepted", "unknown"] as const;
const ALLOCATIONS = ["preserving", "offset", "sequential", "random", "unknown"] as const;
