/**
 * The opening of a TCP connection as Linux does it: by dialling, by answering, and by both at once. Every rule
 * names the standard or the kernel's own way that it stands for.
 *
 * @module
 */

import type { NetworkErrorReason } from "../../lib/base/errors.ts";
import type { TcpFlags } from "../../lab/model/nat_packet.ts";
import type { TcpPacket, UnreachableCode } from "./packet.ts";
import {
  HASTENED_SYN_WAIT_MS,
  PASSIVE_SYN_ACK_WAITS_MS,
  SYN_ACK_WAITS_MS,
  SYN_WAITS_MS,
} from "./tcp_timers.ts";

/** What a handshake needs from its socket, and tells it. */
export interface TcpHandshakeOptions {
  /** The sequence number of the SYN, ISS. */
  readonly initialSequence: number;
  readonly send: (tcpFlags: TcpFlags, numbers: SegmentNumbers) => void;
  readonly sendReset: (packet: TcpPacket) => void;
  /** The handshake is over; `packet` ended it and may carry more. */
  readonly onOpen: (peer: TcpPeer, packet: TcpPacket) => void;
  readonly onFail: (reason: NetworkErrorReason) => void;
}

/** Where a segment stands in both streams. */
export interface SegmentNumbers {
  readonly sequence: number;
  readonly acknowledgment: number;
}

/** What a handshake learns about the peer. */
export interface TcpPeer {
  /** The number of the first byte that the peer will send. */
  readonly firstSequence: number;
  readonly rttMs: number;
}

/** One handshake, from the first SYN to the last ACK. */
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

  /** Answers a SYN, as a listener does. */
  answer(syn: TcpPacket): void {
    this.#isPassive = true;
    this.#answer(syn, PASSIVE_SYN_ACK_WAITS_MS);
  }

  /** Takes a segment. */
  receive(packet: TcpPacket): void {
    if (this.isSynReceived) this.#receiveInSynReceived(packet);
    else this.#receiveInSynSent(packet);
  }

  /** Takes an ICMP error: any unreachable ends a handshake in Linux (tcp_v4_err). */
  receiveError(code: UnreachableCode): void {
    this.#fail(code === "port-unreachable" ? "refused" : "unreachable");
  }

  /** Sends nothing any more. */
  stop(): void {
    clearTimeout(this.#timer);
  }

  /** RFC 9293 §3.10.7.3. */
  #receiveInSynSent(packet: TcpPacket): void {
    const { syn, ack, rst } = packet.tcpFlags;
    const answersOurSyn = ack === true && packet.acknowledgment === this.#next;
    if (ack && !answersOurSyn) {
      // An answer to an earlier dial's SYN. The RST rids the peer of that one.
      if (this.#retries === 0) this.#arm(HASTENED_SYN_WAIT_MS);
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
    // The peer's SYN/ACK of a simultaneous open counts as its ACK: Linux since 23e89e8ee7be (2024); before, a
    // challenge ACK led to the same end.
    const isRepeatedSyn = syn === true && packet.sequence + 1 === this.#peerNext;
    if (syn && !(ack && isRepeatedSyn)) {
      // Linux repeats the SYN/ACK of a listener at once (tcp_check_req); else a challenge ACK, RFC 5961 §4.
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

/** What a socket has room for before it is open. */
const WINDOW = 65_535;
