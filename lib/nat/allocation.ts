/**
 * How a NAT chooses external ports, told from a burst of new mappings: RFC 4787 §4.2, and the five delta types
 * that P2PD's users know.
 *
 * | P2PD | here |
 * |---|---|
 * | equal | `preserving` |
 * | preserving | `offset`, `delta` = external minus local port |
 * | independent | `sequential`, `delta` between any two mappings |
 * | dependent | `sequential`, `onlyForNeighbours`: `delta` holds where the local port went up by one |
 * | random | `random` |
 *
 * @module
 */

import type { Allocation, AllocationDetails } from "./behavior.ts";
import type { PortSample } from "./probe.ts";

/** What {@linkcode classifyAllocation} finds. */
export interface AllocationVerdict {
  readonly allocation: Allocation;
  readonly details: AllocationDetails;
}

/**
 * The pattern in the external ports.
 *
 * @param samples in the order in which their first packets were sent
 */
export function classifyAllocation(samples: readonly PortSample[]): AllocationVerdict {
  const seen = samples.filter(isAnswered);
  const ports = seen.map(({ externalPort }) => externalPort);
  const neighbours = neighbourDeltas(samples);
  const result = (
    kind: Allocation["kind"],
    delta: number | null,
    onlyForNeighbours = false,
  ): AllocationVerdict => ({
    allocation: { kind, delta, range: rangeOf(kind, ports) },
    details: {
      samples: seen.length,
      onlyForNeighbours,
      preservesParity: seen.length < ENOUGH
        ? "unknown"
        : seen.every(({ localPort, externalPort }) => (localPort - externalPort) % 2 === 0),
      preservesContiguity: neighbours.length < 2
        ? "unknown"
        : neighbours.every((delta) => delta === 1),
    },
  });

  // On neighbouring ports alone, "the last one plus 1" and "the local one plus something" look the same.
  const strangers = seen.filter(({ localPort }) =>
    !samples.some((other) => Math.abs(other.localPort - localPort) === 1)
  );
  const preserved = seen.filter(({ localPort, externalPort }) => localPort === externalPort).length;
  if (seen.length < ENOUGH) return result("unknown", null);
  if (preserved >= seen.length * MOST) return result("preserving", 0);
  // A random port is the local one by chance once in 64k: who keeps half of them has had the others taken.
  if (preserved >= seen.length * HALF) return result("unknown", null);
  if (strangers.length < ENOUGH_STRANGERS) return result("unknown", null);
  const offset = mostCommon(seen.map(({ localPort, externalPort }) => externalPort - localPort));
  if (offset.count >= seen.length * MOST) return result("offset", offset.value);
  const step = sequentialStep(samples, strangers);
  if (step !== undefined) return result("sequential", step);
  const dependent = mostCommon(neighbours);
  const isDependent = dependent.count >= ENOUGH_NEIGHBOURS && dependent.value !== 0 &&
    dependent.count >= neighbours.length * MOST && !isCompact(ports, dependent.value);
  if (isDependent) {
    return result("sequential", dependent.value, true);
  }
  // Two equal distances may be a pattern that somebody else's mapping disturbed, or chance.
  const isDisproved = neighbours.length >= ENOUGH_NEIGHBOURS && dependent.count === 1;
  return result(isDisproved ? "random" : "unknown", null);
}

/** Whether a pattern was found; `"random"` and `"unknown"` may turn into one with the answers that are to come. */
export function isPattern({ kind }: Allocation): boolean {
  return kind !== "unknown" && kind !== "random";
}

/** Where the ports lie; with ports that follow the local ones it would say something of those only. */
function rangeOf(kind: Allocation["kind"], ports: readonly number[]): [number, number] | null {
  const isLocal = kind === "preserving" || kind === "offset";
  return isLocal || ports.length === 0 ? null : [Math.min(...ports), Math.max(...ports)];
}

/**
 * The common step between mappings in the order of their making, or `undefined`. Other hosts behind the NAT may
 * take ports in between, packets may overtake each other, and answers may be missing.
 *
 * @param strangers the samples whose local port has no neighbour: a step between neighbours may be theirs alone
 */
