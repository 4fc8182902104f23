/**
 * The search for the path MTU, as a table: paths that carry so much, and the sizes that are tried.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import {
  BASE_BYTES,
  initialPathMtuState,
  MAX_BYTES,
  type PathMtuAction,
  type PathMtuState,
  stepPathMtu,
} from "../../lib/udp/path_mtu_engine.ts";

const ROWS: readonly [string, number, readonly number[], number][] = [
  ["takes the largest size at once", 1500, [1452], 1452],
  [
    "halves what is left on a smaller path",
    1400,
    [1452, 1452, 1452, 1326, 1389, 1420, 1420, 1420],
    1389,
  ],
  [
    "stays at the base size",
    1200,
    [1452, 1326, 1263, 1231, 1215].flatMap((size) => [size, size, size]).slice(0, 12),
    1200,
  ],
];

for (const [name, carries, tried, found] of ROWS) {
  Deno.test(`stepPathMtu() ${name}`, () => {
    const { state, probes } = search(initialPathMtuState(MAX_BYTES), carries, 0);
    assertEquals(probes, tried);
    assertEquals(state.bytes, found);
    assertEquals(state.searchMs, 600_000);
  });
}

Deno.test("stepPathMtu() looks again after ten minutes", () => {
  const { state } = search(initialPathMtuState(MAX_BYTES), 1400, 0);
  assertEquals(search(state, 1500, 600_000).state.bytes, 1452);
});

Deno.test("stepPathMtu() falls back if large datagrams stop arriving for a second", () => {
  let { state } = search(initialPathMtuState(MAX_BYTES), 1500, 0);
  for (let ms = 0; ms < 1000; ms += 100) {
    const step = stepPathMtu(state, { kind: "lost", bytes: 1452 }, ms);
    assertEquals(step.actions, []);
    state = step.state;
  }
  const step = stepPathMtu(state, { kind: "lost", bytes: 1452 }, 1000);
  assertEquals(step.actions, [{ kind: "resize", bytes: BASE_BYTES }]);
  assertEquals(step.state.searchMs, 61_000);
});

Deno.test("stepPathMtu() does not fall back if some large datagrams arrive", () => {
  let { state } = search(initialPathMtuState(MAX_BYTES), 1500, 0);
  for (let ms = 0; ms < 5000; ms += 100) {
    const kind = ms % 500 === 0 ? "arrived" : "lost";
    const step = stepPathMtu(state, { kind, bytes: 1452 }, ms);
    assertEquals(step.actions, []);
    state = step.state;
  }
});

function search(
  before: PathMtuState,
  carries: number,
  nowMs: number,
): { state: PathMtuState; probes: number[] } {
  const probes: number[] = [];
  let { state, actions } = stepPathMtu(before, { kind: "timer" }, nowMs);
  const probeIn = (list: readonly PathMtuAction[]) => list.find(({ kind }) => kind === "probe");
  for (let probe; (probe = probeIn(actions)) !== undefined;) {
    probes.push(probe.bytes);
    const kind = probe.bytes <= carries ? "probe-arrived" : "probe-lost";
    ({ state, actions } = stepPathMtu(state, { kind, bytes: probe.bytes }, nowMs));
  }
  return { state, probes };
}
