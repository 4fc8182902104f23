/**
 * Loss recovery as a table: what is sent and acknowledged when, and what follows from the last event.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import type { Range } from "../../lib/udp/ack_ranges.ts";
import {
  initialRecoveryState,
  nextTimerMs,
  type RecoveryAction,
  type RecoveryEvent,
  type RecoveryState,
  stepRecovery,
} from "../../lib/udp/loss_recovery_engine.ts";

type Entry = readonly [ms: number, RecoveryEvent | RecoveryEvent[]];

const ROWS: readonly [string, readonly Entry[], readonly string[]][] = [
  ["delivers what is acknowledged", [[0, send(3)], [50, ack([0, 3])]], [
    "delivered 0 1 2",
    "sample 60000",
  ]],
  ["says nothing about what was acknowledged before", [
    [0, send(3)],
    [50, ack([0, 3])],
    [51, ack([0, 3])],
  ], []],
  ["declares a packet lost that three others have overtaken", [
    [0, send(5)],
    [50, ack([1, 4])],
  ], ["delivered 1 2 3", "lost 0", "sample 60000"]],
  ["does not declare one lost that two others have overtaken", [
    [0, send(5)],
    [50, ack([1, 3])],
  ], ["delivered 1 2", "sample 40000"]],
  ["declares it lost after 9/8 of a round trip", [
    [0, send(3)],
    [50, ack([1, 3])],
    [57, { kind: "timer" }],
  ], ["lost 0", "sample -"]],
  ["waits for that time", [[0, send(3)], [50, ack([1, 3])], [56, { kind: "timer" }]], []],
  ["probes if nothing is acknowledged", [[0, send(2)], [400, { kind: "timer" }], [
    1024,
    { kind: "timer" },
  ]], ["probe"]],
  ["takes back a loss that was none", [
    [0, send(5)],
    [50, ack([1, 4])],
    [52, ack([0, 5])],
  ], ["delivered 0 4", "spurious 0", "sample 96154"]],
  ["notices an acknowledgement of what was never sent", [[0, send(3)], [50, ack([0, 4])]], ["lie"]],
  ["notices an acknowledgement of a number that was left out", [
    [0, [...send(2), { kind: "skip" }, ...send(2)]],
    [50, ack([0, 5])],
  ], ["lie"]],
  ["accepts one around it", [
    [0, [...send(2), { kind: "skip" }, ...send(2)]],
    [50, ack([3, 5], [0, 2])],
  ], ["delivered 0 1 3 4", "sample 80000"]],
];

for (const [name, entries, expected] of ROWS) {
  Deno.test(`stepRecovery() ${name}`, () => {
    const { actions } = run(initialRecoveryState(), entries);
    assertEquals(actions.map(describe), expected);
  });
}

Deno.test("stepRecovery() counts bytes in flight, through losses and late arrivals", () => {
  const state = initialRecoveryState();
  run(state, [[0, send(5)]]);
  assertEquals([state.inFlight, state.count], [5000, 5]);
  run(state, [[50, ack([1, 4])]]);
  assertEquals([state.inFlight, state.count, state.lost], [1000, 1, 1000]);
  run(state, [[52, ack([0, 5])]]);
  assertEquals([state.inFlight, state.count, state.lost, state.delivered], [0, 0, 0, 5000]);
  assertEquals(nextTimerMs(state), Infinity);
});

Deno.test("stepRecovery() waits longer for packets on a path that reorders them", () => {
  const state = initialRecoveryState();
  run(state, [[0, send(9)], [50, ack([1, 8])], [52, ack([0, 8])]]);
  assertEquals(state.packetThreshold, 8);
  const { actions } = run(state, [[60, send(8)], [110, ack([10, 17], [0, 9])]]);
  assertEquals(actions.map(describe)[0], "delivered 8 10 11 12 13 14 15 16");
  assert(!actions.some(({ kind }) => kind === "lost"));
});

Deno.test("nextTimerMs() doubles with each probe, up to 3 s", () => {
  const state = initialRecoveryState(40);
  run(state, [[0, send(1)]]);
  const waits: number[] = [];
  for (let nowMs = 0; waits.length < 8;) {
    const dueMs = nextTimerMs(state);
    waits.push(dueMs - nowMs);
    nowMs = dueMs;
    stepRecovery(state, { kind: "timer" }, nowMs);
  }
  assertEquals(waits, [145, 290, 580, 1160, 2320, 3000, 3000, 3000]);
});

Deno.test("stepRecovery() does not count the loss of a probe for the path MTU", () => {
  const state = initialRecoveryState();
  const probe: RecoveryEvent = {
    kind: "sent",
    bytes: 1452,
    content: { kind: "mtu-probe" },
    isAppLimited: false,
  };
  const { actions } = run(state, [[0, [probe, ...send(4)]], [50, ack([1, 5])]]);
  assertEquals(actions.map(describe).slice(1), ["lost 0", "sample 80000"]);
  assertEquals(state.lost, 0);
});

Deno.test("stepRecovery() forgets packets that are settled", () => {
  const state = initialRecoveryState();
  for (let i = 0; i < 1000; i++) {
    run(state, [[i, send(10)], [i + 0.5, ack([0, 10 * (i + 1)])]]);
  }
  assert(state.packets.length < 100, `${state.packets.length}`);
});

Deno.test("stepRecovery() judges a hostile acknowledgement of everything in no time", () => {
  const state = initialRecoveryState();
  run(state, [[0, send(10)]]);
  const { actions } = run(state, [[1, {
    kind: "ack",
    ranges: [{ start: 0, end: 2 ** 47 }],
    delayMs: 0,
  }]]);
  assertEquals(actions.map(describe), ["lie"]);
});

function run(state: RecoveryState, entries: readonly Entry[]) {
  let actions: readonly RecoveryAction[] = [];
  for (const [ms, events] of entries) {
    for (const event of [events].flat()) actions = stepRecovery(state, event, ms).actions;
  }
  return { state, actions };
}

function describe(action: RecoveryAction): string {
  switch (action.kind) {
    case "delivered":
    case "lost":
    case "spurious": {
      const numbers = action.packets.map(({ number }) => number).sort((one, other) => one - other);
      return [action.kind, ...numbers].join(" ");
    }
    case "sample": {
      const { rate } = action.sample;
      return `sample ${rate === undefined ? "-" : Math.round(rate * 1000)}`;
    }
    default:
      return action.kind;
  }
}

/** Packets of 1000 bytes. */
function send(count: number): RecoveryEvent[] {
  return Array.from({ length: count }, () => ({
    kind: "sent",
    bytes: 1000,
    content: { kind: "pad" },
    isAppLimited: false,
  }));
}

function ack(...pairs: [number, number][]): RecoveryEvent {
  const ranges: Range[] = pairs.map(([start, end]) => ({ start, end }));
  return { kind: "ack", ranges, delayMs: 0 };
}
