import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { UDP_BLOCKED } from "../../lib/nat/findings.ts";
import { checksOf } from "../../lib/doctor/check_plan.ts";
import type { DoctorFacts } from "../../lib/doctor/facts.ts";
import type { CheckName, CheckState } from "../../lib/doctor/report_message.ts";
import { judge } from "../../lib/doctor/verdict.ts";
import { familyReport, silentReport } from "../nat/family_reports.ts";
import {
  CLOSED,
  cutOffFacts,
  done,
  evidence,
  MEETING,
  natReport,
  wellFacts,
} from "./doctor_reports.ts";

const HOUR_MS = 3_600_000;

/** What was found, the kind and state of the verdict, and a check that shows it. */
const VERDICTS: Readonly<
  Record<string, [DoctorFacts, string | null, CheckState, readonly [CheckName, CheckState]]>
> = {
  "all is well": [wellFacts(), null, "ok", ["udp", "ok"]],
  "there is no network": [
    cutOffFacts({ evidence: done(evidence({ sending: "no route", onlyFamily: null, dials: [] })) }),
    ...["offline", "fail", ["udp", "fail"]] as const,
  ],
  "this machine's firewall refuses": [
    cutOffFacts({ evidence: done(evidence({ sending: "refused", dials: [] })) }),
    ...["local-firewall", "fail", ["udp", "fail"]] as const,
  ],
  "everything is dropped": [cutOffFacts(), "blocked", "fail", ["tcp", "fail"]],
  "only port 443 is let through": [
    cutOffFacts({
      evidence: done(evidence({
        dials: [
          { port: 3478, isAsked: true, outcome: "silent" },
          { port: 443, isAsked: false, outcome: "refused" },
        ],
      })),
    }),
    ...["web-only", "fail", ["https", "ok"]] as const,
  ],
  "there is a captive portal": [
    cutOffFacts({ evidence: done(evidence({ web: { status: 302, leadsTo: "login.example" } })) }),
    ...["captive-portal", "fail", ["captive-portal", "fail"]] as const,
  ],
  "a proxy is required": [
    cutOffFacts({
      evidence: done(evidence({ proxy: "proxy.example:3128" })),
      proxy: done({ url: "http://proxy.example:3128", fault: null }),
    }),
    ...["proxy", "fail", ["proxy", "ok"]] as const,
  ],
  "name servers are silent": [
    cutOffFacts({
      evidence: done(evidence({
        names: { asked: 1, found: 0, faults: ["silent"], sharedIp: null, redirected: null },
        dials: [],
      })),
      names: done([{ name: "stun.example.net", ips: [], fault: "silent" }]),
    }),
    ...["dns", "fail", ["dns", "fail"]] as const,
  ],
  "names fail beside servers given by address": [
    wellFacts({
      names: done([{ name: "meet.example.net", ips: [], fault: "refused" }]),
      servers: done([CLOSED]),
    }),
    ...["dns", "fail", ["dns", "fail"]] as const,
  ],
  "the rendezvous is down": [
    wellFacts({ servers: done([CLOSED]) }),
    ...["rendezvous", "fail", ["rendezvous", "fail"]] as const,
  ],
  "TCP is blocked, and UDP is not": [
    wellFacts({
      nat: done(natReport({ tcp: { ipv4: silentReport(), ipv6: null } })),
      servers: done([CLOSED]),
      evidence: done(evidence({
        dials: [
          { port: 3478, isAsked: true, outcome: "silent" },
          { port: 443, isAsked: false, outcome: "unreachable" },
        ],
      })),
    }),
    ...["tcp-blocked", "fail", ["rendezvous", "fail"]] as const,
  ],
  "one of two servers is down": [
    wellFacts({ servers: done([MEETING, CLOSED]) }),
    ...[null, "ok", ["rendezvous", "warn"]] as const,
  ],
  "UDP is blocked": [
    wellFacts({
      nat: done(natReport({ udp: { ipv4: silentReport(), ipv6: null }, findings: [UDP_BLOCKED] })),
    }),
    ...["udp-blocked", "warn", ["udp", "fail"]] as const,
  ],
  "large packets vanish": [
    wellFacts({
      mtu: done({
        answeredBytes: 1280,
        finding: {
          kind: "mtu",
          summary: "The path swallows long packets",
          remedy: "Lower the MTU",
        },
      }),
    }),
    ...["mtu", "warn", ["mtu", "warn"]] as const,
  ],
  "the relay stalls": [
    wellFacts({ servers: done([{ ...MEETING, relay: "stalls" }]) }),
    ...["mtu", "warn", ["mtu", "warn"]] as const,
  ],
  "the clock is two hours slow": [
    wellFacts({ clock: done(2 * HOUR_MS + 300_000) }),
    ...["clock", "fail", ["clock", "fail"]] as const,
  ],
  "the clock is ten minutes fast": [
    wellFacts({ clock: done(-600_000) }),
    ...["clock", "warn", ["clock", "warn"]] as const,
  ],
  "the NAT has random ports": [
    wellFacts({
      nat: done(natReport({
        udp: { ipv4: symmetric(), ipv6: null },
        tcp: { ipv4: symmetric(), ipv6: null },
      })),
    }),
    ...["symmetric-nat", "warn", ["router", "unknown"]] as const,
  ],
  "the same, and the router opens ports": [
    wellFacts({
      nat: done(natReport({
        udp: { ipv4: symmetric(), ipv6: null },
        tcp: { ipv4: symmetric(), ipv6: null },
      })),
      gateways: done([{ address: "192.168.1.1", verdict: "public", detail: "" }]),
    }),
    ...[null, "ok", ["router", "ok"]] as const,
  ],
  "what was named is no STUN server, and the rendezvous answers": [
    wellFacts({
      nat: {
        kind: "failed",
        fault: { message: "Cannot test NAT", remedy: "Use another", isWrongAnswer: true },
        elapsedMs: 50,
      },
    }),
    ...["server", "warn", ["tcp", "fail"]] as const,
  ],
  "time was up": [
    {
      ...cutOffFacts({ evidence: { kind: "unfinished", elapsedMs: 4600 } }),
      nat: { kind: "unfinished", elapsedMs: 4600 },
    },
    ...["blocked", "fail", ["udp", "unknown"]] as const,
  ],
};

