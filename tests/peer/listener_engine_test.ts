import { assert, assertEquals } from "@std/assert";
import { UnreachableError } from "../../lib/base/errors.ts";
import {
  EMPTY_SEARCH_QUEUE,
  initialRequestState,
  mayHaveConnection,
  type PlacedRequest,
  type RequestAction,
  type RequestCheck,
  type RequestEvent,
  type RequestState,
  requestsToDisplace,
  type SearchQueueEvent,
  searchQueueWakeAtMs,
  stepRequest,
  stepSearchQueue,
} from "../../lib/peer/listener_engine.ts";

const SETTINGS = { answerMs: 30_000, returnMs: 30_000, mayCancel: true };

const CHECKS: readonly (readonly [RequestCheck, string])[] = [
  ["refused", "reject: refused"],
  ["wrong-protocol", "reject: protocol"],
  ["unknown", "reject: unknown"],
  ["new", "show"],
  ["known", "start search"],
];

for (const [check, action] of CHECKS) {
  Deno.test(`a fresh request whose check says ${check} leads to: ${action}`, () => {
    const request = new Request();
    assertEquals(request.at(0, { kind: "start" }), ["check"]);
    assertEquals(request.at(10, { kind: "checked", check }), [action]);
  });
}

Deno.test("a rejection is repeated for five seconds", () => {
  const request = deciding();
  assertEquals(request.at(1000, { kind: "refused", reason: "busy" }), ["reject: busy"]);
  assertEquals(request.state.untilMs, 6000);
  assertEquals(request.at(5999, { kind: "time" }), []);
  assertEquals(request.at(6000, { kind: "time" }), ["close"]);
  assertEquals(request.state.phase, "over");
});

Deno.test("an ignored request is kept as long as a rejected one, in silence", () => {
  const request = deciding();
  assertEquals(request.at(1000, { kind: "ignored" }), []);
  assertEquals(request.at(6000, { kind: "time" }), ["close"]);
});

Deno.test("a check or a decision that takes too long ends the request", () => {
  const checking = new Request();
  checking.at(0, { kind: "start" });
  assertEquals(checking.at(30_000, { kind: "time" }), ["close"]);
  assertEquals(checking.at(31_000, { kind: "checked", check: "new" }), []);
  const late = deciding();
  assertEquals(late.at(30_000, { kind: "time" }), ["close"]);
  const [action] = late.at(31_000, { kind: "accepted" });
  assert(action?.includes("no longer waits"), action);
});

Deno.test("accept() succeeds with the first path, and the search goes on to its end", () => {
  const request = searching();
  assertEquals(request.at(100, { kind: "path" }), ["succeed"]);
  assertEquals(request.at(200, { kind: "path" }), []);
  assertEquals(request.at(300, { kind: "search ended", failure: null }), ["close"]);
});

Deno.test("accept() fails with what the search fails with", () => {
  const request = searching();
  const actions = request.at(100, { kind: "search ended", failure: { error: "no path" } });
  assertEquals(actions, ["fail: no path", "close"]);
});

Deno.test("a search without file descriptors fails, and the other side is told that this one is busy", () => {
  const failure = { error: "too many open files", isShortage: true };
  const request = searching();
  const actions = request.at(100, { kind: "search ended", failure });
  assertEquals(actions, ["reject: busy", "fail: too many open files"]);
  const manual = searching({ mayCancel: false });
  assertEquals(manual.at(100, { kind: "search ended", failure }), [
    "fail: too many open files",
    "close",
  ]);
});

Deno.test("an aborted accept() fails with its reason, and the other side is told", () => {
  const request = searching();
  assertEquals(request.at(50, { kind: "aborted", reason: "enough" }), ["end search"]);
  const actions = request.at(51, { kind: "search ended", failure: null });
  assertEquals(actions, ["reject: cancelled", "fail: enough"]);
  assertEquals(request.at(5051, { kind: "time" }), ["close"]);
});

