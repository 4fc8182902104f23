/**
 * Random inputs for the decoder and the engines of UDP paths, and what must hold after each.
 *
 * @module
 */

import { assert } from "@std/assert";
import { concat } from "../../lib/base/bytes.ts";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import { INITIAL_ACK_STATE, rangesToSend, stepAck } from "../../lib/udp/ack_engine.ts";
import { initialCongestionState, stepCongestion } from "../../lib/udp/congestion_engine.ts";
import {
  initialRecoveryState,
  nextTimerMs,
  type RecoveryAction,
  stepRecovery,
} from "../../lib/udp/loss_recovery_engine.ts";
import { decodeUdpPacket, encodeUdpPacket, MAX_ACK_RANGES } from "../../lib/udp/packet_message.ts";
import {
  BASE_BYTES,
  initialPathMtuState,
  MAX_BYTES,
  stepPathMtu,
} from "../../lib/udp/path_mtu_engine.ts";
import { ReceiveBuffer } from "../../lib/udp/receive_buffer.ts";
import { mutate, pick, randomBytes } from "../fuzz/mutate.ts";
import { type Random, randomInteger } from "../simnet/random.ts";

/** Something with a state that takes one random input at a time; it throws if an invariant breaks. */
export interface UdpFuzzTarget {
  readonly name: string;
  /** A new instance. Returns whether the input was accepted. */
  start(random: Random): () => boolean;
}

/** The decoder, and each engine. */
export const UDP_TARGETS: readonly UdpFuzzTarget[] = [
  { name: "packet", start: fuzzDecoder },
  { name: "acknowledgements", start: fuzzAcks },
  { name: "loss recovery and congestion", start: fuzzRecovery },
  { name: "path MTU", start: fuzzMtu },
  { name: "receive buffer", start: fuzzReceiveBuffer },
];

function fuzzDecoder(random: Random): () => boolean {
  return () => {
    const bytes = random() < 0.1
      ? randomBytes(random, randomInteger(random, 0, 80))
      : mutate(random, pick(random, SAMPLES));
    try {
      decodeUdpPacket(bytes);
      return true;
    } catch (error) {
      if (error instanceof MalformedMessageError) return false;
      throw error;
    }
  };
}

function fuzzAcks(random: Random): () => boolean {
  let state = INITIAL_ACK_STATE;
  let nowMs = 0;
  return () => {
    nowMs += random() * 3;
    if (random() < 0.1) {
      state = stepAck(state, { kind: "acknowledged" }, nowMs).state;
      return true;
    }
    const next = state.received.at(-1)?.end ?? 0;
    const number = random() < 0.9
      ? Math.max(0, next + randomInteger(random, -5, 3))
      : wildNumber(random);
    const step = stepAck(state, { kind: "received", number, rttMs: random() * 100 }, nowMs);
    state = step.state;
    const ranges = rangesToSend(state);
    assert(ranges.length <= MAX_ACK_RANGES, "too many ranges");
    ranges.forEach(({ start, end }, i) => {
      assert(start < end && (i === 0 || end < ranges[i - 1]!.start), "ranges out of order");
    });
    return step.actions.length > 0;
  };
}

function fuzzRecovery(random: Random): () => boolean {
  let state = initialRecoveryState(random() < 0.5 ? random() * 200 : undefined);
  let congestion = initialCongestionState({ segmentBytes: 1452, seed: 1 });
  let nowMs = 0;
  let isOver = false;
  return () => {
    if (isOver) { // the connection would be closed
      state = initialRecoveryState();
      isOver = false;
    }
    nowMs += random() < 0.02 ? random() * 2000 : random() * 3;
    const chance = random();
    let actions: readonly RecoveryAction[] = [];
    if (chance < 0.55 && state.inFlight < congestion.windowBytes) {
      const kind = random() < 0.05 ? "mtu-probe" : "pad";
      const bytes = randomInteger(random, 15, 1452);
      const isAppLimited = random() < 0.1;
      ({ actions } = stepRecovery(
        state,
        { kind: "sent", bytes, content: { kind }, isAppLimited },
        nowMs,
      ));
    } else if (chance < 0.5505) {
      ({ actions } = stepRecovery(state, { kind: "skip" }, nowMs));
    } else if (chance < 0.65) {
      ({ actions } = stepRecovery(state, { kind: "timer" }, nowMs));
    } else if (state.nextNumber > 0) {
      const ranges = randomRanges(random, state.nextNumber);
      const delayMs = random() * 600;
      ({ actions } = stepRecovery(state, { kind: "ack", ranges, delayMs }, nowMs));
    }
    for (const action of actions) {
      if (action.kind === "lie") isOver = true;
      if (action.kind === "sample" || action.kind === "spurious") {
        congestion = stepCongestion(congestion, action, nowMs).state;
      }
    }
    const { windowBytes, pacingRate } = congestion;
    assert(Number.isInteger(windowBytes) && windowBytes >= 4 * 1452, `window ${windowBytes}`);
    assert(pacingRate > 0 && pacingRate < Infinity, `rate ${pacingRate}`);
    assert(state.inFlight >= 0 && state.count >= 0 && state.lost >= 0, "negative");
    assert((state.count === 0) === (state.inFlight === 0), "in flight");
    assert(!Number.isNaN(nextTimerMs(state)), "timer");
    return actions.length > 0;
  };
}

