/**
 * The verdict of the TCP filter test in the words of RFC 5382: what becomes of a SYN that nobody asked for.
 *
 * @module
 */

import type { TcpFilterReport } from "../stun/tcp_filter/client.ts";
import { type BehaviorVerdict, unknown, type UnsolicitedSyn } from "./behavior.ts";

/** Filtering, and what an unsolicited SYN from a foreign address gets. */
export interface TcpFiltering {
  readonly filtering: BehaviorVerdict;
  readonly unsolicitedSyn: UnsolicitedSyn;
}

/**
 * Reads the reports of one or more TCP filter tests with one server.
 *
 * An answer in one of them outweighs silence in the others. Silence counts only if the server's report came as soon
 * as the path allows: one that had to be sent again comes from a path that was interrupted.
 */
export function classifyTcpFiltering(
  reports: readonly TcpFilterReport[],
  options: { isTranslated: boolean },
): TcpFiltering {
  if (reports.every(({ evidence }) => evidence.server === undefined)) {
    return { filtering: unknown(NOT_SERVED), unsolicitedSyn: "unknown" };
  }
  const alternate = combine("alternateAddress", reports);
  const same = combine("sameAddress", reports);
  const verdict = (behavior: BehaviorVerdict["behavior"], confidence: number): TcpFiltering => ({
    filtering: {
      behavior,
      confidence,
      evidence: [
        `SYNs from the server's other address: ${alternate.outcome} (${alternate.dials} sent)`,
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

/** What became of all SYNs from one origin. */
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

/** Whether the report took longer than the server's dials and one round trip. */
function isLate({ evidence: { server, rttMs, elapsedMs } }: TcpFilterReport): boolean {
  if (server === undefined) return false;
  const dialsMs = Math.max(server.sameAddress.elapsedMs, server.alternateAddress.elapsedMs);
  return elapsedMs - dialsMs > 2 * rttMs + LATE_MS;
}

/** An answer is sure; silence as sure as that not all SYNs were lost. */
function confidenceOf({ outcome, dials }: Combined): number {
  return outcome === "dropped" ? Math.min(0.999, 1 - ASSUMED_LOSS ** dials) : 0.999;
}

const BY_WEIGHT: readonly UnsolicitedSyn[] = ["accepted", "reset", "dropped", "unknown"];

const NOT_SERVED =
  "TCP filtering takes a server that dials back; this one does not (`punchline serve` does)";

/** Of a SYN or its answer: 5 % each way. */
const ASSUMED_LOSS = 0.1;

/** Below the 200 ms after which systems send lost data again at the earliest; ours. */
const LATE_MS = 150;
