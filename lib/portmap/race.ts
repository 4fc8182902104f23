/**
 * The race of protocols and gateways for a mapping: the first usable grant wins, and nothing that others granted
 * stays open.
 *
 * Who has not asked yet when the race is decided does not ask any more. Who has is heard out, because an answer that
 * nobody waits for leaves a port open; the caller does not wait for that.
 *
 * @module
 */

import type { Network } from "../net/network.ts";
import type { Gateway } from "./gateway.ts";
import {
  isOfGateway,
  type MapperName,
  type MappingAttempt,
  mappingAttempt,
  type MappingGrant,
  type MappingRequest,
  NoMappingError,
  type PortMapper,
} from "./mapper.ts";

/** One protocol with one gateway. */
export interface CandidateMapper {
  readonly protocol: MapperName;
  readonly gateway: Gateway;
  /** Gets ready to ask; nothing is opened by that. */
  ready(signal: AbortSignal): Promise<PortMapper>;
}

/** A grant, and who can renew and release it. */
export interface HeldGrant {
  readonly mapper: PortMapper;
  readonly grant: MappingGrant;
  /** Whom the grant is of. */
  readonly gateway: Gateway;
}

/** What {@linkcode raceForGrant} takes. */
export interface RaceOptions {
  /** What to ask this gateway for. */
  readonly request: (gateway: Gateway) => MappingRequest;
  /** Whether a grant is worth having; others are taken only if there is none. */
  readonly isUsable: (grant: MappingGrant) => boolean;
  /** When to give up. */
  readonly timeoutMs: number;
  /** Told what became of losers that cannot be released. */
  readonly onProblem?: (problem: unknown) => void;
  /** Gives up. */
  readonly signal: AbortSignal;
}

/** Who won. */
export interface RaceResult {
  readonly winner: HeldGrant;
  /**
   * Settles when the losers have been heard, and what they were granted has been released. What is left are the
   * winner's twins: grants of the same port to the same host, which in many routers are one entry with the winner's
   * and would take it with them. They are for whoever releases the winner to release after it.
   */
  readonly losers: Promise<readonly HeldGrant[]>;
}

/**
 * Runs a race.
 *
 * @throws {NoMappingError} if nobody granted anything
 * @throws the signal's reason on abort, when what was granted by then has been released
 */
export async function raceForGrant(
  candidates: readonly CandidateMapper[],
  options: RaceOptions,
): Promise<RaceResult> {
  const race = new Race(options);
  const runs = candidates.map((candidate) => race.run(candidate));
  const all = Promise.allSettled(runs).finally(() => race.end());
  const faults = Promise.all(runs); // of ours; what gateways do wrong is an attempt
  faults.catch(() => {});
  await Promise.race([race.won, race.stopped, all]);
  if (race.winner === undefined) {
    await all; // soon: nobody is heard out for long
    await faults;
  }
  const winner = race.winner ?? (options.signal.aborted ? undefined : race.spares.shift());
  const losers = all.then(() => releaseLosers(race.spares, winner, options.onProblem));
  if (winner !== undefined) return { winner, losers };
  await losers;
  options.signal.throwIfAborted();
  const { protocol, internal } = options.request(candidates[0]?.gateway ?? NOBODY);
  throw new NoMappingError({ protocol, internalPort: internal.port }, race.attempts);
}

/** Releases a grant, waiting no longer than somebody waits who wants to go. */
export async function releaseHeld(
  { mapper, grant }: HeldGrant,
  onProblem: (problem: unknown) => void = () => {},
): Promise<boolean> {
  const signal = AbortSignal.timeout(RELEASE_MS);
  try {
    await mapper.release(grant, { signal });
    return true;
  } catch (error) {
    if (error !== signal.reason && !isOfGateway(error)) throw error;
    onProblem(error);
    return false;
  }
}

class Race {
  readonly attempts: MappingAttempt[] = [];
  readonly spares: HeldGrant[] = [];
  readonly won: Promise<void>;
  /** Settles at the deadline, or on abort. */
  readonly stopped: Promise<void>;
  winner: HeldGrant | undefined;
  readonly #options: RaceOptions;
  readonly #win: () => void;
  readonly #stop: () => void;
  readonly #startMs = performance.now();
  /** Ends what asks for nothing yet. */
  readonly #decided = new AbortController();
  /** Ends what has asked, a while later. */
  readonly #heardOut = new AbortController();
  readonly #timers: ReturnType<typeof setTimeout>[] = [];

