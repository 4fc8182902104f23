/**
 * The way by a relay: whichever side has a TURN server is dialled there by the other one. Both sides prove themselves
 * on the connection, and the controlling side nominates it, as they do after a punch.
 *
 * @module
 */

import { toHex } from "../base/bytes.ts";
import { hmac } from "../base/crypto.ts";
import {
  MalformedMessageError,
  NetworkError,
  NoResponseError,
  RefusedError,
  UnreachableError,
} from "../base/errors.ts";
import {
  formatTransportAddress,
  ipFamily,
  sameTransportAddress,
  type TransportAddress,
} from "../net/address.ts";
import type { Network, TcpConnection } from "../net/network.ts";
import { AttemptRecord, Nomination } from "../punch/nomination.ts";
import type { PunchRole } from "../punch/punch.ts";
import type { SignalChannel } from "../signal/channel.ts";
import { RelayedConnection, type StreamRelay } from "../turn/stream_relay.ts";
import { MAX_ADDRESSES, NamedAddresses, RelayExchange, type RelayState } from "./relay_offer.ts";
import { abortable } from "@std/async/abortable";
import { delay } from "@std/async/delay";

/** What the way by a relay needs. */
export interface RelayPathOptions {
  readonly network: Network;
  readonly role: PunchRole;
  /** Known to both sides and to nobody else. */
  readonly connectionKey: Uint8Array;
  /** Where the other side is told of relays. */
  readonly channel: SignalChannel;
  /** The servers that this side may use. */
  readonly relays: readonly RelayOpener[];
  /** Addresses from which this side's dials may come. */
  readonly ips: readonly string[];
  /**
   * Whether the other side shall not learn this one's addresses: then they are not told, and nothing is dialled but by
   * this side's own relays, since what the other side calls a relay may be itself.
   */
  readonly isHidden: boolean;
  /** Hears of everything that is tried. */
  readonly onTrace: (trace: AttemptRecord) => void;
  readonly signal: AbortSignal;
}

/** A TURN server that relays streams. */
export interface RelayOpener {
  /** What people call it. */
  readonly url: string;
  open(signal: AbortSignal): Promise<StreamRelay>;
}

/** A connection by a relay. */
export interface RelayedPath {
  /** Closes a relay of this side's that carries it when it is closed itself. */
  readonly connection: TcpConnection;
  /** As that of a punch. */
  readonly channelBinding: Uint8Array;
}

/**
 * Opens relays, tells the other side, dials what it tells, and returns the first connection that both agree on.
 *
 * @throws {UnreachableError} if neither side has a relay, or can open one
 * @throws the signal's reason: it goes on until then
 * @throws {NetworkError} if the channel breaks
 */
export async function openRelayPath(options: RelayPathOptions): Promise<RelayedPath> {
  const path = new RelayPath(options);
  return await path.open();
}

class RelayPath {
  readonly #options: RelayPathOptions;
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  readonly #nonce = toHex(crypto.getRandomValues(new Uint8Array(16)));
  readonly #exchange: RelayExchange;
  readonly #relays: StreamRelay[] = [];
  /** How many relays are being opened. */
  #opening: number;
  readonly #jobs = new Set<Promise<void>>();
  /** What was begun already, since the other side says everything again with each change. */
  readonly #begun = new Set<string>();
  readonly #theirs = new NamedAddresses();
  readonly #failed = Promise.withResolvers<never>();
  readonly #winner = Promise.withResolvers<TcpConnection>();
  #nomination: Nomination | undefined;

  constructor(options: RelayPathOptions) {
    this.#options = options;
    this.#opening = options.relays.length;
    this.#signal = AbortSignal.any([options.signal, this.#stop.signal]);
    this.#exchange = new RelayExchange(
      options.channel,
      { nonce: this.#nonce, mayOffer: options.relays.length > 0 },
      (theirs) => this.#take(theirs),
    );
  }

