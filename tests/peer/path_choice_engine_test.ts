import { assertEquals } from "@std/assert";
import {
  initialPathChoice,
  type PathChoiceEvent,
  type PathChoiceState,
  type Route,
  stepPathChoice,
} from "../../lib/peer/path_choice_engine.ts";

/** A path, with its shortest round trip and the one of late in milliseconds. */
interface Path {
  readonly route: Route | "none";
  readonly leastRttMs?: number;
  readonly rttMs?: number;
  /** What the connection measured on paths that others took the place of. */
  readonly rttsMs?: Partial<Record<Route, number>>;
}

/** Paths one after another, each with what it delivers in each of some windows of 2 s, in bytes per millisecond. */
type Story = readonly (readonly [Route | "none" | Path, ...rates: readonly (number | Stall)[]])[];

/** Between two windows, or so long after the last one, an answer is overdue. */
type Stall = "stall" | { readonly stallAfterMs: number };

const many = (count: number, rate: number): number[] => Array<number>(count).fill(rate);
/** Little is under way, and answers wait for long. */
const HELD_UP = { route: "tcp", leastRttMs: 50, rttMs: 300 } as const;
const SWIFT = { route: "udp", leastRttMs: 50, rttMs: 60 } as const;
/** The application has more to send. */
const FULL = { leastRttMs: 50, rttMs: 300 } as const;
const [FULL_TCP, FULL_UDP] = [{ route: "tcp", ...FULL }, { route: "udp", ...FULL }] as const;

