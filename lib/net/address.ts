/**
 * IP addresses and transport addresses (an IP address and a port): parsing, formatting, comparison and scope.
 *
 * Everywhere in this library an IP address is a canonical string: dotted decimal for IPv4, RFC 5952 for IPv6, with a
 * `%zone` if a link-local address needs one. Two addresses are equal if and only if their strings are.
 *
 * @module
 */

/** The version of IP: IPv4 or IPv6. */
export type IpFamily = 4 | 6;

/** An IP address and a port, the "transport address" of RFC 8489. */
export interface TransportAddress {
  /** A canonical IP address, as {@linkcode parseIp} returns it. */
  readonly ip: string;
  /** 0 to 65535. */
  readonly port: number;
}

/** Where an address is valid: the first matching range of the IANA special-purpose registries. */
export type IpScope =
  | "unspecified" // 0.0.0.0, ::
  | "loopback" // 127/8, ::1
  | "link-local" // 169.254/16, fe80::/10
  | "private" // 10/8, 172.16/12, 192.168/16, fc00::/7
  | "shared" // 100.64/10, RFC 6598: carrier-grade NAT
  | "translation" // 192.0.0.0/29 (DS-Lite, 464XLAT), 64:ff9b::/96 and 64:ff9b:1::/48 (NAT64)
  | "documentation" // RFC 5737, RFC 3849, RFC 9637
  | "multicast" // 224/4, ff00::/8
  | "reserved" // all other ranges that are not global unicast
  | "global";

/**
 * The canonical form of an IP address.
 *
 * @example
 * ```ts
 * import { parseIp } from "./address.ts";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(parseIp("2001:DB8:0:0::1"), "2001:db8::1");
 * assertEquals(parseIp("192.0.2.1"), "192.0.2.1");
 * ```
 *
 * @throws {TypeError} if the text is not an IP address
 */
export function parseIp(text: string): string {
  return formatIp(ipToBytes(text)) + zoneOf(text);
}

/** Whether the text is an IPv4 or IPv6 address, in any form that {@linkcode parseIp} accepts. */
export function isIp(text: string): boolean {
  return parseIpv4(text) !== undefined || parseIpv6(text) !== undefined;
}

/** The family of a canonical address. */
export function ipFamily(ip: string): IpFamily {
  return ip.includes(":") ? 6 : 4;
}

/**
 * The four or sixteen bytes of an address, in network order, without the zone.
 *
 * @throws {TypeError} if the text is not an IP address
 */
export function ipToBytes(text: string): Uint8Array<ArrayBuffer> {
  const bytes = parseIpv4(text) ?? parseIpv6(text);
  if (bytes === undefined) throw new TypeError(`Cannot parse IP address: ${JSON.stringify(text)}`);
  return bytes;
}

/**
 * The 32 bits of an IPv4 address in dotted decimal, or `undefined` for any other text. Without a regular expression or an
 * array, because a server parses the address of each client that it answers.
 */
export function ipv4Bits(text: string): number | undefined {
  if (text.length > MAX_IPV4_LENGTH) return undefined;
  let bits = 0;
  let at = 0;
  for (let count = 0; count < 4; count++) {
    const start = at;
    let value = 0;
    for (; at < text.length && text.charCodeAt(at) !== DOT; at++) {
      const digit = text.charCodeAt(at) - 0x30;
      if (digit < 0 || digit > 9) return undefined;
      value = 10 * value + digit;
    }
    const hasLeadingZero = at - start > 1 && text.charCodeAt(start) === 0x30;
    const isLast = at === text.length;
    if (at === start || hasLeadingZero || value > 255 || isLast !== (count === 3)) return undefined;
    bits = bits << 8 | value;
    at++;
  }
  return bits >>> 0;
}

/**
 * The canonical address of four or sixteen bytes.
 *
 * @throws {RangeError} if the number of bytes is neither
 */
export function formatIp(bytes: ArrayLike<number>): string {
  if (bytes.length === 4) return formatIpv4(bytes, 0);
  if (bytes.length === 16) return formatIpv6(bytes);
  throw new RangeError(`Cannot format IP address: it takes 4 or 16 bytes, not ${bytes.length}`);
}

/**
 * Parses `192.0.2.1:3478` or `[2001:db8::1]:3478`. The port may be missing if there is a default.
 *
 * @param defaultPort if `undefined`, the port is required
 * @throws {TypeError} if the text is not an address and port
 */
