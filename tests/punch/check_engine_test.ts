import { assert, assertEquals } from "@std/assert";
import type { NetworkErrorReason } from "../../lib/base/errors.ts";
import {
  type ChecksEvent,
  type ChecksOptions,
  type ChecksState,
  checksWakeAtMs,
  initialChecksState,
  isFinished,
  stepChecks,
} from "../../lib/punch/check_engine.ts";
import type { CheckListEntry, PunchPlan } from "../../lib/punch/plan_types.ts";

Deno.test("a check is dialled when it is due, and the entries start side by side", () => {
  const machine = start([
    entry({ targets: ports(1, 2) }),
    entry({ startMs: 30, targets: ports(3), from: "fresh", localPorts: [5000] }),
  ]);
  assertEquals(machine.at(0, { kind: "started" }), ["dial :1 from 4000", "dial :2 from 4000"]);
  assertEquals(machine.wakeAtMs(), 30);
  assertEquals(machine.at(30, TIME), ["dial :3 from 5000"]);
});

Deno.test("dials keep to their spacing, and those that are due within a timer's resolution go together", () => {
  const machine = start([entry({ targets: ports(1, 2, 3, 4, 5), spacingMs: 0.5 })]);
  assertEquals(machine.at(0, { kind: "started" }), ["dial :1 from 4000", "dial :2 from 4000"]);
  assertEquals(machine.wakeAtMs(), 1);
  assertEquals(machine.at(1, TIME), ["dial :3 from 4000", "dial :4 from 4000"]);
  assertEquals(machine.at(2, TIME), ["dial :5 from 4000"]);
});

for (
  const [reason, expected] of [
    ["refused", "dials again"],
    ["reset", "dials again"],
    ["unreachable", "dials again"],
    ["timed-out", "dials again"],
    ["address-in-use", "ends: failed"],
    ["not-permitted", "ends: failed"],
    ["other", "ends: failed"],
  ] as readonly [NetworkErrorReason, string][]
) {
  Deno.test(`a check that fails with ${reason} ${expected}`, () => {
    const machine = start([entry({ maxTries: 2 })]);
    machine.at(0, { kind: "started" });
    const actions = machine.at(20, failed(0, reason));
    if (expected === "dials again") {
      assertEquals(actions, []);
      assertEquals(machine.wakeAtMs(), 30);
      assertEquals(machine.at(30, TIME), ["dial :1 from 4000"]);
    } else {
      assertEquals(actions, ["end :1 failed"]);
      assert(machine.isFinished());
    }
  });
}

for (
  const [tries, random, pauseMs] of [
    [1, 0, 1],
    [1, 0.99, 2],
    [99, 0.99, 2],
    [100, 0.99, 50],
    [149, 0, 50],
  ] as const
) {
  Deno.test(`after ${tries} tries a check pauses for ${pauseMs} ms, with ${random} drawn`, () => {
    const machine = start([entry({ maxTries: 300, timeoutMs: 1e6 })]);
    machine.at(0, { kind: "started" });
    let nowMs = 0;
    for (let count = 1; count < tries; count++) {
      machine.at(nowMs, failed(0, "refused"));
      nowMs = machine.wakeAtMs();
      machine.at(nowMs, TIME);
    }
    machine.at(nowMs, failed(0, "refused", random));
    assertEquals(Math.round(machine.wakeAtMs() - nowMs), pauseMs);
  });
}

Deno.test("once the NAT is full no further socket dials, and those that have dialled are waited for", () => {
  const targets = [1, 2, 3].map((port) => ({ ip: "192.0.2.1", port }));
  const machine = start([entry({ targets, spacingMs: 100, timeoutMs: 1000 })]);
  assertEquals(machine.at(0, { kind: "started" }), ["dial :1 from 4000"]);
  assertEquals(machine.at(50, { kind: "exhausted" }), []);
  assertEquals(machine.at(500, TIME), []);
  assertEquals(machine.at(600, { kind: "connected", check: 0 }), []);
  assertEquals(machine.wakeAtMs(), 1000);
});

Deno.test("the last of many tries are spread over the time that is left", () => {
  const machine = start([entry({ maxTries: 200, timeoutMs: 240_000 })]);
  machine.at(0, { kind: "started" });
  let nowMs = 0;
  for (let tries = 1; tries < 200; tries++) {
    machine.at(nowMs, failed(0, "refused"));
    nowMs = machine.wakeAtMs();
    machine.at(nowMs, TIME);
  }
  assert(nowMs > 230_000 && nowMs <= 240_000, `${nowMs} ms`);
});

