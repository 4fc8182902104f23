/**
 * The filtering part of a UDP NAT test: rounds of change tests beside controls, and the proof that the server
 * does answer from its alternate address.
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
  type Pace,
  type Probe,
  type ProbeSpec,
  type ServerKnowledge,
  type SuccessReply,
} from "./probe.ts";

/** A probe that is wanted, and from when on. */
export interface Want {
  readonly spec: ProbeSpec;
  readonly atMs: number;
}

/** What the filtering tests with one server have shown and still need. */
export interface FilteringState {
  readonly verdict: BehaviorVerdict;
  readonly isDecided: boolean;
  readonly wants: readonly Want[];
  /** When silence that is pending turns into evidence. */
  readonly judgedAtMs: readonly number[];
  /** Why the server's filtering tests cannot count. */
  readonly fault?: string;
}

/** A plain request and the two change tests, at one moment: what every test begins with. */
export function openingRound(server: number, primary: TransportAddress, pace: Pace): Want[] {
  const control = controlSpec(server, primary);
  const atMs = pace.nextTryMs(control);
  return [control, ...CHANGE_TESTS.map((test) => ({ ...control, test }))].map((spec) => ({
    spec,
    atMs,
  }));
}

/** Where the filtering tests with a server stand. */
export function filteringState(
  server: number,
  knowledge: ServerKnowledge,
  probes: readonly Probe[],
  pace: Pace,
  options: { isTranslated: boolean },
): FilteringState {
  const control = controlSpec(server, knowledge.primary);
  const own = probes.filter(({ socket }) => socket === control.socket);
  const timeoutMs = pace.timeoutMs(server);
  const outcomes = Object.fromEntries(CHANGE_TESTS.map((test) => [
    test,
    changeOutcome(test, knowledge, own, { nowMs: pace.nowMs, timeoutMs }),
  ])) as Record<ChangeTest, ChangeOutcome>;
  const proofs = new Map(
    CHANGE_TESTS.map((test) => [test, proofOf(test, server, knowledge, probes, pace)]),
  );
  const controls = own.filter(({ test }) => test === "binding");
  const lost = controls.filter((probe) => isLost(probe, server, pace)).length;
  const rounds = lost === 0 ? ROUNDS : ROUNDS_WITH_LOSS;

  const outcome = classifyFiltering(knowledge, outcomes, {
    proven: new Set(CHANGE_TESTS.filter((test) => proofs.get(test)!.isGiven)),
    rounds,
    lossRate: Math.max(ASSUMED_LOSS, lost / Math.max(1, controls.length)),
    isTranslated: options.isTranslated,
  });
  if (outcome.kind === "decided") {
    const fault = CHANGE_TESTS.map((test) => outcomes[test]).find((o) => o.kind === "not-served")
      ?.fault;
    return {
      verdict: outcome.verdict,
      isDecided: true,
      wants: [],
      judgedAtMs: [],
      ...fault !== undefined && { fault },
    };
  }

  const silent = outcome.wants.filter((test) => {
    const { kind, rounds: seen } = { rounds: 0, ...outcomes[test] };
    return kind === "silent" && seen < rounds;
  });
  const roundAtMs = silent.length === 0 ? undefined : nextRoundMs(server, controls, rounds, pace);
  const missing = outcome.wants.map((test) => proofs.get(test)!);
  const fault = missing.find(({ fault }) => fault !== undefined)?.fault;
  const roundSpecs = roundAtMs === undefined
    ? []
    : [control, ...silent.map((test) => ({ ...control, test }))];
  return {
    verdict: outcome.verdict,
    isDecided: false,
    wants: [
      ...roundSpecs.map((spec) => ({ spec, atMs: roundAtMs! })),
      ...missing.flatMap(({ wants }) => wants).map((spec) => ({
        spec,
        atMs: pace.nextTryMs(spec),
      })),
    ],
    judgedAtMs: controls.map((probe) =>
      probe.reply === undefined
        ? probe.sentAtMs + (pace.retransmitMs(server) ?? Infinity)
        : probe.reply.atMs + timeoutMs
    ),
    ...fault !== undefined && { fault },
  };
}

