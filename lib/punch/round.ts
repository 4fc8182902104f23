/**
 * One round of a punch: both sides exchange offers, and each pair of offers is an attempt, with a plan, its connectivity
 * checks, and a connection if one is nominated.
 *
 * @module
 */

import type { ConnectionAttempt } from "../base/errors.ts";
import { optionalResolvers, TaskGroup } from "../base/tasks.ts";
import { ResettableTimer } from "../base/timers.ts";
import { ipFamily } from "../net/address.ts";
import { isOwnAddress } from "../net/local_address.ts";
import type { Network } from "../net/network.ts";
import type { SignalChannel } from "../signal/channel.ts";
import { type DialFacts, hostIps, type PunchDescription } from "./candidates.ts";
import { planPunch } from "./check_list.ts";
import { ConnectivityChecks, type ConnectivityChecksOptions } from "./checks.ts";
import type { BaseSocket } from "./base_socket.ts";
import { type DialBudget, PUNCH_LIMITS } from "./limits.ts";
import { manualLimits, withoutPredictions } from "./manual.ts";
import { type NominatedConnection, Nomination, punchSecret } from "./nomination.ts";
import type { BothOffers, PunchOffer, PunchRole } from "./offer.ts";
import { OfferExchange, type OfferSource } from "./offer_exchange.ts";
import {
  asTcpKinds,
  type DirectPathKind,
  type PathContext,
  planWithPathKinds,
  withPathKinds,
} from "./path_kinds.ts";
import type { PunchPlan } from "./plan_types.ts";
import {
  type AttemptOutcome,
  initialRoundState,
  type RoundAction,
  type RoundEnd,
  type RoundEvent,
  type RoundState,
  stepRound,
} from "./round_engine.ts";
import { isPeerOnSameHost } from "./same_host.ts";
import { abortable } from "@std/async/abortable";

/** What a round needs. */
export interface RoundOptions
  extends Omit<PunchAttemptOptions, "isManual" | "facts" | "hasRoom" | "onExhausted"> {
  readonly channel: SignalChannel;
  /** Which round it is, from 1. */
  readonly round: number;
  /** As in an `OfferExchange`. */
  readonly onUdpAwaited?: () => void;
  /** Once this many SYNs have been sent, no further attempt starts. */
  readonly maxSyns: number;
  readonly signal: AbortSignal;
}

/** How a round ended, and what it cost. */
export interface RoundResult {
  readonly end: RoundEnd;
  /** The connection, if the round ended with one. */
  readonly connected: ConnectedAttempt | undefined;
  /** The plan of the last attempt; `undefined` if no offer of the peer arrived. */
  readonly plan: PunchPlan | undefined;
  readonly attempts: readonly ConnectionAttempt[];
  /** SYNs that both sides had planned for the birthday method. */
  readonly birthdaySyns: number;
}

/**
 * Runs a round to its end. An abort ends it as well, with a result.
 *
 * @throws {NetworkError} if the channel breaks before there is a connection
 * @throws {UnreachableError} if the other side has the same role
 */
export async function runRound(options: RoundOptions): Promise<RoundResult> {
  return await new Round(options).run();
}

/** SYNs that dialling sent. */
export function countSyns(attempts: readonly ConnectionAttempt[]): number {
  return attempts.reduce((sum, { tries }) => sum + tries, 0);
}

class Round {
  readonly #options: RoundOptions;
  readonly #exchange: OfferExchange;
  readonly #attempts: PunchAttempt[] = [];
  /** Ends what is to be known before an attempt. */
  #preparing: AbortController | undefined;
  readonly #over = Promise.withResolvers<RoundEnd>();
  readonly #tasks = new TaskGroup((error) => this.#over.reject(error));
  readonly #timer = new ResettableTimer(() => this.#dispatch({ kind: "time" }));
  #state: RoundState;
  /** Those with which UDP is to join. */
  #lateOffers: BothOffers | undefined;
  #connected: ConnectedAttempt | undefined;