for (const [maxTries, longMs] of [[16, 8000], [8, 1000]] as const) {
  Deno.test(`${maxTries} tries last for ${longMs} ms, and start close together`, () => {
    const machine = start([entry({ maxTries })]);
    machine.at(0, { kind: "started" });
    let nowMs = 0;
    for (let tries = 1; tries < maxTries; tries++) {
      machine.at(nowMs, failed(0, "refused"));
      nowMs = machine.wakeAtMs();
      if (tries === 3) assert(nowMs < 100, `${nowMs} ms`);
      machine.at(nowMs, TIME);
    }
    assert(nowMs > longMs && nowMs <= 12_000, `${nowMs} ms`);
  });
}

Deno.test("a check is dialled as often as the plan says, and then ends with its last outcome", () => {
  const machine = start([entry({ maxTries: 3 })]);
  machine.at(0, { kind: "started" });
  for (const nowMs of [10, 60]) {
    machine.at(nowMs, failed(0, "refused"));
    machine.at(nowMs + 40, TIME);
  }
  assertEquals(machine.at(110, failed(0, "unreachable")), ["end :1 unreachable"]);
  assert(machine.isFinished());
});

Deno.test("sockets that still wait are closed when the entry's time is up", () => {
  const machine = start([entry({ targets: ports(1, 2), timeoutMs: 100, maxTries: 9 })]);
  machine.at(0, { kind: "started" });
  machine.at(99, failed(1, "refused", 0.99));
  assertEquals(machine.at(100, TIME), ["cancel 0", "end :2 refused"]);
  assert(!machine.isFinished());
  assertEquals(machine.at(100, failed(0, "cancelled")), ["end :1 timed-out"]);
  assert(machine.isFinished());
  assertEquals(machine.wakeAtMs(), Infinity);
});

Deno.test("a connection that breaks is dialled again, and one that is settled is not", () => {
  for (const outcome of ["broken", "nominated", "not-nominated", "not-authenticated"] as const) {
    const machine = start([entry({ maxTries: 2 })]);
    machine.at(0, { kind: "started" });
    machine.at(10, { kind: "connected", check: 0 });
    assertEquals(machine.at(20, { kind: "settled", check: 0, outcome, random: 0 }), []);
    assertEquals(machine.isFinished(), outcome !== "broken");
  }
});

Deno.test("the listener opens before the dials if the port can be shared, and closes after the last of them", () => {
  const machine = start([entry({ startMs: 10, timeoutMs: 100 })], { listens: true });
  assertEquals(machine.at(0, { kind: "started" }), ["listen"]);
  assertEquals(machine.wakeAtMs(), Infinity);
  assertEquals(machine.at(5, { kind: "listening", isOpen: true }), []);
  assertEquals(machine.at(15, TIME), ["dial :1 from 4000"]);
  assertEquals(machine.at(115, TIME), ["cancel 0", "stop-listening"]);
});

Deno.test("the listener opens after the dials if the port cannot be shared", () => {
  const machine = start([entry({ timeoutMs: 100 })], { listens: true, canListenBeside: false });
  assertEquals(machine.at(0, { kind: "started" }), ["dial :1 from 4000"]);
  assertEquals(machine.wakeAtMs(), 20);
  assertEquals(machine.at(20, TIME), ["listen"]);
  machine.at(21, { kind: "listening", isOpen: true });
  machine.at(100, TIME);
  machine.at(100, failed(0, "cancelled"));
  assert(!machine.isFinished());
  assertEquals(machine.at(121, TIME), ["stop-listening"]);
  assert(machine.isFinished());
});

Deno.test("the dials go on if the system refuses to listen", () => {
  const machine = start([entry({})], { listens: true });
  machine.at(0, { kind: "started" });
  assertEquals(machine.at(1, { kind: "listening", isOpen: false }), ["dial :1 from 4000"]);
});

Deno.test("a side without dials listens for as long as the limits say", () => {
  const machine = start([], { listens: true, listenMs: 12_000 });
  machine.at(0, { kind: "started" });
  machine.at(0, { kind: "listening", isOpen: true });
  assertEquals(machine.wakeAtMs(), 12_000);
  machine.at(11_999, { kind: "accepted" });
  assertEquals(machine.at(12_000, TIME), ["stop-listening"]);
  assert(!machine.isFinished());
  machine.at(12_100, { kind: "accepted-settled" });
  assert(machine.isFinished());
});

