/**
 * Which path the stream runs over, and how it gets to another.
 *
 * @module
 */

import { MalformedMessageError, NetworkError } from "../base/errors.ts";
import type { TcpConnection } from "../net/network.ts";
import { VERSION } from "./frame.ts";
import { type LinkFrame, type PathOwner, SessionPath, type SessionTimings } from "./path.ts";
import type { ReceiveStream } from "./receive_stream.ts";
import type { Outgoing, SendStream } from "./send_stream.ts";

/** Which side numbers the paths. */
export type SessionRole = "controlling" | "controlled";

/** What a {@linkcode PathMigration} needs of its session. Of these, only `onFrame` may throw, if the frame is malformed. */
export interface PathMigrationOptions {
  readonly role: SessionRole;
  readonly timings: SessionTimings;
  readonly sending: SendStream;
  readonly receiving: ReceiveStream;
  /** What has to do with the stream, and not with paths. */
  readonly onFrame: (frame: LinkFrame) => void;
  /** A part of the stream came. */
  readonly onData: () => void;
  /** What is to be written next over the path that there is. */
  readonly next: () => Outgoing | undefined;
  /** The stream runs over another path. */
  readonly onAttached: (link: SessionPath, isFirst: boolean) => void;
  /** The stream runs over no path. */
  readonly onLost: (error: NetworkError) => void;
  /** A path that was not attached came to nothing. */
  readonly onNotAttached: () => void;
  readonly onMalformed: (error: MalformedMessageError) => void;
}

/**
 * Moves the stream from path to path. Each side says hello on a new one; then the controlling side starts on it, and the
 * controlled one when it sees that, or as soon as it has no other. Who starts says with which offset, the first that it
 * does not know to have arrived.
 */
export class PathMigration implements PathOwner {
  readonly #options: PathMigrationOptions;
  /** Over which the stream runs; for the controlling side it may do so before it is attached. */
  #current: SessionPath | undefined;
  /** Those that are not attached yet. */
  readonly #arriving = new Set<SessionPath>();
  readonly #links = new Set<SessionPath>();
  /** The highest number of a path. */
  #generation = 0;
  #isReferenced = true;

  constructor(options: PathMigrationOptions) {
    this.#options = options;
  }

  /** The path over which the stream runs, if there is one. */
  get current(): SessionPath | undefined {
    return this.#current;
  }

  /** Whether the stream runs over a path, for both sides. */
  get isAttached(): boolean {
    return this.#current !== undefined && !this.#arriving.has(this.#current);
  }

  /** Whether a path is being attached. */
  get isArriving(): boolean {
    return this.#arriving.size > 0;
  }

