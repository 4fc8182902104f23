/**
 * A request for a connection, as the application sees it.
 *
 * @module
 */

import { toBase64url, toHex } from "../base/bytes.ts";
import { NetworkError, RefusedError } from "../base/errors.ts";
import { withoutLogin } from "../base/login.ts";
import { optionalResolvers, TaskGroup } from "../base/tasks.ts";
import { MAX_TIMER_MS, ResettableTimer } from "../base/timers.ts";
import { isShortage } from "../net/shortage.ts";
import type { SignalingConnection } from "../signal/transport.ts";
import type { AcceptedConnections, ConnectionSearches, MadeFor } from "./accepted_connections.ts";
import { type PeerConnection, TICKET_GONE } from "./connection.ts";
import type { AllowList, PeerContext } from "./context.ts";
import {
  initialRequestState,
  type PlacedRequest,
  type RequestAction,
  type RequestCheck,
  type RequestEvent,
  type RequestState,
  type SearchFailure,
  stepRequest,
} from "./listener_engine.ts";
import { searchPaths } from "./path_search.ts";
import { noRoomError, REJECTION_CODES, shortageError } from "./rejection.ts";
import { foundNothing, hopelessError } from "./search_failure.ts";
import { MAX_RENDEZVOUS } from "./relay_message.ts";
import type { ResponderHandshake } from "./signaling_handshake.ts";
import type { ConnectionRequest, FoundNothing, Rejection } from "./signaling_message.ts";
import {
  receiveRejection,
  ResponderSession,
  sendEmpty,
  sendRejection,
} from "./signaling_session.ts";
import type { ListenedTicket } from "./tickets.ts";
import { abortable } from "@std/async/abortable";

/** What carries out the application's decision. */
export interface IncomingDecisions {
  accept(signal: AbortSignal | undefined): Promise<PeerConnection>;
  refuse(reason: "refused" | "busy"): void;
  ignore(): void;
}

/**
 * Another peer that has a ticket of this one and wants to connect. Until the application accepts, nothing is dialled, and
 * the other peer learns nothing about this one.
 */
export class IncomingConnection {
  /** The other side's public key, which it has proved to own; 32 bytes. */
  readonly remoteKey: Uint8Array;
  /** The protocol that the other side asks for; `""` if it names none. */
  readonly protocol: string;
  /** @ignore when the other side was heard last: it repeats its request, unless people carry it */
  heardAtMs: number = performance.now();
  /** Dropped with the decision, since it holds a handshake and a search, and the application may hold this. */
  #decisions: IncomingDecisions | undefined;
  #decision: "accepted" | "refused" | "ignored" | undefined;

  /** @ignore made by {@linkcode Peer} */
  constructor(remoteKey: Uint8Array, protocol: string, decisions: IncomingDecisions) {
    this.remoteKey = remoteKey;
    this.protocol = protocol;
    this.#decisions = decisions;
  }

  /** The other side's public key as text. */
  get remoteId(): string {
    return toBase64url(this.remoteKey);
  }

  /**
   * Connects.
   *
   * @throws {UnreachableError} if there is no path to the other side
   * @throws {NetworkError} `closed` if the request was decided before or the peer is closed; `timed-out` if the other side
   * no longer waits; `reset` if it has given up, or its path was lost at once
   * @throws {MalformedMessageError} if the other side violates the protocol
   * @throws the signal's reason on abort. The other side is told that this one has given up; or that it is busy, if the
   * reason is a {@linkcode RefusedError} with the code {@linkcode REJECTION_CODES}`.busy`
   */
  async accept(options: { signal?: AbortSignal } = {}): Promise<PeerConnection> {
    options.signal?.throwIfAborted();
    if (this.#decision !== undefined) {
      throw new NetworkError(`Cannot accept: already ${this.#decision}`, "closed");
    }
    return await this.#decide("accepted")!.accept(options.signal);
  }

  /** Tells the other side no, or with `"busy"`: not now. Does nothing if the request was decided before. */
  refuse(reason: "refused" | "busy" = "refused"): void {
    this.#decide("refused")?.refuse(reason);
  }

  /** Tells the other side nothing. Does nothing if the request was decided before. */
  ignore(): void {
    this.#decide("ignored")?.ignore();
  }

  /** Only the first decision counts. */
  #decide(decision: "accepted" | "refused" | "ignored"): IncomingDecisions | undefined {
    this.#decision ??= decision;
    const decisions = this.#decisions;
    this.#decisions = undefined;
    return decisions;
  }
}

