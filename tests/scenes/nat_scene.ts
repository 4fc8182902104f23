/**
 * A host behind a simulated NAT, and our own STUN server outside.
 *
 * @module
 */

import type { NatReport } from "../../lib/nat/behavior.ts";
import { testNat, type TestNatOptions } from "../../lib/nat/report.ts";
import { serveStun } from "../../lib/stun/server/server.ts";
import { NAT_BEHAVIORS, type NatBehavior, natBehavior } from "../../lab/model/nat_behavior.ts";
import type { Host, HostOptions } from "../simnet/host.ts";
import type { Internet } from "../simnet/internet.ts";
import type { LinkBehavior } from "../simnet/link.ts";
import type { Router, RouterOptions } from "../simnet/router.ts";
import { simulate } from "../simnet/simulate.ts";
import type { VirtualTime } from "../simnet/virtual_time.ts";

/** The addresses of our server, and how to name it. */
export const SERVER_IPS = ["203.0.113.9", "203.0.113.10"] as const;
export const PRIMARY = `${SERVER_IPS[0]}:3478`;
export const ALTERNATE = `${SERVER_IPS[1]}:3479`;

/** What is between the host and the server. */
export interface Scene {
  readonly seed?: number;
  /** What differs from a port-restricted NAT. */
  readonly nat?: Partial<NatBehavior>;
  /** Between the NAT and the internet; 25.5 ms each way unless told, so that the round trip is 51 ms. */
  readonly link?: LinkBehavior;
  readonly router?: Partial<RouterOptions>;
  readonly host?: HostOptions;
  readonly resolveMs?: number;
}

/** What a test finds in a scene. */
export interface World {
  readonly internet: Internet;
  readonly time: VirtualTime;
  readonly home: Router;
  readonly client: Host;
  readonly server: Host;
  /** Tests the NAT from the client; with our server unless told otherwise. */
  test(options?: TestNatOptions): Promise<NatReport>;
}

/** Runs a job in a scene with our server, which is closed afterwards. */
export function withServer<T>(scene: Scene, job: (world: World) => Promise<T>): Promise<T> {
  return withScene(scene, async (world) => {
    await using _server = await serveStun({
      network: world.server.network,
      address: SERVER_IPS[0],
      alternateAddress: SERVER_IPS[1],
    });
    return await job(world);
  });
}

/** Runs a job in a scene in which nothing serves STUN yet. */
export function withScene<T>(scene: Scene, job: (world: World) => Promise<T>): Promise<T> {
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

/** A host with a public address of its own, behind nothing or behind a firewall. */
export const FIREWALL = NAT_BEHAVIORS.firewall;
