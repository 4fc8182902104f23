/**
 * Carries out the connectivity checks of a plan: dials, listens, and hands over every connection that comes of it.
 *
 * @module
 */

import { type ConnectionAttempt, NetworkError, type NetworkErrorReason } from "../base/errors.ts";
import { ResettableTimer } from "../base/timers.ts";
import { formatTransportAddress, type IpFamily, ipFamily } from "../net/address.ts";
import type { Network, TcpConnection, TcpListener } from "../net/network.ts";
import {
  type ChecksAction,
  type ChecksEvent,
  type ChecksOptions,
  type ChecksState,
  isFinished,
  isReset,
  planChecks,
  stepChecks,
  wakeAtMs,
} from "./check_engine.ts";
import { AttemptRecord } from "./nomination.ts";
import type { NominationOutcome } from "./nomination_engine.ts";
import {
  acceptedKindOf,
  type DirectPathKind,
  methodOf,
  type PathContext,
  pathKindOf,
} from "./path_kinds.ts";
import type { PunchPlan } from "./plan_types.ts";

/** What the checks need. */
export interface ConnectivityChecksOptions extends ChecksOptions {
  readonly network: Network;
  /** Which kind of path a connection is. */
  readonly context: PathContext;
  /** Accepted connections of other kinds are reset. */
  readonly pathKinds: ReadonlySet<DirectPathKind>;
  /** Takes over a connection, and resolves once it is settled. */
  readonly onConnection: (connection: TcpConnection) => Promise<NominationOutcome>;
}

/** The connectivity checks of one plan. */
export class ConnectivityChecks {
  readonly #plan: PunchPlan;
  readonly #options: ConnectivityChecksOptions;
  readonly #timer = new ResettableTimer(() => this.#dispatch({ kind: "tick" }));
  readonly #finished = Promise.withResolvers<void>();
  /** What cancels the sockets of an entry, and those that listen. */
  readonly #cancels = new Map<number | "listener", AbortController>();
  /** By check, or by entry if the checks of a large entry share one. */
  readonly #dialled = new Map<string, AttemptRecord>();
  readonly #accepted: AttemptRecord[] = [];
  readonly #kinds = new WeakMap<TcpConnection, DirectPathKind>();
  #state: ChecksState;
  #error: { readonly cause: unknown } | undefined;

  constructor(plan: PunchPlan, options: ConnectivityChecksOptions) {
    this.#plan = plan;
    this.#options = options;
    this.#state = planChecks(plan, options);
  }

