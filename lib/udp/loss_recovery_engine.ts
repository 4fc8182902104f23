/**
 * Which packets have arrived and which are lost, when to probe, and at what rate packets are delivered: RFC 9002, with
 * the delivery rates of draft-ietf-ccwg-bbr §4.1, as a pure engine.
 *
 * Tens of thousands of packets a second leave no time to copy the record of those in flight: `stepRecovery()` changes
 * the state that it is given, and returns the same object.
 *
 * @module
 */

import type { Range } from "./ack_ranges.ts";
import {
  afterSample,
  initialRoundTrip,
  lossDelayMs,
  probeTimeoutMs,
  type RoundTrip,
} from "./round_trip.ts";

/** What a packet carries, so that it can be sent again. */
export type PacketContent =
  | {
    readonly kind: "data";
    readonly offset: number;
    readonly length: number;
    readonly isFinal: boolean;
  }
  | { readonly kind: "datagram" }
  | { readonly kind: "pad" }
  /** A probe for a larger path MTU: its loss says nothing about congestion. */
  | { readonly kind: "mtu-probe" };

/** A packet in flight, and what was known when it was sent. */
export interface SentPacket {
  readonly number: number;
  readonly sentMs: number;
  /** The length of the datagram. */
  readonly bytes: number;
  readonly content: PacketContent;
  /** The bytes delivered before it was sent, and when the last of them were. */
  readonly delivered: number;
  readonly deliveredMs: number;
  /** When the first packet of this flight was sent. */
  readonly firstSentMs: number;
  /** The bytes in flight with this packet. */
  readonly inFlight: number;
  /** The bytes lost before it was sent. */
  readonly lost: number;
  /** Whether the sender had less to send than it was allowed to. */
  readonly isAppLimited: boolean;
  /** When it was declared lost; `undefined` while it is in flight. */
  lostMs: number | undefined;
}

/** What an acknowledgement or a loss says about the path. */
export interface RateSample {
  /** The bytes delivered so far, and before the packet that the sample is about was sent. */
  readonly delivered: number;
  readonly priorDelivered: number;
  /** Bytes per millisecond; `undefined` if the interval was too short to tell. */
  readonly rate: number | undefined;
  readonly isAppLimited: boolean;
  /** The newly acknowledged and the newly lost bytes. */
  readonly ackedBytes: number;
  readonly lostBytes: number;
  /** The bytes in flight now, and when the packet was sent. */
  readonly inFlight: number;
  readonly priorInFlight: number;
  /** The bytes lost since the packet was sent. */
  readonly lostSince: number;
  /** The latest round trip, if the highest packet was newly acknowledged. */
  readonly rttMs: number | undefined;
}

/** Everything in flight, and what was measured. Changed by {@linkcode stepRecovery}. */
export interface RecoveryState {
  /** Packets by number, from `firstNumber`: `undefined` if acknowledged, `"skipped"` if never sent. */
  packets: (SentPacket | undefined | "skipped")[];
  firstNumber: number;
  nextNumber: number;
  /** No packet below this is in flight; some may be lost. */
  oldestInFlight: number;
  /** -1 before the first ACK. */
  highestAcknowledged: number;
  inFlight: number;
  /** Packets in flight. */
  count: number;
  delivered: number;
  deliveredMs: number;
  firstSentMs: number;
  lost: number;
  lastSentMs: number;
  /** Probes without an answer. */
  probes: number;
  /** Since when packets have waited for an answer; `undefined` if none are in flight. */
  waitingSinceMs: number | undefined;
  /** When a packet that is overtaken counts as lost; `Infinity` if none is. */
  lossMs: number;
  /** A packet is lost if one with a number higher by this arrives. Rises with the reordering that is seen. */
  packetThreshold: number;
  /** The same for time, as a factor. */
  timeFactor: number;
  roundTrip: RoundTrip;
}

