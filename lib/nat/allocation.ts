/**
 * Port allocation: how a NAT chooses external ports (RFC 4787 §4.2), classified from a burst of new mappings, and the
 * prediction of the next ports. The classes cover the five delta types of P2PD:
 *
 * | P2PD | here |
 * |---|---|
 * | equal | `preserving` |
 * | preserving | `offset`, `delta` = external minus local port |
 * | independent | `sequential`, `delta` between any two mappings |
 * | dependent | `sequential` with `onlyForNeighbours`: `delta` holds when the local port goes up by one |
 * | random | `random` |
 *
 * @module
 */

import type { PortAllocation, PortAllocationDetails } from "./behavior.ts";
import type { PortSample } from "./probe.ts";

/** The result of {@linkcode classifyAllocation}. */
export interface AllocationVerdict {
  readonly allocation: PortAllocation;
  readonly details: PortAllocationDetails;
}

/**
 * Classifies the pattern in the external ports of new mappings.
 *
 * @param samples in the order their first packets were sent
 */
export function classifyAllocation(samples: readonly PortSample[]): AllocationVerdict {
  const seen = samples.filter(isAnswered);
  const ports = seen.map(({ externalPort }) => externalPort);
  const neighbours = neighbourDeltas(samples);
  const result = (
    kind: PortAllocation["kind"],
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

  // On consecutive local ports alone, "the previous port plus 1" and "the local port plus an offset" look the same.
  const isolated = seen.filter(({ localPort }) =>
    !samples.some((other) => Math.abs(other.localPort - localPort) === 1)
  );
  const preserved = seen.filter(({ localPort, externalPort }) => localPort === externalPort).length;
  if (seen.length < ENOUGH) return result("unknown", null);
  if (preserved >= seen.length * MOST) return result("preserving", 0);
  // A random port equals the local port once in 64k: a NAT that keeps half of them found the others taken.
  if (preserved >= seen.length * HALF) return result("unknown", null);
  if (isolated.length < ENOUGH_ISOLATED) return result("unknown", null);
  const offset = mostCommon(seen.map(({ localPort, externalPort }) => externalPort - localPort));
  if (offset.count >= seen.length * MOST) return result("offset", offset.value);
  const step = sequentialStep(samples, isolated);
  if (step !== undefined) return result("sequential", step);
  const dependent = mostCommon(neighbours);
  const isDependent = dependent.count >= ENOUGH_NEIGHBOURS && dependent.value !== 0 &&
    dependent.count >= neighbours.length * MOST && !isCompact(ports, dependent.value);
  if (isDependent) return result("sequential", dependent.value, true);
  // Two equal distances may be chance, or a pattern disturbed by another host's mapping.
  const isDisproved = neighbours.length >= ENOUGH_NEIGHBOURS && dependent.count === 1;
  return result(isDisproved ? "random" : "unknown", null);
}

/** Whether a pattern was found. `"random"` and `"unknown"` may still turn into one as more answers arrive. */
export function isPattern({ kind }: PortAllocation): boolean {
  return kind !== "unknown" && kind !== "random";
}

/** The range of the ports; `null` if they follow the local ports, which the range would describe instead. */
function rangeOf(kind: PortAllocation["kind"], ports: readonly number[]): [number, number] | null {
  const isLocal = kind === "preserving" || kind === "offset";
  return isLocal || ports.length === 0 ? null : [Math.min(...ports), Math.max(...ports)];
}

/**
 * The common step between mappings in the order they were created, or `undefined`. Other hosts behind the NAT may take
 * ports in between, packets may overtake each other, and answers may be missing.
 *
 * @param isolated samples whose local port has no neighbour: without them a step may hold for neighbours only
 */
function sequentialStep(
  samples: readonly PortSample[],
  isolated: readonly PortSample[],
): number | undefined {
  const seen = samples.filter(isAnswered);
  const ports = seen.map(({ externalPort }) => externalPort);
  const steps: number[] = [];
  const toIsolated: number[] = [];
  let last: { index: number; port: number } | undefined;
  for (const [index, sample] of samples.entries()) {
    const { externalPort } = sample;
    if (externalPort === null) continue;
    if (last !== undefined) {
      const [distance, made] = [externalPort - last.port, index - last.index];
      const step = distance % made === 0 ? distance / made : NaN;
      steps.push(step);
      if (isolated.includes(sample)) toIsolated.push(step);
    }
    last = { index, port: externalPort };
  }
  const { value, count } = mostCommon(steps);
  const isInOrder = count >= 3 && count >= steps.length * HALF && value !== 0 &&
    toIsolated.includes(value);
  // All ports must be whole steps apart, including those that other hosts took in between.
  if (isInOrder && ports.every((port) => (port - ports[0]!) % value === 0)) return value;

  // Out of order: sorted, the ports still fill a short range at a common distance. That is the greatest common divisor,
  // not the most common distance, which is twice the step if every other answer is missing.
  const sorted = [...ports].sort((a, b) => a - b);
  const step = sorted.slice(1).map((port, i) => port - sorted[i]!).reduce(greatestCommonDivisor, 0);
  const spanSteps = (sorted.at(-1)! - sorted[0]!) / step + 1;
  if (step === 0 || spanSteps > samples.length * ROOM_FOR_OTHERS) return undefined;
  return isRising(seen) ? step : -step;
}

/** Whether ports are too close together to be random, even if other hosts took many in between. */
function isCompact(ports: readonly number[], step: number): boolean {
  return Math.max(...ports) - Math.min(...ports) <= Math.abs(step) * ports.length * COMPACT;
}

/** Whether most pairs of ports increase in the order of sending. */
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

/** Differences between the external ports of successive mappings whose local ports differ by one. */
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

function isAnswered(sample: PortSample): sample is AnsweredPortSample {
  return sample.externalPort !== null;
}

/** A new mapping whose external port is known. */
export interface AnsweredPortSample extends PortSample {
  readonly externalPort: number;
}

/** What a prediction depends on besides the samples. */
export interface PredictOptions {
  /**
   * The local ports of the next mappings, in order. Without them only `sequential` and `random` ports can be
   * predicted.
   */
  readonly localPorts?: readonly number[];
  /** Whether `allocation.delta` holds only between consecutive local ports: P2PD's "dependent" delta. */
  readonly onlyForNeighbours?: boolean;
  /** How many ports to return at most. Default: 16. */
  readonly count?: number;
  /** How long after the last sample the next mapping will be created. Default: 0. */
  readonly sinceLastSampleMs?: number;
  /** New mappings by other hosts behind the NAT, per millisecond. Default: 0. */
  readonly driftPerMs?: number;
  /** The lowest and the highest port that the NAT uses. Default: 1024 to 65535. */
  readonly portRange?: readonly [first: number, last: number];
}

/**
 * Predicts the external ports of the next new mappings, most likely first. Empty if nothing can be predicted.
 *
 * | allocation | ports |
 * |---|---|
 * | `preserving`, `offset` | each local port plus the delta, then the ports above it in case it is taken |
 * | `sequential` | the last port plus one or more deltas: other hosts may have used some, so the likeliest count comes first |
 * | `sequential`, only for neighbours | the last port plus a delta for each step of the local port |
 * | `random` | evenly spread over the block that the samples lie in, or over the whole range |
 *
 * @param samples new mappings, oldest first
 */
export function predictPorts(
  samples: readonly AnsweredPortSample[],
  allocation: PortAllocation,
  options: PredictOptions = {},
): number[] {
  const { count = DEFAULT_COUNT, portRange = ALL_PORTS } = options;
  const ports = candidates(samples, allocation, options).map((port) => wrap(port, portRange));
  return [...new Set(ports)].slice(0, count);
}

/**
 * The block of ports from which a NAT with random allocation appears to choose: some carriers assign one to each
 * customer (RFC 6888 §3, RFC 7422). The whole range, unless the samples are too close together to be chance.
 *
 * @param samples new mappings
 * @param range the lowest and the highest port observed earlier, if any
 */
export function portBlock(
  samples: readonly AnsweredPortSample[],
  range: readonly [number, number] | null,
  portRange: readonly [first: number, last: number] = ALL_PORTS,
): readonly [first: number, last: number] {
  const seen = [...samples.map(({ externalPort }) => externalPort), ...range ?? []];
  const [lowest, highest] = [Math.min(...seen), Math.max(...seen)];
  const spread = highest - lowest;
  const distinct = new Set(seen).size;
  if (distinct < MIN_BLOCK_SAMPLES || chanceOfSpread(spread, distinct, portRange) > BY_CHANCE) {
    return portRange;
  }
  // On average one n-th of the block lies beyond the outermost of n samples on each side. Twice that nearly covers it.
  const beyond = Math.ceil(2 * spread / (distinct - 1));
  return [Math.max(portRange[0], lowest - beyond), Math.min(portRange[1], highest + beyond)];
}

function candidates(
  samples: readonly AnsweredPortSample[],
  allocation: PortAllocation,
  options: PredictOptions,
): number[] {
  const { localPorts = [], count = DEFAULT_COUNT, portRange = ALL_PORTS } = options;
  const delta = allocation.delta ?? 0;
  switch (allocation.kind) {
    case "preserving":
    case "offset":
      return byLocalPort(localPorts, delta, count);
    case "sequential": {
      const last = samples.at(-1);
      if (last === undefined || delta === 0) return [];
      return options.onlyForNeighbours
        ? localPorts.map((port) => last.externalPort + delta * (port - last.localPort))
        : bySequence(furthest(samples, delta, portRange), delta, options);
    }
    case "random":
      return evenly(portBlock(samples, allocation.range, portRange), count);
    case "unknown":
      return [];
  }
}

/** If a wanted port is taken, the NAT uses the next free one, so the ports that follow the wanted ones come next. */
function byLocalPort(localPorts: readonly number[], delta: number, count: number): number[] {
  const wanted = localPorts.map((port) => port + delta);
  const beyond = wanted.flatMap((port) => Array.from({ length: count }, (_, i) => port + i + 1));
  return [...wanted, ...beyond.sort((a, b) => distance(a, wanted) - distance(b, wanted))];
}

function distance(port: number, wanted: readonly number[]): number {
  return Math.min(...wanted.filter((each) => each <= port).map((each) => port - each));
}

/** Other hosts take ports in between; how many follows a Poisson distribution. */
function bySequence(last: number, delta: number, options: PredictOptions): number[] {
  const { sinceLastSampleMs = 0, driftPerMs = 0, count = DEFAULT_COUNT } = options;
  const expected = Math.max(0, sinceLastSampleMs * driftPerMs);
  const reach = Math.ceil(expected + 4 * Math.sqrt(expected)) + count;
  const taken = Array.from({ length: reach }, (_, others) => others);
  taken.sort((a, b) => logPoisson(b, expected) - logPoisson(a, expected) || a - b);
  return taken.map((others) => last + delta * (others + 1));
}

/** The port that the NAT assigned last. The packets of a burst may have arrived in another order than they were sent. */
function furthest(
  samples: readonly AnsweredPortSample[],
  delta: number,
  [first, last]: readonly [number, number],
): number {
  const ports = samples.map(({ externalPort }) => externalPort);
  const [lowest, highest] = [Math.min(...ports), Math.max(...ports)];
  const hasWrapped = highest - lowest > (last - first) / 2;
  if (hasWrapped) return ports.at(-1)!;
  return delta > 0 ? highest : lowest;
}

function evenly([first, last]: readonly [number, number], count: number): number[] {
  const size = last - first + 1;
  const ports = Math.min(count, size);
  return Array.from({ length: ports }, (_, i) => first + Math.floor((i + 0.5) * size / ports));
}

function wrap(port: number, [first, last]: readonly [number, number]): number {
  const size = last - first + 1;
  return first + (((port - first) % size) + size) % size;
}

/** The logarithm of the Poisson probability of `events` given `expected`, without the constant part. */
function logPoisson(events: number, expected: number): number {
  let log = 0;
  for (let i = 1; i <= events; i++) log += Math.log(expected / i);
  return log;
}

/** The probability that this many random ports lie within this spread: n (w/S)^(n-1). */
function chanceOfSpread(
  spread: number,
  samples: number,
  [first, last]: readonly [number, number],
): number {
  return samples * ((spread + 1) / (last - first + 1)) ** (samples - 1);
}

/**
 * Chosen by us: no pattern is claimed from fewer samples. Three equal steps among five random ports out of 64k occur by
 * chance once in 10^12 tests.
 */
const ENOUGH = 5;

/** Chosen by us: from fewer samples without a neighbouring local port, only `preserving` is claimed. */
const ENOUGH_ISOLATED = 2;

/**
 * Chosen by us: from fewer differences between consecutive local ports, neither a pattern nor its absence is claimed.
 * Three equal ones among random ports occur by chance once in 10^9 tests.
 */
const ENOUGH_NEIGHBOURS = 3;

/** The share of ports that must fit `preserving` or `offset`: one in five may have been taken by another host. */
const MOST = 0.8;

/** The share of steps that must be equal: each packet out of order spoils two. */
const HALF = 0.5;

/** How much longer than the burst a range of ports may be, since other hosts create mappings meanwhile. */
const ROOM_FOR_OTHERS = 1.5;

/** Steps for each port within which ports count as compact. Six random ones out of 64k do once in a million tests. */
const COMPACT = 32;

/** Chosen by us: several times the ports that a home's traffic uses up between a sample and a dial. */
const DEFAULT_COUNT = 16;

/** What nearly all NATs use; the ports below are well-known ports (RFC 6056 §3.2). */
const ALL_PORTS: readonly [number, number] = [1024, 65535];

/** Chosen by us: two ports may be close by chance. */
const MIN_BLOCK_SAMPLES = 3;

/** Chosen by us: the accepted probability that random ports of the whole range are taken for a block. */
const BY_CHANCE = 0.01;
