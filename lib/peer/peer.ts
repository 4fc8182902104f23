/**
 * A peer: reachable by its ticket, and able to reach others by theirs.
 *
 * @module
 */

import { backoff } from "../base/backoff.ts";
import { toBase64url } from "../base/bytes.ts";
import { messageOf, NetworkError } from "../base/errors.ts";
import { withoutLogin } from "../base/login.ts";
import { once, TaskGroup } from "../base/tasks.ts";
import { idleDelay } from "../base/timers.ts";
import { WaitQueue } from "../base/wait_queue.ts";
import { KEY_LENGTH, KeyPair } from "../noise/handshake.ts";
import { type ConnectionEvent, OpenConnections, type PeerConnection } from "./connection.ts";
import {
  allowing,
  defaultSignaling,
  type LoadedProxy,
  loadProxy,
  loadUdp,
  makeContext,
  type PeerContext,
} from "./context.ts";
import type { DialHooks } from "./crossing_requests.ts";
import { dialPeer } from "./dialer.ts";
import type { IncomingConnection } from "./incoming.ts";
import { Listener } from "./listener.ts";
import type { CodeOffer, CodePlaces } from "./codes.ts";
import type { CodeOptions, ConnectOptions, PeerOptions } from "./options.ts";
import { TopicSubscriptions } from "./pools.ts";
import type { Roaming } from "./roaming.ts";
import { type ConnectionHandler, ConnectionServer, type ServeOptions } from "./server.ts";
import { decodeTicket, looksLikeCode } from "./ticket.ts";
import { type ListenedTicket, type TicketOptions, Tickets } from "./tickets.ts";
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
 * const server = peer.serve((conn) => conn.readable.pipeTo(conn.writable));
 * await server.finished;
 * ```
 */
export class Peer implements AsyncDisposable, AsyncIterable<IncomingConnection> {
  /** This peer's identity; 32 bytes. */
  readonly publicKey: Uint8Array;
  readonly #signalingUrls: readonly string[];
  readonly #tickets: () => Tickets;
  #listener: Listener | undefined;
  /** The ticket of each topic that the peer listens to. */
  #topics: ReadonlyMap<string, ListenedTicket> = new Map();
  readonly #subscriptions = new Set<TopicSubscriptions>();
  #isListening = false;
  readonly #options: PeerOptions;
  readonly #context: PeerContext;
  readonly #incoming = new WaitQueue<IncomingConnection>(MAX_INCOMING);
  readonly #connections = new OpenConnections();
  readonly #jobs = new TaskGroup((error) => this.#options.logger?.debug(`connect: ${error}`));
  readonly #codes = new Set<CodeOffer>();
  #roaming: Roaming | undefined;
  #server: ConnectionServer | undefined;
  /** How many wait for incoming connections. */
  #readers = 0;
  #closing: Promise<void> | undefined;

  private constructor(
    options: PeerOptions,
    secretKey: Uint8Array,
    { udp, proxy }: { udp: PeerContext["udp"]; proxy: LoadedProxy | undefined },
  ) {
    this.#options = options;
    const staticKey = new KeyPair(secretKey);
    this.publicKey = staticKey.publicKey.slice();
    this.#signalingUrls = (options.signaling ?? [])
      .map((each) => typeof each === "string" ? each : each.url);
    const identity = { publicKey: this.publicKey, signaling: this.#signalingUrls };
    const ownKey = secretKey.slice(); // kept, since a peer that only connects needs no tickets
    this.#tickets = once(() => new Tickets(identity, ownKey, options.tickets));
    this.#context = makeContext(options, {
      staticKey,
      udp,
      proxy,
      closed: this.#jobs.signal,
      inBackground: (job) => this.#jobs.run(job),
    });
  }

  /**
   * Opens a peer. If it listens, it can be reached over one of its signaling servers when this resolves, and over the
   * others as they open.
   *
   * @throws {TypeError} if a key, a URL or a strategy is invalid
   * @throws {RangeError} if `maxConnections` is less than 1, or not whole
   * @throws {NetworkError} if none of the signaling servers can be reached
   * @throws the signal's reason on abort
   */
  static async open(options: PeerOptions = {}): Promise<Peer> {
    const { secretKey = crypto.getRandomValues(new Uint8Array(KEY_LENGTH)) } = options;
    const { signaling = defaultSignaling(options), listen = signaling.length > 0, signal } =
      options;
    signal?.throwIfAborted();
    const udp = await loadUdp(options);
    const proxy = await loadProxy(options);
    signal?.throwIfAborted();
    const peer = new Peer({ ...options, signaling }, secretKey, { udp, proxy });
    try {
      peer.#context.warm({ listen });
      if (listen) {
        await peer.#listen(signal);
        peer.#jobs.run((signal) => peer.#loadLateModules(signal));
      }
      return peer;
    } catch (error) {
      await peer.close();
      throw error;
    }
  }

  /** What others need to reach this peer: one line of text. Anyone with it can request a connection. */
  get ticket(): string {
    return this.#tickets().own;
  }

  /**
   * Issues another ticket, which can be taken back without affecting others. It lives until it is revoked, used up or
   * expired, or the peer is closed.
   *
   * @example
   * ```ts ignore
   * const ticket = peer.createTicket({ once: true, expiresMs: 3_600_000 }); // for one guest, within an hour
   * peer.revokeTicket(ticket); // changed my mind
   * ```
   *
   * @throws {TypeError} if the peer does not listen
   * @throws {NetworkError} `closed` if the peer is closed
   * @throws {RangeError} if there are too many tickets, or `expiresMs` is not a positive number
   */
  createTicket(options: TicketOptions = {}): string {
    this.#jobs.signal.throwIfAborted();
    if (!this.#isListening) throw new TypeError("Cannot issue a ticket: the peer does not listen");
    return this.#tickets().create(options);
  }

  /**
   * Takes a ticket back: it opens nothing any more, and connections that were made with it end. The peer's own
   * ticket is replaced by another, see {@linkcode Peer.ticket}.
   *
   * @returns whether it was a ticket of this peer
   * @throws {MalformedMessageError} if the text is not a ticket
   */
  revokeTicket(ticket: string): boolean {
    return this.#tickets().revoke(decodeTicket(ticket));
  }

  /**
   * Offers a ticket for a code: a number and three words, such as `7-amber-walrus-otter`, that people can read out. The
   * first peer that connects with the code gets the ticket. Three wrong guesses end a code, and another one takes its place.
   * The code is withdrawn when the result is disposed of, or the peer is closed. See docs/codes.md.
   *
   * @example
   * ```ts ignore
   * await using offer = await peer.offerCode({ onEvent: (event) => console.log(event) });
   * console.log(offer.code); // 7-amber-walrus-otter
   * ```
   *
   * @throws {TypeError} if the peer does not listen
   * @throws {RangeError} if `expiresMs` is not a positive number
   * @throws {NetworkError} if no code can be offered, because no signaling server can be reached or all numbers are taken
   * @throws the signal's reason on abort
   */
  async offerCode(options: CodeOptions = {}): Promise<CodeOffer> {
    const { expiresMs = 1 } = options;
    if (!this.#isListening) throw new TypeError("Cannot offer a code: the peer does not listen");
    if (!(expiresMs > 0)) {
      throw new RangeError(`Cannot offer a code: expiresMs is more than 0, not ${expiresMs}`);
    }
    const { CodeOffer } = await import("./codes.ts");
    this.#jobs.signal.throwIfAborted();
    const ticket = () => options.ticket ?? this.ticket;
    const places = this.#codePlaces(this.#signalingUrls);
    const forget = () => void this.#codes.delete(offer);
    const offer: CodeOffer = new CodeOffer(places, { ...options, ticket }, forget);
    this.#codes.add(offer);
    return await offer.ready(options.signal);
  }

  /**
   * Gets the ticket that another peer offers for a code, over this peer's signaling servers, or the LAN and public brokers
   * if it has none. The code is spent then; the ticket can be used again.
   *
   * @throws {MalformedMessageError} if the text is not a code
   * @throws {NoResponseError} if no peer waits for the code
   * @throws {RefusedError} if the words are wrong, or the code was used before
   * @throws {NetworkError} if no signaling server can be reached, or this peer is closed
   * @throws the signal's reason on abort
   */
  async redeemCode(code: string, options: ConnectOptions = {}): Promise<string> {
    const { redeemTicket } = await import("./codes.ts");
    const { closed, timings } = this.#context;
    closed.throwIfAborted();
    const named = this.#signalingUrls;
    const urls = named.length > 0 ? named : defaultSignaling(this.#options);
    const signal = options.signal ? AbortSignal.any([closed, options.signal]) : closed;
    const places = this.#codePlaces(urls);
    return await redeemTicket(places, code, { timeoutMs: timings.answerMs, signal });
  }

  /** This peer's public key as text. */
  get id(): string {
    return toBase64url(this.publicKey);
  }

  /**
   * Connects to the owner of a ticket. If that peer connects to this one at the same time, both get the same connection;
   * also if it has begun before, and neither the application nor a handler of {@linkcode Peer.serve} has got anything of it.
   *
   * @param ticket or a code, as for {@linkcode Peer.redeemCode}; it is spent by this call, whether there is a path or not
   * @throws {MalformedMessageError} if the ticket or the code is invalid
   * @throws {NoResponseError} if the other side does not answer
   * @throws {RefusedError} if the other side rejects the request; `code` is one of {@linkcode REJECTION_CODES}
   * @throws {UnreachableError} if there is no path to the other side, with everything that was tried
   * @throws {NetworkError} if none of the ticket's signaling servers can be reached, the path is lost at once, or this peer
   * is closed
   * @throws the signal's reason on abort
   */
  async connect(ticket: string, options: ConnectOptions = {}): Promise<PeerConnection> {
    const { signal } = options;
    const isCode = looksLikeCode(ticket);
    const target = decodeTicket(isCode ? await this.redeemCode(ticket, options) : ticket);
    signal?.throwIfAborted();
    this.#jobs.signal.throwIfAborted();
    const { protocol = "", reconnect = true } = this.#options;
    const dial = (hooks: DialHooks) =>
      dialPeer(this.#context, target, { protocol, reconnects: reconnect, ...hooks });
    const connecting = this.#listener?.crossing.connect(target.publicKey, dial, signal);
    const connection = await (connecting ?? dial({ signal }));
    if (!this.#connections.all.has(connection)) this.#follow(connection); // it was not accepted
    return connection;
  }

  /** The open connections, requested by either side; the oldest first. */
  get connections(): readonly PeerConnection[] {
    return [...this.#connections.all];
  }

  /**
   * Connections that come and go, from the first call until the peer is closed: the members of a room, for example. For
   * one reader; a slow one misses the newest of more than 2048.
   *
   * @example
   * ```ts ignore
   * for await (const { event, connection } of peer.events) {
   *   console.log(event, connection.remoteId, peer.connections.length); // opened, ended
   * }
   * ```
   */
  get events(): AsyncIterable<ConnectionEvent> {
    return this.#connections.events;
  }

  /**
   * Accepts every peer that wants to connect, and hands each connection to the handler. When the handler returns, its
   * connection is closed; when it throws, the connection is reset and `onError` is told. Neither that nor a visitor that
   * vanishes ends anything else.
   *
   * @throws {TypeError} if the peer does not listen, is served already, or its incoming connections are read otherwise
   * @throws {RangeError} if `maxConnections` or `maxPerKey` is less than 1, or not whole
   */
  serve(handler: ConnectionHandler, options: ServeOptions = {}): ConnectionServer {
    if (!this.#isListening) throw new TypeError("Cannot serve: the peer does not listen");
    if (this.#server !== undefined) throw new TypeError("Cannot serve: the peer is served already");
    if (this.#readers > 0) {
      throw new TypeError("Cannot serve: the incoming connections of the peer are read already");
    }
    const { closed, logger } = this.#context;
    const source = {
      nextIncoming: (signal: AbortSignal) => this.#incoming.next(signal),
      closed,
      onFinished: () => this.#server = undefined,
    };
    return this.#server = new ConnectionServer(source, handler, { logger, ...options });
  }

  /**
   * Waits for the next request for a connection.
   *
   * @throws {TypeError} if the peer is served by {@linkcode Peer.serve}
   * @throws {NetworkError} `closed` once the peer is closed
   * @throws the signal's reason on abort
   */
  async nextIncoming(options: { signal?: AbortSignal } = {}): Promise<IncomingConnection> {
    if (this.#server !== undefined) throw new TypeError("Cannot wait for a peer: serve() does");
    this.#readers++;
    try {
      return await this.#incoming.next(options.signal);
    } finally {
      this.#readers--;
    }
  }

  /** Requests for connections, until the peer is closed. Each has to be accepted, which may fail. */
  async *[Symbol.asyncIterator](): AsyncGenerator<IncomingConnection> {
    this.#readers++;
    try {
      for (;;) yield await this.nextIncoming();
    } catch (error) {
      if (error !== this.#jobs.signal.reason) throw error;
    } finally {
      this.#readers--;
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
    this.#connections.close(reason);
    await Promise.all([...this.#codes].map((each) => each[Symbol.asyncDispose]()));
    const signalingClosed = this.#context.signaling[Symbol.asyncDispose](); // some jobs wait for one to open
    await stopped;
    await this.#context.baseSockets?.[Symbol.asyncDispose]();
    await signalingClosed;
    this.#context.staticKey[Symbol.dispose]();
  }

  /** Notes a connection, and moves it when the network changes. */
  #follow(connection: PeerConnection): void {
    this.#connections.add(connection);
    this.#jobs.run(async (signal) => {
      await idleDelay(LATER_MS, signal);
      if (signal.aborted || !this.#connections.all.has(connection)) return;
      const { Roaming } = await import("./roaming.ts");
      this.#roaming ??= new Roaming(this.#context, this.#connections.all);
      await this.#roaming.follow(connection, signal);
    });
  }

  /** While there are file descriptors; not at once, so that a program starts faster. */
  async #loadLateModules(signal: AbortSignal): Promise<void> {
    await idleDelay(LATER_MS, signal);
    if (signal.aborted) return;
    const { loadLateModules } = await import("./late_modules.ts");
    await loadLateModules();
  }

  #codePlaces(urls: readonly string[]): CodePlaces {
    return { pool: this.#context.signaling, urls, logger: this.#context.logger };
  }

  /** Resolves once the peer can be reached over one of its signaling servers. */
  async #listen(signal: AbortSignal | undefined): Promise<void> {
    const { closed } = this.#context;
    const either = signal === undefined ? closed : AbortSignal.any([closed, signal]);
    const { allow, protocol, reconnect = true, tickets } = this.#options;
    this.#isListening = true;
    this.#tickets().onChange = () => this.#onTickets();
    if (tickets !== undefined) {
      this.#jobs.run((signal) => tickets.follow(signal, () => this.#onTicketSource()));
    }
    const listener = this.#listener = new Listener(this.#context, {
      allows: allowing(allow),
      protocol,
      reconnects: reconnect,
      show: (incoming) => this.#incoming.push(incoming),
      withdraw: (incoming) => this.#incoming.remove(incoming),
      acceptEarlier: (isWanted, signal) =>
        this.#incoming.take(isWanted)?.accept({ signal }) ??
          this.#server?.acceptEarlier(isWanted, signal),
      onAccepted: (connection) => this.#follow(connection),
    });
    const opened = this.#signalingUrls.map((url) => this.#listenOn(url, listener, either));
    for (const [index, url] of this.#signalingUrls.entries()) {
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
        (message, signaling, topic) => {
          const ticket = this.#topics.get(topic);
          if (ticket !== undefined) listener.onMessage(message, signaling, ticket);
        },
      );
      this.#subscriptions.add(subscriptions); // a ticket that is issued meanwhile is renewed after this
      await this.#renewTopics(subscriptions, signal).catch((error) => {
        this.#subscriptions.delete(subscriptions);
        throw error;
      });
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

  #onTicketSource(): void {
    const { ticket } = this;
    this.#tickets().refresh();
    if (this.ticket === ticket) return;
    this.#context.logger?.warn(`this peer's own ticket was revoked; the new one is ${this.ticket}`);
  }

  /** There are other tickets, so there are other topics. */
  #onTickets(): void {
    const { closed, logger } = this.#context;
    for (const subscriptions of this.#subscriptions) {
      this.#jobs.run(async () => {
        try {
          await this.#renewTopics(subscriptions, closed);
        } catch (error) {
          logger?.debug(`connect: ${error}`);
        }
      });
    }
  }

  async #renewTopics(subscriptions: TopicSubscriptions, signal: AbortSignal): Promise<void> {
    const topics = this.#topics = this.#listener!.topicsOf(this.#tickets().listened);
    for (const why of await subscriptions.renew([...topics.keys()], signal)) {
      this.#context.logger?.warn(
        `connect: a topic was refused, so some peers may not get through: ${why}`,
      );
    }
  }
}

/** Chosen by us: the other side waits for half a minute, so a person decides on a few of these at best. */
const MAX_INCOMING = 1024;

/** Chosen by us: until then, a program that starts has better things to load, and short connections never roam. */
const LATER_MS = 250;

/** From one look at the clock to the next. Chosen by us: a laptop that wakes from sleep is reachable a minute later. */
const RENEWAL_MS = 60_000;

/** From one attempt to reach a signaling server to the next. Chosen by us. */
const RETRY = { firstMs: 5000, maximumMs: 300_000 };
