/**
 * This host's gateways: finding them and the address from which to ask each, and sending them a request until they answer.
 *
 * @module
 */

import {
  formatIp,
  type IpFamily,
  ipFamily,
  ipScope,
  ipToBytes,
  type TransportAddress,
} from "../net/address.ts";
import { discoverLocalIpv4 } from "../net/local_address.ts";
import type { DefaultGateway, LocalAddress, Network } from "../net/network.ts";
import { exchangeWithServer } from "../net/retransmit.ts";

/** A gateway that may open ports. */
export interface Gateway {
  /** Its IP address; a link-local one with its zone, as in `fe80::1%eth0`. */
  readonly ip: string;
  /** This host's address from which to ask; for IPv6 a global one if there is one, as pinholes are for those. */
  readonly localIp: string;
  /** How it is known: from the routing table, from the caller, or because gateways often have such addresses. */
  readonly source: "routes" | "caller" | "guess";
}

/** What {@linkcode findGateways} takes. */
export interface FindGatewaysOptions {
  /** The network of this host. */
  readonly network: Network;
  /** Gateways that the caller knows. If there are any, no others are looked for. */
  readonly known?: readonly string[];
  /** Aborts the search. */
  readonly signal?: AbortSignal;
}

/**
 * The gateways of this host, of both families: from the routing table if it can be read, otherwise the addresses that
 * gateways usually have on this host's network. Needs no permission but the network, sends at most one datagram to the
 * link, and takes a fraction of a second.
 *
 * A gateway that none of this host's addresses can ask is left out.
 *
 * @throws {NetworkError} `not-permitted` if no gateway can be found without a permission that is missing
 */
export async function findGateways(options: FindGatewaysOptions): Promise<Gateway[]> {
  const { network, known = [], signal } = options;
  const addresses = await localAddressesOf(network);
  const defaults = known.length > 0
    ? known.map((ip) => ({ ip, interfaceName: undefined }))
    : await defaultGatewaysOf(network);
  // The kernel is asked for its source address only once, and only if nothing else names it.
  let found: Promise<string | undefined> | undefined;
  const localIpv4 = () => found ??= discoverLocalIpv4(network, { signal, throwsIfDenied: true });

  const gateways: Gateway[] = [];
  for (const { ip, interfaceName } of defaults ?? []) {
    const localIp = addresses === undefined
      ? ipFamily(ip) === 4
        ? await localIpv4() ?? await addressTowards(network, ip, known)
        : undefined
      : nearestAddress(
        ip,
        addresses.filter((one) => {
          return interfaceName === undefined || one.interfaceName === interfaceName;
        }),
      );
    if (localIp === undefined) continue;
    gateways.push({ ip, localIp, source: known.length > 0 ? "caller" : "routes" });
  }
  // Android keeps its routes where programs do not see them, and a VPN may have taken the default route.
  const hasIpv4 = (defaults ?? []).some(({ ip }) => ipFamily(ip) === 4);
  if (hasIpv4 || known.length > 0) return gateways;
  return [...guessGateways(await localIpv4s(addresses, localIpv4)), ...gateways];
}

/** `undefined` where the system does not list them, such as on Android. */
async function localAddressesOf(network: Network): Promise<LocalAddress[] | undefined> {
  try {
    return await network.localAddresses();
  } catch {
    return undefined;
  }
}

/** `undefined` where the system does not list them. */
async function defaultGatewaysOf(network: Network): Promise<DefaultGateway[] | undefined> {
  try {
    return await network.defaultGateways();
  } catch {
    return undefined;
  }
}

/** The address that a connection to a gateway that the user named comes from; `undefined` if it takes none. */
async function addressTowards(
  network: Network,
  ip: string,
  known: readonly string[],
): Promise<string | undefined> {
  if (!known.includes(ip)) return undefined;
  try {
    using connection = await network.connectTcp({ ip, port: 80 }, {
      signal: AbortSignal.timeout(ADDRESS_TIMEOUT_MS),
    });
    return connection.local.ip;
  } catch {
    return undefined; // nothing listens there
  }
}

/**
 * The addresses that gateways usually have on a /24 network: the first, and the last before broadcast.
 *
 * @param localIps this host's IPv4 addresses
 */
export function guessGateways(localIps: readonly string[]): Gateway[] {
  return localIps.flatMap((localIp) => {
    const prefix = localIp.slice(0, localIp.lastIndexOf("."));
    return USUAL_HOSTS.map((host) => `${prefix}.${host}`)
      .filter((ip) => ip !== localIp)
      .map((ip): Gateway => ({ ip, localIp, source: "guess" }));
  });
}

/** What to ask, and how. */
export interface GatewayRequest<T> {
  readonly network: Network;
  readonly gateway: TransportAddress;
  /** The address to send from: gateways map ports of the sender. */
  readonly localIp: string;
  readonly request: Uint8Array;
  /** The protocol, for errors. */
  readonly protocol: string;
  /** Reads a datagram of the gateway; `undefined` if it does not answer this request. What it throws ends the request. */
  readonly accept: (data: Uint8Array) => T | undefined;
  readonly waitsMs: readonly number[];
  readonly signal?: AbortSignal;
}

/** An answer, and when it arrived on the clock of `performance.now()`. */
export interface GatewayAnswer<T> {
  readonly answer: T;
  readonly receivedAtMs: number;
}

