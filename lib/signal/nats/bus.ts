/**
 * A bus over NATS: the nodes of one rendezvous are clients of the same NATS servers. What they publish is signed with a key
 * that they share, so that others on those servers can neither invent nor repeat messages; and subjects are hashed with it.
 *
 * @module
 */

import { concat, toBase64url } from "../../base/bytes.ts";
import { backoff } from "../../base/backoff.ts";
import { equalSecrets, hmac, ReplayWindow } from "../../base/crypto.ts";
import {
  MalformedMessageError,
  messageOf,
  NetworkError,
  RefusedError,
  undefinedIfMalformed,
} from "../../base/errors.ts";
import type { Logger } from "../../base/logger.ts";
import { decodeLogin, shownUrl } from "../../base/login.ts";
import { BufferedReader, writeAll } from "../../base/reader.ts";
import { parseHostPort } from "../../net/address.ts";
import type { Network, TcpConnection } from "../../net/network.ts";
import { resolveHost } from "../../net/resolve.ts";
import type { RendezvousBus } from "../rendezvous/bus.ts";
import {
  decodeNatsLine,
  decodeSignedMessage,
  encodeNatsConnect,
  encodeNatsPong,
  encodeNatsPublish,
  encodeNatsSubscribe,
  encodeNatsUnsubscribe,
  encodeSignedMessage,
  type NatsLogin,
  NODE_BYTES,
} from "./message.ts";

/** How to open a bus. */
export interface NatsBusOptions {
  /** The sockets to use. */
  readonly network: Network;
  /** The NATS servers, as `nats://HOST:PORT` or `nats://USER:PASSWORD@HOST:PORT`. If one is lost, the next one is tried. */
  readonly urls: readonly string[];
  /** The secret that all nodes share: at least 16 characters. */
  readonly key: string;
  /** Aborts the opening. */
  readonly signal?: AbortSignal;
  /** Learns that a server was lost, and that one is back. */
  readonly logger?: Logger;
}

/** A bus that runs until it is disposed. */
export interface NatsBus extends RendezvousBus, AsyncDisposable {
  /** Whether it is connected now. Messages are lost while it is not; subscriptions are kept. */
  readonly isConnected: boolean;
}

/**
 * Opens a bus, and connects it to one of the servers.
 *
 * @throws {TypeError} if a URL or the key is invalid
 * @throws {RefusedError} if the server refuses the login
 * @throws {NetworkError} if no server can be reached
 * @throws the signal's reason on abort
 *
 * @example
 * ```ts ignore
 * import { openNatsBus } from "@punchline/punchline/signal/nats";
 * import { serveRendezvous, systemNetwork as network } from "@punchline/punchline/signal";
 *
 * const key = "a secret of all nodes";
 * await using bus = await openNatsBus({ network, urls: ["nats://10.0.0.2"], key });
 * await using node = await serveRendezvous({ network, local: { ip: "192.0.2.1", port: 3480 }, bus });
 * ```
 */
export async function openNatsBus(options: NatsBusOptions): Promise<NatsBus> {
  if (options.key.length < MIN_KEY_LENGTH) {
    throw new TypeError(`Cannot use the key of the nodes: it needs ${MIN_KEY_LENGTH} characters`);
  }
  const servers = options.urls.map(parseNatsUrl);
  if (servers.length === 0) throw new TypeError("Cannot open a bus: no NATS server is named");
  const bus = new Bus(servers, options);
  await bus.open(options.signal);
  return bus;
}

/** A NATS server. */
export interface NatsServer {
  readonly host: string;
  readonly port: number;
  readonly login: NatsLogin | undefined;
}

/**
 * Reads `nats://HOST`, `nats://HOST:PORT` or `nats://USER:PASSWORD@HOST:PORT`.
 *
 * @throws {TypeError} if the URL has another form; the message does not show the login
 */
