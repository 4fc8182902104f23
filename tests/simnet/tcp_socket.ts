/**
 * One TCP connection as Linux keeps it, as far as NAT traversal can tell. Every rule names the standard or
 * the kernel's own way that it stands for.
 *
 * @module
 */

import type { NetworkErrorReason } from "../../lib/errors.ts";
import type { TransportAddress } from "../../lib/net/address.ts";
import type { TcpFlags } from "../lab/nat_packet.ts";
import { resetFor, type TcpPacket, type UnreachableCode } from "./packet.ts";
import { ReceiveBuffer, SendBuffer, type StreamSegment } from "./tcp_buffers.ts";
import {
  HASTENED_SYN_WAIT_MS,
  LINGER_MS,
  MAX_RETRIES,
  MAX_RTO_MS,
  MIN_RTO_MS,
  PASSIVE_SYN_ACK_WAITS_MS,
  SYN_ACK_WAITS_MS,
  SYN_WAITS_MS,
} from "./tcp_timers.ts";

/** What a socket needs from its host, and tells it. */
export interface TcpSocketOptions {
  readonly local: TransportAddress;
  readonly remote: TransportAddress;
  /** The sequence number of the SYN. */
  readonly initialSequence: number;
  readonly send: (packet: TcpPacket) => void;
  /** The handshake is over. */
  readonly onOpen: () => void;
  /** The connection exists no more, and its pair of addresses is free. */
  readonly onGone: () => void;
}

/** One end of a connection, from the first SYN to the end of TIME_WAIT. */
export class TcpSocket {
  readonly local: TransportAddress;
  readonly remote: TransportAddress;
  readonly #options: TcpSocketOptions;
  readonly #outgoing: SendBuffer;
  #incoming = new ReceiveBuffer(0); // until a SYN tells where the peer begins
  #state: "syn-sent" | "syn-received" | "synchronized" | "gone" = "syn-sent";
  #error: NetworkErrorReason | undefined;
  #isPassive = false;
  #closedByUser = false;
  #finishedFirst = false;
  #lingersUntilMs = Infinity;
  #waiting: (() => void)[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #onTimer = (): void => {};
  #retries = 0;
  #handshakeSentAtMs = 0;
  #rttMs = 0;

  constructor(options: TcpSocketOptions) {
    this.#options = options;
    this.local = options.local;
    this.remote = options.remote;
    this.#outgoing = new SendBuffer(options.initialSequence + 1);
  }

  /** Why the connection broke, or could not be made. */
  get error(): NetworkErrorReason | undefined {
    return this.#error;
  }

  /** Whether {@linkcode TcpSocket.close} or {@linkcode TcpSocket.reset} was called. */
  get isClosedByUser(): boolean {
    return this.#closedByUser;
  }

  /** Whether nothing can be written any more. */
  get isFinished(): boolean {
    return this.#outgoing.isFinished;
  }

  /** Whether the peer has finished and all it sent was read. */
  get isAtEnd(): boolean {
    return this.#incoming.isFinished && this.#incoming.unreadBytes === 0;
  }

  /** Dials. */
  dial(): void {
    this.#sendUntilAnswered(SYN, SYN_WAITS_MS);
  }

  /** Answers a SYN, as a listener does. */
  answer(syn: TcpPacket): void {
    this.#isPassive = true;
    this.#answerSyn(syn, PASSIVE_SYN_ACK_WAITS_MS);
  }

  /** Takes a segment of this connection. */
  receive(packet: TcpPacket): void {
    switch (this.#state) {
      case "syn-sent":
        return this.#receiveInSynSent(packet);
      case "syn-received":
        return this.#receiveInSynReceived(packet);
      case "synchronized":
        return this.#receiveSynchronized(packet);
      case "gone":
        return;
    }
  }

