/**
 * How fast to send and how much to have in flight, as a pure engine: a model of the path after BBR version 3
 * (draft-ietf-ccwg-bbr), not a reaction to each loss. A rate that holds, at losses of up to {@linkcode LOSS_THRESHOLD},
 * is the path's; more loss than that, beyond what chance explains, means that a queue has overflowed.
 *
 * | phase     | pacing | what it is for                                                              |
 * | --------- | ------ | --------------------------------------------------------------------------- |
 * | startup   | 2.77   | double the rate each round trip, until it stops growing or losses say so     |
 * | drain     | 0.5    | empty the queue that startup has left                                        |
 * | down      | 0.9    | leave room for others                                                        |
 * | cruise    | 1      | for 2 to 3 seconds                                                           |
 * | refill    | 1      | a round trip with the pipe full, so that what follows measures the path      |
 * | up        | 1.25   | look for more                                                                |
 * | probe-rtt | 1      | every 5 s: half a pipe for 200 ms, to see the round trip without this queue  |
 *
 * @module
 */

import type { RateSample } from "./loss_recovery_engine.ts";

/** A phase of the table above. */
export type CongestionPhase = keyof typeof GAINS;

/** The limits that losses have set. */
export interface LearnedLimits {
  /** Bytes per millisecond, until the next refill. */
  readonly rateLow: number;
  /** Bytes in flight, until the next refill. */
  readonly inFlightLow: number;
  /** Bytes in flight, until `up` finds room for more. */
  readonly inFlightHigh: number;
}

/** The model of the path. Times are in milliseconds, rates in bytes per millisecond. */
export interface CongestionState extends LearnedLimits {
  readonly phase: CongestionPhase;
  /** The congestion window: bytes in flight at most. */
  readonly windowBytes: number;
  readonly pacingRate: number;
  readonly segmentBytes: number;
  /** The highest rates of the last cycle and of this one. */
  readonly rates: readonly [number, number];
  /** The shortest round trip of the last 5 s. */
  readonly minRttMs: number;
  readonly minRttAtMs: number;
  /** When `probe-rtt` is over; `undefined` until half a pipe is reached. */
  readonly probeRttUntilMs: number | undefined;
  /** A round trip ends when this many bytes are delivered. */
  readonly roundEnds: number;
  readonly roundAtMs: number;
  /** Within this round. */
  readonly round: RoundStatistics;
  /** Whether startup has found the rate of the path. */
  readonly isFull: boolean;
  readonly fullRate: number;
  readonly roundsWithoutGrowth: number;
  /** When the phase began, and when the present cycle of probing did. */
  readonly phaseAtMs: number;
  readonly cycleAtMs: number;
  readonly cycleMs: number;
  /** Rounds of `up` so far: it grows faster with each. */
  readonly upRounds: number;
  /** How many bytes arrive at once beyond the rate, because ACKs are delayed and batched. */
  readonly aggregation: Aggregation;
  /** What the limits were before the latest losses, in case these are spurious. */
  readonly undo: LearnedLimits | undefined;
  /** Of a small generator for the lengths of cycles. */
  readonly seed: number;
}

/** What happened in a round trip. */
export interface RoundStatistics {
  readonly lost: number;
  readonly acked: number;
  readonly rate: number;
  readonly inFlight: number;
}

/** The largest surplus of the last rounds. */
export interface Aggregation {
  readonly sinceMs: number;
  readonly acked: number;
  readonly largest: readonly [number, number];
  readonly rounds: number;
}

/** What has happened. */
export type CongestionEvent =
  /** Packets were acknowledged or lost. */
  | { readonly kind: "sample"; readonly sample: RateSample }
  /** The latest losses were none. */
  | { readonly kind: "spurious" }
  /** Packets may be this long now. */
  | { readonly kind: "segment"; readonly bytes: number };

/** The next state. There is nothing to do but to keep to `windowBytes` and `pacingRate`. */
export interface CongestionStep {
  readonly state: CongestionState;
  readonly actions: readonly never[];
}

/**
 * The state before the first packet.
 *
 * @param options `segmentBytes`: of a full datagram; `rttMs`: the round trip, if it is known; `seed`: any whole number
 */
