/**
 * TCP listeners of a simulated host.
 *
 * @module
 */

import { NetworkError } from "../../lib/base/errors.ts";
import { formatTransportAddress, type TransportAddress } from "../../lib/net/address.ts";
import type { TcpConnection, TcpListener } from "../../lib/net/network.ts";
import { WaitQueue } from "../../lib/base/wait_queue.ts";

/** A queue of established connections that wait to be accepted. */
export class SimTcpListener implements TcpListener {
  readonly local: TransportAddress;
  /** Whether it was opened with SO_REUSEPORT. */
  readonly reusePort: boolean;
  readonly #onClose: () => void;
  readonly #accepted = new WaitQueue<TcpConnection>(MAX_BACKLOG);

  constructor(
    local: TransportAddress,
    options: { reusePort: boolean; onClose: () => void },
  ) {
    this.local = local;
    this.reusePort = options.reusePort;
    this.#onClose = options.onClose;
  }

  /** Queues an established connection, or resets it if the queue is full. */
  push(connection: TcpConnection): void {
    if (!this.#accepted.push(connection)) connection.reset();
  }

  accept(options: { signal?: AbortSignal } = {}): Promise<TcpConnection> {
    return this.#accepted.next(options.signal);
  }

  /** Closes the listener, and resets connections that were not accepted, as Linux does. */
  close(): void {
    const cannot = `Cannot accept on ${formatTransportAddress(this.local)}`;
    const closed = new NetworkError(`${cannot}: the listener is closed`, "closed");
    if (!this.#accepted.close(closed)) return;
    for (const connection of this.#accepted.drain()) connection.reset();
    this.#onClose();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** The same as in this library's system network. */
const MAX_BACKLOG = 256;
