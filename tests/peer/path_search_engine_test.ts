import { assertEquals } from "@std/assert";
import { NetworkError, UnreachableError } from "../../lib/base/errors.ts";
import type { PathKind } from "../../lib/base/path_kind.ts";
import {
  AFTER_LOSS_MS,
  initialPathSearchState,
  MAX_PUNCHES,
  pathSearchWakeAtMs,
  RELAY_AFTER_MS,
  stepPathSearch,
  TCP_MS,
  UNUSED_MS,
} from "../../lib/peer/path_search_engine.ts";
import type {
  PathSearchAction,
  PathSearchEvent,
  PathSearchSettings,
  PathSearchState,
  SearchedPath,
} from "../../lib/peer/path_search_types.ts";

const TCP = pathOf("punch-tcp", "tcp");
const UDP = pathOf("punch-udp", "udp");
const RELAY = pathOf("relay", "tcp");
const NO_PATH = new UnreachableError("Cannot punch: nothing", []);
const NO_RELAY = new UnreachableError("Cannot relay: nothing", []);

const LIKELY: PathSearchEvent = {
  kind: "planned",
  method: "simultaneous-open",
  successEstimate: 0.9,
};
const UNLIKELY: PathSearchEvent = {
  kind: "planned",
  method: "port-prediction",
  successEstimate: 0.2,
};
const SPRAY: PathSearchEvent = { kind: "planned", method: "birthday", successEstimate: 0.9 };

Deno.test("a search punches as soon as its base socket is ready", () => {
  const search = new Search();
  assertEquals(search.on({ kind: "start" }), ["prepare"]);
  assertEquals(search.on({ kind: "prepared" }), ["punch"]);
});

Deno.test("a direct path that carries bytes ends the search", () => {
  const search = punching();
  assertEquals(search.on(punched(TCP)), ["yield udp", "move 0"]);
  assertEquals(search.on(moved(TCP, true)), ["stop udp", "end udp"]);
  assertEquals(search.on({ kind: "udp over" }), ["finish, moved"]);
  assertEquals(search.wakeAtMs, Infinity);
});

for (
  const { settings, actions } of [
    { settings: { isDirect: false }, actions: ["open relay"] },
    { settings: { isProxied: true }, actions: ["prepare", "open relay"] },
  ]
) {
  Deno.test(`${JSON.stringify(settings)}: the request is answered first, and a relay is opened`, () => {
    const search = new Search(settings);
    assertEquals(search.on({ kind: "start" }), ["answer"]);
    assertEquals(search.on({ kind: "answered" }), actions);
  });
}

Deno.test("an answer that cannot be sent ends the search", () => {
  const search = new Search({ isDirect: false });
  search.on({ kind: "start" });
  const error = new NetworkError("Cannot send", "closed");
  assertEquals(search.on({ kind: "answer failed", error }), ["finish: Cannot send"]);
});

Deno.test("a relay waits for a likely plan, and no longer than its time", () => {
  const search = punching();
  assertEquals(search.on(LIKELY), []);
  assertEquals(search.wakeAtMs, RELAY_AFTER_MS);
  search.nowMs = RELAY_AFTER_MS - 1;
  assertEquals(search.on({ kind: "time" }), []);
  assertEquals(search.on(LIKELY), []); // a second plan does not start the wait again
  search.nowMs = RELAY_AFTER_MS;
  assertEquals(search.on({ kind: "time" }), ["open relay"]);
});

for (
  const [what, event] of [
    ["the plan is unlikely to work", UNLIKELY],
    ["the plan takes many sessions", SPRAY],
    ["the other side asks for one", { kind: "relay asked for" }],
  ] as const
) {
  Deno.test(`a relay is opened at once if ${what}, and only once`, () => {
    const search = punching();
    assertEquals(search.on(event), ["open relay"]);
    assertEquals(search.on(event), []);
    assertEquals(punching({ mayRelay: false }).on(event), []);
  });
}

Deno.test("a relay is asked for before the search has started: it is opened with its start", () => {
  const search = new Search();
  assertEquals(search.on({ kind: "relay asked for" }), []);
  assertEquals(search.on({ kind: "start" }), ["prepare", "open relay"]);
});

Deno.test("a direct search that fails lets UDP end by itself, and then opens a relay", () => {
  const search = punching();
  assertEquals(search.on({ kind: "direct failed", error: NO_PATH }), ["end udp"]);
  assertEquals(search.on({ kind: "udp over" }), ["open relay"]);
  const reasons = "finish: Cannot punch: nothing; Cannot relay: nothing";
  assertEquals(search.on({ kind: "relay failed", error: NO_RELAY }), [reasons]);
});

