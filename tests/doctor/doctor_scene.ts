/**
 * Scenes for `doctor`: two networks in the simulated internet, with a STUN server and a rendezvous beyond them.
 *
 * ```
 *   host a ── a/nat ──┐                 ┌── stun (203.0.113.10, 203.0.113.11)
 *                     ├── internet ─────┤
 *   host b ── b/nat ──┘                 └── meet (203.0.113.20), port 3480
 * ```
 *
 * @module
 */

import { examineNetwork, type ExamineOptions } from "../../lib/doctor/examine.ts";
import type { DoctorReport } from "../../lib/doctor/report_message.ts";
import { serveRendezvous } from "../../lib/signal/rendezvous/server.ts";
import { NAT_BEHAVIORS, type NatBehavior, natBehavior } from "../../lab/model/nat_behavior.ts";
import { linkOfRoundTrip, serveSceneStun, STUN_SERVERS } from "../scenes/homes.ts";
import type { Host } from "../simnet/host.ts";
import type { Internet } from "../simnet/internet.ts";
import { simulate } from "../simnet/simulate.ts";
import type { VirtualTime } from "../simnet/virtual_time.ts";

/** A network of the table. */
export interface NetworkKind {
  readonly behavior: NatBehavior;
  readonly blocks?: readonly ("udp" | "tcp")[];
}

const { symmetric } = NAT_BEHAVIORS;

/** The networks that pairs are made of. */
export const NETWORKS = {
  firewall: { behavior: NAT_BEHAVIORS.firewall },
  fullCone: { behavior: NAT_BEHAVIORS.fullCone },
  restricted: { behavior: NAT_BEHAVIORS.addressRestricted },
  home: { behavior: NAT_BEHAVIORS.portRestricted },
  preserving: { behavior: NAT_BEHAVIORS.symmetricPreserving },
  sequential: { behavior: NAT_BEHAVIORS.symmetricSequential },
  block: { behavior: natBehavior({ portRange: [20_000, 21_023] }, symmetric) },
  random: { behavior: symmetric },
  noUdp: { behavior: NAT_BEHAVIORS.portRestricted, blocks: ["udp"] },
  noUdpRandom: { behavior: symmetric, blocks: ["udp"] },
  nothing: { behavior: NAT_BEHAVIORS.portRestricted, blocks: ["udp", "tcp"] },
} as const satisfies Record<string, NetworkKind>;

/** The name of a network. */
export type NetworkName = keyof typeof NETWORKS;

/** What each test gets. */
export interface DoctorScene {
  readonly internet: Internet;
  readonly time: VirtualTime;
  readonly a: Host;
  readonly b: Host;
  /** Runs the examination of `doctor` on a host. */
  examine(host: Host, options?: Partial<ExamineOptions>): Promise<DoctorReport>;
}

/** Runs a test in virtual time. */
export async function inDoctorScene<T>(
  { a, b = NETWORKS.home, seed }: {
    readonly a: NetworkKind;
    readonly b?: NetworkKind;
    readonly seed?: number;
  },
  test: (scene: DoctorScene) => Promise<T>,
): Promise<T> {
  return await simulate(async ({ internet, time }) => {
    const link = linkOfRoundTrip(50);
    await using _stun = await serveSceneStun(internet, link);
    const meet = internet.host("meet", { addresses: [MEET_IP], link });
    await using _meet = await serveRendezvous({
      network: meet.network,
      local: { ip: MEET_IP, port: 3480 },
    });
    const home = (name: "a" | "b", { behavior, blocks }: NetworkKind) => {
      const router = internet.router(`${name}/nat`, { behavior, blocks, link });
      return internet.host(name, { behind: router, reusePort: true });
    };
    return await test({
      internet,
      time,
      a: home("a", a),
      b: home("b", b),
      examine: ({ network }, options = {}) =>
        examineNetwork({
          network,
          servers: STUN_SERVERS,
          signaling: [MEET_URL],
          isPublic: false,
          ...options,
        }),
    });
  }, { seed, limitMs: 600_000 });
}

const MEET_IP = "203.0.113.20";

/** Where the two sides meet. */
export const MEET_URL = `ws://${MEET_IP}:3480`;
