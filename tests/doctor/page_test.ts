import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { hash } from "../../lib/base/crypto.ts";
import { escapeHtml, reportPage } from "../../lib/doctor/page.ts";
import type { DoctorReport } from "../../lib/doctor/report_message.ts";
import { doctorReport } from "./doctor_reports.ts";

/** What a portal, a router or a peer may call itself. */
const NASTY = `<script>alert(1)</script><img src=x onerror='alert("2")'>&amp;\u202e\u0007</td>`;

/** A report in which each text is nasty. */
function nastyReport(): DoctorReport {
  const report = doctorReport();
  return {
    ...report,
    verdict: { state: "fail", kind: NASTY, summary: NASTY },
    findings: [{ kind: NASTY, summary: NASTY, remedy: NASTY }],
    remedies: [NASTY],
    checks: report.checks.map((check) => ({ ...check, seen: NASTY, remedy: NASTY })),
    peers: report.peers.map((peer) => ({ ...peer, peer: NASTY, reason: NASTY })),
    pair: {
      there: NASTY,
      expected: { expectation: "none", directChance: 0, reason: NASTY },
      tried: { outcome: "none", isAnswered: true, reason: NASTY, elapsedMs: 1 },
      fault: "this network",
      summary: NASTY,
      remedies: [NASTY],
    },
  };
}

Deno.test("a page shows what others have named, and none of it is markup", () => {
  const page = reportPage(nastyReport(), NASTY);
  const [, body = ""] = page.split("<body>");
  const tags = new Set(Array.from(body.matchAll(/<\/?([a-z0-9]+)/gi), ([, name]) => name));
  assertEquals(
    [...tags].filter((tag) => !KNOWN_TAGS.includes(tag!)),
    [],
  );
  for (const tag of body.match(/<[^>]*>/g)!) assert(!/\son\w+=|src=|href=|style=/i.test(tag), tag);
  assert(!body.includes(NASTY));
  assertStringIncludes(body, "&lt;script&gt;alert(1)&lt;/script&gt;");
  assertStringIncludes(body, "&amp;amp;\ufffd\ufffd");
});

Deno.test("a page loads nothing, runs nothing, and allows its own style alone", () => {
  const page = reportPage(doctorReport(), "today");
  const [policy = ""] = /content="default-src[^"]*"/.exec(page) ?? [];
  const style = /<style>([^]*)<\/style>/.exec(page)![1]!;
  const digest = btoa(String.fromCharCode(...hash("sha256", new TextEncoder().encode(style))));
  assertStringIncludes(
    policy.replaceAll("&#39;", "'"),
    `default-src 'none'; style-src 'sha256-${digest}'`,
  );
  assert(policy.includes("base-uri") && policy.includes("form-action"));
  assert(!/https?:|url\(|@import|<script|<link|<iframe|<img/i.test(page));
  assertEquals(page.match(/<style>/g)!.length, 1);
});

Deno.test("a page has what the report has, in elements that are closed", () => {
  const report = doctorReport();
  const page = reportPage(report, "punchline 0.1.0");
  for (const { seen } of report.checks) assertStringIncludes(page, escapeHtml(seen));
  for (const { reason } of report.peers) assertStringIncludes(page, escapeHtml(reason));
  for (
    const tag of ["main", "section", "table", "tr", "td", "th", "h2", "ol", "ul", "li", "p", "span"]
  ) {
    const opened = page.match(new RegExp(`<${tag}[ >]`, "g"))?.length ?? 0;
    assertEquals(page.match(new RegExp(`</${tag}>`, "g"))?.length ?? 0, opened, tag);
  }
});

const KNOWN_TAGS = [
  ...["main", "header", "section", "p", "span", "h1", "h2", "ol", "ul", "li", "table", "thead"],
  ...["tbody", "tr", "th", "td", "br", "em", "code", "strong", "body", "html"],
];
