/**
 * Simulated TCP connections, as programs use them.
 *
 * @module
 */

import { NetworkError } from "../../lib/base/errors.ts";
import { formatTransportAddress, type TransportAddress } from "../../lib/net/address.ts";
import type { TcpConnection } from "../../lib/net/network.ts";
import type { TcpSocket } from "./tcp_socket.ts";

/** An established connection. */
export class SimTcpConnection implements TcpConnection {
  readonly local: TransportAddress;
  readonly remote: TransportAddress;
  readonly #socket: TcpSocket;

  constructor(socket: TcpSocket) {
    this.#socket = socket;
    this.local = socket.local;
    this.remote = socket.remote;
  }

  async read(buffer: Uint8Array): Promise<number | null> {
    if (buffer.length === 0) return 0;
    while (true) {
      if (this.#socket.isClosedByUser) throw this.#closed("read from");
      const length = this.#socket.read(buffer);
      if (length > 0) return length;
      if (this.#socket.isAtEnd) return null;
      this.#throwIfBroken("read from");
      await this.#socket.changed();
    }
  }

  async write(data: Uint8Array): Promise<number> {
    if (data.length === 0) return 0;
    while (true) {
      if (this.#socket.isClosedByUser || this.#socket.isFinished) throw this.#closed("write to");
      this.#throwIfBroken("write to");
      const length = this.#socket.write(data);
      if (length > 0) return length;
      await this.#socket.changed();
    }
  }

  // deno-lint-ignore require-await -- rejects where the synchronous call throws
  async closeWrite(): Promise<void> {
    if (this.#socket.isClosedByUser) throw this.#closed("close");
    this.#throwIfBroken("close");
    this.#socket.finish();
  }

  close(): void {
    this.#socket.close();
  }

  reset(): void {
    this.#socket.reset();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #throwIfBroken(verb: string): void {
    if (this.#socket.error !== undefined) throw toNetworkError(this.#cannot(verb), this.#socket);
  }

  #closed(verb: string): NetworkError {
    return new NetworkError(`${this.#cannot(verb)}: the connection is closed`, "closed");
  }

  #cannot(verb: string): string {
    return `Cannot ${verb} ${formatTransportAddress(this.remote)}`;
  }
}

/** The error of a broken socket. The message starts with the action. */
export function toNetworkError(action: string, { error }: TcpSocket): NetworkError {
  const reason = error ?? "closed";
  return new NetworkError(`${action}: ${reason}`, reason);
}
