/**
 * What two offers lead to: dials and a listener by the plan that is made of them, and a connection if they meet.
 *
 * @module
 */

import { type ConnectionAttempt, NetworkError } from "../base/errors.ts";
import { Deadline } from "../base/timers.ts";
import {
  formatTransportAddress,
  type IpFamily,
  ipFamily,
  type TransportAddress,
} from "../net/address.ts";
import type { Network, TcpConnection, TcpListener } from "../net/network.ts";
import type { Candidate, PunchDescription } from "./candidates.ts";
import { planPunch } from "./check_list.ts";
import { ATTEMPT_OUTCOMES, AttemptRecord, ConnectivityChecks } from "./checks.ts";
import { PUNCH_LIMITS, type PunchLimits } from "./limits.ts";
import { manualLimits } from "./manual.ts";
import {
  channelBinding,
  type NominatedConnection,
  Nomination,
  type PunchSecret,
  punchSecret,
} from "./nomination.ts";
import type { PunchOffer, PunchRole } from "./offer.ts";
import {
  type DirectPathKind,
  methodOf,
  pathKindOf,
  planWithPathKinds,
  type PunchPlan,
} from "./plan_types.ts";
import { delay } from "@std/async/delay";

/** What an attempt needs. */
export interface AttemptOptions {
  readonly network: Network;
  readonly role: PunchRole;
  /** Known to both sides and to nobody else; may be empty. */
  readonly sharedSecret: Uint8Array;
  /** The ways that are taken. */
  readonly pathKinds: ReadonlySet<DirectPathKind>;
  /** Whether people carried the offers. */
  readonly isManual: boolean;
  /** Hears of each plan. */
  readonly onPlan?: (plan: PunchPlan) => void;
}

/** What an attempt goes by. */
export interface BothOffers {
  readonly ours: PunchOffer;
  readonly theirs: PunchOffer;
  /** How much earlier than the other side this side knows both. */
  readonly headStartMs: number;
  /** Resolves once the other side is known to know both, too. */
  readonly confirmed: Promise<void>;
}

/** How an attempt ended. */
export type AttemptOutcome =
  | {
    readonly kind: "connected";
    readonly met: NominatedConnection;
    readonly plan: PunchPlan;
    /** When both offers were known. */
    readonly startedAtMs: number;
    readonly channelBinding: Uint8Array;
    readonly pathKind: DirectPathKind;
  }
  | { readonly kind: "impossible" | "failed"; readonly plan: PunchPlan }
  | { readonly kind: "abandoned" };

/** Dials and listens by the plan that two offers make. */
export class PunchAttempt {
  readonly plan: PunchPlan;
  /** Settles when all that it opened is closed, but for the connection that it found. */
  readonly finished: Promise<AttemptOutcome>;
  readonly #options: AttemptOptions;
  readonly #ours: PunchOffer;
  readonly #limits: PunchLimits;
  readonly #startedAtMs = performance.now();
  readonly #controller = new AbortController();
  readonly #theirs: PunchOffer;
  readonly #accepted: AttemptRecord[] = [];
  #dialing: ConnectivityChecks | undefined;

  constructor(options: AttemptOptions, offers: BothOffers, signal: AbortSignal) {
    const { role, sharedSecret } = options;
    const { ours, theirs, headStartMs, confirmed } = offers;
    this.#options = options;
    this.#ours = ours;
    this.#theirs = theirs;
    this.#limits = options.isManual ? manualLimits(role) : PUNCH_LIMITS;
    const plan = planPunch(ours.side, theirs.side, {
      role,
      isSecond: headStartMs > 0,
      signalRttMs: 2 * headStartMs,
      limits: this.#limits,
    });
    const sides = { me: ours.side, peer: theirs.side };
    this.plan = planWithPathKinds(plan, sides, options.pathKinds);
    options.onPlan?.(this.plan);
    this.finished = this.plan.method === "impossible"
      ? Promise.resolve({ kind: "impossible", plan: this.plan })
      : this.#run(
        punchSecret(ours, theirs, sharedSecret),
        confirmed,
        AbortSignal.any([signal, this.#controller.signal]),
      );
  }

  /** Everything that was tried. */
  get attempts(): ConnectionAttempt[] {
    const traces = [...this.#dialing?.traces ?? [], ...this.#accepted];
    return traces.map((trace) => trace.toAttempt());
  }

  /** Gives up. */
  abandon(): void {
    this.#controller.abort();
  }

  async #run(
    secret: PunchSecret,
    confirmed: Promise<void>,
    signal: AbortSignal,
  ): Promise<AttemptOutcome> {
    const { plan } = this;
    const stop = new AbortController();
    const ended = AbortSignal.any([signal, stop.signal]);
    await using nomination = new Nomination(this.#options.role, secret, TIMEOUT_MS);
    const { punchPort, canListenBeside: reusePort } = this.#ours.side;
    const beside = plan.listens && reusePort ? await this.#listenAll() : undefined;
    const dialing = this.#dialing = new ConnectivityChecks(plan, {
      network: this.#options.network,
      punchPort,
      reusePort,
      kindOf: (target) => this.#pathKindOf(target),
      onConnection: (connection) => nomination.add(connection),
      signal: ended,
    });
    const listening = async () => {
      if (!plan.listens) return;
      // Where the port is not shared, none can dial from it any more once somebody listens.
      if (beside === undefined && !await passes(lastStartMs(plan) + AFTER_DIALS_MS, ended)) return;
      const listeners = beside ?? await this.#listenAll();
      await Promise.all(
        listeners.map((listener) => this.#accept(listener, nomination, this.#lastEndMs, ended)),
      );
    };
    const exhausted = Promise.all([dialing.run(), listening()]).then(() => undefined);
    try {
      const missed = this.#miss(confirmed, nomination, ended);
      await Promise.race([nomination.winner, exhausted, missed, aborted(signal)]);
    } finally {
      stop.abort();
      await nomination[Symbol.asyncDispose](); // dials wait for what becomes of their connections
      await exhausted;
    }
    // Asked only now: a nomination may have come with the end of everything else.
    const { met } = nomination;
    if (met !== undefined) {
      const { connection } = met;
      return {
        kind: "connected",
        met,
        plan,
        startedAtMs: this.#startedAtMs,
        channelBinding: channelBinding(secret),
        pathKind: this.#pathKindOf(connection.remote),
      };
    }
    return signal.aborted ? { kind: "abandoned" } : { kind: "failed", plan };
  }

  /**
   * Resolves once predicted ports have had their chance: where both sides have dialled, their SYNs have met, or they
   * never will. Dials of ports that are known are waited for: a SYN may still come to them.
   */
  async #miss(confirmed: Promise<void>, nomination: Nomination, ended: AbortSignal): Promise<void> {
    const { promise: never } = Promise.withResolvers<never>();
    if (this.plan.method !== "port-prediction") return never;
    await confirmed;
    if (!await passes(lastStartMs(this.plan) + MISS_MS, ended)) return;
    while (nomination.isBusy) if (!await passes(BUSY_MS, ended)) return;
  }

