/**
 * Opens a path over a relay: carries out what {@linkcode stepRelayPath} decides.
 *
 * @module
 */

import { toHex } from "../base/bytes.ts";
import { hmac } from "../base/crypto.ts";
import {
  messageOf,
  NetworkError,
  PunchlineError,
  RefusedError,
  UnreachableError,
} from "../base/errors.ts";
import { withoutLogin } from "../base/login.ts";
import { optionalResolvers, TaskGroup } from "../base/tasks.ts";
import {
  formatTransportAddress,
  sameTransportAddress,
  type TransportAddress,
} from "../net/address.ts";
import type { Network, TcpConnection } from "../net/network.ts";
import { AttemptRecord, type DialBudget, Nomination } from "../punch/nomination.ts";
import type { PunchRole } from "../punch/punch.ts";
import type { SignalChannel } from "../signal/channel.ts";
import { RelayedConnection, type StreamRelay } from "../turn/stream_relay.ts";
import {
  isStunErrorCode,
  MAX_ADDRESSES,
  MAX_RENDEZVOUS,
  type RelayState,
} from "./relay_message.ts";
import { RelayExchange } from "./relay_offer.ts";
import {
  initialRelayPathState,
  type RelayPathAction,
  type RelayPathEvent,
  stepRelayPath,
} from "./relay_path_engine.ts";
import { abortable } from "@std/async/abortable";
import { delay } from "@std/async/delay";

/** How to open a path over a relay. */
export interface RelayPathOptions {
  readonly network: Network;
  readonly role: PunchRole;
  /** Known to these two peers only. */
  readonly connectionKey: Uint8Array;
  /** For messages about relays. */
  readonly channel: SignalChannel;
  /** The servers that this side may use. */
  readonly relays: readonly RelayOpener[];
  /** The rendezvous servers whose relay may be used. */
  readonly rendezvous: readonly RendezvousOpener[];
  /** Addresses that this side may dial from. */
  readonly ips: readonly string[];
  /** Whether the other side must not learn this side's addresses: then only this side's own relays are used to dial. */
  readonly isHidden: boolean;
  /** Why a relay that the other side names is not dialled; `null` if it may be. */
  readonly whyNotRelay: (relay: TransportAddress) => Promise<string | null>;
  /** What the other side may still make this host send. */
  readonly budget: DialBudget;
  /** Called with the record of each attempt as it starts. */
  readonly onAttempt: (attempt: AttemptRecord) => void;
  readonly signal: AbortSignal;
}

/** A TURN server that relays streams. */
export interface RelayOpener {
  /** As the user wrote it, without the password. */
  readonly url: string;
  open(signal: AbortSignal): Promise<StreamRelay>;
}

/** A rendezvous server with a relay, which joins the two sides. */
export interface RendezvousOpener {
  /** Its URL without a login, in the form that both sides use. */
  readonly url: string;
  /** The round trip to it; `null` if it was not measured. */
  readonly rttMs: number | null;
  /** Connects to it. What is written reaches the other side once that has connected with the same token. */
  open(token: Uint8Array, signal: AbortSignal): Promise<TcpConnection>;
}

/** A connection over a relay. */
export interface RelayedPath {
  /** If one of this side's relays carries it, closing it closes that relay. */
  readonly connection: TcpConnection;
  /** The same on both sides, and unique to this connection; 32 bytes. */
  readonly channelBinding: Uint8Array;
}

/**
 * Opens relays, publishes them to the other side, dials the relays that the other side names, and returns the first
 * connection that both sides agree on. It tries until the signal is aborted.
 *
 * @throws {UnreachableError} if neither side has a relay, or none can be opened
 * @throws the signal's reason on abort
 */
export async function openRelayPath(options: RelayPathOptions): Promise<RelayedPath> {
  const path = new RelayPath(options);
  return await path.open();
}

class RelayPath {
  readonly #options: RelayPathOptions;
  readonly #tasks = new TaskGroup((error) => this.#onError(error));
  readonly #signal: AbortSignal;
  readonly #nonce = toHex(crypto.getRandomValues(new Uint8Array(16)));
  readonly #exchange: RelayExchange;
  readonly #relays = new Map<number, StreamRelay>();
  /** What became of each of this side's relays. */
  readonly #own = new Map<number, OwnRelay>();
  /** Why this side's relays failed. */
  readonly #failures: unknown[] = [];
  /** Why rendezvous servers relay nothing: a TURN server's reason says more. */
  readonly #refusals: unknown[] = [];
  /** The record of all dials of one address. */
  readonly #dials = new Map<string, AttemptRecord>();
  readonly #judged = new Map<string, Promise<string | null>>();
  /** By what stands for them in messages. */
  readonly #rendezvous: ReadonlyMap<string, RendezvousOpener>;
  readonly #result = optionalResolvers<TcpConnection>();
  #state: ReturnType<typeof initialRelayPathState>;
  #nomination: Nomination | undefined;
  #theirNonce = "";
  #theirRefusalCode: number | null = null;

