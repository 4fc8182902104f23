/**
 * Paths in memory. They use the platform's timers, so virtual time drives them.
 *
 * @module
 */

import { NetworkError, type NetworkErrorReason } from "../../lib/base/errors.ts";
import type { TransportAddress } from "../../lib/net/address.ts";
import type { TcpConnection } from "../../lib/net/network.ts";

/** The properties of a path. */
export interface TestPathOptions {
  /** From one end to the other. Default: 0, without a timer. */
  readonly delayMs?: number;
  /** How many bytes may be in flight or wait to be read, in each direction, before writes wait. */
  readonly capacity?: number;
  /** How many bytes a read returns at most. */
  readonly maxRead?: number;
  readonly port?: number;
}

/** Two ends of a path. */
export function testPathPair(options: TestPathOptions = {}): [TestPath, TestPath] {
  const { port = 1 } = options;
  const [a, b] = [{ ip: "192.0.2.1", port }, { ip: "192.0.2.2", port }];
  const [one, other] = [new TestPath(a, b, options), new TestPath(b, a, options)];
  one.join(other);
  return [one, other];
}

/** One end. */
export class TestPath implements TcpConnection {
  readonly local: TransportAddress;
  readonly remote: TransportAddress;
  /** Every write, in order. */
  readonly written: Uint8Array[] = [];
  /** The path is cut after this many bytes, counted over all writes: these are delivered, and no more. */
  cutAfter = Infinity;
  /** How it is cut: both ends get a RST, or nothing arrives any more. */
  cutKind: "reset" | "silent" = "reset";
  /** How this end was closed by its owner. */
  closed: "no" | "closed" | "reset" = "no";
  readonly #options: TestPathOptions;
  #peer!: TestPath;
  #inbox: (Uint8Array | "end" | NetworkErrorReason)[] = [];
  #waiting = 0;
  #sent = 0;
  #isSilent = false;
  #wake = () => {};
  #wakeWriter = () => {};

  constructor(local: TransportAddress, remote: TransportAddress, options: TestPathOptions) {
    this.local = local;
    this.remote = remote;
    this.#options = options;
  }

  join(peer: TestPath): void {
    this.#peer = peer;
    peer.#peer = this;
  }

  /** What the other end has written, in order. */
  get received(): readonly Uint8Array[] {
    return this.#peer.written;
  }

  /** How many bytes this end has written. */
  get writtenBytes(): number {
    return this.#sent;
  }

  async read(buffer: Uint8Array): Promise<number | null> {
    for (;;) {
      if (this.closed !== "no") throw new NetworkError("Cannot read: it is closed", "closed");
      const first = this.#inbox[0];
      if (first === "end") return null;
      if (typeof first === "string") throw new NetworkError(`Cannot read: ${first}`, first);
      if (first !== undefined) {
        const { maxRead = Infinity } = this.#options;
        const length = Math.min(first.length, buffer.length, maxRead);
        buffer.set(first.subarray(0, length));
        if (length < first.length) this.#inbox[0] = first.subarray(length);
        else this.#inbox.shift();
        this.#peer.#waiting -= length;
        this.#peer.#wakeWriter();
        return length;
      }
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
  }

  async write(data: Uint8Array): Promise<number> {
    const { capacity = Infinity } = this.#options;
    while (this.#waiting >= capacity) {
      this.#requireOpen();
      await new Promise<void>((resolve) => this.#wakeWriter = resolve);
    }
    this.#requireOpen();
    const part = data.slice(0, capacity - this.#waiting);
    this.written.push(part);
    const left = Math.max(0, this.cutAfter - this.#sent);
    this.#sent += part.length;
    this.#waiting += part.length;
    if (!this.#isSilent) this.#deliver(part.subarray(0, left));
    if (part.length >= left) this.cut();
    return part.length;
  }

  closeWrite(): Promise<void> {
    if (!this.#isSilent) this.#deliver("end");
    return Promise.resolve();
  }

  close(): void {
    if (this.closed !== "no") return;
    this.closed = "closed";
    this.#wakeAll();
    if (!this.#isSilent) this.#deliver("end");
  }

  reset(): void {
    if (this.closed !== "no") return;
    this.closed = "reset";
    this.#wakeAll();
    if (!this.#isSilent) this.#deliver("reset");
  }

  /** Cuts the path: like a NAT that drops its mapping, or a router that sends a RST. */
  cut(kind = this.cutKind): void {
    if (kind === "silent") {
      this.#isSilent = this.#peer.#isSilent = true;
    } else {
      for (const end of [this, this.#peer]) end.#receive("reset");
    }
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #requireOpen(): void {
    if (this.closed !== "no") throw new NetworkError("Cannot write: it is closed", "closed");
    const last = this.#inbox.at(-1);
    if (last === "reset") throw new NetworkError("Cannot write: reset", "reset");
  }

  #deliver(what: Uint8Array | "end" | "reset"): void {
    if (typeof what !== "string" && what.length === 0) return;
    const { delayMs = 0 } = this.#options;
    if (delayMs === 0) this.#peer.#receive(what);
    else setTimeout(() => this.#peer.#receive(what), delayMs);
  }

  #receive(what: Uint8Array | "end" | "reset"): void {
    const last = this.#inbox.at(-1);
    if (last === "reset" || last === "end" && what !== "reset") return;
    this.#inbox.push(what);
    this.#wakeAll();
  }

  #wakeAll(): void {
    this.#wake();
    this.#wakeWriter();
    this.#peer.#wakeWriter();
  }
}
