/**
 * A byte stream to a peer, over a connection that the server has bound to it: RFC 6062 §4.
 *
 * @module
 */

import type { TransportAddress } from "../net/address.ts";
import type { TcpConnection } from "../net/network.ts";

/** What a {@linkcode RelayedConnection} is made of. */
export interface RelayedConnectionParts {
  /** The relayed address. */
  readonly local: TransportAddress;
  /** The peer. */
  readonly remote: TransportAddress;
  /** To the server. */
  readonly connection: TcpConnection;
  /** What the peer had sent when the server bound the connection. */
  readonly rest: Uint8Array;
  readonly onClose: (connection: TcpConnection) => void;
  /** What else keeps the program running while the connection does. */
  readonly onRefer?: (isReferenced: boolean) => void;
}

/** The connection to the server under the names of its ends: everything else is its own. */
export class RelayedConnection implements TcpConnection {
  readonly local: TransportAddress;
  readonly remote: TransportAddress;
  readonly #connection: TcpConnection;
  readonly #onClose: RelayedConnectionParts["onClose"];
  readonly #onRefer: RelayedConnectionParts["onRefer"];
  #rest: Uint8Array;

  constructor(parts: RelayedConnectionParts) {
    this.local = parts.local;
    this.remote = parts.remote;
    this.#connection = parts.connection;
    this.#rest = parts.rest;
    this.#onClose = parts.onClose;
    this.#onRefer = parts.onRefer;
  }

  read(buffer: Uint8Array): Promise<number | null> {
    if (this.#rest.length === 0) return this.#connection.read(buffer);
    const length = Math.min(this.#rest.length, buffer.length);
    buffer.set(this.#rest.subarray(0, length));
    this.#rest = this.#rest.subarray(length);
    return Promise.resolve(length);
  }

  write(data: Uint8Array): Promise<number> {
    return this.#connection.write(data);
  }

  closeWrite(): Promise<void> {
    return this.#connection.closeWrite();
  }

  close(): void {
    this.#connection.close();
    this.#onClose(this);
  }

  reset(): void {
    this.#connection.reset();
    this.#onClose(this);
  }

  ref(): void {
    this.#connection.ref?.();
    this.#onRefer?.(true);
  }

  unref(): void {
    this.#connection.unref?.();
    this.#onRefer?.(false);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
