import { assert, assertEquals } from "@std/assert";
import { dialerWakeAtMs, initialDialerState, stepDialer } from "../../lib/peer/dialer_engine.ts";
import type { DialerAction, DialerEvent, DialerState } from "../../lib/peer/dialer_types.ts";

const SETTINGS = {
  reconnects: true,
  improves: true,
  firstRequestMs: 1000,
  answerMs: 30_000,
  reconnectMs: 120_000,
  retryMs: 1000,
  improveMs: 60_000,
};

const STALLED = { kind: "path stalled", random: 0.5 } as const;

Deno.test("the first search starts at once, and its request is repeated until the answer", () => {
  const dialer = new Dialer();
  assertEquals(dialer.at(0, { kind: "start" }), ["start search 1: any"]);
  assertEquals(dialer.wakeAtMs, 1000);
  assertEquals(dialer.at(1000, { kind: "time" }), ["send request"]);
  assertEquals(dialer.at(2000, { kind: "time" }), ["send request"]);
  assertEquals(dialer.at(2500, { kind: "answered", search: 1 }), []);
  assertEquals(dialer.wakeAtMs, Infinity);
});

Deno.test("without a base socket, the request is sent at once", () => {
  const dialer = new Dialer({ firstRequestMs: 0 });
  assertEquals(dialer.at(0, { kind: "start" }), ["start search 1: any", "send request"]);
  assertEquals(dialer.wakeAtMs, 1000);
});

Deno.test("with manual signaling, no request is repeated", () => {
  const dialer = new Dialer({ firstRequestMs: Infinity });
  dialer.at(0, { kind: "start" });
  assertEquals(dialer.wakeAtMs, 30_000);
});

Deno.test("connecting succeeds with the first path, and the search goes on", () => {
  const dialer = new Dialer();
  dialer.at(0, { kind: "start" });
  dialer.at(100, { kind: "answered", search: 1 });
  assertEquals(dialer.at(200, { kind: "path", isRelayed: true }), ["succeed"]);
  assertEquals(dialer.at(300, { kind: "path", isRelayed: false }), []);
  assertEquals(dialer.at(300, { kind: "finished", search: 1, hasMoved: true }), ["end search"]);
  assertEquals(dialer.at(301, { kind: "search ended", search: 1, random: 0 }), []);
  assertEquals([dialer.state.phase, dialer.state.path], ["connected", "direct"]);
});

const FAILURES: readonly (readonly [string, DialerEvent, readonly string[]])[] = [
  ["is rejected", { kind: "rejected", search: 1, error: "no" }, ["end search"]],
  ["finds no path", { kind: "failed", search: 1, error: "no" }, cancelled()],
  ["is stopped by the caller", { kind: "stop", reason: "no" }, cancelled()],
];

for (const [what, event, actions] of FAILURES) {
  Deno.test(`connecting fails once a search that ${what} has ended`, () => {
    const dialer = new Dialer();
    dialer.at(0, { kind: "start" });
    dialer.at(100, { kind: "answered", search: 1 });
    assertEquals(dialer.at(200, event), actions);
    assertEquals(dialer.at(300, { kind: "search ended", search: 1, random: 0 }), ["fail: no"]);
    assertEquals([dialer.state.phase, dialer.wakeAtMs], ["over", Infinity]);
  });
}

Deno.test("the other side is not notified of a failure before it has answered", () => {
  const dialer = new Dialer();
  dialer.at(0, { kind: "start" });
  assertEquals(dialer.at(50, { kind: "failed", search: 1, error: "no" }), ["end search"]);
});

