/**
 * The gateway's clock: it shows whether the gateway has restarted, and so lost its table of mappings. RFC 6886 §3.6,
 * RFC 6887 §8.5.
 *
 * @module
 */

import type { GatewayEpoch, MappingGrant } from "./mapper.ts";

/** Whether the gateway still has the table in which it made the grant. UPnP has no clock; this returns `true`. */
export function isEpochConsistent(grant: MappingGrant, epoch: GatewayEpoch | undefined): boolean {
  if (grant.epoch === undefined || epoch === undefined) return true;
  const isConsistent = grant.mapper === "pcp" ? isPcpEpochConsistent : isNatPmpEpochConsistent;
  return isConsistent(grant.epoch, epoch);
}

/** RFC 6887 §8.5: whether a PCP server's clock advanced as ours did. If not, it has lost its mappings. */
export function isPcpEpochConsistent(previous: GatewayEpoch, current: GatewayEpoch): boolean {
  if (current.seconds + 1 < previous.seconds) return false; // one second of grace for reordering
  const clientDelta = secondsBetween(previous, current);
  const serverDelta = current.seconds - previous.seconds;
  return clientDelta + 2 >= serverDelta - serverDelta / 16 &&
    serverDelta + 2 >= clientDelta - clientDelta / 16;
}

/** RFC 6886 §3.6: whether a NAT-PMP gateway's clock advanced by at least 7/8 of ours, give or take 2 s. */
export function isNatPmpEpochConsistent(previous: GatewayEpoch, current: GatewayEpoch): boolean {
  const expected = previous.seconds + secondsBetween(previous, current) * 7 / 8;
  return current.seconds >= expected - 2;
}

function secondsBetween(previous: GatewayEpoch, current: GatewayEpoch): number {
  return (current.receivedAtMs - previous.receivedAtMs) / 1000;
}