  constructor(options: RelayPathOptions) {
    const { channel, ips, isHidden, relays, signal, connectionKey } = options;
    this.#options = options;
    this.#rendezvous = new Map(
      options.rendezvous.slice(0, MAX_RENDEZVOUS).map((each) => [
        rendezvousId(connectionKey, each.url),
        each,
      ]),
    );
    const rendezvous = [...this.#rendezvous].map(([id, { rttMs }]) => ({ id, rttMs }));
    this.#signal = AbortSignal.any([signal, this.#tasks.signal]);
    this.#state = initialRelayPathState({ ips, isHidden, relays: relays.length, rendezvous });
    const own = {
      nonce: this.#nonce,
      mayOffer: relays.length > 0,
      ips: isHidden ? [] : ips.slice(0, MAX_ADDRESSES),
      rendezvous,
    };
    this.#exchange = new RelayExchange(channel, own, (theirs) => this.#onState(theirs));
  }

  async open(): Promise<RelayedPath> {
    this.#tasks.run(() => this.#exchange.run(this.#signal));
    for (const [id, opener] of this.#options.relays.entries()) {
      this.#tasks.run(() => this.#serve(id, opener));
    }
    let used: StreamRelay | undefined;
    let isTaken = false;
    try {
      const connection = await abortable(this.#result.promise, this.#signal);
      isTaken = true;
      used = [...this.#relays.values()].find(({ relayed }) =>
        relayed.some((address) => sameTransportAddress(address, connection.local))
      );
      return {
        connection: used === undefined ? connection : closingRelay(connection, used),
        channelBinding: this.#nomination!.channelBinding,
      };
    } catch (error) {
      if (!isAbort(error)) this.#explain();
      throw error;
    } finally {
      const stopped = this.#tasks.stop();
      await this.#nomination?.[Symbol.asyncDispose]();
      await stopped;
      const unused = [...this.#relays.values()].filter((relay) => relay !== used);
      await Promise.all(unused.map((relay) => relay.close()));
      if (!isTaken) this.#nomination?.nominated?.connection.reset(); // nominated at the last moment
    }
  }

  #dispatch(event: RelayPathEvent): void {
    const { state, actions } = stepRelayPath(this.#state, event);
    this.#state = state;
    for (const action of actions) this.#perform(action);
  }

  #perform(action: RelayPathAction): void {
    switch (action.kind) {
      case "publish":
        return this.#exchange.update({ ...action.change, refusalCode: this.#refusalCode });
      case "start proving":
        return this.#startProving(action.theirNonce);
      case "permit": {
        return this.#tasks.run(() => this.#permit(action.relay, action.ip));
      }
      case "dial":
        return this.#tasks.run(() => this.#dial(action.to, action.afterMs));
      case "dial from relay": {
        const relay = this.#relays.get(action.relay)!;
        return this.#tasks.run(() => this.#dialFromRelay(relay, action.to, action.afterMs));
      }
      case "join":
        return this.#tasks.run(() => this.#join(action.id, action.afterMs));
      case "give up": {
        this.#tasks.run(() => this.#exchange.acknowledge());
        return this.#result.reject(
          noRelayError(this.#failures, this.#refusals, this.#theirRefusalCode),
        );
      }
    }
  }

  /** Why this side's TURN servers relay nothing, if one has said so. */
  get #refusalCode(): number | null {
    return this.#failures.find(isTurnRefusal)?.code ?? null;
  }