  constructor(options: RoundOptions) {
    this.#options = options;
    this.#state = initialRoundState(options.maxSyns);
    this.#exchange = new OfferExchange({
      channel: options.channel,
      role: options.role,
      sharedSecret: options.sharedSecret,
      round: options.round,
      source: sourceOf(options),
      onOffer: (offer) => this.#dispatch({ kind: "offer", offer }),
      onUdpOffer: (remote) => {
        this.#lateOffers = { local: this.#exchange.localOffer, remote, headStartMs: 0 };
        this.#joinUdp();
      },
      onUdpAwaited: options.onUdpAwaited,
      onConfirmed: () => this.#dispatch({ kind: "confirmed" }),
      onLaterRound: (round) => this.#dispatch({ kind: "superseded", round }),
    });
  }

  async run(): Promise<RoundResult> {
    const { signal } = this.#options;
    const onAbort = () => this.#dispatch({ kind: "aborted" });
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) onAbort();
    else {
      this.#tasks.run((ended) => this.#exchange.run(ended));
      this.#tasks.run((ended) => this.#followWithUdp(ended));
    }
    let end: RoundEnd | undefined;
    try {
      end = await this.#over.promise;
    } finally {
      signal.removeEventListener("abort", onAbort);
      this.#timer.clear();
      this.#attempts.at(-1)?.abandon();
      await this.#tasks.stop();
      // A connection may be nominated at the moment when the round ends otherwise: nothing else would close it.
      if (end?.kind !== "connected") this.#connected?.nominated.connection.reset();
    }
    return {
      end,
      connected: end.kind === "connected" ? this.#connected : undefined,
      plan: this.#attempts.at(-1)?.plan,
      attempts: this.#attempts.flatMap(({ attempts }) => attempts),
      birthdaySyns: this.#attempts.reduce((sum, { plan }) => sum + plan.birthdaySyns, 0),
    };
  }

  #dispatch(event: RoundEvent): void {
    const { state, actions } = stepRound(this.#state, event, performance.now());
    this.#state = state;
    for (const action of actions) this.#perform(action);
    const { phase } = this.#state;
    if (phase.kind === "lingering") this.#timer.set(phase.untilMs - performance.now());
    if (phase.kind === "over") this.#over.resolve(phase.end);
  }

  #perform(action: RoundAction): void {
    switch (action.kind) {
      case "attempt":
        return this.#tasks.run((ended) => this.#attempt(action.offer, ended));
      case "confirm":
        return this.#attempts.at(-1)?.confirm();
      case "abandon":
        this.#preparing?.abort();
        return this.#attempts.at(-1)?.abandon();
    }
  }

  async #attempt(remote: PunchOffer, ended: AbortSignal): Promise<void> {
    const { localOffer: local, headStartMs } = this.#exchange;
    const isManual = this.#options.channel.isManual ?? false;
    const offers = { local, remote, headStartMs };
    const { base } = this.#options;
    const options = {
      ...this.#options,
      isManual,
      hasRoom: () => base.hasRoom(),
      onExhausted: (dials: number) => base.noteExhausted(dials),
    };
    const preparing = new AbortController(); // another offer of the peer ends this attempt alone
    this.#preparing = preparing;
    const signal = AbortSignal.any([ended, preparing.signal]);
    let outcome: AttemptOutcome = "abandoned";
    try {
      const facts = await factsAbout(options, offers, signal);
      outcome = await this.#attemptWith(facts, options, offers, signal);
    } catch (error) {
      ended.throwIfAborted();
      if (!preparing.signal.aborted) throw error;
    }
    this.#dispatch({ kind: "attempted", outcome, syns: this.#syns });
  }

  async #followWithUdp(ended: AbortSignal): Promise<void> {
    const { base, udp, channel } = this.#options;
    if (udp === undefined || channel.isManual) return;
    if (await base.udpSettled(ended)) await this.#exchange.tellUdp();
  }

  /** UDP joins the attempt under way, or the one that is being prepared. */
  #joinUdp(): void {
    const [attempt, offers] = [this.#attempts.at(-1), this.#lateOffers];
    if (offers === undefined || attempt?.remoteKey !== offers.remote.key) return;
    this.#lateOffers = undefined;
    const options = { ...this.#options, isManual: false };
    this.#tasks.run(async (ended) =>
      attempt.joinUdp(await factsAbout(options, offers, ended), offers)
    );
  }

  /** If people carry the offers, the other side may start minutes later, and prove only then that it is on this host. */
  async #attemptWith(
    facts: DialFacts,
    options: RoundOptions & Omit<PunchAttemptOptions, "facts">,
    offers: BothOffers,
    signal: AbortSignal,
  ): Promise<AttemptOutcome> {
    const attempt = new PunchAttempt({ ...options, facts }, offers);
    this.#attempts.push(attempt);
    this.#joinUdp();
    if (this.#state.isConfirmed) attempt.confirm();
    const proved = optionalResolvers<boolean>();
    await using waiting = new TaskGroup(proved.reject);
    if (options.isManual && !facts.isSameHost) {
      waiting.run(async (over) => {
        const isProved = await isPeerOnSameHost(options, offers, {
          timeoutMs: manualLimits(options.role).timeoutMs,
          signal: AbortSignal.any([over, signal]),
        });
        proved.resolve(isProved);
        if (isProved) attempt.abandon();
      });
    } else proved.resolve(false);
    const result = await attempt.finished;
    if (result.kind === "connected") this.#connected = result; // no attempt follows
    const mayBeProved = result.kind === "abandoned" || result.kind === "impossible";
    if (!mayBeProved || signal.aborted) return result.kind;
    if (!await abortable(proved.promise, signal)) return result.kind;
    return await this.#attemptWith({ ...facts, isSameHost: true }, options, offers, signal);
  }

  get #syns(): number {
    return countSyns(this.#attempts.flatMap(({ attempts }) => attempts));
  }
}

