/**
 * The side with the ticket: requests a connection, and gets it another path when its path is lost. Carries out what
 * {@linkcode stepDialer} decides.
 *
 * @module
 */

import { messageOf, NetworkError } from "../base/errors.ts";
import { withoutLogin } from "../base/login.ts";
import { optionalResolvers, TaskGroup } from "../base/tasks.ts";
import {
  type Clocks,
  Deadline,
  MAX_TIMER_MS,
  readClocks,
  ResettableTimer,
  steadyTimeMs,
} from "../base/timers.ts";
import { generateKeyPair } from "../noise/handshake.ts";
import { MANUAL_URL } from "../signal/manual.ts";
import type { SignalingConnection } from "../signal/transport.ts";
import { PeerConnection } from "./connection.ts";
import type { PeerContext } from "./context.ts";
import {
  dialerWakeAtMs,
  initialDialerState,
  REQUEST_INTERVAL_MS,
  requestedPaths,
  stepDialer,
} from "./dialer_engine.ts";
import type { DialerAction, DialerEvent, DialerState, SearchState } from "./dialer_types.ts";
import { searchPaths } from "./path_search.ts";
import { refusedError, resumptionError } from "./rejection.ts";
import { foundNothing, hopelessError } from "./search_failure.ts";
import { InitiatorHandshake } from "./signaling_handshake.ts";
import type { ConnectionRequest, FoundNothing } from "./signaling_message.ts";
import {
  InitiatorSession,
  receiveRejection,
  sendEmpty,
  sendRejection,
} from "./signaling_session.ts";
import { resumptionId, type Ticket, TicketSecrets } from "./ticket.ts";
import { abortable } from "@std/async/abortable";

/** How to dial. */
export interface DialOptions {
  /** The application's protocol; `""` for any. */
  readonly protocol: string;
  /** Whether to search for another path when one is lost. */
  readonly reconnects: boolean;
  /** Gives up, until there is a connection. */
  readonly signal?: AbortSignal;
  /** Called when the other side has answered. */
  readonly onAnswered?: () => void;
}

/**
 * Connects to the owner of a ticket.
 *
 * @throws {NoResponseError} if the peer does not answer
 * @throws {RefusedError} if the peer rejects the request; `code` is one of {@linkcode REJECTION_CODES}
 * @throws {UnreachableError} if there is no path to the peer
 * @throws {NetworkError} if none of the ticket's signaling servers can be reached, or the path is lost at once
 * @throws the signal's reason on abort
 */
export async function dialPeer(
  context: PeerContext,
  ticket: Ticket,
  options: DialOptions,
): Promise<PeerConnection> {
  context.closed.throwIfAborted();
  const dialer = new Dialer(context, ticket, options);
  return await dialer.connect(options.signal);
}

/** The driver of one connection. */
class Dialer {
  readonly #context: PeerContext;
  readonly #ticket: Ticket;
  readonly #secrets: TicketSecrets;
  readonly #protocol: string;
  readonly #urls: readonly string[];
  readonly #isManual: boolean;
  readonly #mayReconnect: boolean;
  readonly #connection: PeerConnection;
  readonly #connected = Promise.withResolvers<void>();
  readonly #onAnswered: () => void;
  readonly #timer = new ResettableTimer(() => this.#dispatch({ kind: "time" }));
  readonly #onClosed = () => this.#stop(this.#context.closed.reason);
  #state: DialerState;
  #search: Search | undefined;
  /** Identifies the connection to the other side, once that has answered. */
  #resumptionId: string | null = null;
  /** When the other side answered first. */
  #madeAt: Clocks | undefined;
  /** How old the connection was when it was last requested. */
  #lastAgeMs = -1;

