/**
 * A connection of this library as a `Deno.Conn`.
 *
 * @module
 */

import type { TransportAddress } from "./address.ts";
import type { TcpConnection } from "./network.ts";

/** A `Deno.NetAddr`. */
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
  /** This side's end. */
  readonly localAddr: NetAddress;
  /** The other side's end. */
  readonly remoteAddr: NetAddress;
  /**
   * What the other side sends, until it finishes: a byte stream, read no faster than it is consumed. Cancelling it
   * closes the connection.
   */
  readonly readable: ReadableStream<Uint8Array<ArrayBuffer>>;
  /** What this side sends. Closing it is `closeWrite()`, aborting it is `reset()`. */
  readonly writable: WritableStream<Uint8Array>;
  /** Keeps the program running while the connection is open, which is so by default. */
  ref(): void;
  /** Lets the program end while the connection is open. */
  unref(): void;
}

/**
 * A connection as a `Deno.Conn`, with `reset()` beside its methods. Unlike Deno's own, it is not closed by reading
 * `readable` to the end: the other direction may go on, so whoever has it closes it.
 *
 * @param connection taken over
 */
export function toDenoConn(connection: TcpConnection): DenoConn {
  return new TcpDenoConn(connection);
}

/** An address in the form that Deno uses. */
export function toNetAddress({ ip, port }: TransportAddress): NetAddress {
  return { transport: "tcp", hostname: ip, port };
}

/** The members of Deno's own `Deno.Conn` that a wrapper needs: one from `Deno.connect()` fits. */
export interface PlatformConn {
  readonly localAddr: PlatformAddress;
  readonly remoteAddr: PlatformAddress;
  read(buffer: Uint8Array): Promise<number | null>;
  write(data: Uint8Array): Promise<number>;
  closeWrite(): Promise<void>;
  close(): void;
  ref?(): void;
  unref?(): void;
}

/** A `Deno.Addr`: only IP sockets have a host name and a port. */
export interface PlatformAddress {
  readonly transport: string;
  readonly hostname?: string;
  readonly port?: number;
}

class TcpDenoConn implements DenoConn {
  readonly local: TcpConnection["local"];
  readonly remote: TcpConnection["remote"];
  readonly #connection: TcpConnection;
  #readable: ReadableStream<Uint8Array<ArrayBuffer>> | undefined;
  #writable: WritableStream<Uint8Array> | undefined;

  constructor(connection: TcpConnection) {
    this.#connection = connection;
    this.local = connection.local;
    this.remote = connection.remote;
  }

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
      write: (data) => this.#writeAll(data),
      close: () => this.closeWrite(),
      abort: () => this.reset(),
    });
  }

  read(buffer: Uint8Array): Promise<number | null> {
    return this.#connection.read(buffer);
  }

  write(data: Uint8Array): Promise<number> {
    return this.#connection.write(data);
  }

  closeWrite(): Promise<void> {
    return this.#connection.closeWrite();
  }

  close(): void {
    this.#connection.close();
  }

  reset(): void {
    this.#connection.reset();
  }

  ref(): void {
    this.#connection.ref?.();
  }

  unref(): void {
    this.#connection.unref?.();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async #pull(controller: ReadableByteStreamController): Promise<void> {
    const request = controller.byobRequest!; // always there: chunks are allocated by the stream
    const view = request.view!;
    const buffer = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    const length = await this.#connection.read(buffer);
    if (length === null) controller.close();
    request.respond(length ?? 0); // 0 lets a reader with a buffer of its own have that back
  }

  async #writeAll(data: Uint8Array): Promise<void> {
    let written = await this.#connection.write(data);
    while (written < data.length) written += await this.#connection.write(data.subarray(written));
  }
}

/** Ours, and Deno's. */
const CHUNK_BYTES = 65_536;