/** What has happened. */
export type RecoveryEvent =
  /** A packet is sent now, with the state's `nextNumber`. */
  | {
    readonly kind: "sent";
    readonly bytes: number;
    readonly content: PacketContent;
    readonly isAppLimited: boolean;
  }
  /** The next number is not used, so that an ACK for it is proof of a lie (RFC 9000 §21.4). */
  | { readonly kind: "skip" }
  | { readonly kind: "ack"; readonly ranges: readonly Range[]; readonly delayMs: number }
  /** {@linkcode nextTimerMs} has come. */
  | { readonly kind: "timer" };

/** What follows. */
export type RecoveryAction =
  | { readonly kind: "delivered"; readonly packets: readonly SentPacket[] }
  | { readonly kind: "lost"; readonly packets: readonly SentPacket[] }
  /** Packets that were declared lost have arrived; they are among those delivered, too. */
  | { readonly kind: "spurious"; readonly packets: readonly SentPacket[] }
  /** For congestion control. */
  | { readonly kind: "sample"; readonly sample: RateSample }
  /** Send up to two packets that must be acknowledged, whatever the congestion window says. */
  | { readonly kind: "probe" }
  /** The other side acknowledges what was never sent. */
  | { readonly kind: "lie" };

/** The state, and what follows. */
export interface RecoveryStep {
  readonly state: RecoveryState;
  readonly actions: readonly RecoveryAction[];
}

/**
 * The state before the first packet.
 *
 * @param rttMs the round trip, if it is known already
 */
export function initialRecoveryState(rttMs?: number): RecoveryState {
  return {
    packets: [],
    firstNumber: 0,
    nextNumber: 0,
    oldestInFlight: 0,
    highestAcknowledged: -1,
    inFlight: 0,
    count: 0,
    delivered: 0,
    deliveredMs: 0,
    firstSentMs: 0,
    lost: 0,
    lastSentMs: 0,
    probes: 0,
    waitingSinceMs: undefined,
    lossMs: Infinity,
    packetThreshold: PACKET_THRESHOLD,
    timeFactor: 1,
    roundTrip: initialRoundTrip(rttMs),
  };
}

/** Processes an event. */
export function stepRecovery(
  state: RecoveryState,
  event: RecoveryEvent,
  nowMs: number,
): RecoveryStep {
  switch (event.kind) {
    case "sent":
      onSent(state, event, nowMs);
      return { state, actions: NOTHING };
    case "skip":
      state.packets.push("skipped");
      state.nextNumber++;
      return { state, actions: NOTHING };
    case "ack":
      return { state, actions: onAck(state, event.ranges, event.delayMs, nowMs) };
    case "timer":
      return { state, actions: onTimer(state, nowMs) };
  }
}

/** When to send the next {@linkcode RecoveryEvent} `timer`; `Infinity` if nothing is in flight. */
export function nextTimerMs(state: RecoveryState): number {
  if (state.count === 0) return Infinity;
  if (state.lossMs < Infinity) return state.lossMs;
  const backoff = 2 ** Math.min(state.probes, MAX_BACKOFF);
  return state.lastSentMs + Math.min(probeTimeoutMs(state.roundTrip) * backoff, MAX_PROBE_MS);
}

function onSent(
  state: RecoveryState,
  { bytes, content, isAppLimited }: Extract<RecoveryEvent, { kind: "sent" }>,
  nowMs: number,
): void {
  if (state.count === 0) {
    state.firstSentMs = state.deliveredMs = nowMs;
    state.waitingSinceMs = nowMs;
    state.oldestInFlight = state.nextNumber;
  }
  state.inFlight += bytes;
  state.count++;
  state.packets.push({
    number: state.nextNumber++,
    sentMs: nowMs,
    bytes,
    content,
    delivered: state.delivered,
    deliveredMs: state.deliveredMs,
    firstSentMs: state.firstSentMs,
    inFlight: state.inFlight,
    lost: state.lost,
    isAppLimited,
    lostMs: undefined,
  });
  state.lastSentMs = nowMs;
}

