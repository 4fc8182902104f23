/**
 * The NATs of the verdict matrix, and the judgement of verdicts on them.
 *
 * @module
 */

import type { FamilyReport } from "../../../lib/nat/behavior.ts";
import type {
  NatAllocation,
  NatBehavior,
  NatFiltering,
  NatMapping,
} from "../../model/nat_behavior.ts";

/** One NAT of the matrix. */
export interface Combination {
  readonly mapping: Exclude<NatMapping, "none">;
  readonly filtering: NatFiltering;
  readonly allocation: NatAllocation;
}

/** How a verdict compares with the NAT's settings. */
export type Judgement = "right" | "unknown" | "wrong";

/** All nine pairs of mapping and filtering, with each allocation. */
export function combinations(allocations: readonly NatAllocation[] = ALLOCATIONS): Combination[] {
  return BEHAVIORS.flatMap((mapping) =>
    BEHAVIORS.flatMap((filtering) =>
      allocations.map((allocation) => ({ mapping, filtering, allocation }))
    )
  );
}

/** `EIM+APDF sequential 2`. */
export function nameOf({ mapping, filtering, allocation }: Combination): string {
  const delta = "delta" in allocation ? ` ${allocation.delta}` : "";
  return `${SHORT[mapping]}M+${SHORT[filtering]}F ${allocation.kind}${delta}`;
}

/** The settings of a NAT in the lab. */
export function behaviorOf(combination: Combination): Partial<NatBehavior> {
  return combination;
}

/** Judges each part of a verdict. */
export function judge(
  combination: Combination,
  report: Pick<FamilyReport, "mapping" | "filtering" | "allocation">,
): Record<"mapping" | "filtering" | "allocation", Judgement> {
  const { allocation } = combination;
  const kind = allocation.kind === "dependent" ? "sequential" : allocation.kind;
  const isDeltaRight = !("delta" in allocation) || report.allocation.delta === allocation.delta;
  return {
    mapping: compare(combination.mapping, report.mapping.behavior),
    filtering: compare(combination.filtering, report.filtering.behavior),
    allocation: isDeltaRight || report.allocation.kind === "unknown"
      ? compare(kind, report.allocation.kind)
      : "wrong",
  };
}

function compare(expected: string, found: string): Judgement {
  return found === expected ? "right" : found === "unknown" ? "unknown" : "wrong";
}

/** The allocations of the matrix: one of each kind, but three sequential ones. */
export const ALLOCATIONS: readonly NatAllocation[] = [
  { kind: "preserving" },
  { kind: "offset", delta: 1000 },
  { kind: "sequential", delta: 1 },
  { kind: "sequential", delta: -3 },
  { kind: "dependent", delta: 2 },
  { kind: "random" },
];

const BEHAVIORS = [
  "endpoint-independent",
  "address-dependent",
  "address-and-port-dependent",
] as const;

const SHORT = {
  "endpoint-independent": "EI",
  "address-dependent": "AD",
  "address-and-port-dependent": "APD",
  none: "no ",
} as const;
