/**
 * An allocation from its creation to its release: refreshed while it is open (RFC 8656 §8), moved to another network
 * on request (RFC 8016), and reported when it is lost.
 *
 * @module
 */

import { NetworkError, PunchlineError } from "../base/errors.ts";
import { optionalResolvers, TaskGroup } from "../base/tasks.ts";
import { idleDelay } from "../base/timers.ts";
import { formatTransportAddress, type TransportAddress } from "../net/address.ts";
import { getAttribute, type StunMessage } from "../stun/message.ts";
import type { AuthenticatedTransaction, ServerTarget, StunRequest } from "../stun/transaction.ts";
import {
  type Allocated,
  ALLOCATION_MISMATCH,
  RELEASE,
  type TurnAllocation,
  type TurnClientOptions,
  turnRefusedError,
} from "./allocation.ts";
import { TurnConnection, type TurnConnectionHandlers } from "./connection.ts";
import { isFinal, REFRESH, renewalDelayMs, RETRY_MS } from "./protocol.ts";
import { abortable } from "@std/async/abortable";

/** Options of {@linkcode TurnSession.request}. */
export interface TurnRequestOptions {
  /** What fails if the server refuses, for the message: `permit 192.0.2.1`. */
  readonly action: string;
  readonly signal?: AbortSignal;
}

/** An allocation, until it is closed or lost. */
export class TurnSession {
  readonly server: ServerTarget;
  readonly allocation: TurnAllocation;
  readonly options: TurnClientOptions;
  /** Resolves once the allocation is released; rejects, with the reason, once it is lost. */
  readonly finished: Promise<void>;
  readonly #finish = optionalResolvers<void>();
  /** Refreshes and renewals. If one of them fails, the allocation is of no further use. */
  readonly #tasks = new TaskGroup((error) => this.#lose(error));
  #handlers: TurnConnectionHandlers | undefined;
  #connection: TurnConnection;
  #transaction: AuthenticatedTransaction;
  #mobilityTicket: Uint8Array | undefined;
  /** Defined during a move; resolves when the move is over, whatever its result. */
  #moving: Promise<void> | undefined;
  /** Ends a move that takes too long when the session closes. A move outlives `#tasks`, which have their own signal. */
  readonly #moveEnd = new AbortController();
  #closed: Promise<void> | undefined;
  #isLost = false;

