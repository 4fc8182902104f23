/**
 * Searches for paths to a peer over a signaling session, and moves a connection to each that it finds: the direct ones,
 * all at once, and a little later one over a relay. A relay that is faster does not end the search for a direct path.
 *
 * The dialer and the listener both use it; the two sides search at the same time.
 *
 * @module
 */

import { toHex } from "../base/bytes.ts";
import { type ConnectionAttempt, messageOf, UnreachableError } from "../base/errors.ts";
import type { PathKind, PunchMethodName } from "../base/path_kind.ts";
import { optionalResolvers, TaskGroup } from "../base/tasks.ts";
import { Deadline, ResettableTimer } from "../base/timers.ts";
import { ipScope } from "../net/address.ts";
import type { TcpConnection } from "../net/network.ts";
import { type SecureConnection, secureConnectionFromKeys } from "../noise/secure_connection.ts";
import type { AttemptRecord, DialBudget } from "../punch/nomination.ts";
import {
  type BaseSocket,
  type PunchedConn,
  type PunchPlan,
  type PunchRole,
  punchWithin,
} from "../punch/punch.ts";
import type { DatagramPath, FoundUdpPath, UdpRace } from "../punch/udp_punch.ts";
import type { UdpConnection } from "../udp/udp_connection.ts";
import type { PeerContext } from "./context.ts";
import { MtuHoleError, type MtuHoleMemory, PathCheck, UDP_ONLY } from "./path_check.ts";
import { openRelayPath } from "./relay_path.ts";
import { lostError, remedyWithoutRelay, searchError } from "./search_failure.ts";
import type { ConnectionRequest } from "./signaling_message.ts";
import { CHANNELS, sendEmpty, type SignalingSession } from "./signaling_session.ts";
import { datagramKeys, pathKeys } from "./ticket.ts";
import { abortable } from "@std/async/abortable";

/** What to search for. */
export interface PathSearchOptions {
  readonly session: SignalingSession;
  readonly role: PunchRole;
  /** As the connection request says. */
  readonly wants: ConnectionRequest["wants"];
  /** Whether this side makes no direct path. Default: `false`. */
  readonly isRelayOnly?: boolean;
  /** The transport of the only direct paths to search for. Default: both. */
  readonly transport?: "tcp" | "udp";
  /** URLs of signaling servers that both sides may use: those that are a rendezvous may have a relay. */
  readonly signalingUrls: readonly string[];
  /** What the paths are for. */
  readonly connection: PathUser;
  /** Whether the connection outlives a path that is lost before it carries a byte. */
  readonly mayFallBack: boolean;
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
  /** The round trip of the path that it uses, once the other side has answered over it. */
  readonly rttMs: number | undefined;
  /** What is known of MTU holes in direct paths by TCP. */
  readonly mtuHole: MtuHoleMemory;
}

/** A path to the peer. */
export interface FoundPath extends PathReport {
  /** Encrypted, with the peer at the other end. */
  readonly connection: SecureConnection;
  /** Carries datagrams beside the stream, if it can. */
  readonly datagrams?: DatagramPath;
  /** What it runs over, if that is UDP: it answers from another address. */
  readonly udp?: Pick<UdpConnection, "local" | "remote" | "probe">;
}

/** How a path was found. */
export interface PathReport {
  /** The kind of path. */
  readonly kind: PathKind;
  /** How it got through the filters of both sides; `null` unless `kind` is `"punch-tcp"` or `"punch-udp"`. */
  readonly method: PunchMethodName | null;
  /** The transport protocol. */
  readonly transport: "tcp" | "udp";
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
    const remedy = "Leave `strategies` out, and `relayOnly`";
    throw new UnreachableError(message, [], { remedy });
  }
  const hasMoved = await new PathSearch(context, options).run();
  // Only now: its dials would disturb the prediction of ports. After a failure the network may be about to change.
  if (!session.isManual) context.baseSockets?.warmBriefly();
  return hasMoved;
}

