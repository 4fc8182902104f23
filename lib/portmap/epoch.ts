/**
 * Whether a gateway has lost its table of mappings, by its clock: RFC 6886 §3.6 and RFC 6887 §8.5.
 *
 * A host that slept has a clock that stood still, and believes in a loss that was none. What follows is a renewal
 * before its time, which does no harm.
 *
 * @module
 */

import type { GatewayEpoch } from "./mapper.ts";

/** Whether a PCP server's clock went on as ours did; if not, its mappings are to be made anew. RFC 6887 §8.5. */
export function isPcpEpochConsistent(previous: GatewayEpoch, current: GatewayEpoch): boolean {
  if (current.seconds + 1 < previous.seconds) return false; // a second of grace for reordering
  const clientDelta = secondsBetween(previous, current);
  const serverDelta = current.seconds - previous.seconds;
  return clientDelta + 2 >= serverDelta - serverDelta / 16 &&
    serverDelta + 2 >= clientDelta - clientDelta / 16;
}

/** Whether a NAT-PMP gateway's clock went on at 7/8 of the speed of ours at least, but for 2 s. RFC 6886 §3.6. */
export function isNatPmpEpochConsistent(previous: GatewayEpoch, current: GatewayEpoch): boolean {
  const expected = previous.seconds + secondsBetween(previous, current) * 7 / 8;
  return current.seconds >= expected - 2;
}

function secondsBetween(previous: GatewayEpoch, current: GatewayEpoch): number {
  return (current.receivedAtMs - previous.receivedAtMs) / 1000;
}