for (
  const [what, events, message] of [
    ["the request went out by a server", [
      { kind: "sent", search: 1, isServer: true },
      { kind: "sent", search: 1, isServer: false },
    ], "NoResponseError: Cannot connect: no answer in 30 s; the peer may be offline"],
    [
      "the request went out in the local network alone",
      [
        { kind: "way failed", search: 1, why: "Cannot resolve a.example" },
        { kind: "sent", search: 1, isServer: false },
      ],
      "NetworkError: Cannot connect: no answer from this local network in 30 s, and no server could be reached to ask elsewhere: Cannot resolve a.example",
    ],
    [
      "no way to meet opened",
      [],
      "NetworkError: Cannot connect: no way to meet the peer opened in 30 s",
    ],
  ] as const satisfies readonly (readonly [string, readonly DialerEvent[], string])[]
) {
  Deno.test(`connecting without an answer in time fails with the truth if ${what}`, () => {
    const dialer = new Dialer({ firstRequestMs: Infinity });
    dialer.at(0, { kind: "start" });
    for (const event of events) assertEquals(dialer.at(100, event), []);
    assertEquals(dialer.at(30_000, { kind: "time" }), ["end search"]);
    const [action] = dialer.at(30_000, { kind: "search ended", search: 1, random: 0 });
    assert(action?.startsWith(`fail: ${message}`), action);
  });
}

Deno.test("connecting fails if every path is lost before it could be used", () => {
  const dialer = new Dialer();
  dialer.at(0, { kind: "start" });
  assertEquals(dialer.at(99, { kind: "finished", search: 1, hasMoved: false }), ["end search"]);
  const [action] = dialer.at(99, { kind: "search ended", search: 1, random: 0 });
  assert(action?.includes("lost before it could be used"), action);
});

Deno.test("the caller's reason replaces the one of a search that is ending", () => {
  const dialer = new Dialer();
  dialer.at(0, { kind: "start" });
  dialer.at(10, { kind: "failed", search: 1, error: "no path" });
  assertEquals(dialer.at(11, { kind: "stop", reason: "enough" }), []);
  assertEquals(dialer.at(12, { kind: "search ended", search: 1, random: 0 }), ["fail: enough"]);
});

Deno.test("a lost path is searched for at once, in place of the search under way", () => {
  const dialer = connected({ isSearching: true });
  assertEquals(dialer.at(5000, { kind: "path lost", wasUsed: true, random: 0.5 }), [
    "check signaling",
    "end search",
    "start search 2: any",
  ]);
  assertEquals(dialer.at(5001, { kind: "search ended", search: 1, random: 0 }), []); // the old one
  assertEquals(dialer.state.phase, "reconnecting");
});

Deno.test("a path that is lost before it was used leaves the search that found it alone", () => {
  const dialer = connected({ isSearching: true });
  const lost = { kind: "path lost", wasUsed: false, random: 0.5 } as const;
  assertEquals(dialer.at(5000, lost), ["check signaling"]);
  assertEquals(dialer.state.phase, "reconnecting");
  assertEquals(dialer.at(5100, { kind: "path", isRelayed: true }), []);
  assertEquals(dialer.at(5200, { kind: "finished", search: 1, hasMoved: true }), ["end search"]);
  assertEquals(dialer.at(5201, { kind: "search ended", search: 1, random: 0 }), []);
  assertEquals(dialer.state.phase, "connected");
});

Deno.test("a path that is lost before it was used, when no search goes on, starts one", () => {
  const lost = { kind: "path lost", wasUsed: false, random: 0.5 } as const;
  assertEquals(connected().at(5000, lost), ["check signaling", "start search 2: any"]);
});

Deno.test("the waits between attempts to reconnect double up to ten times the first", () => {
  const dialer = connected();
  dialer.at(0, { kind: "path lost", wasUsed: true, random: 0.5 });
  const waits: number[] = [];
  for (let search = 2, nowMs = 0; search < 9; search++) {
    dialer.at(nowMs, { kind: "failed", search, error: "no path" });
    dialer.at(nowMs, { kind: "search ended", search, random: 0.5 });
    waits.push(dialer.state.retry.atMs - nowMs);
    nowMs = dialer.state.retry.atMs;
    assertEquals(dialer.at(nowMs, { kind: "time" }), [`start search ${search + 1}: any`]);
  }
  assertEquals(waits, [1000, 2000, 4000, 8000, 10_000, 10_000, 10_000]);
});

