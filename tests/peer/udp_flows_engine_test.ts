import { assertEquals } from "@std/assert";
import {
  MAX_UDP_FLOWS,
  NO_UDP_FLOWS,
  stepUdpFlows,
  type UdpFlowsEvent,
  udpFlowsWakeAtMs,
} from "../../lib/peer/udp_flows_engine.ts";

const S = 1000;
const TIME: UdpFlowsEvent = { kind: "time" };

/** What happens when, and what follows. */
const CASES: Readonly<Record<string, readonly (readonly [UdpFlowsEvent, number, string])[]>> = {
  "the first datagram opens a flow, and further ones use it": [
    [sent("a"), 0, "open a"],
    [sent("a"), 10, ""],
    [answered("a"), 20, ""],
    [sent("b"), 30, "open b"],
    [sent("a"), 40, ""],
  ],
  "a flow without an answer ends 30 s after its last datagram": [
    [sent("a"), 0, "open a"],
    [sent("a"), 20 * S, ""],
    [TIME, 49 * S, ""],
    [TIME, 50 * S, "end a"],
    [sent("a"), 51 * S, "open a"],
  ],
  "a flow with an answer ends 120 s after the last datagram in either direction": [
    [sent("a"), 0, "open a"],
    [answered("a"), 1 * S, ""],
    [sent("a"), 60 * S, ""],
    [TIME, 179 * S, ""],
    [answered("a"), 179 * S, ""],
    [TIME, 298 * S, ""],
    [TIME, 299 * S, "end a"],
  ],
  "datagrams of a flow that was refused are dropped for 30 s": [
    [sent("a"), 0, "open a"],
    [refused("a"), 1 * S, ""],
    [sent("a"), 20 * S, "drop"],
    [answered("a"), 20 * S, "drop"],
    [TIME, 31 * S, "end a"],
    [sent("a"), 32 * S, "open a"],
  ],
  "a flow that the other side has ended is forgotten": [
    [sent("a"), 0, "open a"],
    [ended("a"), 1, ""],
    [answered("a"), 2, "drop"],
    [TIME, 30 * S, ""],
    [refused("a"), 31 * S, ""],
    [sent("a"), 32 * S, "open a"],
  ],
};

for (const [name, steps] of Object.entries(CASES)) {
  Deno.test(`UDP flows: ${name}`, () => {
    let state = NO_UDP_FLOWS;
    for (const [event, nowMs, expected] of steps) {
      const step = stepUdpFlows(state, event, nowMs);
      assertEquals(said(step.actions), expected, `${event.kind} at ${nowMs}`);
      state = step.state;
    }
  });
}

Deno.test("UDP flows: one too many takes the place of one that was idle for 5 s, or is dropped", () => {
  let state = NO_UDP_FLOWS;
  const step = (event: UdpFlowsEvent, nowMs: number) => {
    const result = stepUdpFlows(state, event, nowMs);
    state = result.state;
    return said(result.actions);
  };
  for (let i = 0; i < MAX_UDP_FLOWS; i++) step(sent(`${i}`), 0);
  step(answered("0"), 0);
  assertEquals(step(sent("x"), 4 * S), "drop");
  assertEquals(step(sent("x"), 5 * S), "end 1, open x"); // 0 was answered
  for (let i = 2; i < MAX_UDP_FLOWS; i++) step(answered(`${i}`), 5 * S);
  step(answered("x"), 5 * S);
  assertEquals(step(sent("y"), 6 * S), "end 0, open y");
  assertEquals(step(sent("z"), 6 * S), "drop"); // y is new
  assertEquals(state.size, MAX_UDP_FLOWS);
});

Deno.test("UDP flows: the next timeout is known, and a datagram within a second changes nothing", () => {
  assertEquals(udpFlowsWakeAtMs(NO_UDP_FLOWS), Infinity);
  const { state } = stepUdpFlows(NO_UDP_FLOWS, sent("a"), 0);
  assertEquals(udpFlowsWakeAtMs(state), 30 * S);
  assertEquals(stepUdpFlows(state, sent("a"), 999).state, state);
  assertEquals(udpFlowsWakeAtMs(stepUdpFlows(state, answered("a"), 1).state), 120_001);
});

function said(actions: ReturnType<typeof stepUdpFlows>["actions"]): string {
  return actions.map((each) => each.kind === "drop" ? "drop" : `${each.kind} ${each.key}`)
    .join(", ");
}

function sent(key: string): UdpFlowsEvent {
  return { kind: "sent", key };
}

function answered(key: string): UdpFlowsEvent {
  return { kind: "answered", key };
}

function refused(key: string): UdpFlowsEvent {
  return { kind: "refused", key };
}

function ended(key: string): UdpFlowsEvent {
  return { kind: "ended", key };
}
