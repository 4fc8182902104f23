/**
 * Connections in memory, and secured connections over them.
 *
 * @module
 */

import { NetworkError } from "../../lib/base/errors.ts";
import type { TcpConnection } from "../../lib/net/network.ts";
import type { TransportAddress } from "../../lib/net/address.ts";
import { generateKeyPair } from "../../lib/noise/handshake.ts";
import {
  type SecureConnection,
  secureConnection,
  type SecureConnectionOptions,
} from "../../lib/noise/secure_connection.ts";

/** One end of a connection in memory. Tests can inspect and change what it writes. */
export class MemoryConnection implements TcpConnection {
  readonly local: TransportAddress;
  readonly remote: TransportAddress;
  /** Every write, in order. */
  readonly written: Uint8Array[] = [];
  /** Whether and how it was closed. */
  closed: "no" | "closed" | "reset" = "no";
  /** Writes wait until this resolves. */
  gate: Promise<void> = Promise.resolve();
  /** What the other end receives for a write. */
  onWrite: (data: Uint8Array) => readonly Uint8Array[] = (data) => [data];
  readonly #inbox: (Uint8Array | "end")[] = [];
  #peer: MemoryConnection | undefined;
  #wake = () => {};

  constructor(local: TransportAddress, remote: TransportAddress) {
    this.local = local;
    this.remote = remote;
  }

  /** Connects the two ends. */
  join(peer: MemoryConnection): void {
    this.#peer = peer;
    peer.#peer = this;
  }

  /** Delivers data to this end, as if the other end had sent it. */
  receive(data: Uint8Array | "end"): void {
    this.#inbox.push(data);
    this.#wake();
  }

  async read(buffer: Uint8Array): Promise<number | null> {
    for (;;) {
      if (this.closed !== "no") throw new NetworkError("Cannot read: it is closed", "closed");
      const first = this.#inbox[0];
      if (first === "end") return null;
      if (first !== undefined) {
        const length = Math.min(first.length, buffer.length);
        buffer.set(first.subarray(0, length));
        if (length < first.length) this.#inbox[0] = first.subarray(length);
        else this.#inbox.shift();
        return length;
      }
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
  }

  async write(data: Uint8Array): Promise<number> {
    if (this.closed !== "no") throw new NetworkError("Cannot write: it is closed", "closed");
    const copy = data.slice();
    this.written.push(copy);
    await this.gate;
    for (const part of this.onWrite(copy)) this.#peer?.receive(part);
    return data.length;
  }

  closeWrite(): Promise<void> {
    this.#peer?.receive("end");
    return Promise.resolve();
  }

  close(): void {
    this.#end("closed");
  }

  reset(): void {
    this.#end("reset");
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #end(how: "closed" | "reset"): void {
    if (this.closed !== "no") return;
    this.closed = how;
    this.#wake();
    this.#peer?.receive("end");
  }
}

/** Two connected ends. */
export function memoryPair(): [MemoryConnection, MemoryConnection] {
  const [a, b] = [{ ip: "192.0.2.1", port: 1 }, { ip: "192.0.2.2", port: 2 }];
  const [one, other] = [new MemoryConnection(a, b), new MemoryConnection(b, a)];
  one.join(other);
  return [one, other];
}

/** Two secured connections, and the connections below them. */
export interface SecuredPair extends Disposable {
  readonly client: SecureConnection;
  readonly server: SecureConnection;
  readonly clientStream: MemoryConnection;
  readonly serverStream: MemoryConnection;
}

/** A pair after an NK handshake. */
export async function securedPair(): Promise<SecuredPair> {
  const [clientStream, serverStream] = memoryPair();
  const staticKey = generateKeyPair();
  const { signal } = new AbortController();
  const [client, server] = await Promise.all([
    secureConnection(clientStream, {
      pattern: "NK",
      role: "initiator",
      remoteStaticKey: staticKey.publicKey,
      signal,
    }),
    secureConnection(serverStream, { pattern: "NK", role: "responder", staticKey, signal }),
  ]);
  const dispose = () => {
    client.close();
    server.close();
  };
  return { client, server, clientStream, serverStream, [Symbol.dispose]: dispose };
}

/** The options for a handshake without static keys. */
export function anonymous(
  role: "initiator" | "responder",
  options: Partial<SecureConnectionOptions> = {},
): SecureConnectionOptions {
  return { pattern: "NN", role, signal: new AbortController().signal, ...options };
}

/** Reads up to `length` bytes, or to the end. */
export async function readBytes(
  connection: Pick<TcpConnection, "read">,
  length = Infinity,
): Promise<Uint8Array<ArrayBuffer>> {
  const parts: number[] = [];
  const buffer = new Uint8Array(65_536);
  while (parts.length < length) {
    const count = await connection.read(
      buffer.subarray(0, Math.min(buffer.length, length - parts.length)),
    );
    if (count === null) break;
    for (const byte of buffer.subarray(0, count)) parts.push(byte);
  }
  return Uint8Array.from(parts);
}

/** Bytes that differ by position. */
export function pattern(length: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length }, (_, index) => index * 7 + (index >> 8));
}