Deno.test("a search that waited for an answer in vain is followed by another at once", () => {
  const dialer = connected();
  dialer.at(0, { kind: "path lost", wasUsed: true, random: 0.5 });
  for (let search = 2; search < 5; search++) {
    const { answerByMs } = dialer.state.search!;
    const actions: string[] = [];
    while (!actions.includes("end search")) {
      actions.push(...dialer.at(answerByMs, { kind: "time" }));
    }
    const endedAtMs = answerByMs + 100;
    assertEquals(dialer.at(endedAtMs, { kind: "search ended", search, random: 0.5 }), [
      `start search ${search + 1}: any`,
    ]);
  }
});

Deno.test("a search that was answered late, and then found nothing, is followed by another at once", () => {
  for (const [answeredAtMs, retryAtMs] of [[2999, 11_000], [3000, null]] as const) {
    const dialer = connected();
    dialer.at(0, { kind: "path lost", wasUsed: true, random: 0.5 });
    dialer.at(answeredAtMs, { kind: "answered", search: 2 });
    dialer.at(10_000, { kind: "failed", search: 2, error: "no path" });
    const actions = dialer.at(10_000, { kind: "search ended", search: 2, random: 0.5 });
    if (retryAtMs === null) assertEquals(actions, ["start search 3: any"]);
    else assertEquals([actions, dialer.state.retry.atMs], [[], retryAtMs]);
  }
});

Deno.test("chance halves the wait, or makes it half as long again", () => {
  for (const [random, waitMs] of [[0, 500], [0.999, 1499]] as const) {
    const dialer = connected();
    dialer.at(0, { kind: "path lost", wasUsed: true, random });
    dialer.at(0, { kind: "failed", search: 2, error: "no path" });
    dialer.at(0, { kind: "search ended", search: 2, random });
    assertEquals(dialer.state.retry.atMs, waitMs);
  }
});

Deno.test("a path that is lost soon after the last search is not searched for at once", () => {
  const dialer = connected();
  dialer.at(0, { kind: "path lost", wasUsed: true, random: 0.5 });
  dialer.at(100, { kind: "path", isRelayed: false });
  dialer.at(100, { kind: "finished", search: 2, hasMoved: true });
  dialer.at(100, { kind: "search ended", search: 2, random: 0 });
  assertEquals(dialer.state.phase, "connected");
  assertEquals(dialer.at(200, { kind: "path lost", wasUsed: true, random: 0.5 }), [
    "check signaling",
  ]);
  assertEquals(dialer.state.retry.atMs, 1200);
});

Deno.test("a path that is lost again while the search goes on leaves that search alone", () => {
  const dialer = connected();
  dialer.at(0, { kind: "path lost", wasUsed: true, random: 0.5 });
  dialer.at(100, { kind: "path", isRelayed: true });
  assertEquals(dialer.at(200, { kind: "path lost", wasUsed: true, random: 0.5 }), [
    "check signaling",
  ]);
  assertEquals(dialer.state.search?.id, 2);
});

Deno.test("a rejected attempt to reconnect abandons the connection", () => {
  const dialer = connected();
  dialer.at(0, { kind: "path lost", wasUsed: true, random: 0.5 });
  assertEquals(dialer.at(9, { kind: "rejected", search: 2, error: "unknown" }), ["end search"]);
  const actions = dialer.at(9, { kind: "search ended", search: 2, random: 0 });
  assertEquals(actions, ["abandon: unknown"]);
  assertEquals(dialer.state.phase, "over");
});

