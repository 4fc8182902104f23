/**
 * Searches for paths to a peer over a signaling session, and moves a connection to each that it finds: the direct ones,
 * all at once, and a little later one over a relay. A relay that is faster does not end the search for a direct path.
 *
 * The dialer and the listener both use it; the two sides search at the same time.
 *
 * @module
 */

import { toHex } from "../base/bytes.ts";
import {
  type ConnectionAttempt,
  messageOf,
  NetworkError,
  PunchlineError,
  RefusedError,
  UnreachableError,
} from "../base/errors.ts";
import type { PathKind, PunchMethodName } from "../base/path_kind.ts";
import { optionalResolvers } from "../base/tasks.ts";
import { Deadline, ResettableTimer } from "../base/timers.ts";
import { ipScope } from "../net/address.ts";
import type { TcpConnection } from "../net/network.ts";
import { type SecureConnection, secureConnectionFromKeys } from "../noise/secure_connection.ts";
import type { AttemptRecord, DialBudget } from "../punch/nomination.ts";
import { type BaseSocket, type PunchPlan, type PunchRole, punchWithin } from "../punch/punch.ts";
import type { PeerContext } from "./context.ts";
import { openRelayPath } from "./relay_path.ts";
import type { ConnectionRequest, FoundNothing } from "./signaling_message.ts";
import { CHANNELS, sendEmpty, type SignalingSession } from "./signaling_session.ts";
import { pathKeys } from "./ticket.ts";
import { abortable } from "@std/async/abortable";

/** What to search for. */
export interface PathSearchOptions {
  readonly session: SignalingSession;
  readonly role: PunchRole;
  /** As the connection request says. */
  readonly wants: ConnectionRequest["wants"];
  /** URLs of signaling servers that both sides may use: those that are a rendezvous may have a relay. */
  readonly signalingUrls: readonly string[];
  /** What the paths are for. */
  readonly connection: PathUser;
  /** Resolves, with the reason, when the other side has searched and found nothing: then waiting is of no use. */
  readonly hopeless: Promise<Error>;
  readonly signal: AbortSignal;
}

/** A connection that moves from path to path. */
export interface PathUser {
  /** The other side's public key. */
  readonly remoteKey: Uint8Array;
  /**
   * Moves to the path, which is taken over.
   *
   * @throws {NetworkError} if the path is lost first, or the connection has a better one or has ended
   */
  move(path: FoundPath): Promise<void>;
}

/** A path to the peer. */
export interface FoundPath extends PathReport {
  /** Encrypted, with the peer at the other end. */
  readonly connection: SecureConnection;
}

/** How a path was found. */
export interface PathReport {
  /** The kind of path. */
  readonly kind: PathKind;
  /** How it got through the filters of both sides; `null` unless `kind` is `"punch-tcp"`. */
  readonly method: PunchMethodName | null;
  /** The transport protocol. */
  readonly transport: "tcp";
  /** Whether a relay carries it. */
  readonly isRelayed: boolean;
  /** How long it took once the addresses of both sides were known, in milliseconds. */
  readonly punchMs: number;
  /** Everything that was tried by then. */
  readonly attempts: readonly ConnectionAttempt[];
}

/**
 * Searches until there is a direct path, or nothing is left to try.
 *
 * @returns whether the connection moved to a path: a path may be lost as soon as it is found
 * @throws {UnreachableError} if there is no path, with everything that was tried
 * @throws the signal's reason on abort
 */
export async function searchPaths(
  context: PeerContext,
  options: PathSearchOptions,
): Promise<boolean> {
  const { session } = options;
  if (session.isManual && context.baseSockets === undefined) {
    const message = "Cannot connect manually: that needs direct paths, and all are ruled out";
    throw new UnreachableError(message, []);
  }
  return await new PathSearch(context, options).run();
}

class PathSearch {
  readonly #context: PeerContext;
  readonly #options: PathSearchOptions;
  readonly #timeoutMs: number;
  readonly #base: Promise<BaseSocket> | undefined;
  readonly #budget: DialBudget;
  /** Ends the search for a relayed path alone; what it throws after that does not count. */
  readonly #directFound = new AbortController();
  /** Ends both searches, which then report what they have tried. */
  readonly #hopeless = new AbortController();
  /** Resolves when it is time to try a relay. */
  readonly #relayTurn = optionalResolvers<void>();
  readonly #relayTimer = new ResettableTimer(() => this.#relayTurn.resolve());
  readonly #relayAttempts: AttemptRecord[] = [];
  #directAttempts: readonly ConnectionAttempt[] = [];
  /** Whether the connection moved to each of the paths. */
  readonly #moves: Promise<boolean>[] = [];

