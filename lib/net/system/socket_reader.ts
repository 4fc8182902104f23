/**
 * Reading from a socket of `node:net` without its streams. Bytes go from the system into one buffer of the connection,
 * and from there into the reader's. Streams would allocate a new array for each chunk, and collecting those took a third
 * of the time.
 *
 * @module
 */

import { partOf } from "../../base/bytes.ts";
import net from "node:net";

/** The receiving side of one socket. */
export class SocketReader {
  /** The option that makes a socket read into this object. */
  readonly onread: net.OnReadOpts = {
    buffer: () => this.#buffer,
    callback: (length, buffer) => this.#accept(partOf(buffer, 0, length)),
  };
  #buffer: Uint8Array<ArrayBuffer>;
  #unread: Uint8Array = NOTHING;
  #maxReadBytes = 0;
  /** How many reads one after the other have needed no more than the smallest buffer. */
  #smallReads = 0;
  #waiting: Waiting | undefined;
  #socket: net.Socket | undefined;
  #isAtEnd = false;
  /** Makes the error, which is rarely needed and has a stack: each connection ends, and few are read afterwards. */
  #failure: (() => unknown) | undefined;

  /** @param firstReadBytes the size of the first buffer. Default: small, for a server that has many clients */
  constructor(firstReadBytes = MIN_BUFFER_BYTES) {
    this.#buffer = new Uint8Array(firstReadBytes);
  }

  /**
   * Starts reading.
   *
   * @param toFailure makes the error that reads reject with, from the error of the socket, or from `undefined` once it is
   * closed
   */
  attach(socket: net.Socket, toFailure: (error: Error | undefined) => unknown): void {
    this.#socket = socket;
    let failed: Error | undefined;
    socket.on("error", (error) => failed ??= error);
    socket.on("close", () => this.#fail(() => toFailure(failed)));
    socket.on("end", () => {
      this.#isAtEnd = true;
      this.#takeWaiting()?.resolve(null);
    });
  }

  /** As {@linkcode TcpConnection.read}. */
  read(buffer: Uint8Array): Promise<number | null> {
    if (this.#waiting !== undefined) {
      return Promise.reject(new TypeError("Cannot read: another read is waiting"));
    }
    if (buffer.length === 0) return Promise.resolve(0);
    this.#maxReadBytes = Math.max(this.#maxReadBytes, buffer.length);
    if (this.#unread.length > 0) return Promise.resolve(this.#take(buffer));
    if (this.#isAtEnd) return Promise.resolve(null);
    if (this.#failure !== undefined) return Promise.reject(this.#failure());
    return new Promise((resolve, reject) => this.#waiting = { buffer, resolve, reject });
  }

  /** Stops reading, and returns what was not read; `undefined` if a read waits, or reading has ended. */
  detach(): Uint8Array<ArrayBuffer> | undefined {
    const isOver = this.#isAtEnd || this.#failure !== undefined;
    if (isOver || this.#waiting !== undefined) return undefined;
    return this.#unread.slice();
  }

  /** Discards unread data, and rejects pending and future reads. */
  close(toReason: () => unknown): void {
    this.#unread = NOTHING;
    this.#isAtEnd = false;
    this.#failure = undefined;
    this.#fail(toReason);
  }

  /** Rejects pending and future reads. Data that has arrived can still be read. */
  #fail(toReason: () => unknown): void {
    this.#failure ??= toReason;
    this.#takeWaiting()?.reject(toReason());
  }

  /** Takes what the socket has read; `false` pauses the socket. */
  #accept(data: Uint8Array): boolean {
    if (data.length === this.#buffer.length) this.#growBuffer();
    else this.#shrinkBuffer(data.length);
    this.#unread = data;
    const waiting = this.#takeWaiting();
    if (waiting !== undefined) waiting.resolve(this.#copyTo(waiting.buffer));
    return this.#unread.length === 0;
  }

  #take(buffer: Uint8Array): number {
    const length = this.#copyTo(buffer);
    if (this.#unread.length === 0) this.#socket?.resume();
    return length;
  }

  #copyTo(buffer: Uint8Array): number {
    const length = Math.min(buffer.length, this.#unread.length);
    buffer.set(partOf(this.#unread, 0, length));
    this.#unread = partOf(this.#unread, length);
    return length;
  }

  /** The read that waits: whoever takes it has to settle it. */
  #takeWaiting(): Waiting | undefined {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    return waiting;
  }

  /**
   * The socket asks for its next buffer after each read. The buffer grows only if the reader reads large pieces as well:
   * otherwise a sender could make a server allocate memory.
   */
  #growBuffer(): void {
    const wanted = Math.min(this.#buffer.length, this.#maxReadBytes) * BUFFER_GROWTH;
    const length = Math.min(wanted, MAX_BUFFER_BYTES);
    if (length > this.#buffer.length) this.#buffer = new Uint8Array(length);
    this.#smallReads = 0;
  }

  /** A connection that was busy and carries keep-alives now needs little. */
  #shrinkBuffer(length: number): void {
    const isSmall = length <= MIN_BUFFER_BYTES && this.#buffer.length > MIN_BUFFER_BYTES;
    this.#smallReads = isSmall ? this.#smallReads + 1 : 0;
    if (this.#smallReads < SMALL_READS) return;
    this.#buffer = new Uint8Array(MIN_BUFFER_BYTES);
    this.#smallReads = 0;
  }
}

/**
 * Makes a new socket from an accepted one, so that it reads into `reader`; servers have no option for that. If the
 * platform hides the handle, it returns the socket itself, which then passes its chunks on.
 *
 * @param socket must not have started to read
 */
export function withReader(socket: net.Socket, reader: SocketReader): net.Socket {
  if (!("_handle" in socket) || !isObject(socket._handle)) {
    socket.on("data", (chunk: Uint8Array) => {
      if (!reader.onread.callback(chunk.length, chunk)) socket.pause();
    });
    return socket.resume();
  }
  const options = { allowHalfOpen: true, onread: reader.onread, handle: socket._handle };
  socket._handle = null;
  socket.destroy(); // so that the server no longer counts it
  return new net.Socket(options);
}

interface Waiting {
  readonly buffer: Uint8Array;
  readonly resolve: (length: number | null) => void;
  readonly reject: (reason: unknown) => void;
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}

const NOTHING = new Uint8Array(0);

/** Chosen by us: small, because each of ten thousand clients of a server has one, and most of them are idle. */
const MIN_BUFFER_BYTES = 512;

/** Chosen by us: a transfer rarely has so many in a row, and a connection that is idle has them within 20 s. */
const SMALL_READS = 4;

/** Chosen by us: a read that fills the buffer makes the next one larger by this factor. */
const BUFFER_GROWTH = 8;

/** Chosen by us: it fits the cache of a processor core. With 512 KiB and more, it was a sixth slower. */
const MAX_BUFFER_BYTES = 256 * 1024;