class PathSearch {
  readonly #context: PeerContext;
  readonly #options: PathSearchOptions;
  readonly #timeoutMs: number;
  readonly #base: Promise<BaseSocket> | undefined;
  readonly #budget: DialBudget;
  /** The punch by UDP beside the one by TCP, if there is one. */
  readonly #udp: UdpRace | undefined;
  /** Set once there is a path over UDP: how long TCP has to find one that may be better. */
  readonly #tcpTimer = new ResettableTimer(() => void this.#tcp.stop(TCP_IS_LATE));
  readonly #tcp = new TaskGroup(() => {}); // for its signal: punch() has no other task
  /** The path that this search has found, if any. */
  #best: Omit<PathReport, "attempts"> | undefined;
  /** The one that the connection moved to last. */
  #used: Omit<PathReport, "attempts"> | undefined;
  /** Ends the search for a relayed path alone; what it throws after that does not count. */
  readonly #directFound = new AbortController();
  /** Ends both searches, which then report what they have tried. */
  readonly #hopeless = new AbortController();
  /** Resolves when it is time to try a relay. */
  readonly #relayTurn = optionalResolvers<void>();
  /** Resolves once a relay is open, or there will be none. */
  readonly #relaySettled = optionalResolvers<void>();
  readonly #relayTimer = new ResettableTimer(() => this.#relayTurn.resolve());
  /** Ends both searches a while after a direct path was lost: by then one of the two sides starts over. */
  readonly #lostTimer = new ResettableTimer(() => this.#hopeless.abort(lostError()));
  readonly #relayAttempts: AttemptRecord[] = [];
  #directAttempts: readonly ConnectionAttempt[] = [];
  /** Whether the connection moved to each of the paths. */
  readonly #moves: Promise<boolean>[] = [];
  /** The same of the direct path that was found last. */
  #directMove: Promise<boolean> | undefined;

  constructor(context: PeerContext, options: PathSearchOptions) {
    const { session, signal, hopeless } = options;
    const { timings, baseSockets } = context;
    hopeless.then((reason) => this.#hopeless.abort(reason));
    // The other side has no direct path to hope for, or has waited long enough.
    session.relayMessage.then(() => this.#relayTurn.resolve());
    this.#context = context;
    this.#options = options;
    this.#timeoutMs = session.isManual ? timings.manualMs : timings.connectMs;
    this.#base = options.isRelayOnly ? undefined : baseSockets?.take(signal);
    this.#budget = context.budgets.begin(toHex(options.connection.remoteKey), performance.now());
    const noUdp = this.#base === undefined || options.transport === "tcp";
    this.#udp = noUdp ? undefined : context.udp?.race({
      network: context.network,
      role: options.role,
      isManual: session.isManual,
      pathKinds: context.punchOptions.pathKinds ?? new Set(),
      budget: this.#budget,
      onPath: (path) => void this.#useUdp(path),
      onConfirmed: () => this.#onUdpConfirmed(),
    });
  }

