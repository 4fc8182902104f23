/**
 * TLS over any connection, either side of it: `node:tls` on top of a {@linkcode TcpConnection}.
 *
 * @module
 */

import { messageOf, NetworkError } from "../../base/errors.ts";
import { writeAll } from "../../base/reader.ts";
import type { TransportAddress } from "../address.ts";
import type { TcpConnection } from "../network.ts";
import { action, toNetworkError } from "./platform.ts";
import { SocketReader } from "./socket_reader.ts";
import { Duplex } from "node:stream";
import type tls from "node:tls";

/** How to wait for a handshake. */
export interface HandshakeOptions {
  /** The event of the socket that means success. */
  readonly event: "secure" | "secureConnect";
  /** How long it may take. Default: as long as the signal allows. */
  readonly timeoutMs?: number;
  /** Aborts it. */
  readonly signal?: AbortSignal;
}

/**
 * Waits for a handshake, and returns what carries the plaintext. A failure closes the connection.
 *
 * @param socket on top of the carrier
 * @throws {NetworkError} `tls` if the other side speaks something else, or breaks off; `timed-out`; or as
 * {@linkcode TcpConnection.read}
 * @throws the signal's reason on abort
 */
export async function secureStream(
  socket: tls.TLSSocket,
  carrier: TlsCarrier,
  { event, timeoutMs, signal }: HandshakeOptions,
): Promise<TcpConnection> {
  const secure = new TlsConnection(socket, carrier.connection);
  const { promise: settled, resolve, reject } = Promise.withResolvers<void>();
  const tooLate = () => reject(new NetworkError(`${carrier.cannot}: timed out`, "timed-out"));
  const timer = timeoutMs === undefined ? undefined : setTimeout(tooLate, timeoutMs);
  const onClose = () => reject(carrier.failure ?? carrier.broken("the other side has gone"));
  const onAbort = () => reject(signal?.reason);
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    signal?.throwIfAborted();
    socket.once(event, resolve).once("error", reject).once("close", onClose);
    await settled;
    carrier.isEstablished = true;
    return secure;
  } catch (error) {
    secure.reset();
    signal?.throwIfAborted();
    throw error instanceof NetworkError ? error : carrier.broken(messageOf(error), error);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
    socket.off(event, resolve).off("error", reject).off("close", onClose);
  }
}

/** The connection below TLS, as the stream that `node:tls` wants. */
export class TlsCarrier extends Duplex {
  /** After the handshake, the records that arrive are no longer counted. */
  isEstablished = false;
  /** Why reading has ended. */
  failure: NetworkError | undefined;
  /** The connection below. */
  readonly connection: TcpConnection;
  /** The start of the messages of errors: what cannot be done, and with whom. */
  readonly cannot: string;
  readonly #maxHandshakeBytes: number;
  #buffer = new Uint8Array(MIN_READ_BYTES);
  #received = 0;

  constructor(connection: TcpConnection, cannot: string, maxHandshakeBytes: number) {
    super({ allowHalfOpen: true });
    this.connection = connection;
    this.cannot = cannot;
    this.#maxHandshakeBytes = maxHandshakeBytes;
  }

  /** The error of a handshake that fails. */
  broken(why: string, cause?: unknown): NetworkError {
    return new NetworkError(`${this.cannot}: ${why}`, "tls", { cause });
  }

  override async _read(): Promise<void> {
    try {
      const length = await this.connection.read(this.#buffer);
      this.#received += length ?? 0;
      if (!this.isEstablished && this.#received > this.#maxHandshakeBytes) {
        throw this.broken(`a handshake has at most ${this.#maxHandshakeBytes} bytes`);
      }
      this.push(length === null ? null : this.#buffer.slice(0, length));
      const isFull = length === this.#buffer.length && this.isEstablished;
      if (isFull && length < MAX_READ_BYTES) this.#buffer = new Uint8Array(MAX_READ_BYTES);
    } catch (error) {
      this.#fail(error);
    }
  }

  override async _write(
    chunk: Uint8Array,
    _encoding: string,
    done: (error?: Error | null) => void,
  ): Promise<void> {
    try {
      await writeAll(this.connection, chunk);
      done();
    } catch (error) {
      done(error as Error);
    }
  }

  override async _final(done: (error?: Error | null) => void): Promise<void> {
    try {
      await this.connection.closeWrite();
    } catch (error) {
      if (!(error instanceof NetworkError)) throw error;
    }
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.connection.close();
    done(error);
  }

  #fail(error: unknown): void {
    if (error instanceof NetworkError) this.failure ??= error;
    this.destroy(error as Error);
  }
}

/** What travels inside of TLS. */
class TlsConnection implements TcpConnection {
  readonly local: TransportAddress;
  readonly remote: TransportAddress;
  readonly #socket: tls.TLSSocket;
  readonly #connection: TcpConnection;
  readonly #reader = new SocketReader();
  #isClosed = false;

  constructor(socket: tls.TLSSocket, connection: TcpConnection) {
    this.local = connection.local;
    this.remote = connection.remote;
    this.#socket = socket;
    this.#connection = connection;
    this.#reader.attach(socket, (error) => this.#failure("read from", error));
    socket.on("data", (chunk: Uint8Array) => {
      if (!this.#reader.onread.callback(chunk.length, chunk)) socket.pause();
    });
  }

  read(buffer: Uint8Array): Promise<number | null> {
    return this.#reader.read(buffer);
  }

  async write(data: Uint8Array): Promise<number> {
    const socket = this.#socket;
    if (socket.destroyed) throw this.#failure("write to", socket.errored);
    await new Promise<void>((resolve, reject) => {
      socket.write(data, (error) => error ? reject(this.#failure("write to", error)) : resolve());
    });
    return data.length;
  }

  async closeWrite(): Promise<void> {
    const socket = this.#socket;
    if (socket.writableFinished) return;
    if (socket.destroyed) throw this.#failure("close", socket.errored);
    await new Promise<void>((resolve) => socket.end(() => resolve()));
  }

  close(): void {
    this.#end(() => this.#socket.destroy());
  }

  reset(): void {
    this.#end(() => {
      this.#connection.reset();
      this.#socket.destroy();
    });
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

  #end(end: () => void): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#reader.close(() => this.#failure("read from"));
    end();
    this.#connection.close();
  }

  #failure(verb: string, error?: Error | null): NetworkError {
    const cannot = action(verb, this.remote);
    const own = this.#socket.errored ?? error;
    if (!this.#isClosed && own) return toNetworkError(cannot, own);
    return new NetworkError(`${cannot}: the connection is closed`, "closed");
  }
}

/** Chosen by us: most connections are idle, and never need more. */
const MIN_READ_BYTES = 2048;

/** Chosen by us: four of the longest records. A connection that fills the smaller buffer gets it. */
const MAX_READ_BYTES = 65_536;
