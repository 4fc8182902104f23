/**
 * A TCP socket that behaves like Linux's as far as it matters to NAT traversal. Each rule cites the RFC or
 * the kernel function that it models. Not modelled: congestion control, selective acknowledgment, fast
 * retransmission, delayed ACKs and urgent data. A lost segment costs one retransmission timeout.
 *
 * @module
 */

import type { NetworkErrorReason } from "../../lib/base/errors.ts";
import type { TransportAddress } from "../../lib/net/address.ts";
import type { TcpFlags } from "../../lab/model/nat_packet.ts";
import { resetFor, type TcpPacket, type UnreachableCode } from "./packet.ts";
import { ReceiveBuffer, SendBuffer, type StreamSegment } from "./tcp_buffers.ts";
import { type SegmentNumbers, TcpHandshake, type TcpPeer } from "./tcp_handshake.ts";
import { LINGER_MS, MAX_RETRIES, MAX_RTO_MS, MIN_RTO_MS } from "./tcp_timers.ts";

/** What a socket needs from its host. */
export interface TcpSocketOptions {
  readonly local: TransportAddress;
  readonly remote: TransportAddress;
  /** The sequence number of the SYN. */
  readonly initialSequence: number;
  readonly send: (packet: TcpPacket) => void;
  /** Called when the connection is established. */
  readonly onOpen: () => void;
  /** Called when the connection no longer exists, and its pair of addresses is free. */
  readonly onGone: () => void;
}

/** One end of a connection, from the first SYN to the end of TIME_WAIT. */
export class TcpSocket {
  readonly local: TransportAddress;
  readonly remote: TransportAddress;
  readonly #options: TcpSocketOptions;
  readonly #handshake: TcpHandshake;
  readonly #outgoing: SendBuffer;
  #incoming = new ReceiveBuffer(0); // until a SYN shows the peer's initial sequence number
  #state: "opening" | "open" | "gone" = "opening";
  #error: NetworkErrorReason | undefined;
  #closedByUser = false;
  #finishedFirst = false;
  #lingersUntilMs = Infinity;
  #waiting: (() => void)[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #retries = 0;
  #rttMs = 0;

