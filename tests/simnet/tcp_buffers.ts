/**
 * The two ends of a TCP byte stream: what was written and is not acknowledged, and what arrived and is not read.
 *
 * @module
 */

/** A piece of the stream; FIN takes one sequence number. */
export interface StreamSegment {
  readonly sequence: number;
  readonly data: Uint8Array;
  readonly fin: boolean;
}

/** Keeps what was written until the peer has acknowledged it. */
export class SendBuffer {
  readonly #segments: StreamSegment[] = [];
  #end: number;
  /** How many of the segments have been sent. */
  #sent = 0;
  /** The first sequence number beyond what the peer has room for. */
  #windowEnd: number;
  #finished = false;

  /** @param firstSequence the number of the first byte, one after that of the SYN */
  constructor(firstSequence: number) {
    this.#end = firstSequence;
    this.#windowEnd = firstSequence;
  }

  /** The number of the byte to be sent next, SND.NXT. */
  get next(): number {
    return this.#segments[this.#sent]?.sequence ?? this.#end;
  }

  /** Whether FIN was queued: nothing may be written any more. */
  get isFinished(): boolean {
    return this.#finished;
  }

  /** Whether all that was written, and FIN, is acknowledged. */
  get isEmpty(): boolean {
    return this.#segments.length === 0;
  }

  /** The oldest segment that is not acknowledged, for another try. */
  get oldest(): StreamSegment | undefined {
    return this.#segments[0];
  }

  /** Takes as much of the data as there is room for; the number of bytes. */
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

  /** The next segment that may be sent and has not been, as far as the peer's window allows. */
  takeUnsent(): StreamSegment | undefined {
    const segment = this.#segments[this.#sent];
    if (segment === undefined) return undefined;
    if (segment.sequence + segment.data.length > this.#windowEnd) return undefined; // FIN needs no room
    this.#sent++;
    return segment;
  }

  /** Whether an acknowledgment acknowledges anything new. */
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

/** Puts segments in order and keeps them until they are read. */
export class ReceiveBuffer {
  readonly #unread: Uint8Array[] = [];
  /** Segments that came before one that belongs before them. */
  readonly #early = new Map<number, StreamSegment>();
  #next: number;
  #unreadBytes = 0;
  #finished = false;

  /** @param firstSequence the number of the first byte, one after that of the SYN */
  constructor(firstSequence: number) {
    this.#next = firstSequence;
  }

  /** The number of the byte to come next, RCV.NXT. */
  get next(): number {
    return this.#next;
  }

  /** For how many bytes there is room, RCV.WND. */
  get window(): number {
    return BUFFER_SIZE - this.#unreadBytes;
  }

  /** How many bytes wait to be read. */
  get unreadBytes(): number {
    return this.#unreadBytes;
  }

  /** Whether FIN has come: no more bytes will. */
  get isFinished(): boolean {
    return this.#finished;
  }

  /** Takes a segment, unless it is a repetition or there is no room for it. */
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

  /** Moves bytes to the start of `target`; how many. */
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

/** Bytes that one direction holds at either end; ours: small enough that tests fill it. */
const BUFFER_SIZE = 65_535;

/** What fits into an Ethernet frame beside the headers. */
const MAX_SEGMENT_SIZE = 1448;
