/**
 * The sending half of a UDP path: it drives loss recovery, congestion control and the search for the path MTU, and
 * decides which packet goes out when.
 *
 * @module
 */

import { takeUnwritten } from "../base/bytes.ts";
import {
  type CongestionState,
  initialCongestionState,
  pacingBurstMs,
  stepCongestion,
} from "./congestion_engine.ts";
import {
  initialRecoveryState,
  nextTimerMs,
  type PacketContent,
  type RecoveryEvent,
  type RecoveryState,
  type SentPacket,
  stepRecovery,
} from "./loss_recovery_engine.ts";
import {
  type AckPacket,
  DATA_HEADER_BYTES,
  DATAGRAM_HEADER_BYTES,
  encodeUdpPacket,
  writeDataHeader,
} from "./packet_message.ts";
import {
  initialPathMtuState,
  type PathMtuEvent,
  type PathMtuState,
  stepPathMtu,
} from "./path_mtu_engine.ts";
import { probeTimeoutMs, type RoundTrip } from "./round_trip.ts";
import { type Segment, SendBuffer } from "./send_buffer.ts";

/** What a sender needs from its owner. None of it may throw. */
export interface PacketSenderOptions {
  /** The path ID of this direction. */
  readonly pathId: Uint8Array;
  /** The round trip, if it is known. */
  readonly rttMs: number | undefined;
  /** The largest datagram, in bytes. */
  readonly maxDatagramBytes: number;
  /** Sends a datagram. */
  readonly transmit: (bytes: Uint8Array, nowMs: number) => void;
  /** Packets have been delivered: there may be room to write, or nothing left to deliver. */
  readonly onProgress: () => void;
  /** The other end acknowledges what was never sent. */
  readonly onLie: () => void;
}

/** Sends a stream and unreliable datagrams. */
export class PacketSender {
  /** What is written, until the other end has it. */
  readonly stream: SendBuffer = new SendBuffer(MIN_SEND_BYTES);
  /** Unreliable datagrams that wait. */
  readonly #datagrams: Uint8Array[] = [];
  readonly #options: PacketSenderOptions;
  readonly #recovery: RecoveryState;
  #congestion: CongestionState;
  #mtu: PathMtuState;
  /** The offset before which this end may send. */
  #limit = INITIAL_LIMIT;
  #limitProbes = 0;
  #limitProbeMs = Infinity;
  #nextSendMs = 0;
  /** Packets sent before this much is delivered measure the application, not the path. */
  #appLimitedUntil = 0;
  #packetsUntilSkip = 1 + randomBelow(MAX_PACKETS_TO_SKIP);

  constructor(options: PacketSenderOptions) {
    this.#options = options;
    this.#recovery = initialRecoveryState(options.rttMs);
    this.#mtu = initialPathMtuState(options.maxDatagramBytes);
    this.#congestion = this.#newCongestion(options.rttMs);
  }

  /** The round trip of the path. */
  get roundTrip(): RoundTrip {
    return this.#recovery.roundTrip;
  }

  /** The path MTU, as far as it is known. */
  get pathMtuBytes(): number {
    return this.#mtu.bytes;
  }

  /** Since when packets have been in flight without an answer. */
  get waitingSinceMs(): number | undefined {
    return this.#recovery.waitingSinceMs;
  }

  /** The path leads elsewhere: what was measured says nothing about it (RFC 9000 §9.4). */
  restart(nowMs: number): void {
    this.#congestion = this.#newCongestion(this.#recovery.roundTrip.smoothedMs);
    this.resend(nowMs);
  }