  async open(): Promise<RelayedPath> {
    const { ips, isHidden, relays } = this.#options;
    this.#exchange.tell({ ips: isHidden ? [] : ips.slice(0, MAX_ADDRESSES) });
    this.#failed.promise.catch(() => {}); // it may come when there is a connection
    this.#start(() => this.#exchange.run(this.#signal));
    for (const opener of relays) this.#start(() => this.#serve(opener));
    let used: StreamRelay | undefined;
    let isTaken = false;
    try {
      const won = Promise.race([this.#winner.promise, this.#failed.promise]);
      const connection = await abortable(won, this.#signal);
      used = this.#relays.find(({ relayed }) =>
        relayed.some((address) => sameTransportAddress(address, connection.local))
      );
      isTaken = true;
      return {
        connection: used === undefined ? connection : ownedBy(connection, used),
        channelBinding: this.#nomination!.channelBinding,
      };
    } finally {
      this.#stop.abort();
      await this.#nomination?.[Symbol.asyncDispose]();
      await Promise.all(this.#jobs);
      const unused = this.#relays.filter((relay) => relay !== used);
      await Promise.all(unused.map((relay) => relay.close()));
      const nominated = this.#nomination?.nominated;
      if (!isTaken) nominated?.connection.reset(); // nominated in the last moment
    }
  }

  /** A relay of this side, from its opening to the end. */
  async #serve(opener: RelayOpener): Promise<void> {
    const relay = await this.#open(opener).finally(() => this.#opening--);
    this.#relays.push(relay);
    const own = this.#options.isHidden ? [] : [...this.#options.ips, relay.mapped.ip];
    const ips = [...own, ...this.#relays.flatMap(ipsOf)];
    this.#permit(relay);
    this.#exchange.tell({
      ips: [...new Set(ips)].slice(0, MAX_ADDRESSES),
      relayed: this.#relays.flatMap(({ relayed }) => relayed).slice(0, MAX_ADDRESSES),
    });
    this.#dialFrom(relay);
    for (;;) {
      const connection = await relay.accept({ signal: this.#signal });
      this.#start(() =>
        this.#meet(connection, this.#trace(formatTransportAddress(connection.remote)))
      );
    }
  }

  async #open({ url, open }: RelayOpener): Promise<StreamRelay> {
    const trace = this.#trace(url);
    try {
      return await open(this.#signal);
    } catch (error) {
      const outcome = error instanceof RefusedError ? "refused" : "failed";
      if (!this.#signal.aborted) trace.end(outcome, null, reasonOf(error));
      if (this.#opening === 1 && this.#relays.length === 0) {
        this.#exchange.tell({ mayOffer: false });
      }
      throw error;
    }
  }

  #take(theirs: RelayState): void {
    const mayOffer = this.#opening + this.#relays.length > 0;
    if (!mayOffer && !theirs.mayOffer && this.#exchange.isHeard) {
      const message = "Cannot relay: neither side has a relay";
      this.#start(() => this.#exchange.sayLast());
      return this.#failed.reject(new UnreachableError(message, []));
    }
    if (this.#nomination === undefined) this.#begin(theirs);
    this.#theirs.add(theirs);
    for (const address of this.#options.isHidden ? [] : this.#theirs.relayed) {
      this.#dialOnce("", address, () => this.#dial(address));
    }
    for (const relay of this.#relays) {
      this.#permit(relay);
      this.#dialFrom(relay);
    }
  }

  /** Both nonces make the secret. */
  #begin(theirs: RelayState): void {
    const { role, connectionKey } = this.#options;
    const nonces = role === "controlling"
      ? [this.#nonce, theirs.nonce]
      : [theirs.nonce, this.#nonce];
    const secret = hmac(
      "sha256",
      connectionKey,
      new TextEncoder().encode(`relay ${nonces.join(" ")}`),
    );
    const nomination = new Nomination(role, secret, TIMEOUT_MS);
    nomination.winner.then(({ connection }) => this.#winner.resolve(connection));
    this.#nomination = nomination;
  }

  /** Lets the other side in. One address at a time: servers refuse all of a request in which they dislike one. */
  #permit(relay: StreamRelay): void {
    const from = formatTransportAddress(relay.relayed[0]);
    for (const ip of this.#theirs.ips) {
      if (!relay.relayed.some((relayed) => ipFamily(relayed.ip) === ipFamily(ip))) continue;
      this.#once(`${from} permits ${ip}`, () => relay.permit([ip], { signal: this.#signal }));
    }
  }

  /** Dials the other side's relay; again for a while, as it may still learn that it has to let us in. */
  async #dial(address: TransportAddress): Promise<void> {
    const trace = this.#trace(formatTransportAddress(address));
    if (await this.#options.network.ownsAddress(address.ip)) {
      return trace.end("failed", null, "it is an address of this host");
    }
    for (let tries = 1; tries <= MAX_TRIES; tries++) {
      trace.tries++;
      try {
        const connection = await this.#options.network.connectTcp(address, {
          local: { ip: address.ip.includes(":") ? "::" : "0.0.0.0", port: 0 },
          signal: this.#signal,
        });
        if (await this.#meet(connection, trace)) return;
      } catch (error) {
        if (!(error instanceof NetworkError)) throw error;
        if (error.reason === "refused" || error.reason === "reset") trace.resets++;
        trace.end(error.reason === "refused" ? "refused" : "unreachable", null, error.message);
      }
      await delay(RETRY_MS, { signal: this.#signal });
    }
  }

  /** From one relay to the other, for those whose firewalls let them out to nothing but their own. */
  #dialFrom(relay: StreamRelay): void {
    const from = formatTransportAddress(relay.relayed[0]);
    for (const address of this.#theirs.relayed) {
      this.#dialOnce(from, address, async () => {
        if (!this.#options.isHidden) await delay(RELAY_TO_RELAY_MS, { signal: this.#signal });
        const trace = this.#trace(formatTransportAddress(address));
        trace.tries++;
        try {
          await this.#meet(await relay.connect(address, { signal: this.#signal }), trace);
        } catch (error) {
          if (!this.#signal.aborted) trace.end("failed", from, reasonOf(error));
          throw error;
        }
      });
    }
  }

  #dialOnce(from: string, to: TransportAddress, job: () => Promise<void>): void {
    this.#once(`${from} dials ${formatTransportAddress(to)}`, job);
  }

  #once(what: string, job: () => Promise<void>): void {
    if (this.#begun.has(what)) return;
    this.#begun.add(what);
    this.#start(job);
  }

  /** Whether it came to the end that it was meant for. */
  async #meet(connection: TcpConnection, trace: AttemptRecord): Promise<boolean> {
    const nomination = this.#nomination;
    if (nomination === undefined) {
      connection.reset(); // the other side cannot know of the relay yet
      return false;
    }
    const outcome = await nomination.add(connection);
    trace.settle(outcome, connection);
    return outcome === "nominated";
  }

  #trace(remote: string): AttemptRecord {
    const trace = new AttemptRecord("relay", remote);
    this.#options.onTrace(trace);
    return trace;
  }

