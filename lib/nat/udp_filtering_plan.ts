/**
 * The filtering part of a UDP NAT test's plan: rounds of change tests, each with a control, and the proof that the server
 * answers from its alternate address when nothing filters the answer.
 *
 * @module
 */

import {
  formatTransportAddress,
  sameTransportAddress,
  type TransportAddress,
} from "../net/address.ts";
import type { BehaviorVerdict } from "./behavior.ts";
import {
  CHANGE_TESTS,
  changeOrigin,
  type ChangeOutcome,
  changeOutcome,
  type ChangeTest,
  classifyFiltering,
} from "./filtering.ts";
import {
  bindingReply,
  type Probe,
  type ProbeSpec,
  type RetransmissionTiming,
  type SuccessReply,
} from "./probe.ts";
import type { ServerAssessment } from "./servers.ts";

/** A probe to send, and when. */
export interface ScheduledProbe {
  readonly spec: ProbeSpec;
  readonly atMs: number;
}

/** What the filtering tests with one server have shown, and what they still need. */
export interface FilteringState {
  readonly verdict: BehaviorVerdict;
  readonly isDecided: boolean;
  readonly scheduled: readonly ScheduledProbe[];
  /** When pending silence turns into evidence. */
  readonly judgedAtMs: readonly number[];
  /** Why the server's filtering tests prove nothing. */
  readonly fault?: string;
}

/** The first round of every test: a plain request and both change tests, sent at the same moment. */
export function openingRound(
  server: number,
  primary: TransportAddress,
  timing: RetransmissionTiming,
): ScheduledProbe[] {
  const control = controlSpec(server, primary);
  const atMs = timing.nextTryMs(control);
  return [control, ...CHANGE_TESTS.map((test) => ({ ...control, test }))].map((spec) => ({
    spec,
    atMs,
  }));
}

/** The state of the filtering tests with one server. */
export function filteringState(
  server: number,
  assessment: ServerAssessment,
  probes: readonly Probe[],
  timing: RetransmissionTiming,
  options: { isTranslated: boolean },
): FilteringState {
  const control = controlSpec(server, assessment.primary);
  const own = probes.filter(({ socket }) => socket === control.socket);
  const timeoutMs = timing.timeoutMs(server);
  const outcomes = Object.fromEntries(CHANGE_TESTS.map((test) => [
    test,
    changeOutcome(test, assessment, own, { nowMs: timing.nowMs, timeoutMs }),
  ])) as Record<ChangeTest, ChangeOutcome>;
  const proofs = new Map(
    CHANGE_TESTS.map((test) => [test, proofOf(test, server, assessment, probes, timing)]),
  );
  const controls = own.filter(({ test }) => test === "binding");
  const lost = controls.filter((probe) => isLost(probe, server, timing)).length;
  const rounds = lost === 0 ? ROUNDS : ROUNDS_WITH_LOSS;

  const outcome = classifyFiltering(assessment, outcomes, {
    proven: new Set(CHANGE_TESTS.filter((test) => proofs.get(test)!.isGiven)),
    rounds,
    lossRate: Math.max(ASSUMED_LOSS, lost / Math.max(1, controls.length)),
    isTranslated: options.isTranslated,
  });
  if (outcome.kind === "decided") {
    const fault = CHANGE_TESTS.map((test) => outcomes[test]).find((o) => o.kind === "unsupported")
      ?.fault;
    return { verdict: outcome.verdict, isDecided: true, scheduled: [], judgedAtMs: [], fault };
  }

  const silent = outcome.needs.filter((test) => {
    const state = outcomes[test];
    return state.kind === "silent" && state.rounds < rounds;
  });
  const roundAtMs = silent.length === 0 ? undefined : nextRoundMs(server, controls, rounds, timing);
  const missing = outcome.needs.map((test) => proofs.get(test)!);
  const fault = missing.find(({ fault }) => fault !== undefined)?.fault;
  const roundSpecs = roundAtMs === undefined
    ? []
    : [control, ...silent.map((test) => ({ ...control, test }))];
  return {
    verdict: outcome.verdict,
    isDecided: false,
    scheduled: [
      ...roundSpecs.map((spec) => ({ spec, atMs: roundAtMs! })),
      ...missing.flatMap(({ needs }) => needs)
        .map((spec) => ({ spec, atMs: timing.nextTryMs(spec) })),
    ],
    judgedAtMs: controls.map((probe) =>
      probe.reply === undefined
        ? probe.sentAtMs + (timing.retransmitMs(server) ?? Infinity)
        : probe.reply.atMs + timeoutMs
    ),
    fault,
  };
}

/**
 * When the next round is due. Until the round trip is known, rounds are retransmitted like any probe; then all that are
 * needed follow at short intervals. Rounds whose control is lost slow down those that follow.
 */
