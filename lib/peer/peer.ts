/**
 * A peer: reachable by its ticket, and able to reach others by theirs.
 *
 * @module
 */

import { backoff } from "../base/backoff.ts";
import { toBase64url } from "../base/bytes.ts";
import { hmac } from "../base/crypto.ts";
import { messageOf, NetworkError } from "../base/errors.ts";
import { withoutLogin } from "../base/redact.ts";
import { TaskGroup } from "../base/tasks.ts";
import { idleDelay } from "../base/timers.ts";
import { WaitQueue } from "../base/wait_queue.ts";
import { KEY_LENGTH, KeyPair } from "../noise/key_pair.ts";
import type { PeerConnection } from "./connection.ts";
import { allowing, makeContext, type PeerContext } from "./context.ts";
import { dialPeer } from "./dialer.ts";
import type { IncomingConnection } from "./incoming.ts";
import { TicketSecrets } from "./keys.ts";
import { Listener } from "./listener.ts";
import type { ConnectOptions, PeerOptions } from "./options.ts";
import { TopicSubscriptions } from "./pools.ts";
import { decodeTicket, encodeTicket, SECRET_LENGTH, type Ticket } from "./ticket.ts";
import { abortable } from "@std/async/abortable";

/**
 * A peer: others reach it with its ticket, and it reaches others with theirs.
 *
 * @example
 * ```ts ignore
 * import { Peer } from "@punchline/punchline";
 *
 * await using peer = await Peer.open({ signaling: ["ws://192.0.2.1:3480"] });
 * console.log(peer.ticket); // give it to the other side
 * for await (const incoming of peer) {
 *   using conn = await incoming.accept();
 *   await conn.readable.pipeTo(conn.writable);
 * }
 * ```
 */
export class Peer implements AsyncDisposable, AsyncIterable<IncomingConnection> {
  /** This peer's identity; 32 bytes. */
  readonly publicKey: Uint8Array;
  readonly #ticket: Ticket;
  readonly #secrets: TicketSecrets;
  readonly #options: PeerOptions;
  readonly #context: PeerContext;
  readonly #incoming = new WaitQueue<IncomingConnection>(MAX_INCOMING);
  readonly #jobs = new TaskGroup((error) => this.#options.logger?.debug(`connect: ${error}`));
  #closing: Promise<void> | undefined;