  /** Listens on the punch port for each family that this side has an address of. */
  async #listenAll(): Promise<TcpListener[]> {
    const { side } = this.#ours;
    const families = new Set<IpFamily>([4, ...side.candidates.map(familyOf)]);
    const listeners = await Promise.all(
      Array.from(families, (family) => listen(this.#options.network, family, side)),
    );
    return listeners.filter((listener) => listener !== undefined);
  }

  /** Takes connections on the punch port for as long as dials of either side may lead to it. */
  async #accept(
    listener: TcpListener,
    nomination: Nomination,
    forMs: number,
    signal: AbortSignal,
  ): Promise<void> {
    using deadline = new Deadline(forMs, signal);
    const nominations = new Set<Promise<void>>();
    try {
      for (;;) {
        const connection = await listener.accept({ signal: deadline.signal });
        if (!this.#options.pathKinds.has(this.#pathKindOf(connection.remote))) {
          connection.reset();
          continue;
        }
        const trace = this.#traceAccepted(connection);
        const met = nomination.add(connection).then((outcome) => {
          trace?.end(ATTEMPT_OUTCOMES[outcome], formatTransportAddress(connection.local));
          nominations.delete(met);
        });
        nominations.add(met);
      }
    } catch (error) {
      if (!deadline.signal.aborted) throw error;
    } finally {
      listener.close();
      await Promise.all(nominations);
    }
  }

  /** A side that has nobody to dial waits for who dials it. */
  get #lastEndMs(): number {
    const { dials } = this.plan;
    if (dials.length === 0) return this.#limits.timeoutMs;
    return Math.max(...dials.map(({ startMs, timeoutMs }) => startMs + timeoutMs));
  }

  #pathKindOf(address: TransportAddress): DirectPathKind {
    const { method } = this.plan;
    return pathKindOf(address, { me: this.#ours.side, peer: this.#theirs.side, method });
  }

  #traceAccepted(connection: TcpConnection): AttemptRecord | undefined {
    if (this.#accepted.length >= MAX_ACCEPTED_TRACES) return undefined;
    const kind = this.#pathKindOf(connection.remote);
    const remote = formatTransportAddress(connection.remote);
    const trace = new AttemptRecord(kind, remote, methodOf(kind, this.plan.method));
    this.#accepted.push(trace);
    return trace;
  }
}

/** Listens on the punch port, unless it cannot be: dials may lead to the peer all the same. */
async function listen(
  network: Network,
  family: IpFamily,
  { punchPort, canListenBeside }: PunchDescription,
): Promise<TcpListener | undefined> {
  const local = { ip: family === 4 ? "0.0.0.0" : "::", port: punchPort };
  try {
    return await network.listenTcp(local, { reusePort: canListenBeside });
  } catch (error) {
    if (error instanceof NetworkError) return undefined;
    throw error;
  }
}

/** Whoever gives up does not wait for the other end of a connection to say something. */
function aborted(signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  signal.addEventListener("abort", () => resolve(), { once: true });
  if (signal.aborted) resolve();
  return promise;
}

/** Whether so much time has passed without an abort. */
async function passes(ms: number, signal: AbortSignal): Promise<boolean> {
  return await delay(ms, { signal }).then(() => true, () => false);
}

function familyOf({ address }: Candidate): IpFamily {
  return ipFamily(address.ip);
}

function lastStartMs({ dials }: PunchPlan): number {
  return Math.max(0, ...dials.map(({ startMs }) => startMs));
}

/** Accepted connections that are told of; ours: the peer makes a few, strangers may make any number. */
const MAX_ACCEPTED_TRACES = 64;

/** How long the other end may take to prove itself; ours: a few of the longest round trips. */
const TIMEOUT_MS = 4000;

/**
 * How long predicted dials have, once both sides know what to do. Ours: three of the longest round trips; the system
 * repeats a SYN only later.
 */
const MISS_MS = 900;

/** From one look at connections that may become the one to the next; ours. */
const BUSY_MS = 100;

/** Where listening has to wait for the dials, so long after the last of them; ours: they leave within a tick. */
const AFTER_DIALS_MS = 20;
