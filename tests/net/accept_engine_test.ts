import { assertEquals } from "@std/assert";
import {
  type AcceptEvent,
  type AcceptState,
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

const wait = (ms: number) => ({ kind: "wait", ms });

Deno.test("a quiet listener renews its handle twice a second, and says nothing", () => {
  assertEquals(actionsAfter({ kind: "time" }), [{ kind: "renew" }]);
  assertEquals(actionsAfter({ kind: "time" }, RENEWED), [wait(500)]);
  assertEquals(INITIAL_ACCEPT_STATE.waitMs, 500);
});

Deno.test("a listener that has accepted a connection renews its handle soon, then less and less often", () => {
  const events = [ACCEPTED, ...Array(7).fill(RENEWED)];
  const waits = events.map((_, i) => actionsAfter(...events.slice(0, i + 1))).flat();
  assertEquals(waits, [25, 50, 100, 200, 400, 500, 500].map(wait));
  assertEquals(actionsAfter(...events.slice(0, 4), ACCEPTED, ACCEPTED, RENEWED), [wait(25)]);
});

Deno.test("a shortage is reported once when it begins and once when it ends", () => {
  assertEquals(actionsAfter(OUT), [{ kind: "report", shortage: "begins" }, wait(25)]);
  assertEquals(actionsAfter(OUT, OUT), [wait(25)]);
  assertEquals(actionsAfter(OUT, OUT, RENEWED), [{ kind: "report", shortage: "ends" }, wait(25)]);
  assertEquals(actionsAfter(OUT, RENEWED, RENEWED), [wait(50)]);
});
