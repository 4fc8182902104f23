/**
 * Searches for paths to a peer over a signaling session, and moves a connection to each that it finds: the direct ones,
 * all at once, and a little later one over a relay. A relay that is faster does not end the search for a direct path.
 *
 * The dialer and the listener both use it; the two sides search at the same time.
 *
 * @module
 */

import { toHex } from "../base/bytes.ts";
import { type ConnectionAttempt, UnreachableError } from "../base/errors.ts";
import type { PathKind, PunchMethodName } from "../base/path_kind.ts";
import { TaskGroup } from "../base/tasks.ts";
import { Deadline, ResettableTimer } from "../base/timers.ts";
import type { TcpConnection } from "../net/network.ts";
import { type SecureConnection, secureConnectionFromKeys } from "../noise/secure_connection.ts";
import type { AttemptRecord, DialBudget } from "../punch/nomination.ts";
import { type BaseSocket, type PunchPlan, type PunchRole, punchWithin } from "../punch/punch.ts";
import type { DatagramPath, FoundUdpPath, UdpRace } from "../punch/udp_punch.ts";
import type { UdpConnection } from "../udp/udp_connection.ts";
import type { PeerContext } from "./context.ts";
import { MtuHoleError, type MtuHoleMemory, PathCheck, UDP_ONLY } from "./path_check.ts";
import {
  initialPathSearchState,
  pathSearchWakeAtMs,
  stepPathSearch,
} from "./path_search_engine.ts";
import type {
  PathSearchAction,
  PathSearchEvent,
  PathSearchState,
  SearchedPath,
} from "./path_search_types.ts";
import { remedyWithoutRelay, searchError } from "./search_failure.ts";
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
  /** Round trips that were measured over paths that it does not use. */
  readonly rttsMs: { udp?: number };
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

/** The driver of one search: carries out what {@linkcode stepPathSearch} decides. */
class PathSearch {
  readonly #context: PeerContext;
  readonly #options: PathSearchOptions;
  readonly #timeoutMs: number;
  readonly #base: Promise<BaseSocket> | undefined;
  readonly #budget: DialBudget;
  /** The punch by UDP beside the one by TCP, if there is one. */
  readonly #udp: UdpRace | undefined;
  /** Ends the punch by TCP, which then reports what it has tried. */
  readonly #tcpEnd = new AbortController();
  /** The same for the relay. */
  readonly #relayEnd = new AbortController();
  readonly #timer = new ResettableTimer(() => this.#dispatch({ kind: "time" }));
  readonly #tasks = new TaskGroup((error) => this.#result.reject(error));
  readonly #result = Promise.withResolvers<boolean>();
  /** Resolves once a relay carries the connection, or no relay is needed or to be had. */
  readonly #relaySettled = Promise.withResolvers<void>();
  readonly #relayAttempts: AttemptRecord[] = [];
  #directAttempts: readonly ConnectionAttempt[] = [];
  /** What the engine knows by number. */
  readonly #found = new Map<number, UnsecuredPath>();
  /** For the first punch, which uses it up. */
  #ready: BaseSocket | undefined;
  #paths = 0;
  #state: PathSearchState;