/** What a request needs. */
export interface IncomingRequestOptions {
  readonly context: PeerContext;
  readonly allows: AllowList;
  /** The application's protocol. Default: any. */
  readonly protocol?: string;
  /** Whether a connection without a path waits for the other side to request it again. */
  readonly reconnects: boolean;
  readonly connections: AcceptedConnections;
  readonly request: ConnectionRequest;
  /** The ticket that the other side used. */
  readonly ticket: ListenedTicket;
  /** The topic that the other side listens to. */
  readonly replyTopic: string;
  /** The signaling connection over which the request arrived. */
  readonly signaling: SignalingConnection;
  /** Shows the request to the application; whether there was room. */
  readonly show: (incoming: IncomingConnection) => boolean;
  /** Takes a request back that the application has not seen yet. */
  readonly withdraw: (incoming: IncomingConnection) => void;
  /** Takes note of a connection before the application gets it. */
  readonly onAccepted: (connection: PeerConnection) => void;
  readonly onClosed: () => void;
}

/** One request. */
export class IncomingRequest {
  /** The signaling session with the other side. */
  readonly session: ResponderSession;
  readonly #remoteKey: Uint8Array;
  readonly #key: string;
  readonly #options: IncomingRequestOptions;
  readonly #timer = new ResettableTimer(() => this.#dispatch({ kind: "time" }));
  readonly #onPeerClosed = () => this.#stop(this.#options.context.closed.reason);
  readonly #onRevoked = () => this.#stop(this.#options.ticket.revoked.reason);
  readonly #closed = Promise.withResolvers<void>();
  /** Every signaling connection over which the other side was heard. */
  readonly #signaling = new Set<SignalingConnection>();
  #state: RequestState;
  #connection: PeerConnection | undefined;
  #shown: IncomingConnection | undefined;
  /** Its place among the searches for a first path, until there is one. */
  #admission: number | undefined;
  readonly #accepted = optionalResolvers<PeerConnection>();
  /** The searches for the connection, of which this request's has a number until it has to end. */
  #searches: ConnectionSearches | undefined;
  #searchNumber: number | undefined;
  #tasks: TaskGroup | undefined;
  /** Whether it waits until it is admitted. */
  #isWaiting = false;
  /** Resolves, with the reason, when the other side has found nothing. */
  readonly #hopeless = optionalResolvers<Error>();
  readonly #made: MadeFor = {
    tell: (event) => this.#dispatch(event),
  };

  constructor(handshake: ResponderHandshake, options: IncomingRequestOptions) {
    const { context, request, replyTopic, signaling } = options;
    const { timings, logger } = context;
    this.#options = options;
    this.#remoteKey = handshake.remoteKey;
    this.#key = toHex(handshake.remoteKey);
    this.session = new ResponderSession(handshake, request.body, (message) => {
      for (const each of this.#signaling) {
        each.publish(replyTopic, message)
          .catch((error) => logger?.debug(`connect: ${withoutLogin(each.url)}: ${error}`));
      }
    });
    this.session.isManual = signaling.isManual ?? false;
    if (signaling.rttMs !== undefined) this.session.rttMs = 2 * signaling.rttMs;
    this.use(signaling);
    this.#state = initialRequestState({
      answerMs: this.session.isManual ? timings.manualMs : timings.answerMs,
      returnMs: this.#mayReturn ? timings.connectMs : 0,
      mayCancel: !this.session.isManual,
    });
  }

  /** Starts handling it. */
  start(): void {
    const { closed } = this.#options.context;
    closed.addEventListener("abort", this.#onPeerClosed, { once: true });
    this.#options.ticket.revoked.addEventListener("abort", this.#onRevoked, { once: true });
    this.#options.context.inBackground(() => this.#closed.promise);
    this.#dispatch({ kind: "start" });
  }

  /** Answers over this signaling connection, too. */
  use(signaling: SignalingConnection): void {
    this.session.heardBy(signaling.url);
    if (this.#shown !== undefined && !this.session.isManual) {
      this.#shown.heardAtMs = performance.now();
    }
    if (this.#signaling.size < MAX_SIGNALING_CONNECTIONS) this.#signaling.add(signaling);
  }

  /** How it counts beside other requests. */
  placed(id: string): PlacedRequest {
    const isKnown = this.#options.request.resumes !== null && this.#connection !== undefined;
    const isProven = isKnown || this.#connection?.hasPath === true;
    return { id, key: this.#key, isProven };
  }

  /** Ends it: another request takes its place. */
  displace(): void {
    this.#dispatch({ kind: "displaced" });
  }

  /** With manual signaling, people would have to carry the request. */
  get #mayReturn(): boolean {
    return this.#options.reconnects && !this.session.isManual;
  }

  #stop(reason?: unknown): void {
    this.#dispatch({ kind: "stop", reason });
  }

  #dispatch(event: RequestEvent): void {
    const { state, actions } = stepRequest(this.#state, event, performance.now());
    this.#state = state;
    for (const action of actions) this.#perform(action);
    const isCancelled = event.kind === "cancelled";
    if (event.kind === "path" || (isCancelled && this.#isWaiting)) this.#leaveAdmission();
    else if (isCancelled && this.#admission !== undefined) {
      this.#options.connections.admission.cancelled(this.#admission);
    }
    if (this.#state.phase === "over") {
      this.#options.context.closed.removeEventListener("abort", this.#onPeerClosed);
      this.#options.ticket.revoked.removeEventListener("abort", this.#onRevoked);
    }
    if (this.#state.untilMs === Infinity) return this.#timer.clear();
    const untilMs = Math.max(0, this.#state.untilMs - performance.now());
    this.#timer.set(Math.min(untilMs, MAX_TIMER_MS));
  }

  #perform(action: RequestAction): void {
    switch (action.kind) {
      case "check":
        return void this.#check();
      case "show":
        return this.#show();
      case "start search":
        return this.#requestSearch();
      case "end search":
        return this.#endSearch(action.reason);
      case "finish search":
        return this.#hopeless.resolve(action.reason);
      case "reject":
        return void this.#reject(action.reason, foundNothing(action.error));
      case "succeed":
        return this.#accepted.resolve(this.#connection!);
      case "fail":
        this.#connection?.reset();
        return this.#accepted.reject(action.error);
      case "close":
        return this.#close();
    }
  }

  #close(): void {
    if (this.#shown !== undefined) this.#options.withdraw(this.#shown);
    this.#made.tell = undefined;
    this.session[Symbol.dispose]();
    this.#options.onClosed();
    this.#closed.resolve();
  }

  /** The list of allowed keys may be a function of the application's, which may take any time, or throw. */
  async #check(): Promise<void> {
    try {
      const isAllowed = await this.#options.allows.decide(this.#remoteKey);
      this.#dispatch({ kind: "checked", check: isAllowed ? this.#whatFor() : "refused" });
    } catch (error) {
      this.#options.context.logger?.warn(`connect: cannot tell who may connect: ${error}`);
      this.#stop(error);
    }
  }

  #whatFor(): RequestCheck {
    const { protocol, request, connections } = this.#options;
    if (protocol !== undefined && request.protocol !== protocol) return "wrong-protocol";
    if (request.resumes === null) return "new";
    this.#connection = connections.find(request.resumes, this.#remoteKey);
    return connections.whyNotResumed(request.resumes, this.#remoteKey) ?? "known";
  }

  /** Lets the application decide. */
  #show(): void {
    const { request, show } = this.#options;
    const incoming = this.#shown = new IncomingConnection(this.#remoteKey, request.protocol, {
      accept: (signal) => this.#accept(signal),
      refuse: (reason) => this.#dispatch({ kind: "refused", reason }),
      ignore: () => this.#dispatch({ kind: "ignored" }),
    });
    if (this.session.isManual) incoming.heardAtMs = Infinity;
    if (!show(incoming)) this.#stop();
  }

  async #accept(signal: AbortSignal | undefined): Promise<PeerConnection> {
    const onAbort = () => {
      const reason: unknown = signal?.reason;
      const isBusy = reason instanceof RefusedError && reason.code === REJECTION_CODES.busy;
      if (isBusy && this.#connection !== undefined) {
        this.#options.connections.turnAway(this.#connection);
      }
      this.#dispatch({ kind: "aborted", reason, isBusy });
    };
    signal?.addEventListener("abort", onAbort, { once: true });
    try {
      const { connections, ticket, context } = this.#options;
      const isShort = connections.hasMany && await connections.isShortOfFiles(context.network);
      if (isShort || signal?.aborted) {
        this.#dispatch({ kind: "refused", reason: "busy" });
        signal?.throwIfAborted();
        throw shortageError();
      }
      if (!ticket.isValid || !connections.hasRoomFor(this.#remoteKey)) {
        this.#dispatch({ kind: "refused", reason: ticket.isValid ? "busy" : "refused" });
        throw noRoomError(ticket);
      }
      this.#dispatch({ kind: "accepted" });
      const connection = await this.#accepted.promise;
      connections.admission.remember(this.#remoteKey);
      const { closed } = this.#options.context;
      const ended = signal === undefined ? closed : AbortSignal.any([closed, signal]);
      await useTicket(ticket, connection, ended);
      this.#options.onAccepted(connection);
      return connection;
    } finally {
      signal?.removeEventListener("abort", onAbort); // now the connection belongs to the caller
    }
  }

  async #reject(
    reason: Rejection["reason"],
    foundNothing: FoundNothing | undefined,
  ): Promise<void> {
    try {
      await sendRejection(this.session, reason, foundNothing);
    } catch (error) {
      this.#stop(error);
    }
  }

  /** It may arrive when the search is over, if what the other side has reset was faster. */
  async #receiveCancellation(): Promise<void> {
    try {
      const { foundNothing } = await receiveRejection(this.session);
      const hopeless = foundNothing === undefined ? null : hopelessError(foundNothing);
      this.#dispatch({ kind: "cancelled", hopeless });
    } catch {
      // the session has ended
    }
  }

  /** Searches for paths as soon as no other search for the connection runs. */
  #requestSearch(): void {
    const { connections, context, request } = this.#options;
    const isNew = this.#connection === undefined;
    const timeoutMs = this.#mayReturn ? context.timings.reconnectMs : 0;
    const connection = this.#connection ??= connections.open(this.#made, {
      ...this.#options,
      protocol: request.protocol,
      remoteKey: this.#remoteKey,
      timeoutMs,
    });
    this.#searches = connections.searchesOf(connection);
    const tasks = this.#tasks = new TaskGroup((error) => {
      context.logger?.debug(`connect: ${error}`);
      this.#endSearch(error, { error, isShortage: isShortage(error) });
    });
    this.#receiveCancellation();
    const start = () => this.#startSearch(tasks, connection, request.wants, isNew);
    this.#searchNumber = this.#searches.request({
      start: isNew ? () => this.#awaitAdmission(start) : start,
      end: (reason) => this.#endSearch(reason),
    });
  }

  /**
   * A peer that has no connection yet waits for its turn among those like it. If it has to, it gets its answer, without
   * which it could not cancel.
   */
  #awaitAdmission(start: () => void): void {
    this.#isWaiting = true;
    this.#admission = this.#options.connections.admission.request(this.#remoteKey, {
      start: () => {
        this.#isWaiting = false;
        start();
      },
      displace: () => this.displace(),
    });
    this.#tasks!.run(async () => {
      await Promise.resolve(); // it starts in the next turn at the earliest
      if (this.#isWaiting) await sendEmpty(this.session);
    });
  }

  #leaveAdmission(): void {
    if (this.#admission === undefined) return;
    const id = this.#admission;
    this.#admission = undefined;
    this.#options.connections.admission.done(id);
  }

  #startSearch(
    tasks: TaskGroup,
    connection: PeerConnection,
    wants: ConnectionRequest["wants"],
    isNew: boolean,
  ): void {
    const { context, connections } = this.#options;
    const { session } = this;
    // The other side has lost the path: what has cut it may have changed what a base socket has learned here.
    if (!isNew && wants === "any") context.baseSockets?.discard();
    tasks.run(async (signal) => {
      const { connectionKey } = await abortable(session.ready, signal);
      if (isNew && this.#mayReturn) {
        connections.remember(connection, connectionKey, this.#options.ticket);
        connection.enableRecall(connectionKey, context.signalingUrls);
      }
    });
    tasks.run(async (signal) => {
      const hopeless = this.#hopeless.promise;
      const signalingUrls = this.#sharedUrls;
      await searchPaths(context, {
        session,
        role: "controlled",
        wants,
        signalingUrls,
        connection,
        mayFallBack: this.#mayReturn,
        hopeless,
        signal,
      });
      this.#endSearch();
    });
  }

  /** Of more rendezvous servers than a side may name, both sides have to name the same: those by which the request came. */
  get #sharedUrls(): readonly string[] {
    const { signalingUrls } = this.#options.context;
    if (signalingUrls.length <= MAX_RENDEZVOUS) return signalingUrls;
    const heard = new Set([...this.#signaling].map(({ url }) => url));
    const shared = signalingUrls.filter((url) => heard.has(url));
    return shared.length > 0 ? shared : signalingUrls;
  }

  /** Ends the search, started or not. It is no failure that a newer one takes its place, or that it has done its job. */
  #endSearch(reason?: unknown, failure: SearchFailure | null = null): void {
    if (this.#searchNumber === undefined) return;
    const number = this.#searchNumber;
    this.#searchNumber = undefined;
    this.#leaveAdmission();
    const stopped = this.#tasks?.stop(reason) ?? Promise.resolve();
    stopped.then(() => {
      this.#searches!.ended(number);
      this.#dispatch({ kind: "search ended", failure });
    });
  }
}

/** Notes that the ticket was used. If it must not be used any more, the connection ends. */
async function useTicket(
  ticket: ListenedTicket,
  connection: PeerConnection,
  signal: AbortSignal,
): Promise<void> {
  try {
    await ticket.use(signal);
  } catch (error) {
    connection.reset(TICKET_GONE);
    throw error;
  }
}

/** Chosen by us: as many as a ticket names. */
const MAX_SIGNALING_CONNECTIONS = 8;
