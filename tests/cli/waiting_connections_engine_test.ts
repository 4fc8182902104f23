import { assertEquals } from "@std/assert";
import {
  initialWaitingState,
  stepWaiting,
  type WaitingEvent,
} from "../../lib/cli/waiting_connections_engine.ts";

const DONE: WaitingEvent = { kind: "done", isShort: false };
const DONE_SHORT: WaitingEvent = { kind: "done", isShort: true };
const BEGINS: WaitingEvent = { kind: "shortage", begins: true };
const ENDS: WaitingEvent = { kind: "shortage", begins: false };

/** Each with one job at a time: what happens when, and what follows. */
const CASES: Readonly<Record<string, readonly (readonly [WaitingEvent, number, string])[]>> = {
  "a connection starts at once while a place is free, and a place is free again at the end": [
    [arrived(1), 0, "start 1"],
    [DONE, 1, ""],
    [arrived(2), 2, "start 2"],
  ],
  "the newest goes next, and those whose clients have closed their end go last": [
    [arrived(1), 0, "start 1"],
    [arrived(2), 0, ""],
    [arrived(3), 0, ""],
    [arrived(4, { hasEnded: true }), 0, ""],
    [arrived(5), 0, ""],
    [ended(5), 1, ""],
    [DONE, 2, "start 3"],
    [DONE, 3, "start 2"],
    [DONE, 4, "start 5"],
    [DONE, 5, "start 4"],
    [DONE, 6, ""],
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
    [DONE_SHORT, 5000, "shed 2, start 3"],
    [arrived(4, { hasEnded: true }), 5999, "shed 4"],
    [arrived(5, { hasEnded: true }), 6000, ""],
  ],
  "in a shortage, the newest eight are kept": [
    [arrived(0), 0, "start 0"],
    ...Array.from({ length: 10 }, (_, i) => [arrived(i + 1), 0, ""] as const),
    [BEGINS, 1, "shed 1, shed 2"],
    [arrived(11), 2, "shed 3"],
    [DONE, 3, "start 11"],
    [DONE, 4, "start 10"],
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
