/**
 * The engine of path migration, as tables: the events on paths A, B and C, and the actions after the last one.
 *
 * @module
 */

import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import {
  initialMigrationState,
  isGreeted,
  type MigrationAction,
  type MigrationEvent,
  type MigrationState,
  type SessionRole,
  stepMigration,
} from "../../lib/session/migration_engine.ts";

const [A, B, C] = [1, 2, 3] as const;

const TABLES: Readonly<Record<SessionRole, readonly Row[]>> = {
  controlling: [
    [
      "starts on a first path without waiting",
      [opened(A)],
      ["send-hello A 1", "start A"],
    ],
    [
      "asks first if it would resend more than 64 KiB",
      [opened(A, 65_537)],
      ["send-hello A 1"],
    ],
    [
      "attaches the path on which it has started once HELLO arrives",
      [opened(A), hello(A, 1)],
      ["accept-hello", "attached A"],
    ],
    [
      "starts once HELLO arrives if it had to ask",
      [opened(A, 65_537), hello(A, 1)],
      ["accept-hello", "start A", "attached A"],
    ],
    [
      "ignores START on the path on which it sends",
      [opened(A), hello(A, 1), start(A)],
      [],
    ],
    [
      "stays on its path while a new one is proposed",
      [opened(A), hello(A, 1), opened(B)],
      ["send-hello B 2"],
    ],
    [
      "moves to the new path once HELLO arrives on it",
      [opened(A), hello(A, 1), opened(B), hello(B, 2)],
      ["accept-hello", "start B", "close A", "attached B"],
    ],
    [
      "replaces a path that is not attached, and starts on the new one",
      [opened(A), opened(B)],
      ["reset A", "send-hello B 2", "start B"],
    ],
    [
      "replaces a proposed path, and stays on the attached one",
      [opened(A), hello(A, 1), opened(B), opened(C)],
      ["reset B", "send-hello C 3"],
    ],
    [
      "has lost its path if the attached one fails",
      [opened(A), hello(A, 1), failed(A)],
      ["lost"],
    ],
    [
      "has lost its path even if it has proposed another",
      [opened(A), hello(A, 1), opened(B), failed(A)],
      ["lost"],
    ],
    [
      "moves to the proposed path after it has lost the other",
      [opened(A), hello(A, 1), opened(B), failed(A), hello(B, 2)],
      ["accept-hello", "start B", "attached B"],
    ],
    [
      "stays on its path if the proposed one fails",
      [opened(A), hello(A, 1), opened(B), failed(B)],
      ["not-attached"],
    ],
    [
      "has no path if the first one fails before HELLO",
      [opened(A), failed(A)],
      ["not-attached"],
    ],
    [
      "ignores the failure of a path that was replaced",
      [opened(A), hello(A, 1), opened(B), hello(B, 2), failed(A)],
      [],
    ],
  ],
  controlled: [
    [
      "waits for HELLO on a new path",
      [opened(A)],
      [],
    ],
    [
      "answers HELLO, and starts at once without another path",
      [opened(A), hello(A, 1)],
      ["accept-hello", "send-hello A 1", "start A", "attached A"],
    ],
    [
      "answers HELLO, and stays on its path",
      [opened(A), hello(A, 1), opened(B), hello(B, 2)],
      ["accept-hello", "send-hello B 2"],
    ],
    [
      "moves to the new path once START arrives on it",
      [opened(A), hello(A, 1), opened(B), hello(B, 2), start(B)],
      ["start B", "close A", "attached B"],
    ],
    [
      "moves to the new path once the old one fails",
      [opened(A), hello(A, 1), opened(B), hello(B, 2), failed(A)],
      ["start B", "attached B"],
    ],
    [
      "has lost its path if no other has HELLO",
      [opened(A), hello(A, 1), opened(B), failed(A)],
      ["lost"],
    ],
    [
      "rejects a path with a number that was used",
      [opened(A), hello(A, 1), opened(B), hello(B, 1)],
      ["reset B", "not-attached"],
    ],
    [
      "takes the path with the highest number, in whatever order they were opened",
      [opened(A), opened(B), hello(B, 2), hello(A, 1)],
      ["reset A", "not-attached"],
    ],
    [
      "replaces a greeted path with a newer one",
      [opened(A), hello(A, 1), opened(B), hello(B, 2), opened(C), hello(C, 3)],
      ["reset B", "accept-hello", "send-hello C 3"],
    ],
    [
      "keeps a path without HELLO when another one is greeted",
      [opened(A), opened(B), hello(B, 1), failed(B), hello(A, 2)],
      ["accept-hello", "send-hello A 2", "start A", "attached A"],
    ],
    [
      "reports a path that fails before HELLO",
      [opened(A), failed(A)],
      ["not-attached"],
    ],
  ],
};