export function parseTransportAddress(text: string, defaultPort?: number): TransportAddress {
  const { host, port } = parseHostPort(text, defaultPort);
  return { ip: parseIp(host), port };
}

/**
 * Parses a host name or IP address with a port: `stun.example.net:3478`, `192.0.2.1`, `[::1]:3478`, `::1`.
 *
 * @param defaultPort if `undefined`, the port is required
 * @throws {TypeError} if the host is neither a name nor an address, or the port is not 1 to 65535
 */
export function parseHostPort(text: string, defaultPort?: number): { host: string; port: number } {
  const match = /^\[(?<v6>[^\]]+)\](?::(?<p6>[^:]*))?$|^(?<name>[^:[\]]+)(?::(?<p4>[^:]*))?$/.exec(
    text,
  );
  const host = match?.groups?.v6 ?? match?.groups?.name ?? text;
  const portText = match?.groups?.p6 ?? match?.groups?.p4;
  const known = match?.groups?.v6 === undefined
    ? isIp(host) || HOST_NAME.test(host)
    : parseIpv6(host) !== undefined;
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(text)) {
    throw new TypeError("Cannot parse address: it is a URL; write HOST or HOST:PORT"); // which may have a login
  }
  if (!known) throw new TypeError(`Cannot parse address: ${JSON.stringify(text)} names no host`);
  if (portText === undefined) {
    if (defaultPort !== undefined) return { host, port: defaultPort };
    throw new TypeError(`Cannot parse address: ${JSON.stringify(text)} has no port`);
  }
  return { host, port: parsePort(portText) };
}

/**
 * Whether a port is one of the system ports (RFC 6335 §6), where services are that others must not direct this host to, and
 * which NATs give to no program that binds none of them (RFC 4787 REQ-3).
 */
export function isSystemPort(port: number): boolean {
  return port < 1024;
}

/**
 * Parses a port number.
 *
 * @throws {TypeError} if it is not a whole number from 1 to 65535
 */
export function parsePort(text: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : NaN;
  if (!(port >= 1 && port <= 65535)) {
    throw new TypeError(
      `Cannot parse port: ${JSON.stringify(text)} is not a number from 1 to 65535`,
    );
  }
  return port;
}

/** `192.0.2.1:3478` or `[2001:db8::1]:3478`. */
export function formatTransportAddress(address: TransportAddress): string {
  return ipFamily(address.ip) === 6
    ? `[${address.ip}]:${address.port}`
    : `${address.ip}:${address.port}`;
}

/** Whether both the IP address and the port are the same. */
export function sameTransportAddress(a: TransportAddress, b: TransportAddress): boolean {
  return a.ip === b.ip && a.port === b.port;
}

/**
 * The scope of an address. An IPv4-mapped IPv6 address has the scope of the IPv4 address in it.
 *
 * @throws {TypeError} if the text is not an IP address
 */
export function ipScope(ip: string): IpScope {
  let bytes = ipToBytes(ip);
  if (bytes.length === 16 && startsWith(bytes, V4_MAPPED)) bytes = bytes.slice(12);
  const ranges = bytes.length === 4 ? IPV4_SCOPES : IPV6_SCOPES;
  for (const [prefix, bits, scope] of ranges) {
    if (hasPrefix(bytes, prefix, bits)) return scope;
  }
  return bytes.length === 4 || (bytes[0]! & 0xe0) === 0x20 ? "global" : "reserved";
}

/** A prefix under which a NAT64 gateway embeds IPv4 addresses (RFC 6052 §2.2). */
export interface Nat64Prefix {
  /** The prefix as an address; the bits after it are 0. */
  readonly ip: string;
  /** One of {@linkcode NAT64_PREFIX_BITS}. */
  readonly bits: number;
}

/** The lengths that a NAT64 prefix may have (RFC 6052 §2.2). */
export const NAT64_PREFIX_BITS: readonly number[] = [96, 64, 56, 48, 40, 32];

/**
 * The address that packets to an address really go to: the IPv4 address in an IPv4-mapped one (RFC 4291 §2.5.5.2), in a
 * 6to4 one (RFC 3056), and in one under a NAT64 prefix, the well-known one or those given. Others stay as they are.
 */
