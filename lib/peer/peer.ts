/**
 * A peer: reachable by its ticket, and able to reach others by theirs.
 *
 * @module
 */

import { toBase64url } from "../base/bytes.ts";
import { hmac } from "../base/crypto.ts";
import { NetworkError } from "../base/errors.ts";
import { idleDelay } from "../base/timers.ts";
import { KEY_LENGTH, KeyPair } from "../noise/key_pair.ts";
import type { SignalingConnection } from "../signal/transport.ts";
import type { PeerConnection } from "./connection.ts";
import { allowing, makeContext, type PeerContext } from "./context.ts";
import { dialPeer } from "./dialer.ts";
import type { IncomingConnection } from "./incoming.ts";
import { TicketSecrets } from "./keys.ts";
import { Listener } from "./listener.ts";
import type { ConnectOptions, PeerOptions } from "./options.ts";
import { decodeTicket, encodeTicket, SECRET_LENGTH, type Ticket } from "./ticket.ts";
import { abortable } from "@std/async/abortable";

/** Listens to a set of topics that changes now and then. */
export class TopicSubscriptions {
  readonly #signaling: SignalingConnection;
  readonly #onMessage: (message: Uint8Array, signaling: SignalingConnection) => void;
  readonly #subscriptions = new Map<string, AsyncDisposable>();

  constructor(
    signaling: SignalingConnection,
    onMessage: (message: Uint8Array, signaling: SignalingConnection) => void,
  ) {
    this.#signaling = signaling;
    this.#onMessage = onMessage;
  }

