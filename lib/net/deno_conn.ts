/**
 * Connections of this library as `Deno.Conn`s, and the other way round: the parts of a `Deno.Conn` that suffice here; and
 * connections over others in general.
 *
 * @module
 */

import { concat } from "../base/bytes.ts";
import { writeAll } from "../base/reader.ts";
import { parseIp, type TransportAddress } from "./address.ts";
import type { DetachedConnection, TcpConnection } from "./network.ts";

/**
 * The part of a `Deno.Conn` that suffices to read, write and close it. Deno's own connections have it, and so do those
 * of {@linkcode toDenoConn}.
 */
export interface DenoConnLike {
  /** The local address. */
  readonly localAddr: DenoAddress;
  /** The remote address. */
  readonly remoteAddr: DenoAddress;
  /** As `Deno.Conn.read()`. */
  read(buffer: Uint8Array): Promise<number | null>;
  /** As `Deno.Conn.write()`. */
  write(data: Uint8Array): Promise<number>;
  /** As `Deno.Conn.closeWrite()`. */
  closeWrite(): Promise<void>;
  /** As `Deno.Conn.close()`. */
  close(): void;
  /** As `Deno.Conn.ref()`. */
  ref?(): void;
  /** As `Deno.Conn.unref()`. */
  unref?(): void;
}

/** A `Deno.Addr`. */
export interface DenoAddress {
  /** Such as `"tcp"` or `"unix"`. */
  readonly transport: string;
  /** An IP address, if the transport has one. */
  readonly hostname?: string;
  /** 1 to 65535, if the transport has ports. */
  readonly port?: number;
}

/** The address of one end of a connection, as a `Deno.NetAddr`. */
export interface NetAddress {
  /** Always TCP. */
  readonly transport: "tcp";
  /** An IP address. */
  readonly hostname: string;
  /** 1 to 65535. */
  readonly port: number;
}

/** Both a `Deno.Conn` and a {@linkcode TcpConnection}. */
export interface DenoConn extends TcpConnection {
  /** The local address. */
  readonly localAddr: NetAddress;
  /** The remote address. */
  readonly remoteAddr: NetAddress;
  /**
   * The data of the other side, until it finishes sending: a byte stream that is read only as fast as it is consumed.
   * Cancelling it closes the connection.
   */
  readonly readable: ReadableStream<Uint8Array<ArrayBuffer>>;
  /** Sends data to the other side. Closing it is `closeWrite()`, aborting it is `reset()`. */
  readonly writable: WritableStream<Uint8Array>;
  /** Keeps the program running while the connection is open. This is the default. */
  ref(): void;
  /** Allows the program to end while the connection is open. */
  unref(): void;
}

/**
 * A connection as a `Deno.Conn`, with `reset()` as well. Unlike Deno's own connections, it stays open when `readable` has
 * been read to the end, because the other direction may still be in use: close it explicitly.
 *
 * @param connection owned by the result
 */
export function toDenoConn(connection: TcpConnection): DenoConn {
  return new TcpDenoConn(connection);
}

/** An address in the form that Deno uses. */
export function toNetAddress({ ip, port }: TransportAddress): NetAddress {
  return { transport: "tcp", hostname: ip, port };
}

/** A connection of this library, or a `Deno.Conn`. */
export type ByteStream = TcpConnection | DenoConnLike;

/**
 * The addresses of both ends of a connection.
 *
 * @throws {TypeError} if the connection is not between IP addresses
 */
export function addressesOf(
  stream: ByteStream,
): { local: TransportAddress; remote: TransportAddress } {
  if ("remote" in stream) return { local: stream.local, remote: stream.remote };
  return {
    local: toTransportAddress(stream.localAddr),
    remote: toTransportAddress(stream.remoteAddr),
  };
}

/** Resets the connection; closes one of Deno's, which cannot be reset. */
export function resetStream(stream: ByteStream): void {
  if ("reset" in stream) stream.reset();
  else closeStream(stream);
}