export function initialCongestionState(
  { segmentBytes, rttMs = 100, seed }: {
    readonly segmentBytes: number;
    readonly rttMs?: number;
    readonly seed: number;
  },
): CongestionState {
  const windowBytes = INITIAL_SEGMENTS * segmentBytes;
  return {
    phase: "startup",
    windowBytes,
    pacingRate: STARTUP_GAIN * windowBytes / Math.max(rttMs, 1),
    segmentBytes,
    rates: [0, 0],
    rateLow: Infinity,
    inFlightLow: Infinity,
    inFlightHigh: Infinity,
    minRttMs: Infinity,
    minRttAtMs: 0,
    probeRttUntilMs: undefined,
    roundEnds: 0,
    roundAtMs: 0,
    round: NEW_ROUND,
    isFull: false,
    fullRate: 0,
    roundsWithoutGrowth: 0,
    phaseAtMs: 0,
    cycleAtMs: 0,
    cycleMs: 0,
    upRounds: 0,
    aggregation: { sinceMs: 0, acked: 0, largest: [0, 0], rounds: 0 },
    undo: undefined,
    seed: seed >>> 0,
  };
}

/** Processes an event. */
export function stepCongestion(
  state: CongestionState,
  event: CongestionEvent,
  nowMs: number,
): CongestionStep {
  return { state: next(state, event, nowMs), actions: [] };
}

/** The rate of the path as far as it is known. */
function pathRate({ rates, rateLow }: CongestionState): number {
  return Math.min(Math.max(...rates), rateLow);
}

/** How far sending may fall behind the pace, to catch up in one go: timers are late. */
export function pacingBurstMs({ pacingRate }: CongestionState): number {
  return Math.min(MAX_LATE_MS, MAX_QUANTUM_BYTES / pacingRate);
}

function next(state: CongestionState, event: CongestionEvent, nowMs: number): CongestionState {
  switch (event.kind) {
    case "segment":
      return { ...state, segmentBytes: event.bytes };
    case "spurious":
      return state.undo === undefined ? state : { ...state, ...state.undo, undo: undefined };
    case "sample":
      return onSample(state, event.sample, nowMs);
  }
}

function onSample(before: CongestionState, sample: RateSample, nowMs: number): CongestionState {
  const isRoundOver = sample.ackedBytes > 0 && sample.priorDelivered >= before.roundEnds &&
    nowMs - before.roundAtMs >= MIN_ROUND_MS;
  let state = measure(before, sample, nowMs);
  if (isRoundOver) state = endRound(state, sample, nowMs);
  if (isTooMuch(state, sample)) state = onTooMuch(state, sample, nowMs);
  state = advance(state, sample, isRoundOver, nowMs);
  state = minimumRoundTrip(state, sample, nowMs);
  return limit(state, sample);
}

/** Rates and statistics of the round. */
function measure(state: CongestionState, sample: RateSample, nowMs: number): CongestionState {
  const { rate = 0, ackedBytes, lostBytes } = sample;
  const [last, current] = state.rates;
  const counts = !sample.isAppLimited || rate >= Math.max(last, current);
  return {
    ...state,
    rates: counts && rate > current ? [last, rate] : state.rates,
    round: {
      lost: state.round.lost + lostBytes,
      acked: state.round.acked + ackedBytes,
      rate: Math.max(state.round.rate, rate),
      inFlight: Math.max(state.round.inFlight, sample.delivered - sample.priorDelivered),
    },
    aggregation: aggregate(state, ackedBytes, nowMs),
  };
}

/** draft-ietf-ccwg-bbr §5.5.9: what arrives beyond the rate since the last time that it did not. */
function aggregate(state: CongestionState, ackedBytes: number, nowMs: number): Aggregation {
  const { sinceMs, acked, largest, rounds } = state.aggregation;
  const expected = Math.max(...state.rates) * (nowMs - sinceMs);
  if (acked <= expected) return { sinceMs: nowMs, acked: ackedBytes, largest, rounds };
  const surplus = Math.min(acked + ackedBytes - expected, state.windowBytes);
  const [last, current] = largest;
  return {
    sinceMs,
    acked: acked + ackedBytes,
    largest: [last, Math.max(current, surplus)],
    rounds,
  };
}

