/**
 * Binding sockets: which addresses and ports are valid and free.
 *
 * @module
 */

import { NetworkError } from "../../lib/base/errors.ts";
import {
  formatTransportAddress,
  ipFamily,
  ipScope,
  type TransportAddress,
} from "../../lib/net/address.ts";
import type { HostSystem } from "./host.ts";
import { type Random, randomInteger } from "./random.ts";

/** Whether a socket bound to `local` receives packets to `address`. `::` stands for IPv6 only. */
export function covers(local: TransportAddress, address: TransportAddress): boolean {
  if (local.port !== address.port || ipFamily(local.ip) !== ipFamily(address.ip)) return false;
  return local.ip === address.ip || ipScope(local.ip) === "unspecified";
}

/**
 * Checks that the host can bind the address.
 *
 * @param verb the action, for the message
 * @throws {NetworkError} `address-not-available`
 */
export function requireOwn(system: HostSystem, local: TransportAddress, verb: string): void {
  if (ipScope(local.ip) === "unspecified" || system.owns(local.ip)) return;
  throw new NetworkError(
    `Cannot ${verb} ${formatTransportAddress(local)}: not an address of ${system.name}`,
    "address-not-available",
  );
}

/** A random free port of Linux's default ephemeral range (`ip_local_port_range`); `undefined` if there is none. */
export function ephemeralPort(
  random: Random,
  isFree: (port: number) => boolean,
): number | undefined {
  const size = LAST_EPHEMERAL - FIRST_EPHEMERAL + 1;
  const start = randomInteger(random, 0, size - 1);
  for (let i = 0; i < size; i++) {
    const port = FIRST_EPHEMERAL + (start + i) % size;
    if (isFree(port)) return port;
  }
  return undefined;
}

const FIRST_EPHEMERAL = 32_768;
const LAST_EPHEMERAL = 60_999;
