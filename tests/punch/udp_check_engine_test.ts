import { assert, assertEquals } from "@std/assert";
import type { TransportAddress } from "../../lib/net/address.ts";
import type { CheckListEntry, PunchPlan } from "../../lib/punch/plan_types.ts";
import {
  initialUdpChecksState,
  stepUdpChecks,
  udpChecksWakeAtMs,
} from "../../lib/punch/udp_check_engine.ts";
import {
  NOMINATION,
  type UdpChecksAction,
  type UdpChecksEvent,
  type UdpChecksOptions,
  type UdpChecksState,
} from "../../lib/punch/udp_check_types.ts";

const PEER = at(4000);
const CARRIED: Partial<UdpChecksOptions> = { role: "controlled", carryingMs: 240_000 };
const RIVAL: Partial<UdpChecksOptions> = { hasRival: true };

Deno.test("a target is probed eight times in five seconds, ever more slowly, and then no more", () => {
  const machine = start([entry({})]);
  assertEquals(machine.at(0, { kind: "started" }), ["probe 0.0"]);
  const times = [machine.wakeAtMs()];
  while (times.length < 20 && machine.wakeAtMs() < 12_000) {
    assertEquals(machine.at(times.at(-1)!, TIME).length <= 1, true);
    times.push(machine.wakeAtMs());
  }
  assertEquals(times.slice(0, 7), [40, 120, 280, 600, 1240, 2520, 5080]);
  assertEquals(machine.state.checks[0]!.sentMs.length, 8);
  machine.at(12_000, TIME);
  assertEquals(machine.state.phase, "over");
});

Deno.test("while an answer is carried, a target is probed twice, then each 35 s until the time is over", () => {
  const machine = start([entry({ timeoutMs: 240_000 })], CARRIED);
  assertEquals(machine.at(0, { kind: "started" }), ["probe 0.0"]);
  const times: number[] = [];
  for (let atMs = machine.wakeAtMs(); atMs < 240_000; atMs = machine.wakeAtMs()) {
    times.push(...machine.at(atMs, TIME).map(() => atMs));
  }
  assertEquals(times, [40, ...Array.from({ length: 6 }, (_, index) => 40 + (index + 1) * 35_000)]);
  assertEquals(machine.state.checks[0]!.sentMs.length, 8); // as many as one port may get
  machine.at(240_000, TIME);
  assertEquals(machine.state.phase, "over");
});

Deno.test("a peer that starts minutes later is answered, and probed at once", () => {
  const machine = start([entry({ timeoutMs: 240_000 })], CARRIED);
  for (const nowMs of [0, 40]) machine.at(nowMs, nowMs === 0 ? { kind: "started" } : TIME);
  assertEquals(machine.at(20_000, probe(0)), ["answer", "probe 0.2 triggered"]);
  assertEquals(machine.at(20_080, answer(0, 2)), []);
  assertEquals(machine.at(20_090, nominate(1, 0)), ["acknowledge", "found", "confirmed"]);
});

Deno.test("a side that has nothing to probe waits while its answer is carried", () => {
  const machine = start([], CARRIED);
  machine.at(0, { kind: "started" });
  assertEquals(machine.wakeAtMs(), 240_000);
  assertEquals(machine.at(200_000, probe(0)), ["answer", "probe 0.0 triggered"]);
});

Deno.test("the controlling side nominates the pair that answers, once, and repeats that until it is answered", () => {
  const machine = start([entry({})]);
  machine.at(0, { kind: "started" });
  assertEquals(machine.at(80, answer(0, 0)), ["nominate", "found"]);
  assertEquals(machine.state.nomination?.rttMs, 80);
  assertEquals(machine.wakeAtMs(), 120);
  assertEquals(machine.at(120, TIME), ["nominate"]);
  assertEquals(machine.wakeAtMs(), 200);
  assertEquals(machine.at(200, TIME), ["nominate"]);
  assertEquals(machine.at(210, answer(NOMINATION, 0)), ["confirmed late"]);
  assertEquals(machine.state.phase, "over");
});

Deno.test("a nomination that is answered after a round trip was not lost", () => {
  const machine = start([entry({})]);
  machine.at(0, { kind: "started" });
  machine.at(80, answer(0, 0));
  assertEquals(machine.at(120, TIME), ["nominate"]);
  assertEquals(machine.at(165, answer(NOMINATION, 0)), ["confirmed"]);
});

Deno.test("on a long path, a nomination is repeated ever more slowly, from a quarter of a round trip", () => {
  const machine = start([entry({})]);
  machine.at(0, { kind: "started" });
  machine.at(400, answer(0, 0));
  const times: number[] = [];
  for (let atMs = machine.wakeAtMs(); times.length < 4; atMs = machine.wakeAtMs()) {
    assertEquals(machine.at(atMs, TIME), ["nominate"]);
    times.push(atMs - 400);
  }
  assertEquals(times, [100, 300, 700, 1500]);
});

