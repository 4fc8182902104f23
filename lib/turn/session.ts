/**
 * An allocation for as long as it is open: refreshed, asked for more, noticed when lost, released at the end:
 * RFC 8656 §8, and RFC 8016 for its moving.
 *
 * @module
 */

import { NetworkError } from "../base/errors.ts";
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
import { openTurnTransport, TurnConnection, type TurnConnectionHandlers } from "./connection.ts";
import { isFailure, isFinal, REFRESH, renewalDelayMs, RETRY_MS } from "./protocol.ts";
import { abortable } from "@std/async/abortable";

/** How to ask. */
export interface TurnRequestOptions {
  /** What could not be done if the server refuses, as in `permit 192.0.2.1`. */
  readonly action: string;
  readonly signal?: AbortSignal;
}

/** An allocation, until it is closed or lost. */
export class TurnSession {
  readonly server: ServerTarget;
  readonly allocation: TurnAllocation;
  readonly options: TurnClientOptions;
  /** Resolves once it is closed; rejects once it is lost, with why. */
  readonly finished: Promise<void>;
  readonly #finish = Promise.withResolvers<void>();
  readonly #end = new AbortController();
  readonly #tasks: Promise<void>[] = [];
  #handlers: TurnConnectionHandlers | undefined;
  #link: TurnConnection;
  #transaction: AuthenticatedTransaction;
  #mobilityTicket: Uint8Array | undefined;
  /** While it moves; resolves when that is over, however it went. */
  #moving: Promise<void> | undefined;
  readonly #moveEnd = new AbortController();
  #closed: Promise<void> | undefined;
  #isLost = false;