Deno.test("reconnecting ends with the time for it, during a search and between two", () => {
  const searching = connected();
  searching.at(0, { kind: "path lost", wasUsed: true, random: 0.5 });
  searching.at(10, { kind: "answered", search: 2 });
  assertEquals(searching.at(120_000, { kind: "time" }), cancelled());
  const [last] = searching.at(120_001, { kind: "search ended", search: 2, random: 0 });
  assertEquals(last, "abandon: NoResponseError: no path was found in 120 s");

  const waiting = connected();
  waiting.at(0, { kind: "path lost", wasUsed: true, random: 0.5 });
  waiting.at(119_000, { kind: "failed", search: 2, error: "no path" });
  waiting.at(119_000, { kind: "search ended", search: 2, random: 0.999 });
  const actions = waiting.at(120_000, { kind: "time" });
  assertEquals(actions, ["abandon: NoResponseError: no path was found in 120 s"]);
});

Deno.test("a connection over a relay stays when the time to reconnect is up", () => {
  const dialer = connected();
  dialer.at(0, { kind: "path lost", wasUsed: true, random: 0.5 });
  dialer.at(10, { kind: "answered", search: 2 });
  dialer.at(20, { kind: "path", isRelayed: true });
  assertEquals(dialer.at(120_000, { kind: "time" }), ["end search"]);
  assertEquals(dialer.at(120_000, { kind: "search ended", search: 2, random: 0 }), []);
  assertEquals([dialer.state.phase, dialer.state.path], ["connected", "relayed"]);
});

Deno.test("a direct path is searched for less and less often while a relay carries the connection", () => {
  const dialer = connected({ isRelayed: true });
  const waits: number[] = [];
  for (let search = 2, nowMs = 0; search < 9; search++) {
    waits.push((dialer.wakeAtMs - nowMs) / 60_000);
    nowMs = dialer.wakeAtMs;
    assertEquals(dialer.at(nowMs, { kind: "time" }), [`start search ${search}: direct`]);
    dialer.at(nowMs, { kind: "failed", search, error: "no path" });
    dialer.at(nowMs, { kind: "search ended", search, random: 0 });
  }
  assertEquals(waits, [1, 2, 4, 8, 16, 16, 16]);
});

Deno.test("no direct path is searched for while there is one, or while another search goes on", () => {
  const direct = connected();
  assertEquals(direct.at(60_000, { kind: "time" }), []);
  assertEquals(direct.wakeAtMs, 120_000);
  const searching = connected({ isRelayed: true, isSearching: true });
  assertEquals(searching.at(60_000, { kind: "time" }), []);
  assertEquals(searching.wakeAtMs, 180_000);
});

Deno.test("a search for a direct path that a lost path interrupts is followed by others", () => {
  const dialer = connected({ isRelayed: true });
  dialer.at(60_000, { kind: "time" });
  dialer.at(61_000, { kind: "path lost", wasUsed: true, random: 0.5 });
  assertEquals(dialer.state.improvement.atMs, 181_000);
});

Deno.test("a connection that has ended, or whose peer is closed, ends the search and all timers", () => {
  const dialer = connected({ isSearching: true });
  assertEquals(dialer.at(100, { kind: "stop", reason: "closed" }), ["end search"]);
  assertEquals([dialer.state.phase, dialer.wakeAtMs], ["over", Infinity]);
  assertEquals(dialer.at(200, { kind: "path lost", wasUsed: true, random: 0 }), []);
});

Deno.test("a peer that is closed while it reconnects notifies the other side", () => {
  const dialer = connected();
  dialer.at(0, { kind: "path lost", wasUsed: true, random: 0.5 });
  dialer.at(10, { kind: "answered", search: 2 });
  assertEquals(dialer.at(20, { kind: "stop", reason: "closed" }), cancelled());
});

Deno.test("a path that stalls starts a search beside it, which ends once the path answers again", () => {
  const dialer = connected();
  assertEquals(dialer.at(20_000, STALLED), ["check signaling", "start search 2: any"]);
  assertEquals([dialer.state.phase, dialer.state.path], ["connected", "direct"]);
  assertEquals(dialer.at(20_100, { kind: "path resumed" }), ["end search"]);
  assertEquals(dialer.at(20_200, { kind: "search ended", search: 2, random: 0 }), []);
  assertEquals([dialer.state.phase, dialer.state.retry.atMs], ["connected", Infinity]);
});

