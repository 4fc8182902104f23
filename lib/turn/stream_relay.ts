/**
 * Relayed byte streams: the TCP allocations of RFC 6062.
 *
 * @module
 */

import { MalformedMessageError, PunchlineError, RefusedError } from "../base/errors.ts";
import { WaitQueue } from "../base/wait_queue.ts";
import { formatTransportAddress, type TransportAddress } from "../net/address.ts";
import { UnreadConnection } from "../net/deno_conn.ts";
import type { TcpConnection } from "../net/network.ts";
import { getAttribute, type StunMessage } from "../stun/message.ts";
import { StreamChannel } from "../stun/transport.ts";
import { type Allocated, type TurnClientOptions, turnRefusedError } from "./allocation.ts";
import { CONNECT, CONNECTION_ATTEMPT, CONNECTION_BIND, isFinal } from "./protocol.ts";
import { type Relay, SessionRelay } from "./relay.ts";

/**
 * A relayed address for byte streams. Disposing releases it and closes its connections. Peers need not support TURN.
 *
 * **The end of a stream.** In RFC 6062 a server closes both of its connections when one is closed; half-close is not
 * mentioned. coturn 4.6.1 resets both when either side closes or half-closes, and drops data that it has not delivered
 * yet. So announce the end within the stream, and wait for an acknowledgement, before either side closes. coturn also
 * sometimes stops reading one side of a stream that runs at full speed in both directions. Streams that alternate
 * directions, or send little in one of them, are not affected.
 */
export interface StreamRelay extends Relay {
  /**
   * Dials a peer from the relayed address.
   *
   * @throws {RefusedError} 403 if the server does not relay to that address, 446 if there already is a connection to this
   * peer, 447 if the peer does not answer
   * @throws {NoResponseError} if the server does not respond
   * @throws {NetworkError} if the network fails
   */
  connect(peer: TransportAddress, options?: { signal?: AbortSignal }): Promise<TcpConnection>;
  /**
   * The next connection that a permitted peer has made to the relayed address. Connections that end before they are
   * accepted are skipped. An aborted call loses no connection that it had not begun to accept.
   *
   * @throws {NetworkError} `closed` once the relay is closed, or the reason that it was lost
   * @throws {RefusedError} if the server no longer lets us accept connections
   */
  accept(options?: { signal?: AbortSignal }): Promise<TcpConnection>;
  /** Keeps the program running while the relay is open. This is the default. */
  ref(): void;
  /** Allows the program to end while the relay is open. Its connections have an `unref()` of their own. */
  unref(): void;
}

/** How a stream relay reaches its server: not over UDP. */
export type StreamRelayOptions = TurnClientOptions & { readonly transport: "tcp" | "tls" };

/** A stream relay over an allocation. */
export function streamRelay(allocated: Allocated, options: StreamRelayOptions): StreamRelay {
  return new SessionStreamRelay(allocated, options);
}

/** The parts of a {@linkcode RelayedConnection}. */
export interface RelayedConnectionParts {
  /** The relayed address. */
  readonly local: TransportAddress;
  /** The peer. */
  readonly remote: TransportAddress;
  /** The connection to the server. */
  readonly connection: TcpConnection;
  /** Data of the peer that arrived together with the response to ConnectionBind. */
  readonly rest: Uint8Array;
  /** Called when the connection is closed or reset from this side. */
  readonly onClose: (connection: TcpConnection) => void;
  /** Passes `ref()` and `unref()` on to whatever else keeps the program running. */
  readonly onRefer?: (isReferenced: boolean) => void;
}

/** A connection to the server, presented as the connection to the peer that it relays. */
export class RelayedConnection extends UnreadConnection {
  readonly #onClose: RelayedConnectionParts["onClose"];
  readonly #onRefer: RelayedConnectionParts["onRefer"];

  constructor(parts: RelayedConnectionParts) {
    super(parts.connection, parts.rest, parts);
    this.#onClose = parts.onClose;
    this.#onRefer = parts.onRefer;
  }

  override close(): void {
    super.close();
    this.#onClose(this);
  }

  override reset(): void {
    super.reset();
    this.#onClose(this);
  }

  override ref(): void {
    super.ref();
    this.#onRefer?.(true);
  }

  override unref(): void {
    super.unref();
    this.#onRefer?.(false);
  }
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
        `Cannot understand ${
          formatTransportAddress(this.server)
        }: its connection has no CONNECTION-ID`,
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
        if (this.session.ended.aborted || signal?.aborted || !concernsOnePeer(error)) throw error;
      }
    }
  }

  ref(): void {
    this.session.refer(true);
  }

  unref(): void {
    this.session.refer(false);
  }

  /** Opens another connection to the server, which then relays the connection to the peer. */
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
        const action = `bind the connection with ${formatTransportAddress(peer)}`;
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

  /** RFC 6062 §4.4. Attempts of peers without permission are dropped. */
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
 * Whether a failure to accept one peer's connection means nothing for the next one: the peer has gone, which coturn
 * reports with a reset and others with 400 or 447, or the server has stopped waiting.
 */
function concernsOnePeer(error: unknown): boolean {
  if (error instanceof RefusedError) return GONE.has(error.code) || !isFinal(error);
  return error instanceof PunchlineError;
}

/** A peer whose connection has not been accepted yet. */
interface Attempt {
  readonly connectionId: number;
  readonly peer: TransportAddress;
  readonly arrivedMs: number;
}

/** RFC 6062 §5.4: 400 for a connection that the server does not know, or no longer knows; 447 for one that failed. */
const GONE: ReadonlySet<number> = new Set([400, 447]);

/** Chosen by us: the server drops those that are not accepted within 30 s. */
const MAX_ATTEMPTS = 64;
