/**
 * The race of protocols and gateways for a mapping: the first usable grant wins, and nothing that the others were
 * granted stays open.
 *
 * A candidate that has not asked yet when the race is decided never asks. One that has asked is waited for, because an
 * answer that is never received leaves a port open; the caller does not wait for that. Races of one network take turns.
 *
 * @module
 */

import { PunchlineError } from "../base/errors.ts";
import { ResettableTimer } from "../base/timers.ts";
import type { Network } from "../net/network.ts";
import type { Gateway } from "./gateway.ts";
import {
  type MapperName,
  type MappingAttempt,
  mappingAttempt,
  type MappingGrant,
  MappingRefusedError,
  type MappingRequest,
  NoMappingError,
  type PortMapper,
} from "./mapper.ts";

/** One protocol with one gateway. */
export interface CandidateMapper {
  readonly protocol: MapperName;
  readonly gateway: Gateway;
  /** What to do if it does not answer, if that is not what the protocol suggests. */
  readonly silenceRemedy?: string;
  /** Gets ready to ask, without opening anything; `undefined` if it turns out that there is nothing to ask. */
  ready(signal: AbortSignal): Promise<PortMapper | undefined>;
}

/** A grant, with the mapper that can renew and release it. */
export interface HeldGrant {
  readonly mapper: PortMapper;
  readonly grant: MappingGrant;
  /** The gateway that granted it. */
  readonly gateway: Gateway;
}

/** What {@linkcode raceForGrant} takes. */
export interface RaceOptions {
  /** What to ask a gateway for. */
  readonly request: (gateway: Gateway) => MappingRequest;
  /** Whether a grant is worth having. If no grant is, the first of the others is taken. */
  readonly isUsable: (grant: MappingGrant) => boolean;
  readonly timeoutMs: number;
  /** Called with why a loser could not be released. */
  readonly onProblem?: (problem: unknown) => void;
  readonly signal: AbortSignal;
}

/** How a race ended. */
export interface RaceResult {
  readonly winner: HeldGrant;
  /**
   * Settles once the losers have answered, and what they were granted has been released. The result is the duplicate
   * grants: grants of the same port to the same host. In many routers they are one entry with the winner's, so releasing
   * them would close the winner too. Release them after the winner.
   */
  readonly losers: Promise<readonly HeldGrant[]>;
}

/**
 * Runs a race.
 *
 * @throws {NoMappingError} if no candidate was granted anything
 * @throws the signal's reason on abort, once what was granted by then has been released
 */
export async function raceForGrant(
  candidates: readonly CandidateMapper[],
  options: RaceOptions,
): Promise<RaceResult> {
  const race = new Race(options);
  const asked = Promise.allSettled(candidates.map((candidate, index) => race.ask(candidate, index)))
    .finally(() => race.end());
  await Promise.race([race.won, asked]);
  if (race.winner === undefined) throwFault(await asked);
  const winner = race.winner ?? (options.signal.aborted ? undefined : race.spares.shift());
  const losers = asked.then(() => releaseLosers(race.spares, winner, options.onProblem));
  if (winner !== undefined) return { winner, losers };
  await losers;
  options.signal.throwIfAborted();
  const { protocol, internal } = options.request(candidates[0]?.gateway ?? NO_GATEWAY);
  throw new NoMappingError(`map ${protocol.toUpperCase()} port ${internal.port}`, race.attempts);
}

/**
 * Releases a grant, and gives up after a few seconds, because the program may be ending.
 *
 * @returns why the port may still be open; `undefined` if the gateway has closed it
 */
export async function releaseGrant(
  { mapper, grant }: HeldGrant,
  onProblem: (problem: unknown) => void = () => {},
): Promise<string | undefined> {
  const signal = AbortSignal.timeout(mapper.name === "upnp" ? UPNP_RELEASE_MS : RELEASE_MS);
  try {
    await mapper.release(grant, { signal });
    return undefined;
  } catch (error) {
    if (error !== signal.reason && !(error instanceof PunchlineError)) throw error;
    onProblem(error);
    return error instanceof MappingRefusedError
      ? `the gateway did not close it: ${error.reason}`
      : "the gateway did not confirm it";
  }
}