Deno.test("a nomination that is never answered is taken back, and another pair is nominated", () => {
  const machine = start([entry({ targets: [at(1), at(2)] })]);
  machine.at(0, { kind: "started" });
  machine.at(10, answer(0, 0, at(1)));
  const seen: string[] = [];
  for (let nowMs = 10; machine.state.nominations === 1; nowMs = machine.wakeAtMs()) {
    seen.push(...machine.at(nowMs, TIME));
    if (nowMs > 60_000) throw new Error("it goes on forever");
    if (seen.includes("lost")) machine.at(nowMs, answer(1, 0, at(2)));
  }
  assertEquals(seen, [...Array(6).fill("nominate"), "lost"]);
  assertEquals(machine.state.nomination?.remote, at(2));
});

Deno.test("an answer counts only from the address that was probed, on that socket, to a probe that was sent", () => {
  for (
    const event of [
      answer(0, 0, at(4001)),
      { ...answer(0, 0), socket: 1 },
      answer(0, 1),
      answer(1, 0),
      answer(NOMINATION, 0),
    ] as const
  ) {
    const machine = start([entry({})]);
    machine.at(0, { kind: "started" });
    assertEquals(machine.at(10, event), []);
    assertEquals(machine.state.valid, []);
  }
});

Deno.test("a probe is answered once, and its source is probed, too", () => {
  const machine = start([entry({})], { role: "controlled" });
  machine.at(0, { kind: "started" });
  assertEquals(machine.at(30, probe(7, at(5000))), ["answer", "probe 1.0 triggered"]);
  assertEquals(machine.at(31, probe(7, at(5000))), []);
  assertEquals(machine.at(32, probe(7, at(6000))), ["answer", "probe 2.0 triggered"], "a copy");
  assertEquals(machine.at(33, probe(8, at(5000))), ["answer"], "its probe is on its way");
});

Deno.test("copies of captured probes are answered a few times in all, except where the peer was expected", () => {
  const machine = start([entry({})]);
  machine.at(0, { kind: "started" });
  assertEquals(machine.at(10, probe(7, at(6000)))[0], "answer", "a copy that came first");
  assertEquals(machine.at(11, probe(7, at(6001)))[0], "answer", "another one");
  for (let port = 6002; port < 6017; port++) machine.at(12, probe(7, at(port)));
  for (let port = 6017; port < 6100; port++) {
    assertEquals(machine.at(12, probe(7, at(port))), [], "too many");
  }
  assertEquals(machine.at(13, probe(7))[0], "answer", "the original");
  assertEquals(machine.at(14, probe(8, at(6002)))[0], "answer", "the next probe");
});

Deno.test("a probe from an address that may not be probed changes nothing", () => {
  const machine = start([entry({})], { role: "controlled" });
  machine.at(0, { kind: "started" });
  const before = machine.state;
  assertEquals(machine.at(30, { ...probe(7, at(5000)), isAllowed: false }), []);
  assertEquals(machine.state.checks, before.checks);
});

Deno.test("a side that is late is answered and probed, although the probes to it are used up", () => {
  const machine = start([entry({})]);
  machine.at(0, { kind: "started" });
  for (let nowMs = 0; nowMs < 10_000; nowMs += 10) machine.at(nowMs, TIME);
  assertEquals(machine.at(10_000, probe(1)), ["answer", "probe 0.8 triggered"]);
  assertEquals(machine.at(10_080, answer(0, 8)), ["nominate", "found"]);
});

Deno.test("the controlled side takes a pair that it knows to be valid, and answers repeated nominations from it alone", () => {
  const machine = start([entry({ targets: [PEER, at(4001)] })], { role: "controlled" });
  machine.at(0, { kind: "started" });
  machine.at(20, answer(0, 0));
  machine.at(21, answer(1, 0, at(4001)));
  assertEquals(machine.at(22, nominate(9, 0)), ["acknowledge", "found", "confirmed"]);
  assertEquals(machine.state.nomination?.rttMs, 20);
  assertEquals(machine.at(23, nominate(9, 0)), [], "a replay");
  assertEquals(machine.at(24, nominate(10, 0)), ["acknowledge"], "its answer was lost");
  assertEquals(machine.at(25, nominate(11, 0, at(4001))), [], "from elsewhere");
  assertEquals(machine.at(26, nominate(12, 1, at(4001))), ["acknowledge", "found", "confirmed"]);
  assertEquals(machine.at(27, nominate(13, 0)), [], "an earlier one");
  assertEquals(machine.at(28, nominate(14, 99)), [], "more than a peer needs");
});

