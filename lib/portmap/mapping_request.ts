/**
 * What holds for every mapping request, whatever the protocol.
 *
 * @module
 */

import { formatTransportAddress } from "../net/address.ts";
import type { MapperName, MappingGrant, MappingRequest } from "./mapper.ts";

/**
 * Checks what a gateway would misunderstand. Port 0 in particular stands for all ports in PCP: the whole host would
 * lie open.
 *
 * @throws {RangeError} if a port or the lifetime is out of range
 */
export function checkRequest(request: MappingRequest): void {
  const { internal, externalPort = internal.port, lifetimeSeconds } = request;
  checkRange("internal port", internal.port, 1, 0xffff);
  checkRange("external port", externalPort, 1, 0xffff);
  checkRange("lifetime", lifetimeSeconds, 1, 0xffff_ffff);
}

/**
 * Checks that a mapper is given back what it granted.
 *
 * @throws {TypeError} if another protocol granted it
 */
export function checkGrant(grant: MappingGrant, mapper: MapperName): void {
  if (grant.mapper === mapper) return;
  throw new TypeError(`Cannot use grant: ${mapper} granted none by ${grant.mapper}`);
}

/** `Cannot map TCP 192.168.1.2:80`, the start of a message. */
export function cannot(verb: string, { protocol, internal }: {
  readonly protocol: "tcp" | "udp";
  readonly internal: MappingRequest["internal"];
}): string {
  return `Cannot ${verb} ${protocol.toUpperCase()} ${formatTransportAddress(internal)}`;
}

/** The request that asks for the same as was granted. */
export function sameAgain(
  grant: MappingGrant,
  lifetimeSeconds: number = grant.lifetimeSeconds,
): MappingRequest {
  const { protocol, internal, external } = grant;
  return { protocol, internal, externalPort: external.port, lifetimeSeconds, description: "" };
}

function checkRange(what: string, value: number, least: number, most: number): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw new RangeError(`Cannot map: ${what} is from ${least} to ${most}, not ${value}`);
}