  private constructor(options: PeerOptions, secretKey: Uint8Array) {
    this.#options = options;
    const staticKey = new KeyPair(secretKey);
    this.publicKey = staticKey.publicKey.slice();
    const secret = hmac("sha256", secretKey, new TextEncoder().encode("punchline ticket"))
      .slice(0, SECRET_LENGTH);
    const signaling = (options.signaling ?? [])
      .map((each) => typeof each === "string" ? each : each.url);
    this.#ticket = { publicKey: this.publicKey, secret, signaling };
    this.#secrets = new TicketSecrets(this.#ticket);
    this.#context = makeContext(options, {
      staticKey,
      closed: this.#jobs.signal,
      inBackground: (job) => this.#jobs.run(job),
    });
  }

  /**
   * Opens a peer. If it listens, it can be reached over one of its signaling servers when this resolves, and over the
   * others as they open.
   *
   * @throws {TypeError} if a key, a URL or a strategy is invalid
   * @throws {NetworkError} if none of the signaling servers can be reached
   * @throws the signal's reason on abort
   */
  static async open(options: PeerOptions = {}): Promise<Peer> {
    const { secretKey = crypto.getRandomValues(new Uint8Array(KEY_LENGTH)) } = options;
    const { signaling = [], listen = signaling.length > 0, signal } = options;
    signal?.throwIfAborted();
    const peer = new Peer(options, secretKey);
    try {
      peer.#context.baseSockets?.warm();
      if (listen) await peer.#listen(signal);
      return peer;
    } catch (error) {
      await peer.close();
      throw error;
    }
  }

  /** What others need to reach this peer: one line of text. Everyone who has it can request a connection. */
  get ticket(): string {
    return encodeTicket(this.#ticket);
  }

  /** This peer's public key as text. */
  get id(): string {
    return toBase64url(this.publicKey);
  }

  /**
   * Connects to the owner of a ticket.
   *
   * @throws {MalformedMessageError} if the ticket is invalid
   * @throws {NoResponseError} if the other side does not answer
   * @throws {RefusedError} if the other side rejects the request; `code` is one of {@linkcode REJECTION_CODES}
   * @throws {UnreachableError} if there is no path to the other side, with everything that was tried
   * @throws {NetworkError} if none of the ticket's signaling servers can be reached, the path is lost at once, or this peer
   * is closed
   * @throws the signal's reason on abort
   */
  async connect(ticket: string, options: ConnectOptions = {}): Promise<PeerConnection> {
    const target = decodeTicket(ticket);
    const { signal } = options;
    signal?.throwIfAborted();
    this.#jobs.signal.throwIfAborted();
    const { protocol = "", reconnect = true } = this.#options;
    return await dialPeer(this.#context, target, { protocol, reconnects: reconnect, signal });
  }

  /**
   * Waits for the next request for a connection.
   *
   * @throws {NetworkError} `closed` once the peer is closed
   * @throws the signal's reason on abort
   */
  nextIncoming(options: { signal?: AbortSignal } = {}): Promise<IncomingConnection> {
    return this.#incoming.next(options.signal);
  }

  /** Requests for connections, until the peer is closed. */
  async *[Symbol.asyncIterator](): AsyncGenerator<IncomingConnection> {
    try {
      for (;;) yield await this.nextIncoming();
    } catch (error) {
      if (error !== this.#jobs.signal.reason) throw error;
    }
  }

  /** Ends everything under way. Connections continue, but do not reconnect any more. Idempotent. */
  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  /** Same as {@linkcode Peer.close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    const reason = new NetworkError("Cannot use the peer: it is closed", "closed");
    const stopped = this.#jobs.stop(reason);
    this.#incoming.close(reason);
    const signalingClosed = this.#context.signaling[Symbol.asyncDispose](); // some jobs wait for one to open
    await stopped;
    await this.#context.baseSockets?.[Symbol.asyncDispose]();
    await signalingClosed;
    this.#context.staticKey[Symbol.dispose]();
  }

  /** Resolves once the peer can be reached over one of its signaling servers. */
  async #listen(signal: AbortSignal | undefined): Promise<void> {
    const { closed } = this.#context;
    const either = signal === undefined ? closed : AbortSignal.any([closed, signal]);
    const { allow, protocol, reconnect = true } = this.#options;
    const listener = new Listener(this.#context, {
      secrets: this.#secrets,
      allows: allowing(allow),
      protocol,
      reconnects: reconnect,
      show: (incoming) => this.#incoming.push(incoming),
    });
    const opened = this.#ticket.signaling.map((url) => this.#listenOn(url, listener, either));
    for (const [index, url] of this.#ticket.signaling.entries()) {
      this.#jobs.run(() => this.#listenLater(url, listener, opened[index]!));
    }
    try {
      await Promise.any(opened);
    } catch (error) {
      either.throwIfAborted();
      const causes = error instanceof AggregateError ? error.errors : [error];
      const typeError = causes.find((cause) => cause instanceof TypeError);
      if (typeError !== undefined) throw typeError;
      const why = causes.map(messageOf);
      throw new NetworkError(`Cannot listen for others: ${why.join("; ")}`, "unreachable", {
        cause: causes[0],
      });
    }
  }

  /** Tries again and again if a server is down at first. */
  async #listenLater(url: string, listener: Listener, opened: Promise<void>): Promise<void> {
    const { closed, logger } = this.#context;
    let attempt = opened;
    for (let failures = 1;; failures++) {
      try {
        return await attempt;
      } catch (error) {
        if (failures > 1) logger?.debug(`connect: ${withoutLogin(url)}: ${error}`);
        if (failures > 1 && error instanceof TypeError) return; // the URL stays invalid
      }
      await idleDelay(backoff(RETRY, failures) * (0.5 + Math.random()), closed);
      if (closed.aborted) return;
      attempt = this.#listenOn(url, listener, closed);
    }
  }

  /** Resolves once the peer can be reached over this signaling server. */
  async #listenOn(url: string, listener: Listener, signal: AbortSignal): Promise<void> {
    const lease = this.#context.signaling.lease(url);
    try {
      const subscriptions = new TopicSubscriptions(
        await abortable(lease.signaling, signal),
        (message, signaling) => listener.onMessage(message, signaling),
      );
      await this.#renewTopics(subscriptions, signal);
      this.#jobs.run(() => this.#keepTopics(subscriptions));
    } catch (error) {
      await lease[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #keepTopics(subscriptions: TopicSubscriptions): Promise<void> {
    const { closed, logger } = this.#context;
    while (!closed.aborted) {
      await idleDelay(RENEWAL_MS, closed);
      if (closed.aborted) return;
      try {
        await this.#renewTopics(subscriptions, closed);
      } catch (error) {
        logger?.debug(`connect: ${error}`);
      }
    }
  }

  async #renewTopics(subscriptions: TopicSubscriptions, signal: AbortSignal): Promise<void> {
    const topics = this.#secrets.topicsAround(Date.now());
    for (const why of await subscriptions.renew(topics, signal)) {
      this.#context.logger?.warn(
        `connect: a topic was refused, so some peers may not get through: ${why}`,
      );
    }
  }
}

/** Chosen by us: the other side waits for half a minute, so a person decides on a few of these at best. */
const MAX_INCOMING = 1024;

/** From one look at the clock to the next. Chosen by us: a laptop that wakes from sleep is reachable a minute later. */
const RENEWAL_MS = 60_000;

/** From one attempt to reach a signaling server to the next. Chosen by us. */
const RETRY = { firstMs: 5000, maximumMs: 300_000 };