  constructor(context: PeerContext, ticket: Ticket, options: DialOptions) {
    const { protocol, reconnects, onAnswered = () => {} } = options;
    this.#context = context;
    this.#onAnswered = onAnswered;
    this.#ticket = ticket;
    this.#secrets = new TicketSecrets(ticket);
    this.#protocol = protocol;
    this.#urls = signalingUrls(ticket, context);
    this.#isManual = this.#urls.every((url) => url === MANUAL_URL);
    const mayReconnect = reconnects && !this.#isManual; // people would have to carry messages again
    this.#mayReconnect = mayReconnect;
    const { timings, baseSockets, closed } = context;
    // The first offer of a punch travels in the request; without base sockets there is no offer.
    const waitsForOffer = baseSockets !== undefined && !context.isProxied; // a relay needs none
    const firstRequestMs = waitsForOffer ? REQUEST_INTERVAL_MS : 0;
    this.#state = initialDialerState({
      reconnects: mayReconnect,
      improves: mayReconnect && baseSockets !== undefined,
      firstRequestMs: this.#isManual ? Infinity : firstRequestMs,
      answerMs: this.#isManual ? timings.manualMs : timings.answerMs,
      reconnectMs: timings.reconnectMs,
      retryMs: timings.retryMs,
      improveMs: timings.improveMs,
    });
    this.#connection = new PeerConnection({
      role: "controlling",
      remoteKey: ticket.publicKey,
      protocol,
      timeoutMs: mayReconnect ? timings.reconnectMs : 0,
      windows: context.windows,
      closed,
      onPath: (isRelayed) => this.#dispatch({ kind: "path", isRelayed }),
      onSlow: (other) => this.#dispatch({ kind: "path slow", other }),
      onStalled: (isStalled) =>
        this.#dispatch(
          isStalled ? { kind: "path stalled", random: Math.random() } : { kind: "path resumed" },
        ),
      onProgress: context.onProgress,
      onLost: (wasUsed) => this.#dispatch({ kind: "path lost", wasUsed, random: Math.random() }),
    });
  }

  async connect(signal: AbortSignal | undefined): Promise<PeerConnection> {
    const { closed } = this.#context;
    const onAbort = () => this.#stop(signal?.reason);
    signal?.addEventListener("abort", onAbort, { once: true });
    closed.addEventListener("abort", this.#onClosed, { once: true });
    this.#connection.finished.then(() => this.#stop(), (error) => this.#stop(error));
    try {
      this.#dispatch({ kind: "start" });
      await this.#connected.promise;
      return this.#connection;
    } finally {
      signal?.removeEventListener("abort", onAbort); // now the connection belongs to the caller
    }
  }

  #stop(reason?: unknown): void {
    this.#dispatch({ kind: "stop", reason });
  }

  #dispatch(event: DialerEvent): void {
    const { state, actions } = stepDialer(this.#state, event, performance.now());
    this.#state = state;
    for (const action of actions) this.#perform(action);
    this.#setTimer();
  }

  #setTimer(): void {
    const wakeAtMs = dialerWakeAtMs(this.#state);
    if (this.#state.phase === "over") {
      this.#context.closed.removeEventListener("abort", this.#onClosed);
    }
    if (wakeAtMs === Infinity) return this.#timer.clear();
    this.#timer.set(Math.min(Math.max(0, wakeAtMs - performance.now()), MAX_TIMER_MS));
    // A program that has nothing else to do does not wait for the next search for a direct path.
    this.#timer.isReferenced = wakeAtMs !== this.#state.improvement.atMs;
  }

  #perform(action: DialerAction): void {
    switch (action.kind) {
      case "start search":
        return this.#startSearch(action.search, action.wants);
      case "send request":
        return this.#search!.run(() => sendEmpty(this.#search!.session));
      case "send cancellation":
        return this.#search!.cancel(foundNothing(action.error));
      case "finish search":
        return this.#search!.finish(action.reason);
      case "end search":
        return this.#search!.end(action.reason);
      case "check signaling": // and gather anew: a NAT may have forgotten what a base socket has learned
        this.#context.baseSockets?.discard();
        return this.#context.signaling.check();
      case "succeed":
        return this.#connected.resolve();
      case "fail":
        this.#connection.reset();
        return this.#connected.reject(action.error);
      case "abandon": {
        const { wasHeard } = this.#connection;
        return this.#connection.abandon(resumptionError(action.error, wasHeard));
      }
    }
  }

  #startSearch(id: number, wants: SearchState["wants"]): void {
    const chosen = this.#context.signaling.memory.choose(this.#urls, performance.now());
    const search: Search = new Search({
      context: this.#context,
      ticket: this.#ticket,
      secrets: this.#secrets,
      urls: chosen.now,
      spareUrls: chosen.spare,
      header: () => ({
        sentAtMs: Date.now(),
        ageMs: this.#nextAgeMs(),
        protocol: this.#protocol,
        resumes: this.#resumptionId,
        wants: requestedPaths(wants),
      }),
      times: () => this.#times(),
      onSent: (url) => {
        this.#dispatch({ kind: "sent", search: id, isServer: !url.startsWith("lan:") });
      },
      onWayFailed: (error) => {
        this.#dispatch({ kind: "way failed", search: id, why: messageOf(error) });
      },
      onError: (error) => {
        this.#context.logger?.debug(`connect: ${error}`);
        this.#dispatch({ kind: "failed", search: id, error });
      },
      onEnded: () => {
        if (this.#search !== search) return; // said before
        this.#search = undefined;
        this.#dispatch({ kind: "search ended", search: id, random: Math.random() });
      },
    });
    this.#search = search;
    const { session } = search;
    session.isManual = this.#isManual;
    search.openSignaling();
    search.run(async (signal) => {
      const rejection = await receiveRejection(session, signal);
      if (rejection.foundNothing !== undefined) {
        const reason = hopelessError(rejection.foundNothing);
        this.#dispatch({ kind: "hopeless", search: id, reason });
      } else this.#dispatch({ kind: "rejected", search: id, error: refusedError(rejection) });
    });
    search.run(async (signal) => {
      const { connectionKey } = await abortable(session.ready, signal);
      this.#resumptionId ??= resumptionId(connectionKey);
      this.#connection.enableRecall(connectionKey, this.#urls);
      this.#madeAt ??= readClocks();
      this.#onAnswered();
      this.#dispatch({ kind: "answered", search: id });
    });
    search.run(async (signal) => {
      const hasMoved = await searchPaths(this.#context, {
        session,
        role: "controlling",
        wants: requestedPaths(wants),
        isRelayOnly: wants === "relay",
        transport: wants === "tcp" || wants === "udp" ? wants : undefined,
        signalingUrls: [...chosen.now, ...chosen.spare],
        connection: this.#connection,
        mayFallBack: this.#mayReconnect,
        hopeless: search.hopeless,
        signal,
      });
      this.#dispatch({ kind: "finished", search: id, hasMoved });
    });
  }

  /** How old the connection is, by a clock that never jumps; more each time. */
  #nextAgeMs(): number | null {
    if (this.#madeAt === undefined) return null;
    const ageMs = Math.round(performance.now() - this.#madeAt.nowMs);
    return this.#lastAgeMs = Math.max(ageMs, this.#lastAgeMs + 1);
  }

  /** The other side may have set its wall clock since the connection was made, or this side. */
  #times(): number[] {
    const { nowMs, wallMs } = readClocks();
    return this.#madeAt === undefined ? [wallMs] : [wallMs, steadyTimeMs(this.#madeAt, nowMs)];
  }
}

