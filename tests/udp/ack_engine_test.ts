/**
 * When packets are acknowledged, as a table: packet numbers in the order of arrival, a millisecond apart, and what
 * happens with the last one.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import {
  EARLY_PACKETS,
  INITIAL_ACK_STATE,
  PACKETS_PER_ACK,
  rangesToSend,
  stepAck,
} from "../../lib/udp/ack_engine.ts";
import { MAX_ACK_RANGES } from "../../lib/udp/packet_message.ts";

const LATE = Array.from({ length: EARLY_PACKETS }, (_, number) => number);

const ROWS: readonly [string, readonly number[], readonly string[], number][] = [
  ["waits with the first packet", [0], ["accept"], 0 + 10],
  ["acknowledges the second at once", [0, 1], ["accept", "acknowledge"], Infinity],
  ["acknowledges a packet after a gap at once", [0, 1, 3], ["accept", "acknowledge"], Infinity],
  ["acknowledges a packet in a gap at once", [0, 1, 3, 2], ["accept", "acknowledge"], Infinity],
  ["ignores a packet that was received before", [0, 1, 1], [], Infinity],
  ["ignores a packet with an absurd number", [0, 1, 2 ** 40], [], Infinity],
  ["waits with the first packets after the early ones", [...LATE, 100], ["accept"], 100 + 10],
  [
    "acknowledges every tenth after the early ones",
    [...LATE, ...Array.from({ length: PACKETS_PER_ACK }, (_, i) => 100 + i)],
    ["accept", "acknowledge"],
    Infinity,
  ],
];

for (const [name, numbers, expected, dueMs] of ROWS) {
  Deno.test(`stepAck() ${name}`, () => {
    let step = { state: INITIAL_ACK_STATE, actions: [] } as ReturnType<typeof stepAck>;
    for (const [ms, number] of numbers.entries()) {
      step = stepAck(step.state, { kind: "received", number, rttMs: 80 }, ms);
      const actions = step.actions;
      if (actions.some(({ kind }) => kind === "acknowledge")) {
        step = { state: stepAck(step.state, { kind: "acknowledged" }, ms).state, actions };
      }
    }
    assertEquals(step.actions.map(({ kind }) => kind), expected);
    assertEquals(step.state.dueMs, dueMs);
  });
}

Deno.test("stepAck() waits between 1 and 25 ms", () => {
  const due = (rttMs: number | undefined) =>
    stepAck(INITIAL_ACK_STATE, { kind: "received", number: 0, rttMs }, 0).state.dueMs;
  assertEquals([due(undefined), due(0.1), due(80), due(5000)], [1, 1, 10, 25]);
});

Deno.test("stepAck() forgets the lowest ranges, and takes packets below them for replays", () => {
  let state = INITIAL_ACK_STATE;
  for (let i = 0; i <= MAX_ACK_RANGES + 1; i++) {
    state = stepAck(state, { kind: "received", number: 2 * i, rttMs: 1 }, 0).state;
  }
  assertEquals(rangesToSend(state).length, MAX_ACK_RANGES);
  assertEquals(rangesToSend(state).at(-1), { start: 4, end: 5 });
  for (const number of [0, 1, 2]) {
    assertEquals(stepAck(state, { kind: "received", number, rttMs: 1 }, 0).actions, []);
  }
  assertEquals(stepAck(state, { kind: "received", number: 3, rttMs: 1 }, 0).actions.length, 2);
});