  constructor(context: PeerContext, options: PathSearchOptions) {
    const { session, role, signal, isRelayOnly, mayFallBack } = options;
    const { timings, baseSockets, isProxied } = context;
    this.#context = context;
    this.#options = options;
    this.#timeoutMs = session.isManual ? timings.manualMs : timings.connectMs;
    this.#base = isRelayOnly ? undefined : baseSockets?.take(signal, session.near);
    this.#budget = context.budgets.begin(toHex(options.connection.remoteKey), performance.now());
    const isDirect = this.#base !== undefined;
    this.#udp = isDirect && options.transport !== "tcp"
      ? context.udp?.race({
        network: context.network,
        role,
        isManual: session.isManual,
        pathKinds: context.punchOptions.pathKinds ?? new Set(),
        budget: this.#budget,
        onPath: (path) => this.#onUdpPath(path),
        onConfirmed: () => this.#dispatch({ kind: "udp confirmed" }),
      })
      : undefined;
    this.#state = initialPathSearchState({
      role,
      isDirect,
      mayRelay: this.#mayRelay,
      isProxied,
      mayFallBack,
      timeoutMs: this.#timeoutMs,
    });
  }

  async run(): Promise<boolean> {
    const { session, hopeless, signal } = this.#options;
    const onAbort = () => this.#dispatch({ kind: "aborted" });
    signal.addEventListener("abort", onAbort, { once: true });
    hopeless.then((reason) => this.#dispatch({ kind: "hopeless", reason }));
    session.relayMessage.then(() => this.#dispatch({ kind: "relay asked for" }));
    try {
      if (signal.aborted) onAbort();
      this.#dispatch({ kind: "start" });
      return await this.#result.promise;
    } finally {
      signal.removeEventListener("abort", onAbort);
      this.#timer.clear();
      this.#tcpEnd.abort();
      this.#relayEnd.abort();
      await this.#tasks.stop();
    }
  }

  #dispatch(event: PathSearchEvent): void {
    const { state, actions } = stepPathSearch(this.#state, event, performance.now());
    this.#state = state;
    for (const action of actions) this.#perform(action);
    if (this.#state.relay.stage === "over") this.#relaySettled.resolve();
    const wakeAtMs = pathSearchWakeAtMs(this.#state);
    if (wakeAtMs === Infinity) this.#timer.clear();
    else this.#timer.set(Math.max(0, wakeAtMs - performance.now()));
  }

  #perform(action: PathSearchAction): void {
    switch (action.kind) {
      case "answer":
        return this.#run(() => this.#answerAlone());
      case "prepare":
        return this.#run(() => this.#prepare());
      case "punch":
        return this.#run(() => this.#punch());
      case "stop tcp":
        return this.#tcpEnd.abort(action.reason);
      case "yield udp":
        return this.#udp?.yield();
      case "stop udp":
        return this.#udp?.stop();
      case "end udp":
        return this.#run(() => this.#endUdp());
      case "open relay":
        return this.#run(() => this.#openRelay());
      case "stop relay":
        return this.#relayEnd.abort(action.reason);
      case "move":
        return void this.#move(action.path);
      case "reset":
        return this.#forget(action.path).connection.reset();
      case "finish":
        return this.#finish(action);
    }
  }

  /** Runs a job that ends with an event. */
  #run(job: () => Promise<PathSearchEvent>): void {
    this.#tasks.run(async () => this.#dispatch(await job()));
  }

  /** On abort, the connection itself completes a move under way. */
  #finish({ hasFound, hasMoved, failures }: Extract<PathSearchAction, { kind: "finish" }>): void {
    const { signal, session: { isManual } } = this.#options;
    if (signal.aborted) return this.#result.reject(signal.reason);
    if (hasFound) return this.#result.resolve(hasMoved);
    const remedy = this.#mayRelay ? undefined : remedyWithoutRelay({ ...this.#context, isManual });
    this.#result.reject(searchError(failures, this.#attempts, remedy));
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

  async #answerAlone(): Promise<PathSearchEvent> {
    try {
      await this.#answer();
      return { kind: "answered" };
    } catch (error) {
      const [base] = await Promise.allSettled([this.#base]);
      if (base.status === "fulfilled") await base.value?.[Symbol.asyncDispose]();
      return { kind: "answer failed", error };
    }
  }

  async #answer(): Promise<void> {
    const { role, session } = this.#options;
    if (role === "controlled" && !session.isOpen) await sendEmpty(session);
  }

  async #prepare(): Promise<PathSearchEvent> {
    try {
      this.#ready = await this.#orAnswer(this.#base!);
      return { kind: "prepared" };
    } catch (error) {
      return { kind: "direct failed", error };
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

  async #punch(): Promise<PathSearchEvent> {
    const { network, punchOptions } = this.#context;
    const { session, role, signal, connection, transport: only } = this.#options;
    const base = this.#ready;
    this.#ready = undefined;
    try {
      const punched = await punchWithin(this.#budget, {
        ...punchOptions,
        ...connection.mtuHole.isKnown || only === "udp" ? { pathKinds: UDP_ONLY } : {},
        network,
        role,
        base,
        timeoutMs: this.#timeoutMs,
        channel: session.channel(CHANNELS.punch),
        onPlan: (plan) => this.#onPlan(plan),
        onUdpAwaited: () => this.#dispatch(NO_WAY_BY_TCP), // the relay does not wait
        beforeSpray: this.#mayRelay ? () => this.#relayFirst() : undefined,
        udp: this.#udp,
        udpPunching: this.#context.udp,
        until: this.#tcpEnd.signal,
        signal,
      });
      const { kind, method, transport, punchMs, channelBinding, attempts } = punched.punch;
      this.#addDirect(attempts);
      connection.rttsMs.udp ??= this.#udp?.rttMs;
      const report = { kind, method, transport, punchMs, isRelayed: false };
      const path = this.#remember({ connection: punched, channelBinding, report });
      return { kind: "punched", path, isHoleKnown: connection.mtuHole.isKnown };
    } catch (error) {
      if (error instanceof UnreachableError) this.#addDirect(error.attempts);
      return { kind: "direct failed", error };
    }
  }

  #addDirect(attempts: readonly ConnectionAttempt[]): void {
    this.#directAttempts = [...this.#directAttempts, ...attempts];
  }

  /** A NAT may have no session left for a relay once many sockets have dialled. */
  async #relayFirst(): Promise<void> {
    using deadline = new Deadline(RELAY_FIRST_MS, this.#options.signal);
    try {
      await abortable(this.#relaySettled.promise, deadline.signal);
    } catch { /* it takes too long, or the search is over */ }
  }

  #onPlan({ method, successEstimate }: PunchPlan): void {
    const chance = Math.max(successEstimate, this.#udp?.successEstimate ?? 0);
    this.#dispatch({ kind: "planned", method, successEstimate: chance });
  }

  async #endUdp(): Promise<PathSearchEvent> {
    await this.#udp?.end();
    return { kind: "udp over" };
  }

  async #openRelay(): Promise<PathSearchEvent> {
    try {
      return { kind: "relay found", path: this.#remember(await this.#relayedPath()) };
    } catch (error) {
      return { kind: "relay failed", error };
    }
  }

  async #relayedPath(): Promise<UnsecuredPath> {
    const { network, relays, isHidden, dialPolicy } = this.#context;
    const { session, role, signalingUrls } = this.#options;
    const until = AbortSignal.any([this.#options.signal, this.#relayEnd.signal]);
    const { connectionKey } = await abortable(session.ready, until);
    const { openRelayPath } = await import("./relay_path.ts"); // few connections need it
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
    const punchMs = performance.now() - startedAtMs;
    const report = {
      kind: "relay",
      method: null,
      transport: "tcp",
      punchMs,
      isRelayed: true,
    } as const;
    return { connection, channelBinding, report };
  }

  /** Uses a path over UDP at once; TCP may still find a better one. */
  #onUdpPath({ connection, channelBinding, kind, method, punchMs }: FoundUdpPath): void {
    const { inBackground, closed, udp } = this.#context;
    inBackground(() => udp!.releasedSoon(connection, closed));
    const report = { kind, method, transport: "udp", punchMs, isRelayed: false } as const;
    const path = this.#remember({ connection, channelBinding, report, udp: connection });
    this.#dispatch({ kind: "udp found", path });
  }

  #remember(found: UnsecuredPath): SearchedPath {
    const { kind, transport, isRelayed } = found.report;
    const id = this.#paths++;
    this.#found.set(id, found);
    return { id, kind, transport, isRelayed };
  }

  #forget({ id }: SearchedPath): UnsecuredPath {
    const found = this.#found.get(id)!;
    this.#found.delete(id);
    return found;
  }

  /**
   * Moves the connection to a path, encrypted with keys of its own. It fails if a better path was faster, the path was lost,
   * or the connection has ended.
   */
  async #move(path: SearchedPath): Promise<void> {
    const { role, connection: user } = this.#options;
    const found = this.#forget(path);
    const { connection, report } = found;
    const isChecked = report.transport === "tcp" && !report.isRelayed;
    const check = isChecked ? new PathCheck(connection, report.punchMs, user) : undefined;
    let hasMoved = false;
    try {
      const secured = await this.#secured(found, check?.connection ?? connection);
      const moved = user.move(secured);
      await (check?.passed(moved, role, user) ?? moved);
      hasMoved = true;
    } catch (error) {
      if (error instanceof MtuHoleError) {
        this.#directAttempts = user.mtuHole.note(
          { connection, kind: report.kind },
          this.#directAttempts,
        );
      }
      this.#context.logger?.debug(`connect: ${error}`);
    }
    this.#dispatch({ kind: "moved", path, hasMoved });
  }

  /** The path with keys of its own. If the session has ended, there are none, and the path is reset. */
  async #secured(
    { channelBinding, report, udp }: UnsecuredPath,
    connection: TcpConnection,
  ): Promise<FoundPath> {
    const { session, role, connection: { remoteKey } } = this.#options;
    try {
      const { connectionKey } = await session.ready;
      const keys = { ...pathKeys(connectionKey, channelBinding, role), remoteStaticKey: remoteKey };
      const overUdp = udp === undefined ? {} : {
        udp,
        datagrams: this.#context.udp!.datagrams(
          udp,
          datagramKeys(connectionKey, channelBinding, role),
        ),
      };
      const encrypted = secureConnectionFromKeys(connection, keys);
      return { ...report, connection: encrypted, ...overUdp, attempts: this.#attempts };
    } catch (error) {
      connection.reset();
      throw error;
    }
  }

  /** What a TURN server has to let in; a rendezvous relay needs none. */
  async #externalIps(): Promise<string[]> {
    const { isProxied, rendezvousOf } = this.#context;
    const waits = !isProxied || rendezvousOf(this.#options.signalingUrls).length === 0;
    if (this.#base === undefined || !waits) return [];
    const [base] = await Promise.allSettled([this.#base]);
    return base.status === "rejected" ? [] : base.value.externalIps;
  }
}

/** A path that was found, before it is encrypted. */
interface UnsecuredPath {
  readonly connection: TcpConnection;
  readonly channelBinding: Uint8Array;
  readonly report: Omit<PathReport, "attempts">;
  /** The connection, if it is one over UDP. */
  readonly udp?: UdpConnection;
}

/** How long many sockets wait for a relay. Chosen by us: a relay takes four round trips, to a server that is far away. */
const RELAY_FIRST_MS = 2000;

/** What is known of a punch while it waits for UDP. */
const NO_WAY_BY_TCP = { kind: "planned", method: "impossible", successEstimate: 0 } as const;
