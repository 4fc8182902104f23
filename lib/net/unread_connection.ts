/**
 * A connection of which some bytes have been read and put back, for whoever serves it.
 *
 * @module
 */

import { concat } from "../base/bytes.ts";
import { WrappedConnection } from "./deno_conn.ts";
import type { DetachedConnection, TcpConnection } from "./network.ts";

/** A connection of which some bytes have been read and put back. */
export class UnreadConnection extends WrappedConnection {
  #unread: Uint8Array;

  /** @param connection owned by this one */
  constructor(connection: TcpConnection, unread: Uint8Array) {
    super(connection);
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

const NOTHING = new Uint8Array(0);
