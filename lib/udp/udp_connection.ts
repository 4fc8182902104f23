/**
 * A reliable byte stream, and unreliable datagrams, over a UDP path: the driver of the engines beside it. It is a
 * {@linkcode TcpConnection}, so Noise records and the session run above it unchanged.
 *
 * It neither encrypts nor authenticates stream data and datagrams; the layer above does. Injecting any takes the path ID,
 * which only the two ends and those on the path between them see.
 *
 * @module
 */

import { NetworkError, type NetworkErrorReason, undefinedIfMalformed } from "../base/errors.ts";
import { ResettableTimer } from "../base/timers.ts";
import { WaitQueue } from "../base/wait_queue.ts";
import {
  formatTransportAddress,
  sameTransportAddress,
  type TransportAddress,
} from "../net/address.ts";
import type { TcpConnection } from "../net/network.ts";
import { type AckState, INITIAL_ACK_STATE, isNew, rangesToSend, stepAck } from "./ack_engine.ts";
import type { PathReceiver, UdpDemultiplexer } from "./demultiplexer.ts";
import {
  type ControlPacket,
  DATAGRAM_HEADER_BYTES,
  type DataPacket,
  decodeUdpPacket,
  encodeUdpPacket,
  type UdpPacket,
} from "./packet_message.ts";
import { INITIAL_LIMIT, MAX_DATAGRAMS, PacketSender, randomBelow } from "./packet_sender.ts";
import { isAuthentic, type PathKeys, sealControl } from "./path_keys.ts";
import { MAX_BYTES } from "./path_mtu_engine.ts";
import { ReceiveBuffer } from "./receive_buffer.ts";
import { probeTimeoutMs } from "./round_trip.ts";

/** How to open a {@linkcode UdpConnection}. */
export interface UdpConnectionOptions {
  /** The other end's address, to which packets have got through. */
  readonly remote: TransportAddress;
  /** From {@linkcode derivePathKeys}; the other end has the same with the directions exchanged. */
  readonly keys: PathKeys;
  /** The round trip, if it is known. */
  readonly rttMs?: number;
  /** The largest datagram to send, in bytes. Default: 1452. */
  readonly maxDatagramBytes?: number;
  /** How many bytes may wait to be read. At least {@linkcode INITIAL_LIMIT}. Default: 3 MiB. */
  readonly windowBytes?: number;
  /** Called when the system refuses to send: its network may have changed. */
  readonly onSendError?: (error: unknown) => void;
}

/** One end of the stream. */
export class UdpConnection implements TcpConnection {
  /** Resolves once nothing more is sent: the socket can be closed. */
  readonly released: Promise<void>;
  readonly #released = Promise.withResolvers<void>();
  readonly #demultiplexer: UdpDemultiplexer;
  readonly #receiver: PathReceiver;
  readonly #options: UdpConnectionOptions;
  readonly #keys: PathKeys;
  #remote: TransportAddress;

  #acks: AckState = INITIAL_ACK_STATE;
  readonly #sender: PacketSender;
  readonly #incoming: ReceiveBuffer;
  readonly #datagramsIn = new WaitQueue<Uint8Array>(MAX_DATAGRAMS);

  /** The limit that the other end was told last. */
  #toldLimit = INITIAL_LIMIT;
  #lastSentMs: number;
  #keepAliveMs = keepAliveWaitMs();
  #controlsSent = 0;
  #highestControl = -1;

  readonly #timer = new ResettableTimer(() => this.#onTimer());
  #timerMs = Infinity;
  #wakeReader = () => {};
  #wakeWriter = () => {};
  /**
   * `closing`: this end was closed, and what it has written is still being delivered. `ending`: CLOSE or RESET is being
   * repeated. `over`: nothing is sent or received.
   */
  #phase: "open" | "closing" | "ending" | "over" = "open";
  /** Why nothing more can be sent. */
  #writeError: NetworkError | undefined;
  /** Why nothing more can be read. */
  #readError: NetworkError | undefined;
  #closingUntilMs = Infinity;
  #goodbye:
    | { readonly bytes: Uint8Array; left: number; nextMs: number; answers: number }
    | undefined;

