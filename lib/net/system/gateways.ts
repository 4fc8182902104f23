/**
 * The default gateways of the system. Deno has no API for them; Linux provides its routing tables as files.
 *
 * @module
 */

import { formatIp, parseIp } from "../address.ts";
import type { DefaultGateway } from "../network.ts";

/** As {@linkcode Network.defaultGateways}. */
export async function defaultGateways(): Promise<DefaultGateway[] | undefined> {
  const [ipv4, ipv6] = await Promise.all([
    readIfGranted("/proc/net/route"),
    readIfGranted("/proc/net/ipv6_route"),
  ]);
  if (ipv4 === undefined) return undefined;
  return [...parseIpv4Gateways(ipv4), ...parseIpv6Gateways(ipv6 ?? "")];
}

/** The default gateways in `/proc/net/route`, lowest metric first. Lines in an unknown format are skipped. */
export function parseIpv4Gateways(text: string): DefaultGateway[] {
  return inOrder(
    fieldsOf(text).flatMap((fields) => {
      const [interfaceName, destination, gateway, flags, , , metric, mask] = fields;
      if (destination !== "00000000" || mask !== "00000000" || !isGateway(flags)) return [];
      const bytes = hexBytes(gateway, 4);
      if (interfaceName === undefined || bytes === undefined) return [];
      // The kernel prints the number in the byte order of the processor. Deno runs on little-endian ones only.
      return [{ ip: formatIp(bytes.reverse()), interfaceName, metric: Number(metric) }];
    }),
  );
}

/** The default gateways in `/proc/net/ipv6_route`, lowest metric first. Lines in an unknown format are skipped. */
export function parseIpv6Gateways(text: string): DefaultGateway[] {
  return inOrder(
    fieldsOf(text).flatMap((fields) => {
      const [destination, prefixLength, , , gateway, metric, , , flags, interfaceName] = fields;
      if (destination !== "0".repeat(32) || prefixLength !== "00" || !isGateway(flags)) return [];
      const bytes = hexBytes(gateway, 16);
      if (interfaceName === undefined || bytes === undefined) return [];
      const ip = formatIp(bytes);
      const zone = /^fe[89ab]/.test(ip) ? `%${interfaceName}` : "";
      return [{ ip: parseIp(ip + zone), interfaceName, metric: parseInt(metric ?? "", 16) }];
    }),
  );
}

/**
 * Reads a file if that is permitted. Deno 2.9 reports that `--allow-read` is enough for these files, but then refuses
 * without `--allow-all`. It does not prompt.
 */
async function readIfGranted(path: string): Promise<string | undefined> {
  if (Deno.permissions.querySync({ name: "read", path }).state !== "granted") return undefined;
  try {
    return await Deno.readTextFile(path);
  } catch {
    return undefined; // not Linux, no IPv6, or not permitted after all
  }
}

interface Route extends DefaultGateway {
  readonly metric: number;
}

function inOrder(routes: readonly Route[]): DefaultGateway[] {
  return routes.toSorted((a, b) => a.metric - b.metric)
    .map(({ ip, interfaceName }) => ({ ip, interfaceName }));
}

function fieldsOf(text: string): string[][] {
  return text.split("\n").map((line) => line.trim().split(/\s+/));
}

/** Whether a route is up, has a gateway, and does not reject packets. */
function isGateway(flags: string | undefined): boolean {
  if (flags === undefined || !/^[0-9a-f]{1,8}$/i.test(flags)) return false;
  return (parseInt(flags, 16) & (RTF_UP | RTF_GATEWAY | RTF_REJECT)) === (RTF_UP | RTF_GATEWAY);
}

function hexBytes(hex: string | undefined, length: number): Uint8Array | undefined {
  if (hex?.length !== 2 * length || !/^[0-9a-f]+$/i.test(hex)) return undefined;
  return Uint8Array.from(
    { length },
    (_, index) => parseInt(hex.slice(2 * index, 2 * index + 2), 16),
  );
}

/** linux/route.h. */
const RTF_UP = 0x1;
const RTF_GATEWAY = 0x2;
const RTF_REJECT = 0x200;
