import { assertEquals, assertMatch } from "@std/assert";
import type {
  Behavior,
  Difficulty,
  FamilyReport,
  Finding,
  PortAllocation,
} from "../../lib/nat/behavior.ts";
import { rfc3489Name } from "../../lib/nat/behavior.ts";
import {
  allocationText,
  difficultyOf,
  explainFamily,
  overallVerdict,
} from "../../lib/nat/verdict.ts";
import { familyReport, silentReport } from "./family_reports.ts";

const EI = "endpoint-independent";
const AD = "address-dependent";
const APD = "address-and-port-dependent";
const RANDOM: PortAllocation = { kind: "random", delta: null, range: [1, 9] };

/** Mapping and filtering; the classic name, the difficulty, and the explanation. */
const CASES: readonly [Behavior, Behavior, string, Difficulty, RegExp][] = [
  ["none", "none", "Open Internet", "open", /^Anyone can connect/],
  ["none", APD, "Symmetric UDP Firewall", "easy", /^No NAT, but a firewall/],
  ["none", "unknown", "Unknown", "easy", /^No NAT\. The test could not tell whether a firewall/],
  [EI, EI, "Full Cone NAT", "easy", /anyone can reach it, whatever NAT they are behind/],
  [EI, AD, "Restricted Cone NAT", "easy", /peers behind symmetric NATs can connect too/],
  [EI, APD, "Port Restricted Cone NAT", "easy", /can connect only by guessing among thousands/],
  [EI, "unknown", "Cone NAT", "easy", /The filtering is unknown/],
  [AD, EI, "Symmetric NAT", "moderate", /works with most peers, by port prediction/],
  [APD, APD, "Symmetric NAT", "moderate", /if the peer is behind a symmetric NAT as well/],
  ["unknown", APD, "Unknown", "unknown", /^The test could not find out/],
];

for (const [mapping, filtering, name, difficulty, sentence] of CASES) {
  Deno.test(`${mapping} mapping and ${filtering} filtering are called ${name}, and ${difficulty}`, () => {
    const report = familyReport(mapping, filtering);
    assertEquals(rfc3489Name(mapping, filtering), name);
    assertEquals(difficultyOf(report), difficulty);
    assertMatch(explainFamily(report).join(" "), sentence);
  });
}

Deno.test("a mapping that varies by destination with random ports is hard", () => {
  const report = familyReport(APD, APD, { allocation: RANDOM });
  assertEquals(difficultyOf(report), "hard");
  assertMatch(explainFamily(report).join(" "), /cannot be predicted/);
});

Deno.test("explainFamily() says which side should dial first if SYNs are reset", () => {
  const report = familyReport(EI, APD, { unsolicitedSyn: "reset" });
  assertMatch(explainFamily(report).at(-1)!, /this side should dial first/);
});

Deno.test("allocationText() says how ports are chosen", () => {
  const cases: [PortAllocation, string][] = [
    [{ kind: "preserving", delta: 0, range: null }, "same as the local port"],
    [{ kind: "offset", delta: -7, range: null }, "the local port minus 7"],
    [{ kind: "sequential", delta: 2, range: [10, 20] }, "the last port plus 2, seen 10 to 20"],
    [RANDOM, "no pattern, seen 1 to 9"],
    [{ kind: "unknown", delta: null, range: null }, "unknown"],
  ];
  for (const [allocation, text] of cases) assertEquals(allocationText(allocation), text);
});

const OPEN = familyReport("none", "none");
const CONE = familyReport(EI, APD);
const HARD = familyReport(APD, APD, { allocation: RANDOM });
const UNKNOWN = familyReport("unknown", "unknown");
const SILENT = silentReport();
type Pair = [ipv4: FamilyReport | null, ipv6: FamilyReport | null];