Deno.test("a path over UDP makes up for a punch by TCP that fails", () => {
  const search = punching({ mayRelay: false });
  assertEquals(search.on({ kind: "udp found", path: UDP }), ["move 1"]);
  search.on({ kind: "direct failed", error: NO_PATH });
  assertEquals(search.on({ kind: "udp over" }), []); // the move is under way
  assertEquals(search.wakeAtMs, Infinity);
  assertEquals(search.on(moved(UDP, true)), ["finish, moved"]);
});

Deno.test("a path over UDP that both sides know leaves TCP little time, and needs no relay", () => {
  const search = punching();
  search.on(UNLIKELY);
  search.on({ kind: "udp found", path: UDP });
  assertEquals(search.on({ kind: "udp confirmed" }), ["stop relay"]);
  assertEquals(search.on({ kind: "relay failed", error: NO_RELAY }), []);
  assertEquals(search.wakeAtMs, TCP_MS);
  search.nowMs = TCP_MS;
  assertEquals(search.on({ kind: "time" }), ["stop tcp"]);
  search.on(moved(UDP, true));
  search.on({ kind: "direct failed", error: NO_PATH });
  assertEquals(search.on({ kind: "udp over" }), ["finish, moved"]);
});

Deno.test("a path by TCP replaces one over UDP that is as near", () => {
  const search = punching();
  search.on({ kind: "udp found", path: UDP });
  search.on(moved(UDP, true));
  assertEquals(search.on(punched(TCP)), ["yield udp", "move 0"]);
});

Deno.test("a path by TCP that dies leaves the connection with UDP, and the search ends", () => {
  const search = punching();
  search.on({ kind: "udp found", path: UDP });
  search.on(moved(UDP, true));
  search.on(punched(TCP));
  assertEquals(search.on(moved(TCP, false)), ["stop udp", "end udp"]);
  assertEquals(search.on({ kind: "udp confirmed" }), []);
  assertEquals(search.on({ kind: "udp over" }), ["finish, moved"]);
});

for (const [role, action] of [["controlling", "reset 1"], ["controlled", "move 1"]] as const) {
  Deno.test(`the ${role} side gets a worse path: ${action}`, () => {
    const search = punching({ role });
    search.on(punched(TCP));
    search.on(moved(TCP, true));
    assertEquals(search.on({ kind: "udp found", path: UDP }), [action]);
  });
}

for (const [role, action] of [["controlling", "reset 0"], ["controlled", "move 0"]] as const) {
  Deno.test(`a path by TCP with an MTU hole that is known: the ${role} side does ${action}`, () => {
    const search = punching({ role });
    assertEquals(search.on({ kind: "punched", path: TCP, isHoleKnown: true })[1], action);
  });
}

Deno.test("a path that dies at once is followed by another punch and a relay, three punches in all", () => {
  const search = punching();
  search.on(punched(TCP));
  assertEquals(search.on(moved(TCP, false)), ["punch", "open relay"]);
  for (let punches = 2; punches < MAX_PUNCHES; punches++) {
    search.on(punched(TCP));
    assertEquals(search.on(moved(TCP, false)), ["punch"]);
  }
  search.on(punched(TCP));
  assertEquals(search.on(moved(TCP, false)), ["stop udp", "end udp"]);
  search.on({ kind: "udp over" });
  assertEquals(search.on({ kind: "relay failed", error: NO_RELAY }), ["finish"]);
});

Deno.test("some time after a path was lost, the search ends: one of the two sides starts over", () => {
  const search = punching();
  search.on(punched(TCP));
  search.nowMs = 100;
  search.on(moved(TCP, false));
  assertEquals(search.wakeAtMs, 100 + AFTER_LOSS_MS);
  search.nowMs = 100 + AFTER_LOSS_MS;
  assertEquals(search.on({ kind: "time" }), ["stop udp", "stop tcp", "stop relay"]);
});

Deno.test("a connection that ends with its path searches for no other", () => {
  const search = punching({ mayFallBack: false });
  search.on(punched(TCP));
  assertEquals(search.on(moved(TCP, false)), ["stop udp", "end udp"]);
  assertEquals(search.on({ kind: "udp over" }), ["finish"]);
});

Deno.test("the punch by UDP ends in time", () => {
  const search = punching({ timeoutMs: 5000 });
  assertEquals(search.wakeAtMs, 5000);
  search.nowMs = 5000;
  assertEquals(search.on({ kind: "time" }), ["stop udp"]);
  assertEquals(search.wakeAtMs, Infinity);
});

Deno.test("a relayed path is used at once if there is no direct one, and does not end the search for one", () => {
  const search = punching();
  search.on(UNLIKELY);
  assertEquals(search.on({ kind: "relay found", path: RELAY }), ["move 2"]);
  assertEquals(search.on(moved(RELAY, true)), []);
  assertEquals(search.on(punched(TCP)), ["yield udp", "move 0"]);
  search.on(moved(TCP, true));
  assertEquals(search.on({ kind: "udp over" }), ["finish, moved"]);
});