interface SearchOptions {
  readonly context: PeerContext;
  readonly ticket: Ticket;
  readonly secrets: TicketSecrets;
  /** The signaling servers to use. */
  readonly urls: readonly string[];
  /** Those that take the place of servers that fail. */
  readonly spareUrls: readonly string[];
  readonly header: () => Omit<ConnectionRequest, "body">;
  /** The times under whose topics to publish the request; milliseconds since 1970. */
  readonly times: () => readonly number[];
  /** Called with the URL of a way to meet by which a message of this side went out. */
  readonly onSent: (url: string) => void;
  /** Called with the reason why a way to meet cannot be used. */
  readonly onWayFailed: (error: unknown) => void;
  /** Called with what a task throws, unless the search was ended before. */
  readonly onError: (error: unknown) => void;
  /** Called once all tasks of the search have ended. */
  readonly onEnded: () => void;
}

/** What one search holds: a signaling session over several connections, and the tasks that use it. */
class Search {
  readonly session: InitiatorSession;
  readonly #options: SearchOptions;
  readonly #tasks: TaskGroup;
  readonly #resources = new AsyncDisposableStack();
  /** Ends subscriptions. They outlive the search for as long as the answer to its request may be on its way. */
  readonly #over = new AbortController();
  readonly #connections = new Set<SignalingConnection>();
  readonly #ended = optionalResolvers<void>();
  readonly #errors: unknown[] = [];
  readonly #spareUrls: string[];
  readonly #hopeless = optionalResolvers<Error>();
  #isAnswered = false;
  #isCancelled = false;
  #foundNothing: FoundNothing | undefined;