Deno.test("a rejection outlives the connection that it ends, but not the peer", () => {
  for (const kind of ["aborted", "displaced"] as const) {
    const request = searching();
    request.at(50, kind === "aborted" ? { kind, reason: "enough" } : { kind });
    request.at(51, { kind: "search ended", failure: null });
    assertEquals(request.at(52, { kind: "ended", reason: "reset" }), []);
    assertEquals([request.state.phase, request.state.untilMs], ["rejecting", 5051]);
    assertEquals(request.at(53, { kind: "stop", reason: "closed" }), ["close"]);
  }
});

Deno.test("a connection that ends while it is searched for ends the search", () => {
  const request = searching();
  assertEquals(request.at(50, { kind: "ended", reason: "reset" }), ["end search"]);
  const actions = request.at(51, { kind: "search ended", failure: null });
  assertEquals(actions, ["fail: reset", "close"]);
});

Deno.test("with manual signaling, the other side is not told that accept() was aborted", () => {
  const request = searching({ mayCancel: false });
  request.at(50, { kind: "aborted", reason: "enough" });
  const actions = request.at(51, { kind: "search ended", failure: null });
  assertEquals(actions, ["fail: enough", "close"]);
});

Deno.test("an abort after accept() has succeeded changes nothing", () => {
  const request = searching();
  request.at(50, { kind: "path" });
  assertEquals(request.at(60, { kind: "aborted", reason: "enough" }), []);
});

Deno.test("a search that the other side has cancelled ends half a second later", () => {
  const request = searching();
  assertEquals(request.at(100, { kind: "cancelled", hopeless: null }), []);
  assertEquals(request.at(599, { kind: "time" }), []);
  assertEquals(request.at(600, { kind: "time" }), ["end search"]);
  const [action] = request.at(600, { kind: "search ended", failure: null });
  assert(action?.includes("the other side has given up"), action);
});

Deno.test("a cancelled search whose place another takes ends at once, and the other side is told nothing", () => {
  for (const hopeless of [null, new Error("nothing there")]) {
    const request = searching();
    request.at(100, { kind: "cancelled", hopeless });
    assertEquals(request.at(110, { kind: "displaced" }), ["end search"]);
    const [action, next] = request.at(120, { kind: "search ended", failure: null });
    assert(action?.includes("the other side has given up"), action);
    assertEquals(next, "close");
  }
});

Deno.test("a cancelled search that fails by itself within that time says why", () => {
  const request = searching();
  request.at(100, { kind: "cancelled", hopeless: null });
  const actions = request.at(200, { kind: "search ended", failure: { error: "no path" } });
  assertEquals(actions, ["fail: no path", "close"]);
});

Deno.test("accept() does not wait for a side that has cancelled, even if it had found a path", () => {
  const request = searching();
  request.at(100, { kind: "cancelled", hopeless: null });
  const [action] = request.at(120, { kind: "search ended", failure: null });
  assert(action?.includes("the other side has given up"), action);
  assertEquals(request.state.phase, "over");
});

Deno.test("accept() does not wait for a side that cancels after its paths were lost", () => {
  const request = searching();
  request.at(100, { kind: "search ended", failure: null });
  const actions = request.at(120, { kind: "cancelled", hopeless: null });
  assertEquals(actions, [
    "fail: NetworkError: Cannot connect: the other side has given up",
    "close",
  ]);
});

Deno.test("a search that finds nothing tells the other side, unless that has told it first", () => {
  const error = new UnreachableError("no path", []);
  const first = searching();
  assertEquals(
    first.at(100, { kind: "search ended", failure: { error } })[0],
    "reject: cancelled",
  );
  for (const hopeless of [null, new Error("nothing there")]) {
    const second = searching();
    second.at(100, { kind: "cancelled", hopeless });
    const actions = second.at(120, { kind: "search ended", failure: { error } });
    assertEquals(actions.includes("reject: cancelled"), false);
  }
});

Deno.test("accept() waits for the other side to come back when all paths were lost at once", () => {
  const request = searching();
  assertEquals(request.at(100, { kind: "search ended", failure: null }), []);
  assertEquals(request.at(9000, { kind: "path" }), ["succeed", "close"]);
  assertEquals(request.state.phase, "over");
});

