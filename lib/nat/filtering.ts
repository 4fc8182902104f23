/**
 * From whom packets are let in: RFC 4787 §5, by the tests of RFC 5780 §4.4.
 *
 * An answer from an address that was never contacted is proof. Silence is not: it counts only while plain
 * requests, sent at the same moments from the same socket, are answered, and only if the server has shown
 * that it does answer from its alternate address where the way is open.
 *
 * @module
 */

import {
  formatTransportAddress,
  sameTransportAddress,
  type TransportAddress,
} from "../net/address.ts";
import { type BehaviorVerdict, unknown } from "./behavior.ts";
import { bindingReply, type Probe, type ProbeTest, type ServerKnowledge } from "./probe.ts";

/** The tests that ask for an answer from elsewhere. */
export type ChangeTest = Exclude<ProbeTest, "binding">;

/** Both of them, the harder one first. */
export const CHANGE_TESTS: readonly ChangeTest[] = ["change-address-and-port", "change-port"];

/** What became of a change test so far. */
export type ChangeOutcome =
  | { readonly kind: "answered"; readonly from: TransportAddress }
  /** The answer shows that the server does not do what was asked. */
  | { readonly kind: "not-served"; readonly fault: string }
  /** `rounds`: how many tries stayed unanswered while their control was answered. */
  | { readonly kind: "silent"; readonly rounds: number };

/** The verdict of one server's tests, or what is still missing for one. */
export type FilteringOutcome =
  | { readonly kind: "decided"; readonly verdict: BehaviorVerdict }
  | {
    readonly kind: "undecided";
    readonly verdict: BehaviorVerdict;
    readonly wants: readonly ChangeTest[];
  };

/** Where a change test is answered from. */
export function changeOrigin(
  test: ChangeTest,
  server: ServerKnowledge,
): TransportAddress | undefined {
  if (server.alternate === undefined || test === "change-address-and-port") return server.alternate;
  return { ip: server.primary.ip, port: server.alternate.port };
}

/**
 * What became of a change test.
 *
 * @param probes those of one filtering socket and its server
 * @param nowMs when a reply that has not come counts as missing: `timeoutMs` after the control's
 */
export function changeOutcome(
  test: ChangeTest,
  server: ServerKnowledge,
  probes: readonly Probe[],
  options: { nowMs: number; timeoutMs: number },
): ChangeOutcome {
  const tries = probes.filter((probe) => probe.test === test);
  for (const { reply } of tries) {
    if (reply === undefined) continue;
    const from = formatTransportAddress(reply.from);
    const name = formatTransportAddress(server.primary);
    if (reply.kind === "error") {
      return { kind: "not-served", fault: `${name} refuses CHANGE-REQUEST (${reply.code})` };
    }
    if (sameTransportAddress(reply.from, server.primary)) {
      return {
        kind: "not-served",
        fault: `${name} ignores CHANGE-REQUEST: it answers from ${from}`,
      };
    }
    const origin = changeOrigin(test, server);
    if (origin === undefined) continue; // judged once the server's own answer has come
    return sameTransportAddress(reply.from, origin) ? { kind: "answered", from: reply.from } : {
      kind: "not-served",
      fault: `${name} answers CHANGE-REQUEST from ${from}, not from where it says`,
    };
  }
  const rounds = tries.filter(({ sentAtMs }) => {
    const control = probes.find((probe) => probe.sentAtMs === sentAtMs && bindingReply(probe));
    return control !== undefined && options.nowMs >= control.reply!.atMs + options.timeoutMs;
  });
  return { kind: "silent", rounds: rounds.length };
}

/**
 * The filtering verdict of one server.
 *
 * @param outcomes what became of the two change tests on a socket that has contacted the primary address only
 * @param proven which change tests the server has been seen to answer where the way was open
 * @param rounds silent rounds that are enough
 * @param lossRate the share of plain requests that stayed unanswered, for the confidence
 */
export function classifyFiltering(
  server: ServerKnowledge,
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
    return decided(open, 0.999, `an answer came in from ${from}, which was never contacted`);
  }
  for (const outcome of [both, port]) {
    if (outcome.kind === "not-served") return { kind: "decided", verdict: unknown(outcome.fault) };
  }

  const wants: ChangeTest[] = [];
  const silent: string[] = [];
  let confidence = 0.999;
  for (const test of CHANGE_TESTS) {
    const outcome = outcomes[test];
    const origin = changeOrigin(test, server);
    if (outcome.kind !== "silent" || origin === undefined) continue;
    if (outcome.rounds < options.rounds || !options.proven.has(test)) wants.push(test);
    confidence = Math.min(confidence, 1 - options.lossRate ** outcome.rounds);
    silent.push(
      `${outcome.rounds} requests for an answer from ${
        formatTransportAddress(origin)
      } stayed silent ` +
        `while ${name} answered the plain ones beside them` +
        (options.proven.has(test) ? "; it does answer from there where the way is open" : ""),
    );
  }
  if (wants.length > 0 || server.alternate === undefined) {
    return {
      kind: "undecided",
      wants,
      verdict: unknown(...silent, `the tests with ${name} stayed incomplete`),
    };
  }
  if (port.kind === "answered") {
    const from = formatTransportAddress(port.from);
    return decided("address-dependent", confidence, `an answer came in from ${from}`, ...silent);
  }
  return decided("address-and-port-dependent", confidence, ...silent);
}