/**
 * What this host finds out by itself about the addresses in an offer, before it dials them. The addresses that it offers
 * itself are its own, so it need not ask about them.
 */
async function factsAbout(
  options: RoundOptions & { readonly isManual: boolean },
  offers: BothOffers,
  signal: AbortSignal,
): Promise<DialFacts> {
  const { network, base, isManual } = options;
  const { side, udp } = offers.remote;
  const known = new Set(hostIps(offers.local.side));
  const ips = [...new Set([side, udp].flatMap((each) => each === undefined ? [] : ipsOf(each)))]
    .filter((ip) => !known.has(ip));
  const hasIpv6 = ips.some((ip) => ipFamily(ip) === 6);
  const [areOwn, isSameHost, nat64Prefixes] = await Promise.all([
    Promise.all(ips.map((ip) => isOwnAddress(network, ip))),
    !isManual && isPeerOnSameHost(options, offers, { signal }),
    hasIpv6 ? base.nat64Prefixes() : [],
  ]);
  return { ownIps: ips.filter((_, index) => areOwn[index]), isSameHost, nat64Prefixes };
}

/** The IP addresses that a description names. */
function ipsOf({ candidates, profile: { externalIp } }: PunchDescription): string[] {
  const offered = candidates.map(({ address }) => address.ip);
  return externalIp === null ? offered : [externalIp, ...offered];
}

