/**
 * The buffers at both ends of a TCP byte stream: data that was written but not acknowledged, and data that arrived but
 * was not read.
 *
 * @module
 */

/** A part of the stream. FIN occupies one sequence number. */
export interface StreamSegment {
  readonly sequence: number;
  readonly data: Uint8Array;
  readonly fin: boolean;
}

/** Keeps written data until the peer has acknowledged it. */
export class SendBuffer {
  readonly #segments: StreamSegment[] = [];
  #end: number;
  /** How many segments have been sent. */
  #sent = 0;
  /** The first sequence number beyond the peer's window. */
  #windowEnd: number;
  #finished = false;

  /** @param firstSequence the sequence number of the first byte, one after that of the SYN */
  constructor(firstSequence: number) {
    this.#end = firstSequence;
    this.#windowEnd = firstSequence;
  }

  /** The sequence number of the next byte to send, SND.NXT. */
  get next(): number {
    return this.#segments[this.#sent]?.sequence ?? this.#end;
  }

  /** Whether FIN was queued, so that nothing more can be written. */
  get isFinished(): boolean {
    return this.#finished;
  }

  /** Whether all data and FIN were acknowledged. */
  get isEmpty(): boolean {
    return this.#segments.length === 0;
  }

  /** The oldest unacknowledged segment, to retransmit. */
  get oldest(): StreamSegment | undefined {
    return this.#segments[0];
  }

  /** Buffers as much of the data as there is room for; returns the number of bytes. */
  write(data: Uint8Array): number {
    const queued = this.#end - (this.oldest?.sequence ?? this.#end);
    const taken = Math.min(data.length, BUFFER_SIZE - queued);
    for (let offset = 0; offset < taken; offset += MAX_SEGMENT_SIZE) {
      this.#add(data.slice(offset, Math.min(offset + MAX_SEGMENT_SIZE, taken)), false);
    }
    return taken;
  }

  /** Queues FIN; idempotent. */
  finish(): void {
    if (!this.#finished) this.#add(new Uint8Array(), true);
    this.#finished = true;
  }

  /** The next unsent segment, if the peer's window allows it. */
  takeUnsent(): StreamSegment | undefined {
    const segment = this.#segments[this.#sent];
    if (segment === undefined) return undefined;
    if (segment.sequence + segment.data.length > this.#windowEnd) return undefined; // FIN needs no window
    this.#sent++;
    return segment;
  }

  /** Applies an acknowledgment; returns whether it acknowledges anything new. */
  acknowledge(acknowledgment: number, window: number): boolean {
    this.#windowEnd = Math.max(this.#windowEnd, acknowledgment + window);
    let progress = false;
    while (this.oldest !== undefined && endOf(this.oldest) <= acknowledgment) {
      this.#segments.shift();
      this.#sent = Math.max(0, this.#sent - 1);
      progress = true;
    }
    return progress;
  }

  #add(data: Uint8Array, fin: boolean): void {
    const segment = { sequence: this.#end, data, fin };
    this.#segments.push(segment);
    this.#end = endOf(segment);
  }
}

/** Reorders segments, and keeps them until they are read. */
export class ReceiveBuffer {
  readonly #unread: Uint8Array[] = [];
  /** Segments that arrived ahead of an earlier one. */
  readonly #early = new Map<number, StreamSegment>();
  #next: number;
  #unreadBytes = 0;
  #finished = false;

  /** @param firstSequence the sequence number of the first byte, one after that of the SYN */
  constructor(firstSequence: number) {
    this.#next = firstSequence;
  }

  /** The sequence number of the next byte expected, RCV.NXT. */
  get next(): number {
    return this.#next;
  }

  /** How many bytes there is room for, RCV.WND. */
  get window(): number {
    return BUFFER_SIZE - this.#unreadBytes;
  }

  /** How many bytes can be read. */
  get unreadBytes(): number {
    return this.#unreadBytes;
  }

  /** Whether FIN has arrived, so that no more bytes will. */
  get isFinished(): boolean {
    return this.#finished;
  }

  /** Accepts a segment, unless it is a duplicate or there is no room for it. */
  accept(segment: StreamSegment): void {
    if (segment.sequence < this.#next) return;
    if (segment.sequence + segment.data.length > this.#next + this.window) return;
    this.#early.set(segment.sequence, segment);
    for (let due = this.#early.get(this.#next); due; due = this.#early.get(this.#next)) {
      this.#early.delete(this.#next);
      this.#next = endOf(due);
      if (due.data.length > 0) this.#unread.push(due.data);
      this.#unreadBytes += due.data.length;
      this.#finished ||= due.fin;
    }
  }

  /** Moves bytes to the start of `target`; returns how many. */
  read(target: Uint8Array): number {
    let filled = 0;
    while (filled < target.length && this.#unread.length > 0) {
      const first = this.#unread[0]!;
      const part = first.subarray(0, target.length - filled);
      target.set(part, filled);
      filled += part.length;
      if (part.length === first.length) this.#unread.shift();
      else this.#unread[0] = first.subarray(part.length);
    }
    this.#unreadBytes -= filled;
    return filled;
  }
}

function endOf({ sequence, data, fin }: StreamSegment): number {
  return sequence + data.length + (fin ? 1 : 0);
}

/** Chosen by us: how many bytes each end of one direction buffers, few enough that tests can fill it. */
const BUFFER_SIZE = 65_535;

/** The payload of an Ethernet frame without headers. */
const MAX_SEGMENT_SIZE = 1448;