export function parseNatsUrl(text: string): NatsServer {
  const cannot = `Cannot use ${shownUrl(text)}`;
  const [, login, where] = /^nats:\/\/(?:([^@/]*)@)?([^@/]+)\/?$/.exec(text) ?? [];
  if (where === undefined) throw new TypeError(`${cannot}: it is not nats://HOST[:PORT]`);
  const { host, port } = parseHostPort(where, NATS_PORT);
  const [user = "", password = ""] = login?.split(":").map((part) => decodeLogin(part, cannot)) ??
    [];
  return { host, port, login: login === undefined ? undefined : { user, password } };
}

class Bus implements NatsBus {
  readonly #servers: readonly NatsServer[];
  readonly #network: Network;
  readonly #logger: Logger | undefined;
  readonly #key: Uint8Array;
  readonly #node = crypto.getRandomValues(new Uint8Array(NODE_BYTES));
  #counter = 0n;
  /** Other nodes, and which of their messages have come. */
  readonly #seen = new Map<string, ReplayWindow>();
  readonly #subscriptions = new Map<string, Subscription>();
  readonly #byId = new Map<number, Subscription>();
  #lastId = 0;
  #next = 0;
  #failures = 0;
  #link: Link | undefined;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #running: Promise<void> = Promise.resolve();
  #isClosed = false;

  constructor(servers: readonly NatsServer[], { network, key, logger }: NatsBusOptions) {
    this.#servers = servers;
    this.#network = network;
    this.#logger = logger;
    this.#key = new TextEncoder().encode(key);
  }

  get isConnected(): boolean {
    return this.#link !== undefined;
  }

  /** Tries each server once. */
  async open(signal?: AbortSignal): Promise<void> {
    let failure: unknown;
    for (let i = 0; i < this.#servers.length; i++) {
      try {
        return await this.#connect(signal);
      } catch (error) {
        signal?.throwIfAborted();
        failure = error;
      }
    }
    throw failure;
  }