  /**
   * Listens to these topics and no others, as far as that is granted. Somebody who has the ticket may have taken all
   * seats under one of them, and shall not keep the peer from the others.
   *
   * @returns why some of them are not listened to
   * @throws the reason if that is so of all
   * @throws the signal's reason on abort
   */
  async renew(topics: readonly string[], signal: AbortSignal): Promise<unknown[]> {
    const added = topics.filter((topic) => !this.#subscriptions.has(topic));
    const asked = await Promise.allSettled(added.map(async (topic) => {
      const onMessage = (message: Uint8Array) => this.#onMessage(message, this.#signaling);
      this.#subscriptions.set(topic, await this.#signaling.subscribe(topic, onMessage, { signal }));
    }));
    signal.throwIfAborted();
    const refused = asked.flatMap((each) => each.status === "rejected" ? [each.reason] : []);
    for (const [topic, subscription] of this.#subscriptions) {
      if (topics.includes(topic)) continue;
      this.#subscriptions.delete(topic);
      await subscription[Symbol.asyncDispose]();
    }
    if (this.#subscriptions.size === 0 && refused.length > 0) throw refused[0];
    return refused;
  }
}

/**
 * A peer: its ticket lets others reach it, and with theirs it reaches them.
 *
 * @example
 * ```ts ignore
 * import { Peer } from "@punchline/punchline";
 *
 * await using peer = await Peer.open({ signaling: ["ws://192.0.2.1:3480"] });
 * console.log(peer.ticket); // what the other side needs
 * for await (const incoming of peer) {
 *   using conn = await incoming.accept();
 *   await conn.readable.pipeTo(conn.writable);
 * }
 * ```
 */
export class Peer implements AsyncDisposable, AsyncIterable<IncomingConnection> {
  /** 32 bytes: who this is to others. */
  readonly publicKey: Uint8Array;
  readonly #ticket: Ticket;
  readonly #secrets: TicketSecrets;
  readonly #options: PeerOptions;
  readonly #context: PeerContext;
  readonly #listener: Listener;
  readonly #closed = new AbortController();
  readonly #background = new Set<Promise<unknown>>();
  #closing: Promise<void> | undefined;

  private constructor(options: PeerOptions, secretKey: Uint8Array) {
    this.#options = options;
    const staticKey = new KeyPair(secretKey);
    this.publicKey = staticKey.publicKey.slice();
    const secret = hmac("sha256", secretKey, new TextEncoder().encode("punchline ticket"))
      .slice(0, SECRET_LENGTH);
    const signaling = (options.signaling ?? []).map((way) =>
      typeof way === "string" ? way : way.url
    );
    this.#ticket = { publicKey: this.publicKey, secret, signaling };
    this.#secrets = new TicketSecrets(this.#ticket);
    this.#context = makeContext(options, {
      staticKey,
      closed: this.#closed.signal,
      inBackground: (job) => this.#inBackground(job),
    });
    const { allow, protocol, reconnect = true } = options;
    this.#listener = new Listener(this.#context, {
      secrets: this.#secrets,
      allows: allowing(allow),
      reconnects: reconnect,
      ...protocol !== undefined && { protocol },
    });
  }

  /**
   * Opens a peer, which listens on all of its ways to signal; on the first of them when this resolves.
   *
   * @throws {TypeError} if a key, a URL or a strategy is none
   * @throws {NetworkError} if none of the ways to signal can be opened
   * @throws the signal's reason on abort
   */
  static async open(options: PeerOptions = {}): Promise<Peer> {
    const { secretKey = crypto.getRandomValues(new Uint8Array(KEY_LENGTH)) } = options;
    const { signaling = [], listen = signaling.length > 0, signal } = options;
    signal?.throwIfAborted();
    const peer = new Peer(options, secretKey);
    try {
      peer.#context.bases?.warm();
      if (listen) await peer.#listen(signal);
      return peer;
    } catch (error) {
      await peer.close();
      throw error;
    }
  }

  /** What the other side needs to reach this peer: one line. Whoever has it may ask. */
  get ticket(): string {
    return encodeTicket(this.#ticket);
  }

  /** Who this is to others, as text. */
  get id(): string {
    return toBase64url(this.publicKey);
  }

  /**
   * Connects to the owner of a ticket.
   *
   * @throws {MalformedMessageError} if the ticket is none
   * @throws {NoResponseError} if nobody answers
   * @throws {RefusedError} if the other side declines; `code` is one of {@linkcode REJECTION_CODES}
   * @throws {UnreachableError} if there is no way to the other side, with everything that was tried
   * @throws {NetworkError} if none of the ticket's ways to signal works, or the peer is closed
   * @throws the signal's reason on abort
   */
  async connect(ticket: string, options: ConnectOptions = {}): Promise<PeerConnection> {
    const target = decodeTicket(ticket);
    const { signal } = options;
    signal?.throwIfAborted();
    const closed = this.#closed.signal;
    closed.throwIfAborted();
    const { protocol = "", reconnect = true } = this.#options;
    return await dialPeer(this.#context, target, {
      protocol,
      reconnects: reconnect,
      signal: signal === undefined ? closed : AbortSignal.any([signal, closed]),
    });
  }

  /**
   * The next who wants to connect.
   *
   * @throws {NetworkError} `closed` once the peer is closed
   * @throws the signal's reason on abort
   */
  nextIncoming(options: { signal?: AbortSignal } = {}): Promise<IncomingConnection> {
    return this.#listener.incoming.next(options.signal);
  }

  /** Those who want to connect, until the peer is closed. */
  async *[Symbol.asyncIterator](): AsyncGenerator<IncomingConnection> {
    try {
      for (;;) yield await this.nextIncoming();
    } catch (error) {
      if (error !== this.#closed.signal.reason) throw error;
    }
  }

  /** Ends all that is under way. Connections stay, and are not reconnected any more; idempotent. */
  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  /** As `close()`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    const reason = new NetworkError("Cannot use the peer: it is closed", "closed");
    this.#closed.abort(reason);
    this.#listener.close(reason);
    const busesClosed = this.#context.buses[Symbol.asyncDispose](); // some jobs wait for one to open
    while (this.#background.size > 0) await Promise.allSettled(this.#background);
    await this.#context.bases?.[Symbol.asyncDispose]();
    await busesClosed;
    this.#context.staticKey[Symbol.dispose]();
  }

  #inBackground(job: Promise<unknown>): void {
    const settled = job.catch(() => {}).finally(() => this.#background.delete(settled));
    this.#background.add(settled);
  }

  async #listen(signal: AbortSignal | undefined): Promise<void> {
    const both = AbortSignal.any([this.#closed.signal, ...signal ? [signal] : []]);
    const opened = this.#ticket.signaling.map((url) => this.#listenOn(url, both));
    for (const [index, each] of opened.entries()) {
      this.#inBackground(each.catch(() => this.#listenLater(this.#ticket.signaling[index]!)));
    }
    try {
      await Promise.any(opened);
    } catch (error) {
      both.throwIfAborted();
      const causes = error instanceof AggregateError ? error.errors : [error];
      const typeError = causes.find((cause) => cause instanceof TypeError);
      if (typeError !== undefined) throw typeError;
      const why = causes.map((cause) => cause instanceof Error ? cause.message : String(cause));
      throw new NetworkError(`Cannot listen for others: ${why.join("; ")}`, "unreachable", {
        cause: causes[0],
      });
    }
  }

  /** One that is down now may be up later. */
  async #listenLater(url: string): Promise<void> {
    const { closed, logger } = this.#context;
    for (
      let waitMs = FIRST_RETRY_MS;
      !closed.aborted;
      waitMs = Math.min(2 * waitMs, MAX_RETRY_MS)
    ) {
      await idleDelay(waitMs * (0.5 + Math.random()), closed);
      if (closed.aborted) return;
      try {
        return await this.#listenOn(url, closed);
      } catch (error) {
        logger?.debug(`connect: ${url}: ${error}`);
        if (error instanceof TypeError) return; // it will never be one
      }
    }
  }

  /** Resolves once the peer is heard of there. */
  async #listenOn(url: string, signal: AbortSignal): Promise<void> {
    const lease = this.#context.buses.lease(url);
    try {
      const subscriptions = new TopicSubscriptions(
        await abortable(lease.signaling, signal),
        (message, signaling) => this.#listener.onMessage(message, signaling),
      );
      await this.#renewTopics(subscriptions, signal);
      this.#inBackground(this.#keepTopics(subscriptions));
    } catch (error) {
      await lease[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Topics change with the time. */
  async #keepTopics(subscriptions: TopicSubscriptions): Promise<void> {
    const { closed, logger } = this.#context;
    while (!closed.aborted) {
      await idleDelay(RENEWAL_MS, closed);
      if (closed.aborted) return;
      await this.#renewTopics(subscriptions, closed)
        .catch((error) => logger?.debug(`connect: ${error}`));
    }
  }

  async #renewTopics(subscriptions: TopicSubscriptions, signal: AbortSignal): Promise<void> {
    const topics = this.#secrets.topicsAround(Date.now());
    for (const why of await subscriptions.renew(topics, signal)) {
      this.#context.logger?.warn(`connect: not heard of under one of the topics: ${why}`);
    }
  }
}

/** From one look at the clock to the next. Ours: a laptop that was asleep for hours is found a minute later. */
const RENEWAL_MS = 60_000;

/** From one attempt to listen somewhere to the next. Ours. */
const FIRST_RETRY_MS = 5000;
const MAX_RETRY_MS = 300_000;