  /**
   * Takes an ICMP error. Linux ends a handshake on any unreachable (tcp_v4_err); RFC 5927 and Linux ignore it
   * on a connection that stands.
   */
  receiveError(code: UnreachableCode): void {
    if (this.#state !== "syn-sent" && this.#state !== "syn-received") return;
    this.#fail(code === "port-unreachable" ? "refused" : "unreachable");
  }

  /** Reads what is there; how many bytes. */
  read(target: Uint8Array): number {
    const hadRoom = this.#incoming.window >= WINDOW_UPDATE_BYTES;
    const length = this.#incoming.read(target);
    const hasRoom = this.#incoming.window >= WINDOW_UPDATE_BYTES;
    if (hasRoom && !hadRoom && this.#state === "synchronized") this.#acknowledge();
    return length;
  }

  /** Writes as much as there is room for; how many bytes. */
  write(data: Uint8Array): number {
    const length = this.#outgoing.write(data);
    this.#sendWhatMayBeSent();
    return length;
  }

  /** Sends FIN after all that was written. */
  finish(): void {
    if (this.#state === "gone" || this.isFinished) return;
    this.#finishedFirst = !this.#incoming.isFinished;
    this.#outgoing.finish();
    this.#sendWhatMayBeSent();
  }

  /** Resolves at the next change: bytes, room, the end, an error. */
  changed(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /**
   * Closes both directions. As in Linux, a SYN that is out is forgotten without a word, and a connection with
   * unread bytes is reset (RFC 1122 §4.2.2.13).
   */
  close(): void {
    if (this.#closedByUser) return;
    if (this.#state === "syn-sent") this.#end();
    else if (this.#incoming.unreadBytes > 0) return this.reset();
    this.#closedByUser = true;
    this.finish();
    this.#lingerIfDone();
    this.#notify();
  }

  /** Ends the connection with RST. */
  reset(): void {
    if (this.#closedByUser) return;
    this.#closedByUser = true;
    if (this.#state === "syn-received" || this.#state === "synchronized") {
      this.#send({ rst: true, ack: true });
    }
    this.#end();
  }

  /** Whether the connection lingers for nothing but stray segments, and the time for that is over. */
  hasLingered(nowMs: number): boolean {
    return nowMs >= this.#lingersUntilMs;
  }

  /** Whether a SYN may open a new connection in the place of this one in TIME_WAIT; RFC 9293 §3.10.7.4. */
  yieldsTo(syn: TcpPacket): boolean {
    return this.#lingersUntilMs < Infinity && this.#incoming.isFinished &&
      syn.sequence > this.#incoming.next;
  }

  /** Forgets the connection without a word. */
  forget(): void {
    this.#end();
  }

  /** RFC 9293 §3.10.7.3. */
  #receiveInSynSent(packet: TcpPacket): void {
    const { syn, ack, rst } = packet.tcpFlags;
    const answersOurSyn = ack === true && packet.acknowledgment === this.#outgoing.next;
    if (ack && !answersOurSyn) {
      // An answer to an earlier dial's SYN; the RST rids the peer of that one.
      if (this.#retries === 0) this.#arm(HASTENED_SYN_WAIT_MS, this.#onTimer);
      return rst ? undefined : this.#options.send(resetFor(packet));
    }
    if (rst) return answersOurSyn ? this.#fail("refused") : undefined;
    if (!syn) return;
    if (!answersOurSyn) return this.#answerSyn(packet, SYN_ACK_WAITS_MS); // simultaneous open, §3.5
    this.#incoming = new ReceiveBuffer(packet.sequence + 1);
    this.#open(packet);
    this.#acknowledge();
  }

  #receiveInSynReceived(packet: TcpPacket): void {
    const { syn, ack, rst } = packet.tcpFlags;
    if (rst) return this.#receiveReset(packet);
    // The peer's SYN/ACK of a simultaneous open counts as its ACK: Linux since 23e89e8ee7be (2024); before, a
    // challenge ACK led to the same end.
    const crossedSynAck = syn && ack && packet.sequence + 1 === this.#incoming.next;
    if (syn && !crossedSynAck) {
      // Linux repeats the SYN/ACK of a listener at once (tcp_check_req); else a challenge ACK, RFC 5961 §4.
      const repeated = this.#isPassive && packet.sequence + 1 === this.#incoming.next;
      return repeated ? this.#sendHandshake(SYN_ACK) : this.#acknowledge();
    }
    if (!ack) return;
    if (packet.acknowledgment !== this.#outgoing.next) return this.#options.send(resetFor(packet));
    this.#open(packet);
    if (!syn) this.#receiveSynchronized(packet);
  }

  #receiveSynchronized(packet: TcpPacket): void {
    const { syn, ack, rst, fin } = packet.tcpFlags;
    if (rst) return this.#receiveReset(packet);
    if (syn) return this.#acknowledge(); // RFC 5961 §4; it also repeats an ACK of SYN/ACK that was lost
    if (!ack) return;
    if (this.#outgoing.acknowledge(packet.acknowledgment, packet.window)) {
      this.#retries = 0;
      this.#disarm();
    }
    const carries = packet.data.length > 0 || fin === true;
    if (this.#closedByUser && packet.sequence + packet.data.length > this.#incoming.next) {
      this.#options.send(resetFor(packet)); // bytes that nobody will read; RFC 1122 §4.2.2.13
      return this.#end();
    }
    if (carries) {
      this.#incoming.accept({ sequence: packet.sequence, data: packet.data, fin: fin === true });
      this.#acknowledge();
    }
    this.#sendWhatMayBeSent();
    this.#lingerIfDone();
    this.#notify();
  }

  /** RFC 5961 §3: only a RST with exactly the next sequence number counts. */
  #receiveReset(packet: TcpPacket): void {
    if (packet.sequence === this.#incoming.next) return this.#fail("reset");
    const offset = packet.sequence - this.#incoming.next;
    if (offset > 0 && offset < this.#incoming.window) this.#acknowledge();
  }

  #answerSyn(syn: TcpPacket, waitsMs: readonly number[]): void {
    this.#disarm();
    this.#state = "syn-received";
    this.#incoming = new ReceiveBuffer(syn.sequence + 1);
    this.#sendUntilAnswered(SYN_ACK, waitsMs);
  }

  #sendUntilAnswered(tcpFlags: TcpFlags, waitsMs: readonly number[]): void {
    const [waitMs, ...laterMs] = waitsMs;
    this.#handshakeSentAtMs = performance.now();
    this.#sendHandshake(tcpFlags);
    this.#arm(waitMs!, () => {
      if (laterMs.length === 0) return this.#fail("timed-out");
      this.#retries++;
      this.#sendUntilAnswered(tcpFlags, laterMs);
    });
  }

  #open(packet: TcpPacket): void {
    this.#rttMs = performance.now() - this.#handshakeSentAtMs;
    this.#retries = 0;
    this.#disarm();
    this.#state = "synchronized";
    this.#outgoing.acknowledge(packet.acknowledgment, packet.window);
    this.#options.onOpen();
    this.#sendWhatMayBeSent();
  }

  #sendWhatMayBeSent(): void {
    if (this.#state !== "synchronized") return;
    for (let next = this.#outgoing.takeUnsent(); next; next = this.#outgoing.takeUnsent()) {
      this.#sendSegment(next);
    }
    if (this.#timer === undefined && !this.#outgoing.isEmpty) this.#armRetransmission();
  }

  /** Also the probe of a window that is closed. */
  #armRetransmission(): void {
    const waitMs = (this.#rttMs + MIN_RTO_MS) * 2 ** this.#retries;
    this.#arm(Math.min(waitMs, MAX_RTO_MS), () => {
      if (++this.#retries > MAX_RETRIES) return this.#fail("timed-out");
      this.#sendSegment(this.#outgoing.oldest!);
      this.#armRetransmission();
    });
  }

  #sendHandshake(tcpFlags: TcpFlags): void {
    this.#send(tcpFlags, { sequence: this.#options.initialSequence });
  }

  #sendSegment({ sequence, data, fin }: StreamSegment): void {
    this.#send({ ack: true, fin }, { sequence, data });
  }

  #acknowledge(): void {
    this.#send({ ack: true });
  }

