/**
 * How long an idle UDP mapping lives: RFC 5780 §4.6, in one parallel pass.
 *
 * Several sockets make a mapping each at the same moment and then keep silent, each for another time. When its time
 * is over, another socket asks the server to answer to that mapping (RESPONSE-PORT); if the answer arrives, the
 * mapping was still there. So the whole test takes as long as its longest silence.
 *
 * @module
 */

import type { IpFamily, TransportAddress } from "../net/address.ts";
import type { Network } from "../net/network.ts";
import type { FamilyDetails } from "./behavior.ts";
import { bindingReply, Pace, type Probe, type ProbeSpec } from "./probe.ts";
import { UdpSockets } from "./udp.ts";

/** How to test. */
export interface TestLifetimeOptions {
  readonly network: Network;
  readonly family: IpFamily;
  readonly server: TransportAddress;
  /** The longest silence. */
  readonly maxSeconds: number;
  readonly signal?: AbortSignal;
}

/**
 * The longest silence that a mapping survived and the shortest that it did not; `null` if the server does not
 * direct answers to another port.
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
    const pace = new Pace(sockets.probes, now());
    const wants = silences.map((seconds) => nextProbes(seconds, server, sockets.probes, pace));
    const due = wants.flat().filter(({ atMs }) => atMs <= pace.nowMs).map(({ spec }) => spec);
    if (wants.flat().length === 0) return verdict(silences, server, sockets.probes, pace);
    await sockets.send(due);
    if (due.length > 0) continue;
    await sockets.wait(Math.min(...wants.flat().map(({ atMs }) => atMs)), signal);
  }
}

/**
 * 0 and then doubling from half a second: 0 shows that the server answers elsewhere when asked to, without which
 * silence would mean nothing.
 */
export function silencesSeconds(maxSeconds: number): number[] {
  const silences = [0];
  for (let seconds = 0.5; seconds < maxSeconds; seconds *= 2) silences.push(seconds);
  return [...silences, maxSeconds];
}

/** Makes the mapping, then waits, then asks for an answer to it beside one to the asking socket itself. */
function nextProbes(
  seconds: number,
  server: TransportAddress,
  probes: readonly Probe[],
  pace: Pace,
): { spec: ProbeSpec; atMs: number }[] {
  const idle = bindSpec(idleSocket(seconds), server);
  const made = pace.tries(idle).find(bindingReply);
  if (made === undefined) {
    return pace.isGivenUp(idle) ? [] : [{ spec: idle, atMs: pace.nextTryMs(idle) }];
  }
  const lastOutMs = pace.tries(idle).at(-1)!.sentAtMs;
  return askSpecs(seconds, server, probes)
    .filter((spec) => !pace.isAnswered(spec) && !pace.isGivenUp(spec))
    .map((spec) => ({ spec, atMs: Math.max(pace.nextTryMs(spec), lastOutMs + seconds * 1000) }));
}

/** A control, and the request whose answer goes to the idle mapping. */
function askSpecs(
  seconds: number,
  server: TransportAddress,
  probes: readonly Probe[],
): [control: ProbeSpec, redirected: ProbeSpec] {
  const idle = probes.find((probe) => probe.socket === idleSocket(seconds) && bindingReply(probe));
  const control = bindSpec(`asking ${seconds}`, server);
  const respondTo = idle && bindingReply(idle)?.mapped;
  return [control, { ...control, ...respondTo && { respondTo } }];
}

function verdict(
  silences: readonly number[],
  server: TransportAddress,
  probes: readonly Probe[],
  pace: Pace,
): FamilyDetails["lifetimeSeconds"] {
  const survived = silences.map((seconds) => {
    const [control, redirected] = askSpecs(seconds, server, probes);
    const arrived = pace.tries(redirected).some(({ reply, repliedOn }) =>
      reply?.kind === "success" && repliedOn === idleSocket(seconds)
    );
    if (arrived) return true;
    return pace.isAnswered(control) && pace.isGivenUp(redirected) ? false : "unknown";
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