export function unwrapIp(ip: string, prefixes: readonly Nat64Prefix[] = []): string {
  const bytes = ipToBytes(ip);
  if (bytes.length === 4) return ip;
  if (startsWith(bytes, V4_MAPPED)) return formatIp(bytes.subarray(12));
  if (startsWith(bytes, [0x20, 0x02])) return formatIp(bytes.subarray(2, 6));
  for (const { ip: prefix, bits } of [WELL_KNOWN_NAT64, ...prefixes]) {
    if (hasPrefix(bytes, [...ipToBytes(prefix)], bits)) return formatIp(ipv4After(bytes, bits));
  }
  return ip;
}

/** The bytes of an IPv4 address after a NAT64 prefix: byte 8 is always 0, and left out (RFC 6052 §2.2). */
export function ipv4After(bytes: Uint8Array, bits: number): Uint8Array {
  const withoutByte8 = [...bytes.subarray(0, 8), ...bytes.subarray(9)];
  return bits === 96
    ? bytes.slice(12)
    : Uint8Array.from(withoutByte8.slice(bits / 8, bits / 8 + 4));
}

/**
 * The IPv6 address by which a NAT64 reaches an IPv4 address (RFC 6052 §2.2).
 *
 * @throws {TypeError} if `ip` is no IPv4 address
 */
export function synthesizeIp(ip: string, { ip: prefix, bits }: Nat64Prefix): string {
  const ipv4 = parseIpv4(ip);
  if (ipv4 === undefined) throw new TypeError(`Cannot synthesize ${ip}: it is no IPv4 address`);
  const before = [...ipToBytes(prefix).subarray(0, bits / 8)];
  if (bits === 96) return formatIp([...before, ...ipv4]);
  const packed = [...before, ...ipv4, ...new Uint8Array(16)];
  return formatIp([...packed.slice(0, 8), 0, ...packed.slice(8, 15)]);
}

/** Whether an address is where clouds hand out credentials. */
export function isMetadataIp(ip: string): boolean {
  return METADATA_IPS.includes(withoutZone(ip));
}

/**
 * Why an address is not one on the internet, in words that follow "it is"; `null` if it is one. Documentation addresses
 * count as public: they are not routed, except in labs.
 */
export function whyNotPublic(ip: string, prefixes: readonly Nat64Prefix[] = []): string | null {
  const target = unwrapIp(ip, prefixes);
  if (isMetadataIp(target)) return "a cloud metadata address";
  const scope = ipScope(target);
  switch (scope) {
    case "global":
    case "documentation":
      return null;
    case "private":
    case "shared":
      return "in a private network";
    case "translation":
      return "reserved for address translation";
    default:
      return scope;
  }
}

/** The zone of a link-local IPv6 address (RFC 4007 §11) with its `%`, such as `"%eth0"`; `""` for any other text. */
export function zoneOf(ip: string): string {
  return /%[\w.-]+$/.exec(ip)?.[0] ?? "";
}

/** The address without its zone, which means nothing to other hosts. */
export function withoutZone(ip: string): string {
  return ip.slice(0, ip.length - zoneOf(ip).length);
}

function parseIpv4(text: string): Uint8Array<ArrayBuffer> | undefined {
  const bits = ipv4Bits(text);
  if (bits === undefined) return undefined;
  return Uint8Array.of(bits >>> 24, bits >>> 16, bits >>> 8, bits);
}

function parseIpv6(text: string): Uint8Array<ArrayBuffer> | undefined {
  let digits = withoutZone(text);
  if (!digits.includes(":")) return undefined;

  const lastColon = digits.lastIndexOf(":");
  const embedded = parseIpv4(digits.slice(lastColon + 1));
  if (embedded !== undefined) {
    const group = (at: number) => ((embedded[at]! << 8) | embedded[at + 1]!).toString(16);
    digits = `${digits.slice(0, lastColon + 1)}${group(0)}:${group(2)}`;
  }

  const halves = digits.split("::");
  if (halves.length > 2) return undefined;
  const [head, tail] = halves.map((half) => half === "" ? [] : half.split(":"));
  const groups = tail === undefined
    ? head!
    : [...head!, ...Array<string>(Math.max(0, 8 - head!.length - tail.length)).fill("0"), ...tail];
  if (groups.length !== 8 || (tail !== undefined && head!.length + tail.length > 7)) {
    return undefined;
  }

  const bytes = new Uint8Array(16);
  for (const [i, group] of groups.entries()) {
    if (!/^[0-9a-f]{1,4}$/i.test(group)) return undefined;
    const value = parseInt(group, 16);
    bytes[2 * i] = value >> 8;
    bytes[2 * i + 1] = value & 0xff;
  }
  return bytes;
}