Deno.test("the other side, which searches as well, is told that the path answers again", () => {
  const dialer = connected();
  dialer.at(20_000, STALLED);
  dialer.at(20_100, { kind: "answered", search: 2 });
  assertEquals(dialer.at(20_200, { kind: "path resumed" }), cancelled());
});

Deno.test("a path that is found beside one that has stalled ends nothing when the old one answers", () => {
  const dialer = connected();
  dialer.at(20_000, STALLED);
  dialer.at(20_100, { kind: "answered", search: 2 });
  assertEquals(dialer.at(20_200, { kind: "path", isRelayed: true }), []);
  assertEquals(dialer.at(20_300, { kind: "path resumed" }), []);
  assertEquals(dialer.at(20_400, { kind: "finished", search: 2, hasMoved: true }), ["end search"]);
});

Deno.test("a path that is lost while it stalls leaves the search beside it alone", () => {
  for (const events of [[], [{ kind: "answered", search: 2 }]] as DialerEvent[][]) {
    const dialer = connected();
    dialer.at(20_000, STALLED);
    for (const event of events) dialer.at(20_100, event);
    const lost = { kind: "path lost", wasUsed: true, random: 0.5 } as const;
    assertEquals(dialer.at(24_000, lost), ["check signaling"]);
    assertEquals([dialer.state.phase, dialer.state.search?.id], ["reconnecting", 2]);
  }
});

Deno.test("a request is repeated at once if the other side asks for it, and sooner than the first one was", () => {
  const dialer = connected();
  dialer.at(20_000, STALLED);
  assertEquals(dialer.wakeAtMs, 20_500);
  assertEquals(dialer.at(20_100, STALLED), ["send request"]);
  assertEquals(dialer.wakeAtMs, 20_350);
  dialer.at(20_350, { kind: "time" });
  assertEquals(dialer.wakeAtMs, 20_850);
  dialer.at(20_400, { kind: "answered", search: 2 });
  assertEquals(dialer.at(20_450, STALLED), []);
});

Deno.test("a search for another path takes the place of one for a direct path", () => {
  const dialer = connected({ isRelayed: true });
  dialer.at(60_000, { kind: "time" });
  assertEquals(dialer.at(61_000, STALLED), [
    "check signaling",
    "end search",
    "start search 3: any",
  ]);
});

Deno.test("a path that stays silent is searched beside again and again, after growing waits", () => {
  const dialer = connected();
  dialer.at(20_000, STALLED);
  dialer.at(21_000, { kind: "failed", search: 2, error: "no path" });
  dialer.at(21_000, { kind: "search ended", search: 2, random: 0.5 });
  assertEquals(dialer.wakeAtMs, 22_000);
  assertEquals(dialer.at(22_000, { kind: "time" }), ["start search 3: any"]);
});

Deno.test("a path that stalls each few seconds is not searched beside each time", () => {
  const dialer = connected();
  dialer.at(20_000, STALLED);
  dialer.at(20_100, { kind: "path resumed" });
  dialer.at(20_200, { kind: "search ended", search: 2, random: 0 });
  assertEquals(dialer.at(22_000, STALLED), ["check signaling"]);
  assertEquals(dialer.wakeAtMs, 23_000);
  dialer.at(22_500, { kind: "path resumed" });
  assertEquals(dialer.wakeAtMs, 60_000);
});

Deno.test("a side that is there again is asked at once, while nothing else is under way", () => {
  const dialer = connected();
  dialer.at(0, { kind: "path lost", wasUsed: true, random: 0.5 });
  dialer.at(100, { kind: "failed", search: 2, error: "no answer" });
  dialer.at(100, { kind: "search ended", search: 2, random: 0.5 });
  assertEquals(dialer.at(300, STALLED), ["start search 3: any"]);
});