  /** @param demultiplexer of the socket that packets have got through from */
  constructor(demultiplexer: UdpDemultiplexer, options: UdpConnectionOptions) {
    const { keys, rttMs, maxDatagramBytes = MAX_BYTES, windowBytes = WINDOW_BYTES } = options;
    this.released = this.#released.promise;
    this.#demultiplexer = demultiplexer;
    this.#options = options;
    this.#keys = keys;
    this.#remote = options.remote;
    this.#sender = new PacketSender({
      pathId: keys.send.pathId,
      rttMs,
      maxDatagramBytes,
      transmit: (bytes, nowMs) => this.#transmit(bytes, nowMs),
      onProgress: () => this.#onProgress(),
      onLie: () => this.#end("reset", "reset"),
    });
    this.#incoming = new ReceiveBuffer(Math.max(windowBytes, INITIAL_LIMIT));
    this.#lastSentMs = performance.now();
    this.#receiver = {
      pathId: keys.receive.pathId,
      onDatagram: (data, from) => this.#onDatagram(data, from),
      onSocketClosed: (error) => this.#fail(error, error.reason),
    };
    demultiplexer.add(this.#receiver);
    this.#schedule(this.#lastSentMs);
  }

  /** The local address. */
  get local(): TransportAddress {
    return this.#demultiplexer.local;
  }

  /** The other end's address: the latest one from which it has proved itself. */
  get remote(): TransportAddress {
    return this.#remote;
  }

  /** The smoothed round trip in milliseconds; `undefined` before the first answer. */
  get rttMs(): number | undefined {
    const { latestMs, smoothedMs } = this.#sender.roundTrip;
    return latestMs === undefined ? undefined : smoothedMs;
  }

  /** The longest message for {@linkcode UdpConnection.sendDatagram}. May rise and, rarely, fall. */
  get maxDatagramBytes(): number {
    return this.#sender.pathMtuBytes - DATAGRAM_HEADER_BYTES;
  }

  /** As {@linkcode TcpConnection.read}. */
  async read(buffer: Uint8Array): Promise<number | null> {
    for (;;) {
      if (this.#readError !== undefined) throw this.#readError;
      const length = this.#incoming.read(buffer);
      if (length > 0) {
        this.#tellLimit();
        return length;
      }
      if (this.#incoming.isAtEnd) return null;
      if (this.#phase !== "open") throw this.#error("read", "reset");
      await new Promise<void>((resolve) => this.#wakeReader = resolve);
    }
  }

  /** As {@linkcode TcpConnection.write}. */
  async write(data: Uint8Array): Promise<number> {
    for (;;) {
      if (this.#writeError !== undefined) throw this.#writeError;
      const length = this.#sender.stream.write(data);
      if (length > 0 || data.length === 0) {
        this.#pump();
        return length;
      }
      await new Promise<void>((resolve) => this.#wakeWriter = resolve);
    }
  }

  /** As {@linkcode TcpConnection.closeWrite}. */
  // deno-lint-ignore require-await -- rejects where the call before it has failed
  async closeWrite(): Promise<void> {
    if (this.#phase !== "open" && this.#writeError !== undefined) throw this.#writeError;
    this.#finishWriting();
  }

  /** Ends both directions, once the other end has what was written, or after {@linkcode LINGER_MS}; idempotent. */
  close(): void {
    if (this.#phase !== "open") return;
    this.#phase = "closing";
    this.#closingUntilMs = performance.now() + LINGER_MS;
    this.#readError = this.#error("read", "closed");
    this.#incoming.discard();
    this.#wakeReader();
    this.#datagramsIn.close(this.#readError);
    this.#finishWriting();
  }

  /** Ends both directions at once; idempotent. */
  reset(): void {
    if (this.#phase === "ending" || this.#phase === "over") return;
    this.#end("closed", "reset");
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /**
   * Sends a message that may be lost, is not repeated, and arrives in any order.
   *
   * @returns `false` if it was dropped because the path cannot keep up
   * @throws {RangeError} if it is longer than {@linkcode UdpConnection.maxDatagramBytes}
   * @throws {NetworkError} as {@linkcode UdpConnection.write}
   */
  sendDatagram(data: Uint8Array): boolean {
    if (this.#writeError !== undefined) throw this.#writeError;
    if (data.length > this.maxDatagramBytes) {
      throw new RangeError(
        `Cannot send ${data.length} bytes: a datagram has at most ${this.maxDatagramBytes}`,
      );
    }
    const isAdded = this.#sender.addDatagram(data.slice());
    this.#pump();
    return isAdded;
  }

  /**
   * The next message of the other end. If they are not received, new ones are dropped.
   *
   * @throws {NetworkError} as {@linkcode UdpConnection.read}
   */
  receiveDatagram(options: { signal?: AbortSignal } = {}): Promise<Uint8Array> {
    return this.#datagramsIn.next(options.signal);
  }

  /** Asks the other end to answer to this end's present address, after the network has changed. */
  probe(): void {
    if (this.#phase !== "open" && this.#phase !== "closing") return;
    this.#sendControl("probe", new Uint8Array(8));
  }

  /** Sends again what is under way: the other end can receive it from now on, and may have dropped it before. */
  resend(): void {
    if (this.#phase === "open" || this.#phase === "closing") this.#sender.resend(performance.now());
  }

  #onDatagram(bytes: Uint8Array, from: TransportAddress): void {
    const packet = undefinedIfMalformed(() => decodeUdpPacket(bytes));
    if (packet === undefined || this.#phase === "over") return;
    if (this.#phase === "ending") return this.#whileEnding(packet);
    const nowMs = performance.now();
    switch (packet.kind) {
      case "data":
        if (isNew(this.#acks, packet.number) && this.#onData(packet)) {
          this.#received(packet.number, nowMs);
          if (packet.isPushed || packet.isFinal) this.#wakeReader();
        }
        break;
      case "datagram":
        if (isNew(this.#acks, packet.number)) {
          this.#datagramsIn.push(packet.data.slice());
          this.#received(packet.number, nowMs);
        }
        break;
      case "pad":
        if (isNew(this.#acks, packet.number)) this.#received(packet.number, nowMs);
        break;
      case "ack":
        this.#sender.onAck(packet, nowMs);
        return this.#pump();
      default:
        return this.#onControl(packet, from);
    }
    this.#schedule(nowMs);
  }

  /** Whether the packet may be acknowledged. */
  #onData({ offset, data, isFinal }: DataPacket): boolean {
    if (!this.#incoming.add(offset, data, isFinal)) return false;
    if (this.#phase === "closing") this.#incoming.discard();
    return true;
  }

  #received(number: number, nowMs: number): void {
    const minimumMs = this.#sender.roundTrip.minimumMs;
    const rttMs = minimumMs === Infinity ? undefined : minimumMs;
    const { state, actions } = stepAck(this.#acks, { kind: "received", number, rttMs }, nowMs);
    this.#acks = state;
    if (actions.some(({ kind }) => kind === "acknowledge")) this.#acknowledge(nowMs);
  }

  #acknowledge(nowMs: number): void {
    const ranges = rangesToSend(this.#acks);
    if (ranges.length === 0) return;
    const delayMs = this.#acks.dueMs === Infinity ? 0 : nowMs - this.#acks.highestAtMs;
    this.#acks = stepAck(this.#acks, { kind: "acknowledged" }, nowMs).state;
    this.#toldLimit = this.#incoming.limit;
    const packet = { kind: "ack", ranges, delayMs, limit: this.#toldLimit } as const;
    this.#transmit(encodeUdpPacket(this.#keys.send.pathId, packet), nowMs);
    if (this.#incoming.available > 0) this.#wakeReader();
  }

  /** Lets the other end send more, once enough was read. */
  #tellLimit(): void {
    if (this.#incoming.limit - this.#toldLimit < TELL_LIMIT_BYTES) return;
    this.#acknowledge(performance.now());
  }

  #onControl(packet: ControlPacket, from: TransportAddress): void {
    if (packet.counter <= this.#highestControl || !isAuthentic(this.#keys.receive, packet)) return;
    this.#highestControl = packet.counter;
    switch (packet.kind) {
      case "probe":
        this.#moveTo(from);
        this.#sendControl("answer", packet.value);
        break;
      case "close":
      case "reset":
        this.#sendControl("close", new Uint8Array(8)); // so that the other end need not repeat it
        if (packet.kind === "close") this.#onClose();
        else this.#fail(undefined, "reset");
        break;
      case "answer": // the other end has this end's new address
        this.resend();
    }
  }

  /** The other end has another address: what was measured says nothing about the path to it (RFC 9000 §9.4). */
  #moveTo(remote: TransportAddress): void {
    if (sameTransportAddress(remote, this.#remote)) return;
    this.#remote = remote;
    this.#sender.restart(performance.now());
  }

  /** The other end sends nothing more, and receives nothing. */
  #onClose(): void {
    this.#writeError ??= this.#error("write", "reset");
    if (!this.#incoming.isComplete) this.#readError ??= this.#error("read", "reset");
    this.#over();
  }

  #pump(): void {
    if (this.#phase === "ending" || this.#phase === "over") return;
    const nowMs = performance.now();
    this.#sender.pump(nowMs);
    this.#schedule(nowMs);
  }

  #sendControl(kind: ControlPacket["kind"], value: Uint8Array): void {
    const counter = this.#controlsSent++;
    const bytes = sealControl(this.#keys.send, { kind, counter, value });
    this.#transmit(bytes, performance.now());
  }

  #transmit(bytes: Uint8Array, nowMs: number): void {
    this.#lastSentMs = nowMs;
    this.#demultiplexer.send(bytes, this.#remote).catch(this.#onSendError);
  }

  /** As good as a lost packet, and it will be sent again. */
  readonly #onSendError = (error: unknown): void => {
    if (this.#phase !== "over") this.#options.onSendError?.(error);
  };

  /** There is room to write, or everything is delivered. */
  #onProgress(): void {
    const { stream } = this.#sender;
    if (stream.room >= WRITE_ROOM_BYTES) this.#wakeWriter();
    if (this.#phase === "closing" && stream.isDone) this.#end("closed", "close");
  }

  #finishWriting(): void {
    this.#writeError ??= this.#error("write", "closed");
    this.#wakeWriter();
    this.#sender.stream.finish();
    this.#pump();
    if (this.#phase === "closing" && this.#sender.stream.isDone) this.#end("closed", "close");
  }

  #onTimer(): void {
    this.#timerMs = Infinity;
    const nowMs = performance.now();
    if (this.#goodbye !== undefined) return this.#onGoodbyeTimer(nowMs);
    if (nowMs >= this.#closingUntilMs) return this.#end("closed", "close");
    const { waitingSinceMs } = this.#sender;
    if (waitingSinceMs !== undefined && nowMs - waitingSinceMs >= DEAD_AFTER_MS) {
      return this.#fail(undefined, "timed-out");
    }
    if (this.#acks.dueMs <= nowMs) this.#acknowledge(nowMs);
    this.#sender.onTimer(nowMs);
    if (nowMs - this.#lastSentMs >= this.#keepAliveMs) {
      this.#keepAliveMs = keepAliveWaitMs();
      this.#sender.sendPad(nowMs);
    }
    this.#pump();
  }

  /** Sets the timer for whatever comes first. A later timer is left alone: when it fires, it looks again. */
  #schedule(nowMs: number): void {
    if (this.#phase === "over") return;
    const dueMs = this.#goodbye?.nextMs ?? this.#nextDueMs(nowMs);
    if (dueMs >= this.#timerMs) return;
    this.#timerMs = dueMs;
    this.#timer.set(Math.max(dueMs - nowMs, 0));
  }

  #nextDueMs(nowMs: number): number {
    return Math.min(
      this.#acks.dueMs,
      this.#sender.nextDueMs(nowMs),
      this.#lastSentMs + this.#keepAliveMs,
      this.#closingUntilMs,
    );
  }

  /** Ends both directions, and tells the other end. */
  #end(reason: NetworkErrorReason, kind: "close" | "reset"): void {
    this.#writeError ??= this.#error("write", reason);
    this.#readError ??= this.#error("read", reason);
    this.#phase = "ending";
    const nowMs = performance.now();
    const bytes = sealControl(this.#keys.send, {
      kind,
      counter: this.#controlsSent++,
      value: new Uint8Array(8),
    });
    this.#transmit(bytes, nowMs);
    const nextMs = nowMs + probeTimeoutMs(this.#sender.roundTrip);
    this.#goodbye = { bytes, left: GOODBYES - 1, nextMs, answers: MAX_GOODBYE_ANSWERS };
    this.#wakeAll();
    this.#timerMs = Infinity;
    this.#schedule(nowMs);
  }

  #onGoodbyeTimer(nowMs: number): void {
    const goodbye = this.#goodbye!;
    if (goodbye.left === 0) return this.#over();
    goodbye.left--;
    goodbye.nextMs = nowMs + probeTimeoutMs(this.#sender.roundTrip);
    this.#transmit(goodbye.bytes, nowMs);
    this.#schedule(nowMs);
  }

  /** The other end has not heard it yet, or ends, too. */
  #whileEnding(packet: UdpPacket): void {
    const isGoodbye = packet.kind === "close" || packet.kind === "reset";
    if (isGoodbye && isAuthentic(this.#keys.receive, packet)) return this.#over();
    const goodbye = this.#goodbye!;
    if (goodbye.answers-- > 0) this.#transmit(goodbye.bytes, performance.now());
  }

  /** Ends both directions without a word. */
  #fail(cause: unknown, reason: NetworkErrorReason): void {
    if (this.#phase === "over") return;
    this.#writeError ??= this.#error("write", reason, cause);
    this.#readError ??= this.#error("read", reason, cause);
    this.#over();
  }

  #over(): void {
    this.#phase = "over";
    this.#timer.clear();
    this.#demultiplexer.remove(this.#receiver);
    this.#wakeAll();
    this.#released.resolve();
  }

  #wakeAll(): void {
    this.#wakeReader();
    this.#wakeWriter();
    this.#datagramsIn.close(this.#readError ?? this.#error("read", "reset"));
  }

  #error(verb: string, reason: NetworkErrorReason, cause?: unknown): NetworkError {
    const to = formatTransportAddress(this.#remote);
    const message = `Cannot ${verb} on the UDP path to ${to}: ${REASONS[reason] ?? reason}`;
    return new NetworkError(message, reason, cause === undefined ? undefined : { cause });
  }
}

const REASONS: Readonly<Partial<Record<NetworkErrorReason, string>>> = {
  closed: "this end is closed",
  reset: "the other end is closed",
  "timed-out": "nothing was received for 30 s",
};

function keepAliveWaitMs(): number {
  return MIN_KEEP_ALIVE_MS + randomBelow(KEEP_ALIVE_VARIATION_MS);
}

/** Chosen by us: 54 ms at 50 MB/s, in less than a third of the memory that a path may take. */
const WINDOW_BYTES = 3 * 1024 * 1024;

/** Chosen by us: a writer is woken for this much room, not for each packet. */
const WRITE_ROOM_BYTES = 65_536;

/** Chosen by us: an ACK only to raise the limit costs a packet. */
const TELL_LIMIT_BYTES = 131_072;

/** Chosen by us: UDP mappings live 30 s and more (RFC 4787 REQ-5); jitter, so that peers do not fall into step. */
const [MIN_KEEP_ALIVE_MS, KEEP_ALIVE_VARIATION_MS] = [15_000, 10_000];

/** Chosen by us: an idle path is declared dead after a keep-alive and this. */
const DEAD_AFTER_MS = 30_000;

/** Chosen by us: a bad path may need several attempts. */
const LINGER_MS = 20_000;

/** Chosen by us: each may be lost. */
const [GOODBYES, MAX_GOODBYE_ANSWERS] = [3, 16];
