import { assertEquals } from "@std/assert";
import {
  type AdmissionEvent,
  admissionWakeAtMs,
  EMPTY_ADMISSION,
  stepAdmission,
} from "../../lib/peer/admission_engine.ts";

const LIMITS = { atOnce: 4, perKey: 2, reserved: 1, graceMs: 3000, maxWaiting: 3 };

Deno.test("searches start at once while there are places", () => {
  const admission = new Admission();
  assertEquals(admission.request(0, 1, "a"), ["start 1"]);
  assertEquals(admission.request(0, 2, "b"), ["start 2"]);
});

Deno.test("a search waits until another has had its time, and takes its place", () => {
  const admission = new Admission();
  for (const [id, key] of [[1, "a"], [2, "b"], [3, "c"]] as const) admission.request(0, id, key);
  assertEquals(admission.request(1000, 4, "d"), []); // the fourth place is for those who are known
  assertEquals(admission.wakeAtMs(1000), 3000);
  assertEquals(admission.at(3000, { kind: "time" }), ["displace 1", "start 4"]);
  assertEquals(admission.wakeAtMs(3000), Infinity);
});

Deno.test("the newest of those that wait is next when a place is free", () => {
  const admission = new Admission();
  for (const [id, key] of [[1, "a"], [2, "b"], [3, "c"], [4, "d"], [5, "e"]] as const) {
    admission.request(0, id, key);
  }
  assertEquals(admission.at(10, { kind: "done", id: 2 }), ["start 5"]);
});

Deno.test("a key that has connected before has a place that others cannot take", () => {
  const admission = new Admission();
  for (let id = 1; id <= 6; id++) admission.request(0, id, `stranger ${id}`);
  assertEquals(admission.request(0, 7, "friend", true), ["start 7"]);
});

Deno.test("strangers never displace a friend", () => {
  const admission = new Admission();
  admission.request(0, 1, "friend", true);
  for (let id = 2; id <= 5; id++) admission.request(0, id, `stranger ${id}`);
  assertEquals(admission.at(3000, { kind: "time" }), ["displace 2", "start 5"]);
});

Deno.test("one key has its share, and displaces its own", () => {
  const admission = new Admission();
  admission.request(0, 1, "a");
  admission.request(0, 2, "a");
  assertEquals(admission.request(10, 3, "a"), []);
  assertEquals(admission.request(10, 4, "b"), ["start 4"]);
  assertEquals(admission.at(3000, { kind: "time" }), ["displace 1", "start 3"]);
});

Deno.test("a search that the other side has given up leaves its place to the next, and not before", () => {
  const admission = new Admission();
  admission.request(0, 1, "a");
  admission.request(0, 2, "a");
  assertEquals(admission.at(10, { kind: "cancelled", id: 2 }), []);
  assertEquals(admission.wakeAtMs(10), Infinity);
  assertEquals(admission.request(20, 3, "a"), ["displace 2", "start 3"]);
  assertEquals(admission.request(30, 4, "a"), []);
  assertEquals(admission.at(40, { kind: "cancelled", id: 1 }), ["displace 1", "start 4"]);
});

Deno.test("if too many wait, the oldest of the key with most is told", () => {
  const admission = new Admission();
  for (const [id, key] of [[1, "a"], [2, "b"], [3, "c"]] as const) admission.request(0, id, key);
  for (const [id, key] of [[4, "d"], [5, "many"], [6, "many"]] as const) {
    assertEquals(admission.request(0, id, key), []);
  }
  assertEquals(admission.request(0, 7, "e"), ["displace 5"]);
});

Deno.test("a search that is done before it starts leaves the queue", () => {
  const admission = new Admission();
  for (let id = 1; id <= 4; id++) admission.request(0, id, `${id}`);
  assertEquals(admission.at(1, { kind: "done", id: 4 }), []);
  assertEquals(admission.at(1, { kind: "done", id: 1 }), []);
  assertEquals(admission.wakeAtMs(1), Infinity);
});

/** Drives the engine, and shows its actions as text. */
class Admission {
  #state = EMPTY_ADMISSION;

  request(nowMs: number, id: number, key: string, isKnown = false): string[] {
    return this.at(nowMs, { kind: "requested", id, key, isKnown });
  }

  at(nowMs: number, event: AdmissionEvent): string[] {
    const { state, actions } = stepAdmission(this.#state, event, nowMs, LIMITS);
    this.#state = state;
    return actions.map(({ kind, id }) => `${kind} ${id}`);
  }

  wakeAtMs(nowMs: number): number {
    return admissionWakeAtMs(this.#state, nowMs, LIMITS);
  }
}