Deno.test("a direct path that is slower than the relay is left for it, and tried again after twice the wait", () => {
  const dialer = connected({ isRelayed: true });
  dialer.at(60_000, { kind: "time" });
  dialer.at(60_100, { kind: "answered", search: 2 });
  dialer.at(60_200, { kind: "path", isRelayed: false });
  dialer.at(60_300, { kind: "finished", search: 2, hasMoved: true });
  dialer.at(60_400, { kind: "search ended", search: 2, random: 0 });
  assertEquals(dialer.at(70_000, { kind: "path slow", other: "relay" }), [
    "start search 3: relay",
    "send request",
  ]);
  assertEquals(
    dialer.at(70_100, { kind: "path slow", other: "relay" }),
    [],
    "a search is under way",
  );
  dialer.at(70_200, { kind: "path", isRelayed: true });
  dialer.at(70_300, { kind: "finished", search: 3, hasMoved: true });
  dialer.at(70_400, { kind: "search ended", search: 3, random: 0 });
  assertEquals(dialer.at(71_000, { kind: "path slow", other: "relay" }), [], "it is left already");
  assertEquals(dialer.wakeAtMs, 70_000 + 240_000);
  assertEquals(dialer.at(310_000, { kind: "time" }), ["start search 4: direct"]);
});

Deno.test("a search for a direct path gives way once the one that it has found is worse than another", () => {
  const dialer = connected({ isRelayed: true });
  dialer.at(60_000, { kind: "time" });
  dialer.at(60_100, { kind: "answered", search: 2 });
  dialer.at(60_200, { kind: "path", isRelayed: false });
  const actions = dialer.at(70_000, { kind: "path slow", other: "relay" });
  assertEquals(actions, ["end search", "start search 3: relay", "send request"]);
  assertEquals(dialer.at(70_100, { kind: "path slow", other: "relay" }), [], "that is under way");
  dialer.at(70_200, { kind: "finished", search: 2, hasMoved: true });
  assertEquals(dialer.state.search?.id, 3, "the end of the old one changes nothing");
});

Deno.test("a path that is worse than the one by the other transport is left for it", () => {
  const dialer = connected();
  assertEquals(dialer.at(20_000, { kind: "path slow", other: "udp" }), ["start search 2: udp"]);
  dialer.at(20_100, { kind: "path", isRelayed: false });
  dialer.at(20_200, { kind: "finished", search: 2, hasMoved: true });
  dialer.at(20_300, { kind: "search ended", search: 2, random: 0 });
  assertEquals(dialer.at(30_000, { kind: "path slow", other: "tcp" }), ["start search 3: tcp"]);
});

Deno.test("a search for the relay takes the place of those that would find a slow direct path again", () => {
  for (const wants of ["any", "udp"] as const) {
    const dialer = connected();
    dialer.at(20_000, wants === "any" ? STALLED : { kind: "path slow", other: wants });
    assertEquals(dialer.state.search?.wants, wants);
    const actions = dialer.at(20_100, { kind: "path slow", other: "relay" });
    assertEquals(actions, ["end search", "start search 3: relay", "send request"]);
  }
});

Deno.test("a path that is left for the relay may stall, and answer again: the search goes on", () => {
  const dialer = connected();
  dialer.at(20_000, { kind: "path slow", other: "relay" });
  assertEquals(dialer.at(20_100, STALLED), ["send request"]);
  assertEquals(dialer.at(20_200, { kind: "path resumed" }), []);
  dialer.at(20_300, { kind: "answered", search: 2 });
  assertEquals(dialer.at(20_400, STALLED), []);
  assertEquals(dialer.at(20_500, { kind: "path resumed" }), []);
  assertEquals(dialer.at(20_600, STALLED), []);
  dialer.at(20_700, { kind: "path", isRelayed: true });
  assertEquals(dialer.at(20_700, { kind: "finished", search: 2, hasMoved: true }), ["end search"]);
});