function onAck(
  state: RecoveryState,
  ranges: readonly Range[],
  delayMs: number,
  nowMs: number,
): RecoveryAction[] {
  const highest = ranges[0]!.end - 1;
  if (highest >= state.nextNumber) return LIE;
  const acked: SentPacket[] = [];
  const spurious: SentPacket[] = [];
  for (const { start, end } of ranges) {
    if (end <= state.firstNumber) break;
    for (let number = Math.max(start, state.firstNumber); number < end; number++) {
      const index = number - state.firstNumber;
      const packet = state.packets[index];
      if (packet === undefined) continue;
      if (packet === "skipped") return LIE;
      state.packets[index] = undefined;
      acked.push(packet);
      if (packet.lostMs !== undefined) spurious.push(packet);
    }
  }
  if (acked.length === 0) return [];

  let newest = acked[0]!; // the last one sent: ranges start with the highest, but ascend within
  let ackedBytes = 0;
  for (const packet of acked) {
    ackedBytes += packet.bytes;
    if (packet.number > newest.number) newest = packet;
    if (packet.lostMs === undefined) {
      state.inFlight -= packet.bytes;
      state.count--;
    } else if (packet.content.kind !== "mtu-probe") {
      state.lost -= packet.bytes;
    }
  }
  let rttMs: number | undefined;
  if (newest.number === highest && highest > state.highestAcknowledged) {
    rttMs = Math.max(nowMs - newest.sentMs, MIN_RTT_MS);
    state.roundTrip = afterSample(state.roundTrip, rttMs, delayMs);
  }
  for (const packet of spurious) onSpurious(state, packet);
  state.highestAcknowledged = Math.max(state.highestAcknowledged, highest);
  state.delivered += ackedBytes;
  state.deliveredMs = nowMs;
  state.firstSentMs = Math.max(state.firstSentMs, newest.sentMs);
  state.probes = 0;
  state.waitingSinceMs = nowMs;
  const lost = detectLosses(state, nowMs);
  forgetOld(state, nowMs);
  if (state.count === 0) state.waitingSinceMs = undefined;

  const actions: RecoveryAction[] = [{ kind: "delivered", packets: acked }];
  if (spurious.length > 0) actions.push({ kind: "spurious", packets: spurious });
  if (lost.length > 0) actions.push({ kind: "lost", packets: lost });
  const sample = sampleOf(state, newest, { ackedBytes, lostBytes: bytesOf(lost), rttMs, nowMs });
  actions.push({ kind: "sample", sample });
  return actions;
}

function onTimer(state: RecoveryState, nowMs: number): RecoveryAction[] {
  if (nowMs < nextTimerMs(state)) return [];
  if (state.lossMs === Infinity) {
    state.probes++;
    state.lastSentMs = nowMs; // even if there is nothing to send as a probe
    return [{ kind: "probe" }];
  }
  const lost = detectLosses(state, nowMs);
  const last = lost.at(-1);
  if (last === undefined) return [];
  const sample = sampleOf(state, last, {
    ackedBytes: 0,
    lostBytes: bytesOf(lost),
    rttMs: undefined,
    nowMs,
  });
  return [{ kind: "lost", packets: lost }, { kind: "sample", sample }];
}

/** Declares packets lost that others have overtaken by too much (RFC 9002 §6.1). */
function detectLosses(state: RecoveryState, nowMs: number): SentPacket[] {
  const lost: SentPacket[] = [];
  const delayMs = lossDelayMs(state.roundTrip) * state.timeFactor;
  state.lossMs = Infinity;
  let number = Math.max(state.oldestInFlight, state.firstNumber);
  for (; number < state.highestAcknowledged; number++) {
    const packet = state.packets[number - state.firstNumber];
    if (packet === undefined || packet === "skipped" || packet.lostMs !== undefined) continue;
    const isOvertaken = state.highestAcknowledged - number >= state.packetThreshold;
    if (!isOvertaken && nowMs < packet.sentMs + delayMs) { // nor are those after it
      state.lossMs = packet.sentMs + delayMs;
      break;
    }
    packet.lostMs = nowMs;
    state.inFlight -= packet.bytes;
    state.count--;
    if (packet.content.kind !== "mtu-probe") state.lost += packet.bytes;
    lost.push(packet);
  }
  state.oldestInFlight = number;
  return lost;
}