/** Closes the connection. One of Deno's throws if it is closed twice, or by whoever else has it: not this. */
export function closeStream(stream: ByteStream): void {
  try {
    stream.close();
  } catch (error) {
    if (!(error instanceof Error && error.name === "BadResource")) throw error;
  }
}

/** A connection over another one. Whatever a subclass does not do itself, the other one does. */
export class WrappedConnection implements TcpConnection {
  readonly local: TransportAddress;
  readonly remote: TransportAddress;
  /** The other one. */
  protected readonly inner: TcpConnection;

  /** @param inner owned by this one */
  constructor(
    inner: TcpConnection,
    { local, remote }: Pick<TcpConnection, "local" | "remote"> = inner,
  ) {
    this.inner = inner;
    this.local = local;
    this.remote = remote;
  }

  read(buffer: Uint8Array): Promise<number | null> {
    return this.inner.read(buffer);
  }

  write(data: Uint8Array): Promise<number> {
    return this.inner.write(data);
  }

  closeWrite(): Promise<void> {
    return this.inner.closeWrite();
  }

  close(): void {
    this.inner.close();
  }

  reset(): void {
    this.inner.reset();
  }

  ref(): void {
    this.inner.ref?.();
  }

  unref(): void {
    this.inner.unref?.();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** A connection of which some bytes have been read and put back. */
export class UnreadConnection extends WrappedConnection {
  #unread: Uint8Array;

  /**
   * @param inner owned by this one
   * @param unread what the first reads return
   */
  constructor(
    inner: TcpConnection,
    unread: Uint8Array,
    ends: Pick<TcpConnection, "local" | "remote"> = inner,
  ) {
    super(inner, ends);
    this.#unread = unread;
  }

  override read(buffer: Uint8Array): Promise<number | null> {
    if (this.#unread.length === 0) return super.read(buffer);
    const length = Math.min(buffer.length, this.#unread.length);
    buffer.set(this.#unread.subarray(0, length));
    this.#unread = this.#unread.subarray(length);
    return Promise.resolve(length);
  }

  detach(): DetachedConnection | undefined {
    const detached = this.inner.detach?.();
    return detached && { ...detached, unread: concat(this.#unread, detached.unread) };
  }

  override close(): void {
    this.#unread = NOTHING;
    super.close();
  }

  override reset(): void {
    this.#unread = NOTHING;
    super.reset();
  }
}

class TcpDenoConn extends WrappedConnection implements DenoConn {
  #readable: ReadableStream<Uint8Array<ArrayBuffer>> | undefined;
  #writable: WritableStream<Uint8Array> | undefined;

  get localAddr(): NetAddress {
    return toNetAddress(this.local);
  }

  get remoteAddr(): NetAddress {
    return toNetAddress(this.remote);
  }

  get readable(): ReadableStream<Uint8Array<ArrayBuffer>> {
    return this.#readable ??= new ReadableStream({
      type: "bytes",
      autoAllocateChunkSize: CHUNK_BYTES,
      pull: (controller) => this.#pull(controller),
      cancel: () => this.close(),
    });
  }

  get writable(): WritableStream<Uint8Array> {
    return this.#writable ??= new WritableStream({
      write: (data) => writeAll(this.inner, data),
      close: () => this.closeWrite(),
      abort: () => this.reset(),
    });
  }

  async #pull(controller: ReadableByteStreamController): Promise<void> {
    const request = controller.byobRequest!; // always there, because the stream allocates chunks
    const view = request.view!;
    const buffer = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    const length = await this.inner.read(buffer);
    if (length === null) controller.close();
    request.respond(length ?? 0); // 0 returns the buffer to a reader that brought its own
  }
}

function toTransportAddress({ transport, hostname, port }: DenoAddress): TransportAddress {
  if (hostname === undefined || port === undefined) {
    throw new TypeError(`Cannot secure a connection: ${transport} has no IP address and port`);
  }
  return { ip: parseIp(hostname), port };
}

const NOTHING = new Uint8Array(0);

/** The size of Deno's own chunks. */
const CHUNK_BYTES = 65_536;