Deno.test("if the relay is not to be had, and the path has stalled, any other one is searched for", () => {
  const dialer = connected();
  dialer.at(20_000, { kind: "path slow", other: "relay" });
  dialer.at(20_100, STALLED);
  dialer.at(20_200, { kind: "failed", search: 2, error: "no relay" });
  assertEquals(dialer.at(20_300, { kind: "search ended", search: 2, random: 0.5 }), [
    "start search 3: any",
  ]);
});

Deno.test("a path that is lost while the relay is searched for is replaced by any other", () => {
  const dialer = connected();
  dialer.at(20_000, { kind: "path slow", other: "relay" });
  assertEquals(dialer.at(20_100, { kind: "path lost", wasUsed: true, random: 0.5 }), [
    "check signaling",
    "end search",
    "start search 3: any",
  ]);
});

Deno.test("a search that was planned for a stalled path does not disturb the one for the relay", () => {
  const dialer = connected();
  dialer.at(20_000, STALLED);
  dialer.at(20_100, { kind: "path resumed" });
  dialer.at(20_200, { kind: "search ended", search: 2, random: 0 });
  dialer.at(22_000, STALLED);
  assertEquals(dialer.state.retry.atMs, 23_000);
  dialer.at(22_500, { kind: "path slow", other: "relay" });
  assertEquals([dialer.state.retry.atMs, dialer.state.search?.wants], [Infinity, "relay"]);
});

Deno.test("no search takes the place of another without ending it", () => {
  const dialer = connected({ isRelayed: true });
  dialer.at(58_000, STALLED);
  dialer.at(58_100, { kind: "path resumed" });
  dialer.at(58_200, { kind: "search ended", search: 2, random: 0 });
  dialer.at(59_500, STALLED);
  assertEquals(dialer.at(60_000, { kind: "time" }), ["start search 3: direct"]);
  assertEquals(dialer.at(60_500, { kind: "time" }), ["end search", "start search 4: any"]);
  assertEquals(dialer.state.improvement, { atMs: 180_500, waitMs: 120_000 });
});

Deno.test("a connection that ends with its path does not search beside it", () => {
  const dialer = connected({ reconnects: false });
  assertEquals(dialer.at(20_000, STALLED), []);
});

/** Drives the engine, and shows its actions as text. */
class Dialer {
  state: DialerState;

  constructor(settings: Partial<typeof SETTINGS> = {}) {
    this.state = initialDialerState({ ...SETTINGS, ...settings });
  }

  get wakeAtMs(): number {
    return dialerWakeAtMs(this.state);
  }

  at(nowMs: number, event: DialerEvent): string[] {
    const before = structuredClone({ ...this.state, search: null });
    const { state, actions } = stepDialer(this.state, event, nowMs);
    assertEquals({ ...this.state, search: null }, before, "the state before was changed");
    this.state = state;
    return actions.map(show);
  }
}

/** A dialer whose first search has brought a path, at 0 ms. */
function connected({ isRelayed = false, isSearching = false, reconnects = true } = {}): Dialer {
  const dialer = new Dialer({ reconnects });
  dialer.at(0, { kind: "start" });
  dialer.at(0, { kind: "answered", search: 1 });
  dialer.at(0, { kind: "path", isRelayed });
  if (isSearching) return dialer;
  dialer.at(0, { kind: "finished", search: 1, hasMoved: true });
  dialer.at(0, { kind: "search ended", search: 1, random: 0 });
  return dialer;
}

function show(action: DialerAction): string {
  switch (action.kind) {
    case "start search":
      return `start search ${action.search}: ${action.wants}`;
    case "fail":
    case "abandon":
      return `${action.kind}: ${action.error}`;
    default:
      return action.kind;
  }
}

function cancelled(): string[] {
  return ["send cancellation", "end search"];
}