function formatIpv4(bytes: ArrayLike<number>, offset: number): string {
  return `${bytes[offset]}.${bytes[offset + 1]}.${bytes[offset + 2]}.${bytes[offset + 3]}`;
}

function formatIpv6(bytes: ArrayLike<number>): string {
  if (startsWith(bytes, V4_MAPPED)) return `::ffff:${formatIpv4(bytes, 12)}`;
  const groups: number[] = [];
  for (let i = 0; i < 16; i += 2) groups.push((bytes[i]! << 8) | bytes[i + 1]!);
  // RFC 5952 §4.2: the longest run of two or more zero groups, the first of equals, becomes "::".
  let longest = { start: 0, length: 1 };
  for (let start = 0; start < 8; start++) {
    let length = 0;
    while (groups[start + length] === 0) length++;
    if (length > longest.length) longest = { start, length };
  }
  const hex = (part: number[]) => part.map((group) => group.toString(16)).join(":");
  if (longest.length === 1) return hex(groups);
  return `${hex(groups.slice(0, longest.start))}::${
    hex(groups.slice(longest.start + longest.length))
  }`;
}

function startsWith(bytes: ArrayLike<number>, prefix: readonly number[]): boolean {
  return prefix.every((byte, i) => bytes[i] === byte);
}

function hasPrefix(bytes: Uint8Array, prefix: readonly number[], bits: number): boolean {
  for (let i = 0; i * 8 < bits; i++) {
    const mask = 0xff << Math.max(0, (i + 1) * 8 - bits) & 0xff;
    if ((bytes[i]! & mask) !== ((prefix[i] ?? 0) & mask)) return false;
  }
  return true;
}

const MAX_IPV4_LENGTH = "255.255.255.255".length;
const DOT = 0x2e;

/** RFC 1123 §2.1, and underscores, which occur in practice; the last label is not all digits. */
const HOST_NAME =
  /^(?=.{1,253}\.?$)(?:[\w](?:[\w-]{0,61}\w)?\.)*(?!\d+\.?$)\w(?:[\w-]{0,61}\w)?\.?$/;

/** RFC 6052 §2.1. */
const WELL_KNOWN_NAT64: Nat64Prefix = { ip: "64:ff9b::", bits: 96 };

/** AWS, GCP, Azure, Alibaba and Oracle. */
const METADATA_IPS: readonly string[] = [
  "169.254.169.254",
  "169.254.170.2",
  "fd00:ec2::254",
  "fd20:ce::254",
  "100.100.100.200",
  "168.63.129.16",
  "192.0.0.192",
];

const V4_MAPPED = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

type ScopeRange = readonly [prefix: readonly number[], bits: number, scope: IpScope];

const IPV4_SCOPES: readonly ScopeRange[] = [
  [[0, 0, 0, 0], 32, "unspecified"],
  [[0], 8, "reserved"],
  [[127], 8, "loopback"],
  [[169, 254], 16, "link-local"],
  [[10], 8, "private"],
  [[172, 16], 12, "private"],
  [[192, 168], 16, "private"],
  [[100, 64], 10, "shared"],
  [[192, 0, 0, 0], 29, "translation"],
  [[192, 0, 0], 24, "reserved"],
  [[192, 0, 2], 24, "documentation"],
  [[198, 51, 100], 24, "documentation"],
  [[203, 0, 113], 24, "documentation"],
  [[198, 18], 15, "reserved"], // benchmarking, RFC 2544
  [[224], 4, "multicast"],
  [[240], 4, "reserved"],
];

const IPV6_SCOPES: readonly ScopeRange[] = [
  [Array(16).fill(0), 128, "unspecified"],
  [[...Array(15).fill(0), 1], 128, "loopback"],
  [[0xfe, 0x80], 10, "link-local"],
  [[0xfc], 7, "private"],
  [[0xff], 8, "multicast"],
  [[0x00, 0x64, 0xff, 0x9b], 96, "translation"],
  [[0x00, 0x64, 0xff, 0x9b, 0x00, 0x01], 48, "translation"],
  [[0x20, 0x01, 0x0d, 0xb8], 32, "documentation"],
  [[0x3f, 0xff], 20, "documentation"],
  [[0x20, 0x01, 0x00], 23, "reserved"], // IETF protocol assignments, Teredo among them
];
