/**
 * Mapping lifetime: how long an idle UDP mapping lives (RFC 5780 §4.6), measured in one parallel pass.
 *
 * Several sockets each create a mapping at the same moment and then stay silent, each for a different time. When its time
 * is over, another socket asks the server to answer to that mapping (RESPONSE-PORT). If the answer arrives, the mapping
 * was still alive. The whole test takes as long as the longest silence.
 *
 * @module
 */

import type { IpFamily, TransportAddress } from "../net/address.ts";
import type { Network } from "../net/network.ts";
import type { FamilyDetails } from "./behavior.ts";
import { bindingReply, type Probe, type ProbeSpec, RetransmissionTiming } from "./probe.ts";
import { UdpSockets } from "./udp.ts";
import type { ScheduledProbe } from "./udp_filtering_plan.ts";

/** How to run the test. */
export interface TestLifetimeOptions {
  readonly network: Network;
  readonly family: IpFamily;
  readonly server: TransportAddress;
  /** The longest silence. */
  readonly maxSeconds: number;
  readonly signal?: AbortSignal;
}

/**
 * The longest silence that a mapping survived, and the shortest that it did not; `null` if the server does not direct
 * answers to another port.
 *
 * @throws {NetworkError} if no socket can be opened
 */
export async function testLifetime(
  options: TestLifetimeOptions,
): Promise<FamilyDetails["lifetimeSeconds"]> {
  const { network, family, server, maxSeconds, signal } = options;
  const startedAt = performance.now();
  const now = () => performance.now() - startedAt;
  await using sockets = new UdpSockets(network, family, now);
  const silences = silencesSeconds(maxSeconds);
  for (;;) {
    const timing = new RetransmissionTiming(sockets.probes, now());
    const scheduled = silences.flatMap((seconds) =>
      nextProbes(seconds, server, sockets.probes, timing)
    );
    if (scheduled.length === 0) return verdict(silences, server, sockets.probes, timing);
    const due = scheduled.filter(({ atMs }) => atMs <= timing.nowMs).map(({ spec }) => spec);
    await sockets.send(due);
    if (due.length > 0) continue;
    await sockets.wait(Math.min(...scheduled.map(({ atMs }) => atMs)), signal);
  }
}

/**
 * The silences to test: 0, then doubling from half a second. The silence of 0 shows whether the server directs its
 * answers at all; if it does not, a missing answer proves nothing.
 */
function silencesSeconds(maxSeconds: number): number[] {
  const silences = [0];
  for (let seconds = 0.5; seconds < maxSeconds; seconds *= 2) silences.push(seconds);
  return [...silences, maxSeconds];
}

/** First creates the mapping; after the silence asks for an answer to it, and for one to the asking socket. */
function nextProbes(
  seconds: number,
  server: TransportAddress,
  probes: readonly Probe[],
  timing: RetransmissionTiming,
): ScheduledProbe[] {
  const idle = bindSpec(idleSocket(seconds), server);
  const isCreated = timing.tries(idle).some((probe) => bindingReply(probe) !== undefined);
  if (!isCreated) {
    return timing.isGivenUp(idle) ? [] : [{ spec: idle, atMs: timing.nextTryMs(idle) }];
  }
  const lastOutMs = timing.tries(idle).at(-1)!.sentAtMs;
  return askSpecs(seconds, server, probes)
    .filter((spec) => !timing.isAnswered(spec) && !timing.isGivenUp(spec))
    .map((spec) => ({ spec, atMs: Math.max(timing.nextTryMs(spec), lastOutMs + seconds * 1000) }));
}

/** A control, and the request whose answer goes to the idle mapping. */
function askSpecs(
  seconds: number,
  server: TransportAddress,
  probes: readonly Probe[],
): [control: ProbeSpec, redirected: ProbeSpec] {
  const idle = probes.find((probe) => probe.socket === idleSocket(seconds) && bindingReply(probe));
  const control = bindSpec(`asking ${seconds}`, server);
  return [control, { ...control, respondTo: idle && bindingReply(idle)?.mapped }];
}

function verdict(
  silences: readonly number[],
  server: TransportAddress,
  probes: readonly Probe[],
  timing: RetransmissionTiming,
): FamilyDetails["lifetimeSeconds"] {
  const survived = silences.map((seconds) => {
    const [control, redirected] = askSpecs(seconds, server, probes);
    const arrived = timing.tries(redirected).some(({ reply, repliedOn }) =>
      reply?.kind === "success" && repliedOn === idleSocket(seconds)
    );
    if (arrived) return true;
    return timing.isAnswered(control) && timing.isGivenUp(redirected) ? false : "unknown";
  });
  if (survived[0] !== true) return null;
  const atLeast = silences[survived.lastIndexOf(true)]!;
  const lessThan = silences.find((seconds, index) =>
    seconds > atLeast && survived[index] === false
  );
  return { atLeast, lessThan: lessThan ?? null };
}

function idleSocket(seconds: number): string {
  return `idle ${seconds}`;
}

function bindSpec(socket: string, to: TransportAddress): ProbeSpec {
  return { socket, server: 0, test: "binding", to };
}