  #send(tcpFlags: TcpFlags, content: { sequence?: number; data?: Uint8Array } = {}): void {
    this.#options.send({
      protocol: "tcp",
      source: this.local,
      destination: this.remote,
      tcpFlags,
      sequence: content.sequence ?? this.#outgoing.next,
      acknowledgment: tcpFlags.ack ? this.#incoming.next : 0,
      window: this.#incoming.window,
      data: content.data ?? new Uint8Array(),
    });
  }

  /** After both FINs the side that finished first keeps the pair of addresses; RFC 9293 §3.6 (TIME-WAIT). */
  #lingerIfDone(): void {
    if (!this.#outgoing.isFinished || !this.#outgoing.isEmpty) return;
    if (this.#incoming.isFinished && !this.#finishedFirst) return this.#end();
    // Half-closed, and the user still reads: there is no limit to that.
    if (!this.#incoming.isFinished && !this.#closedByUser) return;
    this.#lingersUntilMs = performance.now() + LINGER_MS;
  }

  #fail(error: NetworkErrorReason): void {
    this.#error = error;
    this.#end();
  }

  #end(): void {
    if (this.#state === "gone") return;
    this.#state = "gone";
    this.#disarm();
    this.#options.onGone();
    this.#notify();
  }

  #notify(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  #arm(waitMs: number, onTimer: () => void): void {
    this.#disarm();
    this.#onTimer = onTimer;
    this.#timer = setTimeout(onTimer, waitMs);
  }

  #disarm(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}

const SYN: TcpFlags = { syn: true };
const SYN_ACK: TcpFlags = { syn: true, ack: true };

/** Room that is worth telling the peer about; ours: a segment. */
const WINDOW_UPDATE_BYTES = 1448;