  /** Sends what is missing for longest again, if anything is under way: the path leads there again. */
  resend(nowMs: number): void {
    if (this.#recovery.count > 0) this.#sendProbe(nowMs);
  }

  /** Queues an unreliable datagram; `false` if too many wait. */
  addDatagram(data: Uint8Array): boolean {
    if (this.#datagrams.length >= MAX_DATAGRAMS) return false;
    this.#datagrams.push(data);
    return true;
  }

  /** Sends what the congestion window, the pace and the other end's limit allow. */
  pump(nowMs: number): void {
    const { windowBytes, pacingRate } = this.#congestion;
    const earliestMs = nowMs - pacingBurstMs(this.#congestion);
    if (this.#nextSendMs < earliestMs) this.#nextSendMs = earliestMs;
    while (this.#recovery.inFlight + this.#mtu.bytes <= windowBytes && this.#nextSendMs <= nowMs) {
      const bytes = this.#sendNext(nowMs);
      if (bytes === 0) {
        this.#appLimitedUntil = this.#recovery.delivered + this.#recovery.inFlight;
        break;
      }
      this.#nextSendMs += bytes / pacingRate;
    }
  }

  /** Processes an ACK. */
  onAck({ ranges, delayMs, limit }: AckPacket, nowMs: number): void {
    if (limit > this.#limit) {
      this.#limit = limit;
      this.#limitProbes = 0;
      this.#limitProbeMs = Infinity;
    }
    this.#recover({ kind: "ack", ranges, delayMs }, nowMs);
  }

  /** Does what is due; {@linkcode PacketSender.pump} is left to the caller. */
  onTimer(nowMs: number): void {
    if (nextTimerMs(this.#recovery) <= nowMs) this.#recover({ kind: "timer" }, nowMs);
    if (this.#mtu.searchMs <= nowMs && this.#mayProbeSize) this.#sizePath({ kind: "timer" }, nowMs);
    if (nowMs < this.#limitProbeMs) return;
    this.#limitProbeMs = Infinity;
    this.#limitProbes++;
    this.sendPad(nowMs);
  }

  /** When to call {@linkcode PacketSender.onTimer} and {@linkcode PacketSender.pump} at the latest. */
  nextDueMs(nowMs: number): number {
    const recovery = this.#recovery;
    let dueMs = nextTimerMs(recovery);
    if (this.#mayProbeSize) dueMs = Math.min(dueMs, Math.max(this.#mtu.searchMs, nowMs));
    if (this.#datagrams.length > 0 || this.stream.canSend(this.#limit)) {
      const mayFly = recovery.inFlight + this.#mtu.bytes <= this.#congestion.windowBytes;
      return mayFly ? Math.min(dueMs, this.#nextSendMs) : dueMs;
    }
    const isBlocked = recovery.count === 0 && this.stream.next < this.stream.end;
    if (!isBlocked) return dueMs;
    if (this.#limitProbeMs === Infinity) { // the ACK that raised the limit may be lost
      const waitMs = probeTimeoutMs(recovery.roundTrip) * 2 ** this.#limitProbes;
      this.#limitProbeMs = nowMs + Math.min(waitMs, MAX_LIMIT_PROBE_MS);
    }
    return Math.min(dueMs, this.#limitProbeMs);
  }

  /** Sends a packet that only wants to be acknowledged. */
  sendPad(nowMs: number): void {
    this.#sendPad("pad", DATAGRAM_HEADER_BYTES, nowMs);
  }

  /** Sends a packet, if there is something to send; returns its length. */
  #sendNext(nowMs: number): number {
    const datagram = this.#datagrams.shift();
    if (datagram !== undefined) return this.#sendDatagram(datagram, nowMs);
    const segment = this.stream.take(this.#mtu.bytes - DATA_HEADER_BYTES, this.#limit);
    return segment === undefined ? 0 : this.#sendSegment(segment, nowMs);
  }

  #sendSegment(segment: Segment, nowMs: number): number {
    const { offset, length, isFinal } = segment;
    const bytes = takeUnwritten(DATA_HEADER_BYTES + length);
    const number = this.#numbered({ kind: "data", offset, length, isFinal }, bytes.length, nowMs);
    const isPushed = offset + length === this.stream.end;
    writeDataHeader(bytes, this.#options.pathId, { number, offset, isFinal, isPushed });
    this.stream.copy(segment, bytes, DATA_HEADER_BYTES);
    this.#options.transmit(bytes, nowMs);
    return bytes.length;
  }

  #sendDatagram(data: Uint8Array, nowMs: number): number {
    const length = DATAGRAM_HEADER_BYTES + data.length;
    const number = this.#numbered({ kind: "datagram" }, length, nowMs);
    const packet = { kind: "datagram", number, data } as const;
    this.#options.transmit(encodeUdpPacket(this.#options.pathId, packet), nowMs);
    return length;
  }

  #sendPad(kind: "pad" | "mtu-probe", bytes: number, nowMs: number): void {
    const number = this.#numbered({ kind }, bytes, nowMs);
    const packet = { kind: "pad", number, padding: bytes - DATAGRAM_HEADER_BYTES } as const;
    this.#options.transmit(encodeUdpPacket(this.#options.pathId, packet), nowMs);
  }

  /** Takes a packet number, and sometimes leaves one out before it. */
  #numbered(content: PacketContent, bytes: number, nowMs: number): number {
    if (--this.#packetsUntilSkip <= 0) {
      this.#packetsUntilSkip = 1 + randomBelow(MAX_PACKETS_TO_SKIP);
      stepRecovery(this.#recovery, { kind: "skip" }, nowMs);
    }
    const number = this.#recovery.nextNumber;
    const isAppLimited = this.#recovery.delivered < this.#appLimitedUntil;
    stepRecovery(this.#recovery, { kind: "sent", bytes, content, isAppLimited }, nowMs);
    return number;
  }

  #recover(event: RecoveryEvent, nowMs: number): void {
    for (const action of stepRecovery(this.#recovery, event, nowMs).actions) {
      switch (action.kind) {
        case "delivered":
          for (const packet of action.packets) this.#onDelivered(packet, nowMs);
          this.#sizeBuffer();
          this.#options.onProgress();
          break;
        case "lost":
          for (const packet of action.packets) this.#onLost(packet, nowMs);
          break;
        case "spurious":
        case "sample":
          this.#congestion = stepCongestion(this.#congestion, action, nowMs).state;
          break;
        case "probe":
          this.#sendProbe(nowMs);
          break;
        case "lie":
          this.#options.onLie();
          break;
      }
    }
  }

  #onDelivered({ content, bytes }: SentPacket, nowMs: number): void {
    if (content.kind === "data") this.stream.acknowledge(content);
    this.#sizePath(
      { kind: content.kind === "mtu-probe" ? "probe-arrived" : "arrived", bytes },
      nowMs,
    );
  }

  #onLost({ content, bytes }: SentPacket, nowMs: number): void {
    if (content.kind === "data") this.stream.lose(content);
    this.#sizePath({ kind: content.kind === "mtu-probe" ? "probe-lost" : "lost", bytes }, nowMs);
  }

  /** What is missing for longest, in a packet that is small enough for any path. */
  #sendProbe(nowMs: number): void {
    const oldest = this.stream.oldest(PROBE_BYTES);
    if (oldest !== undefined) this.#sendSegment(oldest, nowMs);
    else this.sendPad(nowMs);
  }

  #sizePath(event: PathMtuEvent, nowMs: number): void {
    const { state, actions } = stepPathMtu(this.#mtu, event, nowMs);
    this.#mtu = state;
    for (const { kind, bytes } of actions) {
      if (kind === "probe") this.#sendPad("mtu-probe", bytes, nowMs);
      else {
        this.#congestion =
          stepCongestion(this.#congestion, { kind: "segment", bytes }, nowMs).state;
      }
    }
  }

  /** Enough that the application never limits the path. */
  #sizeBuffer(): void {
    const wanted = 2 * this.#congestion.windowBytes;
    this.stream.capacity = Math.min(Math.max(wanted, MIN_SEND_BYTES), MAX_SEND_BYTES);
  }

  /** A size is tried on a new path, and while a path is used. */
  get #mayProbeSize(): boolean {
    return this.#mtu.searchMs === 0 || this.#recovery.count > 0;
  }

  #newCongestion(rttMs: number | undefined): CongestionState {
    return initialCongestionState({
      segmentBytes: this.#mtu.bytes,
      rttMs,
      seed: randomBelow(2 ** 32),
    });
  }
}

/** A whole number that the other end cannot guess. */
export function randomBelow(limit: number): number {
  return Math.floor(crypto.getRandomValues(new Uint32Array(1))[0]! / 2 ** 32 * limit);
}

/** Chosen by us: what each end may send before the first ACK; slow start does not get as far in 4 round trips. */
export const INITIAL_LIMIT = 262_144;

/** Chosen by us: datagrams that wait to be sent, or to be received. */
export const MAX_DATAGRAMS = 256;

/** Chosen by us: the send buffer is twice the congestion window, within these. */
const MIN_SEND_BYTES = 262_144;
const MAX_SEND_BYTES = 3 * 1024 * 1024;

/** Chosen by us: often enough that guessing which number is left out is hopeless. */
const MAX_PACKETS_TO_SKIP = 1024;

/** Less than RFC 8899 §5.1.2 expects every path to carry. */
const PROBE_BYTES = 1000;

/** Chosen by us: while the other end does not read. */
const MAX_LIMIT_PROBE_MS = 5000;
