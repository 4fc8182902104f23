/**
 * What a session does with its paths: its stream moves from one to another, and small messages travel alongside it, which
 * are lost with their path.
 *
 * @module
 */

import { concat, equalBytes } from "../base/bytes.ts";
import { MalformedMessageError, NetworkError } from "../base/errors.ts";
import { WaitQueue } from "../base/wait_queue.ts";
import type { TcpConnection } from "../net/network.ts";
import { MAX_SIGNAL_BYTES, type SignalChannel } from "../signal/channel.ts";
import { type ControlFrame, SESSION_VERSION } from "./frame.ts";
import {
  initialMigrationState,
  isGreeted,
  type MigrationAction,
  type MigrationEvent,
  type MigrationState,
  type SessionRole,
  stepMigration,
} from "./migration_engine.ts";
import { type ForwardedFrame, type PathOwner, SessionPath } from "./path.ts";
import type { ReceiveStream } from "./receive_stream.ts";
import type { Outgoing, SendStream } from "./send_stream.ts";
import type { SessionTimings } from "./options.ts";

/** What a {@linkcode PathMigration} needs from its session. Only `onFrame` may throw, if the frame is malformed. */
export interface PathMigrationOptions {
  readonly role: SessionRole;
  readonly timings: SessionTimings;
  readonly sending: SendStream;
  readonly receiving: ReceiveStream;
  /** A frame was received that is not about paths. */
  readonly onFrame: (frame: ForwardedFrame) => void;
  /** A part of the stream was received, or its end. */
  readonly onData: () => void;
  /** What to write next on the current path. */
  readonly next: () => Outgoing | undefined;
  /** A path was pinged, by either side. */
  readonly onPing: () => void;
  /** The stream runs over this path. */
  readonly onAttached: (path: SessionPath) => void;
  /** The current path has stalled, or goes on. */
  readonly onStalled: (isStalled: boolean) => void;
  /** The stream runs over no path. */
  readonly onLost: (error: NetworkError) => void;
  /** A path has ended before it was attached. */
  readonly onNotAttached: () => void;
  /** The other side has broken the protocol. */
  readonly onMalformed: (error: MalformedMessageError) => void;
}

/** Runs {@linkcode stepMigration} over real paths. */
export class PathMigration implements PathOwner {
  readonly #options: PathMigrationOptions;
  /** All paths whose connections are not closed, including those that were replaced. */
  readonly #paths = new Map<number, SessionPath>();
  #state: MigrationState;
  #current: SessionPath | undefined;
  #lastId = 0;
  #isReferenced = true;

  constructor(options: PathMigrationOptions) {
    this.#options = options;
    this.#state = initialMigrationState(options.role);
  }

  /** The path on which this side sends, if there is one. */
  get current(): SessionPath | undefined {
    return this.#current;
  }

  /** Whether the stream runs over the current path, as far as this side knows. */
  get isAttached(): boolean {
    const { paths, currentId } = this.#state;
    return paths.some(({ id, phase }) => id === currentId && phase === "attached");
  }

  /** Whether the stream runs over a path, or one is being attached. */
  get hasPath(): boolean {
    return this.#state.paths.length > 0;
  }

