/**
 * Finding this host's gateways, and the address from which to ask each of them.
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
import type { LocalAddress, Network } from "../net/network.ts";

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
 */
export async function findGateways(options: FindGatewaysOptions): Promise<Gateway[]> {
  const { network, known = [], signal } = options;
  const addresses = await network.localAddresses();
  const defaults = known.length > 0
    ? known.map((ip) => ({ ip, interfaceName: undefined }))
    : await network.defaultGateways();
  // The kernel is asked for its source address only once, and only if nothing else names it.
  let found: Promise<string | undefined> | undefined;
  const discoverLocalIpv4v4 = () => found ??= discoverLocalIpv4(network, { signal });

  if (defaults === undefined) {
    return guessGateways(await localIpv4s(addresses, discoverLocalIpv4v4));
  }
  const gateways: Gateway[] = [];
  for (const { ip, interfaceName } of defaults) {
    const localIp = addresses === undefined
      ? ipFamily(ip) === 4 ? await discoverLocalIpv4v4() : undefined
      : nearestAddress(
        ip,
        addresses.filter((one) => {
          return interfaceName === undefined || one.interfaceName === interfaceName;
        }),
      );
    if (localIp === undefined) continue;
    gateways.push({ ip, localIp, source: known.length > 0 ? "caller" : "routes" });
  }
  return gateways;
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

/**
 * Whether a datagram is from the address and port that were asked. The system reports sources without a zone, which a
 * link-local gateway cannot be asked without.
 */
export function isFrom(source: TransportAddress, asked: TransportAddress): boolean {
  return source.port === asked.port && isSameIp(source.ip, asked.ip);
}

/** Whether two addresses are the same, apart from their zones. */
export function isSameIp(a: string, b: string): boolean {
  return a === b || formatIp(ipToBytes(a)) === formatIp(ipToBytes(b));
}

/** The addresses that a NAT translates: others have no gateway to guess. */
async function localIpv4s(
  addresses: readonly LocalAddress[] | undefined,
  discoverLocalIpv4v4: () => Promise<string | undefined>,
): Promise<string[]> {
  const known = addresses?.map(({ ip }) => ip) ?? [await discoverLocalIpv4v4()];
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

const USUAL_HOSTS = [1, 254];

const TRANSLATED_SCOPES = ["private", "shared"];

/** More than any prefix has bits. */
const GLOBAL_BONUS = 1000;