/** What this side offers of its base socket. */
function sourceOf({ base, pathKinds, channel, udp, beforeSpray }: RoundOptions): OfferSource {
  const hasUdp = udp !== undefined;
  const lasting = channel.isManual ? withoutPredictions : (each: PunchDescription) => each;
  const relays = beforeSpray && !channel.isManual ? { relaysFirst: true } : {};
  return {
    get description() {
      // Where ports cannot be known, a spray waits for it as for what SYNs get: two at once would share the budget.
      const pending = hasUdp && base.isUdpPending ? { udpFollows: true, isLearning: true } : {};
      return lasting({ ...withPathKinds(base.description, pathKinds), ...relays, ...pending });
    },
    get udp() {
      if (!hasUdp || base.udp === undefined) return undefined;
      return lasting(withPathKinds(base.udp.description, asTcpKinds(pathKinds)));
    },
    get sampleAgeMs() {
      return base.sampleAgeMs;
    },
    refresh: (signal) => base.refresh(signal),
    learned: async (signal) => {
      const ended = await Promise.all([base.learned(signal), hasUdp && base.udpSettled(signal)]);
      return ended.includes(true);
    },
  };
}

/** What an attempt needs. */
export interface PunchAttemptOptions {
  readonly network: Network;
  readonly role: PunchRole;
  /** Known only to the two sides; may be empty. */
  readonly sharedSecret: Uint8Array;
  /** The kinds of path to try. */
  readonly pathKinds: ReadonlySet<DirectPathKind>;
  /** Whether people carry the offers. */
  readonly isManual: boolean;
  /** What this side knows by itself. */
  readonly facts: DialFacts;
  /** What the peer may still make this host send. */
  readonly budget: DialBudget;
  /** Whether the NAT still opens sessions. */
  readonly hasRoom: ConnectivityChecksOptions["hasRoom"];
  /** Called once it does not. */
  readonly onExhausted: ConnectivityChecksOptions["onExhausted"];
  /** What to wait for before many sockets take the NAT's sessions; never rejects. */
  readonly beforeSpray?: () => Promise<void>;
  /** Called with the plan. */
  readonly onPlan?: (plan: PunchPlan) => void;
  /** The punch by UDP that runs beside this one, if any. */
  readonly udp?: UdpRival;
  readonly base: BaseSocket;
}

/** The punch by UDP that runs beside one by TCP. */
export interface UdpRival {
  /** The plan of the latest attempt; `undefined` before, and if one side has no description for UDP. */
  readonly plan: PunchPlan | undefined;
  /**
   * Starts with the same offers, unless one side lacks UDP.
   *
   * @param beforeSpray what to wait for before many sockets take the NAT's sessions
   * @returns what the punch by TCP does, which leaves a spray to UDP if both need one and UDP is as likely to hit
   */
  begin(
    plan: PunchPlan,
    facts: DialFacts,
    offers: BothOffers,
    base: BaseSocket,
    beforeSpray?: () => Promise<void>,
  ): PunchPlan;
  /** A dial over TCP has connected. */
  onTcpConnected(): void;
}

/** How an attempt ended. */
export type AttemptResult =
  | ConnectedAttempt
  | { readonly kind: "impossible" | "failed" | "abandoned" };

/** An attempt that found a connection. */
export interface ConnectedAttempt {
  readonly kind: "connected";
  readonly nominated: NominatedConnection;
  readonly plan: PunchPlan;
  /** When both offers were known, by `performance.now()`. */
  readonly startedAtMs: number;
  readonly channelBinding: Uint8Array;
  readonly pathKind: DirectPathKind;
}

/** Dials and listens as planned from two offers. */
class PunchAttempt {
  /** What this side does. */
  readonly plan: PunchPlan;
  /** Settles when everything that was opened is closed, except for the connection that it found. */
  readonly finished: Promise<AttemptResult>;
  readonly #startedAtMs = performance.now();
  readonly #nomination: Nomination;
  readonly #checks: ConnectivityChecks;
  readonly #abandoned = Promise.withResolvers<void>();
  readonly #options: PunchAttemptOptions;
  /** The key of the offer that it is made from. */
  readonly remoteKey: string;
  #isAbandoned = false;

