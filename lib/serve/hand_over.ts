/**
 * A TCP connection that goes from one thread of a program to another: by its file descriptor, which all threads share; or,
 * where that is not enough, as inside of TLS, by messages, between a thread that keeps it and one that serves it.
 *
 * @module
 */

import { concat } from "../base/bytes.ts";
import { NetworkError } from "../base/errors.ts";
import { writeAll } from "../base/reader.ts";
import type { TransportAddress } from "../net/address.ts";
import type { ReleasedConnection, TcpConnection } from "../net/network.ts";
import { UnreadConnection } from "../net/deno_conn.ts";

/** A connection on its way, as a message between threads. */
export type HandedConnection =
  | { readonly kind: "fd"; readonly fd: number; readonly unread: Uint8Array }
  | {
    readonly kind: "port";
    readonly port: MessagePort;
    readonly unread: Uint8Array;
    readonly local: TransportAddress;
    readonly remote: TransportAddress;
  };

/**
 * Hands a connection over.
 *
 * @param send sends the message, with what it transfers
 * @returns once this thread has nothing more to do with the connection
 */
export async function handOver(
  { connection, unread }: ReleasedConnection,
  send: (handed: HandedConnection, transfer: MessagePort[]) => void,
): Promise<void> {
  const detached = connection.detach?.();
  if (detached !== undefined) {
    send({ kind: "fd", fd: detached.fd, unread: concat(unread, detached.unread) }, []);
    return;
  }
  const { local, remote } = connection;
  const { port1, port2 } = new MessageChannel();
  send({ kind: "port", port: port2, unread, local, remote }, [port2]);
  const other = new PortConnection(port1, { local, remote });
  await Promise.all([copy(connection, other), copy(other, connection)]);
}

/**
 * Takes a connection over; `undefined` if the client has left already.
 *
 * @param attach makes a connection from a file descriptor
 */
export function takeOver(
  handed: HandedConnection,
  attach: (fd: number) => TcpConnection | undefined,
): TcpConnection | undefined {
  const connection = handed.kind === "fd"
    ? attach(handed.fd)
    : new PortConnection(handed.port, handed);
  if (connection === undefined || handed.unread.length === 0) return connection;
  return new UnreadConnection(connection, handed.unread);
}

/** One end of a byte stream between two threads: bytes, how many of them were read, or how it ends. */
export class PortConnection implements TcpConnection {
  readonly local: TransportAddress;
  readonly remote: TransportAddress;
  readonly #port: MessagePort;
  #unread: Uint8Array[] = [];
  /** How many bytes the other thread has not read yet. */
  #sent = 0;
  #end: "open" | "ended" | "lost" = "open";
  #isClosed = false;
  #wake: () => void = () => {};
  #wakeWriter: () => void = () => {};

  /** @param port taken over */
  constructor(
    port: MessagePort,
    { local, remote }: Pick<TcpConnection, "local" | "remote">,
  ) {
    this.local = local;
    this.remote = remote;
    this.#port = port;
    port.onmessage = ({ data }: MessageEvent<PortMessage>) => this.#accept(data);
  }

  async read(buffer: Uint8Array): Promise<number | null> {
    while (this.#unread.length === 0) {
      if (this.#isClosed) throw this.#failure("closed");
      if (this.#end === "ended") return null;
      if (this.#end === "lost") throw this.#failure("reset");
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    const [first] = this.#unread;
    const length = Math.min(first!.length, buffer.length);
    buffer.set(first!.subarray(0, length));
    if (length < first!.length) this.#unread[0] = first!.subarray(length);
    else this.#unread.shift();
    this.#port.postMessage(length);
    return length;
  }

  async write(data: Uint8Array): Promise<number> {
    while (this.#sent >= MAX_UNREAD_BYTES) {
      if (this.#isClosed || this.#end === "lost") break;
      await new Promise<void>((resolve) => this.#wakeWriter = resolve);
    }
    if (this.#isClosed) throw this.#failure("closed");
    if (this.#end === "lost") throw this.#failure("reset");
    const copied = data.slice(); // it will be the other thread's
    this.#sent += data.length;
    this.#port.postMessage(copied, [copied.buffer]);
    return data.length;
  }

  closeWrite(): Promise<void> {
    if (!this.#isClosed) this.#port.postMessage("end");
    return Promise.resolve();
  }

  close(): void {
    this.#finish("end");
  }

  reset(): void {
    this.#finish("reset");
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #finish(how: "end" | "reset"): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#unread = [];
    this.#port.postMessage(how === "end" ? "gone" : "reset");
    this.#port.close();
    this.#wake();
    this.#wakeWriter();
  }

  #accept(message: PortMessage): void {
    if (typeof message === "number") this.#sent -= message;
    else if (typeof message !== "string") this.#unread.push(message);
    else if (message === "reset") this.#end = "lost";
    else this.#end = "ended";
    if (message === "gone") this.#sent = 0; // no one reads it any more
    this.#wake();
    this.#wakeWriter();
  }

  #failure(reason: "closed" | "reset"): NetworkError {
    const cannot = "Cannot use a connection of another thread";
    return reason === "closed"
      ? new NetworkError(`${cannot}: the connection is closed`, "closed")
      : new NetworkError(`${cannot}: connection reset`, "reset");
  }
}

/** Bytes; how many were read; the end of what is sent, of all, or without warning. */
type PortMessage = Uint8Array | number | "end" | "gone" | "reset";

async function copy(from: TcpConnection, to: TcpConnection): Promise<void> {
  const buffer = new Uint8Array(COPY_BYTES);
  try {
    for (;;) {
      const length = await from.read(buffer);
      if (length === null) return await to.closeWrite();
      await writeAll(to, buffer.subarray(0, length));
    }
  } catch (error) {
    if (!(error instanceof NetworkError)) throw error;
    from.reset();
    to.reset();
  }
}

/** Chosen by us: as much as the relay lets wait for one side. */
const MAX_UNREAD_BYTES = 256 * 1024;

/** Chosen by us: one of the longest messages of the relay. */
const COPY_BYTES = 65_536;
