/**
 * The receiving half of a session's stream: joins what arrives over one path after another, within a window that takes
 * its memory from a budget.
 *
 * @module
 */

import { ByteQueue, partOf } from "../base/bytes.ts";
import { malformed } from "../base/errors.ts";
import { INITIAL_LIMIT } from "./frame.ts";

/** Takes parts of the stream, and returns each byte once and in order. */
export class ReceiveStream {
  readonly #maxWindowBytes: number;
  readonly #window: Window;
  readonly #growth: WindowGrowth;
  readonly #leastBytes: number;
  readonly #onBytes: ((data: Uint8Array) => void) | undefined;
  readonly #unread = new ByteQueue();
  #reading: WaitingRead | undefined;
  #received = 0;
  #read = 0;
  #length: number | undefined;
  /** The last acknowledgement sent. */
  #sent: { received: number; limit: number };
  /** How far ahead of the reader the last limit was. */
  #granted: number;
  #failure: { readonly reason: unknown } | undefined;
  #isDiscarding = false;
  #hasDiscarded = false;

  /**
   * Opens a stream.
   *
   * @param maxWindowBytes how much is kept for a reader that is slower than the sender, at most
   * @param window where the memory for more than the least comes from
   */
  constructor(
    maxWindowBytes: number,
    window: Window = UNLIMITED_WINDOWS.open(),
    { leastBytes = INITIAL_LIMIT, onBytes, rttMs }: ReceiveStreamOptions = {},
  ) {
    this.#maxWindowBytes = maxWindowBytes;
    this.#window = window;
    this.#growth = new WindowGrowth(rttMs);
    this.#leastBytes = this.#granted = leastBytes;
    this.#sent = { received: 0, limit: leastBytes };
    this.#onBytes = onBytes;
  }

  /** How much has arrived, in order; the end of the stream counts as one more byte. */
  get received(): number {
    return this.#received + (this.isFinished ? 1 : 0);
  }

  /** Whether the whole stream has arrived. */
  get isFinished(): boolean {
    return this.#length !== undefined;
  }

  /** Whether data was discarded without being read. */
  get hasDiscarded(): boolean {
    return this.#hasDiscarded;
  }

  /** Whether to send an acknowledgement at once. */
  get isAcknowledgementUrgent(): boolean {
    const windowBytes = this.#windowBytes;
    const acknowledgeBytes = Math.min(MAX_UNACKNOWLEDGED, windowBytes / 4);
    const allowed = this.#read + windowBytes - this.#sent.limit;
    return this.received - this.#sent.received >= acknowledgeBytes ||
      allowed >= acknowledgeBytes && !this.#isDiscarding;
  }

  /** Whether an acknowledgement is worth its few bytes in what is sent anyway. */
  get isAcknowledgementUseful(): boolean {
    return this.received - this.#sent.received >= MAX_UNACKNOWLEDGED / 2;
  }

  /** Whether data waits to be read. */
  get hasUnread(): boolean {
    return this.#unread.length > 0;
  }