  constructor(context: PeerContext, options: PathSearchOptions) {
    const { session, signal, hopeless } = options;
    const { timings, baseSockets } = context;
    hopeless.then((reason) => this.#hopeless.abort(reason));
    // The other side has no direct path to hope for, or has waited long enough.
    session.relayMessage.then(() => this.#relayTurn.resolve());
    this.#context = context;
    this.#options = options;
    this.#timeoutMs = session.isManual ? timings.manualMs : timings.connectMs;
    this.#base = baseSockets?.take(signal);
    const { remoteKey } = options.connection;
    this.#budget = context.budgets.begin(toHex(remoteKey), performance.now());
  }

  async run(): Promise<boolean> {
    const { session, wants, signal } = this.#options;
    // Manual signaling carries one message each way, which is too little for relays.
    const mayRelay = this.#context.mayRelay && wants === "any" && !session.isManual;
    const searches: Promise<void>[] = [];
    if (this.#base === undefined) {
      this.#relayTurn.resolve();
      await this.#answer();
    } else searches.push(this.#findDirect(this.#base));
    if (mayRelay) searches.push(this.#findRelayed());
    const results = await Promise.allSettled(searches);
    this.#relayTimer.clear();
    signal.throwIfAborted();
    if (this.#moves.length === 0) throw this.#failure(results);
    // On abort, the connection itself completes a move under way.
    return (await abortable(Promise.all(this.#moves), signal)).includes(true);
  }

  get #attempts(): ConnectionAttempt[] {
    return [...this.#directAttempts, ...this.#relayAttempts.map((each) => each.toAttempt())];
  }

  #failure(results: readonly PromiseSettledResult<void>[]): unknown {
    const reasons = results.flatMap((each) => each.status === "rejected" ? [each.reason] : []);
    const unexpected = reasons.find((reason) => !(reason instanceof UnreachableError));
    if (unexpected !== undefined) return unexpected;
    const why = reasons.map((reason) => (reason as Error).message.replace(/^Cannot \w+: /, ""));
    const cause = reasons.find(({ cause }) => cause instanceof RefusedError) ?? reasons[0];
    const message = `Cannot connect: ${[...new Set(why)].join("; ")}`;
    return new UnreachableError(message, this.#attempts, { cause });
  }

  async #findDirect(readyBase: Promise<BaseSocket>): Promise<void> {
    const { network, punchOptions } = this.#context;
    const { session, role, signal } = this.#options;
    try {
      const base = await this.#orAnswer(readyBase);
      const connection = await punchWithin(this.#budget, {
        ...punchOptions,
        network,
        role,
        base,
        timeoutMs: this.#timeoutMs,
        channel: session.channel(CHANNELS.punch),
        onPlan: (plan) => this.#onPlan(plan),
        until: this.#hopeless.signal,
        signal,
      });
      const { kind, method, transport, punchMs, channelBinding, attempts } = connection.punch;
      this.#directAttempts = attempts;
      this.#directFound.abort(); // before the first await: a relayed path that is found now is too late
      const report = { kind, method, transport, punchMs, isRelayed: false };
      await this.#use(connection, channelBinding, report);
    } catch (error) {
      if (error instanceof UnreachableError) this.#directAttempts = error.attempts;
      throw error;
    } finally {
      this.#relayTurn.resolve();
    }
  }

  /** The responder's first offer is its answer. Without a base socket there is no offer: answer without one. */
  async #orAnswer(base: Promise<BaseSocket>): Promise<BaseSocket> {
    try {
      return await base;
    } catch (error) {
      if (!this.#options.signal.aborted) await this.#answer();
      throw error;
    }
  }

  async #answer(): Promise<void> {
    const { role, session } = this.#options;
    if (role === "controlled" && !session.isOpen) await sendEmpty(session);
  }

  /** If the plan is unlikely to work, the relay does not wait for it to fail. */
  #onPlan({ method, successEstimate }: PunchPlan): void {
    if (method === "impossible" || successEstimate < LIKELY) this.#relayTurn.resolve();
    else if (!this.#relayTimer.isSet) this.#relayTimer.set(RELAY_AFTER_MS);
  }

  async #findRelayed(): Promise<void> {
    const { network, relays, isHidden, dialPolicy } = this.#context;
    const { session, role, signalingUrls } = this.#options;
    const signal = AbortSignal.any([this.#options.signal, this.#directFound.signal]);
    const until = AbortSignal.any([signal, this.#hopeless.signal]);
    try {
      const { connectionKey } = await abortable(session.ready, until);
      await abortable(this.#relayTurn.promise, until);
      const startedAtMs = performance.now();
      using deadline = new Deadline(this.#timeoutMs, until);
      const { connection, channelBinding } = await openRelayPath({
        network,
        role,
        connectionKey,
        relays,
        rendezvous: this.#context.rendezvousOf(signalingUrls),
        isHidden,
        whyNotRelay: (relay) => dialPolicy.whyNotRelay(relay, deadline.signal),
        budget: this.#budget,
        channel: session.channel(CHANNELS.relay),
        ips: await this.#externalIps(),
        onAttempt: (attempt) => this.#relayAttempts.push(attempt),
        signal: deadline.signal,
      });
      if (signal.aborted) return connection.reset(); // a direct path was found at the same moment
      await this.#use(connection, channelBinding, {
        kind: "relay",
        method: null,
        transport: "tcp",
        punchMs: performance.now() - startedAtMs,
        isRelayed: true,
      });
    } catch (error) {
      this.#options.signal.throwIfAborted();
      if (signal.aborted) return; // a direct path was found
      const isHopeless = until.aborted && error === until.reason;
      const isTooLate = error instanceof DOMException && error.name === "TimeoutError";
      if (!isHopeless && !isTooLate) throw error;
      const message = isHopeless
        ? `Cannot relay: ${messageOf(error)}`
        : `Cannot relay: no connection over a relay in ${this.#timeoutMs / 1000} s`;
      throw new UnreachableError(message, this.#attempts, { cause: error });
    }
  }

  /** Moves the connection to a path, encrypted with keys of its own. */
  async #use(
    connection: TcpConnection,
    channelBinding: Uint8Array,
    report: Omit<PathReport, "attempts">,
  ): Promise<void> {
    const { session, role } = this.#options;
    const { remoteKey } = this.#options.connection;
    const { connectionKey } = await session.ready;
    const keys = pathKeys(connectionKey, channelBinding, role);
    const encrypted = secureConnectionFromKeys(connection, { ...keys, remoteStaticKey: remoteKey });
    const path = { ...report, connection: encrypted, attempts: this.#attempts };
    this.#moves.push(this.#move(path));
  }

  /** Fails if a better path was faster, the path was lost, or the connection has ended. */
  async #move(path: FoundPath): Promise<boolean> {
    try {
      await this.#options.connection.move(path);
      return true;
    } catch (error) {
      this.#context.logger?.debug(`connect: ${error}`);
      return false;
    }
  }

  /** Public addresses that this side's dials may come from, as far as they are known. */
  async #externalIps(): Promise<string[]> {
    if (this.#base === undefined) return [];
    const [base] = await Promise.allSettled([this.#base]);
    if (base.status === "rejected") return [];
    const { profile, candidates } = base.value.description;
    const ips = [profile.externalIp, ...candidates.map(({ address }) => address.ip)];
    return [...new Set(ips.filter((ip) => ip !== null))].filter(isRoutable);
  }
}

/** What a search that has failed tells the other side about it; `undefined` if it failed in another way. */
export function foundNothing(error: unknown): FoundNothing | undefined {
  if (!(error instanceof UnreachableError)) return undefined;
  for (let cause: unknown = error; cause instanceof PunchlineError; cause = cause.cause) {
    if (!(cause instanceof RefusedError)) continue;
    return { relayCode: cause.code >= 300 && cause.code <= 699 ? cause.code : null };
  }
  return { relayCode: null };
}

/** The reason for a search to end, after the other side's has found nothing. */
export function hopelessError({ relayCode }: FoundNothing): Error {
  const why = relayCode === null ? "" : `: its relay server refused it (${relayCode})`;
  return new NetworkError(`the other side has found no path${why}`, "closed");
}

/** Whether a relay on the internet can see the address. */
function isRoutable(ip: string): boolean {
  const scope = ipScope(ip);
  return scope === "global" || scope === "documentation";
}

/** Chosen by us: with a plan less likely than this, a relay is as likely to be needed as not. */
const LIKELY = 0.5;

/**
 * How long direct paths have before a relay is tried, from the moment there is a plan. Chosen by us: a punch takes one
 * round trip, which is rarely longer, or two if a SYN is lost; and a relay costs its owner something.
 */
const RELAY_AFTER_MS = 1000;
