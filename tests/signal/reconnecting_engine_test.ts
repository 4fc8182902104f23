// The reconnecting connection's engine, as a table: which event leads from which phase to which, and what is done.

import { assertEquals } from "@std/assert";
import fc from "fast-check";
import {
  INITIAL_RECONNECTING_STATE,
  type ReconnectingAction,
  type ReconnectingEvent,
  type ReconnectingState,
  reconnectingWakeAtMs,
  stepReconnecting,
  type TopicState,
} from "../../lib/signal/reconnecting_engine.ts";

const EMPTY = new Map();
const OPEN: ReconnectingState = { phase: { kind: "open", sinceMs: 0 }, failures: 0, topics: EMPTY };
const CHECKED: ReconnectingState = {
  ...OPEN,
  phase: { kind: "open", sinceMs: 0, checkedMs: 500 },
};
const OPENING: ReconnectingState = { ...OPEN, phase: { kind: "opening", sinceMs: 0 } };
const LATE = { kind: "opening", sinceMs: 0, untilMs: 1000 } as const;
const HURRIED: ReconnectingState = { ...OPEN, phase: { ...LATE, isHurried: true } };
const WAITING: ReconnectingState = { ...OPEN, phase: { kind: "waiting", untilMs: 1000 } };
const CLOSED: ReconnectingState = { ...OPEN, phase: { kind: "closed" } };

const LOST = { kind: "lost", reason: "reset", random: 0.5 } as const;
const FAILED = { kind: "failed", reason: "refused", random: 0.5 } as const;
const REFUSED = {
  kind: "subscription-failed",
  topic: "t",
  reason: "full",
  isRefusal: true,
  random: 0.5,
} as const;

const logged = (level: "debug" | "warn", message: string) =>
  ({ kind: "log", level, message }) as const;

function wantedAfter(patienceMs: number): ReconnectingEvent {
  return { kind: "wanted", patienceMs };
}

/** At 1000 ms. */
const PHASES: readonly [
  string,
  ReconnectingState,
  ReconnectingEvent,
  ReconnectingState["phase"],
  readonly ReconnectingAction[],
][] = [
  ["opening, and opened", OPENING, { kind: "opened" }, { kind: "open", sinceMs: 1000 }, []],
  ["opening, and failed", OPENING, FAILED, { kind: "waiting", untilMs: 1500 }, [
    logged("debug", "cannot reconnect: refused"),
  ]],
  ["opening, and checked", OPENING, { kind: "check" }, OPENING.phase, []],
  ["open, and lost", OPEN, LOST, { kind: "waiting", untilMs: 1500 }, [
    logged("warn", "connection lost: reset"),
  ]],
  ["open, and checked", OPEN, { kind: "check" }, { kind: "open", sinceMs: 0, checkedMs: 1000 }, [
    { kind: "check" },
  ]],
  ["open, checked, and lost", CHECKED, LOST, { kind: "opening", sinceMs: 1000 }, [
    { kind: "log", level: "warn", message: "connection lost: reset" },
    { kind: "open" },
  ]],
  ["open, and a timer", OPEN, { kind: "time" }, OPEN.phase, []],
  ["waiting, and due", WAITING, { kind: "time" }, { kind: "opening", sinceMs: 1000 }, [{
    kind: "open",
  }]],
  [
    "waiting, and not due yet",
    { ...WAITING, phase: { kind: "waiting", untilMs: 1001 } },
    { kind: "time" },
    { kind: "waiting", untilMs: 1001 },
    [],
  ],
  ["waiting, and checked", WAITING, { kind: "check" }, { kind: "opening", sinceMs: 1000 }, [{
    kind: "open",
  }]],
  ["opening for a moment, and wanted", OPENING, wantedAfter(0), {
    kind: "opening",
    sinceMs: 0,
    untilMs: 2000,
  }, []],
  ["opening for a moment on a slow line, and wanted", OPENING, wantedAfter(2500), {
    kind: "opening",
    sinceMs: 0,
    untilMs: 2500,
  }, []],
  [
    "opening for long, and wanted",
    {
      ...OPEN,
      phase: { kind: "opening", sinceMs: -1000 },
    },
    wantedAfter(0),
    { kind: "opening", sinceMs: -1000, untilMs: 1000, isHurried: true },
    [
      { kind: "hurry" },
    ],
  ],
  ["opening, wanted, and late", { ...OPEN, phase: LATE }, { kind: "time" }, {
    ...LATE,
    isHurried: true,
  }, [{ kind: "hurry" }]],
  [
    "opening, wanted, and not late yet",
    { ...OPEN, phase: { ...LATE, untilMs: 1001 } },
    {
      kind: "time",
    },
    { ...LATE, untilMs: 1001 },
    [],
  ],
  ["hurried, and wanted", HURRIED, wantedAfter(0), HURRIED.phase, []],
  ["hurried, and failed", HURRIED, FAILED, { kind: "opening", sinceMs: 1000 }, [{ kind: "open" }]],
  ["hurried, and opened all the same", HURRIED, { kind: "opened" }, {
    kind: "open",
    sinceMs: 1000,
  }, []],
  [
    "waiting for long, and wanted",
    {
      ...OPEN,
      phase: { kind: "waiting", untilMs: 60_000 },
    },
    wantedAfter(0),
    { kind: "waiting", untilMs: 3000 },
    [],
  ],
  [
    "waiting for a moment, and wanted",
    {
      ...OPEN,
      phase: { kind: "waiting", untilMs: 1500 },
    },
    wantedAfter(0),
    { kind: "waiting", untilMs: 1500 },
    [],
  ],
  ["open, and wanted", OPEN, wantedAfter(0), OPEN.phase, []],
  ["open, and disposed", OPEN, { kind: "disposed" }, { kind: "closed" }, []],
  ["waiting, and disposed", WAITING, { kind: "disposed" }, { kind: "closed" }, []],
  ["opening, and disposed", OPENING, { kind: "disposed" }, { kind: "closed" }, []],
  ["closed, and opened", CLOSED, { kind: "opened" }, { kind: "closed" }, []],
  ["closed, and lost", CLOSED, LOST, { kind: "closed" }, []],
  ["closed, and failed", CLOSED, FAILED, { kind: "closed" }, []],
  ["closed, and checked", CLOSED, { kind: "check" }, { kind: "closed" }, []],
  ["closed, and a topic", CLOSED, { kind: "subscribe", topic: "t" }, { kind: "closed" }, []],
];