function endRound(state: CongestionState, sample: RateSample, nowMs: number): CongestionState {
  const { aggregation } = state;
  const average = sample.isAppLimited ? 0 : state.round.acked / (nowMs - state.roundAtMs);
  const round = { ...state.round, rate: Math.max(state.round.rate, average) };
  const [last, current] = state.rates;
  const rotates = aggregation.rounds >= AGGREGATION_ROUNDS;
  let after: CongestionState = {
    ...state,
    rates: [last, Math.max(current, average)],
    roundEnds: sample.delivered,
    roundAtMs: nowMs,
    round: NEW_ROUND,
    upRounds: state.upRounds + 1,
    aggregation: {
      ...aggregation,
      largest: rotates ? [aggregation.largest[1], 0] : aggregation.largest,
      rounds: rotates ? 0 : aggregation.rounds + 1,
    },
  };
  const isLossy = exceedsChance(round.lost, round.lost + round.acked, state.segmentBytes);
  if (!isProbing(state)) after = isLossy ? shrink(after, round) : recover(after);
  if (state.phase !== "startup" && state.phase !== "up" || sample.isAppLimited) return after;
  const rate = round.rate;
  const growth = state.phase === "up" ? UP_GROWTH : STARTUP_GROWTH;
  if (rate >= state.fullRate * growth) {
    return { ...after, fullRate: rate, roundsWithoutGrowth: 0 };
  }
  const roundsWithoutGrowth = state.roundsWithoutGrowth + 1;
  after = { ...after, roundsWithoutGrowth };
  if (state.phase === "up" || roundsWithoutGrowth < STARTUP_ROUNDS) return after;
  return enter({ ...after, isFull: true }, "drain", nowMs);
}

/** Others, or a slower path, take more than before: yields until the next refill. */
function shrink(state: CongestionState, round: RoundStatistics): CongestionState {
  const rate = Math.max(...state.rates);
  const rateLow = state.rateLow === Infinity ? rate : state.rateLow;
  const inFlightLow = state.inFlightLow === Infinity ? state.windowBytes : state.inFlightLow;
  return {
    ...state,
    undo: state.undo ?? limitsOf(state),
    rateLow: Math.max(round.rate, rateLow * LOSS_FACTOR),
    inFlightLow: Math.max(round.inFlight, inFlightLow * LOSS_FACTOR),
  };
}

/** The losses of an earlier round were an event, such as a receiver that was busy, and not the state of the path. */
function recover(state: CongestionState): CongestionState {
  const rateLow = state.rateLow * RECOVERY_FACTOR;
  const inFlightLow = state.inFlightLow * RECOVERY_FACTOR;
  if (state.rateLow === Infinity && state.inFlightLow === Infinity) return state;
  return {
    ...state,
    rateLow: rateLow >= Math.max(...state.rates) ? Infinity : rateLow,
    inFlightLow: inFlightLow >= WINDOW_GAIN * pipe(state) ? Infinity : inFlightLow,
  };
}

/** Whether more was lost since the packet was sent than a path may lose, and not because the path was not open yet. */
function isTooMuch(state: CongestionState, sample: RateSample): boolean {
  return isProbing(state) && sample.lostBytes > 0 && sample.priorDelivered > 0 &&
    exceedsChance(sample.lostSince, sample.priorInFlight, state.segmentBytes);
}

/** Probing has filled a queue. */
function onTooMuch(state: CongestionState, sample: RateSample, nowMs: number): CongestionState {
  const undo = state.undo ?? limitsOf(state);
  if (state.phase === "startup") {
    const inFlightHigh = Math.max(pipe(state), state.round.inFlight);
    return enter({ ...state, undo, isFull: true, inFlightHigh }, "drain", nowMs);
  }
  const inFlightHigh = sample.isAppLimited ? state.inFlightHigh : Math.max(
    sample.priorInFlight - sample.lostSince,
    Math.min(pipe(state), state.inFlightHigh) * LOSS_FACTOR,
  );
  const after = { ...state, undo, inFlightHigh };
  return state.phase === "up" ? startDown(after, nowMs) : after;
}

/** Moves from phase to phase. */
function advance(
  state: CongestionState,
  sample: RateSample,
  isRoundOver: boolean,
  nowMs: number,
): CongestionState {
  const { phase } = state;
  switch (phase) {
    case "drain":
      return sample.inFlight <= pipe(state) ? startDown(state, nowMs) : state;
    case "down":
    case "cruise": {
      if (nowMs - state.cycleAtMs >= state.cycleMs) {
        const fresh = { ...state, rateLow: Infinity, inFlightLow: Infinity, undo: undefined };
        return enter({ ...fresh, roundEnds: sample.delivered + sample.inFlight }, "refill", nowMs);
      }
      const isDrained = sample.inFlight <= Math.min(pipe(state), headroom(state));
      return phase === "down" && isDrained ? enter(state, "cruise", nowMs) : state;
    }
    case "refill":
      return isRoundOver ? startUp(state, nowMs) : state;
    case "up": {
      const grown = growHigh(state, sample);
      const isFilled = state.roundsWithoutGrowth >= UP_ROUNDS &&
        sample.inFlight >= pipe(state) * UP_GAIN;
      return isFilled || state.upRounds >= MAX_UP_ROUNDS ? startDown(grown, nowMs) : grown;
    }
    default:
      return state;
  }
}

