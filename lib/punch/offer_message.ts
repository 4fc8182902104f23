/**
 * The offer in as few bytes as possible, for people who copy it: see {@linkcode SignalChannel.isManual}. Elsewhere it is
 * JSON, see `offer.ts`.
 *
 * ```text
 * version (1) | flags (1) | seed of the key (16) | of the answered key (16), if any | age of the samples (2)
 * | punch port (2) | profile (2) | delta (4), if not 0, and range (4), if any | external IP (4 or 16), if any
 * | samples: count (1), local port (2) and external port (2) of each
 * | candidates: count (1), each: header (1), IP (4 or 16), zone: length (1) and UTF-8, if any, a port (2) per transport
 * | authenticator (16), if there is a shared secret: HMAC-SHA256(shared secret, "punchline offer 2" | all before it)
 *
 * flags: role | waits << 1 | answers << 2 | listens beside << 3 | round << 4 | delta << 6 | range << 7
 * profile: mapping | filtering << 3 | unsolicited SYN << 6 | allocation << 8 | neighbours << 11 | external IP << 12
 *   | delta is not 0 << 14
 * header of a candidate: kind | IPv6 << 2 | zone << 3 | TCP << 4 | UDP << 5
 * ```
 *
 * @module
 */

import { ByteReader, concat } from "../base/bytes.ts";
import { equalSecrets, hmac } from "../base/crypto.ts";
import { malformed } from "../base/errors.ts";
import { formatIp, ipToBytes, isIp, withoutZone, zoneOf } from "../net/address.ts";
import { MAX_SIGNAL_BYTES } from "../signal/channel.ts";
import type { Candidate } from "./candidates.ts";
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
  const { role, answers, isWaiting, round, sampleAgeMs, side } = offer;
  const { profile, candidates, punchPort, canListenBeside } = side;
  const { delta, range } = profile.allocation;
  const flags = ROLES.indexOf(role) | bit(isWaiting, 1) | bit(answers !== null, 2) |
    bit(canListenBeside, 3) | round << 4 | bit(delta !== null, 6) | bit(range !== null, 7);
  const external = externalOf(profile, candidates);
  const bits = BEHAVIORS.indexOf(profile.mapping) | BEHAVIORS.indexOf(profile.filtering) << 3 |
    SYNS.indexOf(profile.unsolicitedSyn) << 6 | ALLOCATIONS.indexOf(profile.allocation.kind) << 8 |
    bit(profile.onlyForNeighbours, 11) | external.code << 12 | bit((delta ?? 0) !== 0, 14);
  const content = concat(
    Uint8Array.of(VERSION, flags),
    seedOf(offer.key),
    answers === null ? NOTHING : seedOf(answers),
    uint16(Math.min(Math.round(sampleAgeMs), 0xffff), punchPort, bits),
    delta === null || delta === 0 ? NOTHING : int32(delta),
    range === null ? NOTHING : uint16(...range),
    external.bytes,
    Uint8Array.of(profile.samples.length),
    uint16(...profile.samples.flatMap(({ localPort, externalPort }) => [localPort, externalPort])),
    Uint8Array.of(candidates.length),
    ...candidates.map(encodeCandidate),
  );
  if (sharedSecret.length === 0) return content;
  return concat(content, authenticator(content, sharedSecret));
}

/**
 * Decodes an offer. Candidates that this version cannot dial are dropped.
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
  const sampleAgeMs = reader.uint16("sampleAgeMs");
  const punchPort = readPort(reader, "punchPort");
  const bits = reader.uint16("profile");
  const nonZero = has(bits, 14) ? readDelta(reader) : 0;
  const delta = has(flags, 6) ? nonZero : null;
  const range = has(flags, 7) ? readRange(reader) : null;
  const externalCode = bits >> 12 & 3;
  const givenIp = readExternalIp(reader, externalCode);
  const samples = readList(reader, "samples", MAX_SAMPLES, readSample);
  const candidates = readList(reader, "candidates", MAX_CANDIDATES, readCandidate)
    .filter((each) => each !== undefined);
  reader.end();
  const round = flags >> 4 & 3;
  if (round < 1 || round > MAX_ROUNDS) throw invalid("round", `1 to ${MAX_ROUNDS}`);
  const externalIp = externalCode === SAME_AS_REFLEXIVE ? reflexiveIp(candidates) : givenIp;
  if (externalIp === undefined) throw invalid("externalIp", "that of a candidate");
  const profile: NatProfile = {
    mapping: choice(BEHAVIORS, bits & 7, "mapping"),
    filtering: choice(BEHAVIORS, bits >> 3 & 7, "filtering"),
    unsolicitedSyn: choice(SYNS, bits >> 6 & 3, "unsolicitedSyn"),
    allocation: { kind: choice(ALLOCATIONS, bits >> 8 & 7, "allocation kind"), delta, range },
    onlyForNeighbours: has(bits, 11),
    externalIp,
    samples,
  };
  return {
    role: ROLES[flags & 1]!,
    key,
    answers,
    isWaiting: has(flags, 1),
    round,
    sampleAgeMs,
    side: { profile, candidates, punchPort, canListenBeside: has(flags, 3) },
  };
}

function encodeCandidate({ kind, address: { ip, port } }: Candidate): Uint8Array {
  const zone = new TextEncoder().encode(zoneOf(ip).slice(1)); // without its %
  const bytes = ipToBytes(withoutZone(ip));
  const header = KINDS.indexOf(kind) | bit(bytes.length === 16, 2) | bit(zone.length > 0, 3) | TCP;
  return concat(
    Uint8Array.of(header),
    bytes,
    zone.length > 0 ? concat(Uint8Array.of(zone.length), zone) : NOTHING,
    uint16(port),
  );
}

/** `undefined` if it cannot be dialled over TCP. */
function readCandidate(reader: ByteReader): Candidate | undefined {
  const header = reader.uint8("candidate");
  const kind = choice(KINDS, header & 3, "kind");
  const plain = formatIp(reader.bytes(has(header, 2) ? 16 : 4, "ip"));
  const zone = has(header, 3) ? reader.bytes(reader.uint8("zone"), "zone") : NOTHING;
  const ip = zone.length === 0 ? plain : `${plain}%${new TextDecoder().decode(zone)}`;
  if (!isIp(ip)) throw invalid("zone", "the name of an interface");
  const [tcpPort] = [TCP, UDP].map((transport) =>
    (header & transport) === 0 ? undefined : readPort(reader, "port")
  );
  return tcpPort === undefined ? undefined : { kind, address: { ip, port: tcpPort } };
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

function readExternalIp(reader: ByteReader, code: number): string | null {
  const length = [0, 4, 16, 0][code]!;
  return length === 0 ? null : formatIp(reader.bytes(length, "externalIp"));
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
  const label = new TextEncoder().encode("punchline offer 2");
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

const VERSION = 2;
const AUTHENTICATOR_BYTES = 16;
const SAME_AS_REFLEXIVE = 3;
const [TCP, UDP] = [1 << 4, 1 << 5];
const NOTHING = new Uint8Array(0);

/** Their places are part of the format. */
const ROLES = ["controlling", "controlled"] as const;
const KINDS = ["host", "mapped", "reflexive"] as const;
const SYNS = ["dropped", "reset", "accepted", "unknown"] as const;
const ALLOCATIONS = ["preserving", "offset", "sequential", "random", "unknown"] as const;
