/**
 * One connection after another, until what is done over them is done.
 *
 * @module
 */

import { NetworkError, NoResponseError, RefusedError, UnreachableError } from "../base/errors.ts";
import { Deadline } from "../base/timers.ts";
import type { TcpConnection } from "../net/network.ts";
import { TransferError } from "./files.ts";
import { delay } from "@std/async/delay";

/**
 * Gets the next connection: dials, or waits for the other side to dial. Called for the first one and after every break;
 * the connection is taken over. Fails with the reason of the signal on abort.
 *
 * ```ts
 * import type { NextConnection } from "@punchline/punchline/transfer";
 * import { systemNetwork } from "@punchline/punchline/net";
 *
 * const dial: NextConnection = ({ signal }) =>
 *   systemNetwork.connectTcp({ ip: "192.0.2.1", port: 4000 }, { signal });
 * ```
 */
export type NextConnection = (options: { signal: AbortSignal }) => Promise<TcpConnection>;

/** How a break is dealt with. */
export interface ReconnectOptions {
  /** How many connections in a row may break without having brought anything; 5 unless given. */
  readonly maxFruitless?: number;
  /** For how long the next connection is tried after a break; 120,000 unless given. */
  readonly reconnectWithinMs?: number;
  /** Told of every break that is not the end. */
  readonly onBreak?: (error: Error) => void;
  /** Gives it all up. What has arrived of a file stays for the next time. */
  readonly signal?: AbortSignal;
}

/** What is done over connections. */
export interface Run<T> {
  /** Does it over one, as far as that goes. */
  over(connection: TcpConnection): Promise<T>;
  /** Grows while a connection brings anything. */
  readonly progress: number;
  /** What it comes to if no further connection can be had; `undefined` while it cannot do without. */
  readonly outcome: T | undefined;
}

/** What it came to, over how many breaks, and how long that took from the first connection on. */
export interface Outcome<T> {
  readonly outcome: T;
  readonly breaks: number;
  readonly elapsedMs: number;
}

/**
 * Does something over one connection, and over the next where that broke. If the first cannot be had, that is the end.
 *
 * @throws {TransferError} `broken`, with the last failure as its cause
 * @throws the signal's reason on abort, and whatever is no break
 */
export async function overConnections<T>(
  next: NextConnection,
  run: Run<T>,
  options: ReconnectOptions = {},
): Promise<Outcome<T>> {
  const { maxFruitless = MAX_FRUITLESS, signal = NEVER, onBreak } = options;
  signal.throwIfAborted();
  let connection = await next({ signal });
  const startedMs = performance.now();
  const end = (outcome: T, breaks: number): Outcome<T> => {
    return { outcome, breaks, elapsedMs: performance.now() - startedMs };
  };
  for (let breaks = 0, fruitless = 0;; breaks++) {
    const before = run.progress;
    try {
      return end(await overOne(connection, run, signal), breaks);
    } catch (error) {
      if (!isBreak(error)) throw error;
      fruitless = run.progress > before ? 0 : fruitless + 1;
      if (fruitless < maxFruitless) onBreak?.(error);
      else if (run.outcome !== undefined) return end(run.outcome, breaks);
      else throw broken(`${fruitless} connections in a row brought nothing`, error);
    }
    if (fruitless > 0) await delay(pauseMs(fruitless), { signal });
    const again = await reconnect(next, signal, options, run.outcome !== undefined);
    if ("connection" in again) connection = again.connection;
    else if (run.outcome !== undefined) return end(run.outcome, breaks + 1);
    else throw again.failure;
  }
}

async function overOne<T>(connection: TcpConnection, run: Run<T>, signal: AbortSignal): Promise<T> {
  using _closed = connection;
  const onAbort = () => connection.reset();
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    signal.throwIfAborted();
    return await run.over(connection);
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

async function reconnect(
  next: NextConnection,
  signal: AbortSignal,
  options: ReconnectOptions,
  isComplete: boolean,
): Promise<{ connection: TcpConnection } | { failure: TransferError }> {
  const { reconnectWithinMs = RECONNECT_WITHIN_MS } = options;
  const withinMs = Math.min(reconnectWithinMs, isComplete ? GOODBYE_WITHIN_MS : Infinity);
  using deadline = new Deadline(withinMs, signal);
  let last: unknown;
  for (let failures = 1;; failures++) {
    try {
      return { connection: await next({ signal: deadline.signal }) };
    } catch (error) {
      signal.throwIfAborted();
      if (!deadline.signal.aborted && !mayPass(error)) throw error;
      last = error;
    }
    await delay(pauseMs(failures), { signal: deadline.signal }).catch(() => {});
    signal.throwIfAborted();
    if (!deadline.signal.aborted) continue;
    return { failure: broken(`no further one came within ${withinMs} ms`, last) };
  }
}

/** Whether the connection has ended by itself, which the next one may not. */
function isBreak(error: unknown): error is NetworkError {
  return error instanceof NetworkError && BREAKS.has(error.reason);
}

/** Whether dialling may succeed a little later. */
function mayPass(error: unknown): boolean {
  return error instanceof NetworkError && error.reason !== "not-permitted" ||
    error instanceof UnreachableError || error instanceof NoResponseError ||
    error instanceof RefusedError;
}

function broken(what: string, cause: unknown): TransferError {
  return new TransferError(`Cannot go on: the connection broke, and ${what}`, "broken", { cause });
}

function pauseMs(failures: number): number {
  return Math.min(FIRST_PAUSE_MS * 2 ** (failures - 1), LAST_PAUSE_MS);
}

const BREAKS: ReadonlySet<string> = new Set(["reset", "timed-out", "unreachable"]);
const NEVER = new AbortController().signal;

/** Ours. */
const MAX_FRUITLESS = 5;

/** Ours: a router has restarted by then, and a laptop is on its next network. */
const RECONNECT_WITHIN_MS = 120_000;

/** Ours: the other side may have gone, as it has all that it wants. */
const GOODBYE_WITHIN_MS = 10_000;

/** Ours: a dial that is refused takes no time by itself. */
const FIRST_PAUSE_MS = 250;
const LAST_PAUSE_MS = 8000;