  subscribe(subject: string, receive: (message: Uint8Array<ArrayBuffer>) => void): void {
    const subscription = { id: ++this.#lastId, subject: this.#hashed(subject), receive };
    this.#subscriptions.set(subject, subscription);
    this.#byId.set(subscription.id, subscription);
    this.#link?.send(encodeNatsSubscribe(subscription.subject, subscription.id));
  }

  unsubscribe(subject: string): void {
    const subscription = this.#subscriptions.get(subject);
    if (subscription === undefined) return;
    this.#subscriptions.delete(subject);
    this.#byId.delete(subscription.id);
    this.#link?.send(encodeNatsUnsubscribe(subscription.id));
  }

  publish(subject: string, message: Uint8Array<ArrayBuffer>): void {
    if (this.#link === undefined) return;
    const hashed = this.#hashed(subject);
    const signed = encodeSignedMessage({
      node: this.#node,
      counter: this.#counter++,
      sentMs: Date.now(),
      message,
    });
    this.#link.send(encodeNatsPublish(hashed, concat(this.#macOf(hashed, signed), signed)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#retry);
    this.#link?.close();
    await this.#running;
  }

  async #connect(signal?: AbortSignal): Promise<void> {
    const server = this.#servers[this.#next++ % this.#servers.length]!;
    const link = await Link.open(server, this.#network, signal);
    if (this.#isClosed) return link.close();
    this.#link = link;
    for (const { subject, id } of this.#byId.values()) link.send(encodeNatsSubscribe(subject, id));
    this.#running = this.#run(link);
  }

  async #run(link: Link): Promise<void> {
    const openedMs = performance.now();
    try {
      await link.receive((id, payload) => this.#accept(id, payload));
    } catch (error) {
      link.close();
      this.#link = undefined;
      if (performance.now() - openedMs > LASTING_MS) this.#failures = 0;
      if (!this.#isClosed) this.#logger?.warn(`The bus between nodes is lost: ${messageOf(error)}`);
      this.#retryLater();
    }
  }

  #retryLater(): void {
    if (this.#isClosed) return;
    const waitMs = backoff(RETRY, ++this.#failures) * (0.5 + Math.random());
    this.#retry = setTimeout(async () => {
      try {
        await this.#connect();
        this.#logger?.info("The bus between nodes is back");
      } catch (error) {
        this.#logger?.debug(`The bus between nodes stays away: ${messageOf(error)}`);
        this.#retryLater();
      }
    }, waitMs);
  }

  /** Whatever is not signed, not new or not of this minute is dropped: others may use the servers too. */
  #accept(id: number, payload: Uint8Array<ArrayBuffer>): void {
    const subscription = this.#byId.get(id);
    if (subscription === undefined || payload.length < MAC_BYTES) return;
    const signed = payload.subarray(MAC_BYTES);
    const mac = this.#macOf(subscription.subject, signed);
    if (!equalSecrets(mac, payload.subarray(0, MAC_BYTES))) return;
    const decoded = undefinedIfMalformed(() => decodeSignedMessage(signed));
    if (decoded === undefined) return;
    if (Math.abs(Date.now() - decoded.sentMs) > MAX_AGE_MS) return;
    const window = this.#seen.get(decoded.node) ?? new ReplayWindow();
    if (!window.mayAccept(decoded.counter)) return;
    window.accept(decoded.counter);
    this.#seen.delete(decoded.node);
    this.#seen.set(decoded.node, window);
    if (this.#seen.size > MAX_NODES) this.#seen.delete(this.#seen.keys().next().value!);
    subscription.receive(decoded.message);
  }

  #hashed(subject: string): string {
    const digest = hmac("sha256", this.#key, new TextEncoder().encode(`subject ${subject}`));
    return `punchline.${toBase64url(digest.subarray(0, 16))}`;
  }

  #macOf(subject: string, signed: Uint8Array): Uint8Array {
    return hmac("sha256", this.#key, new TextEncoder().encode(`message ${subject} `), signed);
  }
}

interface Subscription {
  readonly id: number;
  /** As the server knows it. */
  readonly subject: string;
  receive(message: Uint8Array<ArrayBuffer>): void;
}

/** A connection to one server. */
class Link {
  readonly #connection: TcpConnection;
  readonly #reader: BufferedReader;
  #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  #isWriting = false;
  /** When the server has sent something last, and whether it was asked since. */
  #isAsked = false;
  #watch: ReturnType<typeof setInterval> | undefined;

  private constructor(connection: TcpConnection) {
    this.#connection = connection;
    this.#reader = new BufferedReader(connection, {
      initialLength: 4096,
      fullLength: MAX_LINE_BYTES,
    });
  }

  static async open(
    server: NatsServer,
    network: Network,
    signal?: AbortSignal,
  ): Promise<Link> {
    const { host, port, login } = server;
    const ip = await resolveHost(network, host, { signal });
    const connection = await network.connectTcp({ ip, port }, { signal });
    const link = new Link(connection);
    const onAbort = () => connection.reset();
    const tooLate = setTimeout(onAbort, OPEN_MS);
    signal?.addEventListener("abort", onAbort, { once: true });
    try {
      await link.#greet(login);
      link.#watch = setInterval(() => link.#checkAlive(), PING_MS);
      return link;
    } catch (error) {
      connection.reset();
      signal?.throwIfAborted();
      throw error;
    } finally {
      clearTimeout(tooLate);
      signal?.removeEventListener("abort", onAbort);
    }
  }

  /** Queues bytes; what does not fit because the server does not read is lost. */
  send(bytes: Uint8Array): void {
    if (this.#queuedBytes + bytes.length > MAX_QUEUED_BYTES) return;
    this.#queue.push(bytes);
    this.#queuedBytes += bytes.length;
    if (!this.#isWriting) this.#write();
  }

  /**
   * Hands over what is received, until the connection ends.
   *
   * @throws the reason
   */
  async receive(accept: (id: number, payload: Uint8Array<ArrayBuffer>) => void): Promise<never> {
    for (;;) {
      const message = decodeNatsLine(await this.#line());
      this.#isAsked = false;
      if (message.kind === "ping") this.send(encodeNatsPong());
      if (message.kind === "error") throw refused(message.reason);
      if (message.kind !== "message") continue;
      if (message.length > MAX_PAYLOAD_BYTES) throw tooLong();
      while (this.#reader.buffered < message.length + 2) await this.#fill(message.length + 2);
      const payload = this.#reader.take(message.length).slice();
      this.#reader.take(2);
      accept(message.id, payload);
    }
  }

  close(): void {
    clearInterval(this.#watch);
    this.#connection.close();
  }

  async #greet(login: NatsLogin | undefined): Promise<void> {
    const greeting = decodeNatsLine(await this.#line());
    if (greeting.kind === "error") throw refused(greeting.reason);
    if (greeting.kind !== "info") {
      throw new MalformedMessageError("Cannot open a bus: the server does not speak NATS");
    }
    await writeAll(this.#connection, encodeNatsConnect(login));
    for (;;) {
      const message = decodeNatsLine(await this.#line());
      if (message.kind === "pong") return;
      if (message.kind === "error") throw refused(message.reason);
    }
  }

  async #line(): Promise<Uint8Array> {
    for (;;) {
      const { unread } = this.#reader;
      const end = unread.indexOf(LF);
      if (end > 0) return this.#reader.take(end + 1).subarray(0, end - 1);
      if (unread.length >= MAX_LINE_BYTES || end === 0) throw tooLong();
      await this.#fill();
    }
  }

  async #fill(needed?: number): Promise<void> {
    if (await this.#reader.fill(needed)) return;
    throw new NetworkError("Cannot use the bus: the server has closed the connection", "reset");
  }

  async #write(): Promise<void> {
    this.#isWriting = true;
    await undefined; // what is sent at once goes out at once
    try {
      while (this.#queue.length > 0) {
        const bytes = concat(...this.#queue);
        this.#queue = [];
        this.#queuedBytes = 0;
        await writeAll(this.#connection, bytes);
      }
    } catch (error) {
      if (!(error instanceof NetworkError)) throw error; // receive() rejects as well
    }
    this.#isWriting = false;
  }

  #checkAlive(): void {
    if (this.#isAsked) return this.#connection.reset();
    this.#isAsked = true;
    this.send(new TextEncoder().encode("PING\r\n"));
  }
}

function refused(reason: string): RefusedError {
  return new RefusedError(`Cannot use the bus: the server answered ${reason}`, 0, {
    remedy: "Check the login in the URL, and the server's log",
  });
}

function tooLong(): MalformedMessageError {
  return new MalformedMessageError("Cannot read from the bus: a line or a payload is too long");
}

/** The port of NATS. */
const NATS_PORT = 4222;

/** HMAC-SHA-256. */
const MAC_BYTES = 32;

/** As an access key. */
const MIN_KEY_LENGTH = 16;

/** Chosen by us: INFO names all servers of a cluster. */
const MAX_LINE_BYTES = 32_768;

/** Chosen by us: the longest message of a client, and what nodes put around it. */
const MAX_PAYLOAD_BYTES = 8192;

/** Chosen by us: what half a second of a busy node brings together. */
const MAX_QUEUED_BYTES = 1024 * 1024;

/** Chosen by us: two lost SYNs, and a server that is busy. */
const OPEN_MS = 5000;

/** Chosen by us: a node that cannot reach the others should know soon. */
const PING_MS = 5000;

/** Chosen by us: the clocks of servers are set by NTP. */
const MAX_AGE_MS = 60_000;

/** Chosen by us: nodes that were started lately. One that is forgotten can be repeated for a minute. */
const MAX_NODES = 1024;

const RETRY = { firstMs: 250, maximumMs: 10_000 };

/** Chosen by us: after that, a lost server is tried again soon. */
const LASTING_MS = 10_000;

const LF = 0x0a;
