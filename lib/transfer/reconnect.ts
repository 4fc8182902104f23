/**
 * Runs a job over one connection after another until it is complete.
 *
 * @module
 */

import { backoff } from "../base/backoff.ts";
import { NetworkError, NoResponseError, RefusedError, UnreachableError } from "../base/errors.ts";
import { Deadline } from "../base/timers.ts";
import type { TcpConnection } from "../net/network.ts";
import { TransferError } from "./files.ts";
import { delay } from "@std/async/delay";

/**
 * Opens the next connection: dials, or waits for the other side to dial. Called for the first connection and after every
 * break. The connection is taken over. On abort it must reject with the reason of the signal.
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

/** What to do when a connection breaks. */
export interface ReconnectOptions {
  /** How many connections in a row may break without progress. Default: 5. */
  readonly maxFruitless?: number;
  /** How long to try to reconnect after a break, in milliseconds. Default: 120,000. */
  readonly reconnectWithinMs?: number;
  /** Called on every break after which the transfer reconnects. */
  readonly onBreak?: (error: Error) => void;
  /** Aborts the transfer. What has arrived of a file is kept for the next time. */
  readonly signal?: AbortSignal;
}

/** A job that can continue over another connection. */
export interface ResumableJob<T> {
  /** Runs the job over a connection, to its end or until the connection breaks. */
  run(connection: TcpConnection): Promise<T>;
  /** Grows whenever a connection makes progress. */
  readonly progress: number;
  /** The result, once the job does not depend on another connection; `undefined` before. */
  readonly result: T | undefined;
  /** Whether it ends soon after an abort without a reset, because it has to tell the other side something first. */
  readonly endsItself?: boolean;
}

/** How a resumable job ended. */
export interface CompletedJob<T> {
  readonly result: T;
  /** How often the connection broke. */
  readonly breaks: number;
  /** The time from the first connection to the end. */
  readonly elapsedMs: number;
}

/**
 * Runs a job over a connection, and over another one whenever it breaks. The first connection is not retried.
 *
 * @throws {TransferError} `broken`, with the last failure as its cause
 * @throws the signal's reason on abort, and every error that is not a broken connection
 */
export async function runOverConnections<T>(
  next: NextConnection,
  job: ResumableJob<T>,
  options: ReconnectOptions = {},
): Promise<CompletedJob<T>> {
  const { maxFruitless = MAX_FRUITLESS, signal = NEVER, onBreak } = options;
  signal.throwIfAborted();
  let connection = await next({ signal });
  const startedMs = performance.now();
  const completed = (result: T, breaks: number): CompletedJob<T> => {
    return { result, breaks, elapsedMs: performance.now() - startedMs };
  };
  for (let breaks = 0, fruitless = 0;; breaks++) {
    const before = job.progress;
    try {
      return completed(await runOver(connection, job, signal), breaks);
    } catch (error) {
      if (!isBreak(error)) throw error;
      fruitless = job.progress > before ? 0 : fruitless + 1;
      if (fruitless < maxFruitless) onBreak?.(error);
      else if (job.result !== undefined) return completed(job.result, breaks);
      else throw broken(`${fruitless} connections in a row made no progress`, error);
    }
    if (fruitless > 0) await delay(backoff(PAUSES, fruitless), { signal });
    const again = await reconnect(next, signal, options, job.result !== undefined);
    if ("connection" in again) connection = again.connection;
    else if (job.result !== undefined) return completed(job.result, breaks + 1);
    else throw again.failure;
  }
}

async function runOver<T>(
  connection: TcpConnection,
  job: ResumableJob<T>,
  signal: AbortSignal,
): Promise<T> {
  using _closed = connection;
  const onAbort = () => {
    if (!job.endsItself) connection.reset();
  };
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    signal.throwIfAborted();
    return await job.run(connection);
  } catch (error) {
    signal.throwIfAborted(); // in that case the error only says that the connection was reset
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
  let lastFailure: unknown;
  for (let failures = 0;; failures++) {
    try {
      if (failures > 0) await delay(backoff(PAUSES, failures), { signal: deadline.signal });
      return { connection: await next({ signal: deadline.signal }) };
    } catch (error) {
      signal.throwIfAborted();
      if (deadline.signal.aborted) {
        return {
          failure: broken(`there was no new one within ${withinMs / 1000} s`, lastFailure ?? error),
        };
      }
      if (!mayPass(error)) throw error;
      lastFailure = error;
    }
  }
}

/** Whether the connection broke, so that another one may work. */
function isBreak(error: unknown): error is NetworkError {
  return error instanceof NetworkError && BREAKS.has(error.reason);
}

/** Whether dialing again may succeed. */
function mayPass(error: unknown): boolean {
  return error instanceof NetworkError && error.reason !== "not-permitted" ||
    error instanceof UnreachableError || error instanceof NoResponseError ||
    error instanceof RefusedError;
}

function broken(what: string, cause: unknown): TransferError {
  return new TransferError(`Cannot continue: the connection broke, and ${what}`, "broken", {
    cause,
  });
}

const BREAKS: ReadonlySet<string> = new Set(["reset", "timed-out", "unreachable"]);

/** `next` always gets a signal; this one stands for a caller that passed none. */
const NEVER = AbortSignal.any([]);

/** Chosen by us: more would rarely help. */
const MAX_FRUITLESS = 5;

/** Chosen by us: enough for a router to restart, or for a laptop to join another network. */
const RECONNECT_WITHIN_MS = 120_000;

/** Chosen by us: the other side may be gone, because it already has everything it needs. */
const GOODBYE_WITHIN_MS = 10_000;

/** Chosen by us: a refused connection fails at once, so dialing needs pauses. */
const PAUSES = { firstMs: 250, maximumMs: 8000 };
