/**
 * A link with a rate and a drop-tail buffer, and two flows on it, without sockets: the engines of a UDP path, and a
 * model of a kernel's CUBIC (RFC 9438) with selective acknowledgements. A second of it takes milliseconds, so rules of
 * congestion control can be tried before the kernel lab measures them.
 *
 * @module
 */

import { EventQueue } from "../../lab/model/event_queue.ts";
import { INITIAL_ACK_STATE, rangesToSend, stepAck } from "../../lib/udp/ack_engine.ts";
import {
  type CongestionState,
  initialCongestionState,
  stepCongestion,
} from "../../lib/udp/congestion_engine.ts";
import {
  initialRecoveryState,
  nextTimerMs,
  type RecoveryAction,
  type RecoveryEvent,
  stepRecovery,
} from "../../lib/udp/loss_recovery_engine.ts";
import { labelledRandom, type Random } from "../simnet/random.ts";

/** The link. */
export interface SharedLinkOptions {
  /** `Infinity` for none. */
  readonly bytesPerMs: number;
  readonly rttMs: number;
  /** The drop-tail buffer, in bandwidth-delay products. */
  readonly bufferBdp: number;
  /** The probability of loss, besides the buffer. */
  readonly loss?: number;
  readonly durationMs: number;
  readonly seed?: number;
  /** Whether a CUBIC flow shares the link. */
  readonly hasCubic?: boolean;
  /** When it ends. Default: never. */
  readonly cubicEndMs?: number;
  /** How much later the UDP path starts. */
  readonly startMs?: number;
  /** Called each 100 ms. */
  readonly observe?: (nowMs: number, state: CongestionState, queueBytes: number) => void;
}

/** How much each flow delivered. */
export interface SharedLinkResult {
  readonly udpBytes: number;
  readonly cubicBytes: number;
  /** The share of the UDP path while both ran. */
  readonly share: number;
  readonly lostShare: number;
  /** The rate of the UDP path, in megabytes per second. */
  readonly megabytesPerSecond: number;
}

/** Runs the flows. */
export function runSharedLink(options: SharedLinkOptions): SharedLinkResult {
  const { durationMs, startMs = 0, hasCubic = false, observe } = options;
  const world = new World(options);
  const udp = new UdpFlow(world, options);
  const cubic = hasCubic ? new CubicFlow(world, options.cubicEndMs) : undefined;
  cubic?.pump();
  world.at(startMs, () => udp.pump());
  for (let ms = 100; observe !== undefined && ms < durationMs; ms += 100) {
    world.at(ms, () => observe(ms, udp.congestion, world.queuedBytes));
  }
  let cubicBefore = 0;
  world.at(startMs, () => cubicBefore = cubic?.deliveredBytes ?? 0);
  world.run(durationMs);
  const cubicBytes = (cubic?.deliveredBytes ?? 0) - cubicBefore;
  return {
    udpBytes: udp.receivedBytes,
    cubicBytes,
    share: udp.receivedBytes / (udp.receivedBytes + cubicBytes),
    lostShare: udp.lostPackets / udp.sentPackets,
    megabytesPerSecond: udp.receivedBytes / (durationMs - startMs) / 1000,
  };
}

/** The clock, and one direction with a queue; ACKs come back without one. */
class World {
  readonly random: Random;
  readonly rttMs: number;
  nowMs = 0;
  queuedBytes = 0;
  readonly #events = new EventQueue<() => void>();
  readonly #bytesPerMs: number;
  readonly #bufferBytes: number;
  readonly #loss: number;
  #freeAtMs = 0;

  constructor({ bytesPerMs, rttMs, bufferBdp, loss = 0, seed = 1 }: SharedLinkOptions) {
    this.random = labelledRandom(seed, "shared link");
    this.rttMs = rttMs;
    this.#bytesPerMs = bytesPerMs;
    this.#bufferBytes = bytesPerMs * rttMs * bufferBdp;
    this.#loss = loss;
  }

  at(ms: number, event: () => void): void {
    this.#events.push(Math.max(ms, this.nowMs), event);
  }