/**
 * When the next round is due: by the ordinary retransmission until the path's round trip is known, then at once
 * as many as are needed, a little apart. Rounds whose control is lost slow the next ones down.
 */
function nextRoundMs(
  server: number,
  controls: readonly Probe[],
  rounds: number,
  pace: Pace,
): number | undefined {
  const last = controls.at(-1);
  if (last === undefined) return pace.nowMs;
  if (controls.length >= MAX_ROUNDS) return undefined;
  const replies = controls.flatMap((probe) => bindingReply(probe)?.atMs ?? []);
  if (replies.length === 0) return pace.nextTryMs(controlSpec(server, last.to));
  const pending = controls.filter((probe) => !isLost(probe, server, pace)).length;
  if (pending >= rounds) return undefined;
  const lastAnswered = controls.findLastIndex((probe) => bindingReply(probe));
  const lostSince =
    controls.slice(lastAnswered).filter((probe) => isLost(probe, server, pace)).length;
  const spacingMs = Math.min(MAX_SPACING_MS, SPACING_MS * 2 ** lostSince);
  // The change tests' own answers may come a little behind the first control's.
  return Math.max(last.sentAtMs + spacingMs, Math.min(...replies) + SPACING_MS);
}

/** Whether no answer is to be expected any more. */
function isLost(probe: Probe, server: number, pace: Pace): boolean {
  const retransmitMs = pace.retransmitMs(server);
  return probe.reply === undefined && retransmitMs !== undefined &&
    pace.nowMs >= probe.sentAtMs + retransmitMs;
}

/** What a proof that the server answers a change test still takes. */
interface Proof {
  readonly isGiven: boolean;
  readonly wants: readonly ProbeSpec[];
  readonly fault?: string;
}

/**
 * The proof that the server answers a change test: asked again from the mapping socket, which has sent to the
 * alternate address before, so that the answer passes any filter. Where the mapping depends on the destination
 * the answer is directed to the mapping that the alternate address sees.
 */
function proofOf(
  test: ChangeTest,
  server: number,
  knowledge: ServerKnowledge,
  probes: readonly Probe[],
  pace: Pace,
): Proof {
  const origin = changeOrigin(test, knowledge);
  if (origin === undefined) return { isGiven: false, wants: [] };
  const { primary } = knowledge;
  const name = formatTransportAddress(primary);
  const isFromOrigin = (probe: Probe) =>
    probe.reply !== undefined && sameTransportAddress(probe.reply.from, origin);
  const here = mappingReply(primary, probes);
  const there = mappingReply(origin, probes);
  if (here === undefined || there === undefined) {
    const wants = [primary, origin]
      .filter((to) => mappingReply(to, probes) === undefined)
      .map((to): ProbeSpec => ({ socket: "mapping", server, test: "binding", to }));
    return wants.some((spec) => pace.isGivenUp(spec))
      ? {
        isGiven: false,
        wants: [],
        fault: `${name} names an alternate address that does not answer`,
      }
      : { isGiven: false, wants };
  }
  const respondTo = sameTransportAddress(here.mapped, there.mapped) ? undefined : there.mapped;
  const spec: ProbeSpec = {
    socket: "mapping",
    server,
    test,
    to: primary,
    ...respondTo && { respondTo },
  };
  const tries = pace.tries(spec);
  if (tries.some(isFromOrigin)) return { isGiven: true, wants: [] };
  if (pace.isAnswered(spec) || pace.isGivenUp(spec)) {
    const from = formatTransportAddress(origin);
    return {
      isGiven: false,
      wants: [],
      fault: `${name} does not answer from ${from} even where the way is open`,
    };
  }
  return { isGiven: false, wants: [spec] };
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
 * Silent rounds that prove a filter, and as many where the path has been seen to lose packets. Ours: at 5 % loss
 * each way all five are lost in 1 of 10⁵ tests.
 */
const ROUNDS = 5;
const ROUNDS_WITH_LOSS = 8;

/** The loss that confidence is computed with even where none was seen. */
const ASSUMED_LOSS = 0.1;

/** A cap for paths that lose most of it. */
const MAX_ROUNDS = 24;

/** Between rounds: enough that one burst of interference does not take several; doubled while controls are lost. */
const SPACING_MS = 5;
const MAX_SPACING_MS = 250;