  /** Starts refreshing the allocation. */
  constructor(allocated: Allocated, options: TurnClientOptions) {
    this.server = allocated.server;
    this.allocation = allocated.allocation;
    this.options = options;
    this.finished = this.#finish.promise;
    this.#transaction = allocated.transaction;
    this.#mobilityTicket = allocated.allocation.mobilityTicket;
    this.#connection = allocated.connection;
    this.#attach(allocated.connection);
    this.background((signal) => this.#keepRefreshed(signal));
  }

  /** Aborted once the allocation is closed or lost. Its reason is the error for everything that still waits. */
  get ended(): AbortSignal {
    return this.#tasks.signal;
  }

  /** The local address; over UDP its IP may be the wildcard. */
  get local(): TransportAddress {
    return this.#connection.local;
  }

  /** Sets the handlers for what arrives from now on. Until then it is dropped. */
  deliverTo(handlers: TurnConnectionHandlers): void {
    this.#handlers = handlers;
    this.#connection.deliverTo(handlers);
  }

  /**
   * Sends a request about the allocation.
   *
   * @throws {RefusedError} if the server refuses; 437 means that the allocation is lost
   * @throws {NoResponseError} if it does not respond in time
   * @throws {NetworkError} `closed`, or if the network fails
   */
  async request(request: StunRequest, options: TurnRequestOptions): Promise<StunMessage> {
    const { action, signal } = options;
    const timeouts = {
      waitsMs: this.options.waitsMs,
      signal: signal === undefined ? this.ended : AbortSignal.any([this.ended, signal]),
    };
    while (true) {
      if (this.#moving !== undefined) await abortable(this.#moving, timeouts.signal);
      timeouts.signal.throwIfAborted();
      const connection = this.#connection;
      // A failure on a connection that is being left means nothing: the server may already know the new one.
      const isLeft = () => this.#moving !== undefined || connection !== this.#connection;
      try {
        const { answer } = await this.#transaction.ask(connection.channel(timeouts), request);
        if (answer.class === "success") return answer;
        if (isLeft()) continue;
        const error = turnRefusedError(answer, this.server.address, action);
        if (error.code === ALLOCATION_MISMATCH) this.#lose(error);
        throw error;
      } catch (error) {
        const isExpected = error instanceof PunchlineError;
        if (!isExpected || !isLeft() || timeouts.signal.aborted) throw error;
      }
    }
  }

  /**
   * Sends an indication or ChannelData.
   *
   * @throws {NetworkError} `closed`, or if the network does not accept it
   */
  async send(message: Uint8Array): Promise<void> {
    this.ended.throwIfAborted();
    await this.#connection.send(message);
  }

  /** Sets whether the session keeps the program running. It does by default, and over UDP always. */
  refer(isReferenced: boolean): void {
    this.#connection.refer(isReferenced);
  }

  /** A transaction for another connection to the server, with the same authentication. */
  forkTransaction(): AuthenticatedTransaction {
    return this.#transaction.fork();
  }

  /** Runs a job until the session ends. If the job fails before that, the allocation is lost. */
  background(job: (signal: AbortSignal) => Promise<void>): void {
    this.#tasks.run(job);
  }

  /**
   * Moves the allocation to a new socket, over whatever network the host is on now: RFC 8016.
   *
   * @throws {TypeError} if the server gave no mobility ticket
   * @throws {RefusedError} if it refuses
   */
  async move({ signal }: { signal?: AbortSignal } = {}): Promise<void> {
    while (this.#moving !== undefined) await this.#moving;
    this.ended.throwIfAborted();
    const moving = this.#move(signal);
    // Others only wait for the end of the move; its failure is thrown below.
    this.#moving = moving.catch(() => {}).then(() => this.#moving = undefined);
    const left = this.#connection;
    await this.#moving;
    left.finished.catch((error) => {
      if (left === this.#connection) this.#lose(error); // it ended during the move, and there is no other
    });
    await moving;
    this.ended.throwIfAborted();
  }

  async #move(signal: AbortSignal | undefined): Promise<void> {
    const ticket = this.#mobilityTicket;
    if (ticket === undefined) {
      throw new TypeError(
        "Cannot move relay: it was opened without mobility, or the server does not support it",
      );
    }
    const { address, hostname } = this.server;
    const moveEnd = this.#moveEnd.signal;
    const timeouts = {
      waitsMs: this.options.waitsMs,
      signal: signal === undefined ? moveEnd : AbortSignal.any([moveEnd, signal]),
    };
    const options = { ...this.options, ...timeouts, local: undefined };
    const connection = await TurnConnection.open(address, hostname, options);
    const transaction = this.#transaction.fork();
    try {
      const { answer: response } = await transaction.ask(connection.channel(timeouts), {
        method: REFRESH,
        attributes: [{ type: "MOBILITY-TICKET", value: ticket }],
      });
      if (response.class !== "success") throw turnRefusedError(response, address, "move relay");
      this.#mobilityTicket = getAttribute(response, "MOBILITY-TICKET") ?? ticket;
    } catch (error) {
      connection.close();
      throw error;
    }
    const old = this.#connection;
    this.#connection = connection;
    this.#transaction = transaction;
    this.#attach(connection);
    old.close();
    if (this.#isLost) connection.close();
  }

  /** Releases the allocation. Idempotent; never rejects because of the network. */
  close(): Promise<void> {
    return this.#closed ??= this.#close();
  }

  async #close(): Promise<void> {
    const server = formatTransportAddress(this.server.address);
    await this.#tasks.stop(
      new NetworkError(`Cannot use relay at ${server}: it is closed`, "closed"),
    );
    await this.#finishMove();
    if (!this.#isLost) await this.#release();
    this.#connection.close();
    this.#finish.resolve();
  }

  /** A move in progress may still change the connection that the release must go over, if it ends soon. */
  async #finishMove(): Promise<void> {
    if (this.#moving === undefined) return;
    const { releaseWaitsMs } = this.options.timings;
    const waitMs = releaseWaitsMs.reduce((sum, each) => sum + each, 0);
    const timer = setTimeout(() => this.#moveEnd.abort(this.ended.reason), waitMs);
    await this.#moving;
    clearTimeout(timer);
  }

  async #release(): Promise<void> {
    const channel = this.#connection.channel({ waitsMs: this.options.timings.releaseWaitsMs });
    try {
      await this.#transaction.ask(channel, RELEASE);
    } catch (error) {
      // A server that cannot be reached forgets the allocation when it expires.
      if (!(error instanceof PunchlineError)) throw error;
    }
  }

  #lose(error: unknown): void {
    if (this.ended.aborted) return;
    this.#isLost = true;
    void this.#tasks.stop(error); // close() waits for them
    this.#connection.close();
    this.#finish.reject(error);
  }

  #attach(connection: TurnConnection): void {
    if (this.#handlers !== undefined) connection.deliverTo(this.#handlers);
    connection.finished.catch((error) => {
      if (connection === this.#connection && this.#moving === undefined) this.#lose(error);
    });
  }

  async #keepRefreshed(signal: AbortSignal): Promise<void> {
    let lifetimeMs = this.allocation.lifetimeSeconds * 1000;
    let expiresMs = performance.now() + lifetimeMs;
    let waitMs = this.#refreshDelayMs(lifetimeMs);
    while (true) {
      await idleDelay(waitMs, signal);
      signal.throwIfAborted();
      try {
        const value = this.allocation.lifetimeSeconds;
        const response = await this.request(
          { method: REFRESH, attributes: [{ type: "LIFETIME", value }] },
          { action: "refresh the allocation" },
        );
        lifetimeMs = (getAttribute(response, "LIFETIME") ?? value) * 1000;
        expiresMs = performance.now() + lifetimeMs;
        this.#mobilityTicket = getAttribute(response, "MOBILITY-TICKET") ?? this.#mobilityTicket;
        waitMs = this.#refreshDelayMs(lifetimeMs);
      } catch (error) {
        // The allocation lives until it expires: the network or the server may come back.
        if (isFinal(error) || performance.now() >= expiresMs) throw error;
        waitMs = RETRY_MS;
      }
    }
  }

  #refreshDelayMs(lifetimeMs: number): number {
    const { timings, transport } = this.options;
    const delayMs = renewalDelayMs(lifetimeMs, timings);
    return transport === "udp" ? Math.min(delayMs, timings.udpKeepaliveMs) : delayMs;
  }
}