for (const role of ["controlling", "controlled"] as const) {
  for (const [what, events, expected] of TABLES[role]) {
    Deno.test(`stepMigration(): the ${role} side ${what}`, () => {
      assertEquals(run(role, events).actions.map(format), expected);
    });
  }
}

for (
  const [what, role, events] of [
    ["a second HELLO", "controlling", [opened(A), hello(A, 1), hello(A, 1)]],
    ["a second HELLO", "controlled", [opened(A), hello(A, 1), hello(A, 2)]],
    ["another version", "controlled", [opened(A), { ...hello(A, 1), version: 1 }]],
    ["a HELLO that answers with another number", "controlling", [opened(A), hello(A, 2)]],
  ] as const
) {
  Deno.test(`stepMigration(): the ${role} side rejects ${what}`, () => {
    assertThrows(() => run(role, events), MalformedMessageError);
  });
}

Deno.test("isGreeted() is false before HELLO and for paths that were replaced", () => {
  const before = run("controlled", [opened(A)]).state;
  assertEquals([isGreeted(before, A), isGreeted(before, B)], [false, false]);
  assertEquals(isGreeted(run("controlled", [opened(A), hello(A, 1)]).state, A), true);
  const moved = [opened(A), hello(A, 1), opened(B), hello(B, 2), start(B)];
  assertEquals(isGreeted(run("controlled", moved).state, A), false);
});

Deno.test("stepMigration() attaches at most one path, and sends only on an open one, whatever happens", () => {
  const id = fc.integer({ min: 1, max: 6 });
  const event = fc.oneof(
    id.map((id) => opened(id)),
    fc.tuple(id, fc.integer({ min: 1, max: 8 })).map(([id, number]) => hello(id, number)),
    id.map(start),
    id.map(failed),
  );
  const role = fc.constantFrom<SessionRole>("controlling", "controlled");
  fc.assert(fc.property(role, fc.array(event, { maxLength: 30 }), (role, events) => {
    let state = initialMigrationState(role);
    const seen = new Set<number>();
    for (const event of events) {
      const isNew = event.kind === "opened" && !seen.has(event.id);
      if (event.kind === "opened" ? !isNew : !isOpen(state, event.id)) continue;
      if (event.kind === "start" && !isGreeted(state, event.id)) continue; // rejected by the driver
      seen.add(event.id);
      try {
        state = stepMigration(state, event).state;
      } catch (error) {
        assert(error instanceof MalformedMessageError, `${error}`);
        return; // the session has ended
      }
      assert(state.currentId === undefined || isOpen(state, state.currentId));
      const attached = state.paths.filter(({ phase }) => phase === "attached");
      assert(
        attached.every(({ id }) => id === state.currentId),
        "attached, but not the current path",
      );
    }
  }));
});

type Row = readonly [what: string, events: readonly MigrationEvent[], actions: readonly string[]];

function run(
  role: SessionRole,
  events: readonly MigrationEvent[],
): { state: MigrationState; actions: readonly MigrationAction[] } {
  let step = { state: initialMigrationState(role), actions: [] as readonly MigrationAction[] };
  for (const event of events) step = stepMigration(step.state, event);
  return step;
}

function isOpen(state: MigrationState, id: number): boolean {
  return state.paths.some((path) => path.id === id);
}

/** An action as `send-hello A 1`. */
function format(action: MigrationAction): string {
  const path = "id" in action ? ` ${"-ABC"[action.id]}` : "";
  return action.kind + path + ("pathNumber" in action ? ` ${action.pathNumber}` : "");
}

function opened(id: number, unacknowledgedBytes = 0): MigrationEvent {
  return { kind: "opened", id, unacknowledgedBytes };
}

function hello(id: number, pathNumber: number): Extract<MigrationEvent, { kind: "hello" }> {
  return { kind: "hello", id, version: 2, pathNumber };
}

function start(id: number): MigrationEvent {
  return { kind: "start", id };
}

function failed(id: number): MigrationEvent {
  return { kind: "failed", id };
}