  async run(): Promise<boolean> {
    const { signal } = this.#options;
    const stopUdp = () => this.#udp?.stop();
    const either = AbortSignal.any([signal, this.#hopeless.signal]);
    either.addEventListener("abort", stopUdp, { once: true });
    const searches: Promise<void>[] = [];
    // A network that takes a proxy to get out of is likely to let nothing else out.
    if (this.#base === undefined || this.#context.isProxied) {
      this.#relayTurn.resolve();
      await this.#answer();
    }
    if (this.#base !== undefined) searches.push(this.#findDirect(this.#base));
    if (this.#mayRelay) searches.push(this.#findRelayed().finally(this.#relaySettled.resolve));
    else this.#relaySettled.resolve();
    const results = await Promise.allSettled(searches);
    this.#relayTimer.clear();
    this.#lostTimer.clear();
    this.#tcpTimer.clear();
    either.removeEventListener("abort", stopUdp);
    signal.throwIfAborted();
    if (this.#moves.length === 0) throw this.#failure(results);
    // On abort, the connection itself completes a move under way.
    return (await abortable(Promise.all(this.#moves), signal)).includes(true);
  }

  /** Manual signaling carries one message each way, which is too little for relays. */
  get #mayRelay(): boolean {
    const { session, wants } = this.#options;
    return this.#context.mayRelay && wants === "any" && !session.isManual;
  }

  get #attempts(): ConnectionAttempt[] {
    const relayed = this.#relayAttempts.map((each) => each.toAttempt());
    return [...this.#directAttempts, ...this.#udp?.attempts ?? [], ...relayed];
  }

  #failure(results: readonly PromiseSettledResult<void>[]): unknown {
    const reasons = results.flatMap((each) => each.status === "rejected" ? [each.reason] : []);
    const { session: { isManual } } = this.#options;
    const remedy = this.#mayRelay ? undefined : remedyWithoutRelay({ ...this.#context, isManual });
    return searchError(reasons, this.#attempts, remedy);
  }

  /** A path may die before it carries a byte: only one over which the other side was heard ends the search for others. */
  async #findDirect(readyBase: Promise<BaseSocket>): Promise<void> {
    const { signal } = this.#options;
    const udpTimer = new ResettableTimer(() => this.#udp?.stop());
    try {
      let base: BaseSocket | undefined = await this.#orAnswer(readyBase);
      udpTimer.set(this.#timeoutMs);
      for (let punches = 0; punches < MAX_PUNCHES; punches++) {
        const connection = await this.#punch(base);
        this.#udp?.yield(); // if the path dies at once, the next punch tries UDP again
        base = undefined; // it is used up
        const { kind, method, transport, punchMs, channelBinding, attempts } = connection.punch;
        this.#directAttempts = [...this.#directAttempts, ...attempts];
        const report = { kind, method, transport, punchMs, isRelayed: false };
        this.#directMove = this.#use(connection, channelBinding, report);
        if (await abortable(this.#directMove, signal) || !this.#options.mayFallBack) {
          return this.#directFound.abort();
        }
        if (this.#best?.transport === "udp") return; // that is the better one
        this.#relayTurn.resolve();
        if (punches === 0) this.#lostTimer.set(AFTER_LOSS_MS);
      }
    } catch (error) {
      if (error instanceof UnreachableError) {
        this.#directAttempts = [...this.#directAttempts, ...error.attempts];
      }
      await this.#udp?.end(); // it may still find a path
      if (this.#best?.transport !== "udp") throw error;
    } finally {
      udpTimer.clear();
      this.#udp?.stop();
      await this.#udp?.end();
      this.#relayTurn.resolve();
    }
  }

  #punch(base: BaseSocket | undefined): Promise<PunchedConn> {
    const { network, punchOptions } = this.#context;
    const { session, role, signal, connection, transport } = this.#options;
    return punchWithin(this.#budget, {
      ...punchOptions,
      ...connection.mtuHole.isKnown || transport === "udp" ? { pathKinds: UDP_ONLY } : {},
      network,
      role,
      base,
      timeoutMs: this.#timeoutMs,
      channel: session.channel(CHANNELS.punch),
      onPlan: (plan) => this.#onPlan(plan),
      beforeSpray: this.#mayRelay ? () => this.#relayFirst() : undefined,
      udp: this.#udp,
      udpPunching: this.#context.udp,
      until: AbortSignal.any([this.#hopeless.signal, this.#tcp.signal]),
      signal,
    });
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

  /** A NAT may have no session left for a relay once many sockets have dialled. */
  async #relayFirst(): Promise<void> {
    using deadline = new Deadline(RELAY_FIRST_MS, this.#options.signal);
    try {
      await abortable(this.#relaySettled.promise, deadline.signal);
    } catch { /* it takes too long, or the search is over */ }
  }

  /** If the plan is unlikely to work, or takes many sessions, the relay does not wait for it to fail. */
  #onPlan({ method, successEstimate }: PunchPlan): void {
    const udp = this.#udp?.successEstimate ?? 0;
    const isFirst = method === "birthday" || Math.max(successEstimate, udp) < LIKELY;
    if (isFirst) this.#relayTurn.resolve();
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
      if (await this.#isDirectUsed(signal)) return connection.reset(); // it was found at the same moment
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

  /** Uses a path over UDP at once; TCP may still find a better one. */
  async #useUdp({ connection, channelBinding, ...found }: FoundUdpPath): Promise<void> {
    const { kind, method, punchMs } = found;
    const report = { kind, method, transport: "udp", punchMs, isRelayed: false } as const;
    const { inBackground, closed } = this.#context;
    inBackground(() => this.#context.udp!.releasedSoon(connection, closed));
    try {
      const { connectionKey } = await this.#options.session.ready;
      const keys = datagramKeys(connectionKey, channelBinding, this.#options.role);
      const datagrams = this.#context.udp!.datagrams(connection, keys);
      const overUdp = { datagrams, udp: connection };
      await (this.#directMove = this.#use(connection, channelBinding, report, overUdp));
    } catch (error) {
      connection.reset();
      this.#context.logger?.debug(`connect: ${error}`); // the session has ended
    }
  }

  #onUdpConfirmed(): void {
    this.#directFound.abort();
    this.#tcpTimer.set(TCP_MS);
  }

  /** Whether a direct path that was found carries bytes; one that has not for a while does not count. */
  async #isDirectUsed(signal: AbortSignal): Promise<boolean> {
    if (signal.aborted || this.#directMove === undefined) return signal.aborted;
    using deadline = new Deadline(UNUSED_MS, signal);
    try {
      return await abortable(this.#directMove, deadline.signal);
    } catch {
      return signal.aborted;
    }
  }

  /**
   * Moves the connection to a path, encrypted with keys of its own, unless there is a better one; resolves with whether it
   * did.
   */
  async #use(
    connection: TcpConnection,
    channelBinding: Uint8Array,
    report: Omit<PathReport, "attempts">,
    overUdp?: Pick<FoundPath, "datagrams" | "udp">,
  ): Promise<boolean> {
    const { session, role, connection: user, connection: { remoteKey } } = this.#options;
    // The controlling side decides; its end of a path that is not better is reset.
    const isChecked = report.transport === "tcp" && !report.isRelayed;
    const isWanted = role === "controlled" ||
      !(isChecked && user.mtuHole.isKnown) &&
        (this.#best === undefined || isBetter(report, this.#best));
    if (!isWanted) {
      connection.reset();
      return false;
    }
    this.#best = report;
    const check = isChecked ? new PathCheck(connection, report.punchMs, user) : undefined;
    const { connectionKey } = await session.ready;
    const keys = { ...pathKeys(connectionKey, channelBinding, role), remoteStaticKey: remoteKey };
    const encrypted = secureConnectionFromKeys(check?.connection ?? connection, keys);
    const path = { ...report, connection: encrypted, ...overUdp, attempts: this.#attempts };
    const move = this.#move(path, check).then((hasMoved) => {
      if (hasMoved) this.#used = report;
      else if (this.#best === report) this.#best = this.#used; // another one may take its place
      return hasMoved;
    });
    this.#moves.push(move);
    return await move;
  }

  /** Fails if a better path was faster, the path was lost, or the connection has ended. */
  async #move(path: FoundPath, check: PathCheck | undefined): Promise<boolean> {
    const { role, connection } = this.#options;
    try {
      const moved = connection.move(path);
      await (check?.passed(moved, role, connection) ?? moved);
      return true;
    } catch (error) {
      if (error instanceof MtuHoleError) {
        this.#directAttempts = connection.mtuHole.note(path, this.#directAttempts);
      }
      this.#context.logger?.debug(`connect: ${error}`);
      return false;
    }
  }

  /** Public addresses that this side's dials may come from, as far as they are known: a rendezvous relay needs none. */
  async #externalIps(): Promise<string[]> {
    const { isProxied, rendezvousOf } = this.#context;
    const waits = !isProxied || rendezvousOf(this.#options.signalingUrls).length === 0;
    if (this.#base === undefined || !waits) return [];
    const [base] = await Promise.allSettled([this.#base]);
    if (base.status === "rejected") return [];
    const { profile: { externalIp }, candidates } = base.value.description;
    const ips = new Set([externalIp ?? [], ...candidates.map(({ address }) => address.ip)].flat());
    return [...ips].filter(isRoutable);
  }
}

/**
 * Whether a path is better than another one of the same search: direct before relayed, near before far, then TCP before UDP,
 * because the system's congestion control costs less than ours, and firewalls keep its sessions for longer.
 */
export function isBetter(
  found: Pick<PathReport, "kind" | "transport" | "isRelayed">,
  other: Pick<PathReport, "kind" | "transport" | "isRelayed">,
): boolean {
  if (found.isRelayed !== other.isRelayed) return !found.isRelayed;
  if (distanceOf(found) !== distanceOf(other)) return distanceOf(found) < distanceOf(other);
  return found.transport === "tcp" && other.transport === "udp";
}

function distanceOf({ kind }: Pick<PathReport, "kind">): number {
  return kind === "host" ? 0 : kind === "lan" ? 1 : 2;
}

/** Whether a relay on the internet can see the address. */
function isRoutable(ip: string): boolean {
  const scope = ipScope(ip);
  return scope === "global" || scope === "documentation";
}

/** Chosen by us: two retransmissions of a SYN, or the round trips of a proof over a slow path. */
const TCP_MS = 2000;

/** Why the search by TCP ends before its time. */
const TCP_IS_LATE = new DOMException("UDP has found a path", "AbortError");

/** How long many sockets wait for a relay. Chosen by us: a relay takes four round trips, to a server that is far away. */
const RELAY_FIRST_MS = 2000;

/** Chosen by us: a path that dies at once twice in a row does so for a reason. */
const MAX_PUNCHES = 3;

/** How long the search goes on after that. Chosen by us: a relay takes a few round trips, a punch a second. */
const AFTER_LOSS_MS = 3000;

/** How long a direct path has to prove its use while a relayed one is ready. Chosen by us: two of the longest round trips. */
const UNUSED_MS = 600;

/** Chosen by us: with a plan less likely than this, a relay is as likely to be needed as not. */
const LIKELY = 0.5;

/**
 * How long direct paths have before a relay is tried, from the moment there is a plan. Chosen by us: a punch takes one
 * round trip, which is rarely longer, or two if a SYN is lost; and a relay costs its owner something.
 */
const RELAY_AFTER_MS = 1000;
