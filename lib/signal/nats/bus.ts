/**
 * A bus over NATS: the nodes of one rendezvous are clients of the same NATS servers. What they publish is signed with a key
 * that they share, so that others on those servers can neither invent nor repeat messages; and subjects are hashed with it.
 *
 * @module
 */

import { concat, toBase64url } from "../../base/bytes.ts";
import { backoff } from "../../base/backoff.ts";
import { equalSecrets, hmac, ReplayWindow } from "../../base/crypto.ts";
import { messageOf, undefinedIfMalformed } from "../../base/errors.ts";
import type { Logger } from "../../base/logger.ts";
import type { Network } from "../../net/network.ts";
import type { RendezvousBus } from "../rendezvous/bus.ts";
import { NatsConnection, type NatsServer, parseNatsUrl } from "./connection.ts";
import {
  decodeSignedMessage,
  encodeNatsPublish,
  encodeNatsSubscribe,
  encodeNatsUnsubscribe,
  encodeSignedMessage,
  NODE_BYTES,
} from "./message.ts";

/** How to open a bus. */
export interface NatsBusOptions {
  /** The sockets to use. */
  readonly network: Network;
  /**
   * The NATS servers, as `nats://HOST:PORT` or `nats://USER:PASSWORD@HOST:PORT`. If one is lost, the next one is tried. One
   * that requires TLS gets it; with `tls://`, one without TLS is refused before the login is sent.
   */
  readonly urls: readonly string[];
  /** The secret that all nodes share: at least 16 characters. */
  readonly key: string;
  /**
   * Certificate authorities to trust with TLS, PEM. They may take the place of the platform's, which DENO_CERT and
   * DENO_TLS_CA_STORE in the environment choose.
   */
  readonly caCerts?: readonly string[];
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
 * @throws {NetworkError} if no server can be reached, or none with TLS as the URL wants it: `tls`
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

class Bus implements NatsBus {
  readonly #servers: readonly NatsServer[];
  readonly #network: Network;
  readonly #caCerts: readonly string[] | undefined;
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
  #link: NatsConnection | undefined;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #running: Promise<void> = Promise.resolve();
  #isClosed = false;

  constructor(servers: readonly NatsServer[], { network, key, caCerts, logger }: NatsBusOptions) {
    this.#servers = servers;
    this.#network = network;
    this.#caCerts = caCerts;
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
    const options = { network: this.#network, caCerts: this.#caCerts, signal };
    const link = await NatsConnection.open(server, options);
    if (this.#isClosed) return link.close();
    this.#link = link;
    for (const { subject, id } of this.#byId.values()) link.send(encodeNatsSubscribe(subject, id));
    this.#running = this.#run(link);
  }

  async #run(link: NatsConnection): Promise<void> {
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

/** As an access key. */
const MIN_KEY_LENGTH = 16;

/** HMAC-SHA-256. */
const MAC_BYTES = 32;

/** Chosen by us: the clocks of servers are set by NTP. */
const MAX_AGE_MS = 60_000;

/** Chosen by us: nodes that were started lately. One that is forgotten can be repeated for a minute. */
const MAX_NODES = 1024;

const RETRY = { firstMs: 250, maximumMs: 10_000 };

/** Chosen by us: after that, a lost server is tried again soon. */
const LASTING_MS = 10_000;