for (const [name, state, event, phase, actions] of PHASES) {
  Deno.test(`reconnecting: ${name}`, () => {
    const next = stepReconnecting(state, event, 1000);
    assertEquals(next.state.phase, phase);
    assertEquals(next.actions, actions);
  });
}

Deno.test("reconnecting: waits double from half a second up to a minute", () => {
  let state = OPENING;
  const waits: number[] = [];
  for (let i = 0; i < 9; i++) {
    state =
      stepReconnecting({ ...state, phase: { kind: "opening", sinceMs: 1000 } }, FAILED, 0).state;
    waits.push(reconnectingWakeAtMs(state));
  }
  assertEquals(waits, [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
});

Deno.test("reconnecting: a wait is between half and one and a half times its mean", () => {
  const waits = [0, 0.25, 0.999].map((random) =>
    reconnectingWakeAtMs(stepReconnecting(OPENING, { ...FAILED, random }, 0).state)
  );
  assertEquals(waits, [250, 375, 749.5]);
});

for (const [afterMs, waitMs] of [[29_999, 4000], [30_000, 500]] as const) {
  Deno.test(`reconnecting: a connection lost after ${afterMs} ms is opened again in ${waitMs} ms`, () => {
    const open: ReconnectingState = { ...OPEN, failures: 3 };
    const { state } = stepReconnecting(open, LOST, afterMs);
    assertEquals(reconnectingWakeAtMs(state), afterMs + waitMs);
  });
}

Deno.test("reconnecting: a check does not make the next wait shorter", () => {
  const { state } = stepReconnecting({ ...WAITING, failures: 3 }, { kind: "check" }, 0);
  assertEquals(reconnectingWakeAtMs(stepReconnecting(state, FAILED, 0).state), 4000);
});

/** What each event does to the topic `t`, at 1000 ms. */
const TOPICS: readonly [
  string,
  ReconnectingState,
  ReconnectingEvent,
  TopicState | undefined,
  readonly ReconnectingAction[],
][] = [
  [
    "a topic of an open connection is subscribed to at once",
    OPEN,
    { kind: "subscribe", topic: "t" },
    { kind: "subscribing", isRenewal: false, failures: 0 },
    [{ kind: "subscribe", topic: "t" }],
  ],
  [
    "a topic waits for a connection",
    WAITING,
    { kind: "subscribe", topic: "t" },
    { kind: "pending" },
    [],
  ],
  [
    "a topic that waited is renewed by the next connection",
    withTopic(OPENING, { kind: "pending" }),
    { kind: "opened" },
    { kind: "subscribing", isRenewal: true, failures: 0 },
    [{ kind: "subscribe", topic: "t" }],
  ],
  [
    "a confirmed topic is subscribed",
    withTopic(OPEN, { kind: "subscribing", isRenewal: true, failures: 2 }),
    { kind: "subscribed", topic: "t" },
    { kind: "subscribed" },
    [],
  ],
  [
    "a confirmation that comes too late brings no topic back",
    OPEN,
    { kind: "subscribed", topic: "t" },
    undefined,
    [],
  ],
  [
    "a lost connection leaves its topics pending",
    withTopic(OPEN, { kind: "subscribed" }),
    LOST,
    { kind: "pending" },
    [logged("warn", "connection lost: reset")],
  ],
  [
    "a refused renewal is retried",
    withTopic(OPEN, { kind: "subscribing", isRenewal: true, failures: 2 }),
    REFUSED,
    { kind: "refused", failures: 3, retryAtMs: 3000 },
    [logged("warn", "cannot resubscribe: full")],
  ],
  [
    "a refused subscription is not retried: its caller gets the refusal",
    withTopic(OPEN, { kind: "subscribing", isRenewal: false, failures: 0 }),
    REFUSED,
    { kind: "subscribing", isRenewal: false, failures: 0 },
    [],
  ],
  [
    "a renewal that fails with its connection waits for the next one",
    withTopic(OPEN, { kind: "subscribing", isRenewal: true, failures: 0 }),
    { ...REFUSED, isRefusal: false },
    { kind: "subscribing", isRenewal: true, failures: 0 },
    [],
  ],
  [
    "a refused topic is subscribed to again when it is due",
    withTopic(OPEN, { kind: "refused", failures: 3, retryAtMs: 1000 }),
    { kind: "time" },
    { kind: "subscribing", isRenewal: true, failures: 3 },
    [{ kind: "subscribe", topic: "t" }],
  ],
  [
    "a refused topic is left alone until it is due",
    withTopic(OPEN, { kind: "refused", failures: 3, retryAtMs: 1001 }),
    { kind: "time" },
    { kind: "refused", failures: 3, retryAtMs: 1001 },
    [],
  ],
  [
    "a topic without listeners is unsubscribed from",
    withTopic(OPEN, { kind: "subscribed" }),
    { kind: "unsubscribe", topic: "t" },
    undefined,
    [{ kind: "unsubscribe", topic: "t" }],
  ],
  [
    "a topic without listeners is forgotten while there is no connection",
    withTopic(WAITING, { kind: "pending" }),
    { kind: "unsubscribe", topic: "t" },
    undefined,
    [],
  ],
];

for (const [name, state, event, expected, actions] of TOPICS) {
  Deno.test(`reconnecting: ${name}`, () => {
    const next = stepReconnecting(state, event, 1000);
    assertEquals(next.state.topics.get("t"), expected);
    assertEquals(next.actions, actions);
  });
}

Deno.test("reconnecting: the earliest retry of a topic is due", () => {
  const topics = new Map(
    [5, 3, 4].map((second) =>
      [`${second}`, { kind: "refused", failures: 1, retryAtMs: second * 1000 }] as const
    ),
  );
  assertEquals(reconnectingWakeAtMs({ ...OPEN, topics }), 3000);
  assertEquals([
    reconnectingWakeAtMs(OPEN),
    reconnectingWakeAtMs(OPENING),
    reconnectingWakeAtMs(CLOSED),
  ], [Infinity, Infinity, Infinity]);
});

Deno.test("reconnecting: whatever happens, one attempt at a time, and each topic once", () => {
  const topic = fc.constantFrom("t", "u");
  const random = fc.double({ min: 0, max: 0.99, noNaN: true });
  const events = fc.array(
    fc.oneof(
      fc.record({ kind: fc.constantFrom("time" as const, "check" as const) }),
      fc.record({ kind: fc.constant("wanted" as const), patienceMs: fc.nat(5000) }),
      fc.record({ kind: fc.constantFrom("subscribe" as const, "unsubscribe" as const), topic }),
      fc.record({ kind: fc.constant("ends" as const), random, isRefusal: fc.boolean(), topic }),
    ),
    { maxLength: 60 },
  );
  fc.assert(fc.property(events, (events) => {
    let state = INITIAL_RECONNECTING_STATE;
    let nowMs = 0;
    let attempts = 1;
    const subscribed = new Set<string>();
    const afterwards: ReconnectingEvent[] = [];
    const apply = (event: ReconnectingEvent) => {
      const next = stepReconnecting(state, event, nowMs);
      state = next.state;
      for (const action of next.actions) {
        if (action.kind === "open") assertEquals(++attempts, 1);
        if (action.kind === "hurry") {
          attempts = 0;
          afterwards.push(FAILED);
        }
        if (action.kind === "subscribe") subscribed.add(action.topic);
        if (action.kind === "unsubscribe") subscribed.delete(action.topic);
      }
    };
    for (const event of events) {
      for (const event of afterwards.splice(0)) apply(event);
      if (event.kind === "time") {
        nowMs = Number.isFinite(reconnectingWakeAtMs(state))
          ? reconnectingWakeAtMs(state)
          : nowMs + 1;
      }
      if (event.kind !== "ends") {
        apply(event);
      } else if (state.phase.kind === "opening") {
        attempts = 0;
        apply(event.isRefusal ? { ...FAILED, random: event.random } : { kind: "opened" });
      } else if (state.phase.kind === "open" && event.isRefusal) {
        apply({ ...REFUSED, topic: event.topic, random: event.random });
      } else if (state.phase.kind === "open") {
        subscribed.clear();
        apply({ ...LOST, random: event.random });
      }
      if (state.phase.kind === "open") {
        assertEquals([...subscribed].sort(), [...state.topics.keys()].sort());
      }
    }
  }));
});

function withTopic(
  state: ReconnectingState,
  subscription: TopicState,
): ReconnectingState {
  return { ...state, topics: new Map([["t", subscription]]) };
}