for (
  const [what, event, actions] of [
    ["carries bytes", moved(TCP, true), ["reset 2", "stop udp", "end udp"]],
    ["dies", moved(TCP, false), ["move 2", "punch"]],
    ["stays silent", { kind: "time" }, ["move 2"]],
    ["is joined by one over UDP that both sides know", { kind: "udp confirmed" }, ["reset 2"]],
    ["is still open when the search is aborted", { kind: "aborted" }, [
      "stop udp",
      "end udp",
      "reset 2",
    ]],
  ] as [string, PathSearchEvent, string[]][]
) {
  Deno.test(`a relayed path waits for a direct one, which ${what}: ${actions}`, () => {
    const search = punching({ role: "controlled" });
    search.on(UNLIKELY);
    search.on(punched(TCP));
    assertEquals(search.on({ kind: "relay found", path: RELAY }), []);
    assertEquals(search.wakeAtMs, UNUSED_MS);
    search.nowMs = UNUSED_MS;
    assertEquals(search.on(event), actions);
  });
}

Deno.test("a relayed path that comes after a direct one carries bytes is reset", () => {
  const search = punching({ role: "controlled" });
  search.on(UNLIKELY);
  search.on(punched(TCP));
  assertEquals(search.on(moved(TCP, true)), ["stop relay", "stop udp", "end udp"]);
  assertEquals(search.on({ kind: "relay found", path: RELAY }), ["reset 2"]);
});

Deno.test("a hopeless search ends every part, and says why for the relay", () => {
  const reason = new NetworkError("the other side has found no path", "closed");
  const waiting = punching();
  const stopped = ["stop udp", "stop tcp", "stop relay"];
  assertEquals(waiting.on({ kind: "hopeless", reason }), stopped);
  assertEquals(waiting.on({ kind: "hopeless", reason }), []);
  waiting.on({ kind: "direct failed", error: NO_PATH });
  const failures = `finish: Cannot punch: nothing; Cannot relay: ${reason.message}`;
  assertEquals(waiting.on({ kind: "udp over" }), [failures]);
  const opening = punching();
  opening.on(UNLIKELY);
  opening.on({ kind: "hopeless", reason });
  opening.on({ kind: "direct failed", error: NO_PATH });
  opening.on({ kind: "udp over" });
  assertEquals(opening.on({ kind: "relay failed", error: reason }), [failures]);
});

Deno.test("a relay that takes too long fails with its time, another failure as it is", () => {
  const late = new Search({ isDirect: false, timeoutMs: 7000 });
  late.on({ kind: "start" });
  late.on({ kind: "answered" });
  const error = new DOMException("Timed out", "TimeoutError");
  assertEquals(late.on({ kind: "relay failed", error }), [
    "finish: Cannot relay: no connection over a relay in 7 s",
  ]);
  const broken = new Search({ isDirect: false });
  broken.on({ kind: "start" });
  broken.on({ kind: "answered" });
  assertEquals(broken.on({ kind: "relay failed", error: new TypeError("bug") }), ["finish: bug"]);
});

Deno.test("on abort nothing waits for a move, and every part ends", () => {
  const search = punching();
  search.on(UNLIKELY);
  search.on(punched(TCP));
  assertEquals(search.on({ kind: "aborted" }), ["stop udp", "end udp"]);
  search.on({ kind: "udp over" });
  assertEquals(search.on({ kind: "relay failed", error: NO_RELAY }), ["finish"]);
});

Deno.test("a search that is aborted before it starts ends without a relay", () => {
  const search = new Search();
  search.on({ kind: "aborted" });
  search.on({ kind: "relay asked for" });
  assertEquals(search.on({ kind: "start" }), ["prepare"]);
  search.on({ kind: "direct failed", error: NO_PATH });
  assertEquals(search.on({ kind: "udp over" }), ["finish: Cannot punch: nothing"]);
});

Deno.test("whatever is found after the end is reset, and nothing else happens", () => {
  const search = new Search({ isDirect: false, mayRelay: false });
  search.on({ kind: "start" });
  assertEquals(search.on({ kind: "answered" }), ["finish"]);
  assertEquals(search.on({ kind: "udp found", path: UDP }), ["reset 1"]);
  assertEquals(search.on(punched(TCP)), ["reset 0"]);
  assertEquals(search.on({ kind: "relay found", path: RELAY }), ["reset 2"]);
  for (const kind of ["time", "aborted", "udp confirmed", "udp over"] as const) {
    assertEquals(search.on({ kind }), []);
  }
});

Deno.test("any order of events ends each path once, and the search at most once", () => {
  for (let seed = 1; seed <= 2000; seed++) runAtRandom(seed);
});

