/**
 * Filtering behavior (RFC 4787 §5), classified by the tests of RFC 5780 §4.4.
 *
 * An answer from an address that was never contacted is proof. Silence alone proves nothing: it counts only if plain
 * requests sent at the same moments from the same socket are answered, and only if the server is known to answer from
 * its alternate address when nothing filters the answer.
 *
 * @module
 */

import {
  formatTransportAddress,
  sameTransportAddress,
  type TransportAddress,
} from "../net/address.ts";
import { type BehaviorVerdict, unknown } from "./behavior.ts";
import { bindingReply, type Probe, type ProbeTest } from "./probe.ts";
import type { ServerAssessment } from "./servers.ts";

/** The tests that ask for an answer from another address or port (CHANGE-REQUEST). */
export type ChangeTest = Exclude<ProbeTest, "binding">;

/** The result of a change test so far. */
export type ChangeOutcome =
  | { readonly kind: "answered"; readonly from: TransportAddress }
  /** The answer shows that the server does not support the test. */
  | { readonly kind: "unsupported"; readonly fault: string }
  /** `rounds`: how many tries went unanswered although their control was answered. */
  | { readonly kind: "silent"; readonly rounds: number };

/** The verdict from one server's tests, or the tests that are still needed for one. */
export type FilteringOutcome =
  | { readonly kind: "decided"; readonly verdict: BehaviorVerdict }
  | {
    readonly kind: "undecided";
    readonly verdict: BehaviorVerdict;
    readonly needs: readonly ChangeTest[];
  };

/** The address that answers a change test. */
export function changeOrigin(
  test: ChangeTest,
  server: ServerAssessment,
): TransportAddress | undefined {
  if (server.alternate === undefined || test === "change-address-and-port") return server.alternate;
  return { ip: server.primary.ip, port: server.alternate.port };
}

/**
 * The result of a change test so far.
 *
 * @param probes from one filtering socket to its server
 * @param options a reply that is missing at `nowMs` counts as silence `timeoutMs` after the control's reply
 */
export function changeOutcome(
  test: ChangeTest,
  server: ServerAssessment,
  probes: readonly Probe[],
  options: { nowMs: number; timeoutMs: number },
): ChangeOutcome {
  const tries = probes.filter((probe) => probe.test === test);
  for (const { reply } of tries) {
    if (reply === undefined) continue;
    const from = formatTransportAddress(reply.from);
    const name = formatTransportAddress(server.primary);
    if (reply.kind === "error") {
      return { kind: "unsupported", fault: `${name} refuses CHANGE-REQUEST (${reply.code})` };
    }
    if (sameTransportAddress(reply.from, server.primary)) {
      return {
        kind: "unsupported",
        fault: `${name} ignores CHANGE-REQUEST: it answers from ${from}`,
      };
    }
    const origin = changeOrigin(test, server);
    if (origin === undefined) continue; // decided once the server has reported its alternate address
    if (sameTransportAddress(reply.from, origin)) return { kind: "answered", from: reply.from };
    return {
      kind: "unsupported",
      fault: `${name} answers CHANGE-REQUEST from ${from}, not from its alternate address`,
    };
  }
  const rounds = tries.filter(({ sentAtMs }) => {
    const control = probes.find((probe) => probe.sentAtMs === sentAtMs && bindingReply(probe));
    return control !== undefined && options.nowMs >= control.reply!.atMs + options.timeoutMs;
  });
  return { kind: "silent", rounds: rounds.length };
}

/**
 * The filtering verdict from one server's tests.
 *
 * @param outcomes of both change tests, on a socket that has contacted only the primary address
 * @param options `proven`: the change tests that the server is known to answer when nothing filters the answer;
 * `rounds`: how many silent rounds are enough; `lossRate`: the share of plain requests that went unanswered, for the
 * confidence
 */
export function classifyFiltering(
  server: ServerAssessment,
  outcomes: Readonly<Record<ChangeTest, ChangeOutcome>>,
  options: {
    proven: ReadonlySet<ChangeTest>;
    rounds: number;
    lossRate: number;
    isTranslated: boolean;
  },
): FilteringOutcome {
  const { "change-address-and-port": both, "change-port": port } = outcomes;
  const name = formatTransportAddress(server.primary);
  const decided = (
    behavior: BehaviorVerdict["behavior"],
    confidence: number,
    ...evidence: string[]
  ) => ({
    kind: "decided" as const,
    verdict: { behavior, confidence, evidence },
  });
  if (both.kind === "answered") {
    const from = formatTransportAddress(both.from);
    const open = options.isTranslated ? "endpoint-independent" : "none";
    return decided(open, 0.999, `an answer arrived from ${from}, which was never contacted`);
  }
  for (const outcome of [both, port]) {
    if (outcome.kind === "unsupported") return { kind: "decided", verdict: unknown(outcome.fault) };
  }

  const needs: ChangeTest[] = [];
  const silent: string[] = [];
  let confidence = 0.999;
  for (const test of CHANGE_TESTS) {
    const outcome = outcomes[test];
    const origin = changeOrigin(test, server);
    if (outcome.kind !== "silent" || origin === undefined) continue;
    if (outcome.rounds < options.rounds || !options.proven.has(test)) needs.push(test);
    confidence = Math.min(confidence, 1 - options.lossRate ** outcome.rounds);
    const from = formatTransportAddress(origin);
    silent.push(
      `${outcome.rounds} requests for an answer from ${from} went unanswered ` +
        `while ${name} answered plain requests sent with them` +
        (options.proven.has(test) ? `; unfiltered answers from ${from} do arrive` : ""),
    );
  }
  if (needs.length > 0 || server.alternate === undefined) {
    return {
      kind: "undecided",
      needs,
      verdict: unknown(...silent, `the tests with ${name} did not finish`),
    };
  }
  if (port.kind === "answered") {
    const from = formatTransportAddress(port.from);
    return decided("address-dependent", confidence, `an answer arrived from ${from}`, ...silent);
  }
  return decided("address-and-port-dependent", confidence, ...silent);
}

/** Both change tests. An answer to the first one decides the verdict by itself. */
export const CHANGE_TESTS: readonly ChangeTest[] = ["change-address-and-port", "change-port"];