  /** Whether to raise the limit: a quarter of what was granted is used, and the reader has kept up with some of it. */
  get isLimitDue(): boolean {
    const left = this.#granted - Math.min(this.#granted / 4, MAX_UNTOLD);
    if (this.#isOver || this.#sent.limit - this.#received > left) return false;
    return this.#read + this.#windowBytes - this.#sent.limit >= this.#leastBytes / 4;
  }

  /** When to send the next acknowledgement: within this time, 0 for at once. */
  acknowledgeWithinMs(
    timings: { readonly acknowledgeAfterMs: number; readonly acknowledgeSoonMs: number },
  ): number {
    if (this.isFinished || this.isAcknowledgementUrgent) return 0;
    // A sender without memory to spare has only the least window.
    const isMuch = this.received - this.#sent.received >= INITIAL_LIMIT / 2;
    return isMuch ? timings.acknowledgeSoonMs : timings.acknowledgeAfterMs;
  }

  /** What to acknowledge now; it counts as sent. */
  acknowledgement(): { received: number; limit: number } {
    if (this.#onBytes === undefined) this.#growth.note(this.#read, this.#windowBytes);
    const allowed = this.#isDiscarding ? 0 : this.#read + this.#windowBytes;
    const limit = Math.max(this.#sent.limit, allowed);
    this.#sent = { received: this.received, limit };
    this.#granted = limit - this.#read;
    this.#updateWindow();
    return this.#sent;
  }

  /**
   * As `TcpConnection.read()`. Failures reject the promise; the call itself does not throw.
   *
   * @throws {TypeError} if another read is waiting
   */
  read(buffer: Uint8Array): Promise<number | null> {
    if (this.#reading !== undefined) {
      return Promise.reject(new TypeError("Cannot read: another read is waiting"));
    }
    if (this.#isDiscarding) return Promise.reject(this.#failure!.reason);
    if (buffer.length === 0) return Promise.resolve(0);
    const length = this.#unread.take(buffer);
    this.#read += length;
    if (this.#isOver) this.#updateWindow();
    if (length > 0) {
      this.noteUnread();
      return Promise.resolve(length);
    }
    if (this.isFinished) return Promise.resolve(null);
    if (this.#failure !== undefined) return Promise.reject(this.#failure.reason);
    return new Promise((resolve, reject) => {
      this.#reading = { buffer, filled: 0, resolve, reject };
    });
  }

  /**
   * Takes a part of the stream. Bytes that have arrived before are skipped.
   *
   * @throws {MalformedMessageError} if it exceeds the limit or the end of the stream
   */
  accept(offset: number, data: Uint8Array): void {
    const end = offset + data.length;
    if (end > this.#sent.limit) {
      throw malformed(WHAT, `byte ${end} is over the limit of ${this.#sent.limit}`);
    }
    if (this.#length !== undefined && end > this.#length) {
      throw malformed(WHAT, `byte ${end} is after the end at ${this.#length}`);
    }
    if (end <= this.#received) return;
    let fresh = partOf(data, this.#received - offset);
    this.#received = end;
    if (this.#onBytes !== undefined) {
      this.#read = end;
      return this.#onBytes(fresh);
    }
    if (this.#isDiscarding) {
      this.#hasDiscarded = true;
      return;
    }
    const reading = this.#reading;
    if (reading !== undefined) {
      const part = partOf(fresh, 0, reading.buffer.length - reading.filled);
      reading.buffer.set(part, reading.filled);
      this.#read += part.length;
      if (reading.filled === 0) Promise.resolve().then(() => this.#endRead()); // with what else arrives until then
      reading.filled += part.length;
      fresh = partOf(fresh, part.length);
    }
    if (fresh.length > 0) this.#unread.push(fresh);
  }

  /**
   * The stream ends.
   *
   * @throws {MalformedMessageError} if bytes are missing, or it has ended elsewhere
   */
  finish(length: number): void {
    if (length !== (this.#length ?? this.#received)) {
      throw malformed(WHAT, `it ends at ${length}, but ${this.#received} bytes were received`);
    }
    this.#length = length;
    this.#updateWindow();
    this.#endRead();
  }

  /**
   * Notes how much waits to be read of what a stream may hold in any case. No memory is set aside for that.
   *
   * @returns `false` if the streams of the other side together hold too much
   */
  noteUnread(): boolean {
    const isKept = this.#failure === undefined;
    return this.#window.keep(isKept ? Math.min(this.#unread.length, this.#leastBytes) : 0);
  }

  /** Gives back the memory that nothing needs now. */
  rest(): void {
    this.#unread.rest();
  }

  /** Discards what has arrived and will arrive. Reads fail with the reason. */
  discard(reason: unknown): void {
    if (this.#isDiscarding) return;
    this.#hasDiscarded = this.#unread.length > 0 && !this.isFinished;
    this.#isDiscarding = true;
    this.#unread.clear();
    this.fail(reason);
    this.#failure = { reason };
  }

  /** Nothing more will arrive. What has arrived can still be read; then reads fail with the reason. */
  fail(reason: unknown): void {
    this.#failure ??= { reason };
    this.#updateWindow();
    this.noteUnread();
    this.#endRead();
  }

  /** The waiting read returns what it has, or the reason why nothing more will arrive. */
  #endRead(): void {
    const reading = this.#reading;
    if (reading === undefined) return;
    this.#reading = undefined;
    if (reading.filled > 0) reading.resolve(reading.filled);
    else if (this.isFinished) reading.resolve(null);
    else reading.reject(this.#failure!.reason);
  }

  /** How far the other side may be ahead of the reader. */
  get #windowBytes(): number {
    if (this.#onBytes !== undefined) return this.#maxWindowBytes; // nothing is kept
    const { factor } = this.#growth;
    const wanted = Math.min(this.#maxWindowBytes, factor * FIRST_WINDOW_BYTES);
    return Math.min(wanted, this.#leastBytes + this.#window.mayHold(factor > 1));
  }

  /** Whether no more will arrive. */
  get #isOver(): boolean {
    return this.#failure !== undefined || this.isFinished;
  }

  /** What the other side may still fill counts as held, whether it does or not. */
  #updateWindow(): void {
    const mayFill = this.#isOver ? this.#unread.length : this.#sent.limit - this.#read;
    this.#window.hold(mayFill - this.#leastBytes);
  }
}

/** How a {@linkcode ReceiveStream} differs from that of a session. */
export interface ReceiveStreamOptions {
  /** How much the other side may send before it is told a limit, and what the window has in any case. Default: 64 KiB. */
  readonly leastBytes?: number;
  /** Takes what arrives, instead of a reader. It may throw a `MalformedMessageError`. */
  readonly onBytes?: (data: Uint8Array) => void;
  /** The shortest round trip to the other side, as far as it is known. */
  readonly rttMs?: () => number | undefined;
}

/**
 * How many times the first window a window should have: twice as many whenever it is used up within two round trips, so
 * that it ends at one to two times bandwidth x delay. As QUIC's implementations do it; RFC 9000 leaves it open.
 */
export class WindowGrowth {
  /** A power of two. */
  factor = 1;
  readonly #rttMs: () => number | undefined;
  #sinceMs: number | undefined;
  #sinceOffset = 0;

  /** @param rttMs the shortest round trip: what waits in queues only makes them longer */
  constructor(rttMs: () => number | undefined = () => undefined) {
    this.#rttMs = rttMs;
  }

  /** The window of this size was used up to this offset. */
  note(offset: number, windowBytes: number, nowMs = performance.now()): void {
    const usedBytes = offset - this.#sinceOffset;
    if (this.#sinceMs !== undefined && usedBytes < windowBytes / 2) return;
    const windowMs = (nowMs - (this.#sinceMs ?? -Infinity)) * windowBytes / usedBytes;
    const isLimiting = windowMs < 2 * (this.#rttMs() ?? 0);
    if (isLimiting && windowBytes >= this.factor * FIRST_WINDOW_BYTES / 2) {
      this.factor = Math.min(2 * this.factor, MAX_WINDOW_BYTES / FIRST_WINDOW_BYTES);
    }
    this.#sinceMs = nowMs;
    this.#sinceOffset = offset;
  }
}

/** Where the windows of a session come from. */
export interface WindowSource {
  /** A window for one direction. */
  open(): Window;
}

/** One window. */
export interface Window {
  /**
   * How many bytes it may hold now, beyond the least that it has in any case.
   *
   * @param isGrown whether the reader and the path have shown to need more than the first window
   */
  mayHold(isGrown?: boolean): number;
  /** Notes how many it holds; 0 gives all of them back. */
  hold(bytes: number): void;
  /** Notes how many bytes of the least wait for a reader; `false` if the owner keeps more than it may. */
  keep(bytes: number): boolean;
}

/** How much memory there is. */
export interface WindowLimits {
  /** For all windows together, beyond the least that each has. */
  readonly totalBytes: number;
  /** For the windows of one owner. */
  readonly perOwnerBytes: number;
}

/**
 * The memory that the windows of several sessions share. A window may have an eighth of what is free, and a quarter of what
 * is free to its owner: the more there are, the smaller they get, and there is always something left for the next. What
 * windows have grown by comes from as much memory again, of which each may have most: so it is not what others wait for.
 *
 * The least of each window is not set aside: it would be much for thousands of idle streams. What waits for a reader there
 * is counted, and may be as much again.
 */
export class WindowBudget {
  readonly #pools: WindowPools;
  /** Windows of streams that were dropped without being read or closed. What arrived for them is gone with them. */
  readonly #dropped = new FinalizationRegistry<Holding>((holding) => holding.release());

  constructor(limits: WindowLimits = WINDOW_LIMITS) {
    const pool = () => new MemoryPool(limits);
    this.#pools = { first: pool(), grown: pool(), unread: pool() };
  }

  /** How many bytes all windows hold together, beyond the least of each. */
  get heldBytes(): number {
    return this.#pools.first.heldBytes + this.#pools.grown.heldBytes;
  }

  /** How many bytes wait for a reader in what each window has in any case. */
  get unreadBytes(): number {
    return this.#pools.unread.heldBytes;
  }

  /** The part of one owner, such as a public key. */
  of(owner: string): WindowSource {
    return {
      open: () => {
        const holding = new Holding(owner, this.#pools);
        const window = new BudgetWindow(holding);
        this.#dropped.register(window, holding);
        return window;
      },
    };
  }
}

interface WindowPools {
  readonly first: MemoryPool;
  readonly grown: MemoryPool;
  readonly unread: MemoryPool;
}

class MemoryPool {
  heldBytes = 0;
  readonly #limits: WindowLimits;
  readonly #byOwner = new Map<string, number>();

  constructor(limits: WindowLimits) {
    this.#limits = limits;
  }

  /** How many bytes are free: to all, and to this owner. */
  free(owner: string): readonly [number, number] {
    const { totalBytes, perOwnerBytes } = this.#limits;
    const freeToOwner = perOwnerBytes - (this.#byOwner.get(owner) ?? 0);
    return [Math.max(0, totalBytes - this.heldBytes), Math.max(0, freeToOwner)];
  }

  /** Whether an owner holds more than its part, or than is fair while all together hold too much. */
  isOver(owner: string): boolean {
    const { totalBytes, perOwnerBytes } = this.#limits;
    const byOwner = this.#byOwner.get(owner) ?? 0;
    return byOwner > perOwnerBytes || this.heldBytes > totalBytes && byOwner > FAIR_BYTES;
  }

  /** Notes that the windows of this owner hold more bytes, or fewer if negative. */
  grow(owner: string, bytes: number): void {
    this.heldBytes += bytes;
    const byOwner = (this.#byOwner.get(owner) ?? 0) + bytes;
    if (byOwner > 0) this.#byOwner.set(owner, byOwner);
    else this.#byOwner.delete(owner);
  }
}

/** What one window holds: apart from the window, so that it can be given back without it. */
class Holding {
  readonly bytes = { first: 0, grown: 0, unread: 0 };
  readonly owner: string;
  readonly pools: WindowPools;

  constructor(owner: string, pools: WindowPools) {
    this.owner = owner;
    this.pools = pools;
  }

  /** Notes how much it holds of one pool. */
  note(name: keyof WindowPools, bytes: number): void {
    const before = this.bytes[name];
    if (bytes !== before) this.pools[name].grow(this.owner, bytes - before);
    this.bytes[name] = bytes;
  }

  release(): void {
    for (const name of ["first", "grown", "unread"] as const) this.note(name, 0);
  }
}

class BudgetWindow implements Window {
  readonly #holding: Holding;
  #isGrown = false;

  constructor(holding: Holding) {
    this.#holding = holding;
  }

  mayHold(isGrown = false): number {
    const { owner, pools, bytes } = this.#holding;
    this.#isGrown ||= isGrown;
    if (!this.#isGrown) return this.#firstBytes;
    const free = Math.min(...pools.grown.free(owner)) + bytes.grown;
    return Math.min(this.#firstBytes, FIRST_WINDOW_BYTES) + Math.floor(free * SHARE_OF_GROWN);
  }

  hold(bytes: number): void {
    const holding = this.#holding;
    const all = Math.max(0, bytes);
    if (all === holding.bytes.first + holding.bytes.grown) return;
    const first = this.#isGrown ? Math.min(all, FIRST_WINDOW_BYTES, this.#firstBytes) : all;
    holding.note("first", first);
    holding.note("grown", all - first);
  }

  keep(bytes: number): boolean {
    const { owner, pools } = this.#holding;
    this.#holding.note("unread", bytes);
    return bytes === 0 || !pools.unread.isOver(owner);
  }

  get #firstBytes(): number {
    const { owner, pools } = this.#holding;
    const [free, freeToOwner] = pools.first.free(owner);
    return Math.floor(Math.min(free / SHARE_OF_ALL, freeToOwner / SHARE_OF_OWNER));
  }
}

/**
 * Chosen by us: a window of 4 MiB for each of the first eight busy connections, and less for more than those; and one of
 * 28 MiB for the first that needs it, which is enough for 200 MB/s over a round trip of 80 ms.
 */
const WINDOW_LIMITS: WindowLimits = {
  totalBytes: 64 * 1024 * 1024,
  perOwnerBytes: 32 * 1024 * 1024,
};

/** What each owner may keep although others keep too much. Chosen by us: sixteen streams whose readers have stopped. */
const FAIR_BYTES = 262_144;

/** A source without a limit. All its windows are one, since sessions that are idle must take little memory. */
export const UNLIMITED_WINDOWS: WindowSource = { open: () => UNLIMITED_WINDOW };

interface WaitingRead {
  readonly buffer: Uint8Array;
  filled: number;
  resolve(length: number | null): void;
  reject(reason: unknown): void;
}

/** Chosen by us; a grown window leaves a quarter to the next. */
const SHARE_OF_ALL = 8;
const SHARE_OF_OWNER = 4;
const SHARE_OF_GROWN = 0.75;

const UNLIMITED_WINDOW: Window = { mayHold: () => Infinity, hold() {}, keep: () => true };

const WHAT = "stream of a session";

/** Chosen by us: each costs both sides as much time as 64 KiB of data. */
const MAX_UNACKNOWLEDGED = 524_288;

/** Chosen by us: a small part of a large window, so that the sender can use the rest. */
const MAX_UNTOLD = 2_097_152;

/** Chosen by us: 40 MiB/s over a round trip of 100 ms. */
export const FIRST_WINDOW_BYTES = 4_194_304;

/** Chosen by us: 300 MB/s over a round trip of 100 ms. */
export const MAX_WINDOW_BYTES = 33_554_432;