  /** As {@linkcode Session.attach}. */
  async attach(connection: TcpConnection, signal?: AbortSignal): Promise<void> {
    const { timings, sending } = this.#options;
    const id = ++this.#lastId;
    const path = new SessionPath(id, connection, this, timings);
    this.#paths.set(id, path);
    path.released.then(() => this.#paths.delete(id));
    this.#applyReference(path);
    const onAbort = () => {
      path.reset(signal?.reason);
      const error = new NetworkError("Cannot use the path: attach() was aborted", "closed");
      this.#handle({ kind: "failed", id }, { error });
    };
    signal?.addEventListener("abort", onAbort, { once: true });
    this.#handle({ kind: "opened", id, unacknowledgedBytes: sending.unacknowledged });
    try {
      await path.attached;
    } finally {
      signal?.removeEventListener("abort", onAbort);
    }
  }

  /** Tells the other side on every path that it may use that the session ends, before {@linkcode PathMigration.end}. */
  announceEnd(frame: ControlFrame): void {
    for (const path of this.#paths.values()) {
      if (path === this.#current || isGreeted(this.#state, path.id)) path.send(frame);
    }
  }

  /** Ends all paths: `close` writes what is waiting first, `reset` does not. */
  end(reason: unknown, how: "close" | "reset"): void {
    this.#state = initialMigrationState(this.#options.role);
    this.#current = undefined;
    for (const path of this.#paths.values()) path[how](reason);
  }

  /** Resolves once the connections of all paths are closed. */
  async released(): Promise<void> {
    await Promise.all(Array.from(this.#paths.values(), (path) => path.released));
  }

  /** Whether the paths keep the program running. */
  set isReferenced(isReferenced: boolean) {
    this.#isReferenced = isReferenced;
    for (const path of this.#paths.values()) this.#applyReference(path);
  }

  /** As {@linkcode PathOwner.nextFor}. */
  nextFor(path: SessionPath): Outgoing | undefined {
    return path === this.#current ? this.#options.next() : undefined;
  }

  /** As {@linkcode PathOwner.onPing}. */
  onPing(): void {
    this.#options.onPing();
    this.#options.sending.rest();
    this.#options.receiving.rest();
  }

  /** As {@linkcode PathOwner.onStalled}. */
  onStalled(path: SessionPath, isStalled: boolean): void {
    if (path === this.#current) this.#options.onStalled(isStalled);
  }

  /** As {@linkcode PathOwner.isAnswerDue}. */
  isAnswerDue(path: SessionPath): boolean {
    return path === this.#current && this.#options.sending.isAnswerDue;
  }

  /** As {@linkcode PathOwner.onFrame}. */
  onFrame(path: SessionPath, frame: ForwardedFrame): void {
    if (frame.kind !== "hello" && !isGreeted(this.#state, path.id)) {
      throw new MalformedMessageError(
        `Cannot continue: ${frame.kind.toUpperCase()} before HELLO`,
      );
    }
    if (frame.kind === "hello") this.#onHello(path, frame);
    else if (frame.kind === "start") this.#onStart(path, frame.offset);
    else if (frame.kind === "fin") this.#onFin(path, frame.offset);
    else this.#options.onFrame(frame);
  }

  /** As {@linkcode PathOwner.onData}. */
  onData(_path: SessionPath, offset: number, data: Uint8Array): void {
    this.#options.receiving.accept(offset, data);
    this.#options.onData();
  }

  /** As {@linkcode PathOwner.onFailure}. */
  onFailure(path: SessionPath, error: NetworkError | MalformedMessageError): void {
    if (error instanceof MalformedMessageError) this.#options.onMalformed(error);
    else this.#handle({ kind: "failed", id: path.id }, { error });
  }

  #onHello(path: SessionPath, hello: HelloFrame): void {
    const { version, pathNumber } = hello;
    if (version !== SESSION_VERSION && this.#options.role === "controlled") {
      // Before the path is closed, so that both sides can say which of them is older.
      path.send({ kind: "hello", version: SESSION_VERSION, pathNumber, received: 0, limit: 0 });
    }
    this.#handle({ kind: "hello", id: path.id, version, pathNumber }, { hello });
  }

  #onStart(path: SessionPath, offset: number): void {
    if (path.receiveOffset !== undefined) {
      throw new MalformedMessageError("Cannot continue: a second START");
    }
    const { received } = this.#options.receiving;
    if (offset > received) {
      throw new MalformedMessageError(
        `Cannot continue: START at ${offset}, but only ${received} bytes were received`,
      );
    }
    path.receiveOffset = offset;
    this.#handle({ kind: "start", id: path.id });
  }

  #onFin(path: SessionPath, offset: number): void {
    if (path.receiveOffset !== offset) {
      throw new MalformedMessageError(
        `Cannot continue: FIN at ${offset} instead of ${path.receiveOffset}`,
      );
    }
    this.#options.receiving.finish(offset);
    this.#options.onData();
  }

  #handle(event: MigrationEvent, cause: ActionCause = {}): void {
    const { state, actions } = stepMigration(this.#state, event);
    this.#state = state;
    this.#current = state.currentId === undefined ? undefined : this.#paths.get(state.currentId);
    for (const action of actions) this.#execute(action, cause);
  }

  #execute(action: MigrationAction, { hello, error }: ActionCause): void {
    switch (action.kind) {
      case "send-hello":
        return this.#path(action.id).send({
          kind: "hello",
          version: SESSION_VERSION,
          pathNumber: action.pathNumber,
          ...this.#options.receiving.acknowledgement(),
        });
      case "accept-hello":
        return this.#options.sending.acknowledge(hello!.received, hello!.limit);
      case "start":
        return this.#start(this.#path(action.id));
      case "attached":
        return this.#onAttached(this.#path(action.id));
      case "close":
        return this.#path(action.id).close(replaced());
      case "reset":
        return this.#path(action.id).reset(replaced());
      case "lost":
        return this.#options.onLost(error!);
      case "not-attached":
        return this.#options.onNotAttached();
    }
  }

  #start(path: SessionPath): void {
    const { sending, receiving } = this.#options;
    const offset = sending.rewind();
    path.send({ kind: "ack", ...receiving.acknowledgement() });
    path.send({ kind: "start", offset });
  }

  #onAttached(path: SessionPath): void {
    path.attach();
    this.#options.onAttached(path);
    path.pump();
  }

