/**
 * Relayed byte streams: RFC 6062, TCP allocations.
 *
 * @module
 */

import { MalformedMessageError, RefusedError } from "../base/errors.ts";
import { WaitQueue } from "../base/wait_queue.ts";
import { formatTransportAddress, type TransportAddress } from "../net/address.ts";
import type { TcpConnection } from "../net/network.ts";
import { getAttribute, type StunMessage } from "../stun/message.ts";
import { StreamChannel } from "../stun/transport.ts";
import { type Allocated, type TurnClientOptions, turnRefusedError } from "./allocation.ts";
import { CONNECT, CONNECTION_ATTEMPT, CONNECTION_BIND, isFailure, isFinal } from "./protocol.ts";
import { type Relay, SessionRelay } from "./relay.ts";

/** What a {@linkcode RelayedConnection} is made of. */
export interface RelayedConnectionParts {
  /** The relayed address. */
  readonly local: TransportAddress;
  /** The peer. */
  readonly remote: TransportAddress;
  /** To the server. */
  readonly connection: TcpConnection;
  /** What the peer had sent when the server bound the connection. */
  readonly rest: Uint8Array;
  readonly onClose: (connection: TcpConnection) => void;
  /** What else keeps the program running while the connection does. */
  readonly onRefer?: (isReferenced: boolean) => void;
}

/** The connection to the server under the names of its ends: everything else is its own. */
export class RelayedConnection implements TcpConnection {
  readonly local: TransportAddress;
  readonly remote: TransportAddress;
  readonly #connection: TcpConnection;
  readonly #onClose: RelayedConnectionParts["onClose"];
  readonly #onRefer: RelayedConnectionParts["onRefer"];
  #rest: Uint8Array;

  constructor(parts: RelayedConnectionParts) {
    this.local = parts.local;
    this.remote = parts.remote;
    this.#connection = parts.connection;
    this.#rest = parts.rest;
    this.#onClose = parts.onClose;
    this.#onRefer = parts.onRefer;
  }