const STORIES: readonly (readonly [string, Story, leavesFor: readonly Route[]])[] = [
  ["a direct path that delivers as much as a relay is kept", [["relay", 500], [
    "tcp",
    ...many(3, 500),
  ]], []],
  ["one that delivers a little less is kept", [["relay", 500], ["tcp", 500, 300, 300]], []],
  ["one that delivers less than half is left", [["relay", 500], ["tcp", 500, 200, 200]], ["relay"]],
  ["one slow window is an accident", [["relay", 500], ["tcp", 500, 200, 400, 200, 400]], []],
  ["its slow start does not count", [["relay", 500], ["udp", 10, 400, 400]], []],
  ["a path that delivers nothing is idle", [["relay", 500], ["tcp", 500, 0, 0, 0]], []],
  ["an idle window between two slow ones proves nothing", [["relay", 500], [
    "tcp",
    ...[500, 200, 0, 200],
  ]], ["relay"]],
  ["the best window of the relay counts", [["relay", 500, 100], ["tcp", 500, 200, 200]], ["relay"]],
  ["a relay that carried little proves nothing", [["relay", 10], ["tcp", 4, 4, 4, 4]], []],
  ["without another path before it, it is kept", [["tcp", 1, 1, 1, 1, 1]], []],
  ["what is left is measured against the relay anew", [
    ["relay", 500],
    ["tcp", 500, 200, 200],
    ["relay", 200],
    ["tcp", 200, 180, 180],
  ], ["relay"]],
  ["and left again if the relay delivers more", [
    ["relay", 500],
    ["tcp", 500, 200, 200],
    ["relay", 500],
    ["tcp", 200, 180, 180],
  ], ["relay", "relay"]],
  ["what the relay did more than a minute ago does not count", [
    ["relay", 500],
    ["tcp", ...many(32, 500), 200, 200],
  ], []],
  ["what it did in the last minute before it was left counts for a minute more", [
    ["relay", 500, ...many(29, 400)],
    ["tcp", 300, 200, 200],
  ], ["relay"]],
  ["unless that is longer ago, as it has carried little since", [
    ["relay", 500, ...many(35, 10)],
    ["tcp", 100, 100, 100],
  ], []],
  ["what a relay did before still counts if another direct path comes at once", [
    ["relay", 500],
    ["tcp", 500, 200, 200],
    ["relay"],
    ["udp", 30, 30],
  ], ["relay", "relay"]],
  ["so it does if the direct path is lost, and another follows", [
    ["relay", 500],
    ["tcp", 50, 0],
    ["none"],
    ["udp", 50, 50],
  ], ["relay"]],
  ["but no longer once the application has sent less over it again", [
    ["relay", 500],
    ["tcp", 500, 200, 200],
    ["relay", 10],
    ["udp", 30, 30, 30],
  ], ["relay"]],
  ["nor do rates of a direct path of long ago", [
    [FULL_TCP, 5000, ...many(40, 10)],
    [FULL_UDP, 300, 300, 300],
  ], []],

  [
    "a new direct path that delivers next to nothing, while much waits, takes one window to be left",
    [
      ["relay", 500],
      [FULL_TCP, 100, 60],
    ],
    ["relay"],
  ],
  ["so does one over which no ping is answered", [["relay", 500], ["udp", 100, 60]], ["relay"]],
  ["and one whose queue was never empty, by the round trip of the relay", [
    [{ route: "relay", leastRttMs: 60 }, 500],
    [{ route: "tcp", leastRttMs: 2000, rttMs: 2000 }, 100, 60],
  ], ["relay"]],
  ["one that has nothing more to deliver takes two", [
    ["relay", 500],
    [{ ...FULL_TCP, rttMs: 52 }, 100, 60],
  ], []],
  ["so does one that is not that slow", [["relay", 500], [FULL_TCP, 200, 200]], []],
  ["and one that was as good before", [["relay", 500], [FULL_TCP, 500, 60]], []],
  ["and one that is not new", [["relay", 500], [FULL_TCP, ...many(5, 0), 60]], []],
  ["a direct path that stalls soon after a relay is left for it at once", [
    ["relay", 500],
    ["tcp", { stallAfterMs: 1000 }],
  ], ["relay"]],
  ["so is one whose first windows were slow", [
    ["relay", 500],
    ["udp", 100, "stall"],
  ], ["relay"]],
  ["and one in place of a direct path that was lost", [
    ["relay", 500],
    ["tcp", 100],
    ["none"],
    ["udp", { stallAfterMs: 1500 }],
  ], ["relay"]],
  ["and one that a late search brings after that", [
    ["relay", 500],
    ["tcp", { stallAfterMs: 1000 }],
    ["relay", { stallAfterMs: 1000 }],
    ["udp", { stallAfterMs: 1000 }],
  ], ["relay", "relay"]],
  ["one that has delivered half as much is kept when it stalls", [
    ["relay", 500],
    ["tcp", 300, "stall"],
  ], []],
  ["so is one that is not new", [["relay", 500], ["tcp", ...many(6, 0), "stall"]], []],
  ["and one after a relay that carried little", [["relay", 10], ["tcp", "stall"]], []],
  ["and one after a relay of more than a minute ago", [
    ["relay", 500],
    ["none", ...many(31, 0)],
    ["tcp", "stall"],
  ], []],
  ["a relay that stalls is not left here", [["relay", 500, "stall"]], []],
  ["nor is a direct path without one before it", [["tcp", 500, "stall"]], []],

  ["a path by TCP that delivers less than the one by UDP did is left for it", [
    [FULL_UDP, 5000, 5000],
    [FULL_TCP, 5000, 3000, 3000],
  ], ["udp"]],
  ["one that delivers nearly as much is kept", [[FULL_UDP, 5000, 5000], [
    FULL_TCP,
    ...[5000, 4000, 4000],
  ]], []],
  ["one that has no more to deliver is kept", [[FULL_UDP, 5000, 5000], [
    { ...FULL_TCP, rttMs: 52 },
    ...[5000, 300, 300],
  ]], []],
  ["a path by UDP that delivers less than the one by TCP did is left for it", [
    [FULL_TCP, 5000, 5000],
    [FULL_UDP, 5000, 3000, 3000],
  ], ["tcp"]],
  ["a quiet path with a much longer round trip is left", [
    [{ route: "tcp", leastRttMs: 170, rttsMs: { udp: 50 } }, 0, 1, 1],
  ], ["udp"]],
  ["so is one that carries nothing at all", [
    [{ route: "tcp", leastRttMs: 170, rttsMs: { udp: 50 } }, 0, 0, 0],
  ], ["udp"]],
  ["one with a slightly longer round trip is kept", [
    [{ route: "tcp", leastRttMs: 90, rttsMs: { udp: 50 } }, 0, 0, 0, 0],
  ], []],
  ["one whose round trip grew later is kept", [
    [{ route: "tcp", leastRttMs: 50, rttMs: 900, rttsMs: { udp: 50 } }, 1, 1, 1],
  ], []],
  ["one that is busy is judged by what it delivers alone", [
    [{ route: "tcp", leastRttMs: 600, rttsMs: { udp: 50 } }, ...many(5, 400)],
  ], []],

  ["TCP that is held up with little under way is left for UDP", [
    [HELD_UP, ...many(3, 200)],
  ], ["udp"]],
  ["and UDP is kept if it delivers more", [[HELD_UP, ...many(3, 200)], [
    SWIFT,
    ...many(9, 4000),
  ]], ["udp"]],
  ["or left at once if it delivers less, and not tried again within a minute", [
    [HELD_UP, ...many(3, 200)],
    [FULL_UDP, 50, 50, 50],
    [HELD_UP, ...many(25, 200)],
  ], ["udp", "tcp"]],
  ["but later it is, as networks change", [
    [HELD_UP, ...many(3, 200)],
    [FULL_UDP, 50, 50, 50],
    [HELD_UP, ...many(70, 200)],
  ], ["udp", "tcp", "udp"]],
  ["so is UDP that delivers as much and no more", [
    [HELD_UP, ...many(3, 200)],
    [FULL_UDP, ...many(4, 210)],
  ], ["udp", "tcp"]],
  ["UDP that has no more to deliver is kept", [
    [HELD_UP, ...many(3, 200)],
    [SWIFT, 4000, 10, 10, 10],
  ], ["udp"]],
  ["a search that finds no path by UDP is not repeated for a minute", [
    [HELD_UP, ...many(30, 200)],
  ], ["udp"]],
  ["an application that sends little is not held up", [
    [{ ...HELD_UP, rttMs: 52 }, ...many(9, 200)],
  ], []],
  ["TCP with much under way is not held up", [[HELD_UP, ...many(9, 4000)]], []],
  ["nor is TCP that carries next to nothing", [[HELD_UP, ...many(9, 8)]], []],
  ["a path that comes back after it was lost is judged anew", [
    [HELD_UP, 200, 200],
    ["none"],
    [HELD_UP, 200, 200],
    ["none"],
  ], []],
];

