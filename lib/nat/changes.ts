/**
 * What has changed from one report of a NAT test to the next. What a test could not find out is no change.
 *
 * @module
 */

import { parseTransportAddress } from "../net/address.ts";
import type { Behavior, FamilyReport, NatReport } from "./behavior.ts";

/** A change, for people and for programs. */
export interface NatChange {
  /** What has changed: `verdict`, `finding`, or a part of a family's report such as `udp.ipv4.external`. */
  readonly what: string;
  /** `null` if it was not there. */
  readonly before: string | null;
  /** `null` if it is gone. */
  readonly after: string | null;
  /** In one sentence without a period. */
  readonly text: string;
}

/** The changes, the verdict's first. Ports are not compared: each test has new ones. */
export function changesBetween(before: NatReport, after: NatReport): NatChange[] {
  return [
    ...verdictChange(before, after),
    ...FAMILIES.flatMap(([transport, family, title]) =>
      familyChanges(
        `${transport}.${family}`,
        title,
        before[transport][family],
        after[transport][family],
      )
    ),
    ...findingChanges(before, after),
  ];
}

function verdictChange(before: NatReport, after: NatReport): NatChange[] {
  const [was, is] = [before.verdict.summary, after.verdict.summary];
  if (was === is || after.verdict.difficulty === "unknown") return [];
  return [{ what: "verdict", before: was, after: is, text: is }];
}

function familyChanges(
  what: string,
  title: string,
  before: FamilyReport | null,
  after: FamilyReport | null,
): NatChange[] {
  const [had, has] = [before?.reachable === true, after?.reachable === true];
  if (!had && !has) return [];
  if (had !== has) {
    const text = has ? `${title} works` : `${title} works no more`;
    return [{ what, before: had ? "works" : null, after: has ? "works" : null, text }];
  }
  const changes: NatChange[] = [];
  const compare = (part: string, name: string, was: string | null, is: string | null) => {
    if (was === null || is === null || was === is) return;
    const text = `${title}: ${name} was ${was}, and is ${is}`;
    changes.push({ what: `${what}.${part}`, before: was, after: is, text });
  };
  compare("local", "the local address", ipOf(before!.local), ipOf(after!.local));
  compare("external", "the external address", ipOf(before!.external), ipOf(after!.external));
  compare("mapping", "mapping", known(before!.mapping), known(after!.mapping));
  compare("filtering", "filtering", known(before!.filtering), known(after!.filtering));
  return changes;
}

function findingChanges(before: NatReport, after: NatReport): NatChange[] {
  const summaries = (report: NatReport) => report.findings.map(({ summary }) => summary);
  const [was, is] = [summaries(before), summaries(after)];
  const came = is.filter((each) => !was.includes(each) && each !== after.verdict.summary);
  const gone = was.filter((each) => !is.includes(each) && each !== before.verdict.summary);
  return [
    ...came.map((text) => ({ what: "finding", before: null, after: text, text: `Note: ${text}` })),
    ...gone.map((text) => ({ what: "finding", before: text, after: null, text: `Over: ${text}` })),
  ];
}

function ipOf(address: string | null): string | null {
  return address === null ? null : parseTransportAddress(address).ip;
}

function known({ behavior }: { readonly behavior: Behavior }): string | null {
  return behavior === "unknown" ? null : behavior;
}

const FAMILIES = [
  ["udp", "ipv4", "UDP over IPv4"],
  ["tcp", "ipv4", "TCP over IPv4"],
  ["udp", "ipv6", "UDP over IPv6"],
  ["tcp", "ipv6", "TCP over IPv6"],
] as const;