for (
  const [method, confirmedMs, missMs] of [
    ["port-prediction", 0, 920],
    ["port-prediction", 500, 1420],
    ["port-prediction", null, null],
    ["simultaneous-open", 0, null],
  ] as const
) {
  Deno.test(`${method}, confirmed after ${confirmedMs} ms, is a miss after ${missMs} ms`, () => {
    const machine = start([entry({ startMs: 20 })], { method });
    machine.at(0, { kind: "started" });
    machine.at(20, TIME);
    if (confirmedMs !== null) machine.at(confirmedMs, { kind: "confirmed" });
    assertEquals(machine.wakeAtMs(), missMs ?? 12_020);
    if (missMs === null) return;
    assertEquals(machine.at(missMs, TIME), ["cancel 0"]);
    assertEquals(machine.at(missMs, failed(0, "cancelled")), ["end :1 abandoned"]);
    assert(machine.isFinished());
  });
}

Deno.test("predicted ports are no miss while a connection may still be nominated", () => {
  const machine = start([entry({ targets: ports(1, 2) })], { method: "port-prediction" });
  machine.at(0, { kind: "started" });
  machine.at(0, { kind: "confirmed" });
  machine.at(890, { kind: "connected", check: 0 });
  assertEquals(machine.at(900, TIME), []);
  assertEquals(machine.wakeAtMs(), 12_000);
  const settled: ChecksEvent = {
    kind: "settled",
    check: 0,
    outcome: "not-authenticated",
    random: 0,
  };
  assertEquals(machine.at(950, settled), ["cancel 0"]);
});

Deno.test("stopping cancels what is under way, abandons what waits, and starts nothing more", () => {
  const machine = start([
    entry({ targets: ports(1, 2), maxTries: 5 }),
    entry({ startMs: 500, targets: ports(3) }),
  ], { listens: true });
  machine.at(0, { kind: "started" });
  machine.at(0, { kind: "listening", isOpen: true });
  machine.at(10, failed(2, "refused", 0.99)); // the checks are in the order of their starts
  assertEquals(machine.at(10, { kind: "stopped" }), [
    "cancel 0",
    "cancel 1",
    "end :2 abandoned",
    "stop-listening",
  ]);
  assertEquals(machine.at(10, failed(0, "cancelled")), ["end :1 abandoned"]);
  assert(machine.isFinished());
  assertEquals(machine.wakeAtMs(), Infinity);
});

Deno.test("stopping before the listener is open dials nothing and closes it", () => {
  const machine = start([entry({})], { listens: true });
  machine.at(0, { kind: "started" });
  assertEquals(machine.at(0, { kind: "stopped" }), []);
  assertEquals(machine.at(1, { kind: "listening", isOpen: true }), ["cancel 0", "stop-listening"]);
  assert(machine.isFinished());
});

interface Machine {
  /** Hands over an event; the actions in words. */
  at(nowMs: number, event: ChecksEvent): string[];
  wakeAtMs(): number;
  isFinished(): boolean;
}

function start(
  dials: readonly CheckListEntry[],
  changes: Partial<Pick<PunchPlan, "method" | "listens"> & ChecksOptions> = {},
): Machine {
  const { method = "simultaneous-open", listens = false, ...options } = changes;
  const plan: PunchPlan = {
    method,
    reachable: [],
    dials,
    listens,
    birthdaySyns: 0,
    successEstimate: 1,
    roundTripsEstimate: 1,
    reason: "a test",
  };
  let state: ChecksState = initialChecksState(plan, {
    punchPort: 4000,
    canListenBeside: true,
    listenMs: 0,
    ...options,
  });
  const portOf = (check: number) => `:${state.checks[check]!.target.port}`;
  return {
    at: (nowMs, event) => {
      const step = stepChecks(state, event, nowMs);
      state = step.state;
      return step.actions.map((action) => {
        switch (action.kind) {
          case "dial":
            return `dial ${portOf(action.check)} from ${state.checks[action.check]!.localPort}`;
          case "end":
            return `end ${portOf(action.check)} ${action.outcome}`;
          case "cancel":
            return `cancel ${action.entry}`;
          default:
            return action.kind;
        }
      });
    },
    wakeAtMs: () => checksWakeAtMs(state),
    isFinished: () => isFinished(state),
  };
}

function entry(changes: Partial<CheckListEntry>): CheckListEntry {
  return {
    from: "punch",
    targets: ports(1),
    perTarget: 1,
    startMs: 0,
    spacingMs: 0,
    maxTries: 1,
    timeoutMs: 12_000,
    ...changes,
  };
}

function ports(...list: readonly number[]) {
  return list.map((port) => ({ ip: "192.0.2.1", port }));
}

function failed(
  check: number,
  reason: NetworkErrorReason | "cancelled",
  random = 0,
): ChecksEvent {
  return { kind: "failed", check, reason, random };
}

const TIME: ChecksEvent = { kind: "time" };