function fuzzMtu(random: Random): () => boolean {
  let state = initialPathMtuState(MAX_BYTES);
  let nowMs = 0;
  const kinds = ["timer", "probe-arrived", "probe-lost", "arrived", "lost"] as const;
  return () => {
    nowMs += random() * (random() < 0.01 ? 1_000_000 : 500);
    const kind = pick(random, kinds);
    const size = random() < 0.5
      ? state.probe?.bytes ?? MAX_BYTES
      : randomInteger(random, 1, MAX_BYTES);
    const isProbe = kind === "probe-arrived" || kind === "probe-lost";
    const bytes = isProbe ? state.probe?.bytes ?? BASE_BYTES : size;
    const step = stepPathMtu(state, kind === "timer" ? { kind } : { kind, bytes }, nowMs);
    state = step.state;
    assert(state.bytes >= BASE_BYTES && state.bytes <= MAX_BYTES, `${state.bytes} bytes`);
    for (const action of step.actions) assert(action.bytes <= MAX_BYTES, "too large");
    return step.actions.length > 0;
  };
}

function fuzzReceiveBuffer(random: Random): () => boolean {
  const window = 100_000;
  const buffer = new ReceiveBuffer(window);
  const data = new Uint8Array(1452);
  const target = new Uint8Array(5000);
  let read = 0;
  return () => {
    if (random() < 0.2) {
      read += buffer.read(target.subarray(0, randomInteger(random, 1, target.length)));
      assert(buffer.limit === read + window, "limit");
      return true;
    }
    const near = read + buffer.available + randomInteger(random, -2000, 5000);
    const offset = random() < 0.98 ? Math.max(0, near) : wildNumber(random);
    const length = randomInteger(random, 0, data.length);
    const isFinal = random() < 0.0001;
    const isAdded = buffer.add(offset, data.subarray(0, length), isFinal);
    assert(!isAdded || offset + length <= buffer.limit, "beyond the window");
    assert(buffer.available <= window, "more than the window");
    return isAdded;
  };
}

function randomRanges(random: Random, next: number) {
  const isLie = random() < 0.0005;
  let end = isLie ? wildNumber(random) + 1 : Math.max(1, next - randomInteger(random, 0, 4));
  const ranges = [];
  for (let count = randomInteger(random, 1, 5); count > 0 && end > 0; count--) {
    const start = Math.max(0, end - randomInteger(random, 1, random() < 0.5 ? 4 : 200));
    ranges.push({ start, end });
    end = start - randomInteger(random, 1, 3);
  }
  return ranges;
}

function wildNumber(random: Random): number {
  return pick(random, [0, 1, 2 ** 31, 2 ** 32, 2 ** 40, 2 ** 47, Math.floor(random() * 2 ** 47)]);
}

const PATH_ID = new Uint8Array(8).fill(0xcc);
const BODY = new Uint8Array(20).fill(7);
const SAMPLES: readonly Uint8Array[] = [
  encodeUdpPacket(PATH_ID, {
    kind: "data",
    number: 5,
    offset: 1000,
    data: BODY,
    isFinal: false,
    isPushed: true,
  }),
  encodeUdpPacket(PATH_ID, { kind: "datagram", number: 6, data: BODY }),
  encodeUdpPacket(PATH_ID, { kind: "pad", number: 7, padding: 30 }),
  encodeUdpPacket(PATH_ID, {
    kind: "ack",
    ranges: [{ start: 90, end: 100 }, { start: 70, end: 80 }, { start: 10, end: 40 }],
    delayMs: 3,
    limit: 2 ** 33,
  }),
  concat(
    encodeUdpPacket(PATH_ID, {
      kind: "close",
      counter: 1,
      value: new Uint8Array(8),
      mac: new Uint8Array(16),
    }),
  ),
];