  constructor(options: SearchOptions) {
    const { context, ticket, secrets, header, onError } = options;
    const keys = { secrets, staticKey: context.staticKey, ephemeralKey: generateKeyPair() };
    const handshake = new InitiatorHandshake(keys, ticket.publicKey);
    this.#options = options;
    this.#spareUrls = [...options.spareUrls];
    this.#tasks = new TaskGroup(onError);
    this.session = new InitiatorSession(handshake, header, (message) => {
      for (const signaling of this.#connections) this.#publish(signaling, message);
    });
    context.inBackground(() => this.#ended.promise);
    this.session.ready.then(() => this.#isAnswered = true, () => {}); // tasks of the search report failures
  }

  /** Starts a task, which ends with the search at the latest. */
  run(task: (signal: AbortSignal) => Promise<void>): void {
    this.#tasks.run(task);
  }

  /** Opens the signaling connections, all at once. */
  openSignaling(): void {
    const { urls } = this.#options;
    for (const url of urls) this.run((signal) => this.#open(url, signal));
    if (urls.length === 0) this.run(() => Promise.reject(this.#unreachableError()));
  }

  /** Tells the other side, before the search ends, that there will be no connection. */
  cancel(foundNothing: FoundNothing | undefined): void {
    this.#isCancelled = true;
    this.#foundNothing = foundNothing;
  }

  /** Resolves, with the reason, when the other side has found nothing. */
  get hopeless(): Promise<Error> {
    return this.#hopeless.promise;
  }

  /** Lets the search for paths end by itself. */
  finish(reason: Error): void {
    this.#hopeless.resolve(reason);
  }

  /** Ends all tasks with the reason, and closes what the search holds. */
  end(reason: unknown): void {
    this.#end(reason).finally(this.#options.onEnded).then(this.#ended.resolve, this.#ended.reject);
  }

  async #end(reason: unknown): Promise<void> {
    await this.#tasks.stop(reason);
    if (!this.session.isOpen) {
      this.#options.onEnded(); // the caller does not wait for the notice to the other side
      await this.#cancelWhenAnswered();
    } else if (this.#isCancelled || !this.#isAnswered) await this.#sendCancellation(); // the caller may close the peer
    this.session[Symbol.dispose]();
    this.#over.abort(reason);
    await this.#resources.disposeAsync();
  }

  /**
   * The answer may be on its way: then the other side has accepted, and would search for a path until its time is up. With
   * no answer, the other side does not know of the request.
   */
  async #cancelWhenAnswered(): Promise<void> {
    const { closed } = this.#options.context;
    if (this.session.request === undefined || this.session.isManual || closed.aborted) return;
    using deadline = new Deadline(LATE_ANSWER_MS, closed);
    try {
      await abortable(this.session.ready, deadline.signal);
      await this.#sendCancellation();
    } catch {
      // too late, or the session has failed
    }
  }

  async #sendCancellation(): Promise<void> {
    try {
      await sendRejection(this.session, "cancelled", this.#foundNothing);
    } catch {
      // the session has failed
    }
  }

  /** One that fails leaves the others. @throws {NetworkError} if it is the last of all to fail */
  async #open(url: string, signal: AbortSignal): Promise<void> {
    try {
      await this.#tryOpen(url, signal);
    } catch (error) {
      this.#errors.push(error);
      if (!signal.aborted) this.#options.onWayFailed(error);
      const { urls, spareUrls } = this.#options;
      if (this.#errors.length === urls.length + spareUrls.length) throw this.#unreachableError();
      const spare = this.#spareUrls.shift();
      if (spare !== undefined && !signal.aborted) this.run((signal) => this.#open(spare, signal));
    }
  }

  #unreachableError(): NetworkError {
    const { usesNamedOnly } = this.#options.context;
    const why = this.#errors.map(messageOf);
    const isRefused = this.#errors.some((error) =>
      error instanceof NetworkError && error.reason === "not-allowed"
    );
    return new NetworkError(
      `Cannot reach any signaling server named in the ticket: ${
        why.length > 0
          ? why.join("; ")
          : usesNamedOnly
          ? "it names none that you have named, and no other may learn your address"
          : "it names none"
      }`,
      isRefused ? "not-allowed" : "unreachable",
      {
        cause: this.#errors[0],
        remedy: why.length === 0 && usesNamedOnly
          ? "Name a server of the other side in `signaling`, too"
          : undefined,
      },
    );
  }

  async #tryOpen(url: string, signal: AbortSignal): Promise<void> {
    const { context, secrets } = this.#options;
    const { session } = this;
    const lease = this.#resources.use(context.signaling.lease(url));
    const signaling = await abortable(lease.signaling, signal);
    const topic = secrets.replyTopic(session.ephemeralKey);
    const onMessage = (message: Uint8Array) => {
      const wasOpen = session.isOpen;
      session.receive(message);
      if (wasOpen || !session.isOpen) return;
      session.heardBy(signaling.url);
      context.onProgress?.({ event: "answered", url: withoutLogin(signaling.url) });
    };
    const subscription = signaling.subscribe(topic, onMessage, { signal: this.#over.signal });
    this.#resources.defer(async () => {
      const [subscribed] = await Promise.allSettled([subscription]);
      if (subscribed.status === "fulfilled") await subscribed.value[Symbol.asyncDispose]();
    });
    this.#connections.add(signaling); // what is published from now on arrives after the subscription
    if (session.request !== undefined) this.#publish(signaling, session.request);
    await abortable(subscription, signal);
    if (signaling.rttMs !== undefined) session.rttMs ??= 2 * signaling.rttMs;
  }

  /** A signaling connection that fails leaves the others. */
  #publish(signaling: SignalingConnection, message: Uint8Array): void {
    const { context, secrets, times, onSent } = this.#options;
    for (const topic of new Set(times().map((timeMs) => secrets.topicAt(timeMs)))) {
      signaling.publish(topic, message).then(
        () => onSent(signaling.url),
        (error) => context.logger?.debug(`connect: ${withoutLogin(signaling.url)}: ${error}`),
      );
    }
  }
}

/** People are not asked to carry messages if a server can. */
function signalingUrls(
  { signaling }: Ticket,
  { usesNamedOnly, signalingUrls, isSealed }: PeerContext,
): readonly string[] {
  const usable = signaling
    .filter((url) => !usesNamedOnly || signalingUrls.includes(url))
    .filter((url) => !isSealed || !url.startsWith("lan:"));
  const servers = usable.filter((url) => url !== MANUAL_URL);
  return servers.length > 0 ? servers : usable;
}

/** Chosen by us: how long an answer may be on its way after the search has ended. Two round trips of slow signaling. */
const LATE_ANSWER_MS = 3000;