  /** One thing of many that go on: a server or a dial that fails leaves the others. */
  #start(job: () => Promise<unknown>): void {
    const running = job().then(() => {}, (error) => {
      if (this.#signal.aborted || isExpected(error)) return;
      this.#failed.reject(error);
    }).finally(() => this.#jobs.delete(running));
    this.#jobs.add(running);
  }
}

/** What networks, servers and the other side can do: the last word of a server may be no TURN at all. */
function isExpected(error: unknown): boolean {
  return error instanceof NetworkError || error instanceof NoResponseError ||
    error instanceof RefusedError || error instanceof MalformedMessageError;
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function ipsOf({ relayed }: StreamRelay): string[] {
  return relayed.map(({ ip }) => ip);
}

/** A connection that takes its relay with it when it closes. */
function ownedBy(connection: TcpConnection, relay: StreamRelay): TcpConnection {
  return new RelayedConnection({
    local: connection.local,
    remote: connection.remote,
    connection,
    rest: new Uint8Array(0),
    onClose: () => void relay.close(),
    onRefer: (isReferenced) => isReferenced ? relay.ref() : relay.unref(),
  });
}

/** How long the other end may take to prove itself. */
const TIMEOUT_MS = 6000;

/** Ours: the other side's permission for us is a round trip of its own away, and a lost message more. */
const MAX_TRIES = 10;
const RETRY_MS = 400;

/** Ours: by then a dial that gets through has come through. */
const RELAY_TO_RELAY_MS = 500;