Deno.test("accept() fails when the other side does not come back in time, or cannot", () => {
  const patient = searching();
  patient.at(100, { kind: "search ended", failure: null });
  const [late] = patient.at(30_100, { kind: "time" });
  assert(late?.includes("lost before it could be used"), late);
  const impatient = searching({ returnMs: 0 });
  const [atOnce] = impatient.at(100, { kind: "search ended", failure: null });
  assert(atOnce?.includes("lost before it could be used"), atOnce);
});

Deno.test("accept() ends at once when it is aborted while the other side is away", () => {
  const request = searching();
  request.at(100, { kind: "search ended", failure: null });
  assertEquals(request.at(200, { kind: "aborted", reason: "enough" }), ["fail: enough", "close"]);
});

Deno.test("a request to resume a connection is closed with its search, however that ends", () => {
  for (const failure of [null, { error: "no path" }]) {
    const request = new Request();
    request.at(0, { kind: "start" });
    request.at(0, { kind: "checked", check: "known" });
    assertEquals(request.at(9, { kind: "search ended", failure }), ["close"]);
  }
});

Deno.test("a peer that is closed ends the request in every phase", () => {
  const checking = new Request();
  checking.at(0, { kind: "start" });
  assertEquals(checking.at(1, { kind: "stop", reason: "closed" }), ["close"]);
  assertEquals(deciding().at(1, { kind: "stop", reason: "closed" }), ["close"]);
  const request = searching();
  assertEquals(request.at(1, { kind: "stop", reason: "closed" }), ["end search"]);
  const actions = request.at(2, { kind: "search ended", failure: null });
  assertEquals(actions, ["fail: closed", "close"]);
  assertEquals(request.at(3, { kind: "stop", reason: "closed" }), []);
});

Deno.test("a search that another displaces ends, and the other side is told that this one is busy", () => {
  const request = searching();
  assertEquals(request.at(50, { kind: "displaced" }), ["end search"]);
  const actions = request.at(51, { kind: "search ended", failure: null });
  assertEquals(actions[0], "reject: busy");
  assert(actions[1]?.includes("had not got through"), actions[1]);
});

Deno.test("a request that another displaces before it is decided is closed", () => {
  const request = deciding();
  assertEquals(request.at(50, { kind: "displaced" }), ["close"]);
});

Deno.test("a newcomer displaces the oldest request that has proved nothing", () => {
  const full = Array.from({ length: 1024 }, (_, i) => placed(i, { key: `key ${i}` }));
  assertEquals(requestsToDisplace(full.slice(1), "new"), []);
  assertEquals(requestsToDisplace(full, "new"), ["0"]);
  const proven = full.map((each, i) => ({ ...each, isProven: i < 3 }));
  assertEquals(requestsToDisplace(proven, "new"), ["3"]);
  assertEquals(
    requestsToDisplace(full.map((each) => ({ ...each, isProven: true })), "new"),
    undefined,
  );
});

Deno.test("a newcomer displaces a request of the key with most", () => {
  const full = Array.from(
    { length: 1024 },
    (_, i) => placed(i, { key: i % 10 === 9 ? "many" : `key ${i}` }),
  );
  assertEquals(requestsToDisplace(full, "new"), ["9"]);
});

Deno.test("one key has its share of requests, and displaces its own", () => {
  const own = Array.from({ length: 256 }, (_, i) => placed(i + 1, { key: "own" }));
  assertEquals(requestsToDisplace([placed(0, { key: "other" }), ...own], "own"), ["1"]);
});