  run(untilMs: number): void {
    for (let due; (due = this.#events.popDue(untilMs)) !== undefined;) {
      this.nowMs = due.dueMs;
      due.event();
    }
  }

  /** Sends a packet through the queue, to arrive half a round trip later. */
  send(bytes: number, arrive: () => void): void {
    if (this.#loss > 0 && this.random() < this.#loss) return;
    const wire = bytes + WIRE_OVERHEAD;
    if (this.queuedBytes > 0 && this.queuedBytes + wire > this.#bufferBytes) return;
    this.queuedBytes += wire;
    this.#freeAtMs = Math.max(this.#freeAtMs, this.nowMs) + wire / this.#bytesPerMs;
    this.at(this.#freeAtMs, () => {
      this.queuedBytes -= wire;
      this.at(this.nowMs + this.rttMs / 2, arrive);
    });
  }

  back(arrive: () => void): void {
    this.at(this.nowMs + this.rttMs / 2, arrive);
  }
}

/** An endless stream over the engines, driven as `udp_connection.ts` drives them. */
class UdpFlow {
  congestion: CongestionState;
  receivedBytes = 0;
  sentPackets = 0;
  lostPackets = 0;
  readonly #world: World;
  readonly #recovery = initialRecoveryState();
  #acks = INITIAL_ACK_STATE;
  #nextSendMs = 0;
  #timerMs = Infinity;

  constructor(world: World, { seed = 1 }: SharedLinkOptions) {
    this.#world = world;
    this.congestion = initialCongestionState({ segmentBytes: SEGMENT, seed });
  }

  pump(): void {
    const { nowMs } = this.#world;
    // as the platform's timers: a millisecond's worth at once
    while (this.#recovery.inFlight + SEGMENT <= this.congestion.windowBytes) {
      if (this.#nextSendMs > nowMs) {
        this.#wakeAt(Math.max(this.#nextSendMs, nowMs + 1));
        break;
      }
      this.#nextSendMs = Math.max(this.#nextSendMs, nowMs - 2) +
        SEGMENT / this.congestion.pacingRate;
      this.#send();
    }
    this.#wakeAt(nextTimerMs(this.#recovery));
  }

  #send(): void {
    const number = this.#recovery.nextNumber;
    this.#step({
      kind: "sent",
      bytes: SEGMENT,
      content: { kind: "pad" },
      isAppLimited: false,
    });
    this.sentPackets++;
    this.#world.send(SEGMENT, () => this.#receive(number));
  }

  #receive(number: number): void {
    const event = { kind: "received", number, rttMs: this.#world.rttMs } as const;
    const { state, actions } = stepAck(this.#acks, event, this.#world.nowMs);
    this.#acks = state;
    for (const { kind } of actions) {
      if (kind === "accept") this.receivedBytes += SEGMENT;
      else this.#acknowledge();
    }
    const { dueMs } = state;
    if (dueMs < Infinity) {
      this.#world.at(dueMs, () => {
        if (this.#acks.dueMs <= this.#world.nowMs) this.#acknowledge();
      });
    }
  }

  #acknowledge(): void {
    const ranges = rangesToSend(this.#acks);
    const delayMs = this.#world.nowMs - this.#acks.highestAtMs;
    this.#acks = stepAck(this.#acks, { kind: "acknowledged" }, this.#world.nowMs).state;
    this.#world.back(() => {
      this.#step({ kind: "ack", ranges, delayMs });
      this.pump();
    });
  }

  #wakeAt(ms: number): void {
    if (ms >= this.#timerMs) return;
    this.#timerMs = ms;
    this.#world.at(ms, () => {
      if (this.#timerMs > this.#world.nowMs) return;
      this.#timerMs = Infinity;
      if (nextTimerMs(this.#recovery) <= this.#world.nowMs) this.#step({ kind: "timer" });
      this.pump();
    });
  }

  #step(event: RecoveryEvent): void {
    const { nowMs } = this.#world;
    for (const action of stepRecovery(this.#recovery, event, nowMs).actions) {
      this.#act(action, nowMs);
    }
  }

  #act(action: RecoveryAction, nowMs: number): void {
    if (action.kind === "lost") this.lostPackets += action.packets.length;
    if (action.kind === "probe") this.#send();
    if (action.kind === "sample" || action.kind === "spurious") {
      this.congestion = stepCongestion(this.congestion, action, nowMs).state;
    }
  }
}

/** A model of the kernel's CUBIC: slow start, selective acknowledgements, one reduction a round trip. */
class CubicFlow {
  deliveredBytes = 0;
  readonly #world: World;
  #window = 10;
  #threshold = Infinity;
  #maximum = 0;
  #epochMs: number | undefined;
  #k = 0;
  #friendly = 0;
  #next = 0;
  #inFlight = new Map<number, number>();
  #recoverUntil = -1;
  #lastAckMs = 0;
  readonly #endMs: number;

  constructor(world: World, endMs = Infinity) {
    this.#world = world;
    this.#endMs = endMs;
  }

  pump(): void {
    if (this.#world.nowMs >= this.#endMs) return;
    while (this.#inFlight.size < Math.floor(this.#window)) {
      const number = this.#next++;
      this.#inFlight.set(number, this.#world.nowMs);
      this.#world.send(SEGMENT, () => this.#world.back(() => this.#onAck(number)));
    }
    const armedMs = this.#world.nowMs;
    this.#lastAckMs = armedMs;
    this.#world.at(armedMs + 1000, () => { // a retransmission timeout
      if (this.#lastAckMs !== armedMs) return;
      this.#inFlight.clear();
      this.#threshold = Math.max(this.#window / 2, 2);
      this.#window = 1;
      this.pump();
    });
  }

  #onAck(number: number): void {
    if (!this.#inFlight.delete(number)) return;
    this.deliveredBytes += SEGMENT;
    for (const other of this.#inFlight.keys()) {
      if (other > number - 3) break;
      this.#inFlight.delete(other);
      if (other > this.#recoverUntil) this.#reduce();
    }
    if (number > this.#recoverUntil) this.#grow();
    this.pump();
  }

  #reduce(): void {
    this.#recoverUntil = this.#next - 1;
    this.#maximum = this.#window < this.#maximum ? this.#window * (1 + BETA) / 2 : this.#window;
    this.#window = this.#threshold = Math.max(this.#window * BETA, 2);
    this.#epochMs = undefined;
  }

  #grow(): void {
    if (this.#window < this.#threshold) {
      this.#window++;
      return;
    }
    const { nowMs, rttMs } = this.#world;
    if (this.#epochMs === undefined) {
      this.#epochMs = nowMs;
      this.#k = Math.cbrt(Math.max(this.#maximum - this.#window, 0) / CUBE);
      this.#friendly = this.#window;
    }
    const seconds = (nowMs - this.#epochMs + rttMs) / 1000;
    const target = CUBE * (seconds - this.#k) ** 3 + this.#maximum;
    this.#friendly += 3 * (1 - BETA) / (1 + BETA) / this.#window;
    const limit = Math.min(Math.max(target, this.#friendly), this.#window * 1.5);
    this.#window += limit > this.#window
      ? (limit - this.#window) / this.#window
      : 0.01 / this.#window;
  }
}

const SEGMENT = 1452;

/** The headers of UDP and IPv4. */
const WIRE_OVERHEAD = 28;

/** RFC 9438 §4.6, §4.1. */
const BETA = 0.7;
const CUBE = 0.4;
