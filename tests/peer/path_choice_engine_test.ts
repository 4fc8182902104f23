import { assertEquals } from "@std/assert";
import {
  INITIAL_PATH_CHOICE,
  type PathChoiceEvent,
  type PathChoiceState,
  stepPathChoice,
} from "../../lib/peer/path_choice_engine.ts";

/** Paths one after another, each with what it delivers in each of some windows of 2 s, in bytes per millisecond. */
type Story = readonly (readonly [PathChoiceState["path"], ...rates: readonly number[]])[];

const STORIES: readonly (readonly [string, Story, leaves: number])[] = [
  ["a direct path that delivers as much is kept", [["relayed", 500], ["direct", 500, 500, 500]], 0],
  ["one that delivers a little less is kept", [["relayed", 500], ["direct", 500, 300, 300]], 0],
  ["one that delivers less than half is left", [["relayed", 500], ["direct", 500, 200, 200]], 1],
  ["one slow window is an accident", [["relayed", 500], ["direct", 500, 200, 400, 200, 400]], 0],
  ["its slow start does not count", [["relayed", 500], ["direct", 10, 400, 400]], 0],
  ["a path that delivers nothing is idle", [["relayed", 500], ["direct", 500, 0, 0, 0]], 0],
  ["the best window of the relay counts", [["relayed", 500, 100], ["direct", 500, 200, 200]], 1],
  ["a relay that carried little proves nothing", [["relayed", 10], ["direct", 4, 4, 4, 4]], 0],
  ["without a relay before it, it is kept", [["direct", 1, 1, 1, 1, 1]], 0],
  ["what is left is measured against the relay anew", [
    ["relayed", 500],
    ["direct", 500, 200, 200],
    ["relayed", 200],
    ["direct", 200, 180, 180],
  ], 1],
  ["and left again if the relay delivers more", [
    ["relayed", 500],
    ["direct", 500, 200, 200],
    ["relayed", 500],
    ["direct", 200, 180, 180],
  ], 2],
  ["what the relay did more than a minute ago does not count", [
    ["relayed", 500],
    ["direct", ...Array<number>(32).fill(500), 200, 200],
  ], 0],
];

for (const [name, story, leaves] of STORIES) {
  Deno.test(`${name}: ${leaves} times`, () => {
    let state = INITIAL_PATH_CHOICE;
    let [nowMs, bytes, left] = [0, 0, 0];
    const dispatch = (event: PathChoiceEvent) => {
      const step = stepPathChoice(state, event, nowMs);
      state = step.state;
      left += step.actions.length;
    };
    for (const [path, ...rates] of story) {
      dispatch({ kind: "path", path, bytes });
      for (const rate of rates) {
        for (let part = 0; part < 4; part++) {
          [nowMs, bytes] = [nowMs + 500, bytes + 500 * rate];
          dispatch({ kind: "delivered", bytes });
        }
      }
    }
    assertEquals(left, leaves);
  });
}

Deno.test("a direct path that is left is told with both rates", () => {
  const state: PathChoiceState = {
    ...INITIAL_PATH_CHOICE,
    path: "direct",
    sinceMs: 0,
    relay: { rate: 100, atMs: 0 },
    window: { startedMs: 4000, bytes: 1000 },
    slowWindows: 1,
  };
  const { actions } = stepPathChoice(state, { kind: "delivered", bytes: 61_000 }, 6000);
  assertEquals(actions, [{ kind: "leave", direct: 30, relayed: 100 }]);
});

Deno.test("a connection without a path is not judged", () => {
  const event = { kind: "delivered", bytes: 1000 } as const;
  assertEquals(stepPathChoice(INITIAL_PATH_CHOICE, event, 5000).state, INITIAL_PATH_CHOICE);
});
