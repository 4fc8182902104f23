/**
 * Who is attached to what, and which addresses are known where.
 *
 * @module
 */

import type { LabLink } from "./link.ts";
import type { DualStackNat } from "../model/dual_stack_nat.ts";

/** A LAN, or the public internet: the nodes that reach each other without a NAT. */
export interface Segment {
  /** The NAT that leads on; none on the public internet. */
  above: NatNode | undefined;
  readonly gatewayIp: string | undefined;
  /** Who gets what, by destination address. */
  readonly routes: Map<string, LabNode>;
}

/** Who stands on a segment. */
export type LabNode = HostNode | NatNode;

/** A host and its link. */
export interface HostNode {
  readonly kind: "host";
  readonly name: string;
  readonly outside: Segment;
  readonly link: LabLink;
}

/** A NAT, its link and what is inside it. */
export interface NatNode {
  readonly kind: "nat";
  readonly name: string;
  readonly outside: Segment;
  readonly inside: Segment;
  readonly link: LabLink;
  readonly nat: DualStackNat;
}

/** Makes an address known on a segment, and above it as far as nothing translates it. */
export function addRoute(segment: Segment, ip: string, node: LabNode): void {
  segment.routes.set(ip, node);
  const { above } = segment;
  if (above !== undefined && !above.nat.translates(ip)) addRoute(above.outside, ip, above);
}
