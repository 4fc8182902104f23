import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import type { SessionRole } from "../../lib/session/migration_engine.ts";
import {
  initialMultiplexerState,
  type MultiplexerEvent,
  multiplexerWakeAtMs,
  stepMultiplexer,
  wasOpened,
} from "../../lib/session/stream_engine.ts";

const LIMITS = { maxStreams: 2, idleMs: 100 };
const OPEN: MultiplexerEvent = { kind: "open" };
const CLOSE: MultiplexerEvent = { kind: "close" };
const HELD: MultiplexerEvent = { kind: "held" };
const RELEASED: MultiplexerEvent = { kind: "released" };
const END: MultiplexerEvent = { kind: "end-received" };
const TIME: MultiplexerEvent = { kind: "time" };

for (
  const [what, role, events, expected] of [
    ["numbers its streams", "controlling", [OPEN, OPEN], ["open 1", "open 3"]],
    ["numbers its streams", "controlled", [OPEN, OPEN], ["open 2", "open 4"]],
    ["refuses one too many of its own", "controlling", [OPEN, OPEN, OPEN], [
      ...["open 1", "open 3", "refuse-open too-many"],
    ]],
    ["opens another once one is over", "controlling", [OPEN, OPEN, over(1), OPEN], [
      ...["open 1", "open 3", "open 5"],
    ]],
    ["accepts in order", "controlled", [opened(1), opened(3)], ["accept 1", "accept 3"]],
    ["resets one too many of the other side", "controlled", [opened(1), opened(3), opened(5)], [
      ...["accept 1", "accept 3", "refuse 5"],
    ]],
    ["counts the sides apart", "controlled", [opened(1), opened(3), OPEN], [
      ...["accept 1", "accept 3", "open 2"],
    ]],
    ["ends at once with its first stream if there was no other", "controlling", [over(0)], ["end"]],
    ["stays for another stream", "controlling", [OPEN, over(0)], ["open 1"]],
    ["stays for a holder", "controlled", [HELD, over(0)], []],
    ["ends for good once", "controlling", [CLOSE, CLOSE, over(0)], ["end"]],
    ["opens nothing while it ends", "controlling", [CLOSE, OPEN, opened(2)], [
      ...["end", "refuse-open ending"],
    ]],
    ["ends with the other side, holders or not", "controlled", [HELD, over(0), END, RELEASED], [
      "end",
    ]],
    ["ends after the other side with its first stream", "controlled", [HELD, END, over(0)], [
      "end",
    ]],
  ] satisfies [string, SessionRole, MultiplexerEvent[], string[]][]
) {
  Deno.test(`stepMultiplexer(): the ${role} side ${what}`, () => {
    assertEquals(run(role, events.map((event) => [event, 0])), expected);
  });
}

Deno.test("stepMultiplexer() ends a session that was used and is idle, after the time", () => {
  const before: [MultiplexerEvent, number][] = [[OPEN, 0], [over(0), 0], [over(1), 50]];
  assertEquals(run("controlling", [...before, [TIME, 149]]), ["open 1"]);
  assertEquals(run("controlling", [...before, [TIME, 150]]), ["open 1", "end"]);
  assertEquals(run("controlling", [...before, [HELD, 60], [TIME, 150]]), ["open 1"]);
  const held: [MultiplexerEvent, number][] = [[HELD, 60], [RELEASED, 100]];
  assertEquals(run("controlling", [...before, ...held, [TIME, 199]]), ["open 1"]);
  assertEquals(run("controlling", [...before, ...held, [TIME, 200]]), ["open 1", "end"]);
});

Deno.test("multiplexerWakeAtMs() is when an idle session ends", () => {
  let state = initialMultiplexerState("controlling");
  assertEquals(multiplexerWakeAtMs(state, LIMITS), Infinity);
  for (const event of [HELD, over(0), RELEASED]) {
    state = stepMultiplexer(state, event, 7, LIMITS).state;
  }
  assertEquals(multiplexerWakeAtMs(state, LIMITS), 107);
});

for (const id of [0, 2, 3, 5, 0xffff_ffff]) {
  Deno.test(`stepMultiplexer() rejects an OPEN of stream ${id} as the first`, () => {
    assertThrows(() => run("controlled", [[opened(id), 0]]), MalformedMessageError);
  });
}

Deno.test("wasOpened() tells streams that are over from those that never were", () => {
  let state = initialMultiplexerState("controlling");
  for (const event of [OPEN, OPEN, opened(2), over(1)]) {
    state = stepMultiplexer(state, event, 0, LIMITS).state;
  }
  assertEquals([0, 1, 2, 3, 4, 5].map((id) => wasOpened(state, id)), [
    ...[true, true, true, true, false, false],
  ]);
});

Deno.test("stepMultiplexer() never has more streams than the limit, and ends at most once", () => {
  const kind = fc.constantFrom(
    "open",
    "remote",
    "over",
    "held",
    "released",
    "close",
    "end",
    "time",
  );
  fc.assert(fc.property(fc.array(kind, { maxLength: 60 }), (kinds) => {
    let state = initialMultiplexerState("controlling");
    const open = new Set([0]);
    let ends = 0;
    kinds.forEach((kind, nowMs) => {
      const event = toEvent(kind, state.nextRemoteId, open);
      if (event === undefined) return;
      const step = stepMultiplexer(state, event, nowMs, LIMITS);
      state = step.state;
      for (const action of step.actions) {
        if (action.kind === "open" || action.kind === "accept") open.add(action.id);
        if (action.kind === "end") ends++;
      }
      assertEquals([...open].filter((id) => id % 2 === 1).length <= LIMITS.maxStreams, true);
      assertEquals([...open].filter((id) => id > 0).length, state.own + state.remote);
      assertEquals(ends, state.phase === "ending" ? 1 : 0);
    });
  }));
});

function toEvent(kind: string, nextId: number, open: Set<number>): MultiplexerEvent | undefined {
  if (kind === "remote") return opened(nextId);
  if (kind === "end") return END;
  if (kind !== "over") return { kind } as MultiplexerEvent;
  const [id] = open;
  if (id === undefined) return undefined;
  open.delete(id);
  return over(id);
}

function opened(id: number): MultiplexerEvent {
  return { kind: "open-received", id };
}

function over(id: number): MultiplexerEvent {
  return { kind: "over", id };
}

function run(role: SessionRole, events: readonly [MultiplexerEvent, number][]): string[] {
  let state = initialMultiplexerState(role);
  return events.flatMap(([event, nowMs]) => {
    const step = stepMultiplexer(state, event, nowMs, LIMITS);
    state = step.state;
    return step.actions.map((action) => {
      const detail = "id" in action ? action.id : "why" in action ? action.why : undefined;
      return detail === undefined ? action.kind : `${action.kind} ${detail}`;
    });
  });
}
