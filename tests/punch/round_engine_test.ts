import { assertEquals } from "@std/assert";
import type { PunchOffer } from "../../lib/punch/offer.ts";
import {
  type AttemptOutcome,
  initialRoundState,
  type RoundEvent,
  stepRound,
} from "../../lib/punch/round_engine.ts";
import { punchSide } from "./fixtures.ts";

for (const outcome of ["connected", "failed"] as const) {
  Deno.test(`a round whose attempt has ${outcome} is over`, () => {
    const round = start();
    assertEquals(round.at(0, offer("1")), "attempt 1; attempting");
    assertEquals(round.at(50, attempted(outcome)), `abandon; over: ${outcome}`);
  });
}

Deno.test("a replaced offer abandons the attempt, and the next one starts once it has ended", () => {
  const round = start();
  round.at(0, offer("1"));
  assertEquals(round.at(10, offer("2")), "abandon; attempting");
  assertEquals(round.at(11, offer("3")), "abandon; attempting");
  assertEquals(round.at(12, attempted("abandoned")), "attempt 3; attempting");
});

Deno.test("an attempt that connects in spite of a replaced offer ends the round", () => {
  const round = start();
  round.at(0, offer("1"));
  round.at(10, offer("2"));
  assertEquals(round.at(11, attempted("connected")), "abandon; over: connected");
});

Deno.test("no attempt starts once the SYNs are used up", () => {
  const round = start(100);
  round.at(0, offer("1"));
  round.at(10, offer("2"));
  assertEquals(round.at(11, attempted("abandoned", 99)), "attempt 2; attempting");
  round.at(20, offer("3"));
  assertEquals(round.at(21, attempted("abandoned", 100)), "abandon; over: exhausted");
});

Deno.test("an impossible attempt waits until the peer has the offer, for five repetitions of its own at most", () => {
  for (const isConfirmed of [true, false]) {
    const round = start();
    round.at(0, offer("1"));
    assertEquals(round.at(1, attempted("impossible")), "lingering");
    assertEquals(round.at(2, offer("2")), "lingering");
    assertEquals(round.at(6500, { kind: "time" }), "lingering");
    const event: RoundEvent = isConfirmed ? { kind: "confirmed" } : { kind: "time" };
    assertEquals(round.at(6501, event), "abandon; over: impossible");
  }
});

Deno.test("an impossible attempt ends the round at once if the peer has the offer already", () => {
  const round = start();
  assertEquals(round.at(0, { kind: "confirmed" }), "waiting");
  assertEquals(round.at(0, offer("1")), "attempt 1, confirm; attempting");
  assertEquals(round.at(1, attempted("impossible")), "abandon; over: impossible");
});

Deno.test("an attempt learns that the peer has the offer, and so do those that follow it", () => {
  const round = start();
  round.at(0, offer("1"));
  assertEquals(round.at(5, { kind: "confirmed" }), "confirm; attempting");
  round.at(10, offer("2"));
  assertEquals(round.at(11, attempted("abandoned")), "attempt 2, confirm; attempting");
});

for (
  const [event, end] of [
    [{ kind: "aborted" }, "aborted"],
    [{ kind: "superseded", round: 2 }, "superseded"],
  ] as readonly [RoundEvent, string][]
) {
  Deno.test(`a round that is ${end} is over, whatever it was doing`, () => {
    const waiting = start();
    assertEquals(waiting.at(0, event), `abandon; over: ${end}`);
    const attempting = start();
    attempting.at(0, offer("1"));
    assertEquals(attempting.at(1, event), `abandon; over: ${end}`);
    assertEquals(attempting.at(2, attempted("connected")), `over: ${end}`);
    assertEquals(attempting.at(3, offer("2")), `over: ${end}`);
    const lingering = start();
    lingering.at(0, offer("1"));
    lingering.at(1, attempted("impossible"));
    assertEquals(lingering.at(2, event), `abandon; over: ${end}`);
  });
}

interface Machine {
  /** Hands over an event; the actions and the phase in words. */
  at(nowMs: number, event: RoundEvent): string;
}

function start(maxSyns = 5200): Machine {
  let state = initialRoundState(maxSyns);
  return {
    at: (nowMs, event) => {
      const step = stepRound(state, event, nowMs);
      state = step.state;
      const actions = step.actions.map((action) =>
        action.kind === "attempt" ? `attempt ${action.offer.key}` : action.kind
      );
      const { phase } = state;
      const where = phase.kind === "over" ? `over: ${phase.end.kind}` : phase.kind;
      return [...actions.length > 0 ? [actions.join(", ")] : [], where].join("; ");
    },
  };
}

function offer(key: string): RoundEvent {
  const offer: PunchOffer = {
    role: "controlled",
    key,
    answers: null,
    isWaiting: true,
    round: 1,
    sampleAgeMs: 0,
    side: punchSide("192.0.2.1"),
  };
  return { kind: "offer", offer };
}

function attempted(outcome: AttemptOutcome, syns = 0): RoundEvent {
  return { kind: "attempted", outcome, syns };
}
