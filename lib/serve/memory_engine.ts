/**
 * When a server collects its garbage: often enough that a flood of connections does not pile it up, and once more when a
 * busy time is over.
 *
 * @module
 */

/** What is known of the load. */
export interface MemoryState {
  /** How many connections there had been at the last collection. */
  readonly collectedAt: number;
  /** Since when the server is quiet, and how many connections there had been then. */
  readonly quiet: { readonly sinceMs: number; readonly connections: number };
}

/** What is observed: how many connections there have been so far, refused ones included. */
export interface MemoryEvent {
  readonly kind: "counted";
  readonly connections: number;
}

/** What to collect. */
export interface MemoryAction {
  readonly kind: "collect";
  readonly what: "garbage" | "everything";
}

/** A server that starts. */
export function initialMemoryState(nowMs: number): MemoryState {
  return { collectedAt: 0, quiet: { sinceMs: nowMs, connections: 0 } };
}

/** The next state, and what to collect. */
export function stepMemory(
  { collectedAt, quiet: before }: MemoryState,
  { connections }: MemoryEvent,
  nowMs: number,
): { readonly state: MemoryState; readonly actions: readonly MemoryAction[] } {
  const isBusy = connections - before.connections > QUIET_CONNECTIONS;
  const quiet = isBusy ? { sinceMs: nowMs, connections } : before;
  const closed = connections - collectedAt;
  if (closed >= MAX_GARBAGE_CONNECTIONS) {
    // Enough is left over for everything to be collected when the busy time ends.
    const state = { collectedAt: connections - QUIET_CONNECTIONS - 1, quiet };
    return { state, actions: [{ kind: "collect", what: "garbage" }] };
  }
  if (closed > QUIET_CONNECTIONS && nowMs - quiet.sinceMs >= QUIET_MS) {
    const state = { collectedAt: connections, quiet };
    return { state, actions: [{ kind: "collect", what: "everything" }] };
  }
  return { state: { collectedAt, quiet }, actions: [] };
}

/**
 * Chosen by us: a connection leaves 1 to 12 KB. With four times as many, a strong flood left 118 MB instead of 99 to 103,
 * because the allocator keeps what has piled up; a collection takes 20 ms or more.
 */
const MAX_GARBAGE_CONNECTIONS = 2048;

/** Chosen by us: so few new connections in {@linkcode QUIET_MS} are not a busy time. */
const QUIET_CONNECTIONS = 64;

/** Chosen by us: as long as a client's messages may wait for their turn. */
const QUIET_MS = 10_000;
