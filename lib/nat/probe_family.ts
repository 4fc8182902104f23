/**
 * The NAT test over one IP family: UDP and TCP at once, on ports of their own.
 *
 * @module
 */

import { type IpFamily, ipFamily, ipScope, type TransportAddress } from "../net/address.ts";
import type { Network } from "../net/network.ts";
import { runAll } from "../run_all.ts";
import type { FamilyReport } from "./behavior.ts";
import { tcpReport, udpReport } from "./family_report.ts";
import { testLifetime } from "./lifetime.ts";
import { type Reach, reachTcp } from "./reach.ts";
import { probeTcp, type TcpResult } from "./tcp_probe.ts";
import { probeUdp, type UdpResult } from "./udp_probe.ts";

/** What to test over one family. */
export interface ProbeFamilyOptions {
  readonly network: Network;
  readonly family: IpFamily;
  /** At least one. */
  readonly servers: readonly TransportAddress[];
  readonly transports: readonly ("udp" | "tcp")[];
  readonly timeoutMs: number;
  readonly waitForHairpinning: boolean;
  readonly lifetimeSeconds?: number;
  readonly signal?: AbortSignal;
}

/** The reports: `null` where not asked for, or where the host has no address of this family. */
export interface FamilyReports {
  readonly udp: FamilyReport | null;
  readonly tcp: FamilyReport | null;
  readonly reach: Reach;
  /** Whether a server answered with something that is not STUN. */
  readonly heardNoise: boolean;
}

/** Runs the tests of one family. */
export async function probeFamily(options: ProbeFamilyOptions): Promise<FamilyReports> {
  const { network, transports, servers, lifetimeSeconds } = options;
  const udpDone = new AbortController();
  const [udp, tcp] = await runAll([
    async (signal): Promise<UdpResult | undefined> => {
      try {
        return transports.includes("udp") ? await probeUdp({ ...options, signal }) : undefined;
      } finally {
        udpDone.abort();
      }
    },
    async (signal): Promise<TcpResult | Reach> =>
      transports.includes("tcp")
        ? await probeTcp({ ...options, signal })
        : await reachTcp(network, servers, AbortSignal.any([signal, udpDone.signal])),
  ], options.signal);

  const reach = "mapping" in tcp ? reachOf(tcp) : tcp;
  const lifetime = udp?.server && lifetimeSeconds !== undefined
    ? await testLifetime({ ...options, server: udp.server, maxSeconds: lifetimeSeconds })
    : null;
  const localIp = reach.localIp ?? await onlyLocalIp(network, options.family);
  return {
    udp: udp === undefined || udp.hasNoRoute ? null : udpReport(udp, localIp, lifetime),
    tcp: !("mapping" in tcp) || hasNoRoute(tcp) ? null : tcpReport(tcp),
    reach,
    heardNoise: udp?.heardNoise === true ||
      reach.faults.some(({ reason }) => reason === "not-stun"),
  };
}

function reachOf({ local, dialFaults }: TcpResult): Reach {
  return { faults: dialFaults, ...local && { localIp: local.ip } };
}

function hasNoRoute({ server, dialFaults, connections }: TcpResult): boolean {
  return server === null && dialFaults.length === connections &&
    dialFaults.every(({ reason }) =>
      reason === "unreachable" || reason === "address-not-available"
    );
}

/** The local address, if the interfaces may be listed and only one can be meant. */
async function onlyLocalIp(network: Network, family: IpFamily): Promise<string | undefined> {
  const all = await network.localAddresses() ?? [];
  const usable = all.map(({ ip }) => ip).filter((ip) =>
    ipFamily(ip) === family && !["loopback", "link-local"].includes(ipScope(ip))
  );
  return usable.length === 1 ? usable[0] : undefined;
}
