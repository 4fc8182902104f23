/**
 * What scenes share: hosts behind NATs of their own, and a STUN server with two addresses.
 *
 * ```
 *   host a ── a/nat ──┐
 *                     ├── internet ── stun (203.0.113.10, 203.0.113.11)
 *   host b ── b/nat ──┘
 * ```
 *
 * @module
 */

import { serveStun, type StunServer } from "../../lib/stun/server/server.ts";
import type { Nat } from "../../lab/model/nat.ts";
import type { NatBehavior } from "../../lab/model/nat_behavior.ts";
import type { Host } from "../simnet/host.ts";
import type { Internet } from "../simnet/internet.ts";
import type { LinkBehavior } from "../simnet/link.ts";
import type { Router } from "../simnet/router.ts";

/** The STUN server's addresses, as two servers of options that take servers. */
export const STUN_SERVERS: readonly string[] = ["203.0.113.10", "203.0.113.11:3479"];

/** A host, and the NAT that it is behind. */
export interface Home {
  readonly host: Host;
  readonly nat: Nat;
  readonly router: Router;
}

/** Adds a host behind a NAT of its own. */
export function addHome(
  internet: Internet,
  name: string,
  options: { behavior: NatBehavior; link: LinkBehavior; reusePort?: boolean },
): Home {
  const { behavior, link, reusePort = true } = options;
  const router = internet.router(`${name}/nat`, { behavior, link });
  return { host: internet.host(name, { behind: router, reusePort }), nat: router.nat, router };
}

/** Adds the host `stun` and serves STUN on its two addresses. */
export async function serveSceneStun(internet: Internet, link: LinkBehavior): Promise<StunServer> {
  const [address, alternateAddress] = STUN_IPS;
  const { network } = internet.host("stun", { addresses: STUN_IPS, link });
  return await serveStun({ network, address, alternateAddress });
}

/** A quarter of a round trip: hosts are two links apart, each of which is crossed twice. */
export function linkOfRoundTrip(rttMs: number): LinkBehavior {
  return { delayMs: rttMs / 4 };
}

const STUN_IPS = ["203.0.113.10", "203.0.113.11"] as const;