  /** As {@linkcode Session.attach}. */
  async attach(connection: TcpConnection, signal?: AbortSignal): Promise<void> {
    const link = new SessionPath(connection, this, this.#options.timings);
    this.#links.add(link);
    link.released.then(() => this.#links.delete(link));
    this.#refer(link);
    const onAbort = () => this.#drop(link, signal?.reason);
    signal?.addEventListener("abort", onAbort, { once: true });
    if (this.#options.role === "controlling") this.#offer(link);
    else this.#arriving.add(link);
    try {
      await link.attached.promise;
    } finally {
      signal?.removeEventListener("abort", onAbort);
    }
  }

  /** Lets all paths go, once what was said is written; at once if there is not that much time. */
  end(reason: unknown, how: "leave" | "cut"): void {
    this.#current = undefined;
    this.#arriving.clear();
    for (const link of this.#links) link[how](reason);
  }

  /** Resolves once all paths are closed. */
  async released(): Promise<void> {
    await Promise.all(Array.from(this.#links, (link) => link.released));
  }

  /** Whether the paths keep the program running. */
  set isReferenced(isReferenced: boolean) {
    this.#isReferenced = isReferenced;
    for (const link of this.#links) this.#refer(link);
  }

  nextFor(link: SessionPath): Outgoing | undefined {
    return link === this.#current ? this.#options.next() : undefined;
  }

  isOwed(link: SessionPath): boolean {
    return link === this.#current && this.#options.sending.isOwed;
  }

  onFrame(link: SessionPath, frame: LinkFrame): void {
    if (!link.isGreeted && frame.kind !== "hello") {
      throw new MalformedMessageError(`Cannot go on: ${frame.kind.toUpperCase()} before HELLO`);
    }
    if (frame.kind === "hello") this.#onHello(link, frame);
    else if (frame.kind === "start") this.#onStart(link, frame.offset);
    else if (frame.kind === "fin") this.#onFin(link, frame);
    else this.#options.onFrame(frame);
  }

  onData(_link: SessionPath, offset: number, data: Uint8Array): void {
    this.#options.receiving.accept(offset, data);
    this.#options.onData();
  }

  onFailure(link: SessionPath, error: NetworkError | MalformedMessageError): void {
    if (error instanceof MalformedMessageError) this.#options.onMalformed(error);
    else this.#drop(link, error);
  }

  /** Numbers a path, and proposes it to the other side. */
  #offer(link: SessionPath): void {
    this.#supersede(this.#arriving);
    link.generation = ++this.#generation;
    this.#arriving.add(link);
    this.#greet(link);
    const { unacknowledged } = this.#options.sending;
    if (this.#current === undefined && unacknowledged <= MAX_UNASKED) this.#start(link);
  }

  #greet(link: SessionPath): void {
    const { generation } = link;
    const acknowledgement = this.#options.receiving.acknowledgement();
    link.say({ kind: "hello", version: VERSION, generation, ...acknowledgement });
  }

  #onHello(link: SessionPath, frame: Extract<LinkFrame, { kind: "hello" }>): void {
    if (link.isGreeted) throw new MalformedMessageError("Cannot go on: a second HELLO");
    if (frame.version !== VERSION) {
      throw new MalformedMessageError(`Cannot go on: version ${frame.version} is unknown`);
    }
    const { role, sending } = this.#options;
    if (role === "controlling") {
      if (frame.generation !== link.generation) {
        throw new MalformedMessageError(
          `Cannot go on: path ${frame.generation} is said to be path ${link.generation}`,
        );
      }
      link.isGreeted = true;
      sending.acknowledge(frame.received, frame.limit);
      if (this.#current !== link) this.#start(link);
      this.#onAttached(link);
      return;
    }
    if (frame.generation <= this.#generation) {
      this.#drop(link, superseded());
      return;
    }
    this.#generation = link.generation = frame.generation;
    this.#supersede([...this.#arriving].filter((other) => other.isGreeted));
    link.isGreeted = true;
    sending.acknowledge(frame.received, frame.limit);
    this.#greet(link);
    if (this.#current === undefined) this.#follow(link);
  }

  #onStart(link: SessionPath, offset: number): void {
    if (link.receiveOffset !== undefined) {
      throw new MalformedMessageError("Cannot go on: a second START");
    }
    const { received } = this.#options.receiving;
    if (offset > received) {
      throw new MalformedMessageError(`Cannot go on: START with ${offset}, after ${received}`);
    }
    link.receiveOffset = offset;
    if (this.#current !== link) this.#follow(link);
  }

  #onFin(link: SessionPath, { offset }: { offset: number }): void {
    if (link.receiveOffset !== offset) {
      throw new MalformedMessageError(`Cannot go on: FIN at ${offset}, not ${link.receiveOffset}`);
    }
    this.#options.receiving.finish(offset);
    this.#options.onData();
  }

  /** What the controlling side has begun. */
  #follow(link: SessionPath): void {
    this.#start(link);
    this.#onAttached(link);
  }

  /** Sends over this path from now on. */
  #start(link: SessionPath): void {
    const before = this.#current;
    const { sending, receiving } = this.#options;
    this.#current = link;
    const offset = sending.rewind();
    link.say({ kind: "ack", ...receiving.acknowledgement() });
    link.say({ kind: "start", offset });
    before?.leave(superseded());
  }

  #onAttached(link: SessionPath): void {
    this.#arriving.delete(link);
    link.attach();
    this.#options.onAttached(link, link.generation === 1);
    link.pump();
  }

  #drop(link: SessionPath, reason: unknown): void {
    const wasArriving = this.#arriving.delete(link);
    link.cut(reason);
    if (link === this.#current) {
      this.#current = undefined;
      const [next] = [...this.#arriving].filter((other) => other.isGreeted);
      if (next !== undefined) return this.#follow(next); // the other side is about to start on it
      if (!wasArriving) return this.#options.onLost(reason as NetworkError);
    }
    if (wasArriving) this.#options.onNotAttached();
  }

  #supersede(links: Iterable<SessionPath>): void {
    for (const link of links) {
      this.#arriving.delete(link);
      if (link === this.#current) this.#current = undefined;
      link.cut(superseded());
    }
  }

  #refer({ connection, keepAlive }: SessionPath): void {
    keepAlive.isReferenced = this.#isReferenced;
    if (this.#isReferenced) connection.ref?.();
    else connection.unref?.();
  }
}

function superseded(): NetworkError {
  return new NetworkError("Cannot use the path: there is a newer one", "closed");
}

/** Ours: so much may be sent twice to save a round trip when there is no other path. */
const MAX_UNASKED = 65_536;