  constructor(options: RaceOptions) {
    this.#options = options;
    ({ promise: this.won, resolve: this.#win } = Promise.withResolvers<void>());
    ({ promise: this.stopped, resolve: this.#stop } = Promise.withResolvers<void>());
    this.#after(options.timeoutMs - HEAR_OUT_MS, () => this.#onStop());
    options.signal.addEventListener("abort", this.#onStop, { once: true });
    if (options.signal.aborted) this.#onStop();
  }

  async run(candidate: CandidateMapper): Promise<void> {
    const { protocol, gateway } = candidate;
    try {
      const mapper = await candidate.ready(this.#decided.signal);
      this.#decided.signal.throwIfAborted();
      const request = this.#options.request(gateway);
      const grant = await mapper.map(request, { signal: this.#heardOut.signal });
      this.#onGrant({ mapper, grant, gateway });
    } catch (error) {
      const isStopped = error === DECIDED || error === HEARD_OUT;
      if (!isStopped && !isOfGateway(error)) {
        this.#onStop();
        throw error;
      }
      const elapsedMs = performance.now() - this.#startMs;
      const asked = { protocol, gateway, elapsedMs };
      this.attempts.push(mappingAttempt(asked, isStopped ? noAnswerIn(elapsedMs) : error));
    }
  }

  /** Everybody is done. */
  end(): void {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#options.signal.removeEventListener("abort", this.#onStop);
  }

  #onGrant(held: HeldGrant): void {
    const isOver = this.#decided.signal.aborted;
    if (isOver || !this.#options.isUsable(held.grant)) {
      this.spares.push(held);
      return;
    }
    this.winner = held;
    this.#decide();
    this.#win();
  }

  readonly #onStop = (): void => {
    this.#decide();
    this.#stop();
  };

  #decide(): void {
    if (this.#decided.signal.aborted) return;
    this.#decided.abort(DECIDED);
    this.#after(HEAR_OUT_MS, () => this.#heardOut.abort(HEARD_OUT));
  }

  #after(delayMs: number, run: () => void): void {
    this.#timers.push(setTimeout(run, Math.max(0, delayMs)));
  }
}

async function releaseLosers(
  spares: readonly HeldGrant[],
  winner: HeldGrant | undefined,
  onProblem?: (problem: unknown) => void,
): Promise<HeldGrant[]> {
  const twins = spares.filter((spare) => winner !== undefined && isTwin(spare, winner));
  const others = spares.filter((spare) => !twins.includes(spare));
  await Promise.all(others.map((held) => releaseHeld(held, onProblem)));
  return twins;
}

function isTwin({ grant: a }: HeldGrant, { grant: b }: HeldGrant): boolean {
  return a.protocol === b.protocol && a.internal.port === b.internal.port &&
    a.internal.ip === b.internal.ip && a.external.port === b.external.port &&
    (a.gateway === b.gateway || a.external.ip === b.external.ip);
}

function noAnswerIn(elapsedMs: number): Error {
  return new Error(`no end of it in ${Math.round(elapsedMs)} ms`);
}

const DECIDED = new DOMException("The race is decided", "AbortError");
const HEARD_OUT = new DOMException("The loser has been heard for long enough", "AbortError");

const NOBODY: Gateway = { ip: "0.0.0.0", localIp: "0.0.0.0", source: "guess" };

/** Ours: how long a gateway that was asked may take to answer when nobody waits for it any more. */
const HEAR_OUT_MS = 1000;

/** Ours: how long a release may take. */
const RELEASE_MS = 4000;

/** Lets one job run at a time. If it fails all go on: a router that is silent is no queue. */
export class Turns {
  /** Which protocol granted last. */
  preferred: MapperName | undefined;
  #isTaken = false;
  readonly #waiting = new Set<() => void>();

  /** Runs a job when it is its turn, or it has waited for long enough. */
  async take<T>(job: () => Promise<T>): Promise<T> {
    await this.#wait();
    try {
      const result = await job();
      this.#pass(1);
      return result;
    } catch (error) {
      this.#pass(Infinity);
      throw error;
    }
  }

  #pass(count: number): void {
    this.#isTaken = false;
    for (const go of [...this.#waiting].slice(0, count)) go();
  }

  async #wait(): Promise<void> {
    if (!this.#isTaken) {
      this.#isTaken = true;
      return;
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    const go = () => {
      this.#waiting.delete(go);
      this.#isTaken = true;
      resolve();
    };
    const timer = setTimeout(go, TIMEOUT_MS);
    this.#waiting.add(go);
    await promise;
    clearTimeout(timer);
  }
}

/** Those of a network: all calls that go over it share its routers. */
export function turnsOf(network: Network): Turns {
  const known = TURNS.get(network);
  if (known !== undefined) return known;
  const turns = new Turns();
  TURNS.set(network, turns);
  return turns;
}

/**
 * The one thing that calls of `mapPort()` share. It is kept per network, lives as long as that, and is empty whenever
 * nobody asks.
 */
const TURNS = new WeakMap<Network, Turns>();

/** Ours: a hundred callers of a router that takes 80 ms for each get their turn before. */
const TIMEOUT_MS = 10_000;