for (const [what, [facts, kind, state, [name, checkState]]] of Object.entries(VERDICTS)) {
  Deno.test(`the verdict where ${what}: ${kind ?? "nothing is wrong"}`, () => {
    const { verdict, findings, remedies } = judge(facts);
    assertEquals([verdict.kind, verdict.state], [kind, state]);
    assert(verdict.summary.length > 10);
    assertEquals(remedies.length > 0, findings.length > 0);
    for (const remedy of remedies) assert(remedy.length > 10);
    const checks = checksOf(facts);
    assertEquals(checks.find((each) => each.name === name)?.state, checkState);
    for (const { seen } of checks) assert(seen.length > 0 && !seen.endsWith("."), seen);
  });
}

Deno.test("a clock that is off is told with a portal that is in the way, behind it", () => {
  const facts = cutOffFacts({
    evidence: done(evidence({ web: { status: 511, leadsTo: null } })),
    clock: done(5 * HOUR_MS),
  });
  assertEquals(judge(facts).findings.map(({ kind }) => kind), ["captive-portal", "clock"]);
});

Deno.test("each cause is told once, and each remedy once", () => {
  const facts = wellFacts({
    nat: done(natReport({ udp: { ipv4: silentReport(), ipv6: null }, findings: [UDP_BLOCKED] })),
    servers: done([{ ...MEETING, relay: "stalls" }]),
    clock: done(2 * HOUR_MS),
  });
  const { findings, remedies, verdict } = judge(facts);
  assertEquals(findings.map(({ kind }) => kind), ["clock", "udp-blocked", "mtu"]);
  assertEquals(new Set(remedies).size, remedies.length);
  assertStringIncludes(verdict.summary, "2 h 0 min slow");
});

function symmetric() {
  return familyReport("address-and-port-dependent", "address-and-port-dependent", {
    allocation: { kind: "random", delta: null, range: [2000, 60_000] },
  });
}

Deno.test("the ports that were tried are named if TCP is blocked, those of the signaling servers included", () => {
  const [facts] = VERDICTS["TCP is blocked, and UDP is not"]!;
  assertStringIncludes(
    judge(facts).verdict.summary,
    "no connection to ports 443, 3478 and 3480 of",
  );
});
