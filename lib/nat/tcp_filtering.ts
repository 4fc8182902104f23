/**
 * The verdict of the TCP filter test in the words of RFC 5382: what becomes of a SYN that nobody asked for.
 *
 * @module
 */

import type { TcpFilterReport } from "../stun/tcp_filter_report.ts";
import { type BehaviorVerdict, unknown, type UnsolicitedSyn } from "./behavior.ts";

/** Filtering, and what an unsolicited SYN from a foreign address gets. */
export interface TcpFiltering {
  readonly filtering: BehaviorVerdict;
  readonly unsolicitedSyn: UnsolicitedSyn;
}

/** Reads the report of a TCP filter test. */
export function classifyTcpFiltering(
  report: TcpFilterReport,
  options: { isTranslated: boolean },
): TcpFiltering {
  const { sameAddress, alternateAddress, evidence: { server } } = report;
  if (server === undefined) {
    return { filtering: unknown(NOT_SERVED), unsolicitedSyn: "unknown" };
  }
  const verdict = (behavior: BehaviorVerdict["behavior"], confidence: number): TcpFiltering => ({
    filtering: {
      behavior,
      confidence,
      evidence: [
        `SYNs from the server's other address: ${alternateAddress} (${server.alternateAddress.dials} sent)`,
        `SYNs from another port of its address: ${sameAddress} (${server.sameAddress.dials} sent)`,
      ],
    },
    unsolicitedSyn: alternateAddress,
  });
  if (alternateAddress === "accepted") {
    return verdict(options.isTranslated ? "endpoint-independent" : "none", 0.999);
  }
  if (alternateAddress === "unknown" || sameAddress === "unknown") return verdict("unknown", 0);
  const confidence = Math.min(
    confidenceOf(alternateAddress, server.alternateAddress.dials),
    confidenceOf(sameAddress, server.sameAddress.dials),
  );
  return verdict(
    sameAddress === "accepted" ? "address-dependent" : "address-and-port-dependent",
    confidence,
  );
}

/** An answer is sure; silence as sure as that not all SYNs were lost. */
function confidenceOf(outcome: UnsolicitedSyn, dials: number): number {
  return outcome === "dropped" ? 1 - ASSUMED_LOSS ** dials : 0.999;
}

const NOT_SERVED =
  "TCP filtering takes a server that dials back; this one does not (`punchline serve` does)";

/** 5 % each way. */
const ASSUMED_LOSS = 0.1;