const OVERALL: readonly [string, Pair, Pair, Difficulty, RegExp][] = [
  [
    "TCP and UDP that differ, where TCP decides",
    [CONE, null],
    [HARD, null],
    "hard",
    /^Symmetric NAT: .*; over UDP, /,
  ],
  [
    "TCP and UDP that are alike",
    [CONE, null],
    [CONE, null],
    "easy",
    /^Port Restricted Cone NAT: .* all peers$/,
  ],
  ["TCP not tested", [CONE, OPEN], [null, null], "easy", /^Port Restricted/],
  ["TCP unknown", [CONE, null], [UNKNOWN, null], "easy", /^Port Restricted/],
  ["TCP silent", [CONE, null], [SILENT, null], "easy", /^Port Restricted/],
  ["IPv6 alone", [null, OPEN], [null, OPEN], "open", /^Open Internet/],
  ["UDP silent", [SILENT, null], [CONE, null], "blocked", /^UDP is blocked; over TCP: /],
  ["UDP silent over IPv4 alone", [SILENT, OPEN], [CONE, null], "easy", /^Port Restricted/],
  ["only unknown results", [UNKNOWN, null], [UNKNOWN, null], "unknown", /^NAT of unknown kind/],
  [
    "a possible firewall",
    [null, null],
    [familyReport("none", "unknown"), null],
    "easy",
    /^No NAT: /,
  ],
  ["all silent", [SILENT, null], [SILENT, null], "blocked", /^Nothing came back/],
];

for (const [name, [v4, v6], [tcp4, tcp6], difficulty, summary] of OVERALL) {
  Deno.test(`overallVerdict() with ${name} is ${difficulty}`, () => {
    const reports = { udp: { ipv4: v4, ipv6: v6 }, tcp: { ipv4: tcp4, ipv6: tcp6 } };
    const verdict = overallVerdict(reports, { isHasty: false });
    assertEquals(verdict.difficulty, difficulty);
    assertMatch(verdict.summary, summary);
  });
}

for (
  const [scope, report, difficulty, summary] of [
    ["internet", OPEN, "open", /^Open Internet: anyone can connect to this machine$/],
    [
      "network",
      OPEN,
      "open",
      /^The server is in this network, so .* inside it\. No NAT: anyone here can connect$/,
    ],
    ["machine", OPEN, "open", /^The server is on this machine, so .* only here\. No NAT: /],
    ["network", CONE, "easy", /only inside it\. Port Restricted Cone NAT: /],
  ] as const
) {
  Deno.test(`overallVerdict() says that it holds for ${scope}, if it is ${difficulty}`, () => {
    const reports = { udp: { ipv4: report, ipv6: null }, tcp: { ipv4: null, ipv6: null } };
    const verdict = overallVerdict(reports, { isHasty: false }, () => scope);
    assertEquals([verdict.difficulty, verdict.scope], [difficulty, scope]);
    assertMatch(verdict.summary, summary);
  });
}

Deno.test("explainFamily() of an open host promises no more than the test has shown", () => {
  assertEquals(explainFamily(OPEN), ["Anyone can connect to this machine directly."]);
  assertMatch(
    explainFamily(OPEN, "network").join(" "),
    /^Machines in this network can .* internet/,
  );
  assertMatch(
    explainFamily(OPEN, "machine").join(" "),
    /^Programs on this machine can .* internet/,
  );
});

Deno.test("overallVerdict() of silence depends on its cause and on the timeout", () => {
  const silent = { udp: { ipv4: SILENT, ipv6: null }, tcp: { ipv4: null, ipv6: null } };
  const none = { udp: { ipv4: null, ipv6: null }, tcp: { ipv4: null, ipv6: null } };
  const cause = (kind: Finding["kind"]): Finding => ({ kind, summary: "Why", remedy: "Do it" });
  const verdict = (reports: typeof silent | typeof none, kind: Finding["kind"], isHasty: boolean) =>
    overallVerdict(reports, { cause: cause(kind), isHasty }).difficulty;
  assertEquals(verdict(silent, "offline", false), "offline");
  assertEquals(verdict(silent, "dns", false), "blocked");
  assertEquals(verdict(silent, "blocked", true), "unknown");
  assertEquals(verdict(none, "offline", true), "offline");
  assertEquals(overallVerdict(silent, { cause: cause("dns"), isHasty: false }).summary, "Why");
});