  constructor(options: PunchAttemptOptions, { local, remote, headStartMs }: BothOffers) {
    const { role, sharedSecret, pathKinds, facts } = options;
    this.#options = options;
    this.remoteKey = remote.key;
    const limits = options.isManual ? manualLimits(role) : PUNCH_LIMITS;
    const plan = planPunch(local.side, remote.side, {
      role,
      isSecond: headStartMs > 0,
      signalRttMs: 2 * headStartMs,
      facts,
      limits,
    });
    const { method } = plan;
    const context: PathContext = { local: local.side, remote: remote.side, method, facts };
    const own = planWithPathKinds(plan, context, pathKinds);
    const offers = { local, remote, headStartMs };
    this.plan = this.#beginUdp(own, facts, offers) ?? own;
    options.onPlan?.(this.plan);
    this.#nomination = new Nomination(role, punchSecret(local, remote, sharedSecret), PROOF_MS);
    this.#checks = new ConnectivityChecks(this.plan, {
      network: options.network,
      punchPort: local.side.punchPort,
      canListenBeside: local.side.canListenBeside,
      listenMs: limits.timeoutMs,
      context,
      budget: options.budget,
      hasRoom: options.hasRoom,
      onExhausted: options.onExhausted,
      pathKinds,
      onConnection: (connection, origin) => {
        options.udp?.onTcpConnected();
        return this.#nomination.add(connection, origin);
      },
    });
    this.finished = this.plan.method === "impossible"
      ? Promise.resolve({ kind: "impossible" })
      : this.#run(spraysLast(method, local, remote) ? options.beforeSpray : undefined);
  }

  /** Everything that was tried. */
  get attempts(): ConnectionAttempt[] {
    return this.#checks.attempts;
  }

  /** The peer is known to have this side's offer. */
  confirm(): void {
    this.#checks.confirm();
  }

  /** UDP begins beside TCP, which goes on as it is. */
  joinUdp(facts: DialFacts, offers: BothOffers): void {
    if (!this.#isAbandoned) this.#beginUdp(this.plan, facts, offers);
  }

  #beginUdp(tcp: PunchPlan, facts: DialFacts, offers: BothOffers): PunchPlan | undefined {
    const { udp, base, beforeSpray } = this.#options;
    const waits = waitForRelays(offers.local, offers.remote);
    return udp?.begin(tcp, facts, offers, base, waits ? beforeSpray : undefined);
  }

  /** Ends the attempt early; a connection that both sides have agreed on by then is still its result. */
  abandon(): void {
    this.#isAbandoned = true;
    this.#abandoned.resolve();
  }

  async #run(beforeSpray?: () => Promise<void>): Promise<AttemptResult> {
    if (beforeSpray !== undefined) await Promise.race([beforeSpray(), this.#abandoned.promise]);
    if (this.#isAbandoned) return { kind: "abandoned" };
    const checking = this.#checks.run();
    try {
      await Promise.race([this.#nomination.winner, checking, this.#abandoned.promise]);
    } finally {
      this.#checks.stop();
      await this.#nomination[Symbol.asyncDispose](); // the checks wait for their connections to be settled
      await checking;
    }
    // Asked only now: a connection may have been nominated while everything else ended.
    const { nominated, channelBinding } = this.#nomination;
    if (nominated === undefined) return { kind: this.#isAbandoned ? "abandoned" : "failed" };
    return {
      kind: "connected",
      nominated,
      plan: this.plan,
      startedAtMs: this.#startedAtMs,
      channelBinding,
      pathKind: this.#checks.kindOf(nominated.connection),
    };
  }
}

/** Both sides must start together, so both wait, or neither. */
function spraysLast(method: PunchPlan["method"], local: PunchOffer, remote: PunchOffer): boolean {
  return method === "birthday" && waitForRelays(local, remote);
}

/** Whether both sides open relays before many sockets take their NATs' sessions. */
function waitForRelays(local: PunchOffer, remote: PunchOffer): boolean {
  return [local, remote].every(({ side }) => side.relaysFirst === true);
}

/** How long the other end of a connection may take to prove itself. Chosen by us: a few of the longest round trips. */
const PROOF_MS = 4000;
