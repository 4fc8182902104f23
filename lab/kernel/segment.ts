/**
 * Segments: which hosts and NATs are attached to which LAN, and the routes on each.
 *
 * @module
 */

import type { LabLink } from "./link.ts";
import type { DualStackNat } from "../model/dual_stack_nat.ts";

/** A LAN or the public internet: nodes that reach each other without a NAT. */
export interface Segment {
  /** The NAT towards the internet; `undefined` on the public internet. */
  above: NatNode | undefined;
  readonly gatewayIp: string | undefined;
  /** Nodes by destination address. */
  readonly routes: Map<string, LabNode>;
}

/** A node on a segment. */
export type LabNode = HostNode | NatNode;

/** A host, and its link. */
export interface HostNode {
  readonly kind: "host";
  readonly name: string;
  readonly outside: Segment;
  readonly link: LabLink;
}

/** A NAT, its link, and the segment behind it. */
export interface NatNode {
  readonly kind: "nat";
  readonly name: string;
  readonly outside: Segment;
  readonly inside: Segment;
  readonly link: LabLink;
  readonly nat: DualStackNat;
}

/** Adds a route to a segment, and to those above it as long as no NAT translates the address. */
export function addRoute(segment: Segment, ip: string, node: LabNode): void {
  segment.routes.set(ip, node);
  const { above } = segment;
  if (above !== undefined && !above.nat.translates(ip)) addRoute(above.outside, ip, above);
}