/** Runs one job at a time. When one fails, all that wait go ahead: a silent router needs no queue. */
export class RouterMutex {
  /** The protocol that granted last. */
  preferredProtocol: MapperName | undefined;
  /** Whether PCP by anycast has worked, by this host's address: each address asks only once. */
  readonly anycast = new Map<string, boolean>();
  #isLocked = false;
  readonly #waiting = new Set<() => void>();

  /** Runs a job once those before it are done, or it has waited for long enough. */
  async through<T>(job: () => Promise<T>): Promise<T> {
    await this.#lock();
    try {
      const result = await job();
      this.#unlock(1);
      return result;
    } catch (error) {
      this.#unlock(Infinity);
      throw error;
    }
  }

  async #lock(): Promise<void> {
    if (!this.#isLocked) {
      this.#isLocked = true;
      return;
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    const go = () => {
      this.#waiting.delete(go);
      this.#isLocked = true;
      resolve();
    };
    const timer = setTimeout(go, MAX_WAIT_MS);
    this.#waiting.add(go);
    await promise;
    clearTimeout(timer);
  }

  #unlock(count: number): void {
    this.#isLocked = false;
    for (const go of [...this.#waiting].slice(0, count)) go();
  }
}

/** The mutex of a network: all calls that use the network share its routers. */
export function routerMutexOf(network: Network): RouterMutex {
  const known = MUTEXES.get(network);
  if (known !== undefined) return known;
  const mutex = new RouterMutex();
  MUTEXES.set(network, mutex);
  return mutex;
}

class Race {
  readonly #attempts = new Map<number, MappingAttempt>();
  /** Grants that came too late, or are not usable. */
  readonly spares: HeldGrant[] = [];
  readonly won: Promise<void>;
  winner: HeldGrant | undefined;
  readonly #options: RaceOptions;
  readonly #win: () => void;
  readonly #startMs = performance.now();
  /** Ends candidates that are getting ready. */
  readonly #decided = new AbortController();
  /** Ends candidates that have asked, a while later. */
  readonly #over = new AbortController();
  readonly #timer = new ResettableTimer(() => this.#onTimer());
  /** The protocols of the candidates that have asked, and have not been answered. */
  readonly #asking: MapperName[] = [];
  /** When the last of them by NAT-PMP began. */
  #natPmpAskedAtMs = -Infinity;