for (const [name, story, leavesFor] of STORIES) {
  Deno.test(`${name}: ${leavesFor.join(", ") || "kept"}`, () => {
    assertEquals(tell(story), leavesFor);
  });
}

Deno.test("TCP is not left for UDP where this side does not punch by it", () => {
  assertEquals(tell([[HELD_UP, ...many(9, 200)]], initialPathChoice(false)), []);
});

Deno.test("why a path is left is told with what both deliver", () => {
  const state: PathChoiceState = {
    ...initialPathChoice(true),
    route: "tcp",
    sinceMs: 0,
    known: { relay: { rate: 100, rttMs: Infinity, atMs: 0 } },
    window: { startedMs: 4000, bytes: 1000, rttMs: 0 },
    worse: { than: "relay", windows: 1 },
  };
  const event = { kind: "delivered", bytes: 61_000, rttMs: 50 } as const;
  const { actions } = stepPathChoice(state, event, 6000);
  assertEquals(actions, [
    { kind: "leave", for: "relay", why: "it delivers 30 KB/s instead of 100" },
  ]);
});

Deno.test("a connection without a path is not judged", () => {
  const event = { kind: "delivered", bytes: 1000, rttMs: undefined } as const;
  const state = initialPathChoice(true);
  assertEquals(stepPathChoice(state, event, 5000), { state, actions: [] });
});

/** For which routes paths are left. */
function tell(story: Story, initial = initialPathChoice(true)): Route[] {
  let state = initial;
  let [nowMs, bytes] = [0, 0];
  const leavesFor: Route[] = [];
  const dispatch = (event: PathChoiceEvent) => {
    const step = stepPathChoice(state, event, nowMs);
    state = step.state;
    leavesFor.push(...step.actions.map((action) => action.for));
  };
  for (const [path, ...rates] of story) {
    const { route, leastRttMs, rttMs = leastRttMs, rttsMs = {} }: Path = typeof path === "string"
      ? { route: path }
      : path;
    dispatch({ kind: "path", route, bytes, rttsMs });
    dispatch({ kind: "delivered", bytes, rttMs: leastRttMs });
    for (const rate of rates) {
      if (typeof rate !== "number") {
        if (rate !== "stall") nowMs += rate.stallAfterMs;
        dispatch({ kind: "stalled" });
        continue;
      }
      for (let part = 0; part < 4; part++) {
        [nowMs, bytes] = [nowMs + 500, bytes + 500 * rate];
        dispatch({ kind: "delivered", bytes, rttMs });
      }
    }
  }
  return leavesFor;
}