  /** The path of an action; the engine knows only open paths. */
  #path(id: number): SessionPath {
    return this.#paths.get(id)!;
  }

  #applyReference({ connection, keepAlive }: SessionPath): void {
    keepAlive.isReferenced = this.#isReferenced;
    if (this.#isReferenced) connection.ref?.();
    else connection.unref?.();
  }
}

/** What a {@linkcode MessageChannel} needs from its session. */
export interface MessageChannelOptions {
  /** Called when there is a message to send. */
  readonly onMessage: () => void;
  /** The round trip of the current path. */
  readonly rttMs: () => number | undefined;
}

/** A signaling channel over the current path. Messages are lost with their path, and if too many are waiting. */
export class MessageChannel implements SignalChannel {
  readonly #options: MessageChannelOptions;
  readonly #inbox = new WaitQueue<Uint8Array>(MAX_WAITING);
  readonly #outbox: Uint8Array[] = [];
  readonly #datagrams = new WaitQueue<Uint8Array>(MAX_DATAGRAMS);
  #failure: { readonly reason: unknown } | undefined;

  constructor(options: MessageChannelOptions) {
    this.#options = options;
  }

  /** The round trip of the session's current path. */
  get rttMs(): number | undefined {
    return this.#options.rttMs();
  }

  /**
   * As {@linkcode SignalChannel.send}. Without a path the newest messages wait for one.
   *
   * @throws {RangeError} if the message is too long
   * @throws {NetworkError} once the session has ended
   */
  // deno-lint-ignore require-await -- failures reject the promise
  async send(message: Uint8Array): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure.reason;
    if (message.length > MAX_SIGNAL_BYTES) {
      throw new RangeError(
        `Cannot send: a message has at most ${MAX_SIGNAL_BYTES} bytes, not ${message.length}`,
      );
    }
    if (this.#outbox.length === MAX_WAITING) this.#outbox.shift();
    this.#outbox.push(message.slice());
    this.#options.onMessage();
  }

  /** As {@linkcode SignalChannel.receive}. */
  receive(options: { signal?: AbortSignal } = {}): Promise<Uint8Array> {
    return this.#inbox.next(options.signal);
  }

  /**
   * Sends a datagram of the application: a message with a mark, which sides that know no datagrams take for one that nothing
   * reads.
   *
   * @returns `false` if it was dropped because too many messages wait
   * @throws {NetworkError} once the session has ended
   */
  sendDatagram(datagram: Uint8Array): boolean {
    if (this.#failure !== undefined) throw this.#failure.reason;
    if (this.#outbox.length === MAX_WAITING) return false;
    this.#outbox.push(concat(DATAGRAM_MARK, datagram));
    this.#options.onMessage();
    return true;
  }

  /**
   * The other side's next datagram.
   *
   * @throws the reason for which the session has ended
   */
  receiveDatagram(): Promise<Uint8Array> {
    return this.#datagrams.next();
  }

  /** The next message to send. */
  next(): Uint8Array | undefined {
    return this.#outbox.shift();
  }

  /** A message was received. */
  deliver(message: Uint8Array): void {
    const { length } = DATAGRAM_MARK;
    if (equalBytes(message.subarray(0, length), DATAGRAM_MARK)) {
      this.#datagrams.push(message.subarray(length));
    } else this.#inbox.push(message);
  }

  /** The session has ended. */
  fail(reason: unknown): void {
    this.#failure ??= { reason };
    this.#outbox.length = 0;
    this.#inbox.close(reason);
    this.#datagrams.close(reason);
  }
}

type HelloFrame = Extract<ForwardedFrame, { kind: "hello" }>;

/** What led to the actions of a step. */
interface ActionCause {
  readonly hello?: HelloFrame;
  readonly error?: NetworkError;
}

function replaced(): NetworkError {
  return new NetworkError("Cannot use the path: there is a newer one", "closed");
}

/** How a datagram begins: no message of our own does. */
const DATAGRAM_MARK = Uint8Array.of(0xff, 0x64, 0x67, 0x72);

/** Chosen by us: each is read at once. */
const MAX_DATAGRAMS = 64;

/** Chosen by us: up to 4 KiB each, in each direction. */
const MAX_WAITING = 16;