/**
 * Sends the request until it is answered.
 *
 * @throws {NoResponseError} if no answer arrives in time
 * @throws {MalformedMessageError} if the gateway answered, but nothing that could be read
 * @throws {NetworkError} if the network does not carry the request
 * @throws what `accept` throws, except MalformedMessageError
 * @throws the signal's reason on abort
 */
export async function askGateway<T>(options: GatewayRequest<T>): Promise<GatewayAnswer<T>> {
  const { network, gateway, localIp, request, protocol, accept, waitsMs, signal } = options;
  using socket = await network.bindUdp({ ip: localIp, port: 0 });
  const { answer } = await exchangeWithServer(socket, {
    to: gateway,
    isFromServer: (from) => isFrom(from, gateway),
    request,
    protocol,
    accept,
    waitsMs,
    signal,
  });
  return { answer, receivedAtMs: performance.now() };
}

/** RFC 6887 §8.1.1: makes each wait up to a tenth shorter or longer, so that hosts do not ask in step. */
export function withJitter(waitsMs: readonly number[], random: () => number): number[] {
  return waitsMs.map((waitMs) => Math.round(waitMs * (0.9 + 0.2 * random())));
}

/**
 * Whether a datagram is from the address and port that were asked. The system reports sources without a zone, which a
 * link-local gateway cannot be asked without.
 */
function isFrom(source: TransportAddress, asked: TransportAddress): boolean {
  return source.port === asked.port && isSameIp(source.ip, asked.ip);
}

/** Whether two addresses are the same, apart from their zones. */
export function isSameIp(a: string, b: string): boolean {
  return a === b || formatIp(ipToBytes(a)) === formatIp(ipToBytes(b));
}

/** The addresses that a NAT translates: others have no gateway to guess. */
async function localIpv4s(
  addresses: readonly LocalAddress[] | undefined,
  localIpv4: () => Promise<string | undefined>,
): Promise<string[]> {
  const known = addresses?.map(({ ip }) => ip) ?? [await localIpv4()];
  return known.filter((ip) => ip !== undefined)
    .filter((ip) => ipFamily(ip) === 4 && TRANSLATED_SCOPES.includes(ipScope(ip)));
}

/** The address from which to ask the gateway: the one that shares the longest prefix with it. */
function nearestAddress(
  gateway: string,
  addresses: readonly LocalAddress[],
): string | undefined {
  const family = ipFamily(gateway);
  const [nearest] = addresses.map(({ ip }) => ip)
    .filter((ip) => ipFamily(ip) === family && isUsable(ip, family, gateway))
    .map((ip) => ({ ip, bits: preference(ip, gateway) }))
    .toSorted((a, b) => b.bits - a.bits);
  return nearest?.ip;
}

/** For IPv4 an address on the gateway's link will do; a pinhole needs one that the internet can reach. */
function isUsable(ip: string, family: IpFamily, gateway: string): boolean {
  const scope = ipScope(ip);
  if (scope === "loopback") return ipScope(gateway) === "loopback";
  return family === 4 || scope !== "link-local";
}

/** How many leading bits are the same. Global IPv6 addresses come before all others. */
function preference(ip: string, gateway: string): number {
  const own = ipToBytes(ip);
  const other = ipToBytes(gateway);
  let bits = 0;
  while (bits < own.length * 8 && bitAt(own, bits) === bitAt(other, bits)) bits++;
  return bits + (own.length === 16 && ipScope(ip) === "global" ? GLOBAL_BONUS : 0);
}

function bitAt(bytes: Uint8Array, index: number): number {
  return (bytes[index >> 3]! >> (7 - index % 8)) & 1;
}

/** RFC 6886 §3.1: 250 ms, doubled each time, nine requests: 127.75 s in all. */
export const RFC6886_WAITS_MS: readonly number[] = [
  250,
  500,
  1000,
  2000,
  4000,
  8000,
  16_000,
  32_000,
  64_000,
];

/**
 * RFC 6887 §8.1.1: IRT 3 s, doubled up to MRT 1024 s. The RFC never stops; these are fourteen requests in 102 minutes,
 * after which a caller that still needs a mapping asks again.
 */
// deno-fmt-ignore
export const RFC6887_WAITS_MS: readonly number[] = [
  3000, 6000, 12_000, 24_000, 48_000, 96_000, 192_000, 384_000, 768_000,
  1_024_000, 1_024_000, 1_024_000, 1_024_000, 1_024_000,
];

/**
 * For a person who waits for the answer: the first three waits of RFC 6886, 1.75 s in all. With PCP they depart from
 * RFC 6887 §8.1.1, which says that a request SHOULD NOT be repeated within 3 s: gateways are a millisecond away. In the
 * background use the waits of the RFC.
 */
export const INTERACTIVE_WAITS_MS: readonly number[] = RFC6886_WAITS_MS.slice(0, 3);

/** For a mapping: as many requests, and another one, but five seconds for a first answer. Chosen by us, as for UPnP. */
export const PATIENT_WAITS_MS: readonly number[] = [...INTERACTIVE_WAITS_MS, 3250];

/** Chosen by us: a gateway accepts a connection within a few milliseconds, if it does. */
const ADDRESS_TIMEOUT_MS = 500;

const USUAL_HOSTS = [1, 254];

const TRANSLATED_SCOPES = ["private", "shared"];

/** More than any prefix has bits. */
const GLOBAL_BONUS = 1000;