Deno.test("the controlled side goes on probing a pair that works until there is a nomination, or its probes are used up", () => {
  const nominated = start([entry({})], { role: "controlled" });
  nominated.at(0, { kind: "started" });
  assertEquals(nominated.at(30, answer(0, 0)), []);
  assertEquals(nominated.at(40, TIME), ["probe 0.1"]);
  assertEquals(nominated.wakeAtMs(), 120);
  assertEquals(nominated.at(100, nominate(1, 0)), ["acknowledge", "found", "confirmed"]);
  assertEquals(nominated.at(120, TIME), []);
  const waiting = start([entry({})], { role: "controlled" });
  waiting.at(0, { kind: "started" });
  waiting.at(30, answer(0, 0));
  while (waiting.wakeAtMs() < 12_000) waiting.at(waiting.wakeAtMs(), TIME);
  assertEquals(waiting.state.checks.map(({ phase, sentMs }) => [phase, sentMs.length]), [[
    "valid",
    8,
  ]]);
  assertEquals(waiting.at(11_000, nominate(1, 0)), ["acknowledge", "found", "confirmed"]);
});

Deno.test("the controlled side answers a nomination for as long as it is repeated", () => {
  const machine = start([entry({})], { role: "controlled" });
  machine.at(0, { kind: "started" });
  machine.at(80, answer(0, 0));
  machine.at(120, nominate(1, 0));
  for (const [index, afterMs] of [40, 120, 280, 600, 1240, 2520].entries()) {
    assertEquals(machine.at(120 + afterMs, nominate(2 + index, 0)), ["acknowledge"]);
  }
  machine.at(machine.wakeAtMs(), TIME);
  assertEquals(machine.state.phase, "over");
});

Deno.test("a nomination waits until the controlled side knows that the pair is valid", () => {
  const machine = start([entry({})], { role: "controlled" });
  machine.at(0, { kind: "started" });
  const copy = nominate(9, 0, at(6666));
  assertEquals(machine.at(20, copy), ["probe 1.0 triggered"], "a copy that came first");
  assertEquals(machine.at(21, nominate(9, 0)), ["probe 0.1 triggered"]);
  assertEquals(machine.at(22, answer(0, 0)), ["acknowledge", "found", "confirmed"]);
  assertEquals(machine.state.nomination?.remote, PEER);
});

Deno.test("the controlling side takes no nomination", () => {
  const machine = start([entry({})]);
  machine.at(0, { kind: "started" });
  assertEquals(machine.at(30, nominate(9, 0)), []);
});

for (
  const [what, target, connectsAtMs, expectedMs] of [
    ["nothing connects", at(4000), undefined, 100 + 10 + 100 / 8],
    ["it connects first", at(4000), 90, 90 + 100 + 50],
    ["it connects meanwhile", at(4000), 105, 105 + 100 + 50],
    ["nothing connects in a LAN", { ip: "192.168.1.2", port: 4000 }, undefined, 100 + 150],
  ] as const
) {
  Deno.test(`a punch by TCP that is likely to succeed gets its chance: ${what}`, () => {
    const machine = start([entry({ targets: [target] })], RIVAL);
    machine.at(0, { kind: "started" });
    if (connectsAtMs === 90) machine.at(90, { kind: "rival" });
    machine.at(100, answer(0, 0, target));
    if (connectsAtMs === 105) machine.at(105, { kind: "rival" });
    let atMs = machine.wakeAtMs();
    for (let left = 9; left > 0 && machine.at(atMs, TIME).length === 0; left--) {
      atMs = machine.wakeAtMs();
    }
    assertEquals([machine.state.phase, atMs], ["nominated", expectedMs]);
  });
}

Deno.test("only the first connection over TCP holds the nomination up: anyone may dial the punch port", () => {
  const machine = start([entry({})], RIVAL);
  machine.at(0, { kind: "started" });
  machine.at(80, answer(0, 0));
  for (let nowMs = 85; nowMs < 215; nowMs += 10) {
    assertEquals(machine.at(nowMs, { kind: "rival" }), []);
    assertEquals(machine.wakeAtMs(), 215);
  }
  assertEquals(machine.at(215, { kind: "rival" }), ["nominate", "found"]);
});

Deno.test("without such a punch by TCP, the first pair is nominated at once", () => {
  const machine = start([entry({ targets: [{ ip: "192.168.1.2", port: 4000 }] })]);
  machine.at(0, { kind: "started" });
  assertEquals(machine.at(2, answer(0, 0, { ip: "192.168.1.2", port: 4000 })), [
    "nominate",
    "found",
  ]);
});

