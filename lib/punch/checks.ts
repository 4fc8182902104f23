/**
 * Carries out the connectivity checks of a plan: dials, listens, and hands over every connection that comes of it.
 *
 * @module
 */

import { type ConnectionAttempt, NetworkError, type NetworkErrorReason } from "../base/errors.ts";
import { ResettableTimer } from "../base/timers.ts";
import {
  formatTransportAddress,
  type IpFamily,
  ipFamily,
  type TransportAddress,
  unwrapIp,
} from "../net/address.ts";
import type { Network, TcpConnection, TcpListener } from "../net/network.ts";
import {
  type ChecksAction,
  type ChecksEvent,
  type ChecksOptions,
  type ChecksState,
  checksWakeAtMs,
  initialChecksState,
  isFinished,
  isReset,
  stepChecks,
} from "./check_engine.ts";
import { localAddressTowards } from "./candidates.ts";
import type { DialBudget, DialTarget, SessionBudget } from "./limits.ts";
import { AttemptRecord } from "./nomination.ts";
import type { ConnectionOrigin, NominationOutcome } from "./nomination_engine.ts";
import {
  acceptedKindOf,
  type DirectPathKind,
  methodOf,
  type PathContext,
  pathKindOf,
} from "./path_kinds.ts";
import type { CheckListEntry, PunchPlan } from "./plan_types.ts";

/** What the checks need. */
export interface ConnectivityChecksOptions extends ChecksOptions {
  readonly network: Network;
  /** Which kind of path a connection is. */
  readonly context: PathContext;
  /** What the peer may still make this host send. */
  readonly budget: DialBudget;
  /** Whether the NAT still opens sessions. */
  readonly hasRoom: () => Promise<boolean>;
  /** Called once it does not, with the number of dials by then. */
  readonly onExhausted: (dials: number) => void;
  /** Accepted connections of other kinds are reset. */
  readonly pathKinds: ReadonlySet<DirectPathKind>;
  /** Takes over a connection, and resolves once it is settled. */
  readonly onConnection: (
    connection: TcpConnection,
    origin: ConnectionOrigin,
  ) => Promise<NominationOutcome>;
}

/** The connectivity checks of one plan. */
export class ConnectivityChecks {
  readonly #plan: PunchPlan;
  readonly #options: ConnectivityChecksOptions;
  readonly #timer = new ResettableTimer(() => this.#dispatch({ kind: "time" }));
  readonly #finished = Promise.withResolvers<void>();
  /** What cancels the sockets of an entry, and those that listen. */
  readonly #cancels = new Map<number | "listener", AbortController>();
  /** By check, or by entry if the checks of a large entry share one. */
  readonly #dialled = new Map<string, AttemptRecord>();
  readonly #accepted: AttemptRecord[] = [];
  readonly #kinds = new WeakMap<TcpConnection, DirectPathKind>();
  #state: ChecksState;
  #error: { readonly cause: unknown } | undefined;
  /** Dials of a birthday attempt so far. */
  #sprayed = 0;
  #isExhausted = false;