function sequentialStep(
  samples: readonly PortSample[],
  strangers: readonly PortSample[],
): number | undefined {
  const seen = samples.filter(isAnswered);
  const ports = seen.map(({ externalPort }) => externalPort);
  const steps: number[] = [];
  const toStrangers: number[] = [];
  let last: { index: number; port: number } | undefined;
  for (const [index, sample] of samples.entries()) {
    const { externalPort } = sample;
    if (externalPort === null) continue;
    if (last !== undefined) {
      const [distance, made] = [externalPort - last.port, index - last.index];
      const step = distance % made === 0 ? distance / made : NaN;
      steps.push(step);
      if (strangers.includes(sample)) toStrangers.push(step);
    }
    last = { index, port: externalPort };
  }
  const { value, count } = mostCommon(steps);
  const isInOrder = count >= 3 && count >= steps.length * HALF && value !== 0 &&
    toStrangers.includes(value);
  // Every port, whoever has it, is some steps from every other.
  if (isInOrder && ports.every((port) => (port - ports[0]!) % value === 0)) return value;

  // Out of order: the ports, sorted, still fill a short row at a common distance. Not at the most common one:
  // with every other answer missing that would be twice the step.
  const sorted = [...ports].sort((a, b) => a - b);
  const step = sorted.slice(1).map((port, i) => port - sorted[i]!).reduce(greatestCommonDivisor, 0);
  const rowLength = (sorted.at(-1)! - sorted[0]!) / step + 1;
  if (step === 0 || rowLength > samples.length * ROOM_FOR_OTHERS) return undefined;
  return isRising(seen) ? step : -step;
}

/** Whether ports lie too close together to be random, though others may have taken many in between. */
function isCompact(ports: readonly number[], step: number): boolean {
  return Math.max(...ports) - Math.min(...ports) <= Math.abs(step) * ports.length * COMPACT;
}

/** Whether most pairs of ports rise in the order of sending. */
function isRising(samples: readonly { externalPort: number }[]): boolean {
  let balance = 0;
  for (const [index, { externalPort }] of samples.entries()) {
    for (const later of samples.slice(index + 1)) {
      balance += Math.sign(later.externalPort - externalPort);
    }
  }
  return balance >= 0;
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}

/** External distances between mappings made one after the other for local ports that differ by one. */
function neighbourDeltas(samples: readonly PortSample[]): number[] {
  return samples.flatMap(({ localPort, externalPort }, i) => {
    const previous = samples[i - 1];
    return previous?.localPort === localPort - 1 && previous.externalPort !== null &&
        externalPort !== null
      ? [externalPort - previous.externalPort]
      : [];
  });
}

function mostCommon(values: readonly number[]): { value: number; count: number } {
  const counts = new Map<number, number>();
  for (const value of values) {
    if (!Number.isNaN(value)) counts.set(value, (counts.get(value) ?? 0) + 1);
  }
  let best = { value: 0, count: 0 };
  for (const [value, count] of counts) if (count > best.count) best = { value, count };
  return best;
}

function isAnswered(sample: PortSample): sample is PortSample & { externalPort: number } {
  return sample.externalPort !== null;
}

/**
 * Samples below which no pattern is claimed; ours. Three equal steps among five random ports of 64k come up by
 * chance once in a million million tests.
 */
const ENOUGH = 5;

/** Samples from local ports without a neighbour among them, below which only `preserving` is claimed; ours. */
const ENOUGH_STRANGERS = 2;

/**
 * Distances between mappings of neighbouring local ports, below which neither a pattern nor its absence is
 * claimed; ours. Three equal ones among random ports come up by chance once in a thousand million tests.
 */
const ENOUGH_NEIGHBOURS = 3;

/** The share that has to fit `preserving` or `offset`: one port in five may have been taken by somebody else. */
const MOST = 0.8;

/** The share of steps that has to be equal: each packet out of order spoils two. */
const HALF = 0.5;

/** How much longer than the burst a row of ports may be, because others behind the NAT made mappings meanwhile. */
const ROOM_FOR_OTHERS = 1.5;

/** Steps for each port within which a set counts as compact; six random ones of 64k do once in a million tests. */
const COMPACT = 32;