  read(buffer: Uint8Array): Promise<number | null> {
    if (this.#rest.length === 0) return this.#connection.read(buffer);
    const length = Math.min(this.#rest.length, buffer.length);
    buffer.set(this.#rest.subarray(0, length));
    this.#rest = this.#rest.subarray(length);
    return Promise.resolve(length);
  }

  write(data: Uint8Array): Promise<number> {
    return this.#connection.write(data);
  }

  closeWrite(): Promise<void> {
    return this.#connection.closeWrite();
  }

  close(): void {
    this.#connection.close();
    this.#onClose(this);
  }

  reset(): void {
    this.#connection.reset();
    this.#onClose(this);
  }

  ref(): void {
    this.#connection.ref?.();
    this.#onRefer?.(true);
  }

  unref(): void {
    this.#connection.unref?.();
    this.#onRefer?.(false);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * A relayed address for byte streams; disposing releases it and closes its connections. Peers need not know
 * of TURN.
 *
 * **The end of a stream.** RFC 6062 has a server close both of its connections when one is closed, and no word
 * on half-close. coturn 4.6.1 resets both when either side closes or half-closes, and drops what it has not
 * delivered yet. So the end has to be told in the stream itself, and answered, before either side closes.
 * It also stops now and then to read one side of a stream that runs at full speed both ways; who sends in turns,
 * or little in one direction, is not affected.
 */
export interface StreamRelay extends Relay {
  /**
   * Dials a peer from the relayed address.
   *
   * @throws {RefusedError} 403 for an address that the server dials for nobody, 446 if there is a connection
   * to this peer, 447 if the peer does not answer
   * @throws {NoResponseError} if the server does not answer
   * @throws {NetworkError} as the network fails
   */
  connect(peer: TransportAddress, options?: { signal?: AbortSignal }): Promise<TcpConnection>;
  /**
   * The next connection that a permitted peer made to the relayed address. An aborted call loses none, unless
   * it was just taking it.
   *
   * A connection that ends before it is taken is passed over.
   *
   * @throws {NetworkError} `closed` once the relay is closed, or why it was lost
   * @throws {RefusedError} if the server does not let us take connections any more
   */
  accept(options?: { signal?: AbortSignal }): Promise<TcpConnection>;
  /** Keeps the program running while the relay is open, which is so by default. */
  ref(): void;
  /** Lets the program end while the relay is open. Its connections have their own `unref()`. */
  unref(): void;
}

/** How a stream relay reaches its server. */
export type StreamRelayOptions = TurnClientOptions & { readonly transport: "tcp" | "tls" };

/** A relay of an allocation. */
export function streamRelay(allocated: Allocated, options: StreamRelayOptions): StreamRelay {
  return new SessionStreamRelay(allocated, options);
}

class SessionStreamRelay extends SessionRelay implements StreamRelay {
  readonly #options: StreamRelayOptions;
  readonly #attempts = new WaitQueue<Attempt>(MAX_ATTEMPTS);
  readonly #connections = new Set<TcpConnection>();

  constructor(allocated: Allocated, options: StreamRelayOptions) {
    super(allocated, options);
    this.#options = options;
    this.session.deliverTo({
      onChannelData() {},
      onIndication: (message) => this.#onIndication(message),
    });
    this.session.ended.addEventListener("abort", () => this.#end(), { once: true });
  }

  async connect(
    peer: TransportAddress,
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<TcpConnection> {
    const action = `connect to ${formatTransportAddress(peer)}`;
    const response = await this.session.request({
      method: CONNECT,
      attributes: [{ type: "XOR-PEER-ADDRESS", value: peer }],
    }, { action, signal });
    const connectionId = getAttribute(response, "CONNECTION-ID");
    if (connectionId === undefined) {
      throw new MalformedMessageError(
        `Cannot understand ${formatTransportAddress(this.server)}: its connection has no id`,
      );
    }
    return await this.#bind({ connectionId, peer }, signal);
  }

  async accept({ signal }: { signal?: AbortSignal } = {}): Promise<TcpConnection> {
    const { connectionBindMs } = this.#options.timings;
    while (true) {
      const attempt = await this.#attempts.next(signal);
      if (performance.now() - attempt.arrivedMs > connectionBindMs) continue;
      try {
        return await this.#bind(attempt, signal);
      } catch (error) {
        if (this.session.ended.aborted || signal?.aborted || !isOnlyThisPeers(error)) throw error;
      }
    }
  }

  ref(): void {
    this.session.refer(true);
  }

  unref(): void {
    this.session.refer(false);
  }

  /** Another connection to the server, which becomes the one to the peer. */
  async #bind(
    { connectionId, peer }: Pick<Attempt, "connectionId" | "peer">,
    signal?: AbortSignal,
  ): Promise<TcpConnection> {
    const { ended, server, allocation } = this.session;
    const channel = await StreamChannel.open(server.address, {
      ...this.#options,
      local: undefined,
      hostname: server.hostname,
      signal: signal === undefined ? ended : AbortSignal.any([ended, signal]),
    });
    try {
      const { answer: response } = await this.session.forkTransaction().ask(channel, {
        method: CONNECTION_BIND,
        attributes: [{ type: "CONNECTION-ID", value: connectionId }],
      });
      if (response.class !== "success") {
        const action = `take the connection with ${formatTransportAddress(peer)}`;
        throw turnRefusedError(response, server.address, action);
      }
    } catch (error) {
      channel[Symbol.dispose]();
      throw error;
    }
    const connection = new RelayedConnection({
      ...channel.detach(),
      local: allocation.relayed[0],
      remote: peer,
      onClose: (connection) => this.#connections.delete(connection),
    });
    this.#connections.add(connection);
    return connection;
  }

  /** RFC 6062 §4.4; from whom we have not let in it is dropped. */
  #onIndication(message: StunMessage): void {
    if (message.method !== CONNECTION_ATTEMPT) return;
    const connectionId = getAttribute(message, "CONNECTION-ID");
    const peer = getAttribute(message, "XOR-PEER-ADDRESS");
    if (connectionId === undefined || peer === undefined) return;
    if (!this.permissions.admits(peer.ip)) return;
    this.#attempts.push({ connectionId, peer, arrivedMs: performance.now() });
  }

  #end(): void {
    this.#attempts.close(this.session.ended.reason);
    this.#attempts.drain();
    for (const connection of this.#connections) connection.close();
  }
}

/**
 * Whether a failure to take one peer's connection says nothing of the next one's: the peer has gone, of which coturn
 * tells by a reset and others by 400 or 447, or the server has given up waiting.
 */
function isOnlyThisPeers(error: unknown): boolean {
  if (error instanceof RefusedError) return GONE.has(error.code) || !isFinal(error);
  return isFailure(error);
}

/** RFC 6062 §5.4: 400 for a connection that the server does not know (any more); 447 for one that failed. */
const GONE: ReadonlySet<number> = new Set([400, 447]);

/** A peer that waits for us. */
interface Attempt {
  readonly connectionId: number;
  readonly peer: TransportAddress;
  readonly arrivedMs: number;
}

/** Ours: those that accept() does not take in 30 s are hung up on by the server. */
const MAX_ATTEMPTS = 64;
