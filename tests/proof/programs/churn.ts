/**
 * Connects two peers of one process and closes the connection, again and again, then gives up connecting at random moments.
 * Prints what is left of it five seconds later:
 *
 *     deno run -A churn.ts RENDEZVOUS STUN CYCLES ABORTS SEED
 *
 * @module
 */

import { delay } from "@std/async/delay";
import { Peer } from "../../../lib/peer/peer.ts";
import type { Holdings } from "../churn.ts";
import { seededRandom } from "../random.ts";

declare const gc: (() => void) | undefined;

const timers = countTimers();
const listeners = countAbortListeners();
const [rendezvous, stun, cycles, aborts, seed] = Deno.args;
const random = seededRandom(Number(seed));
const stopped = new AbortController();
const options = { signaling: [rendezvous!], servers: [stun!], signal: stopped.signal };
const listening = await Peer.open(options);
const connecting = await Peer.open({ ...options, listen: false });
const accepting = acceptAll();
const resident: number[] = [];
let failures = 0;

for (let i = 0; i < 20; i++) await cycle(); // pools fill, and code is compiled
await settle();
const before = measure();

for (let i = 0; i < Number(cycles); i++) {
  await cycle();
  if (i % 25 === 0) resident.push(Deno.memoryUsage().rss);
}
const afterCycles = await measureAfter();

for (let i = 0; i < Number(aborts); i++) {
  const given = new AbortController();
  setTimeout(() => given.abort(), random() * 60);
  try {
    const signal = AbortSignal.any([given.signal, stopped.signal]);
    const connection = await connecting.connect(listening.ticket, { signal });
    connection.close();
    await connection.finished.catch(() => {});
  } catch {
    // that is what an abort does
  }
  if (i % 25 === 0) resident.push(Deno.memoryUsage().rss);
}
const afterAborts = await measureAfter();

await connecting[Symbol.asyncDispose]();
await listening[Symbol.asyncDispose]();
await accepting;
await settle();
const afterPeers = measure();
const report = { failures, before, afterCycles, afterAborts, afterPeers, resident };
Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify(report)}\n`));
Deno.exit(0);

async function cycle(): Promise<void> {
  try {
    const signal = AbortSignal.any([AbortSignal.timeout(5000), stopped.signal]);
    const connection = await connecting.connect(listening.ticket, { signal });
    await connection.write(Uint8Array.of(1));
    await connection.closeWrite();
    connection.close();
    await connection.finished.catch(() => {});
  } catch {
    failures++;
  }
}

async function acceptAll(): Promise<void> {
  const all = new Set<Promise<void>>();
  try {
    for (;;) {
      const incoming = await listening.nextIncoming();
      const each = (async () => {
        try {
          const connection = await incoming.accept();
          await connection.read(new Uint8Array(16));
          connection.close();
          await connection.finished;
        } catch {
          // the other side has given up
        }
      })();
      all.add(each);
      each.then(() => all.delete(each));
    }
  } catch {
    await Promise.all(all); // the peer is closed
  }
}

/** Five seconds, in which whatever is being closed has to end; then what nothing refers to is collected. */
async function settle(): Promise<void> {
  await delay(4800);
  for (let i = 0; i < 2; i++) {
    gc?.();
    await delay(100);
  }
}

/**
 * What is left five seconds later. A peer may have a base socket ready for the next connection, for 25 seconds: whether it
 * has one depends on how the last search ended, so that a second look, without it, decides.
 */
async function measureAfter(): Promise<Holdings> {
  await settle();
  const after = measure();
  const isLess = after.files <= before.files && after.timers <= before.timers;
  if (isLess) return after;
  await delay(22_000);
  return measure();
}

function measure(): Holdings {
  const files = [...Deno.readDirSync("/proc/self/fd")].length - 1; // one is the folder that is read
  return { files, timers: timers(), listeners: listeners() };
}

/**
 * Counts the timers that are set. One that should have fired by now was cleared in a way that this does not see, as
 * `@std/async` may do it.
 */
function countTimers(): () => number {
  const live = new Map<unknown, number>();
  const { setTimeout, setInterval, clearTimeout, clearInterval } = globalThis;
  globalThis.setTimeout =
    ((callback: (...args: unknown[]) => void, ms?: number, ...args: unknown[]) => {
      const id = setTimeout(
        (...given: unknown[]) => {
          live.delete(id);
          callback(...given);
        },
        ms,
        ...args,
      );
      live.set(id, performance.now() + (ms ?? 0));
      if (live.size > 10_000) forgetPast(); // or memory would grow with what only this keeps
      return id;
    }) as typeof globalThis.setTimeout;
  globalThis.setInterval =
    ((callback: (...args: unknown[]) => void, ms?: number, ...args: unknown[]) => {
      const id = setInterval(callback, ms, ...args);
      live.set(id, Infinity);
      return id;
    }) as typeof globalThis.setInterval;
  globalThis.clearTimeout = (id) => {
    live.delete(id);
    clearTimeout(id);
  };
  globalThis.clearInterval = (id) => {
    live.delete(id);
    clearInterval(id);
  };
  const forgetPast = () => {
    for (const [id, dueMs] of live) if (dueMs <= performance.now()) live.delete(id);
  };
  return () => {
    forgetPast();
    return live.size;
  };
}

/** Counts the listeners of abort signals that are still reachable and may still fire. Needs `--expose-gc`. */
function countAbortListeners(): () => number {
  const { addEventListener, removeEventListener } = AbortSignal.prototype;
  // Only weak references, so that counting keeps nothing alive.
  const listenersOf = new WeakMap<AbortSignal, Set<unknown>>();
  const signals = new Set<WeakRef<AbortSignal>>();
  const collected = new FinalizationRegistry<WeakRef<AbortSignal>>((each) => signals.delete(each));
  AbortSignal.prototype.addEventListener = function (
    this: AbortSignal,
    type: string,
    listener: EventListenerOrEventListenerObject,
    settings?: boolean | AddEventListenerOptions,
  ) {
    if (!listenersOf.has(this)) {
      listenersOf.set(this, new Set());
      const reference = new WeakRef(this);
      signals.add(reference);
      collected.register(this, reference);
    }
    listenersOf.get(this)!.add(listener);
    addEventListener.call(this, type, listener, settings);
  } as typeof addEventListener;
  AbortSignal.prototype.removeEventListener = function (
    this: AbortSignal,
    type: string,
    listener: EventListenerOrEventListenerObject,
    settings?: boolean | EventListenerOptions,
  ) {
    listenersOf.get(this)?.delete(listener);
    removeEventListener.call(this, type, listener, settings);
  } as typeof removeEventListener;
  return () => {
    let live = 0;
    for (const reference of signals) {
      const signal = reference.deref();
      if (signal?.aborted === false) live += listenersOf.get(signal)!.size;
    }
    return live;
  };
}