  constructor(options: RaceOptions) {
    this.#options = options;
    ({ promise: this.won, resolve: this.#win } = Promise.withResolvers<void>());
    const { timeoutMs } = options;
    this.#timer.set(timeoutMs - Math.min(LATE_ANSWER_MS + CLOSING_MS, timeoutMs / 2));
    options.signal.addEventListener("abort", this.#onAbort, { once: true });
    if (options.signal.aborted) this.#onAbort();
  }

  /** How the candidates failed, in their order. */
  get attempts(): MappingAttempt[] {
    return [...this.#attempts].sort(([a], [b]) => a - b).map(([, attempt]) => attempt);
  }

  /** @param index the candidate's place in the list */
  async ask(candidate: CandidateMapper, index: number): Promise<void> {
    const { protocol, gateway, silenceRemedy } = candidate;
    try {
      const mapper = await candidate.ready(this.#decided.signal);
      this.#decided.signal.throwIfAborted();
      if (mapper === undefined) return;
      const request = this.#options.request(gateway);
      const grant = await this.#map(mapper, request);
      this.#onGrant({ mapper, grant, gateway });
    } catch (error) {
      const isEnded = error === DECIDED || error === OVER;
      if (!isEnded && !(error instanceof PunchlineError)) {
        this.#decide();
        throw error;
      }
      const elapsedMs = performance.now() - this.#startMs;
      const call = { protocol, gateway, elapsedMs };
      const attempt = mappingAttempt(call, isEnded ? unfinished(elapsedMs) : error);
      const isSilent = attempt.outcome === "timed-out";
      const remedy = isSilent && silenceRemedy !== undefined ? silenceRemedy : attempt.remedy;
      this.#attempts.set(index, { ...attempt, remedy });
    }
  }

  /** All candidates are done. */
  end(): void {
    this.#timer.clear();
    this.#options.signal.removeEventListener("abort", this.#onAbort);
  }

  async #map(mapper: PortMapper, request: MappingRequest): Promise<MappingGrant> {
    this.#asking.push(mapper.name);
    if (mapper.name === "nat-pmp") this.#natPmpAskedAtMs = performance.now();
    try {
      return await mapper.map(request, { signal: this.#over.signal });
    } finally {
      this.#asking.splice(this.#asking.indexOf(mapper.name), 1);
    }
  }

  #onGrant(held: HeldGrant): void {
    if (this.#decided.signal.aborted || !this.#options.isUsable(held.grant)) {
      this.spares.push(held);
      return;
    }
    this.winner = held;
    this.#decide();
    this.#win();
  }

  #decide(): void {
    if (this.#decided.signal.aborted) return;
    this.#decided.abort(DECIDED);
    this.#timer.set(LATE_ANSWER_MS);
  }

  /** PCP and UPnP close what an aborted request may have opened; NAT-PMP cannot tell its port from another program's. */
  readonly #onAbort = (): void => {
    this.#decide();
    const isAsking = this.#asking.includes("nat-pmp");
    const answersByMs = isAsking ? this.#natPmpAskedAtMs + LATE_ANSWER_MS - performance.now() : 0;
    this.#timer.set(Math.max(ABORTED_MS, answersByMs));
  };

  #onTimer(): void {
    if (this.#decided.signal.aborted) this.#over.abort(OVER);
    else this.#decide();
  }
}

/** What gateways do wrong is an attempt; anything else is a fault of this program. */
function throwFault(results: readonly PromiseSettledResult<void>[]): void {
  for (const result of results) if (result.status === "rejected") throw result.reason;
}

async function releaseLosers(
  spares: readonly HeldGrant[],
  winner: HeldGrant | undefined,
  onProblem?: (problem: unknown) => void,
): Promise<HeldGrant[]> {
  const duplicates = spares.filter((spare) => winner !== undefined && isDuplicate(spare, winner));
  const others = spares.filter((spare) => !duplicates.includes(spare));
  await Promise.all(others.map((held) => releaseGrant(held, onProblem)));
  return duplicates;
}

function isDuplicate({ grant: a }: HeldGrant, { grant: b }: HeldGrant): boolean {
  return a.protocol === b.protocol && a.internal.port === b.internal.port &&
    a.internal.ip === b.internal.ip && a.external.port === b.external.port &&
    (a.gateway === b.gateway || a.external.ip === b.external.ip);
}

function unfinished(elapsedMs: number): Error {
  return new Error(`not finished after ${Math.round(elapsedMs)} ms`);
}

/** All that calls of `mapPort()` share. An entry lives as long as its network, and is empty while no call waits. */
const MUTEXES = new WeakMap<Network, RouterMutex>();

const DECIDED = new DOMException("The race is decided", "AbortError");
const OVER = new DOMException("The race is over", "AbortError");

const NO_GATEWAY: Gateway = { ip: "0.0.0.0", localIp: "0.0.0.0", source: "guess" };

/** Chosen by us: how long to wait for a gateway's late answer, which would leave a port open. */
const LATE_ANSWER_MS = 1000;

/** Chosen by us: how long a mapper may take to close what an unanswered request may have opened, when time is up. */
const CLOSING_MS = 2000;

/** Chosen by us: answers that are on their way arrive within this time. */
const ABORTED_MS = 100;

/** Chosen by us: how long a release may take. By UPnP it is three calls: reading the entry, deleting it, reading again. */
const RELEASE_MS = 4000;
const UPNP_RELEASE_MS = 8000;

/** Chosen by us: enough for a hundred callers of a router that takes 80 ms for each. */
const MAX_WAIT_MS = 10_000;