  /** Refreshes from now on. */
  constructor(allocated: Allocated, options: TurnClientOptions) {
    this.server = allocated.server;
    this.allocation = allocated.allocation;
    this.options = options;
    this.finished = this.#finish.promise;
    this.finished.catch(() => {}); // for those to see who wait for it
    this.#transaction = allocated.transaction;
    this.#mobilityTicket = allocated.allocation.mobilityTicket;
    this.#link = allocated.link;
    this.#attach(allocated.link);
    this.background((signal) => this.#keepRefreshed(signal));
  }

  /** Aborted when it is closed or lost; its reason is what to tell those who wait. */
  get ended(): AbortSignal {
    return this.#end.signal;
  }

  /** Where it leaves from; over UDP the IP may be the wildcard. */
  get local(): TransportAddress {
    return this.#link.local;
  }

  /** Says who takes what comes from now on; until then it is dropped. */
  deliverTo(handlers: TurnConnectionHandlers): void {
    this.#handlers = handlers;
    this.#link.deliverTo(handlers);
  }

  /**
   * Asks the server something about the allocation.
   *
   * @throws {RefusedError} if it refuses; 437 means that the allocation is lost
   * @throws {NoResponseError} if it does not answer in time
   * @throws {NetworkError} `closed`, or as the network fails
   */
  async request(question: StunRequest, options: TurnRequestOptions): Promise<StunMessage> {
    const { action, signal } = options;
    const timeouts = {
      waitsMs: this.options.waitsMs,
      signal: signal === undefined ? this.ended : AbortSignal.any([this.ended, signal]),
    };
    while (true) {
      if (this.#moving !== undefined) await abortable(this.#moving, timeouts.signal);
      timeouts.signal.throwIfAborted();
      const link = this.#link;
      // What comes of a link that is being left says nothing: the server may know the new one already.
      const isLeft = () => this.#moving !== undefined || link !== this.#link;
      try {
        const { answer } = await this.#transaction.ask(link.channel(timeouts), question);
        if (answer.class === "success") return answer;
        if (isLeft()) continue;
        const error = turnRefusedError(answer, this.server.address, action);
        if (error.code === ALLOCATION_MISMATCH) this.#lose(error);
        throw error;
      } catch (error) {
        if (!isFailure(error) || !isLeft() || timeouts.signal.aborted) throw error;
      }
    }
  }

  /**
   * Sends an indication or ChannelData.
   *
   * @throws {NetworkError} `closed`, or if the network does not take it
   */
  async send(message: Uint8Array): Promise<void> {
    this.ended.throwIfAborted();
    await this.#link.send(message);
  }

  /** Whether it keeps the program running, which is so by default; over UDP always. */
  refer(isReferenced: boolean): void {
    this.#link.refer(isReferenced);
  }

  /** A conversation for another connection to the server. */
  forkTransaction(): AuthenticatedTransaction {
    return this.#transaction.fork();
  }

  /** Runs a job for as long as its allocation is kept. If it fails before, the allocation is of no use any more. */
  background(job: (signal: AbortSignal) => Promise<void>): void {
    this.#tasks.push(job(this.ended).catch((error) => this.#lose(error)));
  }

  /**
   * Takes the allocation to a new socket, which leaves by whatever network there is now: RFC 8016.
   *
   * @throws {TypeError} if the server gave no ticket for that
   * @throws {RefusedError} if it refuses
   */
  async move({ signal }: { signal?: AbortSignal } = {}): Promise<void> {
    while (this.#moving !== undefined) await this.#moving;
    this.ended.throwIfAborted();
    const moving = this.#move(signal);
    this.#moving = moving.catch(() => {}).then(() => this.#moving = undefined);
    const left = this.#link;
    await this.#moving;
    left.finished.catch((error) => {
      if (left === this.#link) this.#lose(error); // it ended meanwhile, and there is no other
    });
    await moving;
    this.ended.throwIfAborted();
  }

  async #move(signal: AbortSignal | undefined): Promise<void> {
    const ticket = this.#mobilityTicket;
    if (ticket === undefined) {
      throw new TypeError(
        "Cannot move relay: it was opened without mobility, or the server has none",
      );
    }
    const { address, hostname } = this.server;
    const timeouts = {
      waitsMs: this.options.waitsMs,
      signal: AbortSignal.any([this.#moveEnd.signal, ...signal === undefined ? [] : [signal]]),
    };
    const options = { ...this.options, ...timeouts, local: undefined };
    const link = new TurnConnection(await openTurnTransport(address, hostname, options));
    const transaction = this.#transaction.fork();
    try {
      const { answer: response } = await transaction.ask(link.channel(timeouts), {
        method: REFRESH,
        attributes: [{ type: "MOBILITY-TICKET", value: ticket }],
      });
      if (response.class !== "success") throw turnRefusedError(response, address, "move relay");
      this.#mobilityTicket = getAttribute(response, "MOBILITY-TICKET") ?? ticket;
    } catch (error) {
      link.close();
      throw error;
    }
    const old = this.#link;
    this.#link = link;
    this.#transaction = transaction;
    this.#attach(link);
    old.close();
    if (this.#isLost) link.close();
  }

  /** Releases the allocation; idempotent, and fails for nothing. */
  close(): Promise<void> {
    return this.#closed ??= this.#close();
  }

  async #close(): Promise<void> {
    const server = formatTransportAddress(this.server.address);
    this.#end.abort(new NetworkError(`Cannot use relay at ${server}: it is closed`, "closed"));
    await Promise.all(this.#tasks);
    await this.#finishMove();
    if (!this.#isLost) {
      const channel = this.#link.channel({ waitsMs: this.options.timings.releaseWaitsMs });
      await this.#transaction.ask(channel, RELEASE).catch(ignoreFailure);
    }
    this.#link.close();
    this.#finish.resolve();
  }

  /** What is to be released is where the move leaves it, if it comes to an end soon. */
  async #finishMove(): Promise<void> {
    if (this.#moving === undefined) return;
    const { releaseWaitsMs } = this.options.timings;
    const waitMs = releaseWaitsMs.reduce((sum, each) => sum + each, 0);
    const timer = setTimeout(() => this.#moveEnd.abort(this.ended.reason), waitMs);
    await this.#moving;
    clearTimeout(timer);
  }

  #lose(error: unknown): void {
    if (this.ended.aborted) return;
    this.#isLost = true;
    this.#end.abort(error);
    this.#link.close();
    this.#finish.reject(error);
  }

  #attach(link: TurnConnection): void {
    if (this.#handlers !== undefined) link.deliverTo(this.#handlers);
    link.finished.catch((error) => {
      if (link === this.#link && this.#moving === undefined) this.#lose(error);
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
        // It lives on until it expires: the network, or the server, may come back.
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

/** The server forgets by itself what it cannot be told. */
function ignoreFailure(error: unknown): void {
  if (!isFailure(error)) throw error;
}
