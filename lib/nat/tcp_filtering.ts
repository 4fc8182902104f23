/**
 * TCP filtering in the terms of RFC 5382, classified from TCP filter tests: what happens to unsolicited SYNs.
 *
 * @module
 */

import type { TcpFilterReport } from "../stun/tcp_filter/client.ts";
import { type BehaviorVerdict, unknown, type UnsolicitedSyn } from "./behavior.ts";

/** TCP filtering, and the fate of an unsolicited SYN from an address that was never contacted. */
export interface TcpFiltering {
  readonly filtering: BehaviorVerdict;
  readonly unsolicitedSyn: UnsolicitedSyn;
}

/**
 * Classifies filtering from the reports of one or more TCP filter tests with one server.
 *
 * An answer in one report outweighs silence in the others. Silence counts only if the server's report arrived as soon as
 * the path allows: a report that had to be retransmitted crossed a path with an outage, which may have lost SYNs too.
 */
export function classifyTcpFiltering(
  reports: readonly TcpFilterReport[],
  options: { isTranslated: boolean },
): TcpFiltering {
  if (reports.every(({ evidence }) => evidence.server === undefined)) {
    return { filtering: unknown(NO_DIAL_BACK), unsolicitedSyn: "unknown" };
  }
  const same = combine("sameAddress", reports);
  // A filter that keeps out another port of an address that was contacted keeps out other addresses too.
  const isAloneAndKeptOut = ["dropped", "reset"].includes(same.outcome) &&
    reports.every(({ evidence: { server } }) => server?.alternateAddress.outcome === "not-tested");
  const alternate = isAloneAndKeptOut ? same : combine("alternateAddress", reports);
  const verdict = (behavior: BehaviorVerdict["behavior"], confidence: number): TcpFiltering => ({
    filtering: {
      behavior,
      confidence,
      evidence: [
        isAloneAndKeptOut
          ? "the server has only one address to dial from"
          : `SYNs from the server's other address: ${alternate.outcome} (${alternate.dials} sent)`,
        `SYNs from another port of its address: ${same.outcome} (${same.dials} sent)`,
      ],
    },
    unsolicitedSyn: alternate.outcome,
  });
  if (alternate.outcome === "accepted") {
    return verdict(options.isTranslated ? "endpoint-independent" : "none", 0.999);
  }
  if (alternate.outcome === "unknown" || same.outcome === "unknown") return verdict("unknown", 0);
  return verdict(
    same.outcome === "accepted" ? "address-dependent" : "address-and-port-dependent",
    Math.min(confidenceOf(alternate), confidenceOf(same)),
  );
}

/** The outcome of all SYNs from one origin. */
interface Combined {
  readonly outcome: UnsolicitedSyn;
  readonly dials: number;
}

function combine(
  origin: "sameAddress" | "alternateAddress",
  reports: readonly TcpFilterReport[],
): Combined {
  const counted = reports.map((report) => {
    const outcome = report[origin];
    return {
      outcome: outcome === "dropped" && isLate(report) ? "unknown" : outcome,
      dials: report.evidence.server?.[origin].dials ?? 0,
    };
  });
  const outcome = BY_WEIGHT.find((outcome) => counted.some((c) => c.outcome === outcome))!;
  const dials = counted.filter((c) => c.outcome === outcome)
    .reduce((sum, { dials }) => sum + dials, 0);
  return { outcome, dials };
}

/** Whether the report took longer than the server's dials and two round trips. */
function isLate({ evidence: { server, rttMs, elapsedMs } }: TcpFilterReport): boolean {
  if (server === undefined) return false;
  const dialsMs = Math.max(server.sameAddress.elapsedMs, server.alternateAddress.elapsedMs);
  return elapsedMs - dialsMs > 2 * rttMs + LATE_MS;
}

/** Answers are certain. Silence is only as certain as it is that at least one SYN was not lost. */
function confidenceOf({ outcome, dials }: Combined): number {
  return outcome === "dropped" ? Math.min(0.999, 1 - ASSUMED_LOSS ** dials) : 0.999;
}

const BY_WEIGHT: readonly UnsolicitedSyn[] = ["accepted", "reset", "dropped", "unknown"];

const NO_DIAL_BACK =
  "testing TCP filtering needs a server that dials back, as `punchline serve` does; this one does not";

/** The chance that a SYN or its answer is lost, assuming 5 % loss each way. */
const ASSUMED_LOSS = 0.1;

/** Chosen by us: less than 200 ms, the earliest that systems retransmit lost data. */
const LATE_MS = 150;
