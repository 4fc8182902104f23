/**
 * Decides which of the connections that were accepted may search for a path now. A search takes sockets, and requests to
 * other people's servers, so only a few run at a time; and anyone with the ticket can start searches that lead nowhere. So
 * a search is unproven until it has found a path, and unproven ones cannot keep the others out:
 *
 * | situation                      | what follows                                                                |
 * | ------------------------------ | --------------------------------------------------------------------------- |
 * | a place is free                | start, the newest first; those of keys that have connected before come first |
 * | all places are taken           | replace the oldest that has had its time, or wait for one                   |
 * | this key has its share         | replace one of its own that has had its time, or wait for one               |
 * | the other side has given up    | it has had its time                                                         |
 * | too many wait                  | drop the oldest of the key with most                                        |
 *
 * @module
 */

/** How much is admitted. */
export interface AdmissionLimits {
  /** How many searches run at a time. */
  readonly atOnce: number;
  /** How many of them for one key. */
  readonly perKey: number;
  /** How many of them are kept for keys that have connected before. */
  readonly reserved: number;
  /** How long a search runs before another may take its place. */
  readonly graceMs: number;
  /** How many wait. */
  readonly maxWaiting: number;
}

/** One search. */
export interface AdmittedSearch {
  readonly id: number;
  /** The other side's public key. */
  readonly key: string;
  /** Whether this key has connected before. */
  readonly isKnown: boolean;
  /** When it was requested, or started if it runs; milliseconds on a clock that never goes back. */
  readonly sinceMs: number;
}

/** All searches without a path. */
export interface AdmissionState {
  /** Those that run; the oldest first. */
  readonly running: readonly AdmittedSearch[];
  /** Those that wait; the oldest first. */
  readonly waiting: readonly AdmittedSearch[];
}

/** Something happened. */
export type AdmissionEvent =
  | {
    readonly kind: "requested";
    readonly id: number;
    readonly key: string;
    readonly isKnown: boolean;
  }
  /** It has found a path, or has ended, or no longer waits. */
  | { readonly kind: "done"; readonly id: number }
  /** The other side has given up: another may take its place at once. */
  | { readonly kind: "cancelled"; readonly id: number }
  | { readonly kind: "time" };

/** Something to do. */
export type AdmissionAction =
  | { readonly kind: "start"; readonly id: number }
  /** End it, started or not: another takes its place. */
  | { readonly kind: "displace"; readonly id: number };

/** What follows from an event. */
export interface AdmissionStep {
  readonly state: AdmissionState;
  readonly actions: readonly AdmissionAction[];
}

/** Nothing runs, nothing waits. */
export const EMPTY_ADMISSION: AdmissionState = { running: [], waiting: [] };

/** The next state, and what to do now. */
export function stepAdmission(
  state: AdmissionState,
  event: AdmissionEvent,
  nowMs: number,
  limits: AdmissionLimits = ADMISSION_LIMITS,
): AdmissionStep {
  let { running, waiting } = state;
  if (event.kind === "requested") {
    const { id, key, isKnown } = event;
    waiting = [...waiting, { id, key, isKnown, sinceMs: nowMs }];
  } else if (event.kind === "done") {
    running = without(running, event.id);
    waiting = without(waiting, event.id);
  } else if (event.kind === "cancelled") {
    running = running.map((each) => each.id === event.id ? { ...each, sinceMs: -Infinity } : each);
  }
  const actions: AdmissionAction[] = [];
  for (;;) {
    const next = nextOf({ running, waiting }, nowMs, limits);
    if (next === undefined) break;
    const { search, displaced } = next;
    if (displaced !== undefined) {
      running = without(running, displaced.id);
      actions.push({ kind: "displace", id: displaced.id });
    }
    waiting = without(waiting, search.id);
    running = [...running, { ...search, sinceMs: nowMs }];
    actions.push({ kind: "start", id: search.id });
  }
  while (waiting.length > limits.maxWaiting) {
    const { id } = leastWelcome(waiting);
    waiting = without(waiting, id);
    actions.push({ kind: "displace", id });
  }
  return { state: { running, waiting }, actions };
}

/** When one that waits may take the place of another, if nothing happens before. */
export function admissionWakeAtMs(
  { running, waiting }: AdmissionState,
  nowMs: number,
  { graceMs }: AdmissionLimits = ADMISSION_LIMITS,
): number {
  if (waiting.length === 0) return Infinity;
  const times = running.map(({ sinceMs }) => sinceMs + graceMs).filter((ms) => ms > nowMs);
  return Math.min(Infinity, ...times);
}

interface Next {
  readonly search: AdmittedSearch;
  readonly displaced?: AdmittedSearch;
}

/** The next to start. The newest first: its sender is still there, and a crowd that came before does not matter. */
function nextOf(state: AdmissionState, nowMs: number, limits: AdmissionLimits): Next | undefined {
  const { waiting } = state;
  const known = waiting.filter(({ isKnown }) => isKnown);
  const unknown = waiting.filter(({ isKnown }) => !isKnown).reverse();
  for (const search of [...known, ...unknown]) {
    const place = placeFor(search, state, nowMs, limits);
    if (place !== undefined) return { search, displaced: place.displaced };
  }
  return undefined;
}

/** Where it fits in: a free place, or that of another. */
function placeFor(
  { key, isKnown }: AdmittedSearch,
  { running }: AdmissionState,
  nowMs: number,
  { atOnce, perKey, reserved, graceMs }: AdmissionLimits,
): { readonly displaced?: AdmittedSearch } | undefined {
  const replaceable = running.filter(({ sinceMs }) => sinceMs + graceMs <= nowMs);
  const own = running.filter((each) => each.key === key);
  const unknown = running.filter((each) => !each.isKnown);
  let displaced: AdmittedSearch | undefined;
  if (own.length >= perKey) {
    displaced = replaceable.find((each) => each.key === key);
  } else if (!isKnown && unknown.length >= atOnce - reserved) {
    displaced = replaceable.find((each) => !each.isKnown);
  } else if (running.length >= atOnce) {
    displaced = replaceable.find((each) => !each.isKnown) ?? replaceable[0];
  } else return {};
  return displaced === undefined ? undefined : { displaced };
}

/** The oldest of the key with most, of those that have not connected before if there are any. */
function leastWelcome(waiting: readonly AdmittedSearch[]): AdmittedSearch {
  const unknown = waiting.filter(({ isKnown }) => !isKnown);
  const candidates = unknown.length > 0 ? unknown : waiting;
  const count = (key: string) => candidates.filter((each) => each.key === key).length;
  return candidates.reduce((worst, each) => count(each.key) > count(worst.key) ? each : worst);
}

function without(searches: readonly AdmittedSearch[], id: number): readonly AdmittedSearch[] {
  return searches.filter((each) => each.id !== id);
}

/** Chosen by us, see each. */
const ADMISSION_LIMITS: AdmissionLimits = {
  /** Each takes a port and connections to STUN servers, which accept only a few from one address. */
  atOnce: 16,
  perKey: 8,
  reserved: 4,
  /** A punch that works takes a round trip or two, and time to find its own address before that. */
  graceMs: 3000,
  maxWaiting: 128,
};
