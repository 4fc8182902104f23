/**
 * Who is attached to what, and which addresses are known where.
 *
 * @module
 */

import { ipFamily } from "../../lib/net/address.ts";
import type { Link } from "./link.ts";
import type { Nat } from "../model/nat.ts";

/** A LAN, or the public internet: the nodes that reach each other without a NAT. */
export interface Segment {
  /** The NAT that leads on; none on the public internet. */
  above: NatNode | undefined;
  readonly gatewayIp: string | undefined;
  /** Who gets what, by destination address. */
  readonly routes: Map<string, Node>;
}

/** Who stands on a segment. */
export type Node = HostNode | NatNode;

/** A host and its link. */
export interface HostNode {
  readonly kind: "host";
  readonly name: string;
  readonly outside: Segment;
  readonly link: Link;
}

/** A NAT, its link and what is inside it. */
export interface NatNode {
  readonly kind: "nat";
  readonly name: string;
  readonly outside: Segment;
  readonly inside: Segment;
  readonly link: Link;
  readonly ipv4: Nat;
  /** Filters without translating. */
  readonly ipv6: Nat;
}

/** Makes an address known on a segment, and above it as far as nothing translates it. */
export function addRoute(segment: Segment, ip: string, node: Node): void {
  segment.routes.set(ip, node);
  const { above } = segment;
  const isTranslated = ipFamily(ip) === 4 && above?.ipv4.behavior.mapping !== "none";
  if (above !== undefined && !isTranslated) addRoute(above.outside, ip, above);
}
