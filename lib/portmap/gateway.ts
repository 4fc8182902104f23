/**
 * Which gateways to ask, and from which address.
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
  /** A link-local address has its zone, as in `fe80::1%eth0`. */
  readonly ip: string;
  /** This host's address from which to ask; for IPv6 a global one, which is what a pinhole is for. */
  readonly localIp: string;
  /** What is known about it: the routing table names it, the caller does, or gateways often have such addresses. */
  readonly source: "routes" | "caller" | "guess";
}

/** What {@linkcode findGateways} takes. */
export interface FindGatewaysOptions {
  /** The network of the host that looks for them. */
  readonly network: Network;
  /** The gateways that the caller knows; nothing else is looked for if there are any. */
  readonly known?: readonly string[];
  /** Ends the search. */
  readonly signal?: AbortSignal;
}

/**
 * The gateways of this host, of both families: by the routing table where that can be read, and else by what
 * gateways are usually called on a network of this host's address. Needs no permission beyond the network, sends
 * at most one datagram to the link, and takes a fraction of a second.
 *
 * Those from which this host has no address to ask are left out.
 */
export async function findGateways(options: FindGatewaysOptions): Promise<Gateway[]> {
  const { network, known = [], signal } = options;
  const addresses = await network.localAddresses();
  const defaults = known.length > 0
    ? known.map((ip) => ({ ip, interfaceName: undefined }))
    : await network.defaultGateways();
  // What the kernel would send from is asked of it once, and only if nothing else tells.
  let found: Promise<string | undefined> | undefined;
  const findLocalIpv4 = () => found ??= discoverLocalIpv4(network, { signal });

  if (defaults === undefined) return guessGateways(await localIpv4s(addresses, findLocalIpv4));
  const gateways: Gateway[] = [];
  for (const { ip, interfaceName } of defaults) {
    const localIp = addresses === undefined
      ? ipFamily(ip) === 4 ? await findLocalIpv4() : undefined
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
 * The addresses that gateways usually have on networks of 256 addresses: the first, and the last before broadcast.
 *
 * @param localIps of this host, IPv4
 */
export function guessGateways(localIps: readonly string[]): Gateway[] {
  return localIps.flatMap((localIp) => {
    const prefix = localIp.slice(0, localIp.lastIndexOf("."));
    return USUAL_HOSTS.map((host) => `${prefix}.${host}`)
      .filter((ip) => ip !== localIp)
      .map((ip): Gateway => ({ ip, localIp, source: "guess" }));
  });
}

/** Only what a NAT can be in front of. */
async function localIpv4s(
  addresses: readonly LocalAddress[] | undefined,
  findLocalIpv4: () => Promise<string | undefined>,
): Promise<string[]> {
  const known = addresses?.map(({ ip }) => ip) ?? [await findLocalIpv4()];
  return known.filter((ip) => ip !== undefined)
    .filter((ip) => ipFamily(ip) === 4 && TRANSLATED.includes(ipScope(ip)));
}

/** Of the addresses that packets to the gateway may leave from, the one that has most in common with it. */
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

/** A pinhole is for an address that the internet reaches; for IPv4 the gateway's own link is enough. */
function isUsable(ip: string, family: IpFamily, gateway: string): boolean {
  const scope = ipScope(ip);
  if (scope === "loopback") return ipScope(gateway) === "loopback";
  return family === 4 || scope !== "link-local";
}

/** How many leading bits are the same; of IPv6, first whether the address is global. */
function preference(ip: string, gateway: string): number {
  const own = ipToBytes(ip);
  const other = ipToBytes(gateway);
  let bits = 0;
  while (bits < own.length * 8 && bitAt(own, bits) === bitAt(other, bits)) bits++;
  return bits + (own.length === 16 && ipScope(ip) === "global" ? 1000 : 0);
}

function bitAt(bytes: Uint8Array, index: number): number {
  return (bytes[index >> 3]! >> (7 - index % 8)) & 1;
}

const USUAL_HOSTS = [1, 254];

const TRANSLATED = ["private", "shared"];

/**
 * Whether a datagram is from the very address and port that were asked. The system leaves the zone out of where
 * datagrams come from, though a link-local gateway cannot be asked without.
 */
export function isFrom(source: TransportAddress, asked: TransportAddress): boolean {
  return source.port === asked.port && isSameIp(source.ip, asked.ip);
}

/** Whether two addresses are the same but for their zones. */
export function isSameIp(a: string, b: string): boolean {
  return a === b || formatIp(ipToBytes(a)) === formatIp(ipToBytes(b));
}
