/**
 * NAT test scenes: a host behind a NAT in the simulated internet, and a STUN server outside.
 *
 * @module
 */

import type { NatReport } from "../../lib/nat/behavior.ts";
import { testNat, type TestNatOptions } from "../../lib/nat/report.ts";
import { serveStun } from "../../lib/stun/server/server.ts";
import { type NatBehavior, natBehavior } from "../../lab/model/nat_behavior.ts";
import type { Host, HostOptions } from "../simnet/host.ts";
import type { Internet } from "../simnet/internet.ts";
import type { LinkBehavior } from "../simnet/link.ts";
import type { Router, RouterOptions } from "../simnet/router.ts";
import { simulate } from "../simnet/simulate.ts";
import type { VirtualTime } from "../simnet/virtual_time.ts";

/** The addresses of the STUN server, and the names of its primary and alternate address. */
export const SERVER_IPS = ["203.0.113.9", "203.0.113.10"] as const;
export const PRIMARY = `${SERVER_IPS[0]}:3478`;
export const ALTERNATE = `${SERVER_IPS[1]}:3479`;

/** What is between the host and the server. */
export interface NatScene {
  readonly seed?: number;
  /** Differences from a port-restricted NAT. */
  readonly nat?: Partial<NatBehavior>;
  /** Between the NAT and the internet. Default: 25.5 ms each way, a round trip of 51 ms. */
  readonly link?: LinkBehavior;
  readonly router?: Partial<RouterOptions>;
  readonly host?: HostOptions;
  readonly resolveMs?: number;
}

/** A scene as tests use it. */
export interface RunningNatScene {
  readonly internet: Internet;
  readonly time: VirtualTime;
  readonly home: Router;
  readonly client: Host;
  readonly server: Host;
  /** Runs a NAT test on the client, by default with the STUN server. */
  test(options?: TestNatOptions): Promise<NatReport>;
}

/** Runs a job in a scene in which the server serves STUN. */
export function withServer<T>(
  scene: NatScene,
  job: (world: RunningNatScene) => Promise<T>,
): Promise<T> {
  return withScene(scene, async (world) => {
    await using _server = await serveStun({
      network: world.server.network,
      address: SERVER_IPS[0],
      alternateAddress: SERVER_IPS[1],
    });
    return await job(world);
  });
}

/** Runs a job in a scene in which the server does not serve STUN by itself. */
export function withScene<T>(
  scene: NatScene,
  job: (world: RunningNatScene) => Promise<T>,
): Promise<T> {
  return simulate(async ({ internet, time }) => {
    const home = internet.router("home", {
      behavior: natBehavior(scene.nat ?? {}),
      link: { delayMs: 25.5, ...scene.link },
      ...scene.router,
    });
    const client = internet.host("client", { behind: home, ...scene.host });
    const server = internet.host("server", { addresses: SERVER_IPS });
    const test = (options: TestNatOptions = {}) =>
      testNat({ network: client.network, servers: [PRIMARY], ...options });
    return await job({ internet, time, home, client, server, test });
  }, { seed: scene.seed ?? 1, resolveMs: scene.resolveMs });
}