/** Plays a driver that answers every action, in an order by chance. */
function runAtRandom(seed: number): void {
  const random = () => (seed = seed * 48271 % 2147483647) / 2147483647;
  const role = random() < 0.5 ? "controlling" : "controlled";
  const search = new Search({ role, mayFallBack: random() < 0.8, isDirect: random() < 0.9 });
  const pending: PathSearchEvent[] = [{ kind: "start" }];
  if (random() < 0.3) pending.push({ kind: "aborted" });
  if (random() < 0.3) pending.push({ kind: "hopeless", reason: new Error("hopeless") });
  if (random() < 0.3) pending.push({ kind: "relay asked for" });
  const fates = new Map<number, string>();
  let [paths, finishes, isPunching] = [0, 0, false];
  const found = (kind: PathKind, transport: "tcp" | "udp") => ({
    ...pathOf(kind, transport),
    id: paths++,
  });
  while (pending.length > 0 || search.wakeAtMs !== Infinity) {
    const [event] = pending.splice(Math.floor(random() * pending.length), 1);
    if (event === undefined) search.nowMs = Math.max(search.nowMs, search.wakeAtMs);
    if (event?.kind === "punched" || event?.kind === "direct failed") isPunching = false;
    for (const action of search.step(event ?? { kind: "time" })) {
      if (action.kind === "move" || action.kind === "reset") {
        assertEquals(fates.get(action.path.id), undefined, "each path is used or reset, once");
        fates.set(action.path.id, action.kind);
      }
      if (action.kind === "move") pending.push(moved(action.path, random() < 0.5));
      if (action.kind === "answer") pending.push({ kind: "answered" });
      if (action.kind === "prepare") pending.push({ kind: "prepared" });
      if (action.kind === "end udp") pending.push({ kind: "udp over" });
      if (action.kind === "finish") finishes++;
      if (action.kind === "open relay") {
        pending.push(
          random() < 0.5
            ? { kind: "relay found", path: found("relay", "tcp") }
            : { kind: "relay failed", error: NO_RELAY },
        );
      }
      if (action.kind === "punch") {
        assertEquals(isPunching, false, "one punch at a time");
        isPunching = true;
        if (random() < 0.5) pending.push(random() < 0.5 ? LIKELY : UNLIKELY);
        if (random() < 0.3) {
          pending.push({ kind: "udp found", path: found("punch-udp", "udp") });
          if (random() < 0.5) pending.push({ kind: "udp confirmed" });
        }
        pending.push(
          random() < 0.6
            ? punched(found("punch-tcp", "tcp"))
            : { kind: "direct failed", error: NO_PATH },
        );
      }
    }
  }
  assertEquals(finishes, 1, `the search of seed ${seed} ends once`);
  assertEquals(fates.size, paths, "no path is left open");
}

function punching(settings: Partial<PathSearchSettings> = {}): Search {
  const search = new Search(settings);
  search.on({ kind: "start" });
  search.on({ kind: "prepared" });
  return search;
}

function pathOf(kind: PathKind, transport: "tcp" | "udp"): SearchedPath {
  const isRelayed = kind === "relay";
  return { id: isRelayed ? 2 : transport === "udp" ? 1 : 0, kind, transport, isRelayed };
}

function punched(path: SearchedPath): PathSearchEvent {
  return { kind: "punched", path, isHoleKnown: false };
}

function moved(path: SearchedPath, hasMoved: boolean): PathSearchEvent {
  return { kind: "moved", path, hasMoved };
}

/** Drives the engine, and shows its actions as text. */
class Search {
  nowMs = 0;
  #state: PathSearchState;

  constructor(settings: Partial<PathSearchSettings> = {}) {
    this.#state = initialPathSearchState({
      role: "controlling",
      isDirect: true,
      mayRelay: true,
      isProxied: false,
      mayFallBack: true,
      timeoutMs: 30_000,
      ...settings,
    });
  }

  get wakeAtMs(): number {
    return pathSearchWakeAtMs(this.#state);
  }

  step(event: PathSearchEvent): readonly PathSearchAction[] {
    const { state, actions } = stepPathSearch(this.#state, event, this.nowMs);
    this.#state = state;
    return actions;
  }

  on(event: PathSearchEvent): string[] {
    return this.step(event).map(show);
  }
}

function show(action: PathSearchAction): string {
  if (action.kind === "move" || action.kind === "reset") return `${action.kind} ${action.path.id}`;
  if (action.kind !== "finish") return action.kind;
  if (action.hasFound) return action.hasMoved ? "finish, moved" : "finish";
  const reasons = action.failures.map((each) => (each as Error).message);
  return reasons.length === 0 ? "finish" : `finish: ${reasons.join("; ")}`;
}