  constructor(options: TcpSocketOptions) {
    const { local, remote, initialSequence } = options;
    this.#options = options;
    this.local = local;
    this.remote = remote;
    this.#outgoing = new SendBuffer(initialSequence + 1);
    this.#handshake = new TcpHandshake({
      initialSequence,
      send: (tcpFlags, numbers) => this.#send(tcpFlags, numbers),
      sendReset: (packet) => options.send(resetFor(packet)),
      onOpen: (peer, packet) => this.#open(peer, packet),
      onFail: (reason) => this.#fail(reason),
    });
  }

  /** Why the connection broke, or could not be established. */
  get error(): NetworkErrorReason | undefined {
    return this.#error;
  }

  /** Whether {@linkcode TcpSocket.close} or {@linkcode TcpSocket.reset} was called. */
  get isClosedByUser(): boolean {
    return this.#closedByUser;
  }

  /** Whether nothing more can be written. */
  get isFinished(): boolean {
    return this.#outgoing.isFinished;
  }

  /** Whether the peer has finished and all its data was read. */
  get isAtEnd(): boolean {
    return this.#incoming.isFinished && this.#incoming.unreadBytes === 0;
  }

  /** Dials. */
  dial(): void {
    this.#handshake.dial();
  }

  /** Answers a SYN, for a listener. */
  answer(syn: TcpPacket): void {
    this.#handshake.answer(syn);
  }

  /** Handles a segment of this connection. */
  receive(packet: TcpPacket): void {
    if (this.#state === "opening") this.#handshake.receive(packet);
    else if (this.#state === "open") this.#receive(packet);
  }

  /** Handles an ICMP error. An established connection ignores it, by RFC 5927 and in Linux. */
  receiveError(code: UnreachableCode): void {
    if (this.#state === "opening") this.#handshake.receiveError(code);
  }

  /** Reads available bytes; returns how many. */
  read(target: Uint8Array): number {
    const hadRoom = this.#incoming.window >= WINDOW_UPDATE_BYTES;
    const length = this.#incoming.read(target);
    const hasRoom = this.#incoming.window >= WINDOW_UPDATE_BYTES;
    if (hasRoom && !hadRoom && this.#state === "open") this.#acknowledge();
    return length;
  }

  /** Writes as much as there is room for; returns how many bytes. */
  write(data: Uint8Array): number {
    const length = this.#outgoing.write(data);
    this.#sendWhatMayBeSent();
    return length;
  }

  /** Sends FIN after all written data. */
  finish(): void {
    if (this.#state === "gone" || this.isFinished) return;
    this.#finishedFirst = !this.#incoming.isFinished;
    this.#outgoing.finish();
    this.#sendWhatMayBeSent();
  }

  /** Resolves at the next change: new bytes, new room, the end or an error. */
  changed(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /**
   * Closes both directions. As in Linux, a dial in progress is dropped silently, and a connection with
   * unread bytes is reset (RFC 1122 §4.2.2.13).
   */
  close(): void {
    if (this.#closedByUser) return;
    if (this.#incoming.unreadBytes > 0) return this.reset();
    this.#closedByUser = true;
    if (this.#state === "opening" && !this.#handshake.isSynReceived) return this.#end();
    this.finish();
    this.#lingerIfDone();
    this.#notify();
  }

  /** Ends the connection with RST. */
  reset(): void {
    if (this.#closedByUser) return;
    this.#closedByUser = true;
    if (this.#state === "open") this.#send({ rst: true, ack: true });
    this.#end();
  }

  /** Drops the connection silently. */
  forget(): void {
    this.#end();
  }

  /** Whether the connection lingers only for stray segments, and that time is over. */
  hasLingered(nowMs: number): boolean {
    return nowMs >= this.#lingersUntilMs;
  }

  /** Whether a SYN may replace this connection in TIME_WAIT by a new one (RFC 9293 §3.10.7.4). */
  yieldsTo(syn: TcpPacket): boolean {
    return this.#lingersUntilMs < Infinity && this.#incoming.isFinished &&
      syn.sequence > this.#incoming.next;
  }

  #open({ firstSequence, rttMs }: TcpPeer, packet: TcpPacket): void {
    this.#state = "open";
    this.#rttMs = rttMs;
    this.#incoming = new ReceiveBuffer(firstSequence);
    this.#outgoing.acknowledge(packet.acknowledgment, packet.window);
    this.#options.onOpen();
    this.#sendWhatMayBeSent();
    if (!packet.tcpFlags.syn) this.#receive(packet);
  }

  #receive(packet: TcpPacket): void {
    const { syn, ack, rst, fin = false } = packet.tcpFlags;
    const { sequence, data } = packet;
    if (rst) return this.#receiveReset(packet);
    if (syn) return this.#acknowledge(); // RFC 5961 §4; also repeats a lost ACK of a SYN/ACK
    if (!ack) return;
    if (this.#closedByUser && sequence + data.length > this.#incoming.next) {
      this.#options.send(resetFor(packet)); // the data will never be read; RFC 1122 §4.2.2.13
      return this.#end();
    }
    if (this.#outgoing.acknowledge(packet.acknowledgment, packet.window)) {
      this.#retries = 0;
      this.#disarm();
    }
    if (data.length > 0 || fin) {
      this.#incoming.accept({ sequence, data, fin });
      this.#acknowledge();
    }
    this.#sendWhatMayBeSent();
    this.#lingerIfDone();
    this.#notify();
  }

  /** RFC 5961 §3: only a RST with exactly the next sequence number counts. */
  #receiveReset({ sequence }: TcpPacket): void {
    const { next, window } = this.#incoming;
    if (sequence === next) this.#fail("reset");
    else if (sequence > next && sequence < next + window) this.#acknowledge();
  }

  #sendWhatMayBeSent(): void {
    if (this.#state !== "open") return;
    for (let next = this.#outgoing.takeUnsent(); next; next = this.#outgoing.takeUnsent()) {
      this.#sendSegment(next);
    }
    if (this.#timer === undefined && !this.#outgoing.isEmpty) this.#armRetransmission();
  }

  /** Also probes a closed window. */
  #armRetransmission(): void {
    const waitMs = Math.min((this.#rttMs + MIN_RTO_MS) * 2 ** this.#retries, MAX_RTO_MS);
    this.#timer = setTimeout(() => {
      if (++this.#retries > MAX_RETRIES) return this.#fail("timed-out");
      this.#sendSegment(this.#outgoing.oldest!);
      this.#armRetransmission();
    }, waitMs);
  }

  #disarm(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #sendSegment({ sequence, data, fin }: StreamSegment): void {
    this.#send({ ack: true, fin }, { sequence, acknowledgment: this.#incoming.next }, data);
  }

  #acknowledge(): void {
    this.#send({ ack: true });
  }

  #send(
    tcpFlags: TcpFlags,
    numbers: SegmentNumbers = {
      sequence: this.#outgoing.next,
      acknowledgment: this.#incoming.next,
    },
    data: Uint8Array = NO_DATA,
  ): void {
    this.#options.send({
      protocol: "tcp",
      source: this.local,
      destination: this.remote,
      tcpFlags,
      ...numbers,
      window: this.#incoming.window,
      data,
    });
  }

  /** After both FINs, the side that finished first keeps the pair of addresses in TIME-WAIT (RFC 9293 §3.6). */
  #lingerIfDone(): void {
    if (!this.#outgoing.isFinished || !this.#outgoing.isEmpty) return;
    if (this.#incoming.isFinished && !this.#finishedFirst) return this.#end();
    // Half-closed while the program still reads: no time limit.
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
    this.#handshake.stop();
    this.#disarm();
    this.#options.onGone();
    this.#notify();
  }

  #notify(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

const NO_DATA = new Uint8Array();

/** Chosen by us: new room of at least a segment is worth a window update. */
const WINDOW_UPDATE_BYTES = 1448;
