import { assertEquals } from "@std/assert";
import type { FamilyReport, NatReport } from "../../lib/nat/behavior.ts";
import { changesBetween } from "../../lib/nat/changes.ts";
import { UDP_BLOCKED } from "../../lib/nat/findings.ts";
import { overallVerdict } from "../../lib/nat/verdict.ts";
import { familyReport, silentReport } from "./family_reports.ts";

function report(
  udp: FamilyReport | null,
  tcp: FamilyReport | null = null,
  findings: NatReport["findings"] = [],
): NatReport {
  const reports = { udp: { ipv4: udp, ipv6: null }, tcp: { ipv4: tcp, ipv6: null } };
  const verdict = overallVerdict(reports, { isHasty: false });
  return { version: 1, elapsedMs: 100, ...reports, verdict, hints: [], findings };
}

const CONE = familyReport("endpoint-independent", "address-and-port-dependent");
const SYMMETRIC = familyReport("address-and-port-dependent", "address-and-port-dependent");

const CASES: Readonly<Record<string, [NatReport, NatReport, string[]]>> = {
  "nothing": [report(CONE), report(CONE), []],
  "ports, and how long it took": [
    report(CONE),
    report({ ...CONE, local: "192.168.1.2:6000", external: "198.51.100.1:6000", elapsedMs: 9 }),
    [],
  ],
  "another network": [
    report(CONE),
    report({ ...CONE, local: "10.0.0.5:1", external: "203.0.113.7:1" }),
    ["udp.ipv4.local", "udp.ipv4.external"],
  ],
  "another NAT": [report(CONE), report(SYMMETRIC), ["verdict", "udp.ipv4.mapping"]],
  "a family that goes": [
    report(CONE, CONE),
    report(silentReport(), CONE, [UDP_BLOCKED]),
    ["verdict", "udp.ipv4", "finding"],
  ],
  "a family that comes": [report(null, CONE), report(CONE, CONE), ["udp.ipv4"]],
  "a finding that is over": [
    report(CONE, CONE, [{ kind: "vpn", summary: "wg0 looks like a VPN", remedy: "Turn it off" }]),
    report(CONE, CONE),
    ["finding"],
  ],
  "what a test could not find out": [
    report(CONE),
    report({ ...CONE, filtering: { behavior: "unknown", confidence: 0, evidence: [] } }),
    [],
  ],
};

for (const [what, [before, after, expected]] of Object.entries(CASES)) {
  Deno.test(`changesBetween() tells of ${what}: ${expected.join(", ") || "no change"}`, () => {
    const changes = changesBetween(before, after);
    assertEquals(changes.map(({ what }) => what), expected);
    for (const change of changes) assertEquals(change.before === change.after, false);
  });
}