  /** Everything that was dialled and accepted so far. */
  get attempts(): ConnectionAttempt[] {
    return [...this.#dialled.values(), ...this.#accepted].map((record) => record.toAttempt());
  }

  /** The kind of path that one of its connections is. */
  kindOf(connection: TcpConnection): DirectPathKind {
    return this.#kinds.get(connection)!;
  }

  /**
   * Dials and listens until nothing more can come of it. Dials that fail are recorded.
   *
   * @throws whatever else goes wrong, such as a missing permission
   */
  async run(): Promise<void> {
    this.#dispatch({ kind: "started" });
    await this.#finished.promise;
  }

  /** The other side is known to have this side's offer, and dials too. */
  confirm(): void {
    this.#dispatch({ kind: "confirmed" });
  }

  /** Ends all dials and stops listening. Connections that were handed over are not touched. */
  stop(): void {
    this.#dispatch({ kind: "stopped" });
  }

  #dispatch(event: ChecksEvent): void {
    const { state, actions } = stepChecks(this.#state, event, performance.now());
    this.#state = state;
    for (const action of actions) this.#perform(action);
    const atMs = wakeAtMs(this.#state);
    if (atMs === Infinity) this.#timer.clear();
    else this.#timer.set(Math.max(0, atMs - performance.now()));
    if (!isFinished(this.#state)) return;
    if (this.#error === undefined) this.#finished.resolve();
    else this.#finished.reject(this.#error.cause);
  }

  #perform(action: ChecksAction): void {
    switch (action.kind) {
      case "dial":
        return void this.#dial(action.check);
      case "end":
        return this.#recordOf(action.check).end(action.outcome);
      case "cancel":
        return this.#cancels.get(action.entry)?.abort();
      case "listen":
        return void this.#listen();
      case "stop-listening":
        return this.#cancels.get("listener")?.abort();
    }
  }

  async #dial(check: number): Promise<void> {
    const { entry, target, localPort } = this.#state.checks[check]!;
    const { network, canListenBeside } = this.#options;
    const record = this.#recordOf(check);
    record.tries++;
    try {
      const connection = await network.connectTcp(target, {
        local: { ip: ipFamily(target.ip) === 4 ? "0.0.0.0" : "::", port: localPort },
        reusePort: this.#plan.dials[entry]!.from === "punch" && canListenBeside,
        signal: this.#signalOf(entry),
      });
      this.#kinds.set(connection, pathKindOf(target, this.#options.context));
      this.#dispatch({ kind: "connected", check });
      const outcome = await this.#settle(connection, record);
      this.#dispatch({ kind: "settled", check, outcome, random: Math.random() });
    } catch (error) {
      const reason = this.#reasonOf(error, entry);
      if (isReset(reason)) record.resets++;
      this.#dispatch({ kind: "failed", check, reason, random: Math.random() });
    }
  }

  /** Listens on the punch port, in each address family that this side has an address of. */
  async #listen(): Promise<void> {
    const { candidates } = this.#options.context.local;
    const families = new Set<IpFamily>([
      4,
      ...candidates.map(({ address }) => ipFamily(address.ip)),
    ]);
    let listeners: (TcpListener | undefined)[] = [];
    try {
      listeners = await Promise.all(Array.from(families, (family) => this.#listenIn(family)));
    } catch (error) {
      this.#fail(error);
    }
    const open = listeners.filter((listener) => listener !== undefined);
    for (const listener of open) void this.#accept(listener);
    this.#dispatch({ kind: "listening", isOpen: open.length > 0 });
  }

  /** A listener; `undefined` if the system refuses it: dials may lead to the peer all the same. */
  async #listenIn(family: IpFamily): Promise<TcpListener | undefined> {
    const { network, punchPort, canListenBeside } = this.#options;
    const local = { ip: family === 4 ? "0.0.0.0" : "::", port: punchPort };
    try {
      return await network.listenTcp(local, { reusePort: canListenBeside });
    } catch (error) {
      if (error instanceof NetworkError) return undefined;
      throw error;
    }
  }

  async #accept(listener: TcpListener): Promise<void> {
    const signal = this.#signalOf("listener");
    try {
      for (;;) void this.#take(await listener.accept({ signal }));
    } catch (error) {
      if (!signal.aborted) this.#fail(error);
    } finally {
      listener.close();
    }
  }

  async #take(connection: TcpConnection): Promise<void> {
    const { context, pathKinds } = this.#options;
    const kind = acceptedKindOf(connection.remote, context);
    if (!pathKinds.has(kind)) return connection.reset();
    this.#kinds.set(connection, kind);
    const remote = formatTransportAddress(connection.remote);
    const record = new AttemptRecord(kind, remote, methodOf(kind, this.#plan.method));
    if (this.#accepted.length < MAX_ACCEPTED_RECORDS) this.#accepted.push(record);
    this.#dispatch({ kind: "accepted" });
    try {
      await this.#settle(connection, record);
    } catch (error) {
      this.#fail(error);
    }
    this.#dispatch({ kind: "accepted-settled" });
  }

  async #settle(connection: TcpConnection, record: AttemptRecord): Promise<NominationOutcome> {
    const outcome = await this.#options.onConnection(connection);
    record.settle(outcome, connection);
    return outcome;
  }

  #recordOf(check: number): AttemptRecord {
    const { entry, target } = this.#state.checks[check]!;
    const { targets, perTarget } = this.#plan.dials[entry]!;
    const isLarge = targets.length * perTarget > MAX_OWN_RECORDS;
    const id = isLarge ? `entry ${entry}` : `check ${check}`;
    const existing = this.#dialled.get(id);
    if (existing !== undefined) return existing;
    const kind = pathKindOf(target, this.#options.context);
    const remote = isLarge
      ? `${targets.length} ports of ${target.ip}`
      : formatTransportAddress(target);
    const record = new AttemptRecord(kind, remote, methodOf(kind, this.#plan.method));
    this.#dialled.set(id, record);
    return record;
  }

  #signalOf(what: number | "listener"): AbortSignal {
    const cancel = this.#cancels.get(what) ?? new AbortController(); // one for all sockets that end together
    this.#cancels.set(what, cancel);
    return cancel.signal;
  }

  /** What a failed dial means; anything that is not the network's doing fails the checks. */
  #reasonOf(error: unknown, entry: number): NetworkErrorReason | "cancelled" {
    if (this.#signalOf(entry).aborted) return "cancelled";
    if (error instanceof NetworkError) return error.reason;
    this.#fail(error);
    return "other";
  }

  #fail(cause: unknown): void {
    this.#error ??= { cause };
    this.stop();
  }
}

/** An entry with more dials than this shares one record. Chosen by us. */
const MAX_OWN_RECORDS = 32;

/** Accepted connections that are recorded. Chosen by us: the peer makes a few, others may make any number. */
const MAX_ACCEPTED_RECORDS = 64;