function nextRoundMs(
  server: number,
  controls: readonly Probe[],
  rounds: number,
  timing: RetransmissionTiming,
): number | undefined {
  const last = controls.at(-1);
  if (last === undefined) return timing.nowMs;
  if (controls.length >= MAX_ROUNDS) return undefined;
  const replies = controls.flatMap((probe) => bindingReply(probe)?.atMs ?? []);
  if (replies.length === 0) return timing.nextTryMs(controlSpec(server, last.to));
  const pending = controls.filter((probe) => !isLost(probe, server, timing)).length;
  if (pending >= rounds) return undefined;
  const lastAnswered = controls.findLastIndex((probe) => bindingReply(probe));
  const lostSince =
    controls.slice(lastAnswered).filter((probe) => isLost(probe, server, timing)).length;
  const spacingMs = Math.min(MAX_SPACING_MS, SPACING_MS * 2 ** lostSince);
  // The answers to the change tests may arrive slightly after the first control's.
  return Math.max(last.sentAtMs + spacingMs, Math.min(...replies) + SPACING_MS);
}

/** Whether no answer is expected any more. */
function isLost(probe: Probe, server: number, timing: RetransmissionTiming): boolean {
  const retransmitMs = timing.retransmitMs(server);
  return probe.reply === undefined && retransmitMs !== undefined &&
    timing.nowMs >= probe.sentAtMs + retransmitMs;
}

/** Whether it is proven that the server answers a change test, and what the proof still needs. */
interface Proof {
  readonly isGiven: boolean;
  readonly needs: readonly ProbeSpec[];
  readonly fault?: string;
}

/**
 * The proof that the server answers a change test: the mapping socket, which has already sent to the alternate address,
 * repeats the test, so that no filter stops the answer. If the mapping depends on the destination, the answer is directed
 * to the mapping that the alternate address sees.
 */
function proofOf(
  test: ChangeTest,
  server: number,
  assessment: ServerAssessment,
  probes: readonly Probe[],
  timing: RetransmissionTiming,
): Proof {
  const origin = changeOrigin(test, assessment);
  if (origin === undefined) return { isGiven: false, needs: [] };
  const { primary } = assessment;
  const name = formatTransportAddress(primary);
  const isFromOrigin = (probe: Probe) =>
    probe.reply !== undefined && sameTransportAddress(probe.reply.from, origin);
  const here = mappingReply(primary, probes);
  const there = mappingReply(origin, probes);
  if (here === undefined || there === undefined) {
    const needs = [primary, origin]
      .filter((to) => mappingReply(to, probes) === undefined)
      .map((to): ProbeSpec => ({ socket: "mapping", server, test: "binding", to }));
    if (!needs.some((spec) => timing.isGivenUp(spec))) return { isGiven: false, needs };
    return {
      isGiven: false,
      needs: [],
      fault: `${name} reports an alternate address that does not answer`,
    };
  }
  const respondTo = sameTransportAddress(here.mapped, there.mapped) ? undefined : there.mapped;
  const spec: ProbeSpec = { socket: "mapping", server, test, to: primary, respondTo };
  const tries = timing.tries(spec);
  if (tries.some(isFromOrigin)) return { isGiven: true, needs: [] };
  if (timing.isAnswered(spec) || timing.isGivenUp(spec)) {
    const from = formatTransportAddress(origin);
    return {
      isGiven: false,
      needs: [],
      fault: `${name} does not answer from ${from}, even to a mapping that is open to it`,
    };
  }
  return { isGiven: false, needs: [spec] };
}

function mappingReply(to: TransportAddress, probes: readonly Probe[]): SuccessReply | undefined {
  for (const probe of probes) {
    if (probe.socket === "mapping" && sameTransportAddress(probe.to, to)) {
      const reply = bindingReply(probe);
      if (reply !== undefined) return reply;
    }
  }
  return undefined;
}

function controlSpec(server: number, primary: TransportAddress): ProbeSpec {
  return { socket: `filtering ${server}`, server, test: "binding", to: primary };
}

/**
 * Chosen by us: how many silent rounds prove a filter, and how many if the path has lost packets. At 5 % loss each way,
 * all five are lost in 1 of 10⁵ tests.
 */
const ROUNDS = 5;
const ROUNDS_WITH_LOSS = 8;

/** The minimum loss assumed for the confidence, even if none was observed. */
const ASSUMED_LOSS = 0.1;

/** Chosen by us: a cap for paths that lose most packets. */
const MAX_ROUNDS = 24;

/** Chosen by us: rounds are far enough apart to survive one burst of interference. Doubles while controls are lost. */
const SPACING_MS = 5;
const MAX_SPACING_MS = 250;
