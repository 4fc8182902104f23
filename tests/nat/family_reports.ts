/**
 * Reports for tests of verdicts and of the command line.
 *
 * @module
 */

import { type Behavior, type FamilyReport, rfc3489Name } from "../../lib/nat/behavior.ts";

/** The report of a host behind a NAT that preserves ports, except for the changes. */
export function familyReport(
  mapping: Behavior,
  filtering: Behavior,
  changes: Partial<FamilyReport> = {},
): FamilyReport {
  const verdict = (behavior: Behavior) => ({ behavior, confidence: 0.99, evidence: ["seen"] });
  return {
    reachable: true,
    server: "203.0.113.9:3478",
    local: "192.168.1.2:5000",
    external: "198.51.100.1:5000",
    translated: true,
    rttMs: 51.2,
    elapsedMs: 102,
    mapping: verdict(mapping),
    filtering: verdict(filtering),
    allocation: { kind: "preserving", delta: 0, range: null },
    hairpinning: "unknown",
    unsolicitedSyn: "unknown",
    crossingSyn: "unknown",
    rfc3489Name: rfc3489Name(mapping, filtering),
    details: {
      externalIps: [],
      allocation: {
        samples: 6,
        onlyForNeighbours: false,
        preservesParity: true,
        preservesContiguity: true,
      },
      rewritesPayload: false,
      lifetimeSeconds: null,
      servers: [],
      packetsSent: 19,
    },
    ...changes,
  };
}

/** The report of a test that received no answer. */
export function silentReport(): FamilyReport {
  return familyReport("unknown", "unknown", { reachable: false, server: null, external: null });
}