Deno.test("of several pairs, a near one is nominated, then the one with the shortest round trip", () => {
  const near = { ip: "192.168.1.2", port: 4000 };
  const machine = start([entry({ targets: [at(1), at(2), near] })], RIVAL);
  machine.at(0, { kind: "started" });
  machine.at(1, { kind: "rival" });
  machine.at(50, answer(0, 0, at(1)));
  machine.at(51, answer(2, 0, near));
  for (let nowMs = 51; machine.state.nomination === null; nowMs++) machine.at(nowMs, TIME);
  assertEquals(machine.state.nomination.remote, near);
});

Deno.test("a spray keeps to its spacing, and waits as soon as the peer is heard", () => {
  const targets = Array.from({ length: 1044 }, (_, index) => at(1024 + index));
  const machine = start([entry({ targets, spacingMs: 0.25, maxTries: 1, timeoutMs: 3000 })]);
  let sent = machine.at(0, { kind: "started" }).length;
  for (let nowMs = 1; nowMs <= 50; nowMs++) sent += machine.at(nowMs, TIME).length;
  assert(sent >= 200 && sent <= 205, `${sent} probes in 50 ms`);
  const actions = machine.at(51, probe(1, at(1030)));
  assertEquals(actions, ["answer", "probe 6.1 triggered"]);
  assert(machine.at(60, TIME).length === 0);
});

Deno.test("no search sends more than 1300 datagrams, whatever the peer sends", () => {
  const targets = Array.from({ length: 1044 }, (_, index) => at(1024 + index));
  const machine = start([
    entry({ targets, maxTries: 1 }),
    entry({ targets: [PEER], from: "fresh", perTarget: 256, maxTries: 1 }),
  ], { role: "controlled" });
  let sent = machine.at(0, { kind: "started" }).length;
  for (let nowMs = 1; nowMs < 3000; nowMs++) {
    sent += machine.at(nowMs, probe(nowMs, at(10_000 + nowMs))).length;
  }
  assertEquals(sent, 1300);
});

Deno.test("a side that has nothing to probe answers the other side's probes", () => {
  const machine = start([], { role: "controlled" });
  assertEquals(machine.at(0, { kind: "started" }), []);
  assertEquals(machine.wakeAtMs(), 12_000);
  assertEquals(machine.at(5000, probe(1)), ["answer", "probe 0.0 triggered"]);
});

Deno.test("a check whose socket cannot be opened ends", () => {
  const machine = start([entry({})]);
  machine.at(0, { kind: "started" });
  machine.at(0, { kind: "refused", check: 0 });
  assertEquals(machine.at(1000, TIME), []);
});

Deno.test("nothing happens after the end", () => {
  const machine = start([entry({})]);
  machine.at(0, { kind: "started" });
  machine.at(10, { kind: "stopped" });
  assertEquals(machine.at(20, probe(1)), []);
  assertEquals(machine.at(20, answer(0, 0)), []);
  assertEquals(machine.wakeAtMs(), Infinity);
});

const TIME: UdpChecksEvent = { kind: "time" };

function at(port: number): TransportAddress {
  return { ip: "192.0.2.1", port };
}

function entry(changes: Partial<CheckListEntry>): CheckListEntry {
  return {
    from: "punch",
    targets: [PEER],
    perTarget: 1,
    startMs: 0,
    spacingMs: 0,
    maxTries: 200,
    timeoutMs: 12_000,
    ...changes,
  };
}

function answer(check: number, index: number, from = PEER): UdpChecksEvent {
  return { kind: "answer", socket: 0, from, value: { check, index } };
}

function probe(counter: number, from = PEER) {
  return { kind: "probe", socket: 0, from, counter, isAllowed: true } as const;
}

function nominate(counter: number, index: number, from = PEER): UdpChecksEvent {
  return { kind: "nominate", socket: 0, from, counter, isAllowed: true, index };
}

function start(dials: readonly CheckListEntry[], changes: Partial<UdpChecksOptions> = {}) {
  const plan: PunchPlan = {
    method: "simultaneous-open",
    reachable: [],
    dials,
    listens: true,
    birthdaySyns: 0,
    successEstimate: 1,
    roundTripsEstimate: 1,
    reason: "",
  };
  const options: UdpChecksOptions = { role: "controlling", hasRival: false, ...changes };
  let state: UdpChecksState = initialUdpChecksState(plan, options);
  return {
    get state() {
      return state;
    },
    wakeAtMs: () => udpChecksWakeAtMs(state),
    at(nowMs: number, event: UdpChecksEvent): string[] {
      const step = stepUdpChecks(state, event, nowMs);
      state = step.state;
      return step.actions.map(text);
    },
  };
}

function text(action: UdpChecksAction): string {
  if (action.kind === "confirmed" && action.isLate) return "confirmed late";
  if (action.kind !== "probe") return action.kind;
  return `probe ${action.check}.${action.index}${action.isTriggered ? " triggered" : ""}`;
}
