/**
 * Congestion control on links that are modelled in shared_link.ts. The kernel lab measures the same beside real kernels:
 * `deno task lab streams`.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import {
  type CongestionState,
  initialCongestionState,
  stepCongestion,
} from "../../lib/udp/congestion_engine.ts";
import type { RateSample } from "../../lib/udp/loss_recovery_engine.ts";
import { runSharedLink } from "./shared_link.ts";

for (const bufferBdp of [0.5, 1, 4]) {
  Deno.test(`a stream fills 90 % of a line with a buffer of ${bufferBdp} BDP, and loses at most 2 %`, () => {
    const { megabytesPerSecond, lostShare } = runSharedLink({ ...LINE, bufferBdp });
    assert(megabytesPerSecond > 0.9 * 2.5 * GOODPUT, `${megabytesPerSecond} MB/s`);
    assert(lostShare < 0.02, `${lostShare} lost`);
  });

  Deno.test(`a stream leaves CUBIC half of a line with a buffer of ${bufferBdp} BDP, and gets 8 %`, () => {
    const { share } = runSharedLink({ ...LINE, bufferBdp, hasCubic: true });
    assert(share > 0.08 && share < 0.5, `${share}`);
  });
}

Deno.test("a stream keeps 90 % of its rate at random losses of 1 %", () => {
  const line = { ...LINE, bytesPerMs: 15_000, bufferBdp: 2 };
  const { megabytesPerSecond } = runSharedLink({ ...line, loss: 0.01 });
  assert(
    megabytesPerSecond > 0.9 * runSharedLink(line).megabytesPerSecond,
    `${megabytesPerSecond}`,
  );
});

Deno.test("a stream drains the queue that it has built in startup", () => {
  const queues: number[] = [];
  const observe = (_: number, __: CongestionState, queue: number) => queues.push(queue);
  runSharedLink({ ...LINE, bufferBdp: 4, durationMs: 2000, observe });
  const pipe = 2500 * 54;
  assert(Math.max(...queues) > pipe / 2, "startup has built none");
  assert(Math.min(...queues.slice(8)) < pipe / 4, `${queues}`);
});

Deno.test("phases follow each other as documented", () => {
  const phases: string[] = [];
  const observe = (_: number, { phase }: CongestionState) => {
    if (phases.at(-1) !== phase) phases.push(phase);
  };
  runSharedLink({ ...LINE, bufferBdp: 2, durationMs: 12_000, observe });
  const next: Readonly<Record<string, readonly string[]>> = {
    startup: ["drain", "down", "cruise"],
    drain: ["down", "cruise"],
    down: ["cruise", "refill", "up", "probe-rtt"],
    cruise: ["refill", "up", "probe-rtt", "down"],
    refill: ["up", "down", "cruise", "probe-rtt"],
    up: ["down", "cruise", "probe-rtt", "refill"],
    "probe-rtt": ["down", "cruise"],
  };
  for (const [i, phase] of phases.slice(1).entries()) {
    assert(next[phases[i]!]!.includes(phase), `${phases[i]} to ${phase}`);
  }
});

Deno.test("a stream beside a flow that keeps the queue full looks for the shortest round trip every 5 s", () => {
  const phases: string[] = [];
  const observe = (_: number, { phase }: CongestionState) => phases.push(phase);
  runSharedLink({ ...LINE, bufferBdp: 4, hasCubic: true, observe });
  const isProbe = (phase: string, i: number) => phase === "probe-rtt" && phases[i - 1] !== phase;
  const probes = phases.filter(isProbe).length;
  assert(probes >= 2 && probes <= 4, `${probes} in 20 s`);
});

Deno.test("losses that were none do not slow the stream down", () => {
  let state = initialCongestionState({ segmentBytes: 1000, rttMs: 50, seed: 1 });
  const sample = (change: Partial<RateSample>) => {
    state = stepCongestion(state, { kind: "sample", sample: { ...SAMPLE, ...change } }, 1000).state;
  };
  sample({});
  const before = state.inFlightHigh;
  sample({ lostBytes: 50_000, lostSince: 50_000, priorInFlight: 100_000, priorDelivered: 100_000 });
  assert(state.inFlightHigh < Infinity);
  state = stepCongestion(state, { kind: "spurious" }, 1000).state;
  assertEquals(state.inFlightHigh, before);
});

Deno.test("the window is never less than 4 packets, and always a whole number", () => {
  let state = initialCongestionState({ segmentBytes: 1000, rttMs: 50, seed: 1 });
  for (let ms = 1; ms < 5000; ms++) {
    const sample = {
      ...SAMPLE,
      delivered: ms * 7,
      priorDelivered: ms * 7 - 7,
      rate: 1 / 3,
      ackedBytes: 7,
    };
    const lossy = { ...sample, lostBytes: 9000, lostSince: 90_000, priorInFlight: 4000 };
    state =
      stepCongestion(state, { kind: "sample", sample: ms % 3 === 0 ? lossy : sample }, ms).state;
    assert(
      state.windowBytes >= 4000 && Number.isInteger(state.windowBytes),
      `${state.windowBytes}`,
    );
    assert(state.pacingRate > 0, `${state.pacingRate}`);
  }
});

const LINE = { bytesPerMs: 2500, rttMs: 54, bufferBdp: 1, durationMs: 20_000 };

/** What the headers of UDP and IP leave. */
const GOODPUT = 1452 / 1480;

const SAMPLE: RateSample = {
  delivered: 200_000,
  priorDelivered: 150_000,
  rate: 1000,
  isAppLimited: false,
  ackedBytes: 10_000,
  lostBytes: 0,
  inFlight: 50_000,
  priorInFlight: 50_000,
  lostSince: 0,
  rttMs: 50,
};
