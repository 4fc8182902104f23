/**
 * Connections in memory, with back-pressure, that can be cut after a number of bytes.
 *
 * @module
 */

import { NetworkError } from "../../lib/base/errors.ts";
import type { TransportAddress } from "../../lib/net/address.ts";
import type { TcpConnection } from "../../lib/net/network.ts";
import type { NextConnection } from "../../lib/transfer/reconnect.ts";

/** Two connected ends. */
export function pipe(options: { cutAfter?: number } = {}): [TcpConnection, TcpConnection] {
  const [there, back] = [new Direction(), new Direction()];
  let left = options.cutAfter ?? Infinity;
  const spend = (length: number): number => {
    const spent = Math.min(length, left);
    left -= spent;
    return spent;
  };
  const cut = () => [there, back].forEach((direction) => direction.fail(reset()));
  const [a, b] = [{ ip: "192.0.2.1", port: 1 }, { ip: "192.0.2.2", port: 2 }];
  return [new End(a, b, back, there, spend, cut), new End(b, a, there, back, spend, cut)];
}

/**
 * A source of connections for each side. Their nth connections are the two ends of one pipe.
 *
 * @param cuts after how many bytes, in both directions together, each of the first connections is cut
 */
export function connectionSources(cuts: readonly number[] = []): {
  sender: NextConnection;
  receiver: NextConnection;
  /** How many connections were opened. */
  count(): number;
} {
  const pipes: [TcpConnection, TcpConnection][] = [];
  const source = (side: 0 | 1): NextConnection => {
    let taken = 0;
    return ({ signal }) => {
      signal.throwIfAborted();
      const index = taken++;
      pipes[index] ??= pipe({ cutAfter: cuts[index] });
      return Promise.resolve(pipes[index]![side]);
    };
  };
  return { sender: source(0), receiver: source(1), count: () => pipes.length };
}

class Direction {
  readonly #queue: Uint8Array[] = [];
  #queued = 0;
  #isEnded = false;
  #failure: NetworkError | undefined;
  #changed = Promise.withResolvers<void>();

  async read(buffer: Uint8Array): Promise<number | null> {
    for (;;) {
      const first = this.#queue[0];
      if (first !== undefined) {
        const length = Math.min(first.length, buffer.length);
        buffer.set(first.subarray(0, length));
        if (length < first.length) this.#queue[0] = first.subarray(length);
        else this.#queue.shift();
        this.#queued -= length;
        this.#change();
        return length;
      }
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#isEnded) return null;
      await this.#changed.promise;
    }
  }

  async write(data: Uint8Array): Promise<void> {
    while (this.#queued >= CAPACITY && this.#failure === undefined) await this.#changed.promise;
    if (this.#failure !== undefined) throw this.#failure;
    if (data.length === 0) return;
    this.#queue.push(data.slice());
    this.#queued += data.length;
    this.#change();
  }

  end(): void {
    this.#isEnded = true;
    this.#change();
  }

  /** Fails, once everything written before is read. */
  fail(error: NetworkError): void {
    this.#failure ??= error;
    this.#change();
  }

  #change(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}

class End implements TcpConnection {
  readonly local: TransportAddress;
  readonly remote: TransportAddress;
  readonly #incoming: Direction;
  readonly #outgoing: Direction;
  readonly #spend: (length: number) => number;
  readonly #cut: () => void;
  #isClosed = false;

  constructor(
    local: TransportAddress,
    remote: TransportAddress,
    incoming: Direction,
    outgoing: Direction,
    spend: (length: number) => number,
    cut: () => void,
  ) {
    this.local = local;
    this.remote = remote;
    this.#incoming = incoming;
    this.#outgoing = outgoing;
    this.#spend = spend;
    this.#cut = cut;
  }

  async read(buffer: Uint8Array): Promise<number | null> {
    if (this.#isClosed) throw new NetworkError("Cannot read: it is closed", "closed");
    return await this.#incoming.read(buffer);
  }

  async write(data: Uint8Array): Promise<number> {
    if (this.#isClosed) throw new NetworkError("Cannot write: it is closed", "closed");
    const length = this.#spend(data.length);
    await this.#outgoing.write(data.subarray(0, length));
    if (length < data.length) this.#cut();
    return data.length;
  }

  closeWrite(): Promise<void> {
    this.#outgoing.end();
    return Promise.resolve();
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#outgoing.end();
    this.#incoming.fail(reset());
  }

  reset(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const closed = new NetworkError("Cannot read: it is closed", "closed");
    this.#incoming.fail(closed);
    this.#outgoing.fail(reset());
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function reset(): NetworkError {
  return new NetworkError("Cannot use the connection: connection reset", "reset");
}

/** Small, to test back-pressure. */
const CAPACITY = 64 * 1024;
