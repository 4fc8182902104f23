/**
 * Runs a UDP NAT test over one IP family: carries out what `udp_plan.ts` decides.
 *
 * @module
 */

import type { NetworkError } from "../base/errors.ts";
import { type IpFamily, sameTransportAddress, type TransportAddress } from "../net/address.ts";
import type { Network } from "../net/network.ts";
import type { BehaviorVerdict } from "./behavior.ts";
import { Hairpin } from "./hairpinning.ts";
import { OwnAddresses } from "./own_addresses.ts";
import { Pace } from "./pace.ts";
import { firstErrorCode, mappingSamples, type Probe } from "./probe.ts";
import { nextUdpStep, type UdpTest, type UdpVerdict } from "./udp_plan.ts";
import { UdpSockets } from "./udp_sockets.ts";

/** How to run the test. */
export interface ProbeUdpOptions {
  readonly network: Network;
  readonly family: IpFamily;
  /** Primary addresses of STUN servers, best first; at least one. */
  readonly servers: readonly TransportAddress[];
  readonly timeoutMs: number;
  /** Send packets to the own external address, and wait a moment for them. */
  readonly hairpinning: boolean;
  readonly signal?: AbortSignal;
}

/** What the test found. */
export interface UdpResult extends UdpVerdict {
  /** The local port that the external address belongs to. */
  readonly localPort: number;
  readonly isOwnAddress: boolean;
  readonly hairpinning: boolean | "unknown";
  readonly rewritesPayload: boolean | "unknown";
  readonly rttMs: number | null;
  readonly elapsedMs: number;
  readonly packetsSent: number;
  /** Why the system refused to send anything, if it did. */
  readonly sendFault: NetworkError | undefined;
  /** The code of the first error that a server answered with. */
  readonly errorCode: number | undefined;
  /** A server answered with something that is not STUN. */
  readonly heardNoise: boolean;
}

/**
 * Runs the test.
 *
 * @throws {NetworkError} if no socket can be opened
 */
export async function probeUdp(options: ProbeUdpOptions): Promise<UdpResult> {
  const { network, servers, signal } = options;
  const startedAt = performance.now();
  const now = () => performance.now() - startedAt;
  await using sockets = new UdpSockets(network, options.family, now);
  await sockets.openConsecutive(NEIGHBOURS);
  const localPort = await sockets.localPort("mapping");
  const own = new OwnAddresses(network, localPort);
  // Not the mapping socket: some firewalls end the sessions of a port that sends to the own external address.
  const hairpin = new Hairpin(NEIGHBOURS[0]!, NEIGHBOURS[1]!);
  let decidedAtMs: number | undefined;

  for (;;) {
    await own.learn(mappingSamples(sockets.probes).map(({ mapped }) => mapped));
    const nowMs = now();
    const test: UdpTest = {
      servers,
      burst: [...NEIGHBOURS, ...STRANGERS],
      probes: sockets.probes,
      isOwn: own.isOwn,
      timeoutMs: options.timeoutMs,
    };
    const step = nextUdpStep(test, nowMs);
    // Where the system cannot send at all, waiting for answers makes no sense.
    const isDecided = step.done || sockets.fault !== undefined;
    if (isDecided) decidedAtMs ??= nowMs;
    if (!isDecided) await sockets.send(step.send);
    const hairpins = options.hairpinning ? hairpin.due(sockets.probes, nowMs) : [];
    for (const { from, to } of hairpins) await sockets.sendHairpin(from, to);
    const hairpinning = sockets.hairpinned || hairpin.verdict(nowMs);
    const isAwaited = hairpin.isUnderWay && hairpinning === "unknown";
    if (decidedAtMs !== undefined && !isAwaited) {
      return {
        ...step.verdict,
        localPort,
        isOwnAddress: step.verdict.external !== null && own.isOwn(step.verdict.external),
        hairpinning: hairpinning === true || silentHairpin(hairpinning, step.verdict.mapping),
        rewritesPayload: rewritesPayload(sockets.probes),
        rttMs: rttMs(test, step.verdict),
        elapsedMs: decidedAtMs,
        packetsSent: sockets.packetsSent,
        sendFault: sockets.fault,
        errorCode: firstErrorCode(sockets.probes),
        heardNoise: sockets.heardNoise,
      };
    }
    // What was just sent changes when the next step is due: look again before waiting.
    if (isDecided || step.send.length === 0) {
      const hairpinAtMs = hairpin.wakeAtMs(nowMs);
      await sockets.wait(isDecided ? hairpinAtMs : Math.min(step.wakeAtMs, hairpinAtMs), signal);
    }
  }
}

/** Between ports that were mapped for other destinations, a NAT that hairpins may let nothing back in. */
function silentHairpin(
  hairpinning: false | "unknown",
  { behavior }: BehaviorVerdict,
): false | "unknown" {
  return behavior === "endpoint-independent" || behavior === "none" ? hairpinning : "unknown";
}

function rewritesPayload(probes: readonly Probe[]): boolean | "unknown" {
  const replies = probes.flatMap(({ reply }) => reply?.kind === "success" ? [reply] : []);
  if (replies.some(({ rewritten }) => rewritten !== undefined)) return true;
  return replies.length > 0 ? false : "unknown";
}

/** The shortest round trip to the server that the verdict rests on. */
function rttMs(test: UdpTest, { server }: UdpVerdict): number | null {
  const index = test.servers.findIndex((primary) =>
    server && sameTransportAddress(primary, server)
  );
  return new Pace(test.probes, 0).roundTripsMs(index)[0] ?? null;
}

/** Sockets on consecutive ports, and on any: for the patterns that depend on the local port. */
const NEIGHBOURS = ["burst 1", "burst 2", "burst 3", "burst 4"];
const STRANGERS = ["burst 5", "burst 6"];
