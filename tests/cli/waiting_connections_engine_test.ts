import { assertEquals } from "@std/assert";
import {
  initialWaitingState,
  stepWaiting,
  type WaitingEvent,
} from "../../lib/cli/waiting_connections_engine.ts";

const BEGINS: WaitingEvent = { kind: "shortage", begins: true };
const TIME: WaitingEvent = { kind: "time" };
const ENDS: WaitingEvent = { kind: "shortage", begins: false };

/** Each with one job at a time: what happens when, and what follows. */
const CASES: Readonly<Record<string, readonly (readonly [WaitingEvent, number, string])[]>> = {
  "a connection starts at once while a place is free, and a place is free again at the end": [
    [arrived(1), 0, "start 1"],
    [done(1), 1, ""],
    [arrived(2), 2, "start 2"],
  ],
  "the newest goes next, and those whose clients have closed their end go last": [
    [arrived(1), 0, "start 1"],
    [arrived(2), 0, ""],
    [arrived(3), 0, ""],
    [arrived(4, { hasEnded: true }), 0, ""],
    [arrived(5), 0, ""],
    [ended(5), 1, ""],
    [done(1), 2, "start 3"],
    [done(3), 3, "start 2"],
    [done(2), 4, "start 5"],
    [done(5), 5, "start 4"],
    [done(4), 6, ""],
  ],
  "when the listener is short of files, those whose clients have closed their end are given up": [
    [arrived(1), 0, "start 1"],
    [arrived(2, { hasEnded: true }), 0, ""],
    [arrived(3), 0, ""],
    [BEGINS, 1, "shed 2"],
    [ended(3), 2, "shed 3"],
    [arrived(4, { hasEnded: true }), 3, "shed 4"],
    [ENDS, 4, ""],
    [arrived(5, { hasEnded: true }), 1003, "shed 5"], // a second later, too
    [arrived(6, { hasEnded: true }), 1004, ""],
  ],
  "in a shortage, one whose client has closed its end takes no free place": [
    [BEGINS, 0, ""],
    [arrived(1, { hasEnded: true }), 0, "shed 1"],
    [arrived(2), 0, ""],
    [TIME, 25, "start 2"],
  ],
  "in a shortage, the newest starts once connections have stopped arriving": [
    [BEGINS, 0, ""],
    [arrived(1), 0, ""],
    [arrived(2), 20, ""],
    [arrived(3), 40, ""],
    [TIME, 45, ""],
    [ended(3), 50, "shed 3"],
    [TIME, 65, "start 2"],
    [arrived(4), 70, ""],
    [done(2), 75, ""],
    [TIME, 95, "start 4"],
  ],
  "in a shortage, connections that do not stop arriving put nothing off for long": [
    [BEGINS, 0, ""],
    ...Array.from({ length: 6 }, (_, i) => [arrived(i), 19 * i, ""] as const),
    [TIME, 99, ""],
    [TIME, 100, "start 5"],
  ],
  "a job that finds no free file begins a shortage of one second": [
    [arrived(1), 0, "start 1"],
    [arrived(2, { hasEnded: true }), 0, ""],
    [arrived(3), 0, ""],
    [done(1, { isShort: true }), 5000, "shed 2, start 3"],
    [arrived(4, { hasEnded: true }), 5999, "shed 4"],
    [arrived(5, { hasEnded: true }), 6000, ""],
  ],
  "in a shortage, the newest eight are kept": [
    [arrived(0), 0, "start 0"],
    ...Array.from({ length: 10 }, (_, i) => [arrived(i + 1), 0, ""] as const),
    [BEGINS, 1, "shed 1, shed 2"],
    [arrived(11), 2, "shed 3"],
    [done(0), 3, ""],
    [TIME, 27, "start 11"],
    [done(11), 28, "start 10"],
  ],
  "in a shortage, a job whose client has closed its end is ended, and keeps its place until it is done":
    [
      [arrived(1), 0, "start 1"],
      [ended(1), 1, ""],
      [arrived(2), 2, ""],
      [BEGINS, 3, "shed 1"],
      [done(1), 4, "start 2"],
      [ended(2), 5, "shed 2"],
      [done(2), 6, ""],
      [arrived(3), 7, ""],
      [TIME, 32, "start 3"],
    ],
  "a job goes on after its client has closed its end, until there is a shortage": [
    [arrived(1), 0, "start 1"],
    [ended(1), 1, ""],
    [done(1), 2, ""],
    [arrived(2), 3, "start 2"],
    [ended(2), 4, ""],
    [BEGINS, 5, "shed 2"],
  ],
};

for (const [name, steps] of Object.entries(CASES)) {
  Deno.test(name, () => {
    let state = initialWaitingState(1);
    const seen = steps.map(([event, nowMs]) => {
      const step = stepWaiting(state, event, nowMs);
      state = step.state;
      return step.actions.map(({ kind, id }) => `${kind} ${id}`).join(", ");
    });
    assertEquals(seen, steps.map(([, , actions]) => actions));
  });
}

function arrived(id: number, { hasEnded } = { hasEnded: false }): WaitingEvent {
  return { kind: "arrived", id, hasEnded };
}

function ended(id: number): WaitingEvent {
  return { kind: "ended", id };
}

function done(id: number, { isShort } = { isShort: false }): WaitingEvent {
  return { kind: "done", id, isShort };
}
