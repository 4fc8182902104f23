/**
 * The TCP handshake of Linux: active, passive and simultaneous open. Each rule cites the RFC or
 * the kernel function that it models.
 *
 * @module
 */

import type { NetworkErrorReason } from "../../lib/base/errors.ts";
import type { TcpFlags } from "../../lab/model/nat_packet.ts";
import type { TcpPacket, UnreachableCode } from "./packet.ts";
import {
  EARLY_SYN_RETRANSMISSION_MS,
  PASSIVE_SYN_ACK_WAITS_MS,
  SYN_ACK_WAITS_MS,
  SYN_WAITS_MS,
} from "./tcp_timers.ts";

/** What a handshake needs from its socket. */
export interface TcpHandshakeOptions {
  /** The sequence number of the SYN, ISS. */
  readonly initialSequence: number;
  readonly send: (tcpFlags: TcpFlags, numbers: SegmentNumbers) => void;
  readonly sendReset: (packet: TcpPacket) => void;
  /** Called when the connection is established. `packet` completed the handshake, and may carry data. */
  readonly onOpen: (peer: TcpPeer, packet: TcpPacket) => void;
  readonly onFail: (reason: NetworkErrorReason) => void;
}

/** The sequence and acknowledgment numbers of a segment. */
export interface SegmentNumbers {
  readonly sequence: number;
  readonly acknowledgment: number;
}

/** What a handshake finds out about the peer. */
export interface TcpPeer {
  /** The sequence number of the first byte that the peer will send. */
  readonly firstSequence: number;
  readonly rttMs: number;
}

/** A handshake, from the first SYN to the last ACK. */
export class TcpHandshake {
  readonly #options: TcpHandshakeOptions;
  /** One after our SYN, SND.NXT. */
  readonly #next: number;
  #state: "syn-sent" | "syn-received" = "syn-sent";
  #isPassive = false;
  /** One after the peer's SYN, RCV.NXT. */
  #peerNext = 0;
  #sentAtMs = 0;
  #retries = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #sendAgain = (): void => {};

  constructor(options: TcpHandshakeOptions) {
    this.#options = options;
    this.#next = options.initialSequence + 1;
  }

  /** Whether a SYN has arrived from the peer. */
  get isSynReceived(): boolean {
    return this.#state === "syn-received";
  }

  /** Sends a SYN. */
  dial(): void {
    this.#sendUntilAnswered(SYN, SYN_WAITS_MS);
  }

  /** Answers a SYN, for a listener. */
  answer(syn: TcpPacket): void {
    this.#isPassive = true;
    this.#answer(syn, PASSIVE_SYN_ACK_WAITS_MS);
  }

  /** Handles a segment. */
  receive(packet: TcpPacket): void {
    if (this.isSynReceived) this.#receiveInSynReceived(packet);
    else this.#receiveInSynSent(packet);
  }

  /** Handles an ICMP error: in Linux any unreachable ends a handshake (tcp_v4_err). */
  receiveError(code: UnreachableCode): void {
    this.#fail(code === "port-unreachable" ? "refused" : "unreachable");
  }

  /** Stops sending. */
  stop(): void {
    clearTimeout(this.#timer);
  }

  /** RFC 9293 §3.10.7.3. */
  #receiveInSynSent(packet: TcpPacket): void {
    const { syn, ack, rst } = packet.tcpFlags;
    const answersOurSyn = ack === true && packet.acknowledgment === this.#next;
    if (ack && !answersOurSyn) {
      // An answer to the SYN of an earlier dial. The RST ends that connection at the peer.
      if (this.#retries === 0) this.#arm(EARLY_SYN_RETRANSMISSION_MS);
      return rst ? undefined : this.#options.sendReset(packet);
    }
    if (rst) return answersOurSyn ? this.#fail("refused") : undefined;
    if (!syn) return;
    if (!answersOurSyn) return this.#answer(packet, SYN_ACK_WAITS_MS); // simultaneous open, §3.5
    this.#peerNext = packet.sequence + 1;
    this.#acknowledge();
    this.#open(packet);
  }

  #receiveInSynReceived(packet: TcpPacket): void {
    const { syn, ack, rst } = packet.tcpFlags;
    if (rst) return this.#receiveReset(packet);
    // In a simultaneous open the peer's SYN/ACK counts as its ACK: Linux since 23e89e8ee7be (2024). Before, a
    // challenge ACK had the same effect.
    const isRepeatedSyn = syn === true && packet.sequence + 1 === this.#peerNext;
    if (syn && !(ack && isRepeatedSyn)) {
      // A listener's SYN/ACK is repeated at once (tcp_check_req); otherwise a challenge ACK, RFC 5961 §4.
      return this.#isPassive && isRepeatedSyn ? this.#send(SYN_ACK) : this.#acknowledge();
    }
    if (!ack) return;
    if (packet.acknowledgment !== this.#next) return this.#options.sendReset(packet);
    this.#open(packet);
  }

  /** RFC 5961 §3: only a RST with exactly the next sequence number counts. */
  #receiveReset({ sequence }: TcpPacket): void {
    if (sequence === this.#peerNext) return this.#fail("reset");
    if (sequence > this.#peerNext && sequence < this.#peerNext + WINDOW) this.#acknowledge();
  }

  #answer(syn: TcpPacket, waitsMs: readonly number[]): void {
    this.#state = "syn-received";
    this.#peerNext = syn.sequence + 1;
    this.#sendUntilAnswered(SYN_ACK, waitsMs);
  }

  #sendUntilAnswered(tcpFlags: TcpFlags, [waitMs, ...laterMs]: readonly number[]): void {
    this.#sentAtMs = performance.now();
    this.#send(tcpFlags);
    this.#sendAgain = () => {
      if (laterMs.length === 0) return this.#fail("timed-out");
      this.#retries++;
      this.#sendUntilAnswered(tcpFlags, laterMs);
    };
    this.#arm(waitMs!);
  }

  #arm(waitMs: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.#sendAgain, waitMs);
  }

  #send(tcpFlags: TcpFlags): void {
    const { initialSequence, send } = this.#options;
    send(tcpFlags, { sequence: initialSequence, acknowledgment: this.#peerNext });
  }

  #acknowledge(): void {
    this.#options.send(ACK, { sequence: this.#next, acknowledgment: this.#peerNext });
  }

  #open(packet: TcpPacket): void {
    this.stop();
    const rttMs = performance.now() - this.#sentAtMs;
    this.#options.onOpen({ firstSequence: this.#peerNext, rttMs }, packet);
  }

  #fail(reason: NetworkErrorReason): void {
    this.stop();
    this.#options.onFail(reason);
  }
}

const SYN: TcpFlags = { syn: true };
const SYN_ACK: TcpFlags = { syn: true, ack: true };
const ACK: TcpFlags = { ack: true };

/** The window of a socket before the connection is established. */
const WINDOW = 65_535;
