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

/** A new mapping: its local port and the external port that it got. */
export interface MappingSample {
  /** Of this host. */
  readonly localPort: number;
  /** As a server saw it. */
  readonly externalPort: number;
}

/** What the prediction depends on besides what was seen. */
export interface PredictOptions {
  /**
   * The local ports that the next mappings will be made for, in order; without them only `sequential` and
   * `random` ports can be told.
   */
  readonly localPorts?: readonly number[];
  /** Whether `allocation.delta` holds between neighbouring local ports only: P2PD's "dependent" delta. */
  readonly onlyForNeighbours?: boolean;
  /** How many ports to return at most; 16 unless given. */
  readonly count?: number;
  /** How long ago the last sample was taken, when the next mapping will be made. */
  readonly sinceLastSampleMs?: number;
  /** New mappings that others behind the NAT make, per millisecond. */
  readonly driftPerMs?: number;
  /** The lowest and the highest port that the NAT gives; 1024 to 65535 unless given. */
  readonly portRange?: readonly [first: number, last: number];
}

/**
 * The likely external ports of the next new mappings, most likely first; none where nothing can be said.
 *
 * | allocation | ports |
 * |---|---|
 * | `preserving`, `offset` | each local port plus the delta, then what is next to it, in case it is taken |
 * | `sequential` | as many deltas after the last one as others may have used, and more, around the likeliest |
 * | `sequential`, only for neighbours | the last one plus a delta for each step of the local port |
 * | `random` | evenly over the block that the samples lie in, or over the whole range |
 *
 * @param samples new mappings, oldest first
 */
export function predictPorts(
  samples: readonly MappingSample[],
  allocation: Allocation,
  options: PredictOptions = {},
): number[] {
  const { count = DEFAULT_COUNT, portRange = ALL_PORTS } = options;
  const ports = candidates(samples, allocation, options).map((port) => wrap(port, portRange));
  return [...new Set(ports)].slice(0, count);
}

/**
 * The ports that a NAT with random ports seems to choose from: some carriers give each customer a block (RFC 6888
 * §3, RFC 7422). The whole range unless samples lie so close together that chance would hardly do it.
 *
 * @param samples new mappings
 * @param range the lowest and the highest port seen before, if any
 */
export function portBlock(
  samples: readonly MappingSample[],
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
  // Beyond the outermost of n samples lies, on average, one n-th of the block on either side: twice that covers it.
  const beyond = Math.ceil(2 * spread / (distinct - 1));
  return [Math.max(portRange[0], lowest - beyond), Math.min(portRange[1], highest + beyond)];
}

function candidates(
  samples: readonly MappingSample[],
  allocation: Allocation,
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

/** A port that is taken yields to the next free one, so what follows the row of wanted ports comes next. */
function byLocalPort(localPorts: readonly number[], delta: number, count: number): number[] {
  const wanted = localPorts.map((port) => port + delta);
  const beyond = wanted.flatMap((port) => Array.from({ length: count }, (_, i) => port + i + 1));
  return [...wanted, ...beyond.sort((a, b) => distance(a, wanted) - distance(b, wanted))];
}

function distance(port: number, wanted: readonly number[]): number {
  return Math.min(...wanted.filter((each) => each <= port).map((each) => port - each));
}

/** Others take ports in between: so many on average, which a Poisson distribution spreads. */
function bySequence(last: number, delta: number, options: PredictOptions): number[] {
  const { sinceLastSampleMs = 0, driftPerMs = 0, count = DEFAULT_COUNT } = options;
  const expected = Math.max(0, sinceLastSampleMs * driftPerMs);
  const reach = Math.ceil(expected + 4 * Math.sqrt(expected)) + count;
  const taken = Array.from({ length: reach }, (_, others) => others);
  taken.sort((a, b) => logPoisson(b, expected) - logPoisson(a, expected) || a - b);
  return taken.map((others) => last + delta * (others + 1));
}

/** The sample that the NAT made last: those of a burst may have been made in another order than they were sent. */
function furthest(
  samples: readonly MappingSample[],
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

/** The logarithm of the probability of `events` where `expected` are; without its constant part. */
function logPoisson(events: number, expected: number): number {
  let log = 0;
  for (let i = 1; i <= events; i++) log += Math.log(expected / i);
  return log;
}

/** How likely it is that so many ports out of the whole range lie within so narrow a spread: n (w/S)^(n-1). */
function chanceOfSpread(
  spread: number,
  samples: number,
  [first, last]: readonly [number, number],
): number {
  return samples * ((spread + 1) / (last - first + 1)) ** (samples - 1);
}

/** Ours: what a home's traffic moves in the time between a sample and a dial, several times over. */
const DEFAULT_COUNT = 16;

/** What nearly all NATs give: the ports below are the system's (RFC 6056 §3.2). */
const ALL_PORTS: readonly [number, number] = [1024, 65535];

/** Ours: two ports may always be close. */
const MIN_BLOCK_SAMPLES = 3;

/** Ours: how seldom ports of the whole range are taken for a block. */
const BY_CHANCE = 0.01;