  #onState(theirs: RelayState): void {
    this.#theirRefusalCode = theirs.refusalCode;
    const { isAcknowledged } = this.#exchange;
    this.#dispatch({ kind: "state", theirs, isAcknowledged });
  }

  /** Opens one of this side's relays, and accepts the connections that arrive there. */
  async #serve(id: number, opener: RelayOpener): Promise<void> {
    const own: OwnRelay = { attempt: this.#startAttempt(opener.url), relayed: null, unanswered: 0 };
    own.attempt.addCandidate(opener.url, null);
    this.#own.set(id, own);
    try {
      const relay = await opener.open(this.#signal);
      this.#relays.set(id, relay);
      const { relayed, mapped } = relay;
      own.relayed = formatTransportAddress(relayed[0]);
      this.#dispatch({ kind: "relay opened", relay: { id, relayed, mappedIp: mapped.ip } });
      for (let accepted = 0;; accepted++) {
        if (accepted >= MAX_ACCEPTED_AT_ONCE) {
          await delay(ACCEPT_PAUSE_MS, { signal: this.#signal });
        }
        const connection = await relay.accept({ signal: this.#signal });
        const attempt = this.#startAttempt(formatTransportAddress(connection.remote));
        this.#tasks.run(() => this.#prove(connection, attempt));
      }
    } catch (error) {
      this.#onRelayError(own, error);
      this.#dispatch(
        own.relayed === null ? { kind: "relay failed" } : { kind: "relay lost", id },
      );
      throw error;
    }
  }

  async #permit(id: number, ip: string): Promise<void> {
    const own = this.#own.get(id)!;
    own.unanswered++;
    try {
      await this.#relays.get(id)!.permit([ip], { signal: this.#signal });
      own.unanswered--;
    } catch (error) {
      this.#onRelayError(own, error);
      throw error;
    }
  }

  #onRelayError({ attempt, relayed }: OwnRelay, error: unknown): void {
    if (this.#signal.aborted) return;
    this.#failures.push(error);
    attempt.end(error instanceof RefusedError ? "refused" : "failed", relayed, messageOf(error));
  }

  /** Notes what was missing at those relays that did not fail, but led to nothing. */
  #explain(): void {
    for (const { attempt, relayed, unanswered } of this.#own.values()) {
      if (attempt.isOver) continue;
      if (relayed === null) attempt.end("timed-out", null, "the server did not answer in time");
      else if (unanswered > 0) {
        attempt.end(
          "timed-out",
          relayed,
          "the server opened a relay, and did not answer after that",
        );
      } else attempt.end("timed-out", relayed, "the other side did not connect to the relay");
    }
  }

  /** The secret that both sides prove follows from the nonces of both. */
  #startProving(theirNonce: string): void {
    const { role } = this.#options;
    this.#theirNonce = theirNonce;
    const secret = this.#sharedSecret("relay");
    const nomination = new Nomination(role, secret, PROOF_TIMEOUT_MS);
    nomination.winner.then(({ connection }) => this.#result.resolve(connection));
    this.#nomination = nomination;
  }

  #sharedSecret(purpose: string): Uint8Array {
    const { role, connectionKey } = this.#options;
    const nonces = [this.#nonce, this.#theirNonce];
    if (role === "controlled") nonces.reverse();
    const label = new TextEncoder().encode(`${purpose} ${nonces.join(" ")}`);
    return hmac("sha256", connectionKey, label);
  }

  /** Joins the other side at a rendezvous server. */
  async #join(id: string, afterMs: number): Promise<void> {
    if (afterMs > 0) await delay(afterMs, { signal: this.#signal });
    const rendezvous = this.#rendezvous.get(id)!;
    const shown = withoutLogin(rendezvous.url);
    const attempt = this.#dials.get(id) ?? this.#startAttempt(shown);
    this.#dials.set(id, attempt);
    attempt.tried(shown);
    let isFinal = false;
    try {
      const token = this.#sharedSecret(`rendezvous ${id}`);
      const connection = await rendezvous.open(token, this.#signal);
      if (await this.#prove(connection, attempt)) return;
    } catch (error) {
      if (this.#signal.aborted || !(error instanceof PunchlineError)) throw error;
      isFinal = error instanceof RefusedError && !BUSY.has(error.code);
      if (isFinal) this.#refusals.push(error);
      attempt.end(isFinal ? "refused" : "unreachable", null, error.message);
    }
    this.#dispatch({ kind: "join failed", id, isFinal });
  }

  async #dial(to: TransportAddress, afterMs: number): Promise<void> {
    if (afterMs > 0) await delay(afterMs, { signal: this.#signal });
    const address = formatTransportAddress(to);
    const attempt = this.#dials.get(address) ?? this.#startAttempt(address);
    this.#dials.set(address, attempt);
    const whyNot = await this.#whyNotRelay(to);
    if (whyNot !== null) return attempt.end("failed", null, whyNot);
    const target = { address: to, isExternal: false, isExpected: false, isBirthday: false };
    if (!this.#options.budget.take(target, performance.now())) {
      return attempt.end("failed", null, "the limit of SYNs for this address is reached");
    }
    attempt.tried(address);
    try {
      const connection = await this.#options.network.connectTcp(to, {
        local: { ip: to.ip.includes(":") ? "::" : "0.0.0.0", port: 0 },
        signal: this.#signal,
      });
      if (await this.#prove(connection, attempt)) return;
    } catch (error) {
      if (!(error instanceof NetworkError)) throw error;
      if (error.reason === "refused" || error.reason === "reset") attempt.resets++;
      attempt.end(error.reason === "refused" ? "refused" : "unreachable", null, error.message);
    }
    this.#dispatch({ kind: "dial failed", to });
  }

  /** Each relay is judged once. */
  #whyNotRelay(to: TransportAddress): Promise<string | null> {
    const key = formatTransportAddress(to);
    const why = this.#judged.get(key) ?? this.#options.whyNotRelay(to);
    this.#judged.set(key, why);
    return why;
  }

  /** For a host whose firewall lets it out to nothing but its own relay. */
  async #dialFromRelay(relay: StreamRelay, to: TransportAddress, afterMs: number): Promise<void> {
    if (afterMs > 0) await delay(afterMs, { signal: this.#signal });
    const attempt = this.#startAttempt(formatTransportAddress(to));
    const whyNot = await this.#whyNotRelay(to);
    if (whyNot !== null) return attempt.end("failed", null, whyNot);
    attempt.tried(formatTransportAddress(to), formatTransportAddress(relay.relayed[0]));
    try {
      await this.#prove(await relay.connect(to, { signal: this.#signal }), attempt);
    } catch (error) {
      const from = formatTransportAddress(relay.relayed[0]);
      if (!this.#signal.aborted) attempt.end("failed", from, messageOf(error));
      throw error;
    }
  }

  /** Whether both sides agreed on the connection. */
  async #prove(connection: TcpConnection, attempt: AttemptRecord): Promise<boolean> {
    if (this.#nomination === undefined) {
      connection.reset(); // not the other side: it does not know the relay yet
      return false;
    }
    const outcome = await this.#nomination.add(connection);
    attempt.settle(outcome, connection);
    if (outcome === "nominated") this.#options.budget.prove(connection.remote);
    return outcome === "nominated";
  }

  #startAttempt(remote: string): AttemptRecord {
    const attempt = new AttemptRecord("relay", remote);
    this.#options.onAttempt(attempt);
    return attempt;
  }

  /** One server or dial that fails leaves the others; a server that does not speak TURN is expected, too. */
  #onError(error: unknown): void {
    if (!this.#signal.aborted && !(error instanceof PunchlineError)) this.#result.reject(error);
  }
}

/** One of this side's relays, as far as its record goes. */
interface OwnRelay {
  readonly attempt: AttemptRecord;
  /** Its address; `null` until it is open. */
  relayed: string | null;
  /** Requests for permissions that the server has not answered. */
  unanswered: number;
}

/** Stands for a server in messages: the two sides may know others, which are their own business. */
function rendezvousId(connectionKey: Uint8Array, url: string): string {
  const id = hmac("sha256", connectionKey, new TextEncoder().encode(`rendezvous ${url}`));
  return toHex(id.subarray(0, 8));
}

function isTurnRefusal(error: unknown): error is RefusedError {
  return error instanceof RefusedError && isStunErrorCode(error.code);
}

function noRelayError(
  failures: readonly unknown[],
  refusals: readonly unknown[],
  theirRefusalCode: number | null,
): UnreachableError {
  const message = "Cannot relay: neither side has a relay";
  const theirs = "the other side has found no path: its relay server refused it";
  const [cause] = [...failures, ...refusals];
  if (theirRefusalCode !== null && !failures.some(isTurnRefusal)) {
    return new UnreachableError(`${message}; ${theirs} (${theirRefusalCode})`, [], { cause });
  }
  if (cause === undefined) return new UnreachableError(message, []);
  const why = messageOf(cause).replace(/^Cannot [^:]*: /, "");
  return new UnreachableError(`${message}: ${why}`, [], { cause });
}

/** Whether it means that the result is not wanted any more. */
function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}

/** A connection that closes its relay when it is closed. */
function closingRelay(connection: TcpConnection, relay: StreamRelay): TcpConnection {
  return new RelayedConnection({
    local: connection.local,
    remote: connection.remote,
    connection,
    rest: new Uint8Array(0),
    onClose: () => void relay.close(),
    onRefer: (isReferenced) => isReferenced ? relay.ref() : relay.unref(),
  });
}

/** What a server answers that has too much to do now; HTTP. */
const BUSY: ReadonlySet<number> = new Set([429, 503]);

/** Chosen by us: the other side connects a few times. A server that tells of more costs this side a connection each. */
const [MAX_ACCEPTED_AT_ONCE, ACCEPT_PAUSE_MS] = [16, 250];

/** How long the other end of a connection may take to prove itself. */
const PROOF_TIMEOUT_MS = 6000;