/** While `up` fills what is known to be free without losses, there may be more: twice as much with each round. */
function growHigh(state: CongestionState, sample: RateSample): CongestionState {
  const { inFlightHigh, upRounds, windowBytes, segmentBytes } = state;
  const isUsed = sample.inFlight + sample.ackedBytes + 2 * segmentBytes >= windowBytes;
  if (inFlightHigh === Infinity || windowBytes < Math.floor(inFlightHigh) || !isUsed) return state;
  const perRound = Math.max(
    segmentBytes * 2 ** Math.min(upRounds, MAX_DOUBLINGS),
    windowBytes * (UP_GAIN - 1),
  );
  return { ...state, inFlightHigh: inFlightHigh + perRound * sample.ackedBytes / windowBytes };
}

function startUp(state: CongestionState, nowMs: number): CongestionState {
  const fresh = { fullRate: 0, roundsWithoutGrowth: 0, upRounds: 0 };
  return enter({ ...state, ...fresh }, "up", nowMs);
}

/** A cycle ends: its highest rate is kept for one more. */
function startDown(state: CongestionState, nowMs: number): CongestionState {
  const seed = (Math.imul(state.seed, 1_664_525) + 1_013_904_223) >>> 0;
  const [last, current] = state.rates;
  const rates = [current > 0 ? current : last, 0] as const;
  const cycleMs = CYCLE_MS + CYCLE_VARIATION_MS * seed / 2 ** 32;
  return enter({ ...state, seed, rates, cycleMs, cycleAtMs: nowMs }, "down", nowMs);
}

function minimumRoundTrip(
  state: CongestionState,
  sample: RateSample,
  nowMs: number,
): CongestionState {
  const { rttMs = Infinity } = sample;
  const isStale = nowMs - state.minRttAtMs > PROBE_RTT_EVERY_MS;
  const isLower = rttMs <= state.minRttMs || isStale && rttMs < Infinity;
  const after = isLower ? { ...state, minRttMs: rttMs, minRttAtMs: nowMs } : state;
  if (state.phase !== "probe-rtt") {
    const isDue = isStale && state.isFull && !sample.isAppLimited;
    return isDue ? enter({ ...after, probeRttUntilMs: undefined }, "probe-rtt", nowMs) : after;
  }
  if (state.probeRttUntilMs === undefined) {
    if (sample.inFlight > probeRttWindow(state)) return after;
    const probeRttUntilMs = nowMs + Math.max(PROBE_RTT_MS, state.minRttMs);
    return { ...after, probeRttUntilMs };
  }
  if (nowMs < state.probeRttUntilMs) return after;
  return startDown({ ...after, minRttAtMs: nowMs }, nowMs);
}

/** Sets the window and the rate that follow from the model. */
function limit(state: CongestionState, sample: RateSample): CongestionState {
  const { phase, segmentBytes, inFlightLow, inFlightHigh } = state;
  const rate = pathRate(state);
  if (rate === 0) return state;
  const wanted = RATE_MARGIN * GAINS[phase] * rate;
  const pacingRate = state.isFull ? wanted : Math.max(wanted, state.pacingRate);
  const quantum = Math.min(Math.max(pacingRate * QUANTUM_MS, 2 * segmentBytes), MAX_QUANTUM_BYTES);
  const surplus = Math.max(...state.aggregation.largest);
  const target = WINDOW_GAIN * pipe(state) + surplus + quantum;
  const grown = state.windowBytes + sample.ackedBytes;
  const unbounded = state.isFull
    ? Math.min(grown, target)
    : state.windowBytes < target
    ? grown
    : state.windowBytes;
  const bound = phase === "probe-rtt"
    ? Math.min(probeRttWindow(state), inFlightHigh)
    : phase === "cruise" || phase === "down"
    ? headroom(state)
    : inFlightHigh;
  const windowBytes = Math.max(
    Math.floor(Math.min(unbounded, bound, inFlightLow)),
    MIN_SEGMENTS * segmentBytes,
  );
  return { ...state, pacingRate, windowBytes };
}