  constructor(plan: PunchPlan, options: ConnectivityChecksOptions) {
    this.#plan = plan;
    this.#options = options;
    this.#state = initialChecksState(plan, options);
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
    const atMs = checksWakeAtMs(this.#state);
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
    const { network, canListenBeside, context } = this.#options;
    const planned = this.#plan.dials[entry]!;
    const record = this.#recordOf(check);
    const dial = new BudgetedDial(this.#options.budget, this.#targetOf(target, planned));
    using session = planned.from === "fresh"
      ? new SessionHold(this.#options.budget.sessions)
      : null;
    try {
      if (session?.isOpen === false) throw NOTHING_LEFT;
      if (!dial.start(planned, this.#signalOf(entry))) throw NOTHING_LEFT;
      record.tried(
        formatTransportAddress(target),
        localAddressTowards(target.ip, localPort, context.local),
      );
      if (this.#plan.method === "birthday" && ROOM_CHECKS.includes(++this.#sprayed)) {
        void this.#checkRoom();
      }
      const connection = await network.connectTcp(target, {
        local: { ip: ipFamily(target.ip) === 4 ? "0.0.0.0" : "::", port: localPort },
        reusePort: planned.from === "punch" && canListenBeside,
        signal: dial.signal,
      });
      dial.end(false);
      this.#kinds.set(connection, pathKindOf(target, this.#options.context));
      this.#dispatch({ kind: "connected", check });
      const outcome = await this.#settle(connection, record, "dialled");
      this.#dispatch({ kind: "settled", check, outcome, random: Math.random() });
    } catch (error) {
      const reason = this.#reasonOf(error, entry);
      dial.end(isReset(reason));
      if (isReset(reason)) record.resets++;
      await null; // the engine has not finished with the step that started the dial
      this.#dispatch({ kind: "failed", check, reason, random: Math.random() });
    }
  }

  /** A NAT that is full would stay so for minutes, for everyone behind it. */
  async #checkRoom(): Promise<void> {
    try {
      if (await this.#options.hasRoom() || this.#isExhausted) return;
    } catch (error) {
      return this.#fail(error);
    }
    this.#isExhausted = true;
    this.#options.onExhausted(this.#sprayed);
    this.#dispatch({ kind: "exhausted" });
  }

  #targetOf(target: TransportAddress, entry: CheckListEntry): DialTarget {
    const { remote, facts } = this.#options.context;
    return {
      address: { ip: unwrapIp(target.ip, facts?.nat64Prefixes), port: target.port },
      isExternal: target.ip === remote.profile.externalIp,
      isExpected: entry.isExpected ?? false,
      isBirthday: this.#plan.method === "birthday",
    };
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
      const outcome = await this.#settle(connection, record, this.#originOf(connection));
      if (outcome === "nominated") {
        for (const each of this.#dialled.values()) each.giveWay(remote);
      }
    } catch (error) {
      this.#fail(error);
    }
    this.#dispatch({ kind: "accepted-settled" });
  }

  /** Whether an accepted connection comes from an address that the peer named. */
  #originOf({ remote: { ip } }: TcpConnection): ConnectionOrigin {
    const { remote: { profile, candidates } } = this.#options.context;
    const isNamed = ip === profile.externalIp ||
      candidates.some(({ address }) => address.ip === ip);
    return isNamed ? "peer" : "elsewhere";
  }

  async #settle(
    connection: TcpConnection,
    record: AttemptRecord,
    origin: ConnectionOrigin,
  ): Promise<NominationOutcome> {
    const outcome = await this.#options.onConnection(connection, origin);
    const { ip, port } = connection.remote;
    const { budget, context } = this.#options;
    if (outcome === "nominated") {
      budget.prove({ ip: unwrapIp(ip, context.facts?.nat64Prefixes), port });
    }
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
    if (this.#signalOf(entry).aborted || error === USED_UP) return "cancelled";
    if (error === NOTHING_LEFT) return "timed-out"; // other searches may give something back
    if (error instanceof NetworkError) return error.reason;
    this.#fail(error);
    return "other";
  }

  #fail(cause: unknown): void {
    this.#error ??= { cause };
    this.stop();
  }
}

/** One of the fresh ports that this host may have open, until its dial has ended and its connection is settled. */
class SessionHold implements Disposable {
  readonly #sessions: SessionBudget;
  /** Whether there was one left. */
  readonly isOpen: boolean;

  constructor(sessions: SessionBudget) {
    this.#sessions = sessions;
    this.isOpen = sessions.take();
  }

  [Symbol.dispose](): void {
    if (this.isOpen) this.#sessions.giveBack();
  }
}

/** One dial, every SYN of which is taken out of the budget: those that the system repeats, too. */
class BudgetedDial {
  readonly #budget: DialBudget;
  readonly #target: DialTarget;
  readonly #usedUp = new AbortController(); // ends this dial alone, once the budget is spent
  #signal: AbortSignal = this.#usedUp.signal;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(budget: DialBudget, target: DialTarget) {
    this.#budget = budget;
    this.#target = target;
  }

  /** Aborted before the first SYN that the budget does not cover, and with the entry. */
  get signal(): AbortSignal {
    return this.#signal;
  }

  /** Takes the first SYN out of the budget; `false` if none is left. */
  start({ timeoutMs, dialMs = Infinity }: CheckListEntry, signal: AbortSignal): boolean {
    if (!this.#budget.take(this.#target, performance.now())) return false;
    this.#signal = signal;
    if (timeoutMs < FIRST_REPEAT_MS) return true; // over before the system repeats it
    this.#signal = AbortSignal.any([signal, this.#usedUp.signal]);
    this.#waitForRepeat(1, dialMs);
    return true;
  }

  /** It ended, with a RST or otherwise. */
  end(isReset: boolean): void {
    clearTimeout(this.#timer);
    this.#budget.note(this.#target, isReset);
  }

  /** @param repeats how many times the system will have repeated the SYN by then */
  #waitForRepeat(repeats: number, dialMs: number): void {
    const waitMs = FIRST_REPEAT_MS * 2 ** Math.max(0, repeats - EVEN_REPEATS);
    this.#timer = setTimeout(() => {
      this.#budget.note(this.#target, false);
      const mayRepeat = waitMs < dialMs && this.#budget.take(this.#target, performance.now());
      if (mayRepeat) this.#waitForRepeat(repeats + 1, dialMs - waitMs);
      else this.#usedUp.abort(USED_UP);
    }, Math.min(repeats === 1 ? waitMs - EARLY_MS : waitMs, dialMs));
  }
}

/** Why a dial was ended: the peer may make this host send no more packets there. */
const USED_UP = new DOMException("The limit of SYNs for this address is reached", "AbortError");

/** Why a dial was not started, for the same reason. */
const NOTHING_LEFT = new DOMException(USED_UP.message, "AbortError");

/** RFC 6298 §2.1. */
const FIRST_REPEAT_MS = 1000;

/** Linux repeats a SYN after one second five times, then after 2 s, 4 s and so on; others double from the start. */
const EVEN_REPEATS = 5;

/** How long before the system's repetition a dial ends. Chosen by us: timers may be late. */
const EARLY_MS = 20;

/** After how many dials of a birthday attempt to see whether the NAT is full. Chosen by us: small quotas are 64 to 512. */
const ROOM_CHECKS: readonly number[] = [32, 64, 128, 256, 512];

/** An entry with more dials than this shares one record. Chosen by us. */
const MAX_OWN_RECORDS = 32;

/** Accepted connections that are recorded. Chosen by us: the peer makes a few, others may make any number. */
const MAX_ACCEPTED_RECORDS = 64;