/** Waits longer next time: the path reorders packets. */
function onSpurious(state: RecoveryState, packet: SentPacket): void {
  const distance = Math.max(state.highestAcknowledged - packet.number, 0);
  state.packetThreshold = Math.min(
    Math.max(state.packetThreshold, distance + 1),
    MAX_PACKET_THRESHOLD,
  );
  state.timeFactor = Math.min(state.timeFactor + TIME_FACTOR_STEP, MAX_TIME_FACTOR);
}

/** Forgets packets that were acknowledged, and lost ones that cannot arrive any more. */
function forgetOld(state: RecoveryState, nowMs: number): void {
  const keepMs = KEEP_PROBE_TIMEOUTS * probeTimeoutMs(state.roundTrip);
  let index = 0;
  for (; index < state.packets.length; index++) {
    const packet = state.packets[index];
    if (packet === undefined) continue;
    if (packet === "skipped") { // an ACK for it must still count as a lie for a while
      if (state.packets.length - index > KEEP_SKIPPED) continue;
      break;
    }
    if (packet.lostMs === undefined || nowMs - packet.lostMs < keepMs) break;
  }
  if (index < MIN_FORGOTTEN) return; // moving the rest costs more
  state.packets.splice(0, index);
  state.firstNumber += index;
}

function sampleOf(
  state: RecoveryState,
  packet: SentPacket,
  { ackedBytes, lostBytes, rttMs, nowMs }: {
    ackedBytes: number;
    lostBytes: number;
    rttMs: number | undefined;
    nowMs: number;
  },
): RateSample {
  const sendMs = packet.sentMs - packet.firstSentMs;
  const intervalMs = Math.max(sendMs, nowMs - packet.deliveredMs);
  const isUsable = ackedBytes > 0 && intervalMs >= MIN_INTERVAL_MS &&
    intervalMs >= state.roundTrip.minimumMs;
  return {
    delivered: state.delivered,
    priorDelivered: packet.delivered,
    rate: isUsable ? (state.delivered - packet.delivered) / intervalMs : undefined,
    isAppLimited: packet.isAppLimited,
    ackedBytes,
    lostBytes,
    inFlight: state.inFlight,
    priorInFlight: packet.inFlight,
    lostSince: Math.max(0, state.lost - packet.lost),
    rttMs,
  };
}

function bytesOf(packets: readonly SentPacket[]): number {
  return packets.reduce(
    (sum, { bytes, content }) => content.kind === "mtu-probe" ? sum : sum + bytes,
    0,
  );
}

const NOTHING: readonly RecoveryAction[] = [];
const LIE: RecoveryAction[] = [{ kind: "lie" }];

/** RFC 9002 §6.1.1. */
const PACKET_THRESHOLD = 3;

/** Chosen by us: beyond this, only time tells. */
const MAX_PACKET_THRESHOLD = 300;

/** Chosen by us, after RFC 8985 §6.2, which adds a quarter of the round trip for each reordering. */
const TIME_FACTOR_STEP = 0.25;
const MAX_TIME_FACTOR = 2;

/** Chosen by us: after this many probe timeouts, a lost packet does not arrive any more. */
const KEEP_PROBE_TIMEOUTS = 3;

/** Chosen by us. */
const KEEP_SKIPPED = 1024;

/** Chosen by us: moving the rest of the array costs more than these take. */
const MIN_FORGOTTEN = 64;

/** Chosen by us: 2 to the power of this, before the limit below. */
const MAX_BACKOFF = 10;

/** Chosen by us: so that a path that works again after an outage is noticed soon. */
const MAX_PROBE_MS = 3000;

/** The clock may stand still between sending and receiving in a simulation. */
const MIN_RTT_MS = 0.01;

/** Chosen by us: over a shorter time, batches say more about event loops than about the path. */
const MIN_INTERVAL_MS = 1;