function enter(state: CongestionState, phase: CongestionPhase, nowMs: number): CongestionState {
  return { ...state, phase, phaseAtMs: nowMs };
}

/** The bandwidth-delay product. */
function pipe(state: CongestionState): number {
  if (state.minRttMs === Infinity) return state.windowBytes;
  return pathRate(state) * Math.max(state.minRttMs, MIN_PIPE_MS);
}

/** What to use of the room that is known while not probing, so that others can grow. */
function headroom({ inFlightHigh, segmentBytes }: CongestionState): number {
  if (inFlightHigh === Infinity) return Infinity;
  return Math.max(inFlightHigh * HEADROOM, inFlightHigh - MAX_HEADROOM_SEGMENTS * segmentBytes);
}

function probeRttWindow(state: CongestionState): number {
  return Math.max(PROBE_RTT_GAIN * pipe(state), MIN_SEGMENTS * state.segmentBytes);
}

/** The phases in which losses are this side's own doing. */
function isProbing({ phase }: CongestionState): boolean {
  return phase === "startup" || phase === "refill" || phase === "up";
}

/** Whether more is lost than at the threshold, by more than two standard deviations. */
function exceedsChance(lost: number, all: number, segmentBytes: number): boolean {
  const [lostPackets, expected] = [lost / segmentBytes, LOSS_THRESHOLD * all / segmentBytes];
  return lostPackets > expected + 2 * Math.sqrt(expected) + 1;
}

function limitsOf({ rateLow, inFlightLow, inFlightHigh }: CongestionState): LearnedLimits {
  return { rateLow, inFlightLow, inFlightHigh };
}

const NEW_ROUND: RoundStatistics = { lost: 0, acked: 0, rate: 0, inFlight: 0 };

/** draft-ietf-ccwg-bbr §2.4, §5.6.1. */
const STARTUP_GAIN = 2.77;
const UP_GAIN = 1.25;
const GAINS = {
  startup: STARTUP_GAIN,
  drain: 0.5,
  down: 0.9,
  cruise: 1,
  refill: 1,
  up: UP_GAIN,
  "probe-rtt": 1,
} as const;
const WINDOW_GAIN = 2;
const RATE_MARGIN = 0.99;
const STARTUP_GROWTH = 1.25;
const STARTUP_ROUNDS = 3;
const LOSS_FACTOR = 0.7;
const MIN_SEGMENTS = 4;
const PROBE_RTT_EVERY_MS = 5000;
const PROBE_RTT_MS = 200;
const PROBE_RTT_GAIN = 0.5;
const CYCLE_MS = 2000;
const CYCLE_VARIATION_MS = 1000;
const AGGREGATION_ROUNDS = 5;
const MAX_DOUBLINGS = 16;

/** RFC 9002 §7.2. */
const INITIAL_SEGMENTS = 10;

/** draft-ietf-ccwg-bbr §2.4 has 2 %, too. */
const LOSS_THRESHOLD = 0.02;

/** Chosen by us: as fast as `up` grows. */
const RECOVERY_FACTOR = 1.25;

/** Chosen by us, less than the draft's 0.85: so that the kernel's CUBIC gets about half of a line. */
const HEADROOM = 0.7;

/** Chosen by us: on a fast path, a headroom of more segments than this is of no use. */
const MAX_HEADROOM_SEGMENTS = 200;

/** Chosen by us: the platform's timers are late by about this much. */
const QUANTUM_MS = 1;

const MAX_LATE_MS = 2;

/** Chosen by us: half of what the receiver's kernel buffers by default. */
const MAX_QUANTUM_BYTES = 48 * 1452;

/** Chosen by us: on a shorter path, the event loops of both ends are what takes time. */
const MIN_PIPE_MS = 0.5;

/** Chosen by us: a round on a short path has too few packets to judge rates and losses by. */
const MIN_ROUND_MS = 5;

/** Chosen by us: `up` goes on for as long as it pays, so that a path that has become free is filled at once. */
const UP_GROWTH = 1.1;
const UP_ROUNDS = 1;
const MAX_UP_ROUNDS = 12;
