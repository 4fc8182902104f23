import { assertEquals } from "@std/assert";
import {
  initialWaitingState,
  stepWaiting,
  type WaitingEvent,
} from "../../lib/cli/waiting_connections_engine.ts";

const BEGINS: WaitingEvent = { kind: "shortage", begins: true };
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
    [arrived(5, { hasEnded: true }), 5, ""],
  ],
  "in a shortage, one whose client has closed its end takes no free place": [
    [BEGINS, 0, ""],
    [arrived(1, { hasEnded: true }), 0, "shed 1"],
    [arrived(2), 0, "start 2"],
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
    [done(0), 3, "start 11"],
    [done(11), 4, "start 10"],
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
      [arrived(3), 7, "start 3"],
    ],
  "a job goes on after its client has closed its end, until there is a shortage": [
    [arrived(1), 0, "start 1"],
    [ended(1), 1, ""],
    [BEGINS, 2, "shed 1"],
    [ENDS, 3, ""],
    [done(1), 4, ""],
    [arrived(2), 5, "start 2"],
    [ended(2), 6, ""],
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
