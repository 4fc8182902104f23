import { assertEquals } from "@std/assert";
import {
  type AcceptEvent,
  type AcceptState,
  IDLE_MS,
  INITIAL_ACCEPT_STATE,
  stepAccept,
} from "../../lib/net/system/accept_engine.ts";

/** The actions of the last event. */
function actionsAfter(...events: AcceptEvent[]): unknown[] {
  let state: AcceptState = INITIAL_ACCEPT_STATE;
  let last: unknown[] = [];
  for (const event of events) {
    const next = stepAccept(state, event);
    state = next.state;
    last = [...next.actions];
  }
  return last;
}

const ACCEPTED: AcceptEvent = { kind: "accepted" };
const OUT: AcceptEvent = { kind: "out-of-descriptors" };
const RENEWED: AcceptEvent = { kind: "renewed" };

Deno.test("a quiet listener renews its handle now and then, and says nothing", () => {
  assertEquals(actionsAfter({ kind: "time" }), [{ kind: "renew" }]);
  assertEquals(actionsAfter({ kind: "time" }, RENEWED), [{ kind: "wait", ms: IDLE_MS }]);
});

Deno.test("a listener that was busy renews its handle soon: it may have run out of descriptors", () => {
  assertEquals(actionsAfter(...Array(16).fill(ACCEPTED), RENEWED), [{ kind: "wait", ms: 100 }]);
  assertEquals(actionsAfter(...Array(15).fill(ACCEPTED), RENEWED), [{ kind: "wait", ms: IDLE_MS }]);
});

Deno.test("a shortage is reported once when it begins and once when it ends", () => {
  assertEquals(actionsAfter(OUT), [
    { kind: "report", shortage: "begins" },
    { kind: "wait", ms: 100 },
  ]);
  assertEquals(actionsAfter(OUT, OUT), [{ kind: "wait", ms: 100 }]);
  assertEquals(actionsAfter(OUT, OUT, RENEWED), [
    { kind: "report", shortage: "ends" },
    { kind: "wait", ms: 100 },
  ]);
  assertEquals(actionsAfter(OUT, RENEWED, RENEWED), [{ kind: "wait", ms: IDLE_MS }]);
});
