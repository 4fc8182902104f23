/**
 * A connection over a socket of `node:net`.
 *
 * @module
 */

import { NetworkError } from "../../base/errors.ts";
import { parseIp, type TransportAddress } from "../address.ts";
import type { TcpConnection } from "../network.ts";
import { action, toNetworkError } from "./platform.ts";
import type { SocketReader } from "./socket_reader.ts";
import type net from "node:net";

/** Where a connection begins and where it ends. */
export interface ConnectionEnds {
  readonly local: TransportAddress;
  readonly remote: TransportAddress;
}

/** The ends of a socket that is connected, or `undefined` if the peer has reset it already: then it has none. */
export function endsOf(socket: net.Socket): ConnectionEnds | undefined {
  const { localAddress, localPort, remoteAddress, remotePort } = socket;
  if (localAddress === undefined || localPort === undefined) return undefined;
  if (remoteAddress === undefined || remotePort === undefined) return undefined;
  return {
    local: { ip: parseIp(localAddress), port: localPort },
    remote: { ip: parseIp(remoteAddress), port: remotePort },
  };
}

/** A connection of the system. */
export class SystemTcpConnection implements TcpConnection {
  readonly local: TransportAddress;
  readonly remote: TransportAddress;
  readonly #socket: net.Socket;
  readonly #reader: SocketReader;
  #isClosed = false;

  /**
   * @param socket connected, taken over
   * @param reader that the socket reads into
   */
  constructor(socket: net.Socket, reader: SocketReader, { local, remote }: ConnectionEnds) {
    this.#socket = socket;
    this.#reader = reader;
    this.local = local;
    this.remote = remote;
    // Two small messages in a row are common here, and Nagle's algorithm would hold the second for a round trip.
    socket.setNoDelay(true);
    reader.attach(socket, (error) => this.#failure("read from", error));
  }

  read(buffer: Uint8Array): Promise<number | null> {
    return this.#reader.read(buffer);
  }

  async write(data: Uint8Array): Promise<number> {
    const socket = this.#socket;
    if (socket.destroyed) throw this.#failure("write to", socket.errored);
    let settle = (_error?: Error | null) => {};
    socket.write(data, (error) => settle(error));
    // The system mostly takes all at once; waiting for the callback would cost as much as a small write.
    if (socket.writableLength === 0 && socket.errored === null) return data.length;
    await new Promise<void>((resolve, reject) => {
      settle = (error) => error ? reject(this.#failure("write to", error)) : resolve();
    });
    return data.length;
  }

  async closeWrite(): Promise<void> {
    const socket = this.#socket;
    if (socket.writableFinished) return;
    if (socket.destroyed) throw this.#failure("close", socket.errored);
    await new Promise<void>((resolve, reject) => {
      socket.end((error?: Error | null) => {
        error ? reject(this.#failure("close", error)) : resolve();
      });
    });
  }

  close(): void {
    this.#end(() => this.#socket.destroy());
  }

  reset(): void {
    this.#end(() => this.#socket.resetAndDestroy());
  }

  ref(): void {
    this.#socket.ref();
  }

  unref(): void {
    this.#socket.unref();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #end(end: () => void): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#reader.close(this.#failure("read from"));
    end();
  }

  #failure(verb: string, error?: Error | null): NetworkError {
    const cannot = action(verb, this.remote);
    const own = this.#socket.errored ?? error; // not what the streams made of it
    if (!this.#isClosed && own) return toNetworkError(cannot, own);
    return new NetworkError(`${cannot}: the connection is closed`, "closed");
  }
}