Deno.test("connections are limited for each key, and for all", () => {
  const may = (ofKey: number, ofAll: number, isKnown: boolean, max?: number) =>
    mayHaveConnection({ ofKey, ofAll, isKnown }, max);
  assertEquals([may(127, 127, true), may(128, 128, true)], [true, false]);
  assertEquals([may(0, 767, false), may(0, 768, false)], [true, false]);
  assertEquals([may(0, 1023, true), may(0, 1024, true)], [true, false]);
  assertEquals([may(0, 1499, false, 2000), may(0, 1500, false, 2000)], [true, false]);
  assertEquals([may(0, 1999, true, 2000), may(0, 2000, true, 2000)], [true, false]);
  assertEquals([may(0, 0, false, 1), may(0, 1, true, 1)], [true, false]);
  assertEquals([may(0, 5000, false, Infinity), may(0, 5000, true, Infinity)], [true, true]);
});

Deno.test("the first search for a connection starts at once", () => {
  const queue = new Queue();
  assertEquals(queue.at(0, { kind: "requested", request: 1 }), ["start 1"]);
});

Deno.test("a newer search replaces the running one, and starts once that has ended", () => {
  const queue = new Queue();
  queue.at(0, { kind: "requested", request: 1 });
  assertEquals(queue.at(1000, { kind: "requested", request: 2 }), ["replace 1"]);
  assertEquals(queue.wakeAtMs, Infinity);
  assertEquals(queue.at(1001, { kind: "ended", request: 1 }), ["start 2"]);
});

Deno.test("searches start half a second apart, and the newest takes the place of one that waits", () => {
  const queue = new Queue();
  queue.at(0, { kind: "requested", request: 1 });
  queue.at(10, { kind: "requested", request: 2 });
  assertEquals(queue.at(11, { kind: "ended", request: 1 }), []);
  assertEquals(queue.wakeAtMs, 500);
  assertEquals(queue.at(20, { kind: "requested", request: 3 }), ["replace 2"]);
  assertEquals(queue.at(20, { kind: "ended", request: 2 }), []);
  assertEquals(queue.at(500, { kind: "time" }), ["start 3"]);
  assertEquals(queue.at(501, { kind: "time" }), []);
});

Deno.test("a search that is ended while it waits never starts", () => {
  const queue = new Queue();
  queue.at(0, { kind: "requested", request: 1 });
  queue.at(10, { kind: "requested", request: 2 });
  queue.at(11, { kind: "ended", request: 1 });
  queue.at(12, { kind: "ended", request: 2 });
  assertEquals(queue.wakeAtMs, Infinity);
  assertEquals(queue.at(500, { kind: "time" }), []);
});

/** Drives the engine of a request, and shows its actions as text. */
class Request {
  state: RequestState;

  constructor(settings: Partial<typeof SETTINGS> = {}) {
    this.state = initialRequestState({ ...SETTINGS, ...settings });
  }

  at(nowMs: number, event: RequestEvent): string[] {
    const { state, actions } = stepRequest(this.state, event, nowMs);
    this.state = state;
    return actions.map(show);
  }
}

/** A request that the application has to decide, at 0 ms. */
function deciding(settings: Partial<typeof SETTINGS> = {}): Request {
  const request = new Request(settings);
  request.at(0, { kind: "start" });
  request.at(0, { kind: "checked", check: "new" });
  return request;
}

/** A request that the application has accepted, at 0 ms. */
function searching(settings: Partial<typeof SETTINGS> = {}): Request {
  const request = deciding(settings);
  assertEquals(request.at(0, { kind: "accepted" }), ["start search"]);
  return request;
}

function placed(id: number, { key }: { key: string }): PlacedRequest {
  return { id: `${id}`, key, isProven: false };
}

function show(action: RequestAction): string {
  switch (action.kind) {
    case "reject":
      return `reject: ${action.reason}`;
    case "fail":
      return `fail: ${action.error}`;
    default:
      return action.kind;
  }
}

/** Drives the engine of a connection's searches, and shows its actions as text. */
class Queue {
  #state = EMPTY_SEARCH_QUEUE;

  get wakeAtMs(): number {
    return searchQueueWakeAtMs(this.#state);
  }

  at(nowMs: number, event: SearchQueueEvent): string[] {
    const { state, actions } = stepSearchQueue(this.#state, event, nowMs);
    this.#state = state;
    return actions.map(({ kind, request }) => `${kind} ${request}`);
  }
}
