/**
 * Which external ports a NAT gives to the next new mappings, told from the last few: what a peer dials before it
 * can be told.
 *
 * @module
 */

import type { Allocation } from "./behavior.ts";

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
