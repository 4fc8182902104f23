/**
 * Sessions over bad paths: slow, narrow, cut at any byte with or without notice, attached late on one side, several at
 * once; with writers and readers of every kind. Everything follows from a seed.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { NetworkError } from "../../lib/base/errors.ts";
import type { Session } from "../../lib/session/session.ts";
import { labelledRandom, type Random, randomInteger } from "../simnet/random.ts";
import { VirtualTime } from "../simnet/virtual_time.ts";
import { pattern, sessionPair, streamSessionPair } from "./fixtures.ts";
import { type TestPathOptions, testPathPair } from "./test_path.ts";

/** The results of both sides. */
export interface StormResult {
  /** Whether the sessions wait for another path. */
  readonly isPatient: boolean;
  readonly a: SideResult;
  readonly b: SideResult;
}

/** The result of one side. */
export interface SideResult {
  /** The error that ended the session, if any. */
  readonly error: Error | undefined;
  /** Whether the other side's stream was read to its end. */
  readonly isWhole: boolean;
}

/**
 * Runs two sessions through a storm.
 *
 * @throws {AssertionError} if a byte is wrong, a side hangs or a timer is left
 */
export async function storm(seed: number): Promise<StormResult> {
  using time = new VirtualTime();
  const result = await time.run(() => runStorm(seed), { limitMs: LIMIT_MS });
  await time.run(() => wait(MAX_DELAY_MS + 1));
  assertEquals(time.pendingTimers, 0, "timers were left");
  return result;
}

async function runStorm(seed: number): Promise<StormResult> {
  const random = labelledRandom(seed, "session storm");
  const upTo = (max: number) => randomInteger(random, 0, max);
  const isPatient = random() < 0.7;
  const windowBytes = [65_536, 100_000, 1_000_000][upTo(2)]!;
  const open = seed % 2 === 0 ? sessionPair : streamSessionPair;
  await using pair = open({ windowBytes, timeoutMs: isPatient ? 600_000 : 0 });
  const [fromA, fromB] = [pattern(upTo(MAX_BYTES)), pattern(upTo(MAX_BYTES))];
  const ended = Promise.allSettled([pair.a.finished, pair.b.finished]);
  const attached = attachPaths(random, pair, ended).then(() => {
    // A session that never had a path waits for its first one without a limit.
    for (const [session, events] of [[pair.a, pair.aEvents], [pair.b, pair.bEvents]] as const) {
      if (!events.some(({ event }) => event === "attached")) session.reset();
    }
  });
  const [aRead, bRead] = await Promise.all([
    read(pair.a, fromB, labelledRandom(seed, "a reads")),
    read(pair.b, fromA, labelledRandom(seed, "b reads")),
    write(pair.a, fromA, labelledRandom(seed, "a writes")),
    write(pair.b, fromB, labelledRandom(seed, "b writes")),
  ]);
  const [aEnd, bEnd] = await ended;
  await attached;
  const side = (end: PromiseSettledResult<void>, isWhole: boolean): SideResult => {
    const error = end.status === "rejected" ? end.reason as Error : undefined;
    return { error, isWhole };
  };
  return { isPatient, a: side(aEnd, aRead), b: side(bEnd, bRead) };
}

/** Attaches paths that fail, and finally one that does not. */
async function attachPaths(
  random: Random,
  { a, b }: { a: Session; b: Session },
  ended: Promise<unknown>,
): Promise<void> {
  const upTo = (max: number) => randomInteger(random, 0, max);
  const attaching: Promise<void>[] = [];
  let isOver = false;
  let wake = () => {};
  ended.then(() => {
    isOver = true;
    wake();
  });
  for (let left = upTo(12); left >= 0 && !isOver; left--) {
    const options: TestPathOptions = {
      delayMs: random() < 0.7 ? upTo(MAX_DELAY_MS) : undefined,
      capacity: random() < 0.5 ? 10 + upTo(random() < 0.3 ? 1000 : 100_000) : undefined,
      maxRead: random() < 0.3 ? 1 + upTo(random() < 0.2 ? 100 : 10_000) : undefined,
    };
    const [one, other] = testPathPair(options);
    if (left === 0) await wait(MAX_LATE_MS + 1); // so that it is the last on both sides
    else {
      const cut = random() < 0.5 ? one : other;
      cut.cutAfter = upTo([60, 1000, MAX_BYTES][upTo(2)]!);
      cut.cutKind = random() < 0.6 ? "reset" : "silent";
    }
    attaching.push(attach(a, one, random() < 0.3 ? upTo(MAX_LATE_MS) : 0));
    attaching.push(attach(b, other, random() < 0.3 ? upTo(MAX_LATE_MS) : 0));
    if (isOver || random() < 0.3) continue;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, upTo(random() < 0.5 ? 100 : 30_000));
      wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
  await Promise.all(attaching);
}

async function attach(
  session: Session,
  path: Parameters<Session["attach"]>[0],
  lateMs: number,
): Promise<void> {
  if (lateMs > 0) await wait(lateMs);
  try {
    await session.attach(path);
  } catch (error) {
    assert(error instanceof NetworkError, `${error}`);
  }
}

async function write(session: Session, data: Uint8Array, random: Random): Promise<void> {
  const most = [10, 1000, 70_000, 300_000][randomInteger(random, 0, 3)]!;
  const pause = random() < 0.5 ? 0 : random();
  try {
    for (let written = 0; written < data.length;) {
      const part = data.slice(written, written + 1 + randomInteger(random, 0, most));
      const writing = session.write(part);
      if (most > 10 || random() < 0.5) await writing;
      else writing.catch(() => {});
      written += part.length;
      if (random() < pause) await wait(randomInteger(random, 0, 100));
    }
    if (random() < 0.8) await session.closeWrite();
    else session.closeWrite().catch(() => {});
  } catch (error) {
    assert(error instanceof NetworkError, `${error}`);
  }
}

/** Checks what arrives. Returns whether all of it did. */
async function read(session: Session, expected: Uint8Array, random: Random): Promise<boolean> {
  const buffer = new Uint8Array([1000, 70_000, 100_000][randomInteger(random, 0, 2)]!);
  const pause = random() < 0.5 ? 0 : random() * 0.5;
  let position = 0;
  try {
    for (;;) {
      const length = await session.read(buffer);
      if (length === null) break;
      const end = position + length;
      assert(end <= expected.length, "more bytes than were written");
      for (let i = position; i < end; i++) {
        if (buffer[i - position] !== expected[i]) assert(false, `byte ${i} is wrong`);
      }
      position = end;
      if (random() < pause) await wait(randomInteger(random, 0, 1000));
    }
  } catch (error) {
    assert(error instanceof NetworkError, `${error}`);
    return false;
  }
  assertEquals(position, expected.length, "the end came early");
  return true;
}

function wait(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

const MAX_BYTES = 150_000;
const MAX_DELAY_MS = 80;
const MAX_LATE_MS = 200;
const LIMIT_MS = 3_600_000;
